"""One resident worker over many candidates: cancelled ones leave it usable, and memory does not grow."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from evaluation_helpers import CHOICE, GENERATION, WORDS, make_model, make_tokenizer, questions, write_task

from evomerge.errors import Interrupted
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.execution.base import Executor, StopSignal
from evomerge.execution.local import LocalExecutor
from evomerge.execution.worker import LiveWorker
from evomerge.merge.live.models import LiveModels
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Split, State


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three random models with a tokenizer, and a task of each kind."""
    folder = tmp_path_factory.mktemp("resident")
    tokenizer = make_tokenizer()
    for seed, name in enumerate(("base", "a", "b")):
        make_model(len(tokenizer), seed).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    draw = random.Random(0)
    asked = questions(4, seed=1)
    choices = [{"question": q, "choices": draw.sample(WORDS, 4), "gold": draw.randrange(4)} for q in asked]
    write_task(folder / "tasks", "choice", {"test": choices}, **CHOICE)
    write_task(folder / "tasks", "said", {"test": [{"question": q, "answer": "red"} for q in asked]}, **GENERATION)
    return SimpleNamespace(folder=folder, tasks=folder / "tasks")


def worker(family: SimpleNamespace, stop: StopSignal) -> Executor:
    specs = [TaskSpec("choice", "brier_score"), TaskSpec("said", "exact_match")]
    harness = LmHarness(specs, sizes=SplitSizes(search=4, validation=0, test=0), include_path=[family.tasks])
    return LocalExecutor(LiveWorker(LiveModels(dtype="float32"), harness, stop=stop))


def merge(family: SimpleNamespace, method: str, a: float, b: float) -> Recipe:
    parents = tuple(Parent(name, ModelSource(str(family.folder / name))) for name in ("a", "b"))
    parameters: dict[str, Any] = {"weight": {"a": a, "b": b}, "lambda": 1.0}
    if method != "task_arithmetic":
        parameters["density"] = 0.6
    base = Parent("base", ModelSource(str(family.folder / "base")))
    return Recipe(method, parents, base, parameters, dtype="float32")


def run(executor: Executor, recipe: Recipe, items: dict[str, tuple[int, ...]] | None = None) -> Outcome:
    executor.submit(Job(0, recipe, Split.SEARCH, items))
    return executor.collect()


def scores(
    executor: Executor, recipe: Recipe, items: dict[str, tuple[int, ...]] | None = None
) -> tuple[ItemScore, ...]:
    outcome = run(executor, recipe, items)
    assert outcome.state is State.COMPLETE, outcome.error
    return outcome.scores


class Looks:
    """A clock that only moves when a worker looks at it, which it does before each forward pass."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> float:
        self.n += 1
        return float(self.n)


def test_a_cancelled_candidate_leaves_the_model_usable(family: SimpleNamespace) -> None:
    clock = Looks()
    stop = StopSignal(clock)
    executor = worker(family, stop)
    one, other = merge(family, "task_arithmetic", 0.7, 0.7), merge(family, "ties", 0.9, 0.4)
    expected = [scores(worker(family, StopSignal()), recipe) for recipe in (one, other)]
    assert expected[0] != expected[1]
    for looks in (1, 2, 3, 7):  # before the first pass, between the tasks, while answers are written
        assert scores(executor, one) == expected[0]
        clock.n, stop.deadline = 0, float(looks)
        with pytest.raises(Interrupted):
            run(executor, other)
        assert clock.n in (looks, looks + 1)  # once more to see that it was a stop, and no error of the task
        stop.deadline = None
    assert scores(executor, other) == expected[1]


@pytest.mark.slow
def test_after_500_candidates_the_scores_are_a_fresh_workers_and_memory_has_not_grown(family: SimpleNamespace) -> None:
    executor, draw = worker(family, StopSignal()), random.Random(3)
    after_warming, seen = 0, set()
    for number in range(500):
        method = draw.choice(("task_arithmetic", "ties", "dare_ties"))
        recipe = merge(family, method, draw.random() + 0.1, draw.random() + 0.1)
        # Answers take many passes: every tenth candidate, and the last, writes some.
        found = scores(executor, recipe, None if number % 10 == 9 else {"choice": (0, 1)})
        seen.add(str(found))
        if number == 150:
            after_warming = resident()
    grown = resident() - after_warming
    assert grown < 8 << 20, f"{grown} bytes more after 350 further candidates"
    assert len(seen) > 400
    assert found == scores(worker(family, StopSignal()), recipe)


def resident() -> int:
    """Bytes of this process in memory."""
    path = Path("/proc/self/statm")
    if not path.exists():
        pytest.skip("this system does not say how much memory a process takes")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
