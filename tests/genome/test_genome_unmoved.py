"""Genes that could change nothing are left out, and the recipe says so instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from genome_cases import BASE, METHOD, PARENTS

from evomerge.genome import ParameterSpace
from evomerge.genome.unmoved import LeftOut
from evomerge.recipe.method import MethodSpec, Parameter

TASK = replace(METHOD, share="weight")
ROLES = ("attention", "mlp", "norm")


def places(n_layers: int = 4, **changes: Any) -> dict[tuple[str, int | None], set[str]]:
    """Nothing is unmoved but what is named: "0" or "0.mlp" or "embedding" to names of parents."""
    found: dict[tuple[str, int | None], set[str]] = {(role, i): set() for role in ROLES for i in range(n_layers)}
    found |= {("embedding", None): set(), ("norm", None): set(), ("head", None): set()}
    for place, names in changes.items():
        layer, _, role = place.removeprefix("at").partition("_")
        for key in found:
            if key == (layer, None) or (key[1] is not None and str(key[1]) == layer and role in ("", key[0])):
                found[key] = set(names)
    return found


def space(method: MethodSpec = TASK, **arguments: Any) -> ParameterSpace:
    return ParameterSpace(method, **{"parents": PARENTS, "base": BASE, "n_layers": 4, "blocks": 2, **arguments})


BOTH = ("math", "ja")


def names_of(one: ParameterSpace) -> list[str]:
    return [gene.name for gene in one.genes]


def test_nothing_known_and_nothing_equal_give_the_same_space() -> None:
    assert names_of(space(unmoved=places())) == names_of(space())
    assert space(unmoved=places()).left_out == []
    start = [gene.start for gene in space().genes]
    assert space(unmoved=places()).decode(start).to_data() == space().decode(start).to_data()


def test_a_block_that_no_parent_moved_has_no_genes() -> None:
    one = space(unmoved=places(at0=BOTH, at1=BOTH))
    assert len(one.genes) == len(space().genes) - 5  # weight and density of each, and t
    assert not any("layers0-1" in name for name in names_of(one))
    assert one.left_out == [LeftOut("layers0-1", BOTH, True, 5, "mix")]
    recipe = one.decode([gene.start for gene in one.genes])
    assert recipe.parameters_of("mlp", 1)["weight"] == 0.0
    assert recipe.parameters_of("mlp", 2)["weight"] == {"math": 1.0, "ja": 1.0}
    assert recipe.parameters_of("norm", None)["weight"] == {"math": 1.0, "ja": 1.0}


def test_a_block_of_which_one_layer_moved_keeps_its_genes() -> None:
    assert names_of(space(unmoved=places(at0=BOTH))) == names_of(space())


def test_a_parent_that_did_not_move_alone_loses_its_own_genes_and_takes_no_part() -> None:
    one = space(unmoved=places(at2=["ja"], at3=["ja"]))
    gone = set(names_of(space())) - set(names_of(one))
    assert gone == {"weight.ja.layers2-3", "density.ja.layers2-3"}
    assert one.left_out == [LeftOut("layers2-3", ("ja",), False, 2, "mix")]
    values = {gene.name: gene.start for gene in one.genes} | {"weight.math.layers2-3": 0.25}
    recipe = one.decode(list(values.values()))
    assert recipe.parameters_of("mlp", 3)["weight"] == {"math": 0.25, "ja": 0.0}
    assert recipe.parameters_of("mlp", 0)["weight"] == {"math": 1.0, "ja": 1.0}


def test_roles_of_a_layer_are_judged_apart() -> None:
    roles = {"attention": ["attention"], "mlp": ["mlp"]}
    one = space(roles=roles, blocks="layers", unmoved=places(at1_attention=BOTH))
    assert [each.region for each in one.left_out] == ["layers1.attention"]


def test_the_head_holds_the_final_norm() -> None:
    assert [each.region for each in space(unmoved=places(head=BOTH)).left_out] == []
    assert [each.region for each in space(unmoved=places(head=BOTH, norm=BOTH)).left_out] == ["head"]


def test_genes_of_the_whole_model_go_only_where_a_parent_moved_nothing() -> None:
    everywhere = {"weight": {"scope": "global"}}
    some = space(genes=everywhere, unmoved=places(at0=["ja"], at1=["ja"]))
    assert "weight.ja" in names_of(some)
    assert some.decode([gene.start for gene in some.genes]).parameters_of("mlp", 0)["weight"] == {
        "math": 1.0,
        "ja": 0.0,
    }
    all_of_it = {place: {"ja"} for place in places()}
    none = space(genes=everywhere, unmoved=all_of_it)
    assert "weight.ja" not in names_of(none)
    assert none.left_out[-1] == LeftOut("", ("ja",), False, 1, "mix")
    assert none.decode([gene.start for gene in none.genes]).parameters["weight"] == {"math": 1.0, "ja": 0.0}


def test_a_fixed_weight_does_not_make_an_unmoved_group_merge() -> None:
    one = space(parameters={"weight": 0.7}, unmoved=places(at0=BOTH, at1=BOTH))
    recipe = one.decode([gene.start for gene in one.genes])
    assert recipe.parameters_of("mlp", 0)["weight"] == 0.0
    assert recipe.parameters_of("mlp", 3)["weight"] == 0.7
    assert recipe.parameters_of("norm", None)["weight"] == 0.7


def test_a_group_outside_of_layers_takes_nothing_inside() -> None:
    """Where only the head is left out, its group, which names roles, must not match norms in layers."""
    one = space(genes={"weight": {"scope": "global"}, "density": {"fixed": 0.5}, "t": {"fixed": 0.5}},
                unmoved=places(head=BOTH, norm=BOTH))  # fmt: skip
    recipe = one.decode([gene.start for gene in one.genes])
    assert recipe.parameters_of("norm", None)["weight"] == 0.0
    assert recipe.parameters_of("norm", 0)["weight"] == {"math": 1.0, "ja": 1.0}


def test_a_method_that_promises_nothing_keeps_its_genes() -> None:
    assert names_of(space(METHOD, unmoved=places(at0=BOTH, at1=BOTH))) == names_of(space())


def test_models_that_are_all_equal_keep_their_genes_since_a_space_has_some() -> None:
    assert names_of(space(unmoved={place: set(BOTH) for place in places()})) == names_of(space())


LINEAR = MethodSpec(
    "average", "", "",
    (Parameter("weight", 1.0, per_parent=True), Parameter("normalize", True, gene=False)),
    needs_base=False, share="weight", of_equals={"normalize": True},
)  # fmt: skip


def test_without_a_base_equal_parents_give_the_first() -> None:
    one = space(LINEAR, base=None, unmoved=places(at0=BOTH, at1=BOTH, at2=["math"]))
    assert [each.region for each in one.left_out] == ["layers0-1"]
    recipe = one.decode([0.5] * len(one.genes))
    assert recipe.parameters_of("mlp", 0) == {"weight": {"math": 1.0, "ja": 0.0}, "normalize": True}
    assert recipe.parameters_of("mlp", 2)["weight"] == {"math": 0.5, "ja": 0.5}


def test_without_a_base_some_equal_parents_keep_their_genes() -> None:
    three = (*PARENTS, replace(PARENTS[0], name="code"))
    one = space(LINEAR, base=None, parents=three, unmoved=places(at0=("math", "ja"), at1=("math", "ja")))
    assert one.left_out == []


def test_a_sum_that_is_not_normalised_keeps_its_genes() -> None:
    one = space(LINEAR, base=None, parameters={"normalize": False}, unmoved=places(at0=BOTH, at1=BOTH))
    assert one.left_out == []


def test_an_arc_between_equals_is_its_first_end() -> None:
    slerp = MethodSpec("arc", "", "", (Parameter("t", 0.5),), needs_base=False, of_equals={"t": 0.0})
    one = space(slerp, base=None, unmoved=places(at0=BOTH, at1=BOTH))
    assert one.decode([0.5] * len(one.genes)).parameters_of("mlp", 0)["t"] == 0.0
