"""A worker whose model lies on two GPUs, from the configuration to the scores. The GPUs are pretended, or real."""

from __future__ import annotations

import logging

import pytest
import torch
from pretended_devices import pretended_devices

from evomerge.assembly import memory_plan as footprint
from evomerge.assembly import prepare as build
from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.evaluation.engines import batching, generation
from evomerge.execution.base import StopSignal
from evomerge.merge.live import model as resident
from evomerge.record import Job, Outcome, Split, State

WORDS = ["experiment=zoo_ja_math", "evaluation.split={search:6,validation:4,test:4}", "execution.dtype=float32"]
TWO = "execution.device=[cuda:0,cuda:1]"


def outcomes(*words: str) -> tuple[list[Outcome], int, int]:
    """Two candidates of the search; how many tensors were copied for the first, and for the second."""
    prepared = prepare(compose([*WORDS, *words]))
    executor = make_executor(prepared, StopSignal())
    (space,) = prepared.spaces
    found, copied = [], []
    for number, scale in enumerate((1.0, 0.7)):
        recipe = space.decode(space.genome(scale * space.start))
        executor.submit(Job(number, recipe, Split.SEARCH))
        found.append(executor.collect())
        copied.append(len(prepared.sources.copies._filled))
    return found, copied[0], copied[-1] - copied[0]


def test_candidates_have_the_scores_of_one_device(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (footprint, resident, batching):
        monkeypatch.setattr(module, "free_bytes", lambda _device: 1 << 28)
    monkeypatch.setitem(generation.LOOK_EVERY, "other", generation.LOOK_EVERY["cpu"])
    monkeypatch.setitem(batching.PASS_TOKENS, "other", batching.PASS_TOKENS["cpu"])
    expected, none, _ = outcomes("execution.device=cpu")
    assert none == 0, "on a CPU parents are the mapped files"
    with caplog.at_level(logging.INFO), pretended_devices():
        found, first, later = outcomes(TWO)
    assert "stay on cuda:0 and cuda:1 beside the live model (0.00 GiB): 0.50 GiB are free" in caplog.text
    assert first > 0
    assert later == 0, "the second candidate reads what is there already"
    assert {one.device for one in found} == {"cuda:0 + cuda:1"}
    for one, other in zip(found, expected, strict=True):
        assert (one.state, one.error, one.scores) == (State.COMPLETE, None, other.scores)


def test_parents_that_are_to_stay_on_the_machine_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (footprint, resident, batching):
        monkeypatch.setattr(module, "free_bytes", lambda _device: 1 << 28)
    with pretended_devices():
        assert outcomes(TWO, "execution.parents=host")[1:] == (0, 0)


def test_what_does_not_fit_into_all_gpus_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "free_bytes", lambda _device: 1 << 20)
    with pretended_devices(), pytest.raises(build.ConfigError, match="does not fit into what is free: cuda:0 has"):
        prepare(compose([*WORDS, TWO]))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_on_two_gpus_the_same_scores_as_on_one() -> None:
    expected, _, _ = outcomes("execution.device=cuda:0")
    found, first, later = outcomes(TWO)
    assert first > 0
    assert later == 0
    assert [one.scores for one in found] == [one.scores for one in expected]
