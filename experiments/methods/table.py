"""Print the table of README.md from results.jsonl: each method untuned and searched, mean over seeds.

The file to read may be given as an argument.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from run import PARENTS, configuration
from scipy import stats

from evomerge import api

TASK, KEPT = "zoo_ja_math_test", ("zoo_en_math", "zoo_ja_reading")


def mean_of(rows: list[dict[str, Any]], task: str) -> str:
    """Return the mean over seeds in percent, with the half width of its 95 % interval (Student's t) if it varies."""
    shares = np.array([100 * row["test"][task][0] for row in rows if "test" in row])
    if len(shares) < 2 or shares.std() == 0.0:
        return f"{shares.mean():.0f}" if len(shares) else "–"
    half = stats.t.ppf(0.975, len(shares) - 1) * shares.std(ddof=1) / np.sqrt(len(shares))
    return f"{shares.mean():.0f} ± {half:.0f}"


def gain(untuned: list[dict[str, Any]], searched: list[dict[str, Any]]) -> str:
    """Return the mean gain of searched over untuned merges of the same seed, with its 95 % interval."""
    before = {row["seed"]: row["test"][TASK][0] for row in untuned if "test" in row}
    pairs = [100 * (row["test"][TASK][0] - before[row["seed"]]) for row in searched if row["seed"] in before]
    if len(pairs) < 2:
        return "–"
    half = stats.t.ppf(0.975, len(pairs) - 1) * np.std(pairs, ddof=1) / np.sqrt(len(pairs))
    return f"{np.mean(pairs):+.0f} ± {half:.0f}"


def main() -> None:
    """Print a row for each method, the best searched one first."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results.jsonl"
    rows: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    for row in map(json.loads, path.open()):
        rows[row["arm"], row["tuned"]].append(row)
    arms = {arm for arm, tuned in rows if tuned}

    def searched(arm: str) -> float:
        return float(np.mean([row["test"][TASK][0] for row in rows[arm, True] if "test" in row] or [-1.0]))

    print("| method | genes | untuned | searched | gain | arithmetic kept | reading kept | seeds |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for arm in sorted(arms, key=searched, reverse=True):
        found, plain = rows[arm, True], rows[arm, False]
        genes = len(api.space(configuration(arm, 0, 1)))
        kept = " | ".join(f"{mean_of(plain, task)} → {mean_of(found, task)}" for task in KEPT)
        print(
            f"| `{arm}` | {genes} | {mean_of(plain, TASK)} | {mean_of(found, TASK)} | {gain(plain, found)} | {kept} "
            f"| {len(found)} |"
        )
    for arm in PARENTS:
        tested = " | ".join(mean_of(rows[arm, False], task) for task in KEPT)
        print(f"| parent `{arm}` | | {mean_of(rows[arm, False], TASK)} | | | {tested} | |")


if __name__ == "__main__":
    main()
