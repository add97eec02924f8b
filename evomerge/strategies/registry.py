"""Strategies by name: built in, from an installed package, or from a user's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.errors import ConfigError, nearest_name, unknown_name
from evomerge.strategies.base import Strategy, StrategySetup
from evomerge.system.registry import Registry

STRATEGIES: Registry[type[Strategy]] = Registry(
    "strategy",
    {
        "vector": "evomerge.strategies.vector:VectorStrategy",
        "greedy_soup": "evomerge.strategies.greedy_soup:GreedySoup",
    },
    group="evomerge.strategies",
)


def make_strategy(name: str, setup: StrategySetup) -> Strategy:
    """Return the strategy of that name.

    Raises:
        ConfigError: with every mistake that `check_strategy` finds in the name and the options.
    """
    problems = check_strategy(name, setup.options)
    if problems:
        raise ConfigError(problems)
    return STRATEGIES.find(name).make(setup)


def check_strategy(name: str, options: Mapping[str, Any]) -> list[str]:
    """Return the mistakes in a strategy's name and options, one sentence each."""
    problems = STRATEGIES.problems(name)
    if problems:
        near = nearest_name(name, STRATEGIES.built_in)  # whose options are probably meant
        return problems if near is None else [*problems, *check_strategy(near, options)]
    found: Any = STRATEGIES.find(name)
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        return [f"the strategy {name} must be a class that inherits evomerge.strategies.Strategy, not {found!r}"]
    problems = [
        unknown_name(f"option of the strategy {name}", key, found.OPTIONS)
        for key in options
        if key not in found.OPTIONS
    ]
    known = {key: value for key, value in options.items() if key in found.OPTIONS}
    return [*problems, *found.problems(known)]
