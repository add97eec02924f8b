import copy
from typing import Any

import pytest

from evomerge.config.keys import all_keys
from evomerge.config.reader import from_data, read
from evomerge.errors import ConfigError
from evomerge.estimation import run_estimators as estimate
from evomerge.evaluation.floor import Floor
from evomerge.evaluation.task import Constraint, Task
from evomerge.fitness import choose, race

WHOLE = {
    "name": "mine",
    "seed": 3,
    "run": {"dir": "somewhere"},
    "models": {"base": "org/base", "parents": {"a": "org/a", "b": {"path": "org/b", "revision": "main"}}},
    "method": {"name": "ties", "parameters": {"lambda": 1.0}},
    "space": {"blocks": [[0, 2], [2, 4]], "roles": {"all": ["attention", "mlp"]}, "genes": {"weight": {"high": 2}}},
    "optimizer": {"name": "cma", "sigma": 0.1},
    "budget": {"candidates": 10},
    "evaluation": {"tasks": [{"name": "gsm8k", "metric": "exact_match"}], "split": {"search": 50, "test": None}},
    "execution": {"device": "cpu"},
}


def changed(path: str, value: object) -> dict:
    data = copy.deepcopy(WHOLE)
    keys = path.split(".")
    inner = data
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    return data


def test_a_whole_configuration_is_read() -> None:
    config = from_data(WHOLE)
    assert [parent.name for parent in config.models.parents] == ["a", "b"]
    (stage,) = config.stages
    assert (stage.share, stage.space.name, stage.space.blocks) == (1.0, "parameter", ((0, 2), (2, 4)))
    assert stage.optimizer.options == {"sigma": 0.1}
    assert config.evaluation.split.search == 50 and config.evaluation.split.test is None
    assert (config.seed, config.budget.candidates, config.execution.device) == (3, 10, "cpu")


def test_names_alone_do_for_method_and_optimizer() -> None:
    config = from_data({**WHOLE, "method": "linear", "optimizer": "random"})
    assert (config.method.name, config.stages[0].optimizer.name) == ("linear", "random")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("budget.candidates", 0, r"`budget.candidates` must be a whole number from 1, but came 0"),
        ("budget.seconds", 0, r"`budget.seconds` must be a number above 0"),
        ("budget", {}, r"`budget` needs at least one limit"),
        (
            "method.density",
            0.3,
            r"unknown key in method 'density'.*; parameters of the method belong into `method.parameters`",
        ),
        ("budget", {"candidate": 3}, r"unknown key in budget 'candidate'; did you mean 'candidates'"),
        ("execution.cache", 10**400, r"`execution.cache` must"),
        ("seed", -1, r"`seed` must be a whole number from 0"),
        ("seed", 1.5, r"`seed` must be a whole number"),
        ("run_dir", "x", r"unknown key in the configuration 'run_dir'; did you mean 'run\.dir'\?"),
        ("budget-items", 3, r"unknown key in the configuration 'budget-items'; did you mean 'budget\.items'\?"),
        ("include_path", ["x"], r"'include_path'; did you mean 'evaluation\.include_path'\?"),
        ("evaluation.threads", 2, r"unknown key in evaluation 'threads'; did you mean 'execution\.threads'\?"),
        ("modles", {}, r"unknown key in the configuration 'modles'; did you mean 'models'"),
        ("models", {}, r"`models` is missing"),
        ("models.parents", {}, r"`models.parents` must map at least one name"),
        ("models.parents", {"base": "x"}, r"no parent may be called 'base'"),
        ("models.dtype", "fp8", r"unknown models.dtype 'fp8'"),
        ("models.tokenizer", "c", r"tokenizer must name a parent"),
        ("models.generation_config", "c", r"generation_config must name a parent"),
        ("method", None, r"`method` is missing"),
        ("method", {"name": None, "parameters": {}}, r"`method.name` is missing"),
        ("space.genes", {"weight": 3}, r"`space.genes.weight` must be a mapping"),
        ("space.name", "layers", r"unknown space.name 'layers'"),
        ("space.path", {"encoding": "bits"}, r"unknown space.path.encoding 'bits'"),
        ("space.path", {"repeat": 2}, r"unknown key in space.path 'repeat'; did you mean 'repeats'"),
        (
            "space.path",
            {"encoding": "segments", "offset": 0.1},
            r"`space.path.offset` is no option of the encoding segm",
        ),
        ("space.path", {"parents": "a"}, r"`space.path.parents` must list names of parents, but came 'a'"),
        ("space.layer_cost", "dear", r"`space.layer_cost` must be a number"),
        ("stages", {"a": {"share": 0.5}}, r"the shares of the stages must sum to 1, but sum to 0.5"),
        ("stages", {"a": {"share": 0}, "b": {"share": 1}}, r"`stages.a.share` must be a number above 0"),
        ("stages", {"a": {"spaces": {}}}, r"unknown key in stages.a 'spaces'; did you mean 'space'"),
        ("stages", {"a": {}, "b": {}}, r"`stages.b.space.name` must be dataflow: .* but it is parameter"),
        ("evaluation.tasks", [], r"must list at least one task"),
        ("evaluation.tasks", [{"name": "gsm8k"}], r"needs metric"),
        ("evaluation.tasks", [{"name": "a", "metric": "acc", "weight": -1}], r"weight must be a finite number"),
        ("evaluation.tasks", [{"name": "a", "metric": "acc", "direction": "up"}], r"direction must be 'maximize'"),
        ("evaluation.split.search", 1.5, r"size of the search split must be"),
        ("evaluation.split.train", 3, r"unknown key in evaluation.split 'train'"),
        ("evaluation.engine", "vlm", r"unknown evaluation.engine 'vlm'; did you mean 'vllm'"),
        ("execution.name", "slurm", r"unknown execution.name 'slurm'"),
        ("execution.cache", "much", r"`execution.cache` must be auto, none or a size in GiB, but came 'much'"),
        ("execution.cache", -1, r"`execution.cache` must be auto, none or a size in GiB, but came -1"),
        ("execution.cache", float("inf"), r"`execution.cache` must be .* came inf"),
        ("execution.cache", True, r"`execution.cache` must be .* came True"),
    ],
)
def test_a_mistake_is_named_with_its_place(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_data(changed(path, value))


def test_entries_may_share_a_task_and_have_limits_and_options() -> None:
    tasks = [
        {"name": "a", "metric": "acc", "test": "b"},
        {"name": "a", "metric": "refused", "constraint": {"max": 0.05}},
        {"name": "a", "metric": "negative_flips", "reference": "math", "of": "acc", "weight": 0.5},
        {"name": "c", "metric": "entropy", "collapse_margin": 0.2},
        *(
            {"name": f"d{i}", "metric": "acc", "floor": one}
            for i, one in enumerate((1, "95%", {"of_best_parent": 0.95}))
        ),
    ]
    first, limited, flips, entropy, *kept = from_data(changed("evaluation.tasks", tasks)).evaluation.tasks
    assert first.task == limited.task == flips.task == Task("a", test="b")
    assert (first.weight, first.constraint) == (1.0, None)
    assert (limited.weight, limited.constraint) == (0.0, Constraint(max=0.05))
    assert (flips.reference, flips.of, flips.weight) == ("math", "acc", 0.5)
    assert entropy.collapse_margin == 0.2
    assert [one.floor for one in kept] == [Floor(absolute=1), Floor(of_best_parent=0.95), Floor(of_best_parent=0.95)]
    assert all(one.weight == 1.0 for one in kept)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"constraint": {"maximum": 1}},
            r"unknown key in evaluation.tasks\[0\].constraint 'maximum'; did you mean 'max'",
        ),
        ({"constraint": 0.05}, r"`evaluation.tasks\[0\].constraint` must be like \{max: 0.05\} or .*, but came 0.05"),
        ({"constraint": {"max": 0.1}, "weight": 2.0}, r"has a constraint and a weight of 2.0"),
        ({"floor": "0.95"}, r"`evaluation.tasks\[0\].floor` must be a number, a share of the best parent like 95%, or"),
        ({"floor": "-5%"}, r"must lie above 0 and not beyond 10 \(0.95, or 95%\), but came -0.05"),
        ({"floor": {"parent": 0.9}}, r"unknown key in evaluation.tasks\[0\].floor 'parent'"),
        ({"floor": 0.5, "direction": "minimize"}, r"is to be small, so it has no floor"),
        ({"references": "a"}, r"unknown key in evaluation.tasks\[0\] 'references'; did you mean 'reference'"),
        ({"test": "c"}, r"its entries do not agree on `test`: 'c', 'd'"),
    ],
)
def test_a_mistake_in_an_entry_is_named(entry: dict, message: str) -> None:
    tasks = [{"name": "a", "metric": "acc", **entry}, {"name": "a", "metric": "other", "test": "d"}]
    with pytest.raises(ConfigError, match=message):
        from_data(changed("evaluation.tasks", tasks))


def test_what_is_made_of_the_tasks_is_a_sum_or_the_worst() -> None:
    assert from_data(changed("evaluation.split.search", 5)).evaluation.objective == "sum"
    assert from_data(changed("evaluation.objective", "worst")).evaluation.objective == "worst"
    with pytest.raises(ConfigError, match=r"evaluation.objective.*'wrost'.*did you mean 'worst'"):
        from_data(changed("evaluation.objective", "wrost"))
    data = changed("evaluation.objective", "worst")
    data["evaluation"]["tasks"][0]["objective"] = "skill"
    with pytest.raises(ConfigError, match="leave its `objective: skill` out"):
        from_data(data)


def test_options_of_an_unknown_encoding_are_no_mistakes_of_their_own() -> None:
    with pytest.raises(ConfigError) as caught:
        from_data(changed("space.path", {"encoding": "segment", "segments": 3}))
    assert [problem[:37] for problem in caught.value.problems] == ["unknown space.path.encoding 'segment'"]


def test_all_mistakes_come_at_once() -> None:
    data = changed("budget.candidates", 0)
    data["seed"] = "x"
    data["evaluation"]["tasks"][0]["weight"] = -1
    with pytest.raises(ConfigError, match="3 mistakes") as caught:
        from_data(data)
    assert len(caught.value.problems) == 3


def test_a_stage_takes_what_it_does_not_say_from_the_whole_search() -> None:
    data = changed("space.path", {"repeats": 2, "max_layers": 9})
    data["stages"] = {
        "weights": {"share": 0.25},
        "layers": {
            "share": 0.75,
            "space": {"name": "dataflow", "path": {"max_layers": 5}},
            "optimizer": {"name": "random"},
        },
    }
    weights, layers = from_data(data).stages
    assert (weights.name, weights.share, weights.space.name, weights.space.merges) == (
        "weights",
        0.25,
        "parameter",
        True,
    )
    assert weights.space.genes == {"weight": {"high": 2}}
    assert weights.optimizer.options == {"sigma": 0.1}
    assert (layers.share, layers.space.stacks, layers.space.merges) == (0.75, True, False)
    assert layers.space.path.options == {"repeats": 2, "max_layers": 5}
    assert layers.optimizer.name == "random"


def test_layer_paths_alone_need_no_method() -> None:
    data = {key: value for key, value in WHOLE.items() if key != "method"}
    assert from_data({**data, "space": {"name": "dataflow"}}).method is None


@pytest.mark.parametrize(
    ("given", "expected"), [(None, "auto"), ("auto", "auto"), ("none", "none"), (0, 0.0), (1.5, 1.5)]
)
def test_the_cache_is_a_word_or_a_size(given: object, expected: object) -> None:
    assert from_data(changed("execution.cache", given)).execution.cache == expected


def test_the_engine_is_our_own_unless_another_is_named() -> None:
    assert from_data(WHOLE).evaluation.engine == "hf"
    assert from_data(changed("evaluation.engine", "vllm")).evaluation.engine == "vllm"


def test_the_engines_are_those_that_evaluation_has() -> None:
    from evomerge.evaluation.engines.registry import ENGINES

    assert set(all_keys()["evaluation.engine"].choices) == set(ENGINES)


def test_the_names_of_fitness_are_those_of_its_parts() -> None:
    assert set(all_keys()["fitness.choose"].choices) == set(choose.POLICIES)
    assert set(all_keys()["fitness.estimator"].choices) == set(estimate.RUN_ESTIMATORS.names)
    assert set(all_keys()["fitness.race.rule"].choices) == set(race.RULES)


@pytest.mark.parametrize("space", ["dataflow", "joint"])
def test_vllm_and_layer_paths_do_not_go_together(space: str) -> None:
    data = changed("space", {"name": space})
    data["evaluation"]["engine"] = "vllm"
    with pytest.raises(ConfigError, match=r"`evaluation.engine` is vllm.*stacks layers.*set `evaluation.engine: hf`"):
        from_data(data)
    data["evaluation"]["engine"] = "hf"
    assert from_data(data).stages[0].space.name == space


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("evaluation.include_path", "folder", ("folder",)),
        ("evaluation.include_path", ["a", "b"], ("a", "b")),
        ("evaluation.allow_unsafe_code", "yes", True),
        ("fitness.fresh", "off", False),
        ("fitness.race", "none", None),
        ("fitness.items", None, None),
        ("execution.device", None, "auto"),
        ("execution.device", ["cuda:0", "cuda:1"], "cuda:0,cuda:1"),
        ("execution.device", "cuda:0, cuda:1", "cuda:0,cuda:1"),
        ("execution.workers", "auto", None),
        ("execution.timeout", None, "auto"),
        ("name", 7, "7"),
        ("seed", None, 0),
    ],
)
def test_a_value_may_be_written_in_several_ways(path: str, value: object, expected: object) -> None:
    found: Any = from_data(changed(path, value))
    for key in path.split("."):
        found = getattr(found, key)
    assert found == expected


def test_a_race_is_a_word_or_a_mapping() -> None:
    for given in ("halving", {"rule": "halving"}):
        race_config = from_data(changed("fitness", {"items": 9, "race": given})).fitness.race
        assert race_config is not None and (race_config.rule, race_config.level) == ("halving", 0.1)


def test_null_is_the_rest_for_a_split_and_a_default_elsewhere() -> None:
    sizes = from_data(changed("evaluation.split", {"search": None, "test": 9})).evaluation.split
    assert (sizes.search, sizes.validation, sizes.test) == (None, 0.2, 9)


def test_what_is_wrong_is_said_once_and_has_its_default_in_what_is_read() -> None:
    data = changed("execution.threads", "many")
    data["space"]["path"] = {"repeats": 2, "offset": 0.1, "encoding": "segments"}
    data["fitness"] = {"race": {"level": 0.7, "lewel": 0.1}, "items": 5}
    data["models"]["parents"] = {}
    data["evaluation"]["tasks"] = [{"name": "gsm8k", "metric": ["acc"]}, {"name": "b"}]
    config, problems = read(data)
    assert config is None
    assert problems == [
        "`models.parents` must map at least one name to a model, like {math: org/math-model}, but came {}",
        "`evaluation.tasks[0].metric` must be a text, but came ['acc']",
        "`evaluation.tasks[1]` needs metric; came {'name': 'b'}",
        "`fitness.race.level` must lie between 0 and 0.5, but came 0.7",
        "unknown key in fitness.race 'lewel'; did you mean 'level'? Known: block, level, most, rule",
        "`execution.threads` must be a whole number from 1 up to 1024, but came 'many'",
        "`space.path.offset` is no option of the encoding segments, which has repeats, scales, scale_low, scale_high, "
        "max_layers, min_layers, segments",
    ]
    config, problems = read(changed("execution.threads", "many"))
    assert config is not None and config.execution.threads is None and len(problems) == 1


def test_a_mistake_in_a_stage_is_named_where_it_takes_effect() -> None:
    data = changed("stages", {"a": {"space": {"blocks": 2}}, "b": {"space": {"name": "dataflow"}, "optimizer": 3}})
    data["space"] = {"layer_cost": "dear"}
    _, problems = read(data)
    assert problems == [
        "`stages.a.space.layer_cost` must be a number, but came 'dear'",
        "`stages.b.space.layer_cost` must be a number, but came 'dear'",
        "`stages.b.optimizer` must be a name or a mapping with `name`, but came 3",
    ]


def test_what_is_read_is_frozen_and_the_mapping_stays_as_it_was() -> None:
    data = changed("stages", {"a": {"space": {"blocks": 2}}})
    before = copy.deepcopy(data)
    config = from_data(data)
    assert data == before
    with pytest.raises(ValueError, match="frozen"):
        config.execution.threads = 3


@pytest.mark.parametrize("name", [None, True, 5])
def test_a_key_that_yaml_reads_as_something_else_than_a_text_is_unknown_like_any_other(name: object) -> None:
    for section in ((), ("budget",), ("execution",)):
        data = copy.deepcopy(WHOLE)
        inner: Any = data
        for step in section:
            inner = inner.setdefault(step, {})
        inner[name] = 1
        _, problems = read(data)
        where = ".".join(section) or "the configuration"
        assert len(problems) == 1 and f"unknown key in {where} '{name}'" in problems[0]


@pytest.mark.parametrize("name", ["../../x", "..", ".", "", "/abs", "a/../../b", "\\x", "x\\..", "x\0y"])
def test_a_name_that_leads_out_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"`name` is .* expected the name of a folder"):
        from_data(changed("name", name))


@pytest.mark.parametrize("name", ["日本", ".hidden", "a..b", "v1.0 (new)", "7", "a/b", "[/red]"])
def test_any_other_name_of_a_search_is_its_own(name: str) -> None:
    assert from_data(changed("name", name)).name == name
