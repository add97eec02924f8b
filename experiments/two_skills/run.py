"""A front of merges for one search: NSGA-II against CMA-ES on the weighted sum and random search, equally long.

    .venv/bin/python experiments/two_skills/run.py            # three seeds: eleven minutes of an idle core
    .venv/bin/python experiments/two_skills/run.py --quick    # one seed, 16 candidates

Each search of `experiment=zoo_two_skills` leaves its candidates; of these the eight best spread over the fronts (by
the search items, as NSGA-II's own finalists are chosen) are scored on 200 validation items of each task, which no
search has seen. A front's figure is the hypervolume of those eight there, over the corner where nothing is right.
Appends a line for each search to results.jsonl here.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from evomerge import api
from evomerge.analysis.front import hypervolume
from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import Prepared, prepare
from evomerge.cli.compose import compose
from evomerge.execution.base import StopSignal
from evomerge.optimizers.pareto import best_front
from evomerge.recipe import Recipe
from evomerge.record import Job, Result, Split

HERE = Path(__file__).parent
ARMS = ("nsga2", "cma", "random")
FINALISTS = 8
NOTHING = (0.0, 0.0)
"""The corner that hypervolumes are measured from: no item of either task is right."""


def words(arm: str, seed: int, candidates: int) -> list[str]:
    """Return the configuration of a search; it has one finalist, since what it leaves is scored here."""
    return [
        "experiment=zoo_two_skills",
        f"optimizer={arm}",
        f"seed={seed}",
        f"budget.candidates={candidates}",
        "evaluation.split={search:60,validation:200,test:0}",
        "evaluation.finalists=1",
    ]


def validated(prepared: Prepared, recipes: Sequence[Recipe]) -> list[Result]:
    """Score recipes on the validation items."""
    executor = make_executor(prepared, StopSignal())
    try:
        found = []
        for number, recipe in enumerate(recipes):
            executor.submit(Job(number, recipe, Split.VALIDATION))
            scores = executor.collect().scores
            found.append(prepared.objectives.result(scores, Split.VALIDATION, recipe))
        return found
    finally:
        executor.close()


def one(arm: str, seed: int, candidates: int, folder: Path) -> dict:
    """Run a search, and score what it leaves."""
    config = compose(words(arm, seed, candidates))
    config.pop("run", None)
    start = time.process_time()
    records = [record for record in api.search(config, run_dir=folder).records() if record.result is not None]
    searched = time.process_time() - start
    prepared = prepare(config)
    records.sort(key=lambda record: (-record.fitness, record.number))
    best = [records[place] for place in best_front([record.result for record in records], FINALISTS)]
    baselines = list(prepared.baselines.items())
    held_out = validated(prepared, [*(record.recipe for record in best), *(recipe for _, recipe in baselines)])
    results, of_baselines = held_out[: len(best)], held_out[len(best) :]
    return {
        "arm": arm,
        "seed": seed,
        "candidates": candidates,
        "objectives": [objective.name for objective in prepared.objectives.objectives],
        "cpu_seconds": round(searched, 1),
        "hypervolume": {
            "search": hypervolume([record.result for record in records], NOTHING),
            "validation": hypervolume(results, NOTHING),
            "baselines": hypervolume(of_baselines, NOTHING),
        },
        "best_of_each": [max(result.objectives[k] for result in results) for k in range(2)],
        "best_sum": max(sum(result.objectives) for result in results) / 2,
        "not_dominated": sum(not any(other.dominates(result) for other in results) for result in results),
        "validation": [list(result.objectives) for result in results],
        "baselines": {name: list(result.objectives) for (name, _), result in zip(baselines, of_baselines, strict=True)},
        "search": [list(record.result.objectives) for record in records],
    }


def main() -> None:
    """Run the arms seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--candidates", type=int, default=96)
    parser.add_argument("--quick", action="store_true", help="one seed, 16 candidates; nothing is kept")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.candidates, arguments.out = arguments.seeds[:1], 16, Path(os.devnull)
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            for arm in arguments.arms:
                found = one(arm, seed, arguments.candidates, Path(folder) / f"{arm}{seed}")
                with arguments.out.open("a") as out:
                    out.write(json.dumps(found) + "\n")
                volumes = ", ".join(f"{name} {volume:.3f}" for name, volume in found["hypervolume"].items())
                print(f"{arm:<7} seed {seed}: {volumes}; {found['cpu_seconds']} s of CPU", flush=True)


if __name__ == "__main__":
    main()
