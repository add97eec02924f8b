"""Which merges of two experts exist at all: one weight each for the whole model, on a grid.

    .venv/bin/python experiments/skills/probe.py --design strict      # a minute of an idle core

Prints the accuracy in each task on 100 search items, and writes DESIGN_grid.json here. Nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from run import DESIGNS, HERE, TUTOR, Design, configuration
from tutor import train

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.execution.base import StopSignal
from evomerge.recipe import Recipe
from evomerge.record import Job, Split

PAIRS = [name for name, design in DESIGNS.items() if len(design.parents) == 2]
GRID = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2)


def grid(design: Design, tutor: Path) -> Iterator[dict[str, float]]:
    """Yield the accuracy in each task for each pair of weights."""
    config = configuration(design, "sum", 0, 4, tutor)
    config["evaluation"] |= {"split": {"search": 100, "validation": 2, "test": 0}, "finalists": 1}
    for task in config["evaluation"]["tasks"]:
        task.pop("test", None)
    prepared = prepare(config)
    executor = make_executor(prepared, StopSignal())
    try:
        for number, weights in enumerate(product(GRID, GRID)):
            by_name = dict(zip(design.parents, weights, strict=True))
            recipe = Recipe.from_data(
                {
                    "method": "task_arithmetic",
                    "base": config["models"]["base"],
                    "parents": config["models"]["parents"],
                    "parameters": {"lambda": 1.0, "weight": by_name},
                    "dtype": "float32",
                }
            )
            executor.submit(Job(number, recipe, Split.SEARCH))
            values: dict[str, list[float]] = {}
            for item in executor.collect().scores:
                values.setdefault(item.task, []).append(item.metrics["acc"])
            yield {**by_name, **{task: sum(own) / len(own) for task, own in values.items()}}
    finally:
        executor.close()


def main() -> None:
    """Print and write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--design", choices=PAIRS, default="strict")
    parser.add_argument("--tutor", type=Path, help="folder of a parent that was trained before; default: train it now")
    arguments = parser.parse_args()
    design = DESIGNS[arguments.design]
    with tempfile.TemporaryDirectory() as folder:
        tutor = arguments.tutor or Path(folder) / TUTOR
        if TUTOR in design.parents and not tutor.exists():
            train(tutor)
        rows = []
        for row in grid(design, tutor):
            rows.append(row)
            print(", ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    (HERE / f"{arguments.design}_grid.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
