"""How well scores are estimated from a few answers: real models, calibrated on models of other authors.

    python benchmarks/estimators/leaderboard.py            # --quick: one split, fewer models; --json: name to number

GSM8K answers (552 items) of Open LLM Leaderboard models. Models are split by author; targets are held-out models with
every item recorded. Errors are mean absolute errors in points of accuracy; in brackets the standard error over targets.
The real merges have their parents among the known models; merges are not among the calibration models.
Data: $EVOMERGE_DATA, or ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evomerge.estimation import (
    FIXED,
    Estimate,
    Mixture,
    Responses,
    ask_adaptively,
    ask_by_information,
    choose,
    make_estimator,
    read_responses,
)

ROOT = Path(__file__).parents[2]
METHODS = (
    ("uniform", ("mean", "stratified", "calibrated-mean", "ridge", "p-irt", "gp-irt", "mixture")),
    ("anchors", ("weighted", "ridge", "p-irt", "gp-irt")),
    ("greedy", ("ridge", "p-irt", "mixture")),
    ("fisher", ("p-irt",)),
    ("adaptive", ("mixture",)),
)
MERGE_METHODS = (
    ("uniform", ("mean", "p-irt", "mp-irt", "mp-irt-convex", "gmp-irt", "mixture")),
    ("greedy", ("ridge", "mixture")),
    ("adaptive", ("mixture",)),
)
DRAWN = {"uniform": 5, "anchors": 2}
"""How many draws of items are averaged, where they are drawn."""
LOOKS_MERGED = re.compile("slerp|merge|ties|dare|moe|frank|blend|linear|passthrough|mix", re.IGNORECASE)


def responses_folder() -> Path | None:
    """Return the folder of the response matrices; None, and say so, where there is none."""
    data = Path(os.environ.get("EVOMERGE_DATA", ROOT.parent / "shared" / "data")) / "responses"
    if data.is_dir():
        return data
    print(f"no response matrices at {data}: set EVOMERGE_DATA to the folder that holds responses/", file=sys.stderr)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="one split, 150 calibration models, 60 targets, n = 10, 30"
    )
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    data = responses_folder()
    if data is None:
        return 2
    everything = read_responses(data / "leaderboard_gsm8k_arc.npz")
    responses = everything.of_items(name for name in everything.items if name.startswith("gsm8k/"))
    rows = json.loads((data / "merges_with_parents.json").read_text(encoding="utf-8"))
    numbers = (10, 30) if arguments.quick else (10, 30, 100)
    table: dict[str, list[float]] = {}
    for seed in range(1 if arguments.quick else arguments.splits):
        calibration, targets = by_author(responses, seed)
        if arguments.quick:
            calibration, targets = sample(calibration, 150, seed), sample(targets, 60, seed)
        measure(table, "leaderboard", METHODS, calibration, targets, numbers, seed)
        for draw in range(1 if arguments.quick else 3):
            few = sample(calibration, 50, 10 * seed + draw)
            methods = (("greedy", ("ridge",)), ("anchors", ("gp-irt",)), ("adaptive", ("mixture",)))
            measure(table, "50 models", methods, few, targets, (30,), 10 * seed + draw)
    known, merges, parents = with_parents(responses, rows)
    known = sample(known, 150, 0) if arguments.quick else known
    measure(table, "merges", MERGE_METHODS, known, merges, numbers, 0, parents)
    few = sample(known, 50, 0)
    measure(table, "merges, 50 models", (("adaptive", ("mixture",)),), few, merges, (10, 30), 0, parents)
    show(table, arguments.json)
    return 0


def by_author(responses: Responses, seed: int) -> tuple[Responses, Responses]:
    """A quarter of the authors held out; of their models those with every item."""
    authors = [name.split("/")[0] for name in responses.models]
    order = np.random.default_rng(seed).permutation(sorted(set(authors)))
    held = set(order[: len(order) // 4].tolist())
    complete = ~np.isnan(responses.R).any(1)
    names = list(zip(responses.models, authors, complete.tolist(), strict=True))
    known = responses.of_models(name for name, author, _ in names if author not in held)
    return known, responses.of_models(name for name, author, whole in names if author in held and whole)


def sample(responses: Responses, n: int, seed: int) -> Responses:
    return responses.of_models(np.random.default_rng(seed).permutation(responses.models)[:n])


def with_parents(
    responses: Responses, rows: list[dict[str, list[str]]]
) -> tuple[Responses, Responses, list[Responses | None]]:
    """Models that are no merges; real merges; the rows of their parents, as far as recorded."""
    on_file = set(responses.models)
    rows = [row for row in rows if row["model"] in on_file and any(name in on_file for name in row["parents"])]
    merges = [row["model"] for row in rows]
    calibration = [name for name in responses.models if name not in merges and not LOOKS_MERGED.search(name)]
    parents = [responses.of_models(name for name in row["parents"] if name in on_file) for row in rows]
    return responses.of_models(calibration), responses.of_models(merges), list(parents)


def measure(
    table: dict[str, list[float]],
    what: str,
    methods: Sequence[tuple[str, tuple[str, ...]]],
    calibration: Responses,
    targets: Responses,
    numbers: Sequence[int],
    seed: int,
    parents: list[Responses | None] | None = None,
) -> None:
    """Add errors, coverages and regrets of all methods to the table."""
    truth = targets.accuracy()
    pool = ~np.isnan(targets.R)
    fitted = {}
    for name in sorted({name for _, names in methods for name in names}):
        fitted[name] = make_estimator(name)
        fitted[name].fit(calibration, seed=seed)
    rows = np.arange(len(truth))

    def answer(items: np.ndarray) -> np.ndarray:
        return np.where(items >= 0, targets.R[rows, items], np.nan)

    for select, names in methods:
        for n in numbers:
            if select == "fisher" and n > 30:
                continue  # Newton's method for each model after each answer
            for draw in range(DRAWN.get(select, 1) if calibration.n_models > 200 else 1):
                weights = None
                start = time.process_time()
                if select in FIXED:
                    choice = choose(select, calibration, n, seed=100 * seed + draw)
                    seen = np.full(targets.R.shape, np.nan)
                    seen[:, choice.items] = targets.R[:, choice.items]
                    weights = choice.weights
                elif select == "fisher":
                    seen = ask_by_information(fitted["p-irt"].irt, answer, n, pool)
                else:
                    guide = fitted["mixture"]
                    assert isinstance(guide, Mixture)
                    seen = ask_adaptively(guide, answer, n, pool, parents)
                for name in names:
                    found = fitted[name].estimate(seen, pool=pool, parents=parents, weights=weights)
                    add(table, f"{what} | {select} | {name} | {n}", found, truth)
                print(f"{what} {select} {n}: {time.process_time() - start:.1f} s", file=sys.stderr)


def add(table: dict[str, list[float]], name: str, found: Estimate, truth: np.ndarray) -> None:
    low, high = found.interval(0.9)
    errors = 100 * np.abs(found.mean - truth)
    table.setdefault(f"{name} | error", []).append(float(errors.mean()))
    table.setdefault(f"{name} | standard error", []).append(float(errors.std() / len(errors) ** 0.5))
    table.setdefault(f"{name} | coverage", []).append(float(100 * ((low <= truth) & (truth <= high)).mean()))
    rng = np.random.default_rng(0)
    lost = []
    for _ in range(1000):
        twenty = rng.choice(len(truth), min(20, len(truth)), replace=False)
        lost.append(truth[twenty].max() - truth[twenty[found.mean[twenty].argmax()]])
    table.setdefault(f"{name} | regret", []).append(float(100 * np.mean(lost)))


def show(table: dict[str, list[float]], as_json: bool) -> None:
    numbers = {name: float(np.mean(values)) for name, values in table.items()}
    if as_json:
        print(json.dumps(numbers, indent=2))
        return
    print("| models | items by | estimator | n | error (s.e.) | regret of 20 | 90 % intervals hold |")
    print("|---|---|---|---:|---:|---:|---:|")
    for name in numbers:
        head, _, kind = name.rpartition(" | ")
        if kind == "error":
            error, se, coverage, regret = (
                numbers[f"{head} | {kind}"] for kind in ("error", "standard error", "coverage", "regret")
            )
            print(f"| {head} | {error:.2f} ({se:.2f}) | {regret:.2f} | {coverage:.0f} % |")


if __name__ == "__main__":
    sys.exit(main())
