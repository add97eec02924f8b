"""The choice that is repeated for the price of luck is the one that searches make, and known answers of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evomerge.analysis.replay import Replay
from evomerge.analysis.verdict import COMBINATION, OBJECTIVE, with_verdict
from evomerge.evaluation.floor import Floor
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import WORST, Constraint, TaskSpec
from evomerge.fitness.scoring import Scoring
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import CONSENSUS, Finalist, ItemScore, Record, Split, State
from evomerge.search.winner import Finals
from evomerge.store import RunDir
from evomerge.store.status import run_status

SPECS = [
    TaskSpec("right", "acc", filter="none", direction="maximize", weight=2.0, objective="skill"),
    TaskSpec("short", "tokens", filter="none", direction="minimize", weight=0.01, objective="cost"),
    TaskSpec("safe", "acc", filter="none", direction="maximize", weight=0.0, constraint=Constraint(min=0.5)),
]


def scores(generator: np.random.Generator, n: int) -> list[ItemScore]:
    """Few items, so that equal finalists and broken limits are common; some have no number of tokens."""
    items = [ItemScore("right", i, {"acc": float(generator.random() < 0.6)}) for i in range(n)]
    items += [
        ItemScore("short", i, {"tokens": float(generator.integers(1, 4)) * 10} if i % 5 else {"other": 0.0})
        for i in range(n)
    ]
    return items + [ItemScore("safe", i, {"acc": float(generator.random() < 0.55)}) for i in range(n)]


def finals_of(run: RunDir, objective: Objectives, kind: str, costs: dict[int, float]) -> Finals:
    """The end of a search over records that are scored already."""
    judge = SimpleNamespace(
        objectives=objective.objectives,
        result=objective.result,
        violated=objective.violated,
        answers=objective.answers,
        difference_error=objective.difference_error,
        of_recipe=lambda recipe: costs[int(recipe.parameters["weight"])],
    )
    scoring: Any = SimpleNamespace(judge=judge, learns=False)
    scoring.difference_error = lambda *both: Scoring.difference_error(scoring, *both)
    scorer: Any = SimpleNamespace(
        has=lambda split: True, score=lambda numbers, split: None, record=lambda number: run.database.record(number)
    )
    strategy: Any = SimpleNamespace(choice=kind, finalists=lambda ranked, n: list(ranked)[:n])
    consensus = next((r for r in run.database.records() if r.is_consensus), None) if kind == "winner" else None
    return Finals(
        run.database,
        scoring,
        scorer,
        SimpleNamespace(phase=lambda *what: None),  # type: ignore[arg-type]
        strategy=strategy,
        n=6,
        weights=[one.weight for one in objective.objectives],
        consensus=lambda ranked: consensus,
    )


@pytest.mark.parametrize("kind", ["winner", "front", "archive"])
def test_the_rule_repeats_what_searches_choose(tmp_path: Path, kind: str) -> None:
    """Limits, two objectives, costs, ties, items that are not judged, and the consensus."""
    won_by_consensus = broken = 0
    for seed in range(12):
        generator = np.random.default_rng(seed)
        objective = Objectives(SPECS)
        with RunDir.create(tmp_path / f"{kind} {seed}", config={"name": "x"}) as run:
            run.database.set_meta(OBJECTIVE, [spec.to_data() for spec in SPECS])
            costs = {}
            for number in range(6):
                rows = {Split.SEARCH: scores(generator, 8), Split.VALIDATION: scores(generator, 8)}
                costs[number] = 0.0 if seed % 2 else -0.02 * float(generator.integers(0, 3))
                result = objective.result(rows[Split.SEARCH])
                record = Record(
                    number,
                    CONSENSUS if number == 5 else f"candidate {number}",
                    State.COMPLETE,
                    Recipe("linear", (Parent("a", ModelSource("org/a")),), parameters={"weight": float(number)}),
                    fitness=result.scalar([one.weight for one in objective.objectives]),
                    scores={split: objective.score(items, split) for split, items in rows.items()},
                    result=result,
                )
                run.database.add(record, scores=rows)
                broken += bool(objective.violated(rows[Split.VALIDATION], Split.VALIDATION))
            # As in a search with a layer cost: what a recipe adds is known to the judge alone.
            choice = finals_of(run, objective, kind, costs if kind != "front" else dict.fromkeys(costs, 0.0)).choose()
            run.database.set_choice(choice)
            won_by_consensus += choice.best == 5
            status = with_verdict(run, run_status(run))
        adjusted, raw = status["best"]["adjusted"], status["best"]["validation"]
        assert adjusted is not None, "the rule did not choose what the search chose"
        assert adjusted["low"] <= adjusted["mean"] <= raw["mean"]
    assert broken > 10 and (kind != "winner" or won_by_consensus)


def replay(kind: str, values: np.ndarray, safe: np.ndarray | None = None, **finalists: Any) -> Replay:
    specs = [SPECS[0]] if safe is None else [SPECS[0], SPECS[2]]
    rows = []
    for k, own in enumerate(values):
        rows.append([ItemScore("right", i, {"acc": float(value)}) for i, value in enumerate(own)])
        if safe is not None:
            rows[-1] += [ItemScore("safe", i, {"acc": float(value)}) for i, value in enumerate(safe[k])]
    k = len(values)
    worth, added = finalists.get("worth", [0.0] * k), finalists.get("added", [0.0] * k)
    return Replay(
        Objectives(specs),
        kind,
        [Finalist(i, worth[i], added[i]) for i in range(k)],
        finalists.get("consensus", [False] * k),
        rows,
    )


def test_known_choices() -> None:
    values = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]], float)
    all_items, last_three = np.array([[1.0, 1, 1, 1], [0, 0, 0, 4.0]])
    counts = {"right": np.array([all_items, last_three])}
    assert replay("winner", values)(counts).tolist() == [0, 0]  # of equals the oldest
    assert replay("winner", values, worth=[0.1, 0.9, 0.2])(counts).tolist() == [2, 1]  # the one with more worth
    assert replay("archive", values, worth=[0.1, 0.9, 0.2])(counts).tolist() == [0, 0]  # there, age alone
    assert replay("winner", values, added=[-0.3, 0.0, -0.3])(counts).tolist() == [1, 1]
    # One point ahead on four items is less than a standard error of the difference.
    assert replay("winner", values, consensus=[False, True, False])(counts).tolist() == [1, 1]


def test_a_limit_that_the_draw_breaks_counts_in_that_draw() -> None:
    values = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], float)
    safe = np.array([[1, 1, 0, 0], [1, 1, 1, 1]], float)
    counts = {"right": np.ones((2, 4)), "safe": np.array([[1.0, 1, 1, 1], [0, 0, 2, 2]])}
    assert replay("winner", values, safe)(counts).tolist() == [0, 1]
    assert replay("front", values, safe)(counts).tolist() == [0, 1]
    assert replay("archive", values, safe)(counts).tolist() == [0, 0]  # the best of its niche, whatever the limits


@pytest.mark.parametrize("kind", ["winner", "archive"])
def test_the_rule_repeats_the_choice_of_the_worst_task(tmp_path: Path, kind: str) -> None:
    """Ratios to parents that change from draw to draw, a floor, a metric to minimize, ties, and the consensus."""
    specs = [
        TaskSpec("right", "acc", direction="maximize", floor=Floor(of_best_parent=0.7)),
        TaskSpec("short", "tokens", direction="minimize"),
        TaskSpec("safe", "acc", direction="maximize", weight=0.0),
    ]

    def judged(generator: np.random.Generator) -> list[ItemScore]:
        full = {(one.task, one.item): one for one in scores(generator, 9)}
        tokens = {i: float(generator.integers(1, 4)) * 10 for i in range(9)}
        return [
            ItemScore(task, item, {"tokens": tokens[item]} if task == "short" else one.metrics)
            for (task, item), one in full.items()
        ]

    won_by_consensus = broken = 0
    for seed in range(8):
        generator = np.random.default_rng(seed)
        objective = Objectives(specs, parents=["a", "b"], combination=WORST)
        config = {"name": "x", "models": {"parents": {"a": "org/a", "b": "org/b"}}}
        with RunDir.create(tmp_path / f"{kind} {seed}", config=config) as run:
            run.database.set_meta(OBJECTIVE, [spec.to_data() for spec in specs])
            run.database.set_meta(COMBINATION, WORST)
            names = {-1: "a", -2: "b", -3: "average"} | {i: f"candidate {i}" for i in range(5)} | {5: CONSENSUS}
            rows = {n: {split: judged(generator) for split in (Split.SEARCH, Split.VALIDATION)} for n in names}
            for number in (-1, -2, -3):
                for split, items in rows[number].items():
                    objective.note_baseline(names[number], split, items)
            for number, name in names.items():
                result = objective.result(rows[number][Split.SEARCH])
                record = Record(
                    number,
                    name,
                    State.COMPLETE,
                    Recipe("linear", (Parent("a", ModelSource("org/a")),), parameters={"weight": float(number) + 3.0}),
                    fitness=result.scalar([1.0]),
                    scores={split: objective.score(items, split) for split, items in rows[number].items()},
                    result=result,
                )
                run.database.add(record, scores=rows[number])
                broken += number >= 0 and bool(objective.violated(rows[number][Split.VALIDATION], Split.VALIDATION))
            choice = finals_of(run, objective, kind, dict.fromkeys((n + 3 for n in names), 0.0)).choose()
            run.database.set_choice(choice)
            won_by_consensus += choice.best == 5
            status = with_verdict(run, run_status(run))
        adjusted, raw = status["best"]["adjusted"], status["best"]["validation"]
        assert adjusted is not None, "the rule did not choose what the search chose"
        assert adjusted["low"] <= adjusted["mean"] <= raw["mean"] <= adjusted["high"] + 1e-9 or kind == "archive"
    assert broken > 5 and (kind != "winner" or won_by_consensus)
