"""Real models on Ray: what several workers answer of one candidate is what one worker answers."""

from dataclasses import replace

import pytest

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.execution.base import StopSignal
from evomerge.record import Job, Split, State


@pytest.mark.slow
def test_a_real_candidate_shared_by_two_workers_has_the_scores_of_one(ray_cluster, monkeypatch) -> None:
    # On a fast machine it may be over before it is divided otherwise.
    monkeypatch.setattr("evomerge.execution.pool.queue.ASK_SECONDS", 0.05)
    monkeypatch.setattr("evomerge.execution.pool.executor.POLL_SECONDS", 0.05)
    words = [
        "experiment=zoo_ja_math",
        "evaluation.split={search:160,validation:2,test:2}",
        "evaluation.batch_size=4",
        "execution.threads=1",
    ]
    there = ["execution=ray", "execution.workers=2", f"execution.address={ray_cluster.address}"]
    prepared = prepare(compose([*words, *there]))
    job = Job(0, prepared.baselines["average"], Split.SEARCH)
    few = prepared.harness.split_items(Split.SEARCH)["zoo_ja_math"][:8]
    executor = make_executor(prepared, StopSignal())
    try:
        executor.submit(replace(job, items={"zoo_ja_math": few}))
        executor.collect()  # afterwards one of them knows how long a unit takes
        executor.submit(job)
        shared = executor.collect()
        assert executor.report()["shared"] >= 1
    finally:
        executor.close()
    here = make_executor(prepare(compose(words), recorded_splits=prepared.harness.split_data()), StopSignal())
    here.submit(job)
    assert shared.state == State.COMPLETE
    alone = here.collect()
    assert shared.scores == alone.scores
    assert shared.answers == alone.answers and len(alone.answers) == 160
