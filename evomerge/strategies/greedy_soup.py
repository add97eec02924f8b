"""Greedy soup: a uniform average that takes up one model after the other. https://arxiv.org/abs/2203.05482, recipe 1.

The parents are scored first, and sorted by their score on the search items. The soup begins with the best; each of the
others, best first, is tried in it and stays if the average of all is at least as good (as in the paper; the authors'
code asks for more). When all were tried, the search is over: N parents take N − 1 evaluations beside their own.
Nothing is drawn at random; no space and no optimizer is used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evomerge.errors import ConfigError
from evomerge.recipe import Parent, Recipe, TokenizerBuild
from evomerge.recipe.tokenizer import models_named
from evomerge.record import Result
from evomerge.strategies.base import Proposal, Strategy, StrategySetup


class GreedySoup(Strategy):
    """Proposes each parent, then uniform averages of more and more of them.

    Args:
        parents: the recipe of each parent alone.
        average: the recipe of the average of all of them; soups are like it, with fewer parents.
        weights: `(n_objectives,)`, the weights of the objectives.
    """

    def __init__(self, parents: Sequence[Recipe], average: Recipe, weights: Sequence[float] = (1.0,)) -> None:
        self._parents = tuple(parents)
        self._average = average
        self._weights = tuple(weights)
        self._n_asked = 0
        self._outstanding: dict[int, list[int]] = {}  # number -> the places of its parents
        self._scores: dict[int, float | None] = {}  # place -> what the parent alone is worth; None: it failed
        self._order: list[int] | None = None  # of the parents that did not fail, the best first, once all were told
        self._soup: list[int] = []
        self._best = -math.inf
        self._n_tried = 0  # of the order

    @classmethod
    def make(cls, setup: StrategySetup) -> GreedySoup:
        """Return a strategy of the configured parents.

        Raises:
            ConfigError: if there is only one parent, or they cannot be averaged.
        """
        alone = [recipe for recipe in setup.parents.values() if len(recipe.parents) == 1]
        average = next((recipe for recipe in setup.parents.values() if len(recipe.parents) == len(alone)), None)
        if len(alone) < 2 or average is None:
            raise ConfigError(
                ["the strategy greedy_soup averages two or more parents of one shape; name more in `models.parents`"]
            )
        return cls(alone, average, setup.weights)

    @property
    def population(self) -> int:
        """All parents: the soups are compared with them."""
        return len(self._parents)

    @property
    def sure_asks(self) -> int:
        """The parents that were not asked yet."""
        return max(0, len(self._parents) - self._n_asked)

    @property
    def ready(self) -> bool:
        """Whether a parent was not asked yet, or a soup waits that depends on nothing outstanding."""
        if self._n_asked < len(self._parents):
            return True
        return self._order is not None and not self._outstanding and self._n_tried < len(self._order)

    def ask(self) -> Proposal:
        """Return the next parent, or the soup with the next one.

        Raises:
            RuntimeError: if it is not `ready`.
        """
        if not self.ready:
            raise RuntimeError("nothing can be asked before the outstanding soup is told, or after all were tried")
        number, self._n_asked = self._n_asked, self._n_asked + 1
        places = [number]
        if number >= len(self._parents):
            assert self._order is not None  # it is ready
            places = sorted([*self._soup, self._order[self._n_tried]])
        self._outstanding[number] = places
        return self.again(number, None)

    def tell(self, number: int, result: Result | None) -> None:
        """Take the score of a parent, or keep the soup if it is at least as good as the one before.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        if number not in self._outstanding:
            raise RuntimeError(f"proposal {number} was never asked or is told twice")
        places = self._outstanding.pop(number)
        value = None if result is None else result.scalar(self._weights)
        if value is not None and math.isnan(value):
            value = None
        if number < len(self._parents):
            self._scores[number] = value
            if len(self._scores) == len(self._parents):
                self._begin()
            return
        self._n_tried += 1
        if value is not None and value >= self._best:
            self._soup, self._best = places, value

    def _begin(self) -> None:
        """Begin the soup with the best parent."""
        scored = {place: value for place, value in self._scores.items() if value is not None}
        self._order = sorted(scored, key=lambda place: (-scored[place], place))
        if self._order:
            self._soup, self._best, self._n_tried = self._order[:1], scored[self._order[0]], 1

    def again(self, number: int, genome: tuple[float, ...] | None) -> Proposal:
        """Return an outstanding proposal once more."""
        del genome
        places = self._outstanding[number]
        if len(places) == 1:
            return Proposal(number, self._parents[places[0]])
        # Each parent was proposed alone, under the number of its place.
        soup = self._average_of([self._average.parents[place] for place in places])
        return Proposal(number, soup, parents=tuple(places))

    def diagnostics(self) -> Mapping[str, Any]:
        """Return the parents that the `soup` has, the best first as it took them up; nothing before it was begun."""
        return {"soup": [self._average.parents[place].name for place in self._soup]} if self._soup else {}

    def _average_of(self, parents: Sequence[Parent]) -> Recipe:
        """Return the average of some parents; what another one would lend comes from the first of them or the base.

        Others of which a tokenizer is built by name stay with the weight 0, so that all soups have its vocabulary.
        """
        missing = {parent.name for parent in self._average.parents} - {parent.name for parent in parents}
        build, idle = self._average.tokenizer, set[str]()
        if isinstance(build, TokenizerBuild):
            idle = missing & {build.lender, *(name for _, name in models_named(build))}
            missing -= idle
        lenders: dict[str, Any] = {
            key: None
            for key in ("tokenizer", "generation_config", "chat_template", "vision")
            if getattr(self._average, key) in missing
        }
        kept = tuple(parent for parent in self._average.parents if parent.name not in missing)
        soup = replace(self._average, parents=kept, **lenders)
        weight = {parent.name: float(parent.name not in idle) for parent in kept}
        return replace(soup, parameters={**soup.parameters, "weight": weight}) if idle else soup

    def dump_state(self) -> bytes:
        """Return what was asked and told, as JSON."""
        return json.dumps(
            {
                "n_asked": self._n_asked,
                "outstanding": list(self._outstanding.items()),
                "scores": list(self._scores.items()),
                "order": self._order,
                "soup": self._soup,
                "best": self._best,
                "n_tried": self._n_tried,
                "parents": [parent.name for parent in self._average.parents],
            }
        ).encode()

    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state`.

        Raises:
            ValueError: if the state is not one of this strategy with these parents.
        """
        try:
            data = json.loads(state)
            if data["parents"] != [parent.name for parent in self._average.parents]:
                raise ValueError("the state is of a soup of other parents")
            self._n_asked, self._n_tried, self._best = data["n_asked"], data["n_tried"], data["best"]
            self._outstanding, self._scores = dict(data["outstanding"]), dict(data["scores"])
            self._order, self._soup = data["order"], data["soup"]
        except (KeyError, TypeError, UnicodeDecodeError) as error:
            raise ValueError("the state is not one of the strategy greedy_soup") from error
