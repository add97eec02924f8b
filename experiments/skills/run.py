"""Three skills, and four ways to search: what does the merge keep?

    .venv/bin/python experiments/skills/run.py            # three seeds, twelve searches
    .venv/bin/python experiments/skills/run.py --quick    # one seed, 8 candidates; nothing is kept

Japanese word problems are wanted most, which no parent can solve; English arithmetic is a skill of one parent of the
zoo, Japanese reading one of the other. Each search merges the two by task arithmetic in the same space, with the same
candidates and items; the weights of the skills are 2:1:1. The arms differ in what is made of the three tasks alone:

- sum: their weighted sum
- floors: the same, but what a parent can do must be kept to a share of it
- worst: the worst task relative to its best parent
- front: each skill is an objective of its own (NSGA-II)

Appends a line for each search to results.jsonl here, with the test accuracy of parents and winner in each skill.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from evomerge import api

HERE = Path(__file__).parent
ARMS = ("sum", "floors", "worst", "front")
WEIGHTS = {"zoo_ja_math": 2.0, "zoo_en_math": 1.0, "zoo_ja_reading": 1.0}
KEPT = ("zoo_en_math", "zoo_ja_reading")
"""The skills that a parent has."""
FLOOR = "85%"
PARENTS = ("math", "japanese")


def configuration(arm: str, seed: int, candidates: int) -> dict[str, Any]:
    """Return the configuration of a search."""
    entries: list[dict[str, Any]] = []
    for name, weight in WEIGHTS.items():
        entry: dict[str, Any] = {"name": name, "metric": "acc", "weight": weight}
        if name == "zoo_ja_math":
            entry["test"] = "zoo_ja_math_test"
        if arm == "floors" and name in KEPT:
            entry["floor"] = FLOOR
        if arm == "front":
            entry["objective"] = name
        entries.append(entry)
    return {
        "name": f"skills {arm}",
        "seed": seed,
        "models": {"base": "zoo:base", "parents": {name: f"zoo:{name}" for name in PARENTS}, "dtype": "float32"},
        "method": {"name": "task_arithmetic", "parameters": {"lambda": 1.0}},
        "space": {"blocks": 3, "genes": {"weight": {"low": 0.0, "high": 1.6, "start": 0.7}}},
        "optimizer": {"name": "nsga2" if arm == "front" else "cma"},
        "budget": {"candidates": candidates},
        "evaluation": {
            "include_path": "zoo:tasks",
            "tasks": entries,
            "objective": "worst" if arm == "worst" else "sum",
            "split": {"search": 40, "validation": 60, "test": 100},
            "finalists": 4,
            "batch_size": 128,
        },
        "execution": {"threads": 1},
    }


def accuracies(row: dict[str, Any]) -> dict[str, float]:
    """Return the test accuracy of each skill of a row of the status."""
    return {task: one["test"]["mean"] for task, one in row["tasks"].items()}


def one(arm: str, seed: int, candidates: int, folder: Path) -> dict[str, Any]:
    """Run a search, and return what it keeps."""
    start = time.process_time()
    status = api.search(configuration(arm, seed, candidates), run_dir=folder).status()
    baselines = {row["name"]: accuracies(row) for row in status["baselines"]}
    best = {name: max(baselines[parent][name] for parent in PARENTS) for name in WEIGHTS}
    chosen = [accuracies(row) for row in status["choice"]["records"]]
    return {
        "arm": arm,
        "seed": seed,
        "candidates": candidates,
        "cpu_seconds": round(time.process_time() - start, 1),
        "baselines": baselines,
        "best_parent": best,
        "winner": chosen[0],
        "kept": {name: chosen[0][name] / best[name] for name in KEPT},
        "front": chosen if status["choice"]["kind"] == "front" else None,
        "verdict": status["verdict"],
        "warnings": status["warnings"],
    }


def main() -> None:
    """Run the arms seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="one seed, 8 candidates; nothing is kept")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.candidates, arguments.out = arguments.seeds[:1], 8, Path(os.devnull)
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            for arm in arguments.arms:
                found = one(arm, seed, arguments.candidates, Path(folder) / f"{arm}{seed}")
                with arguments.out.open("a") as out:
                    out.write(json.dumps(found) + "\n")
                winner = ", ".join(f"{name} {100 * share:.0f} %" for name, share in found["winner"].items())
                lost = [one["text"] for one in found["warnings"] if one["kind"] == "lost_skill"]
                print(f"{arm:<7} seed {seed}: {winner}; {found['cpu_seconds']} s; {'; '.join(lost)}", flush=True)


if __name__ == "__main__":
    main()
