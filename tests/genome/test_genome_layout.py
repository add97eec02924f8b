"""Which tensors share genes: every tensor exactly once, for every layout."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from genome_cases import make, only

from evomerge.errors import ConfigError
from evomerge.recipe import Recipe

INNER = ("attention", "mlp", "norm", "other")
OUTER = ("embedding", "head", "norm", "other")
ROLES: tuple[Any, ...] = (
    None,
    {"attention": ["attention"], "mlp": ["mlp", "norm", "other"]},
    {"attention": ["attention", "norm"], "mlp": ["mlp"]},
    [["attention"], ["mlp"], ["norm"], ["other"]],
)
BLOCKS: tuple[Any, ...] = (1, 2, 3, "layers", [[0, 1], [1, 3]])


def names(space: Any) -> list[str]:
    return [gene.name for gene in space.genes]


def first_match(recipe: Recipe, role: str, layer: int | None) -> str:
    return next(group.name for group in recipe.groups if group.matches(role, layer))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("embeddings", ["own", "shared", "block"])
@pytest.mark.parametrize("roles", ROLES, ids=["all", "two", "norm-with-attention", "four"])
@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_every_tensor_is_governed_by_the_genes_of_its_region(
    blocks: Any, roles: Any, embeddings: str, tied: bool
) -> None:
    space = make(3, only("weight"), blocks=blocks, roles=roles, embeddings=embeddings, tied=tied)
    # Each gene gets a value of its own, so the parameters of a tensor say which genes govern it.
    genome = [0.001 * (i + 1) for i in range(space.n_dims)]
    gene_of = dict(zip(genome, names(space), strict=True))
    recipe = space.decode(genome)
    governed: dict[str, set[tuple[str, int | None]]] = {}
    places = [*itertools.product(INNER, range(3)), *((role, None) for role in OUTER)]
    for role, layer in places:
        weight = recipe.parameters_of(role, layer)["weight"]
        math, ja = gene_of[weight["math"]], gene_of[weight["ja"]]
        assert math.removeprefix("weight.math.") == ja.removeprefix("weight.ja.")
        region = math.removeprefix("weight.math.")
        assert first_match(recipe, role, layer) == region
        governed.setdefault(region, set()).add((role, layer))
    assert set(governed) == {name.split(".", 2)[2] for name in names(space)}  # no gene governs nothing
    for region, tensors in governed.items():
        layers = {layer for _, layer in tensors if layer is not None}
        if region.startswith("layers"):
            first, _, last = region.removeprefix("layers").split(".")[0].partition("-")
            assert layers == set(range(int(first), int(last or first) + 1))
        else:
            assert not layers
        if not region.startswith("layers") or roles is None:
            continue
        groups = roles if isinstance(roles, dict) else {group[0]: group for group in roles}
        held = groups[region.split(".")[1]]
        assert {role for role, layer in tensors if layer is not None} == set(held) | (
            {"other"} if held == ["mlp"] and "attention" in groups and "norm" in groups["attention"] else set()
        )


@pytest.mark.parametrize(
    ("n_layers", "blocks", "expected"),
    [
        (4, 2, ["layers0-1", "layers2-3"]),
        (7, 3, ["layers0-2", "layers3-4", "layers5-6"]),
        (5, 4, ["layers0-1", "layers2", "layers3", "layers4"]),
        (3, 1, ["layers0-2"]),
        (3, "layers", ["layers0", "layers1", "layers2"]),
        (1, 1, ["layers0"]),
        (6, [[0, 1], [1, 5], [5, 6]], ["layers0", "layers1-4", "layers5"]),
        (32, 4, ["layers0-7", "layers8-15", "layers16-23", "layers24-31"]),
    ],
)
def test_layers_are_cut_into_blocks(n_layers: int, blocks: Any, expected: list[str]) -> None:
    space = make(n_layers, only("t"), blocks=blocks)
    assert names(space) == [f"t.{region}" for region in ("embeddings", *expected, "head")]


@pytest.mark.parametrize(
    ("arguments", "n_dims"),
    [
        ({"blocks": 1}, 2 * 3),
        ({"blocks": 1, "embeddings": "shared"}, 2 * 2),
        ({"blocks": 1, "embeddings": "block"}, 2),  # one gene per parent for the whole model
        ({"blocks": 1, "tied": True}, 2 * 2),
        ({"blocks": "layers"}, 2 * 7),
        ({"blocks": "layers", "roles": {"attention": ["attention"], "mlp": ["mlp"]}}, 2 * 12),
        ({"blocks": "layers", "roles": ROLES[3], "embeddings": "block"}, 2 * 20),
        ({"blocks": 2, "roles": ROLES[1], "tied": True}, 2 * 5),
    ],
)
def test_the_number_of_genes_is_parents_times_regions(arguments: dict[str, Any], n_dims: int) -> None:
    assert make(5, only("weight"), **arguments).n_dims == n_dims


def test_the_final_norm_goes_with_the_head_and_a_tied_head_with_the_embeddings() -> None:
    own = make(2, only("t")).decode([0.1, 0.2, 0.3, 0.4])
    assert [own.parameters_of(role, None)["t"] for role in OUTER] == [0.1, 0.4, 0.4, 0.4]
    tied = make(2, only("t"), tied=True).decode([0.1, 0.2, 0.3])
    assert [tied.parameters_of(role, None)["t"] for role in OUTER] == [0.1, 0.1, 0.1, 0.1]
    block = make(2, only("t"), embeddings="block").decode([0.2, 0.3])
    assert [block.parameters_of(role, None)["t"] for role in OUTER] == [0.2, 0.3, 0.3, 0.3]
    tied_block = make(2, only("t"), embeddings="block", tied=True).decode([0.2, 0.3])
    assert [tied_block.parameters_of(role, None)["t"] for role in OUTER] == [0.2, 0.2, 0.3, 0.3]


def test_with_blocks_the_embeddings_take_the_genes_of_the_roles_that_hold_the_norm() -> None:
    space = make(2, only("t"), roles=ROLES[1], embeddings="block")
    assert names(space) == ["t.layers0.attention", "t.layers0.mlp", "t.layers1.attention", "t.layers1.mlp"]
    recipe = space.decode([0.1, 0.2, 0.3, 0.4])
    assert recipe.parameters_of("embedding", None)["t"] == 0.2
    assert recipe.parameters_of("head", None)["t"] == 0.4


def test_one_group_of_all_roles_needs_no_name_in_its_genes() -> None:
    listed = make(2, only("t"), roles={"everything": ["attention", "mlp"]})
    assert names(listed) == names(make(2, only("t")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_layers": 0}, r"number of layers must be a whole number from 1, but came 0"),
        ({"blocks": 0}, r"`space\.blocks` must be from 1 to 4, the number of layers, but came 0"),
        ({"blocks": 5}, r"from 1 to 4, the number of layers, but came 5"),
        ({"blocks": True}, r"`space\.blocks` must be a number of blocks, 'layers', or a list .* came True"),
        ({"blocks": "layer"}, r"'layers', or a list .* came 'layer'"),
        ({"blocks": []}, r"came \[\]"),
        ({"blocks": [[0, 2], [2]]}, r"came \[\[0, 2\], \[2\]\]"),
        ({"blocks": [[0, 2], [3, 2]]}, r"start < stop"),
        ({"blocks": [[0, 2.0], [2, 4]]}, r"start < stop"),
        ({"blocks": [[1, 4]]}, r"must begin at layer 0, but begins at 1"),
        ({"blocks": [[0, 2], [3, 4]]}, r"each layer once, in order, but \[3, 4\] follows layer 1"),
        ({"blocks": [[0, 2], [1, 4]]}, r"each layer once, in order, but \[1, 4\] follows layer 1"),
        ({"blocks": [[0, 2], [2, 3]]}, r"must end at 4, the number of layers, but ends at 3"),
        ({"blocks": [[0, 2], [2, 5]]}, r"must end at 4, the number of layers, but ends at 5"),
        ({"embeddings": "owned"}, r"unknown `space\.embeddings` 'owned'; did you mean 'own'"),
        (
            {"roles": {"a": ["atention"], "b": ["mlp"]}},
            r"role in `space\.roles\.a` 'atention'; did you mean 'attention'",
        ),
        ({"roles": {"a": ["attention", "head"], "b": ["mlp"]}}, r"'head', which is not in a layer: see `space\.emb"),
        ({"roles": {"a": ["attention", "mlp"], "b": ["mlp"]}}, r"each role once, but 'mlp' is there again in 'b'"),
        ({"roles": [["attention"], ["attention"], ["mlp"]]}, r"each role once, but 'attention' is there again"),
        ({"roles": {"a": ["mlp"]}}, r"must say where 'attention' belongs"),
        ({"roles": {"a": "attention", "b": ["mlp"]}}, r"`space\.roles\.a` must list roles, .* came 'attention'"),
        ({"roles": [3, ["mlp"]]}, r"`space\.roles\.3` must list roles"),
        ({"roles": "attention"}, r"`space\.roles` must map names to lists of roles, or be null, but came 'attention'"),
        ({"roles": {}}, r"`space\.roles` must map names"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**arguments)
