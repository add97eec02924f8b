"""The merge methods, as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evomerge.errors import RecipeError
from evomerge.merge.methods.base import Method
from evomerge.merge.methods.registry import METHODS, find_method
from evomerge.recipe.method import TOPICS

OTHERS = TOPICS[-1]
"""Where methods of an unknown topic are listed."""


def methods() -> list[dict[str, Any]]:
    """Return the merge methods by topic; see `evomerge.api.methods`."""
    found = []
    for name in METHODS:
        try:
            found.append(_data(find_method(name)))
        except RecipeError:
            if name in METHODS.built_in:
                raise  # an installed package that is broken hides its own methods alone; naming one says why
    return [one for topic in TOPICS for one in found if one["topic"] == topic]


def method(name: str) -> dict[str, Any]:
    """Return the declaration of one merge method; see `evomerge.api.method`."""
    return _data(find_method(name))


def _data(found: Method) -> dict[str, Any]:
    spec = found.spec
    data = asdict(spec)
    base = "always" if spec.needs_base else "never" if found.reads_base is None else "sometimes"
    parameters = [{**asdict(one), "kind": one.kind} for one in spec.parameters]
    return {
        **data,
        "topic": spec.topic if spec.topic in TOPICS else OTHERS,
        "base": base,
        "base_with": _base_with(found) if base == "sometimes" else {},
        "parameters": parameters,
    }


def _base_with(found: Method) -> dict[str, list[str]]:
    """Return the words of parameters with each of which alone, all else at its default, a method reads its base."""
    n_parents = found.spec.n_parents[0]
    values: dict[str, Any] = {
        one.name: (one.default,) * n_parents if one.per_parent else one.default for one in found.spec.parameters
    }
    asked = {
        one.name: [word for word in one.choices if found.uses_base({**values, one.name: word})]
        for one in found.spec.parameters
        if one.choices and not one.per_parent
    }
    return {name: words for name, words in asked.items() if words}
