"""What an editor says of a YAML file with the shipped schema."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from evomerge.config.json_schema import schema_text
from evomerge.system.config_files import configs_path

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    schema = json.loads((configs_path() / "search.schema.json").read_text(encoding="utf-8"))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def test_the_shipped_file_is_up_to_date() -> None:
    shipped = (configs_path() / "search.schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "run: python -m evomerge.config.json_schema"


@pytest.mark.parametrize(
    "path",
    [configs_path() / "search.yaml", *sorted((configs_path() / "experiment").glob("*.yaml"))],
    ids=lambda path: path.stem,
)
def test_the_files_of_the_project_pass_and_name_the_schema(path: Path, validator: Draft7Validator) -> None:
    text = path.read_text(encoding="utf-8")
    assert list(validator.iter_errors(yaml.safe_load(text))) == []
    named = re.search(r"^# yaml-language-server: \$schema=(\S+)$", text, re.MULTILINE)
    assert named and (path.parent / named[1]).resolve() == (configs_path() / "search.schema.json").resolve()


def test_the_example_of_the_readme_passes(validator: Draft7Validator) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert list(validator.iter_errors(yaml.safe_load(example))) == []


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"seed": "${oc.env:SEED}", "budget": {"candidates": "${n}"}, "execution": "${e}"},
        {"execution": "ray", "optimizer": "cma", "method": "ties", "fitness": {"race": "posterior"}},
        {"method": "my_method.py:METHOD", "fitness": {"estimator": "mine:Estimator"}, "optimizer": "nevergrad:DE"},
        {"optimizer": {"name": "cma", "sigma": 0.3}, "fitness": {"race": None}, "space": None},
        {"fitness": {"race": "none"}, "execution": {"timeout": "none", "cache": 2.5, "device": ["cuda:0", "cuda:1"]}},
        {"defaults": ["search", {"override /optimizer": "mixed"}, "_self_"], "hydra": {"run": {"dir": "x"}}},
        {"stages": {"a": {"share": 0.5, "space": {"name": "dataflow"}, "optimizer": "random"}, "b": {}}},
        {"evaluation": {"include_path": "folder", "split": {"search": 100, "validation": 0.2, "test": None}}},
        {"space": {"blocks": [[0, 2], [2, 4]]}, "models": {"parents": {"a": {"path": "b", "revision": "main"}}}},
    ],
)
def test_what_a_file_may_say_passes(data: dict[str, Any], validator: Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(data)] == []


@pytest.mark.parametrize(
    "data",
    [
        {"sed": 1},
        {"seed": "x"},
        {"seed": -1},
        {"budget": {"candidate": 3}},
        {"evaluation": {"engine": "vlm"}},
        {"evaluation": {"tasks": [{"name": "gsm8k"}]}},
        {"execution": "slurm"},
        {"execution": {"cache": "much"}},
        {"fitness": {"race": {"level": 0.7}}},
        {"space": {"path": {"encoding": "bits"}}},
        {"stages": {"a": {"spaces": {}}}},
    ],
)
def test_a_mistake_is_seen(data: dict[str, Any], validator: Draft7Validator) -> None:
    assert list(validator.iter_errors(data))
