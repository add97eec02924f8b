"""The greedy soup: who is tried, who stays, and that it continues where it stopped."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evomerge import api
from evomerge.errors import ConfigError
from evomerge.recipe import ModelSource, Parent, Recipe, TokenizerBuild
from evomerge.recipe.tokenizer import ModelToken, TokenRow
from evomerge.record import Result
from evomerge.strategies import Proposal, StrategySetup, make_strategy
from evomerge.strategies.greedy_soup import GreedySoup
from tests.tiny_search import composed, tiny_model, write_tiny

NAMES = ("a", "b", "c", "d")
PARENTS = tuple(Parent(name, ModelSource(name)) for name in NAMES)
AVERAGE = Recipe("linear", PARENTS, tokenizer="b", chat_template="c", dtype="bfloat16")
Worth = Callable[[frozenset[str]], float | None]


def soup(parents: tuple[Parent, ...] = PARENTS) -> GreedySoup:
    alone = {parent.name: Recipe("linear", (parent,)) for parent in parents}
    setup = StrategySetup(
        space=pytest.fail, optimizer=pytest.fail, elite=None, seed=0, weights=(1.0,),
        parents={**alone, "average": AVERAGE} if len(parents) > 1 else alone,
    )  # fmt: skip
    made = make_strategy("greedy_soup", setup)
    assert isinstance(made, GreedySoup)
    return made


def names(proposal: Proposal) -> frozenset[str]:
    assert proposal.recipe.method == "linear"
    assert not proposal.recipe.parameters, "equal weights"
    return frozenset(parent.name for parent in proposal.recipe.parents)


def run(worth: Worth, restart: bool = False) -> list[frozenset[str]]:
    """Everything that is proposed, by the parents in it, until the strategy has nothing left."""
    strategy, asked = soup(), []
    while strategy.ready:
        proposal = strategy.ask()
        if restart:
            state, strategy = strategy.dump_state(), soup()
            strategy.load_state(state)
            assert strategy.again(proposal.number, None) == proposal
        asked.append(names(proposal))
        value = worth(asked[-1])
        strategy.tell(proposal.number, None if value is None else Result((value,)))
        if restart:
            state, strategy = strategy.dump_state(), soup()
            strategy.load_state(state)
            assert strategy.dump_state() == state
    return asked


def sets(*words: str) -> list[frozenset[str]]:
    return [frozenset(word) for word in words]


ALONE = {"a": 0.5, "b": 0.9, "c": 0.7, "d": 0.7}


def of_parts(values: dict[str, float], better: dict[str, float]) -> Worth:
    return lambda parts: values[next(iter(parts))] if len(parts) == 1 else better.get("".join(sorted(parts)), 0.0)


@pytest.mark.parametrize("restart", [False, True])
def test_the_best_are_tried_first_and_only_those_that_help_stay(restart: bool) -> None:
    worth = of_parts(ALONE, {"bc": 0.95, "bcd": 0.94, "abc": 0.96})
    assert run(worth, restart) == sets("a", "b", "c", "d", "bc", "bcd", "abc")


def test_an_average_that_is_as_good_stays() -> None:
    assert run(of_parts(ALONE, {"bc": 0.9, "bcd": 0.9})) == sets("a", "b", "c", "d", "bc", "bcd", "abcd")


def test_without_a_gain_the_best_parent_stays_alone() -> None:
    assert run(of_parts(ALONE, {})) == sets("a", "b", "c", "d", "bc", "bd", "ab")


@pytest.mark.parametrize("restart", [False, True])
def test_parents_that_failed_are_not_tried_and_soups_that_failed_are_dropped(restart: bool) -> None:
    def worth(parts: frozenset[str]) -> float | None:
        return None if parts in sets("d", "bc") else math.nan if parts == {"c"} else ALONE.get("".join(parts), 2.0)

    assert run(worth, restart) == sets("a", "b", "c", "d", "ab")
    assert run(lambda parts: None) == sets("a", "b", "c", "d")


def test_the_result_is_at_least_the_best_parents() -> None:
    for seed in range(20):
        values = {}

        def worth(parts: frozenset[str], seed: int = seed, values: dict[frozenset[str], float] = values) -> float:
            return values.setdefault(parts, math.sin(hash((seed, tuple(sorted(map(ord, parts)))))))

        asked = run(worth)
        assert len(asked) == 2 * len(NAMES) - 1
        soups = [worth(parts) for parts in asked]
        best = max(soups[: len(NAMES)])
        kept = asked[soups.index(best)]
        for parts, value in zip(asked[len(NAMES) :], soups[len(NAMES) :], strict=True):
            assert parts > kept
            assert len(parts) == len(kept) + 1
            if value >= best:
                kept, best = parts, value
        assert best >= max(soups[: len(NAMES)])


def test_soups_wait_for_all_parents_and_for_the_soup_before() -> None:
    strategy = soup()
    assert strategy.sure_asks == 4
    asked = [strategy.ask() for _ in NAMES]
    assert strategy.sure_asks == 0
    for proposal in reversed(asked):  # in any order
        assert not strategy.ready
        with pytest.raises(RuntimeError, match="nothing can be asked"):
            strategy.ask()
        strategy.tell(proposal.number, Result((float(proposal.number),)))
    first = strategy.ask()
    assert names(first) == {"c", "d"}
    assert not strategy.ready
    strategy.tell(first.number, Result((9.0,)))
    assert names(strategy.ask()) == {"b", "c", "d"}
    with pytest.raises(RuntimeError, match="proposal 4 was never asked or is told twice"):
        strategy.tell(4, None)


def test_a_soup_is_like_the_average_but_for_lenders_that_are_not_in_it() -> None:
    strategy = soup()
    for proposal in [strategy.ask() for _ in NAMES]:
        strategy.tell(proposal.number, Result((ALONE[proposal.recipe.parents[0].name],)))
    recipe = strategy.ask().recipe
    assert (recipe.dtype, recipe.tokenizer, recipe.chat_template) == ("bfloat16", "b", "c")
    strategy.tell(4, None)
    recipe = strategy.ask().recipe
    assert {parent.name for parent in recipe.parents} == {"b", "d"}
    assert (recipe.tokenizer, recipe.chat_template) == ("b", None)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="two or more parents"):
        soup(PARENTS[:1])
    with pytest.raises(ConfigError, match="unknown option of the strategy greedy_soup 'size'"):
        make_strategy("greedy_soup", StrategySetup(pytest.fail, pytest.fail, {}, None, 0, (1.0,), {"size": 3}))
    for state in (b"{}", b"[]", b"\xff", soup().dump_state().replace(b'"a"', b'"x"')):
        with pytest.raises(ValueError, match=re.compile("state", re.IGNORECASE)):
            soup().load_state(state)


@pytest.mark.slow
def test_a_search_ends_when_all_parents_were_tried_and_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    tiny_model(tmp_path / "models" / "c", 3)
    words = ["strategy.name=greedy_soup", f"+models.parents.c={tmp_path}/models/c"]
    whole = api.search(composed(file, *words, "budget.candidates=50"), run_dir=tmp_path / "whole").path
    records = api.records(whole)
    assert [len(record.recipe.parents) for record in records[:4]] == [1, 1, 1, 2]
    assert len(records) == 5
    assert [record.same_as is not None for record in records[:3]] == [True] * 3, "the baselines are those parents"
    parts = api.search(composed(file, *words, "budget.candidates=4"), run_dir=tmp_path / "parts").path
    assert len(api.records(parts)) == 4
    api.resume(parts, budget={"candidates": 50})
    rows = [[(r.number, r.recipe.content_hash, r.fitness) for r in api.records(path)] for path in (whole, parts)]
    assert rows[0] == rows[1]


def test_a_soup_keeps_the_vocabulary_that_is_built_of_a_parent_without_it() -> None:
    rows = {"x": TokenRow(ModelToken("d")), "y": TokenRow(ModelToken("a"))}
    average = replace(AVERAGE, tokenizer=TokenizerBuild("c", rows), chat_template="b")
    strategy = GreedySoup([Recipe("linear", (parent,)) for parent in PARENTS], average)
    for score in (0.4, 0.1, 0.3, 0.2):
        strategy.tell(strategy.ask().number, Result((score,)))
    soup = strategy.ask().recipe  # of a and c
    assert soup.tokenizer == average.tokenizer
    assert soup.parameters == {"weight": {"a": 1.0, "c": 1.0, "d": 0.0}}
    assert soup.chat_template is None, "b lends nothing"
    strategy.tell(4, Result((0.0,)))
    soup = strategy.ask().recipe  # of a and d
    assert soup.parameters == {"weight": {"a": 1.0, "c": 0.0, "d": 1.0}}


def test_a_soup_says_of_whom_it_is_made_and_names_its_parents() -> None:
    strategy, asked = soup(), []
    assert strategy.diagnostics() == {}
    while strategy.ready:
        asked.append(strategy.ask())
        alone = [NAMES.index(name) for name in names(asked[-1])]
        strategy.tell(asked[-1].number, Result((float(min(alone)),)))
    assert [one.parents for one in asked] == [(), (), (), (), (2, 3), (1, 3), (0, 3)]
    assert strategy.diagnostics() == {"soup": ["d"]}
