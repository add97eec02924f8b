"""A driver of its own process: a search with dummy workers on a cluster, begun or continued. Killed by the tests."""

import sys
from pathlib import Path

import numpy as np
from accuracy import Accuracy
from ray_workers import N_ITEMS, Dummy, recipe

from evomerge.execution.base import Executor
from evomerge.execution.pool.cluster import Cluster
from evomerge.execution.pool.executor import RayExecutor
from evomerge.execution.pool.settings import PoolSettings
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.cma_es import CMA
from evomerge.recipe import Recipe
from evomerge.search.budget import Budget
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.strategies.vector import VectorStrategy


class Line(GeneSpace):
    _genes = (Gene("one", 0.0, 1.0, 0.5), Gene("other", 0.0, 1.0, 0.5))

    def genome(self, x: np.ndarray) -> tuple[float, ...]:
        return tuple(round(float(value), 6) for value in x)

    def decode(self, genome: tuple[float, ...]) -> Recipe:
        return recipe(round((genome[0] + genome[1]) / 2.0, 6))


def search(run: RunDir, executor: Executor, candidates: int, *, deterministic: bool = True, **options) -> Search:
    return Search(
        run_dir=run,
        stages=[Stage("search", 1.0, lambda best: VectorStrategy(Line(), CMA(2, [0.3, 0.3], 1, population=8)))],
        executor=executor,
        scoring=Scoring(Accuracy(), ItemTable({"t": range(N_ITEMS)}, [Term("t", "t", 1.0)])),
        baselines={"a": recipe(0.2), "average": recipe(0.5)},
        budget=Budget(candidates=candidates),
        finalists=3,
        deterministic=deterministic,
        **options,
    )


def main(folder: str, address: str, notes: str, candidates: str) -> None:
    path = Path(folder)
    run = RunDir.open(path, write=True) if (path / "run.sqlite").exists() else RunDir.create(path, config={"name": "k"})
    cluster = Cluster(address=None if address == "own" else address, cpus=2)
    with run:
        executor = RayExecutor(Dummy(notes, seconds=0.02), cluster=cluster, settings=PoolSettings(workers=2))
        try:
            search(run, executor, int(candidates)).run()
        finally:
            executor.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
