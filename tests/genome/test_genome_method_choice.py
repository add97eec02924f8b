"""The merge method as a gene: one for each region, whose other methods' genes sleep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from genome_cases import BASE, PARENTS

from evomerge.errors import ConfigError
from evomerge.genome import ParameterSpace
from evomerge.genome.methods import MethodChoice
from evomerge.optimizers import make_optimizer
from evomerge.recipe import ModelSource, Parent
from evomerge.recipe.method import MethodSpec, Parameter
from evomerge.record import Result
from evomerge.strategies.vector import VectorStrategy

WEIGHT = Parameter("weight", 1.0, 0.0, 1.5, per_parent=True)
SUM = MethodSpec("sum", "", "", (WEIGHT, Parameter("lambda", 1.0, 0.5, 2.5, scope="global")), share="weight")
TURN = MethodSpec("turn", "", "", (Parameter("t", 0.5),), needs_base=False, n_parents=(2, 2), of_equals={})
TRIM = replace(SUM, name="trim", parameters=(WEIGHT, Parameter("density", 0.5, 0.1, 1.0)))
WHOLE = MethodSpec("whole", "", "", (Parameter("t", 0.5), Parameter("sweep", 2, 1, 4, integer=True, in_groups=False)))
CHOICE = MethodChoice((SUM, TURN, TRIM), "turn")


def space(choice: MethodChoice = CHOICE, **arguments: Any) -> ParameterSpace:
    return ParameterSpace(
        choice, **{"parents": PARENTS, "base": BASE, "n_layers": 4, "blocks": 2, "embeddings": "block", **arguments}
    )


def genome(one: ParameterSpace, **changes: float) -> tuple[float, ...]:
    values = {gene.name: gene.start for gene in one.genes}
    assert values.keys() >= {name.replace("__", ".") for name in changes}
    return tuple({**values, **{name.replace("__", "."): value for name, value in changes.items()}}.values())


METHODS = {"method__layers0-1": 0.0, "method__layers2-3": 2.0}
"""sum, then trim."""


def test_each_region_has_a_method_and_the_genes_of_each_method_bear_its_name() -> None:
    genes = {gene.name: gene for gene in space().genes}
    assert list(genes)[:2] == ["method.layers0-1", "method.layers2-3"]
    assert genes["method.layers0-1"].choices == ("sum", "turn", "trim")
    assert genes["method.layers0-1"].start == 1.0
    assert {"sum.weight.math.layers0-1", "sum.lambda", "turn.t.layers2-3", "trim.density.layers0-1"} <= set(genes)
    assert genes["trim.density.layers0-1"].when == "method is trim"
    whole = space(replace(CHOICE, scope="global"))
    assert [gene.name for gene in whole.genes if gene.name.startswith("method")] == ["method"]
    assert whole.decode(genome(whole, method=2.0)).methods == ("trim",)


def test_where_all_regions_choose_one_method_the_recipe_is_that_methods_own() -> None:
    one = space()
    for index, method in enumerate(CHOICE.methods):
        alone = ParameterSpace(method, PARENTS, base=BASE, n_layers=4, blocks=2, embeddings="block")
        values = {"method__layers0-1": float(index), "method__layers2-3": float(index)}
        assert one.decode(genome(one, **values)) == alone.decode([gene.start for gene in alone.genes])


def test_a_group_with_another_method_says_all_of_its_parameters() -> None:
    one = space()
    recipe = one.decode(genome(one, **METHODS, **{"sum__lambda": 2.0, "trim__density__layers2-3": 0.25}))
    assert recipe.method == "sum"
    assert [recipe.method_of(recipe.group_of("mlp", layer)) for layer in range(4)] == ["sum", "sum", "trim", "trim"]
    assert recipe.parameters_of("mlp", 0) == {"lambda": 2.0, "weight": {"math": 1.0, "ja": 1.0}}
    assert recipe.parameters_of("mlp", 2) == {"density": 0.25, "weight": {"math": 1.0, "ja": 1.0}}


def test_a_gene_that_sleeps_changes_no_hash_and_one_that_is_awake_does() -> None:
    one = space()
    point = genome(one, **METHODS)
    mask, hashed = one.awake(point), one.decode(point).content_hash
    names = {gene.name for gene, counts in zip(one.genes, mask, strict=True) if counts}
    assert names == {
        *("method.layers0-1", "method.layers2-3", "sum.lambda", "trim.density.layers2-3"),
        *(f"{method}.weight.{parent}.{place}" for parent in ("math", "ja")
          for method, place in (("sum", "layers0-1"), ("trim", "layers2-3"))),
    }  # fmt: skip
    for i, (gene, counts) in enumerate(zip(one.genes, mask, strict=True)):
        other = (*point[:i], gene.low if point[i] != gene.low else gene.high, *point[i + 1 :])
        assert (one.decode(other).content_hash != hashed) == counts, gene.name
        assert counts or one.canonical(other) == one.canonical(point)


def test_genes_and_fixed_parameters_stand_below_their_method() -> None:
    one = space(
        genes={"trim": {"density": {"low": 0.2, "start": 0.4}}, "sum": {"weight": {"scope": "global"}}},
        parameters={"sum": {"lambda": 1.5}},
    )
    genes = {gene.name: gene for gene in one.genes}
    assert (genes["trim.density.layers0-1"].low, genes["trim.density.layers0-1"].start) == (0.2, 0.4)
    assert "sum.weight.ja" in genes and "trim.weight.ja.layers0-1" in genes
    assert one.decode(genome(one, **METHODS)).parameters["lambda"] == 1.5


def test_all_mistakes_are_named_at_once() -> None:
    three = (*PARENTS, Parent("code", ModelSource("org/code")))
    with pytest.raises(ConfigError) as caught:
        space(
            parents=three, base=None, genes={"trim": {"densty": {}}, "density": {"low": 1}, "tirm": {}},
            parameters={"sum": {"weight": "a"}, "turn": 1},
        )  # fmt: skip
    assert caught.value.problems == (
        "sum measures task vectors from a base, but there is none; set `models.base`",
        "turn merges 2 parents, but there are 3: math, ja, code; leave out others (`~models.parents.NAME` in a "
        "command)",
        "trim measures task vectors from a base, but there is none; set `models.base`",
        "`method.parameters.turn` must map parameters of turn to their values, but came 1",
        "`space.genes.density`: with several methods, parameters stand below their method's name, like "
        "{trim: {density: …}}",
        "`space.genes`: unknown method of `space.method.choices` 'tirm'; did you mean 'trim' or 'turn'? "
        "Known: sum, trim, turn",
        "`method.parameters.sum.weight` must be a finite number, but came 'a'",
        "`space.genes.trim`: unknown parameter of trim 'densty'; did you mean 'density'? Known: density, weight",
    )


def test_what_holds_for_the_whole_model_is_evolved_only_where_one_method_merges_all_of_it() -> None:
    groups, whole = MethodChoice((SUM, WHOLE), "sum"), MethodChoice((SUM, WHOLE), "sum", "global")
    one = space(groups)
    assert not any("sweep" in gene.name for gene in one.genes)
    recipe = one.decode(genome(one, **{"method__layers2-3": 1.0}))
    assert recipe.parameters_of("mlp", 3) == {"t": 0.5}  # no group may set it
    assert "whole.sweep" in {gene.name for gene in space(whole).genes}
    for said in ({"genes": {"whole": {"sweep": {}}}}, {"parameters": {"whole": {"sweep": 3}}}):
        with pytest.raises(
            ConfigError, match=r"sweep of whole holds for the whole model.*space\.method\.scope: global"
        ):
            space(groups, **said)
    with pytest.raises(ConfigError, match=r"cannot be one of `space\.method\.choices`"):
        space(MethodChoice((SUM, MethodSpec("passthrough", "", "", ())), "sum"))


def test_parents_that_did_not_move_have_no_genes_of_any_method_there() -> None:
    both = {"math", "ja"}
    roles = ("attention", "mlp", "norm")
    unmoved = {(role, layer): both if layer < 2 else set() for role in roles for layer in range(4)}
    unmoved |= {("embedding", None): both, ("head", None): set(), ("norm", None): set()}
    one = space(unmoved=unmoved)
    assert not any("layers0-1" in gene.name for gene in one.genes)  # nor a method
    recipe = one.decode(genome(one, **{"method__layers2-3": 2.0}))
    assert recipe.parameters_of("mlp", 0) == {"t": 0.5} and recipe.parameters_of("mlp", 3)["density"] == 0.5
    some = space(unmoved=lambda method: unmoved if method is SUM else None)
    names = {gene.name for gene in some.genes}
    assert "method.layers0-1" in names and "sum.weight.math.layers0-1" not in names
    recipe = some.decode(genome(some, **{"method__layers0-1": 0.0, "method__layers2-3": 1.0, "sum__lambda": 2.0}))
    assert recipe.parameters_of("mlp", 1) == {"weight": 0.0, "lambda": 1.0}  # a copy of the base, whatever λ is
    assert "sum.lambda" not in {gene.name for gene, counts in zip(some.genes, some.awake(genome(some, **{
        "method__layers0-1": 0.0})), strict=True) if counts}  # fmt: skip


def test_the_mean_of_genomes_is_of_those_that_chose_the_same() -> None:
    one = space()
    best = genome(one, **METHODS, **{"trim__density__layers2-3": 0.2, "turn__t__layers2-3": 0.9})
    second = genome(
        one, **{**METHODS, "method__layers2-3": 1.0, "trim__density__layers2-3": 1.0, "turn__t__layers2-3": 0.1}
    )
    third = genome(one, **METHODS, **{"trim__density__layers2-3": 0.4})
    values = dict(zip((gene.name for gene in one.genes), one.mean([best, second, third]), strict=True))
    assert (values["method.layers2-3"], values["trim.density.layers2-3"]) == (2.0, pytest.approx(0.3))
    assert values["turn.t.layers2-3"] == 0.5  # asleep: at its start


@pytest.mark.parametrize("name", ["nsga2", "mixed"])
def test_a_number_that_is_awake_in_one_parent_alone_is_that_parents(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = space(MethodChoice((SUM, TRIM), "sum", "global"), blocks=1)
    place = next(i for i, gene in enumerate(one.genes) if gene.name == "trim.density.layers0-3")
    awake = lambda x: np.array(one.awake(one.genome(x)))  # noqa: E731
    options: dict[str, Any] = {"population": 4} if name == "nsga2" else {"population": 2}
    optimizer = make_optimizer(
        name, n_dims=one.n_dims, start=one.start, seed=3, kinds=one.kinds, awake=awake, **options
    )
    # Without mutation, a child's coordinates are its parents'; what slept in all but one parent is that one's.
    monkeypatch.setattr(type(optimizer), "_mutated", lambda self, x, steps=None: x if steps is None else (x, steps))
    if name == "nsga2":
        first = [one.start, *np.random.RandomState(0).random_sample((3, one.n_dims))]
        method = [0.75, 0.25, 0.25, 0.25]
    else:
        first, method = [one.start, one.start * 0 + 0.1], [0.75, 0.25]
    for number, (x, choice) in enumerate(zip(first, method, strict=True)):
        x = np.array([choice, *x[1:]])
        asked = optimizer.ask()
        optimizer._ledger.outstanding[asked.number] = x  # type: ignore[attr-defined]
        optimizer.tell(asked.number, Result((1.0 - 0.01 * number,)))
    children = [optimizer.ask().x for _ in range(30)]
    assert {float(child[place]) for child in children if awake(child)[place]} == {float(first[0][place])}


def test_lending_takes_the_coordinate_that_was_tried() -> None:
    from evomerge.optimizers.base import lent

    awake = lambda x: np.array([True, x[0] < 0.5, x[0] >= 0.5, False])  # noqa: E731
    one, other = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.9, 0.8, 0.7, 0.6])
    first, second = lent(awake, one, other)
    assert first.tolist() == [0.1, 0.2, 0.7, 0.4] and second.tolist() == [0.9, 0.2, 0.7, 0.6]
    assert lent(None, one, other) == (one, other)


def test_the_recorded_genome_has_what_sleeps_at_its_start() -> None:
    one = space()
    strategy = VectorStrategy(one, make_optimizer("cma", n_dims=one.n_dims, start=one.start, seed=1))
    for _ in range(10):
        proposal = strategy.ask()
        assert proposal.genome == one.canonical(proposal.genome)
        assert one.decode(proposal.genome) == proposal.recipe
        mask = one.awake(proposal.genome)
        assert all(
            counts or value == gene.start for gene, value, counts in zip(one.genes, proposal.genome, mask, strict=True)
        )
        strategy.tell(proposal.number, Result((0.5,)))
