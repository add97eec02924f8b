"""Linear ancestors as coefficients: the flat recipe is the nested one in exact arithmetic."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evomerge.recipe import ROLES, Group, ModelSource, Parent, Recipe, Step
from evomerge.recipe.lineage import DEFAULTS, Ancestor, ancestors, flatten

N_LAYERS = 6
A, B, C, BASE = (ModelSource(name) for name in ("a", "b", "c", "base"))
Source = ModelSource | Recipe


def linear(*parents: Source, base: Source | None = None, groups: Any = (), **fields: Any) -> Recipe:
    """A recipe over parents p0, p1, …; `weight` lists their weights."""
    return made("linear", parents, base, groups, **fields)


def arithmetic(*parents: Source, base: Source = BASE, groups: Any = (), **fields: Any) -> Recipe:
    return made("task_arithmetic", parents, base, groups, **fields)


def made(method: str, sources: tuple[Source, ...], base: Source | None, groups: Any, **fields: Any) -> Recipe:
    names = [f"p{i}" for i in range(len(sources))]
    kept = {key: fields.pop(key) for key in ("dtype", "tokenizer", "generation_config", "seed") if key in fields}
    if "weight" in fields:
        fields["weight"] = dict(zip(names, fields["weight"], strict=True))
    parents = tuple(Parent(name, source) for name, source in zip(names, sources, strict=True))
    return Recipe(method, parents, None if base is None else Parent("base", base), fields, tuple(groups), **kept)


def weights_of(recipe: Recipe, role: str = "mlp", layer: int | None = None) -> dict[ModelSource, float]:
    given = recipe.parameters_of(role, layer)["weight"]
    assert isinstance(given, Mapping)
    return {parent.source: given[parent.name] for parent in recipe.parents}


def value(source: Source, role: str, layer: int | None) -> np.ndarray:
    """The tensor that a model has, in float64, straight from the methods' formulas."""
    if isinstance(source, ModelSource):
        place = ROLES.index(role), 0 if layer is None else layer + 1
        return np.random.default_rng([*source.path.encode(), *place]).normal(size=5)
    inner = [value(parent.source, role, layer) for parent in source.parents]
    if source.method not in DEFAULTS:
        return np.tanh(sum(inner)) * 3
    values = {**DEFAULTS[source.method], **source.parameters_of(role, layer)}
    given = values["weight"]
    weight = [given[p.name] if isinstance(given, Mapping) else given for p in source.parents]
    if source.method == "linear":
        total = sum(w * x for w, x in zip(weight, inner, strict=True))
        return total / sum(weight) if values["normalize"] else total
    assert source.base is not None
    base = value(source.base.source, role, layer)
    return base + values["lambda"] * sum(w * (x - base) for w, x in zip(weight, inner, strict=True))


def assert_same_model(one: Recipe, other: Recipe) -> None:
    for role in ROLES:
        for layer in (None, *range(N_LAYERS)):
            np.testing.assert_allclose(value(one, role, layer), value(other, role, layer), rtol=1e-11, atol=1e-11)


def test_an_average_of_averages_is_an_average() -> None:
    nested = linear(linear(A, B, weight=[1, 3]), C, weight=[0.5, 0.5])
    flat = flatten(nested)
    assert flat.method == "linear"
    assert weights_of(flat) == {A: 0.125, B: 0.375, C: 0.5}
    assert flat.parameters["normalize"] is False
    assert [parent.name for parent in flat.parents] == ["p0", "p1", "p1_2"]
    assert flat.base is None, "the first parent lends configuration and types, as before"


def test_task_vectors_over_one_base_stay_task_vectors() -> None:
    child = arithmetic(A, B, weight=[0.5, 0.25], **{"lambda": 2.0})
    flat = flatten(arithmetic(child, B, weight=[0.5, 1.0]))
    assert (flat.method, flat.base) == ("task_arithmetic", Parent("base", BASE))
    assert weights_of(flat) == {A: 0.5, B: 1.25}


def test_another_base_becomes_a_task_vector_too() -> None:
    child = arithmetic(A, base=C, weight=[0.25])
    flat = flatten(arithmetic(child, B, weight=[1.0, 0.5]))
    assert (flat.method, weights_of(flat)) == ("task_arithmetic", {A: 0.25, C: 0.75, B: 0.5})


def test_a_sum_that_is_no_average_is_plain_weights() -> None:
    flat = flatten(arithmetic(linear(A, B, weight=[1, 1], normalize=False), weight=[0.5]))
    assert (flat.method, weights_of(flat)) == ("linear", {A: 0.5, B: 0.5, BASE: 0.5})
    assert flat.base == Parent("base", BASE), "it lends configuration and types, as before"


def test_groups_of_all_generations_are_cut_where_any_of_them_is() -> None:
    inner = linear(A, B, weight=[1, 1], groups=[Group({"weight": {"p0": 1.0, "p1": 0.0}}, layers=(0, 3))])
    late = Group({"weight": {"p0": 0.0, "p1": 1.0}}, layers=(2, 5), roles=("mlp",))
    outer = linear(inner, C, weight=[1, 1], groups=[late])
    flat = flatten(outer)
    assert weights_of(flat, "mlp", 1) == {A: 0.5, B: 0.0, C: 0.5}
    assert weights_of(flat, "mlp", 2) == {A: 0.0, B: 0.0, C: 1.0}
    assert weights_of(flat, "attention", 2) == {A: 0.5, B: 0.0, C: 0.5}
    assert weights_of(flat, "attention", 3) == {A: 0.25, B: 0.25, C: 0.5}
    assert weights_of(flat, "norm", None) == {A: 0.25, B: 0.25, C: 0.5}
    assert_same_model(flat, outer)


def test_what_is_not_linear_stays_and_what_is_below_it_is_flattened() -> None:
    below = linear(linear(A, B), C)
    ties = Recipe("ties", (Parent("x", below), Parent("y", A)), Parent("base", BASE), {"density": 0.3})
    outer = linear(ties, linear(A, C))
    flat = flatten(outer)
    kept = next(parent.source for parent in flat.parents if isinstance(parent.source, Recipe))
    assert kept == replace(ties, parents=(Parent("x", flatten(below)), Parent("y", A)))
    assert weights_of(flat) == {kept: 0.5, A: 0.25, C: 0.25}
    assert_same_model(flat, outer)
    assert flatten(ties) == kept


def test_layer_paths_are_not_taken_apart_but_their_parents_are() -> None:
    path = Recipe("passthrough", (Parent("x", linear(linear(A, B), C)),), path=(Step("x", 1), Step("x", 0)))
    assert flatten(path).path == path.path
    assert flatten(path).parents[0].source == flatten(linear(linear(A, B), C))
    assert flatten(linear(path, A)).parents[0].source == flatten(path)


def test_a_parent_that_is_rounded_on_purpose_is_not_taken_apart() -> None:
    coarse = linear(A, B, dtype="bfloat16")
    assert flatten(linear(coarse, C, dtype="float32")) == linear(coarse, C, dtype="float32")
    for same in (linear(coarse, C, dtype="bfloat16"), linear(replace(coarse, dtype="float32"), C, dtype="bfloat16")):
        assert set(weights_of(flatten(same))) == {A, B, C}
        assert flatten(same).dtype == "bfloat16"
    assert flatten(linear(coarse, C)).dtype == "bfloat16", "the donor's type was the result's"


def test_the_tokenizer_comes_from_the_same_checkpoint() -> None:
    inner = arithmetic(A, B, weight=[1.0, 0.0], tokenizer="p1")
    flat = flatten(arithmetic(inner, C, weight=[0.5, 0.5], tokenizer="p0"))
    assert next(parent.source for parent in flat.parents if parent.name == flat.tokenizer) == B
    assert flatten(arithmetic(inner, C, tokenizer="base")).tokenizer is None


@pytest.mark.parametrize(
    ("inner", "outer", "lenders"),
    [
        ({"tokenizer": "p1"}, {"tokenizer": "p0"}, (B, B)),
        ({"tokenizer": "p1", "generation_config": "p0"}, {"tokenizer": "p0"}, (B, A)),
        ({"generation_config": "p1"}, {"tokenizer": "p1", "generation_config": "p0"}, (C, B)),
        ({}, {"tokenizer": "p1", "generation_config": "base"}, (C, BASE)),
        ({"generation_config": "p1"}, {}, (BASE, BASE)),
    ],
)
@pytest.mark.parametrize("method", [arithmetic, linear])
def test_the_generation_config_comes_from_the_same_checkpoint(
    method: Any, inner: dict[str, str], outer: dict[str, str], lenders: tuple[ModelSource, ModelSource]
) -> None:
    flat = flatten(
        method(method(A, B, base=BASE, weight=[1.0, 0.0], **inner), C, base=BASE, weight=[0.5, 0.0], **outer)
    )
    named = {**{parent.name: parent.source for parent in flat.parents}, None: flat.donor.source}
    if flat.base is not None:
        named["base"] = flat.base.source
    assert (named[flat.tokenizer], named[flat.generation_config or flat.tokenizer]) == lenders


def test_nothing_left_is_the_base() -> None:
    flat = flatten(arithmetic(linear(A, B), **{"lambda": 0.0}))
    assert_same_model(flat, arithmetic(A, weight=[0.0]))


@pytest.mark.parametrize(
    "recipe",
    [
        linear(A, B),
        arithmetic(A, B),
        linear(linear(A, B, weight=[1, -1]), C),
        linear(replace(linear(A, B), parameters={"wieght": 1.0}), C),
        Recipe("task_arithmetic", (Parent("a", A),)),
    ],
    ids=["flat", "flat with a base", "weights that sum to 0", "an unknown parameter", "no base"],
)
def test_what_has_nothing_to_flatten_or_is_wrong_is_given_back(recipe: Recipe) -> None:
    assert flatten(recipe) is recipe


def tree(random_: random.Random, depth: int) -> Source:
    if depth == 0 or random_.random() < 0.25:
        return random_.choice((A, B, C, BASE))
    n = random_.randint(1, 3)
    fields: dict[str, Any] = {"weight": [round(random_.uniform(-0.5, 1.5), 2) for _ in range(n)]}
    sources = [tree(random_, depth - 1) for _ in range(n)]
    groups = []
    for _ in range(random_.randint(0, 3)):
        start = random_.randrange(N_LAYERS)
        layers = random_.choice((None, (start, random_.randint(start + 1, N_LAYERS))))
        roles = random_.choice((None, tuple(random_.sample(ROLES, 2))))
        weight = {f"p{i}": round(random_.uniform(0.1, 1.5), 2) for i in range(n)}
        groups.append(Group({"weight": weight}, layers, roles))
    if random_.random() < 0.5:
        sums = abs(sum(fields["weight"])) > 0.05
        fields["normalize"] = bool(sums and random_.random() < 0.7)
        return linear(*sources, groups=groups, **fields)
    fields["lambda"] = round(random_.uniform(0.0, 1.5), 2)
    return arithmetic(*sources, base=random_.choice((BASE, tree(random_, depth - 1))), groups=groups, **fields)


@pytest.mark.parametrize("seed", range(150))
def test_any_tree_of_linear_recipes_is_one_recipe_of_checkpoints(seed: int) -> None:
    source = tree(random.Random(seed), 3)
    recipe = source if isinstance(source, Recipe) else linear(source)
    flat = flatten(recipe)
    assert not any(isinstance(parent.source, Recipe) for parent in flat.parents)
    assert flat.base is None or isinstance(flat.base.source, ModelSource)
    assert_same_model(flat, recipe)
    assert Recipe.from_data(flat.to_data()) == flat
    assert flatten(flat) is flat


def test_ancestors_are_named_by_the_way_to_them() -> None:
    inner = arithmetic(A, B)
    found = list(ancestors(linear(inner, C, base=A)))
    assert found == [
        Ancestor(("p0", "p0"), A),
        Ancestor(("p0", "p1"), B),
        Ancestor(("p0", "base"), BASE),
        Ancestor(("p1",), C),
        Ancestor(("base",), A),
    ]


def test_the_defaults_are_those_of_the_methods() -> None:
    from evomerge.merge.methods.registry import find_method

    for name, defaults in DEFAULTS.items():
        assert {each.name: each.default for each in find_method(name).spec.parameters} == defaults
