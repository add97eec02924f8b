"""How a search scales with its workers: candidates per minute, the driver's time, memory of a further worker.

python benchmarks/scaling/run.py [--quick] [--json] [--parts rate,driver,memory,share] [--candidates N]

- **rate**: whole searches of the zoo (CMA-ES, population 8, 100 items a candidate), by the local executor and by Ray
  with 1 and 2 workers of one thread each, from the ninth candidate on; and the CPU time that the driver's process takes
  for each candidate (asking, decoding, telling, one transaction, Ray's messages).
- **driver**: candidates that cost nothing, so that only the driver is left: with 1 to 64 simulated workers (an executor
  in the same process, which answers at once and in any order, and reports as Ray's does), and with real actors.
- **memory**: two workers of a random Llama, of which one is killed: what the other's share (PSS) of the memory says
  that a further worker costs; the same for a Llama of one layer, and for workers that only import the libraries.
- **share**: one candidate alone with two workers, with and without sharing it, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from idle import N_ITEMS, Idle, IdleJudge, IdleSpace, answer
from machine import show
from share import shared_candidate

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.execution.base import Executor, StopSignal
from evomerge.execution.pool.cluster import Cluster
from evomerge.execution.pool.executor import RayExecutor
from evomerge.execution.pool.settings import PoolSettings
from evomerge.execution.pool.workers import WorkerPool
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.scoring import Scoring
from evomerge.optimizers.cma_es import CMA
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Job, Outcome, Record, Score, Split
from evomerge.search.budget import Budget
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.strategies.vector import VectorStrategy

FIRST = 8
"""Candidates before this one warm the workers up and are not timed."""


class Watch:
    """Notes when each candidate was recorded, by the clock and by the driver's CPU time."""

    def __init__(self) -> None:
        self.began = (0.0, 0.0)
        self.times: list[tuple[float, float]] = []

    def phase(self, name: str, total: int | None, done: int) -> None:
        """A phase begins."""
        if name == "search":
            self.began = (time.perf_counter(), time.process_time())

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """A candidate was scored."""
        if split == Split.SEARCH and not record.is_baseline:
            self.times.append((time.perf_counter(), time.process_time()))

    def per_candidate(self, first: int = FIRST) -> tuple[float, float]:
        """Return seconds and CPU seconds of a candidate.

        Args:
            first: candidates that are not timed. Where candidates cost nothing it must be 0: a hundred may share one
                transaction there, so that the ninth is recorded together with many that come later.
        """
        (t0, c0), (t1, c1) = self.times[first - 1] if first else self.began, self.times[-1]
        n = len(self.times) - first
        return (t1 - t0) / n, (c1 - c0) / n


@contextlib.contextmanager
def run_folder() -> Iterator[RunDir]:
    """A run folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="scaling"))
    try:
        with RunDir.create(folder / "run", config={"name": "scaling"}) as run:
            yield run
    finally:
        shutil.rmtree(folder)


def searched(words: list[str], candidates: int) -> tuple[float, float]:
    """Run a search and return seconds and CPU seconds of a candidate, from the ninth on."""
    prepared = prepare(compose([*words, "optimizer.population=8", f"budget.candidates={candidates + FIRST}"]))
    watch, stop = Watch(), StopSignal()
    executor = make_executor(prepared, stop)
    try:
        with run_folder() as run:
            Search(
                run_dir=run, stages=prepared.stages(), executor=executor, scoring=prepared.scoring(),
                baselines=prepared.baselines, budget=prepared.config.budget, splits=(Split.SEARCH,), stop=stop,
                listener=watch, deterministic=True,
            ).run()  # fmt: skip
    finally:
        executor.close()
    return watch.per_candidate()


def rate(candidates: int) -> dict[str, float]:
    """Candidates per minute of the zoo."""
    found: dict[str, float] = {}
    words = [
        "experiment=zoo_ja_math",
        "evaluation.split={search:100,validation:0,test:0}",
        "execution.threads=1",
    ]
    for name, more in (
        ("local", []),
        ("ray_1", ["execution=ray", "execution.workers=1"]),
        ("ray_2", ["execution=ray", "execution.workers=2"]),
    ):
        seconds, cpu = searched([*words[:1], *more[:1], *words[1:], *more[1:]], candidates)
        found[f"{name}_per_minute"] = 60.0 / seconds
        # What the local executor's process does is the candidate itself.
        if name != "local":
            found[f"{name}_driver_cpu_ms"] = 1000.0 * cpu
    for name in ("ray_1", "ray_2"):
        found[f"{name}/local"] = found[f"{name}_per_minute"] / found["local_per_minute"]
    return found


class Simulated(Executor):
    """Workers in this process that answer at once, the oldest question not first."""

    concurrent = True
    capacity = 1

    def __init__(self, workers: int) -> None:
        self.capacity = workers
        self._jobs: list[Job] = []
        self._draw = random.Random(0)
        self._pool = WorkerPool()
        for _ in range(workers):
            worker = self._pool.add(None)
            self._pool.place(worker, "simulated (127.0.0.1)", 1)
            self._pool.open(worker, "cpu")

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.append(job)

    def collect(self) -> Outcome:
        """Answer any of them."""
        return answer(self._jobs.pop(self._draw.randrange(len(self._jobs))))

    def more(self) -> list[Outcome]:
        """Answer half of the others, too: they were done while the driver was busy."""
        return [self.collect() for _ in range(len(self._jobs) // 2)]

    def report(self) -> dict[str, Any]:
        """Return what Ray's executor would."""
        return {"executor": "simulated", **self._pool.report()}

    def close(self) -> None:
        """Nothing to close."""


def driver(make: Callable[[], Executor], workers: int, candidates: int, first: int = 0) -> dict[str, float]:
    """Candidates per second that the driver keeps up with, CMA-ES in 32 dimensions with two candidates a worker."""
    watch, executor = Watch(), make()
    population = max(8, 2 * workers)
    try:
        with run_folder() as run:
            Search(
                run_dir=run,
                stages=[
                    Stage(
                        "search",
                        1.0,
                        lambda best: VectorStrategy(IdleSpace(32), CMA(32, [0.5] * 32, 0, population=population)),
                    )
                ],
                executor=executor,
                scoring=Scoring(IdleJudge(), ItemTable({"t": range(N_ITEMS)}, [Term("t", "t", 1.0)])),
                baselines={"a": Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": 0.5})},
                budget=Budget(candidates=candidates + first),
                splits=(Split.SEARCH,),
                listener=watch,
                deterministic=False,
            ).run()
    finally:
        executor.close()
    seconds, cpu = watch.per_candidate(first)
    return {"per_second": 1.0 / seconds, "cpu_ms": 1000.0 * cpu}


def throughput(quick: bool) -> dict[str, float]:
    """The driver alone, and with real actors that do nothing."""
    found = {}
    for workers in (1, 64) if quick else (1, 2, 4, 8, 16, 32, 64):
        for key, value in driver(lambda n=workers: Simulated(n), workers, 300).items():
            found[f"simulated_{workers}_{key}"] = value
    for workers in (2,) if quick else (1, 2, 4, 8):

        def actors(n: int = workers) -> Executor:
            return RayExecutor(Idle(), cluster=Cluster(cpus=1), settings=PoolSettings(workers=n, cpus=0.05))

        for key, value in driver(actors, workers, 300, FIRST).items():
            found[f"actors_{workers}_{key}"] = value
    return found


def pss(pid: int) -> dict[str, int]:
    """Return a process's share of the memory, in bytes: all of it, and what is its own or of files."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return {name: values[name] for name in ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")}


@dataclass(frozen=True)
class Further:
    """What a second worker costs, its live model, and the files that both share: bytes."""

    extra: int
    live: int
    files: int


def further_worker(layers: int | None) -> Further:
    """Start two workers of a random Llama (None: of no model), let them work, kill one, and look at the other."""
    from models import random_family

    folder, live = Path(tempfile.mkdtemp(prefix="scaling")), 0
    try:
        if layers is None:
            recipe = Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": 0.5})
            executor = RayExecutor(Idle(libraries=True), cluster=Cluster(cpus=2), settings=PoolSettings(workers=2))
        else:
            live, words = random_family(folder, layers=layers)
            prepared = prepare(compose(words))
            recipe = prepared.baselines["average"]
            executor = make_executor(prepared, StopSignal())
        try:
            for number in range(4):
                executor.submit(Job(number, recipe, Split.SEARCH))
            for _ in range(4):
                executor.collect()
            pids = [worker.pid for worker in executor.pool if worker.pid]
            assert len(pids) == 2, "both workers are there"
            together = sum(pss(pid)["Pss"] for pid in pids)
            os.kill(pids[1], signal.SIGKILL)
            alone = pss(pids[0])
            while True:  # until what both had mapped is given back by the one that is gone
                time.sleep(1.0)
                before, alone = alone, pss(pids[0])
                if alone["Pss"] == before["Pss"]:
                    return Further(together - alone["Pss"], live, alone["Pss_File"])
        finally:
            executor.close()
    finally:
        shutil.rmtree(folder)


def memory(quick: bool) -> dict[str, float]:
    """What a further worker costs: with a model of many layers, with one of a single layer, and without any.

    What the first two differ by is the price of a live model; what is left of the second without its live model does
    not depend on the model: libraries, kernels, tasks, the workspace of matrix products.
    """
    deep, one, bare = (further_worker(layers) for layers in (3 if quick else 8, 1, None))
    mib = float(1 << 20)
    slope = (deep.extra - one.extra) / (deep.live - one.live)
    return {
        "live_model_mib": deep.live / mib,
        "further_worker_mib": deep.extra / mib,
        "without_its_model_mib": (one.extra - slope * one.live) / mib,
        "imports_of_it_mib": bare.extra / mib,
        "further_worker/live_model": slope,
        "beyond_imports/live_model": (deep.extra - bare.extra) / deep.live,
        "parents_shared_mib": deep.files / mib,
    }


def main() -> None:
    """Run the parts and print them."""
    here = Path(__file__).resolve().parent  # Ray's processes import the workers without models from here
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parents[1]), os.environ.get("PYTHONPATH", "")])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer candidates and workers, a smaller model")
    parser.add_argument("--json", action="store_true", help="one JSON object: figure to value")
    parser.add_argument("--parts", default="rate,driver,memory,share")
    parser.add_argument("--candidates", type=int, help="timed in each part of `rate`")
    parser.add_argument("--rounds", type=int, default=1, help="of `rate`; the median counts")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if arguments.quick and arguments.parts == parser.get_default("parts"):
        parts = ["driver"]  # a start of Ray takes ten seconds, and each of the others needs several
    found: dict[str, float] = {}
    if "rate" in parts:
        rounds = [rate(arguments.candidates or (8 if arguments.quick else 64)) for _ in range(arguments.rounds)]
        found |= {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    if "driver" in parts:
        found |= throughput(arguments.quick)
    if "memory" in parts:
        found |= memory(arguments.quick)
    if "share" in parts:
        found |= shared_candidate(2, 2 if arguments.quick else 7)
    show(found, as_json=arguments.json)


if __name__ == "__main__":
    main()
