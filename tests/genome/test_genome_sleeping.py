"""Integers, words and flags as genes, and genes that sleep where the method does not ask for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from genome_cases import METHOD, make

from evomerge.errors import ConfigError
from evomerge.genome import ParameterSpace
from evomerge.recipe import Recipe
from evomerge.recipe.method import MethodSpec, Parameter

RULES = replace(
    METHOD,
    parameters=(
        Parameter("weight", 1.0, 0.0, 1.5, per_parent=True),
        Parameter("sparsify", "none", choices=("none", "random", "top")),
        Parameter("density", 0.5, 0.1, 1.0, per_parent=True, when={"sparsify": ("random", "top")}),
        Parameter("rank", 3, 1, 8, per_parent=True, integer=True, when={"sparsify": ("top",)}),
        Parameter("rescale", True, gene=False, when={"sparsify": ("random",)}),
        Parameter("power", 0.5, when={"rescale": (False,)}),
        Parameter("lambda", 1.0, 0.5, 2.5, scope="global", when={"sparsify": ("random", "top")}),
    ),
)
"""A method whose parameters depend on each other, in two steps."""


def genome(space: ParameterSpace, **changes: Any) -> tuple[float, ...]:
    """The start, but for the named genes (dots written as two underscores); words by themselves."""
    values = {gene.name: gene.start for gene in space.genes}
    for name, value in changes.items():
        gene = next(gene for gene in space.genes if gene.name == name.replace("__", "."))
        values[gene.name] = float(gene.choices.index(value)) if isinstance(value, str) else float(value)
    return tuple(values.values())


def awake(space: ParameterSpace, point: tuple[float, ...]) -> set[str]:
    return {gene.name for gene, counts in zip(space.genes, space.awake(point), strict=True) if counts}


def given(recipe: Recipe, layer: int) -> set[str]:
    return set(recipe.parameters_of("mlp", layer))


def test_words_are_genes_by_default_only_where_the_method_says_so() -> None:
    kinds = {gene.name: gene.kind for gene in make(method=RULES).genes}
    assert kinds["sparsify.layers0-1"] == "choice"
    assert kinds["rank.ja.head"] == "integer"
    assert not any(name.startswith("rescale") for name in kinds)
    assert not any(name.startswith(("election", "normalize")) for name in (gene.name for gene in make().genes))


def test_naming_words_and_flags_makes_genes_of_them() -> None:
    space = make(genes={"election": {"choices": ["count", "sum"], "start": "count"}, "normalize": {"scope": "global"}})
    genes = {gene.name: gene for gene in space.genes}
    assert genes["election.head"].choices == ("count", "sum")
    assert (genes["normalize"].choices, genes["normalize"].start) == (("true", "false"), 0.0)
    recipe = space.decode(genome(space, normalize="false", election__head="sum"))
    assert recipe.parameters["normalize"] is False
    assert recipe.parameters_of("head", None)["election"] == "sum"
    assert recipe.parameters_of("mlp", 0)["election"] == "count"


def test_the_range_of_a_whole_number_is_whole() -> None:
    genes = {gene.name: gene for gene in make(method=RULES, genes={"rank": {"low": 2, "high": 5}}).genes}
    assert (genes["rank.math.head"].n_values, genes["rank.math.head"].start) == (4, 3.0)
    for low, start in ((3, 3.0), (4, 6.0)):  # the default, also at the border; else the middle
        genes = {gene.name: gene for gene in make(method=RULES, genes={"rank": {"low": low}}).genes}
        assert genes["rank.ja.head"].start == start
    with pytest.raises(ConfigError) as caught:
        make(
            method=RULES,
            genes={"rank": {"low": 1.5, "log": True, "parents": {"ja": {"fixed": 2.5}}}},
        )
    assert caught.value.problems == (
        "`space.genes.rank`: `low` must be a whole number, but came 1.5",
        "`space.genes.rank`: rank is a whole number, which has no logarithmic scale; leave `log` out",
        "`space.genes.rank.parents.ja` must be a whole number, but came 2.5",
    )


def test_what_does_not_count_is_not_in_the_recipe() -> None:
    space = make(method=RULES)
    point = genome(space, **{"sparsify__layers0-1": "top", "sparsify__head": "random"})
    recipe = space.decode(point)
    assert given(recipe, 0) == {"weight", "sparsify", "density", "rank", "lambda"}
    assert given(recipe, 2) == {"weight", "sparsify"}
    assert set(recipe.parameters_of("head", None)) == {"weight", "sparsify", "density", "rescale", "lambda"}
    assert recipe.parameters == {}
    assert not any(name.startswith("power") for name in (gene.name for gene in space.genes))  # rescale is never false


def test_a_gene_that_sleeps_changes_no_hash_and_one_that_is_awake_does() -> None:
    space = make(method=RULES)
    point = genome(space, **{"sparsify__layers0-1": "top", "sparsify__head": "random"})
    hashed = space.decode(point).content_hash
    mask = space.awake(point)
    assert 0 < sum(mask) < len(mask)
    for i, (gene, counts) in enumerate(zip(space.genes, mask, strict=True)):
        other = (*point[:i], gene.low if point[i] != gene.low else gene.high, *point[i + 1 :])
        assert (space.decode(other).content_hash != hashed) == counts, gene.name
        assert counts or space.awake(other) == mask
        assert counts or space.canonical(other) == space.canonical(point)


def test_sleep_is_passed_on_through_what_sleeps_itself() -> None:
    space = make(method=RULES, genes={"rescale": {}})
    asleep = genome(space, **{"rescale__head": "false"})  # sparsify is none, so rescale has its default
    assert {"rescale.head", "power.head"}.isdisjoint(awake(space, asleep))
    both = genome(space, **{"rescale__head": "false", "sparsify__head": "random"})
    assert {"rescale.head", "power.head"} <= awake(space, both)
    assert space.decode(both).parameters_of("head", None)["power"] == 0.5


def test_a_global_gene_counts_in_the_regions_that_ask_for_it() -> None:
    space = make(method=RULES)
    assert "lambda" not in awake(space, genome(space))
    point = genome(space, **{"sparsify__head": "top", "lambda": 2.0})
    assert "lambda" in awake(space, point)
    recipe = space.decode(point)
    assert recipe.parameters_of("head", None)["lambda"] == 2.0
    assert "lambda" not in recipe.parameters_of("mlp", 0)


def test_a_parameter_that_never_counts_is_no_gene_and_naming_it_is_a_mistake() -> None:
    space = make(method=RULES, parameters={"sparsify": "none"})
    assert {gene.name.split(".")[0] for gene in space.genes} == {"weight"}
    assert set(space.decode(genome(space)).parameters_of("mlp", 0)) == {"weight", "sparsify"}
    with pytest.raises(ConfigError) as caught:
        make(method=RULES, parameters={"sparsify": "none", "rescale": False}, genes={"density": {}})
    assert caught.value.problems == (
        "`space.genes`: density of mix never counts here: it does where sparsify is random or top; leave it out",
        "`space.genes`: rescale of mix never counts here: it does where sparsify is random; leave it out",
    )


def test_what_holds_for_the_whole_model_is_one_gene() -> None:
    whole = MethodSpec("one", "", "", (Parameter("sweep", 2, 1, 4, integer=True, in_groups=False), Parameter("t", 0.5)))
    space = make(method=whole)
    assert [gene.name for gene in space.genes][:1] == ["sweep"]
    assert space.decode(genome(space, sweep=3)).parameters == {"sweep": 3.0}
    with pytest.raises(ConfigError, match="sweep holds for the whole model, so its scope is global"):
        make(method=whole, genes={"sweep": {"scope": "group"}})
    asks = replace(whole, parameters=(*whole.parameters[1:], replace(whole.parameters[0], when={"t": (0.5,)})))
    with pytest.raises(ConfigError, match="sweep of one holds for the whole model and depends on t, so set `scope: gl"):
        make(method=asks)
    assert "sweep" in {gene.name for gene in make(method=asks, genes={"t": {"scope": "global"}}).genes}


def test_the_listing_says_where_a_gene_sleeps() -> None:
    rows = {row["name"]: row for row in make(method=RULES).describe()}
    assert rows["rank.math.head"]["when"] == "sparsify is top"
    assert rows["weight.math.head"]["when"] == ""


def test_the_mean_takes_the_common_words_and_only_numbers_that_were_tried() -> None:
    space = make(method=RULES, blocks=1, embeddings="block")
    name = "layers0-3"
    best = genome(space, **{f"sparsify__{name}": "top", f"density__math__{name}": 0.2, "lambda": 1.0})
    second = genome(space, **{f"sparsify__{name}": "top", f"density__math__{name}": 0.4, "lambda": 2.0})
    third = genome(space, **{f"density__math__{name}": 1.0, "lambda": 2.5, f"weight__ja__{name}": 0.4})
    values = dict(zip((gene.name for gene in space.genes), space.mean([best, second, third]), strict=True))
    assert values[f"sparsify.{name}"] == 2.0
    assert values[f"density.math.{name}"] == pytest.approx(0.3)
    assert values["lambda"] == pytest.approx(1.5)
    assert values[f"weight.ja.{name}"] == pytest.approx((1.0 + 1.0 + 0.4) / 3)
    assert space.mean([third, best])[2] == third[2]  # of a draw, the better one's word
