"""Indicators and scales: what each gene does to the path."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from path_cases import TWO, parents_of, paths

from evomerge.errors import ConfigError
from evomerge.genome import PathSpace
from evomerge.genome.scales import WEIGHT_RANGE
from evomerge.recipe import Recipe


def decode(space: PathSpace, **values: float) -> Recipe:
    """The start with some genes set; "__" stands for "." in names."""
    genome = dict(zip([gene.name for gene in space.genes], space.genome(space.start), strict=True))
    named = {name.replace("__", "."): value for name, value in values.items()}
    assert named.keys() <= genome.keys()
    return space.decode(list({**genome, **named}.values()))


def layers(recipe: Recipe) -> list[tuple[str, int]]:
    return [(step.parent, step.layer) for step in recipe.path]


def test_the_genes_are_the_positions_of_all_layers_in_sequence_and_their_scales() -> None:
    names = [gene.name for gene in paths({"a": 2, "b": 1}, repeats=2).genes]
    places = ["pass1.a.layer1", "pass1.b.layer0", "pass2.a.layer0", "pass2.a.layer1", "pass2.b.layer0"]
    assert names == [f"include.{place}" for place in places] + [f"scale.{place}" for place in [*places, "last"]]


@pytest.mark.parametrize(
    ("scales", "repeats", "n_genes"),
    [
        ("none", 1, 11),
        ("step", 1, 11 + 12),
        ("matrix", 1, 11 + 73),
        ("network", 1, 11 + 73),
        ("none", 3, 35),
        ("step", 3, 35 + 36),
        ("matrix", 3, 35 + 144),
        ("network", 3, 35 + 73),
    ],
)
def test_the_number_of_genes_for_two_models_of_six_layers(scales: str, repeats: int, n_genes: int) -> None:
    assert paths(TWO, scales=scales, repeats=repeats).n_dims == n_genes


def test_two_models_of_32_layers_have_the_genes_of_the_paper_but_for_the_fixed_first_position() -> None:
    space = paths({"a": 32, "b": 32}, repeats=3, scales="matrix")
    assert space.n_dims == 192 - 1 + 4096
    x = np.random.default_rng(0).random(space.n_dims)
    assert len(space.decode(space.genome(x)).path) == 1 + sum(x[:191] > 0.5) + 1


def test_a_layer_is_passed_where_its_indicator_is_above_zero() -> None:
    space = paths({"a": 3, "b": 2}, repeats=2, scales="none")
    assert layers(decode(space)) == [("a", 0), ("a", 1), ("a", 2)]
    recipe = decode(space, include__pass1__a__layer1=0.0, include__pass1__b__layer1=1e-9, include__pass2__a__layer0=1.0)
    assert layers(recipe) == [("a", 0), ("b", 1), ("a", 0), ("a", 2)]
    twice = decode(space, include__pass1__a__layer2=0.5, include__pass2__a__layer2=0.5, include__pass1__b__layer0=0.1)
    assert layers(twice) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("a", 2), ("a", 2)]


def test_every_subset_of_the_positions_is_a_path_of_its_own() -> None:
    space = paths({"a": 2, "b": 3}, scales="none")
    found = {space.decode(corner).content_hash for corner in itertools.product((-1.0, 1.0), repeat=space.n_dims)}
    assert len(found) == 2**4


@pytest.mark.parametrize("offset", [0.1, 0.4, 0.5])
def test_indicators_start_at_the_offset_on_either_side(offset: float) -> None:
    space = paths({"a": 3, "b": 2}, offset=offset, scales="none", repeats=2)
    on = np.array([1, -1, -1, -1, -1, -1, -1, -1, -1])  # of a only layer 1, since the last one is appended
    assert np.allclose(space.start, 0.5 + offset * on, atol=1e-15)
    assert np.allclose([gene.start for gene in space.genes], 2 * offset * on)


def test_a_limit_keeps_the_largest_indicators_and_of_equal_ones_the_first() -> None:
    depths = {"a": 4, "b": 4}
    up = {f"include__pass1__{name}": 0.9 for name in ("a__layer1", "a__layer2", "b__layer1", "b__layer2", "b__layer3")}
    space = paths(depths, scales="none", max_layers=5)
    assert layers(decode(space, **up)) == [("a", 0), ("a", 1), ("a", 2), ("b", 1), ("a", 3)]
    recipe = decode(space, **up, include__pass1__a__layer3=0.95, include__pass1__b__layer0=0.8)
    assert layers(recipe) == [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("a", 3)]
    space = paths(depths, scales="none", min_layers=6)
    assert layers(decode(space)) == [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("b", 0), ("a", 3)]
    recipe = decode(space, include__pass1__b__layer2=-0.1, include__pass1__b__layer3=-0.2)
    assert layers(recipe) == [("a", 0), ("a", 1), ("a", 2), ("b", 2), ("b", 3), ("a", 3)]


def test_the_shortest_path_is_the_first_and_the_last_layer() -> None:
    space = paths(TWO, scales="none", max_layers=2)
    assert {tuple(layers(space.decode(x))) for x in ([1.0] * 11, [-1.0] * 11)} == {(("math", 0), ("math", 5))}


def test_a_scale_per_step_is_that_of_its_position_and_sleeps_where_that_is_off() -> None:
    space = paths({"a": 3, "b": 2})
    recipe = decode(
        space, scale__pass1__a__layer1=0.7, scale__last=1.5, include__pass1__b__layer1=0.1, scale__pass1__b__layer1=2.0
    )
    assert [(step.parent, step.layer, step.scale) for step in recipe.path] == [
        ("a", 0, 1.0),
        ("a", 1, 0.7),
        ("b", 1, 2.0),
        ("a", 2, 1.5),
    ]
    start = decode(space).content_hash
    assert decode(space, scale__pass1__b__layer0=0.5, scale__pass1__a__layer2=0.5).content_hash == start
    assert decode(space, scale__pass1__a__layer1=0.5).content_hash != start


def test_a_matrix_of_scales_is_read_from_layer_to_layer() -> None:
    depths = {"a": 3, "b": 2}
    space = paths(depths, repeats=2, scales="matrix")
    rng = np.random.default_rng(1)
    for _ in range(40):
        genome = space.genome(rng.random(space.n_dims))
        values = dict(zip([gene.name for gene in space.genes], genome, strict=True))
        path = space.decode(genome).path
        for before, step in itertools.pairwise(path):
            assert step.scale == values[f"scale.{before.parent}.layer{before.layer}.to.{step.parent}.layer{step.layer}"]


@pytest.mark.parametrize("depths", [{"a": 3, "b": 2}, {"a": 1, "b": 3}, {"a": 4}, {"a": 2, "b": 1, "c": 2}])
def test_with_one_pass_the_matrix_holds_just_the_pairs_that_can_follow_one_another(depths: dict[str, int]) -> None:
    space, plain = paths(depths, scales="matrix"), paths(depths, scales="none")
    pairs = {
        (f"{one.parent}.layer{one.layer}", f"{other.parent}.layer{other.layer}")
        for corner in itertools.product((-1.0, 1.0), repeat=plain.n_dims)
        for one, other in itertools.pairwise(plain.decode(corner).path)
    }
    names = [gene.name for gene in space.genes if gene.name.startswith("scale.")]
    assert {f"scale.{one}.to.{other}" for one, other in pairs} == set(names) - (
        # With nothing in between, a single layer is the whole path.
        {"scale.a.layer0.to.a.layer0"} if depths["a"] == 1 else set()
    )


def test_the_network_is_the_one_that_the_formula_says() -> None:
    depths, hidden = {"a": 3, "b": 2}, 3
    space = paths(depths, repeats=2, scales="network", hidden=hidden, scale_low=0.25, scale_high=3.0)
    n_positions = 10
    starts = {"a": 0, "b": 3}
    rng = np.random.default_rng(2)
    seen = set()
    for _ in range(20):
        genome = space.genome(rng.random(space.n_dims))
        values = dict(zip([gene.name for gene in space.genes], genome, strict=True))
        path = space.decode(genome).path
        on = [i for i in range(1, n_positions) if genome[i - 1] > 0]
        for (before, step), t in zip(itertools.pairwise(path), [*on, n_positions], strict=True):
            inputs = []
            for one in (before, step):
                depth = one.layer / (depths[one.parent] - 1)
                inputs += [depth, float(one.parent == "a"), float(one.parent == "b")]
            inputs.append(t / n_positions)
            if t < n_positions:
                assert (starts[step.parent] + step.layer) == t % 5
            units = [
                math.tanh(
                    sum(values[f"scale.hidden{h}.input{k}"] * x for k, x in enumerate(inputs)) / math.sqrt(7)
                    + values[f"scale.hidden{h}.bias"]
                )
                for h in range(hidden)
            ]
            total = sum(values[f"scale.output.hidden{h}"] * unit for h, unit in enumerate(units)) / math.sqrt(hidden)
            y = math.tanh(total + values["scale.output.bias"])
            expected = math.exp(y * math.log(3.0)) if y > 0 else math.exp(-y * math.log(0.25))
            assert step.scale == pytest.approx(expected, rel=1e-10)
            seen.add(step.scale > 1)
    assert seen == {True, False}
    assert {gene.high for gene in space.genes if gene.name.startswith("scale.")} == {WEIGHT_RANGE}


def test_parents_that_no_layer_comes_from_are_left_out_but_for_the_first_and_the_tokenizer() -> None:
    depths = {"a": 2, "b": 2, "c": 2}
    on = {"include__pass1__b__layer0": 1.0}
    assert [parent.name for parent in decode(paths(depths), **on).parents] == ["a", "b"]
    assert [parent.name for parent in decode(paths(depths, tokenizer="c"), **on).parents] == ["a", "b", "c"]
    one = decode(PathSpace(parents_of({"a": 2, "b": 2}), n_layers={"a": 2, "b": 2}), **on)
    assert one.content_hash == decode(paths(depths), **on).content_hash


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (
            {"repeats": 0, "scales": "matix", "offset": 0.6, "scale_low": 0.0, "hidden": 1.5, "max_layers": 0},
            [
                r"`repeats` must be a whole number from 1, but came 0",
                r"unknown kind of `scales` 'matix'; did you mean 'matrix'",
                r"`offset` must be above 0 and at most 0\.5 .*0\.6|`offset` must be a number.*0\.6",
                r"`scale_low` must be a finite number above 0, but came 0\.0",
                r"`hidden` .* whole number from 1, but came 1\.5",
                r"`max_layers` must be a whole number from 1, or null for no limit, but came 0",
            ],
        ),
        ({"scale_high": 0.9}, [r"scales start at 1, .* around it, but came 0\.5 to 0\.9"]),
        ({"scale_low": 1.0, "scale_high": 1.0}, [r"around it, but came 1 to 1"]),
        ({"scale_high": float("inf")}, [r"`scale_high` must be a finite number above 0, but came inf"]),
        (
            {"max_layers": 1},
            [r"`max_layers` is 1, but a path has at least 2 layers: the first and the last one of math"],
        ),
        ({"max_layers": 5, "min_layers": 6}, [r"`min_layers` is 6, but `max_layers` is 5, so no path"]),
        ({"min_layers": 14}, [r"`min_layers` is 14, but the genes spell 13 at most"]),
        ({"tokenizer": "nobody"}, [r"tokenizer must name a parent"]),
        ({"dtype": "int8"}, [r"dtype must be one of"]),
        (
            {"n_layers": {"math": 6, "jaa": 6}},
            [r"unknown parent in `n_layers` 'jaa'; did you mean 'ja'", r"ja is missing"],
        ),
        ({"n_layers": {"math": 6, "ja": True}}, [r"`n_layers` of ja must be .* but came True|layers of ja must be"]),
    ],
)
def test_all_mistakes_are_named_at_once(arguments: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        PathSpace(parents_of(TWO), **{"n_layers": TWO, **arguments})
    assert len(caught.value.problems) == len(messages)
    for problem, message in zip(caught.value.problems, messages, strict=True):
        with pytest.raises(ConfigError, match=message):
            raise ConfigError(problem)


def test_one_layer_passed_once_is_nothing_to_evolve() -> None:
    with pytest.raises(ConfigError, match="nothing to evolve; add parents, or raise `repeats`"):
        paths({"a": 1})


def test_no_parents_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one parent"):
        PathSpace((), n_layers={})


def test_a_first_parent_with_one_layer_can_stay_alone_within_a_limit() -> None:
    space = paths({"a": 1, "b": 3}, max_layers=1)
    assert layers(space.decode(space.genome([1.0] * space.n_dims))) == [("a", 0)]
    with pytest.raises(ConfigError, match="`min_layers` is 2, but `max_layers` is 2"):
        paths({"a": 1, "b": 3}, max_layers=2, min_layers=2)
