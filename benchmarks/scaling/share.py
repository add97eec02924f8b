"""What sharing brings: one candidate with several workers, as at the end of a search, with and without."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.execution.base import StopSignal
from evomerge.execution.pool.executor import RayExecutor
from evomerge.record import Job, Split


def shared_candidate(workers: int, rounds: int, items: int = 396) -> dict[str, float]:
    """Seconds from a candidate's submission to its scores, alone among idle workers, in turns with sharing and without.

    The zoo's average on the search items, in batches of 16: a candidate of some seconds.
    """
    words = [
        "experiment=zoo_ja_math",
        f"evaluation.split={{search:{items},validation:2,test:2}}",
        "evaluation.batch_size=16",
        "execution=ray",
        f"execution.workers={workers}",
        "execution.threads=1",
    ]
    prepared = prepare(compose(words))
    executor = make_executor(prepared, StopSignal())
    assert isinstance(executor, RayExecutor)
    job = Job(0, prepared.baselines["average"], Split.SEARCH)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    try:
        settings = executor.settings
        for _ in range(2 * workers):  # every worker has loaded what it needs, and knows its pace
            executor.submit(job)
        for _ in range(2 * workers):
            executor.collect()
        for _ in range(rounds):
            for share in (True, False):
                executor.settings = replace(settings, share=share)
                began = time.perf_counter()
                executor.submit(job)
                executor.collect()
                seconds[share].append(time.perf_counter() - began)
        times = executor.pool.steals
    finally:
        executor.close()
    ratios = [alone / shared for alone, shared in zip(seconds[False], seconds[True], strict=True)]
    return {
        f"share_{workers}_seconds": statistics.median(seconds[True]),
        f"share_{workers}_off_seconds": statistics.median(seconds[False]),
        f"share_{workers}_speedup": statistics.median(ratios),
        f"share_{workers}_times": times / rounds,
    }
