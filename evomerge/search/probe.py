"""A few answers of each parent before anything long begins: whether they are cut, and what a candidate costs.

Nothing of it is recorded as a candidate, and nothing that is decided depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge.errors import Interrupted
from evomerge.execution.base import Executor, StopSignal
from evomerge.recipe import Recipe
from evomerge.record import ItemScore, Job, Outcome, Split, State
from evomerge.search.baselines import refuse_broken
from evomerge.search.budget import Budget
from evomerge.search.plan import Cost

MOST, LEAST = 8, 4
"""How many items of each task a probe asks; where fewer would be asked, there is none."""

SHARE = 0.05
"""A probe asks at most this share of the items that the search will ask."""

RECIPES = 3
"""How many merges are built to find what a candidate costs: the first one warms up."""


@dataclass(frozen=True)
class Probed:
    """What a probe found.

    Attributes:
        scores: name of a parent to the scores of its answers; a parent that could not be scored is left out, since the
            baselines will say so.
        cost: what a candidate costs; None where it could not be measured.
    """

    scores: Mapping[str, Sequence[ItemScore]]
    cost: Cost | None


def probe_items(
    items: Mapping[str, Sequence[int]],
    *,
    per_candidate: int,
    budget: Budget,
    parents: int,
    validation: int,
    batch_size: int,
) -> dict[str, tuple[int, ...]] | None:
    """Return the items of a probe, the first ones of each task; None: the search is too short for one.

    Args:
        items: task name to its search items.
        per_candidate: how many of them a candidate answers.
        budget: the limits of the search.
        parents: how many parents there are.
        validation: how many validation items there are.
        batch_size: most items of a batch, which a probe does not exceed.
    """
    pool = sum(map(len, items.values()))
    limits = [one for one in (budget.items, None if budget.candidates is None else budget.candidates * per_candidate)
              if one is not None]  # fmt: skip
    asked = parents * (pool + validation) + min(limits, default=MOST * len(items) * 1000)
    each = min(MOST, int(SHARE * asked / (parents + RECIPES) / len(items)), batch_size // len(items))
    if each < LEAST or each * len(items) >= pool:
        return None
    return {task: tuple(own[:each]) for task, own in items.items()}


def probe(
    executor: Executor,
    parents: Mapping[str, Recipe],
    recipes: Sequence[Recipe],
    items: Mapping[str, tuple[int, ...]],
    *,
    batch_size: int,
    stop: StopSignal,
) -> Probed:
    """Ask each parent some items, and time a few merges.

    Args:
        executor: runs them.
        parents: name to recipe of each parent.
        recipes: `RECIPES` merges such as candidates are; fewer: their cost is not measured.
        items: what is asked, as `probe_items` returns it.
        batch_size: most items of a batch.
        stop: by which the user can stop.

    Raises:
        CheckpointError: if a parent cannot be built.
        ExecutionError: if the device failed.
        Interrupted: if the stop signal came first.
    """
    scores = {}
    jobs = [Job(-1 - i, recipe, Split.SEARCH, items) for i, recipe in enumerate(parents.values())]
    names = {-1 - i: name for i, name in enumerate(parents)}
    for outcome in _run(executor, jobs, stop):
        name = names[outcome.job.candidate]
        refuse_broken(outcome, name)
        if outcome.state == State.COMPLETE:
            scores[name] = outcome.scores
    few = {task: own[: max(1, len(own) // 4)] for task, own in items.items()}
    asked = [items, few, items]
    took = []
    for number, (recipe, own) in enumerate(zip(recipes, asked, strict=False)):
        (outcome,) = _run(executor, [Job(-1001 - number, recipe, Split.SEARCH, own)], stop)
        if outcome.state != State.COMPLETE:  # a corner of the space that the method refuses, say
            return Probed(scores, None)
        took.append((sum(map(len, own.values())), outcome.seconds, outcome.build_seconds))
    if len(took) < RECIPES:
        return Probed(scores, None)
    (n_few, few_seconds, build), (n, seconds, build_again) = took[1:]
    built = (build + build_again) / 2
    return Probed(scores, Cost.fitted((n_few, few_seconds), (n, seconds), build=built, batch_size=batch_size))


def _run(executor: Executor, jobs: Sequence[Job], stop: StopSignal) -> Iterator[Outcome]:
    """Run jobs and yield their outcomes, in the order in which they are done."""
    waiting, outstanding = list(jobs), 0
    while waiting or outstanding:
        if stop.draining and not outstanding:
            raise Interrupted("stopped as asked, before the baselines were scored")
        while waiting and outstanding < executor.capacity and not stop.draining:
            executor.submit(waiting.pop(0))
            outstanding += 1
        for outcome in (executor.collect(), *executor.more()):
            outstanding -= 1
            yield outcome
