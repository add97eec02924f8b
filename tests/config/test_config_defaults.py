"""The YAML files have the keys and defaults of the declaration; so have the classes with options of their own."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.config.keys import ROOT, all_keys
from evomerge.config.schema import ENCODINGS, ExecutionConfig, SearchKeys
from evomerge.genome import settings
from evomerge.genome.dataflow import PathSpace
from evomerge.genome.layout import EMBEDDINGS
from evomerge.genome.segments import SegmentSpace
from evomerge.optimizers.registry import OPTIMIZERS
from evomerge.system.config_files import configs_path

FREE = ("optimizer", "models.parents", "method.parameters", "space.genes", "stages", "execution.runtime_env")
"""Where the user chooses the keys."""

WITHIN = ("evaluation.tasks[]", "fitness.race.", "stages.NAME")
"""What a search may leave out altogether: these keys stand in comments."""


def loaded(path: str) -> dict[str, Any]:
    return yaml.safe_load((configs_path() / path).read_text(encoding="utf-8"))


def flat(data: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{before}{key}"
        inner = isinstance(value, dict) and value and name not in FREE
        found |= flat(value, f"{name}.") if inner else {name: value}
    return found


@pytest.fixture
def written() -> dict[str, Any]:
    """Every key of the YAML files with its value; of Ray's keys those of its group."""
    search = {key: value for key, value in loaded("search.yaml").items() if key not in ("defaults", "hydra")}
    search["execution"] = {**loaded("execution/ray.yaml"), **loaded("execution/local.yaml")}
    search["optimizer"] = loaded("optimizer/cma.yaml")["name"]
    return flat(search)


def test_every_key_stands_in_the_yaml_files_and_every_key_there_is_declared(written: dict[str, Any]) -> None:
    keys = {name: key for name, key in all_keys().items() if name != ROOT and not name.startswith(WITHIN)}
    leaves = {name for name, key in keys.items() if not key.keys} - {"optimizer.name"} | {"optimizer", "fitness.race"}
    assert set(written) == leaves


def test_keys_that_stand_in_comments_are_all_there() -> None:
    text = (configs_path() / "search.yaml").read_text(encoding="utf-8")
    for name, key in all_keys().items():
        if name.startswith(WITHIN) and not name.endswith(("[]", "NAME")):
            assert f"{name.rpartition('.')[2]}:" in text, key


def test_the_yaml_files_say_the_defaults_of_the_declaration(written: dict[str, Any]) -> None:
    words = {"execution.workers": "auto", "models.parents": {}, "evaluation.tasks": [], "method.name": None}
    ours = {name: key.default for name, key in all_keys().items()} | words
    ours["optimizer"] = ours["optimizer.name"]
    del written["run.dir"]  # of the time
    assert {name: value for name, value in written.items() if value != ours[name]} == {}


@pytest.mark.parametrize("name", ["local", "ray"])
def test_a_group_of_execution_is_read_as_its_defaults(name: str) -> None:
    assert ExecutionConfig.model_validate(loaded(f"execution/{name}.yaml")).model_dump() == (
        ExecutionConfig.model_validate(name).model_dump()
    )


def test_what_is_left_out_has_the_defaults_and_nothing_else_is_needed() -> None:
    assert SearchKeys.model_validate({"space": None, "execution": {"device": None}}) == SearchKeys()


@pytest.mark.parametrize("path", sorted((configs_path() / "optimizer").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_options_of_an_optimizer_are_its_own_defaults(path: Path) -> None:
    options = loaded(f"optimizer/{path.name}")
    name = options.pop("name")
    if ":" in name:
        assert not options
        return
    parameters = inspect.signature(OPTIMIZERS.find(name)).parameters
    assert {option: parameters[option].default for option in options} == options


@pytest.mark.parametrize(("encoding", "space"), [("indicators", PathSpace), ("segments", SegmentSpace)])
def test_an_encoding_has_the_options_of_its_space_and_help_says_their_defaults(encoding: str, space: type) -> None:
    parameters = inspect.signature(space).parameters
    own = [
        name
        for name in parameters
        if name
        not in ("parents", "n_layers", "dtype", "tokenizer", "generation_config", "chat_template", "vision", "seed")
    ]
    assert set(ENCODINGS[encoding]) == set(own)
    for name in own:
        default = parameters[name].default
        if default is not None:
            text = default if isinstance(default, str) else f"{default:g}"
            assert f"null: {text}" in all_keys()[f"space.path.{name}"].help


def test_the_schema_of_a_gene_has_the_keys_of_a_setting() -> None:
    space = SearchKeys.model_json_schema()["$defs"]["SpaceConfig"]
    said = space["properties"]["genes"]["additionalProperties"]["anyOf"][0]["properties"]
    assert set(said) == set(settings._KEYS) and set(said["scope"]["enum"]) == {*settings.SCOPES, None}


def test_the_words_of_the_space_are_those_of_its_parts() -> None:
    assert set(all_keys()["space.embeddings"].choices) == set(EMBEDDINGS)
    assert set(all_keys()["space.path.encoding"].choices) == set(ENCODINGS)
