"""Recipes, records and item scores for the tests of the store."""

from __future__ import annotations

from typing import Any

from evomerge.recipe import Group, ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Record, Score, Split, State


def make_recipe(weight: float = 0.5) -> Recipe:
    return Recipe(
        method="task_arithmetic",
        base=Parent("base", ModelSource("org/base")),
        parents=(Parent("math", ModelSource("org/math", revision="abc")), Parent("日本語", ModelSource("org/ja"))),
        parameters={"weight": {"math": weight, "日本語": 1 - weight}, "lambda": 1.0},
        groups=(Group({"weight": 0.25}, layers=(0, 2), roles=("mlp",), name="lower mlps"),),
    )


def make_record(number: int = 0, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "number": number,
        "name": f"candidate {number}",
        "state": State.COMPLETE,
        "recipe": make_recipe((number % 97) / 97),
        "genome": (0.1 + number, 1 / 3, 5e-324),
        "fitness": 0.1 + 0.2 + number,
        "scores": {Split.SEARCH: Score(0.1 + 0.2, 0.1, 1 / 3, 17)},
        "seconds": 1.25,
        "device": "cpu",
    }
    return Record(**{**fields, **changes})


def make_items(n: int = 5, task: str = "arithmetic", start: int = 0) -> list[ItemScore]:
    return [
        ItemScore(task, 3 * i + start, {"exact_match": float(i % 2), "loglikelihood": -1 / (i + 3)})
        for i in reversed(range(n))
    ]
