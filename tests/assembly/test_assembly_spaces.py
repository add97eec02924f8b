"""From a configuration to the spaces of its stages, and what is refused before weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evomerge.assembly import spaces as stages
from evomerge.assembly.memory_plan import merged_models
from evomerge.config.reader import from_data
from evomerge.config.schema import SearchConfig
from evomerge.errors import ConfigError
from evomerge.evaluation.task import TaskSpec
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe, Step

ZOO = {"japanese": "zoo:japanese", "math": "zoo:math"}


def config(models: dict[str, Any] | None = None, **sections: Any) -> SearchConfig:
    data = {
        "models": models or {"parents": ZOO, "dtype": "float32"},
        "budget": {"candidates": 4},
        "evaluation": {"tasks": [{"name": "zoo_ja_math", "metric": "acc"}], "include_path": "zoo:tasks"},
        **sections,
    }
    return from_data(data)


def problems_of(configuration: SearchConfig) -> str:
    found, _ = stages.check_stages(configuration, Sources())
    return "\n".join(found)


MERGE = {"models": {"base": "zoo:base", "parents": ZOO, "dtype": "float32"}, "method": {"name": "task_arithmetic"}}
PATHS = {"name": "dataflow", "path": {"encoding": "segments"}}


def test_the_task_spec_is_only_named_here() -> None:
    assert config(space=PATHS).evaluation.tasks == (TaskSpec("zoo_ja_math", "acc"),)


@pytest.mark.parametrize("encoding", ["indicators", "segments"])
def test_a_path_search_begins_at_its_first_parent_which_is_a_baseline_too(encoding: str) -> None:
    configuration = config(space={"name": "dataflow", "path": {"encoding": encoding}})
    sources = Sources()
    found, (space,) = stages.check_stages(configuration, sources)
    assert found == []
    start = space.decode(space.genome(space.start))
    assert start.path == tuple(Step("japanese", layer) for layer in range(6))
    baselines = stages.baselines(configuration, sources)
    assert list(baselines) == ["japanese", "math", "average"]
    assert baselines["japanese"].content_hash == start.content_hash


def test_a_later_stage_has_the_best_merge_as_first_source_of_layers_and_begins_with_it() -> None:
    configuration = config(
        **MERGE,
        stages={"weights": {"share": 0.5}, "layers": {"share": 0.5, "space": PATHS, "optimizer": {"name": "mixed"}}},
    )
    sources = Sources()
    found, spaces = stages.check_stages(configuration, sources)
    assert found == [] and len(spaces) == 2
    best = spaces[0].decode(spaces[0].genome(spaces[0].start))
    first, second = stages.make_stages(configuration, sources, (1.0,))
    assert (first.name, first.until, second.name, second.until) == ("weights", 0.5, "layers", 1.0)
    strategy = second.begin(best)
    space, optimizer = strategy.space, strategy.optimizer
    assert space.decode(space.genome(space.start)) == best  # scored before, so it is not scored again
    path = space.decode(space.genome(optimizer.ask().x * 0 + 0.99))
    assert path.parents[0] == Parent("merged", best)
    assert {parent.name for parent in path.parents} <= {"merged", "japanese", "math"}


def test_a_joint_genome_gives_a_path_over_its_own_merge() -> None:
    configuration = config(**MERGE, space={"name": "joint", "blocks": 2, "path": {"encoding": "segments"}})
    found, (space,) = stages.check_stages(configuration, Sources())
    assert found == []
    start = space.decode(space.genome(space.start))
    assert start.method == "task_arithmetic" and not start.path
    other = space.decode(space.genome(space.start * 0 + 0.7))
    assert other.path and other.parents[0].name == "merged"
    inner = other.parents[0].source
    assert isinstance(inner, Recipe) and inner.method == "task_arithmetic"


CHOICE = {
    "models": MERGE["models"],
    "space": {"method": {"choices": ["linear", "slerp", "ties"], "start": "slerp"}, "blocks": 2, "embeddings": "block"},
}


def test_the_method_can_be_a_gene_of_each_block() -> None:
    configuration = config(**CHOICE, method={"parameters": {"ties": {"density": 0.4}}})
    assert configuration.methods == ("linear", "slerp", "ties")
    found, (space,) = stages.check_stages(configuration, Sources())
    assert found == []
    names = [gene.name for gene in space.genes]
    assert names[:2] == ["method.layers0-2", "method.layers3-5"]
    values = {gene.name: gene.start for gene in space.genes}
    recipe = space.decode(list(values.values()))
    assert recipe.methods == ("slerp",)
    mixed = space.decode(list((values | {"method.layers3-5": 2.0}).values()))
    assert mixed.methods == ("slerp", "ties")
    assert mixed.parameters_of("mlp", 4)["density"] == 0.4
    assert Sources().plan(mixed)
    assert [one.label for one in merged_models(configuration, Sources())] == ["zoo:japanese", "zoo:math", "zoo:base"]


def test_mistakes_in_the_choice_of_methods_are_named_at_once() -> None:
    three = {**MERGE["models"], "parents": {**ZOO, "third": "zoo:base"}}
    found = problems_of(config(**{**CHOICE, "models": {**three, "base": None}}))
    assert "slerp merges 2 parents, but there are 3" in found
    assert "ties measures task vectors from a base" in found
    method = {"choices": ["linear", "tis", "passthrough"]}
    found = problems_of(config(**{**CHOICE, "space": {"method": method, "genes": {"tis": {"densty": {}}}}}))
    for said in ("'tis'; did you mean 'ties'", "passthrough merges no weights", "parameter of tis 'densty'"):
        assert said in found
    with pytest.raises(ConfigError) as caught:
        config(**{**CHOICE, "space": {"method": {"choices": ["ties", "ties"], "start": "tis"}}})
    assert caught.value.problems == (
        "`space.method.choices` names ties twice",
        "`space.method.choices` must list two methods at least; name a single one by `method.name`",
        "unknown `space.method.start` 'tis'; did you mean 'ties'? Known: ties",
    )
    with pytest.raises(ConfigError, match=r"`method.name` is dare_ties, which is none of `space.method.choices`"):
        config(**{**CHOICE, "space": {"method": {"choices": ["linear", "ties"]}}}, method="dare_ties")
    with pytest.raises(ConfigError, match=r"`method.name` is ties, but `space.method.start` is slerp"):
        config(**CHOICE, method="ties")
    with pytest.raises(ConfigError, match=r"`space.method.start` has no meaning without `space.method.choices`"):
        config(**MERGE, space={"method": {"start": "ties"}})


def test_only_named_parents_lend_layers() -> None:
    space = {"name": "dataflow", "path": {"encoding": "segments", "parents": ["math"]}}
    _, (made,) = stages.check_stages(config(space=space), Sources())
    assert made.decode(made.genome(made.start)).parents == (Parent("math", ModelSource("zoo:math")),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {"base": "zoo:base", "parents": ZOO}, "space": PATHS}, r"models.base is not used where only layer"),
        ({"models": {"parents": {"merged": "zoo:math"}}, "space": PATHS}, r"no parent may be called 'merged'"),
        ({**MERGE, "method": {"name": "passthrough"}}, r"merges no weights; set `space.name: dataflow`"),
        ({**MERGE, "method": {"name": "tis"}}, r"unknown merge method 'tis'; did you mean 'ties'"),
        (
            {"space": {"name": "dataflow", "path": {"parents": ["maths"]}}},
            r"unknown parent in space.path.parents 'maths'; did you mean 'math'",
        ),
        (
            {"space": {"name": "dataflow", "path": {"scales": "matrices", "repeats": 0}}},
            r"`repeats` must be a whole number from 1(.|\n)*unknown kind of `scales` 'matrices'",
        ),
        (
            {"space": {"name": "dataflow", "path": {"max_layers": 1}}},
            r"`max_layers` is 1, but a path has at least 2 layers",
        ),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    import re

    assert re.search(message, problems_of(config(**changes)))


def test_the_optimizer_of_each_stage_is_checked_with_its_own_genes() -> None:
    configuration = config(
        **MERGE,
        stages={
            "weights": {"share": 0.5, "optimizer": {"name": "cma", "sigma": 3}},
            "layers": {"share": 0.5, "space": PATHS, "optimizer": {"name": "mixd"}},
        },
    )
    _, spaces = stages.check_stages(configuration, Sources())
    found = "\n".join(stages.check_strategies(configuration, spaces))
    assert "`sigma` of cma must be" in found and "did you mean 'mixed'" in found


def test_what_a_layer_costs_counts_from_the_first_parents_depth() -> None:
    configuration = config(space={**PATHS, "layer_cost": 0.01})
    (term,) = stages.recipe_terms(configuration, Sources())

    def cost(recipe: Recipe) -> float:
        return -term.weight * term.of(recipe)

    parent = Parent("math", ModelSource("zoo:math"))
    path = tuple(Step("math", layer) for layer in (0, 1, 2, 3, 4, 4, 4, 5))
    assert cost(Recipe("passthrough", (parent,), path=path)) == pytest.approx(0.02)
    assert cost(Recipe("passthrough", (parent,), path=path[:5])) == pytest.approx(-0.01)
    assert cost(Recipe("linear", (parent,))) == 0.0


def test_parents_that_do_not_fit_are_named_with_all_their_differences(tmp_path: Path) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "merge"))
    from tiny_models import make

    make(tmp_path / "a", 0, num_hidden_layers=3)
    make(tmp_path / "b", 1, num_hidden_layers=2, hidden_size=32, vocab_size=30)
    models = {"parents": {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}}
    text = problems_of(config(models, space=PATHS))
    assert "hidden_size is 32 instead of 16" in text and "vocab_size is 30 instead of 24" in text
    assert "num_hidden_layers" not in text  # depths may differ
    make(tmp_path / "c", 1, num_hidden_layers=2)
    models = {"parents": {"a": str(tmp_path / "a"), "c": str(tmp_path / "c")}}
    configuration = config(models, space=PATHS)
    assert problems_of(configuration) == ""
    assert list(stages.baselines(configuration, Sources())) == ["a", "c"]  # no average of unequal depths


def test_every_weight_may_have_a_range_that_begins_at_zero_but_none_that_the_method_refuses() -> None:
    linear = {**MERGE, "method": {"name": "linear"}, "space": {"blocks": 1}}
    assert problems_of(config(**linear)) == "", "only at the corner itself do the weights sum to 0"
    ties = {**MERGE, "method": {"name": "ties"}}
    wide = config(**ties, space={"blocks": 1, "genes": {"density": {"low": -0.5}}})
    assert "density must be between 0 and 1, but came -0.49" in problems_of(wide)


def test_all_is_refused_at_once_by_the_front_door() -> None:
    from evomerge import api

    with pytest.raises(ConfigError) as caught:
        # An option of the other encoding must not stop the checks that follow.
        api.search(
            {
                "models": {"parents": ZOO},
                "space": {"name": "dataflow", "path": {"encoding": "segments", "max_layers": 1, "offset": 0.2}},
                "optimizer": {"name": "cma", "sigma": 5},
                "budget": {"candidates": 0},
                "evaluation": {"tasks": [{"name": "zoo_ja_mth", "metric": "acc"}], "include_path": "zoo:tasks"},
            }
        )
    text = "\n".join(caught.value.problems)
    for part in ("path.offset", "max_layers", "sigma", "budget.candidates", "zoo_ja_mth"):
        assert part in text


def test_wrong_parameters_are_named_beside_a_wrong_name_or_a_wrong_parent() -> None:
    def said(method: dict, **more: object) -> str:
        with pytest.raises(ConfigError) as caught:
            api.search(
                {
                    "models": {"base": "zoo:base", "parents": ZOO},
                    "method": method,
                    "evaluation": {
                        "tasks": [{"name": "zoo_math", "metric": "exact_match"}],
                        "include_path": "zoo:tasks",
                    },
                    **more,
                }
            )
        return "\n".join(caught.value.problems)

    from evomerge import api

    wrong = {"densty": 0.5, "weight": "x"}
    text = said({"name": "tiez", "parameters": wrong}, optimizer={"name": "cmaa", "sgma": 1})
    for part in ("merge method 'tiez'", "'densty'; did you mean 'density'", "weight` must be a finite", "'sgma'"):
        assert part in text
    text = said({"name": "xyz", "parameters": {"densty": 0.5, "t": 0.1}}, space={"genes": {"lamda": {"low": 0}}})
    assert "'xyz'" in text and "'densty'" in text and "'lamda'; did you mean 'lambda'" in text and "'t'" not in text
    text = said({"name": "ties", "parameters": wrong}, models={"base": "zoo:base", "parents": {"a": "/nowhere"}})
    assert "/nowhere" in text and "unknown parameter of ties 'densty'" in text
