import json

import pytest
from jsonschema import Draft7Validator

from evomerge.cli.main import main
from evomerge.config.keys import ROOT, all_keys
from evomerge.config.options import option_keys
from evomerge.optimizers.registry import OPTIMIZERS


def test_all_keys_stand_in_a_tree_with_default_and_help(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    for name in (*all_keys(), *option_keys()):
        if name != ROOT:
            last = "[]" if name.endswith("[]") else name.rpartition(".")[2]
            assert any(line.split()[:1] == [last] for line in out.splitlines()), name


def test_a_key_is_explained_with_type_default_and_help(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "fitness.items"]) == 0
    out = capsys.readouterr().out
    assert "search items that a candidate gets" in out
    assert "integer" in out and "a whole number from 1" in out and "null" in out


def test_names_have_a_line_each(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "evaluation.engine"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {"hf", "vllm", "lm-eval"} <= lines.keys()
    assert "vLLM" in lines["vllm"]
    assert main(["explain", "space.name"]) == 0
    assert "which layer of which parent" in capsys.readouterr().out


def test_a_section_is_explained_with_its_keys(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "budget"]) == 0
    out = capsys.readouterr().out
    assert all(key in out for key in ("candidates", "items", "seconds"))


@pytest.mark.parametrize("name", ["evaluation.tasks[].metric", "evaluation.tasks.metric", "evaluation.tasks[0].metric"])
def test_keys_of_entries_are_found_however_they_are_written(name: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == "evaluation.tasks[].metric"


def test_keys_of_a_stage_are_those_of_the_search(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "stages.layers.space.path.scales", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == "space.path.scales"


@pytest.mark.parametrize("name", ["optimizer.population", "stages.layers.optimizer.population"])
def test_options_of_the_optimizers_are_explained_each_with_its_default(
    name: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["explain", name]) == 0
    out = capsys.readouterr().out
    assert "null (cma), 4 (mixed), 16 (nsga2)" in out
    assert "individuals are kept, from 1" in out and "a generation has, from 4" in out


def test_every_option_of_every_optimizer_has_its_meaning() -> None:
    for name, owner in OPTIMIZERS.all_built_in().items():
        for option in owner.OPTIONS:
            key = option_keys()[f"optimizer.{option}"]
            assert key.of[name] and key.type != "any"


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("space.genes.weight.start", "space.genes"),
        ("method.parameters.density", "method.parameters"),
        ("execution.runtime_env.env_vars", "execution.runtime_env"),
    ],
)
def test_what_is_named_by_the_user_is_explained_by_its_section(
    name: str, section: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["explain", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == section


def test_where_a_gene_starts_is_explained(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "space.genes"]) == 0
    assert "the middle of the range" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("optimizer.sigmaa", "optimizer.sigma"),
        ("evaluation.tusks", "evaluation.tasks"),
        ("fitness.item", "fitness.items"),
        ("optimiser", "optimizer"),
        ("evaluation.tasks.metrik", "evaluation.tasks[].m"),
    ],
)
def test_an_unknown_key_names_the_nearest(name: str, near: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", name]) == 2
    assert f"did you mean '{near}" in capsys.readouterr().err


def test_json_has_stable_keys(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    names = [one["key"] for one in listed]
    assert [name for name in names if name not in option_keys()] == [name for name in all_keys() if name != ROOT]
    assert set(names) >= option_keys().keys()
    for one in listed:
        assert list(one) == ["key", "type", "default", "low", "high", "choices", "help", "at_resume"]
    found = {one["key"]: one for one in listed}
    assert found["seed"] | {"help": ""} == {
        **{
            "key": "seed",
            "type": "integer",
            "default": 0,
            "low": 0,
            "high": None,
            "choices": None,
            "help": "",
            "at_resume": None,
        }
    }
    assert set(found["fitness.estimator"]["choices"]) >= {"model", "mean", "mixture"}
    assert main(["explain", "seed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found["seed"]


def test_the_schema_for_editors_can_be_printed(capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "--schema"]) == 0
    Draft7Validator.check_schema(json.loads(capsys.readouterr().out))
