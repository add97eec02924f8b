"""What is a gene and what is fixed; ranges and starts; and every mistake named at once."""

from __future__ import annotations

from typing import Any

import pytest
from genome_cases import BASE, PARENTS, make, only

from evomerge.errors import ConfigError
from evomerge.genome import Gene
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent
from evomerge.recipe.method import MethodSpec, Parameter


def by_name(**arguments: Any) -> dict[str, Gene]:
    return {gene.name: gene for gene in make(**arguments).genes}


def test_the_method_says_what_a_search_evolves() -> None:
    names = list(by_name(blocks=1, embeddings="block"))
    assert names == [
        "weight.math.layers0-3",
        "weight.ja.layers0-3",
        "density.math.layers0-3",
        "density.ja.layers0-3",
        "t.layers0-3",
        "lambda",
    ]


def test_ranges_and_starts_come_from_the_method() -> None:
    genes = by_name()
    assert (genes["lambda"].low, genes["lambda"].high, genes["lambda"].start) == (0.5, 2.5, 1.0)
    density = genes["density.ja.head"]
    assert (density.low, density.high, density.start, density.log) == (0.05, 1.0, 0.2, True)


def test_ranges_starts_and_scales_can_be_overridden_per_parameter_and_per_parent() -> None:
    genes = by_name(
        genes={
            "weight": {"low": 0.1, "high": 2, "log": True, "parents": {"math": {"start": 0.8}, "ja": {"high": 3.0}}},
            "density": {"log": False},
        }
    )
    math, ja = genes["weight.math.layers2-3"], genes["weight.ja.layers2-3"]
    assert (math.low, math.high, math.start, math.log) == (0.1, 2.0, 0.8, True)
    assert (ja.low, ja.high, ja.start, ja.log) == (0.1, 3.0, 1.0, True)
    assert not genes["density.math.head"].log


def test_a_default_start_on_the_border_or_outside_moves_to_the_middle_but_a_stated_one_stays() -> None:
    assert by_name(method=only("weight", high=1.0))["weight.ja.head"].start == 0.5
    assert by_name(genes={"weight": {"low": 2.0, "high": 3.0}})["weight.ja.head"].start == 2.5
    assert by_name(genes={"density": {"low": 0.25}})["density.ja.head"].start == pytest.approx(0.5)  # √(.25 · 1)
    assert by_name(genes={"weight": {"high": 1.0, "start": 1.0}})["weight.ja.head"].start == 1.0


def test_a_scope_turns_many_genes_into_one_and_one_into_many() -> None:
    names = set(by_name(genes={"weight": {"scope": "global"}, "lambda": {"scope": "group"}}))
    assert {"weight.math", "weight.ja", "lambda.embeddings", "lambda.layers0-1", "lambda.head"} <= names
    assert "lambda" not in names
    assert not any(name.startswith("weight.math.") for name in names)


def test_a_global_gene_is_written_once_and_governs_every_tensor() -> None:
    space = make(method=only("weight"), genes={"weight": {"scope": "global"}})
    recipe = space.decode([0.3, 1.2])
    assert dict(recipe.parameters) == {"weight": {"math": 0.3, "ja": 1.2}}
    assert recipe.groups == ()


def test_naming_a_parameter_that_a_search_leaves_alone_evolves_it() -> None:
    assert not any(name.startswith("epsilon") for name in by_name())
    assert "epsilon.layers0-1" in by_name(genes={"epsilon": {}})
    assert by_name(genes={"epsilon": {"high": 0.2}})["epsilon.head"].high == 0.2
    assert not any(name.startswith("epsilon") for name in by_name(genes={"epsilon": {"fixed": 0.2}}))


def test_fixed_parameters_are_no_genes() -> None:
    for arguments in ({"parameters": {"weight": 0.7}}, {"genes": {"weight": {"fixed": 0.7}}}):
        space = make(**arguments)
        assert not any(gene.name.startswith("weight") for gene in space.genes)
        recipe = space.decode(space.genome(space.start))
        assert recipe.parameters["weight"] == 0.7
        assert recipe.parameters_of("mlp", 3)["weight"] == 0.7


def test_some_parents_can_be_fixed_while_others_evolve() -> None:
    for arguments in (
        {"parameters": {"weight": {"math": 1.0}}},
        {"genes": {"weight": {"parents": {"math": {"fixed": 1.0}}}}},
        {"genes": {"weight": {"low": 0.2, "parents": {"math": {"fixed": 1.0}}}}},
        {"genes": {"weight": {"fixed": 1.0, "parents": {"ja": {"low": 0.0, "high": 1.5}}}}},
    ):
        space = make(method=only("weight"), blocks=1, embeddings="block", **arguments)
        assert [gene.name for gene in space.genes] == ["weight.ja.layers0-3"]
        recipe = space.decode([0.4])
        assert recipe.parameters_of("attention", 0)["weight"] == {"math": 1.0, "ja": 0.4}


def test_different_fixed_values_per_parent_are_written_by_name() -> None:
    recipe = make(parameters={"weight": {"math": 1.0, "ja": 0.5}}).decode([0.5] * 13)
    assert recipe.parameters["weight"] == {"math": 1.0, "ja": 0.5}


def test_words_and_flags_can_be_fixed() -> None:
    space = make(parameters={"normalize": False, "election": "count", "epsilon": 0})
    recipe = space.decode(space.genome(space.start))
    assert (recipe.parameters["normalize"], recipe.parameters["election"]) == (False, "count")
    assert recipe.parameters["epsilon"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"genes": {"wieght": {}}}, r"`space\.genes`: unknown parameter of mix 'wieght'; did you mean 'weight'"),
        ({"parameters": {"wieght": 1}}, r"unknown parameter of mix 'wieght'; did you mean 'weight'"),
        ({"genes": {"weight": 3}}, r"`space\.genes\.weight` must be a mapping .* came 3"),
        ({"genes": {"weight": {"hihg": 3}}}, r"unknown key in `space\.genes\.weight` 'hihg'; did you mean 'high'"),
        ({"genes": {"weight": {"low": "a"}}}, r"`space\.genes\.weight`: `low` must be a finite number, but came 'a'"),
        ({"genes": {"weight": {"high": float("inf")}}}, r"`high` must be a finite number, but came inf"),
        ({"genes": {"weight": {"start": True}}}, r"`start` must be a finite number, but came True"),
        ({"genes": {"weight": {"low": 2}}}, r"`low` must be below `high`, but came low 2 and high 1\.5"),
        ({"genes": {"weight": {"low": 1, "high": 1}}}, r"`low` must be below `high`"),
        ({"genes": {"weight": {"start": 1.6}}}, r"`start` must lie in \[0, 1\.5\], but came 1\.6"),
        ({"genes": {"weight": {"log": True}}}, r"logarithmic scale needs `low` above 0, but low is 0"),
        ({"genes": {"weight": {"log": "yes"}}}, r"`log` must be true or false, but came 'yes'"),
        ({"genes": {"weight": {"scope": "groups"}}}, r"scope in `space\.genes\.weight` 'groups'; did you mean 'group'"),
        ({"genes": {"weight": {"fixed": "a"}}}, r"`fixed` must be a finite number, but came 'a'"),
        ({"genes": {"weight": {"fixed": 1, "low": 0}}}, r"has `fixed` and also low; a fixed value has no range"),
        ({"genes": {"weight": {"parents": {"maths": {}}}}}, r"parent in `space\.genes\.weight` 'maths'.*'math'"),
        ({"genes": {"weight": {"parents": ["math"]}}}, r"`parents` must map parent names to ranges"),
        ({"genes": {"weight": {"parents": {"math": 0.8}}}}, r"`parents\.math` must be a mapping like .* came 0\.8"),
        ({"genes": {"weight": {"parents": {"math": {"scope": "group"}}}}}, r"key in .* for math 'scope'"),
        ({"genes": {"weight": {"parents": {"math": {"start": 9}}}}}, r"weight\.parents\.math`: `start` must lie in"),
        ({"genes": {"t": {"parents": {"math": {"start": 0.1}}}}}, r"t is one number for all parents"),
        ({"genes": {"election": {"low": 0}}}, r"`low` has no meaning for election, which is one of sum, count"),
        ({"genes": {"normalize": {"log": True}}}, r"`log` has no meaning for normalize, which is true or false"),
        ({"genes": {"weight": {"choices": [1, 2]}}}, r"`choices` has no meaning for weight, which is a number"),
        ({"genes": {"election": ["sum"]}}, r"`space\.genes\.election` must be a mapping like \{choices: \[\.\.\.\]\}"),
        ({"genes": {"election": {"choices": "sum"}}}, r"`choices` must list values .* \[sum, count\], but came 'sum'"),
        ({"genes": {"election": {"choices": ["sum", "cuont"]}}}, r"unknown value of .* 'cuont'; did you mean 'count'"),
        ({"genes": {"election": {"choices": ["sum"]}}}, r"two values at least; one alone is \{fixed: sum\}"),
        ({"genes": {"normalize": {"choices": [1, 0]}}}, r"choices must be true or false, but came 1"),
        ({"genes": {"election": {"start": "cuont"}}}, r"`start` must be one of sum, count, but came 'cuont'"),
        ({"genes": {"normalize": {"start": 1}}}, r"`start` must be one of true, false, but came 1"),
        ({"genes": {"election": {"parents": {"math": {}}}}}, r"election is one value for all parents"),
        ({"genes": {"election": {"fixed": "sum", "choices": ["sum"]}}}, r"has `fixed` and also choices"),
        ({"genes": {"election": {"fixed": "cuont"}}}, r"unknown value of .* 'cuont'; did you mean 'count'"),
        ({"parameters": {"election": "counts"}}, r"value of `method\.parameters\.election` 'counts'; .* 'count'"),
        ({"parameters": {"normalize": 1}}, r"`method\.parameters\.normalize` must be true or false, but came 1"),
        ({"parameters": {"weight": "a"}}, r"`method\.parameters\.weight` must be a finite number, but came 'a'"),
        ({"parameters": {"weight": {"maths": 1}}}, r"parent in `method\.parameters\.weight` 'maths'"),
        ({"parameters": {"t": {"math": 1}}}, r"`method\.parameters\.t` must be one value for all parents"),
        (
            {"parameters": {"weight": 1}, "genes": {"weight": {"low": 0.1}}},
            r"weight of math is fixed in `method\.parameters` and set in `space\.genes\.weight`",
        ),
        (
            {"parameters": {"t": 0.1}, "genes": {"t": {"low": 0.1}}},
            r"^t is fixed in `method\.parameters` and set in `space\.genes\.t`",
        ),
        ({"base": None}, r"mix measures task vectors from a base, but there is none"),
        ({"parents": ()}, r"at least one parent"),
        ({"parents": (PARENTS[0], PARENTS[0])}, r"parent names must differ"),
        ({"dtype": "int8"}, r"dtype must be one of float32"),
        ({"tokenizer": "maths"}, r"tokenizer must name a parent"),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_its_cure(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**arguments)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make(
            base=None,
            blocks=9,
            roles={"a": ["attention"]},
            genes={"weight": {"low": 3}, "densty": {}},
            parameters={"election": "x"},
        )
    assert len(caught.value.problems) == len(set(caught.value.problems)) == 5


def test_a_mistake_in_what_holds_for_all_parents_is_named_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make(genes={"weight": {"low": 1, "high": 1}, "density": {"low": 2}})
    assert len(caught.value.problems) == len(set(caught.value.problems)) == 2


def test_fixing_everything_leaves_nothing_to_evolve() -> None:
    with pytest.raises(ConfigError, match=r"every parameter of one is fixed.*`evomerge merge`"):
        make(method=only("weight"), parameters={"weight": 1.0})


@pytest.mark.parametrize(
    ("limits", "message"), [((2, 2), "merges 2 parents"), ((2, None), "at least 2"), ((2, 5), "2 to 5")]
)
def test_too_few_parents_are_refused(limits: tuple[int, int | None], message: str) -> None:
    method = MethodSpec("pair", "", "", (Parameter("t", 0.5),), n_parents=limits)
    with pytest.raises(ConfigError, match=rf"{message}.* but there are 1"):
        make(method=method, parents=PARENTS[:1])
    assert make(method=method, parents=PARENTS).n_dims == 4


def test_a_method_without_a_base_needs_none() -> None:
    method = MethodSpec("soup", "", "", (Parameter("weight", 0.5, per_parent=True),), needs_base=False)
    assert make(method=method, base=None).decode([0.5] * 8).base is None
    assert make(method=method, base=BASE).decode([0.5] * 8).base == BASE


def test_genes_with_the_same_name_are_refused() -> None:
    parents = (Parent("a", ModelSource("x")), Parent("a.layers0-1", ModelSource("y")))
    with pytest.raises(ConfigError, match=r"rename a parent or a role group: .* 'weight\.a\.layers0-1\.head'"):
        make(method=only("weight"), parents=parents, roles={"head": ["attention"], "mlp": ["mlp"]})


def test_the_first_parent_has_no_gene_where_the_others_are_added_to_it() -> None:
    weight = Parameter("weight", 1.0, 0.0, 1.5, per_parent=True, for_first=False)
    space = make(method=MethodSpec("m", "", "", (weight,)), blocks=1, embeddings="block", genes={"weight": {"high": 2}})
    assert [gene.name for gene in space.genes] == ["weight.ja.layers0-3"]
    assert space.decode(space.genome(space.start)).groups[0].parameters["weight"] == {"math": 1.0, "ja": 1.0}


def test_a_method_that_mixes_no_weights_has_no_parameter_space() -> None:
    with pytest.raises(ConfigError, match=r"^passthrough mixes no weights, so its path is all there is to evolve"):
        make(method=MethodSpec("passthrough", "", "", ()))


def test_every_method_that_mixes_weights_has_a_space() -> None:
    from evomerge.merge.methods.registry import METHODS, find_method
    from evomerge.merge.plan import check_recipe

    for method in map(find_method, METHODS):
        spec = method.spec
        if spec.name == PASSTHROUGH or not any(parameter.gene for parameter in spec.parameters):
            continue
        assert all(set(parameter.when) <= {one.name for one in spec.parameters} for parameter in spec.parameters)
        space = make(method=spec, parents=PARENTS[: spec.n_parents[1]])
        recipe = space.decode(space.genome(space.start))
        assert recipe.method == spec.name
        check_recipe(recipe)
        for gene in space.genes:
            assert gene.low < gene.start < gene.high or gene.kind != "float"


def test_what_counts_in_matrices_alone_has_no_gene_where_there_are_none() -> None:
    from evomerge.merge.methods.registry import find_method
    from evomerge.merge.plan import check_recipe

    method = find_method("iso_c").spec
    roles = {"attention": ["attention"], "norms": ["norm"], "rest": ["mlp", "other"]}
    space = make(method=method, n_layers=2, blocks=1, roles=roles)
    assert [gene.name for gene in space.genes] == [
        *(
            "alpha.embeddings",
            "alpha.layers0-1.attention",
            "alpha.layers0-1.norms",
            "alpha.layers0-1.rest",
            "alpha.head",
        ),
        *("beta.layers0-1.attention", "beta.layers0-1.rest"),
    ]
    genome = space.genome(space.start)
    found = space.decode(genome)
    check_recipe(found)
    assert [group.name for group in found.groups if "beta" in group.parameters] == [
        "layers0-1.attention",
        "layers0-1.rest",
    ]
    assert all("alpha" in group.parameters for group in found.groups)
    assert all(space.awake(genome))


@pytest.mark.parametrize(("n_layers", "highest", "start"), [(1, 1, 0), (4, 2, 2), (32, 16, 2)])
def test_a_range_in_layers_follows_the_depth_of_the_model(n_layers: int, highest: int, start: int) -> None:
    ends = tuple(Parameter(name, 2, 0, 8, integer=True, scope="global", of_layers=0.5) for name in ("bottom", "top"))
    method = MethodSpec("swap", "", "", ends, needs_base=False)
    found = by_name(method=method, base=None, n_layers=n_layers, blocks=1, genes={"top": {"high": 8}}, parameters={})
    assert (found["bottom"].low, found["bottom"].high, found["bottom"].start) == (0, highest, start)
    assert (found["top"].high, found["top"].start) == (8, 2)
