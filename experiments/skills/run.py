"""Three skills, and four ways to search: what does the merge keep?

    .venv/bin/python experiments/skills/run.py                    # trains a third parent; twelve searches
    .venv/bin/python experiments/skills/run.py --design strict    # the zoo's own experts, floors of 97 %
    .venv/bin/python experiments/skills/run.py --design loose     # the same with floors of 85 %, fewer candidates
    .venv/bin/python experiments/skills/run.py --quick            # 8 candidates; nothing is kept

English arithmetic and Japanese reading are skills of a parent, and are to be kept. Japanese word problems, which no
parent can solve, are to be gained, and count twice (weights 2:1:1). Each search merges experts by task arithmetic
in the same space, with the same candidates and items. The arms differ in what is made of the tasks:

- sum: their weighted sum
- floors: the same, but the skills of the parents must be kept to a share of the best parent's
- worst: the worst task relative to its best parent
- front: each task is an objective of its own (NSGA-II)

Appends a line for each search to DESIGN.jsonl here, with the test accuracy of parents and chosen merges in each task,
the skills that they have lost, verdict and warnings.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tutor import train

from evomerge import api

HERE = Path(__file__).parent
ARMS = ("sum", "floors", "worst", "front")
WEIGHTS = {"zoo_ja_math": 2.0, "zoo_en_math": 1.0, "zoo_ja_reading": 1.0}
KEPT = ("zoo_en_math", "zoo_ja_reading")
"""The skills that a parent has."""
TUTOR = "tutor"
"""A parent that has both skills; see `tutor.py`."""


@dataclass(frozen=True)
class Design:
    """What the four arms of a study share.

    Attributes:
        floor: the share of the best parent that the arm `floors` asks for.
        candidates: of each search.
        finalists: of each search, among which the validation items choose.
        split: items of each task.
        worst: weights of the tasks in the arm `worst`; 0: the task is measured only.
        test: tasks that have a test task of their own.
        parents: names of models of the zoo, or `TUTOR`.
        start: the weight of each parent that a search begins with.
    """

    floor: str
    candidates: int
    finalists: int
    split: Mapping[str, int]
    worst: Mapping[str, float]
    test: Mapping[str, str]
    parents: tuple[str, ...] = ("math", "japanese")
    start: float = 0.7


# A floor asks for no less than what 100 test items can tell from the parent (4 items of one that is always right).
# No parent can solve the problems, so they have no best parent that the worst task could be measured by. For the
# same reason they are tested on items like those of the search: of the others a parent has a few right by chance.
_STRICT = Design(
    floor="97%",
    candidates=96,
    finalists=8,
    split={"search": 60, "validation": 100, "test": 100},
    worst={**WEIGHTS, "zoo_ja_math": 0.0},
    test={},
)
DESIGNS = {
    "three": replace(_STRICT, candidates=48, parents=("math", "japanese", TUTOR), start=0.5),
    "tutor": replace(_STRICT, candidates=48, parents=(TUTOR, "japanese")),
    "strict": _STRICT,
    "loose": Design(
        floor="85%",
        candidates=32,
        finalists=4,
        split={"search": 40, "validation": 60, "test": 100},
        worst=WEIGHTS,
        test={"zoo_ja_math": "zoo_ja_math_test"},
    ),
}


def configuration(design: Design, arm: str, seed: int, candidates: int, tutor: Path) -> dict[str, Any]:
    """Return the configuration of a search; `tutor` is the folder of that parent."""
    parents = {name: str(tutor) if name == TUTOR else f"zoo:{name}" for name in design.parents}
    weights = design.worst if arm == "worst" else WEIGHTS
    entries: list[dict[str, Any]] = []
    for name, weight in weights.items():
        entry: dict[str, Any] = {"name": name, "metric": "acc", "weight": weight}
        if name in design.test:
            entry["test"] = design.test[name]
        if arm == "floors" and name in KEPT:
            entry["floor"] = design.floor
        if arm == "front":
            entry["objective"] = name
        entries.append(entry)
    return {
        "name": f"skills {arm}",
        "seed": seed,
        "models": {"base": "zoo:base", "parents": parents, "dtype": "float32"},
        "method": {"name": "task_arithmetic", "parameters": {"lambda": 1.0}},
        "space": {"blocks": 3, "genes": {"weight": {"low": 0.0, "high": 1.6, "start": design.start}}},
        "optimizer": {"name": "nsga2" if arm == "front" else "cma"},
        "budget": {"candidates": candidates},
        "evaluation": {
            "include_path": "zoo:tasks",
            "tasks": entries,
            "objective": "worst" if arm == "worst" else "sum",
            "split": dict(design.split),
            "finalists": design.finalists,
            "batch_size": 128,
        },
        "execution": {"threads": 1},
    }


def accuracies(row: dict[str, Any]) -> dict[str, float]:
    """Return the test accuracy in each task of a row of the status."""
    return {task: one["test"]["mean"] for task, one in row["tasks"].items()}


def lost(row: dict[str, Any]) -> list[str]:
    """Return the tasks at which a chosen merge is worse than the best parent by more than the interval."""
    return [one["task"] for one in row["skills"] if one["lost"]]


def one(design: Design, arm: str, seed: int, candidates: int, tutor: Path, folder: Path) -> dict[str, Any]:
    """Run a search, and return what it keeps."""
    start = time.process_time()
    status = api.search(configuration(design, arm, seed, candidates, tutor), run_dir=folder).status()
    baselines = {row["name"]: accuracies(row) for row in status["baselines"]}
    chosen = status["choice"]["records"]
    return {
        "arm": arm,
        "seed": seed,
        "candidates": candidates,
        "cpu_seconds": round(time.process_time() - start, 1),
        "baselines": baselines,
        "chosen": [{"name": row["name"], "test": accuracies(row), "lost": lost(row)} for row in chosen],
        "broken_limits": status["best"].get("broken_limits"),
        "verdict": status["verdict"],
        "warnings": status["warnings"],
    }


def main() -> None:
    """Run the arms seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--design", choices=DESIGNS, default="three")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tutor", type=Path, help="folder of a parent that was trained before; default: train it now")
    parser.add_argument("--candidates", type=int, help="other than the design's")
    parser.add_argument("--quick", action="store_true", help="the first seed, 8 candidates; nothing is kept")
    parser.add_argument("--out", type=Path, help="default: DESIGN.jsonl beside this script")
    arguments = parser.parse_args()
    design = DESIGNS[arguments.design]
    candidates = arguments.candidates or design.candidates
    out = arguments.out or HERE / f"{arguments.design}.jsonl"
    if arguments.quick:
        arguments.seeds, candidates, out = arguments.seeds[:1], 8, Path(os.devnull)
    with tempfile.TemporaryDirectory() as folder:
        tutor = arguments.tutor or Path(folder) / TUTOR
        if TUTOR in design.parents and not tutor.exists():
            train(tutor)
        for seed in arguments.seeds:
            for arm in arguments.arms:
                found = one(design, arm, seed, candidates, tutor, Path(folder) / f"{arm}{seed}")
                with out.open("a") as lines:
                    lines.write(json.dumps(found) + "\n")
                print(f"{arm:<7} seed {seed}, {found['cpu_seconds']} s of CPU: {found['verdict']['text']}", flush=True)
                for row in found["chosen"]:
                    scores = ", ".join(f"{name} {100 * share:.0f} %" for name, share in row["test"].items())
                    print(f"    {row['name']}: {scores}; lost: {', '.join(row['lost']) or 'nothing'}", flush=True)


if __name__ == "__main__":
    main()
