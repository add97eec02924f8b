"""A search that begins with a recipe: its groups are the regions, its numbers the starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from genome_cases import BASE, METHOD, PARENTS
from test_genome_method_choice import CHOICE, SUM, TRIM

from evomerge.errors import ConfigError
from evomerge.genome import ParameterSpace
from evomerge.genome.methods import MethodChoice
from evomerge.optimizers import make_optimizer
from evomerge.recipe import Group, Recipe
from evomerge.record import Result
from evomerge.strategies.vector import VectorStrategy

INSIDE = (("attention", "q_proj"), ("mlp", "up_proj"))
TENSORS = [
    ("embedding", None, "embed"),
    *((role, i, f"layers.{i}.{name}") for i in range(4) for role, name in INSIDE),
    ("norm", None, "norm"), ("head", None, "head"),
]  # fmt: skip
GROUPS = (
    Group({"weight": {"math": 0.3, "ja": 1.2}}, (0, 2), None, tensors=("q_proj",)),
    Group({"weight": 0.4, "lambda": 1.5, "election": "count"}, (0, 3)),
    Group({"weight": 0.9}, (1, 2), ("mlp",)),  # never: the one before it matches first
)
START = Recipe("mix", PARENTS, BASE, {"weight": 0.7, "t": 0.25, "density": 0.5}, GROUPS, seed=5)


def space(start: Recipe = START, method: Any = METHOD, **arguments: Any) -> ParameterSpace:
    return ParameterSpace(method, PARENTS, base=BASE, n_layers=4, start=start, tensors=TENSORS, **arguments)


def test_groups_are_the_regions_and_those_that_no_tensor_needs_have_no_genes() -> None:
    one = space()
    assert [region.name for region in one.regions] == ["layers0-1.q_proj", "layers0-2", "rest"]
    genes = {gene.name: gene for gene in one.genes}
    assert genes["weight.math.layers0-1.q_proj"].start == 0.3
    assert genes["weight.ja.layers0-2"].start == 0.4
    assert genes["weight.ja.rest"].start == 0.7
    assert genes["t.rest"].start == 0.25
    assert {name: gene.start for name, gene in genes.items() if name.startswith("lambda")} == {
        "lambda.layers0-1.q_proj": 1.0, "lambda.layers0-2": 1.5, "lambda.rest": 1.0
    }  # fmt: skip


def test_the_first_genome_is_the_recipe_and_others_keep_its_structure() -> None:
    one = space()
    first = one.genome(one.start)
    assert one.first == first and one.decode(first) == START
    assert one.decode(first).content_hash == START.content_hash
    place = next(i for i, gene in enumerate(one.genes) if gene.name == "weight.ja.layers0-2")
    other = one.decode((*first[:place], 1.4, *first[place + 1 :]))
    for role, layer, name in TENSORS:
        was, now = START.parameters_of(role, layer, name), other.parameters_of(role, layer, name)
        expected = {parameter.name: was.get(parameter.name, parameter.default) for parameter in METHOD.parameters}
        plain = {key: value if not hasattr(value, "items") else dict(value) for key, value in now.items()}
        per_parent = {
            key: dict(expected[key])
            if hasattr(expected[key], "items")
            else dict.fromkeys(("math", "ja"), expected[key])
            for key in ("weight", "density")
        }
        if name in ("layers.0.up_proj", "layers.1.up_proj", "layers.2.up_proj", "layers.2.q_proj"):
            per_parent["weight"]["ja"] = 1.4
        assert plain == {
            key: value if isinstance(value, (bool, str)) else pytest.approx(value)
            for key, value in {**expected, **per_parent}.items()
        }


def test_without_groups_the_blocks_of_the_configuration_stay() -> None:
    one = space(replace(START, groups=()), blocks=2, embeddings="block")
    assert {gene.name for gene in one.genes} >= {"weight.math.layers0-1", "density.ja.layers2-3", "lambda"}
    assert one.decode(one.genome(one.start)) == replace(START, groups=())


def test_numbers_outside_of_a_range_are_named_with_the_cure() -> None:
    with pytest.raises(ConfigError) as caught:
        space(replace(START, groups=(), parameters={"weight": {"math": 2.0, "ja": 1.0}, "density": 0.01}), blocks=1,
              embeddings="block", parameters={"t": 0.9})  # fmt: skip
    assert caught.value.problems == (
        "`space.start`: weight of mix for math is 2 in layers0-3, outside of the range of its gene, [0, 1.5]; widen it "
        "with `space.genes.weight: {high: 2}`",
        "`space.start`: density of mix for math is 0.01 in layers0-3, outside of the range of its gene, [0.05, 1]; "
        "widen it with `space.genes.density: {low: 0.01}`",
        "`space.start`: density of mix for ja is 0.01 in layers0-3, outside of the range of its gene, [0.05, 1]; "
        "widen it with `space.genes.density: {low: 0.01}`",
        "`space.start`: t of mix is 0.5 in layers0-3, but the configuration fixes it at 0.9; leave that out",
    )
    wide = {"weight": {"high": 2.0}, "density": {"low": 0.01}}
    start = replace(START, groups=(), parameters={"weight": {"math": 2.0, "ja": 1.0}, "density": 0.01})
    one = space(start, genes=wide)
    assert one.decode(one.genome(one.start)) == start


def test_methods_of_groups_start_the_genes_of_the_method() -> None:
    groups = (Group({"weight": 0.5, "density": 0.25}, (0, 2), method="trim"),)
    start = Recipe("sum", PARENTS, BASE, {"weight": 0.8, "lambda": 2.0}, groups)
    one = space(start, CHOICE)
    genes = {gene.name: gene for gene in one.genes}
    assert (genes["method.layers0-1"].start, genes["method.rest"].start) == (2.0, 0.0)
    assert (genes["trim.density.layers0-1"].start, genes["trim.density.rest"].start) == (0.25, 0.5)
    assert (genes["sum.lambda"].start, genes["sum.weight.ja.rest"].start) == (2.0, 0.8)
    assert one.decode(one.genome(one.start)) == start
    with pytest.raises(
        ConfigError, match=r"merges by trim, but `method\.name` is sum: name that method, or all of them"
    ):
        space(start, SUM)
    with pytest.raises(ConfigError, match=r"merges by trim, which `space\.method\.choices` does not list"):
        space(start, MethodChoice((SUM, replace(TRIM, name="cut")), "sum"))
    with pytest.raises(ConfigError, match=r"merges by sum, trim, but `space\.method\.scope` is global"):
        space(start, MethodChoice((SUM, TRIM), "sum", "global"))


@pytest.mark.parametrize("name", ["cma", "mixed", "random"])
def test_the_recipe_is_the_first_candidate_whatever_the_optimizer_and_a_state_goes_on(name: str) -> None:
    one = space()

    def make() -> VectorStrategy:
        return VectorStrategy(one, make_optimizer(name, n_dims=one.n_dims, start=one.start, seed=1, kinds=one.kinds))

    strategy, other = make(), make()
    sure = strategy.sure_asks
    proposals = [strategy.ask() for _ in range(3)]
    assert [proposal.number for proposal in proposals] == [0, 1, 2]
    assert proposals[0].recipe == START and strategy.again(0, proposals[0].genome).recipe == START
    assert strategy.sure_asks <= max(sure - 1, 0)
    with pytest.raises(ValueError, match="no" if name == "-" else "."):
        other.load_state(b"x" + strategy.dump_state()[1:])
    other.load_state(strategy.dump_state())
    for each in (strategy, other):
        each.tell(1, Result((0.5,)))
        each.tell(0, Result((0.4,)))
        with pytest.raises(RuntimeError):
            each.tell(0, Result((0.4,)))
    assert strategy.ask() == other.ask()
    with pytest.raises(RuntimeError, match="never asked"):
        make().tell(0, None)
