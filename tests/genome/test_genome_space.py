"""Genes, and the two steps from a point to a recipe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from genome_cases import BASE, PARENTS, make, only

from evomerge.genome import Gene, Space
from evomerge.recipe import Recipe


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.05, 1.0), (-0.5, 1.5), (0.1, 0.7), (1e-3, 3.0)])
@pytest.mark.parametrize("log", [False, True])
def test_a_gene_reaches_exactly_its_bounds_and_never_leaves_them(low: float, high: float, log: bool) -> None:
    if log and low <= 0:
        return
    gene = Gene("g", low, high, low, log)
    assert gene.value(0.0) == low
    assert gene.value(1.0) == high
    values = [gene.value(x) for x in np.linspace(0, 1, 1001)]
    assert values == sorted(values)
    assert all(low <= value <= high for value in values)
    assert np.allclose([gene.unit(value) for value in values], np.linspace(0, 1, 1001), atol=1e-12)


def test_equal_steps_of_a_logarithmic_gene_are_equal_factors() -> None:
    gene = Gene("density", 0.01, 1.0, 0.1, log=True)
    assert gene.value(0.5) == pytest.approx(0.1)
    assert gene.value(0.25) / gene.value(0.0) == pytest.approx(gene.value(1.0) / gene.value(0.75))
    assert Gene("weight", 0.0, 2.0, 0.1).value(0.25) == 0.5


@pytest.mark.parametrize("n", [1, 2, 3, 7, 100])
def test_integers_and_choices_fill_the_unit_interval_with_equal_bins(n: int) -> None:
    integer = Gene.integer("g", -2, n - 3, -2)
    choice = Gene.choice("c", [f"word{i}" for i in range(n)], f"word{n - 1}")
    assert (integer.n_values, choice.n_values) == (n, n)
    assert choice.start == n - 1
    for gene in (integer, choice):
        assert (gene.value(0.0), gene.value(1.0)) == (gene.low, gene.high)
        values = [gene.value((i + 0.5) / (20 * n)) for i in range(20 * n)]
        assert values == [gene.low + i // 20 for i in range(20 * n)]
        for value in set(values):
            assert gene.value(gene.unit(value)) == value
            assert gene.unit(gene.value(gene.unit(value))) == gene.unit(value)
            assert 0.0 < gene.unit(value) < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "int"}, "unknown kind of the gene g 'int'; did you mean"),
        ({"kind": "integer", "low": 0.5}, r"gene g \(integer\) needs whole numbers .* came low 0\.5"),
        ({"kind": "integer", "log": True}, "no log scale"),
        ({"kind": "integer", "start": 9.0}, "low <= start <= high"),
        ({"kind": "choice", "choices": ("a", "b")}, r"gene g has 2 choices, but the range 0\.0\.\.3\.0"),
    ],
)
def test_a_gene_of_a_kind_that_does_not_go_with_its_range_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Gene(**{"name": "g", "low": 0.0, "high": 3.0, "start": 1.0, **arguments})


def test_the_kinds_of_a_parameter_space_are_floats() -> None:
    assert make().kinds == (0,) * make().n_dims


def test_the_start_is_in_the_unit_cube_and_decodes_to_the_stated_values() -> None:
    space: Space = make(genes={"weight": {"parents": {"math": {"start": 0.8}}}, "density": {"start": 0.3}})
    start = space.start
    assert start.shape == (space.n_dims,)
    assert start.dtype == np.float64
    assert np.all((start >= 0.0) & (start <= 1.0))
    values = dict(zip([gene.name for gene in space.genes], space.genome(start), strict=True))
    assert values["weight.math.layers0-1"] == pytest.approx(0.8)
    assert values["weight.ja.layers0-1"] == pytest.approx(1.0)
    assert values["density.ja.head"] == pytest.approx(0.3)
    assert values["lambda"] == pytest.approx(1.0)


def test_corners_of_the_cube_decode_to_exactly_the_bounds() -> None:
    space = make(3, only("density"), blocks="layers")
    for x, bound in ((0.0, 0.05), (1.0, 1.0)):
        recipe = space.decode(space.genome([x] * space.n_dims))
        for role, layer in itertools.product(("attention", "mlp"), range(3)):
            assert recipe.parameters_of(role, layer)["density"] == {"math": bound, "ja": bound}


def test_decoding_is_explicit_and_takes_the_values_as_they_are() -> None:
    space = make(
        roles={"attention": ["attention"], "mlp": ["mlp"]},
        method=only("weight", low=-0.5, high=1.5),
        dtype="float32",
        tokenizer="ja",
        seed=11,
    )
    genome = tuple(float(v) for v in np.linspace(-0.5, 1.5, space.n_dims))  # negative, and summing to more than 1
    recipe = space.decode(genome)
    named = dict(zip([gene.name for gene in space.genes], genome, strict=True))
    assert [group.name for group in recipe.groups] == [
        "layers0-1.attention",
        "layers0-1.mlp",
        "layers2-3.attention",
        "layers2-3.mlp",
        "embeddings",
        "head",
    ]
    for group in recipe.groups:
        assert group.parameters["weight"] == {
            "math": named[f"weight.math.{group.name}"],
            "ja": named[f"weight.ja.{group.name}"],
        }
    assert (recipe.method, recipe.parents, recipe.base) == ("one", PARENTS, BASE)
    assert (recipe.dtype, recipe.tokenizer, recipe.seed) == ("float32", "ja", 11)


def test_what_is_not_evolved_is_written_into_the_recipe_too() -> None:
    recipe = make(parameters={"election": "count", "t": 0.25}).decode(make(parameters={"t": 0.25}).genome([0.5] * 17))
    assert dict(recipe.parameters) == {
        "t": 0.25,
        "lambda": 1.5,
        "epsilon": 0.1,
        "normalize": True,
        "election": "count",
    }


def test_a_decoded_recipe_survives_yaml_and_equal_genomes_give_equal_recipes() -> None:
    space, again = make(), make()
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.random(space.n_dims)
        recipe = space.decode(space.genome(x))
        assert recipe == again.decode(again.genome(x))
        assert Recipe.from_yaml(recipe.to_yaml()) == recipe
        assert Recipe.from_yaml(recipe.to_yaml()).content_hash == recipe.content_hash


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"embeddings": "shared"},
        {"embeddings": "block"},
        {"tied": True},
        {"blocks": "layers", "roles": [["attention"], ["mlp"], ["norm"], ["other"]]},
        {"genes": {"weight": {"scope": "global"}, "density": {"scope": "global"}, "t": {"scope": "global"}}},
    ],
)
def test_changing_any_gene_changes_the_recipe(arguments: dict[str, object]) -> None:
    space = make(**arguments)
    genome = space.genome([0.5] * space.n_dims)
    hashes = {space.decode(genome).content_hash}
    for i, gene in enumerate(space.genes):
        changed = (*genome[:i], float(np.nextafter(genome[i], gene.high)), *genome[i + 1 :])
        hashes.add(space.decode(changed).content_hash)
    assert len(hashes) == space.n_dims + 1


def test_different_points_give_different_recipes() -> None:
    space = make()
    rng = np.random.default_rng(1)
    genomes = {space.genome(x) for x in rng.integers(0, 3, (60, space.n_dims)) / 2}
    assert len({space.decode(genome).content_hash for genome in genomes}) == len(genomes)


@pytest.mark.parametrize("x", [[0.5] * 3, [[0.5] * 21]])
def test_a_point_of_another_shape_is_refused(x: list[float]) -> None:
    with pytest.raises(ValueError, match="expected a point with 21 coordinates"):
        make().genome(x)


@pytest.mark.parametrize("value", [-1e-9, 1.5, float("nan")])
def test_a_point_outside_the_cube_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected a point of the unit cube"):
        make().genome([value] * 21)


def test_a_genome_of_another_length_or_outside_its_ranges_is_refused() -> None:
    space = make(method=only("weight"))
    with pytest.raises(ValueError, match="expected a genome with 8 values, one per gene, but came 7"):
        space.decode([0.5] * 7)
    with pytest.raises(ValueError, match=r"gene weight\.math\.layers0-1 must lie in \[0, 1\.5\], but came 1\.6"):
        space.decode([0.5, 1.6, *[0.5] * 6])
    with pytest.raises(ValueError, match=r"gene weight\.math\.embeddings must lie in \[0, 1\.5\], but came nan"):
        space.decode([float("nan")] * 8)


def test_the_description_lists_every_gene_with_range_and_start() -> None:
    rows = make(method=only("weight"), genes={"weight": {"high": 1.2, "start": 0.6}}).describe()
    assert rows[1] == {
        "name": "weight.math.layers0-1",
        "low": 0.0,
        "high": 1.2,
        "start": 0.6,
        "log": False,
        "doc": "how much",
        "kind": "float",
        "choices": [],
        "when": "",
    }
    assert len(rows) == 8
