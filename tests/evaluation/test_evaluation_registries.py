"""Engines and measures by name: of installed packages, and of the user's files."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evomerge.errors import ConfigError
from evomerge.evaluation import TaskSpec
from evomerge.evaluation.catalog import check
from evomerge.evaluation.engines.lm_eval import LmEvalEngine
from evomerge.evaluation.engines.registry import ENGINES, engine_problems, make_engine
from evomerge.evaluation.measures.base import Answered
from evomerge.evaluation.measures.registry import ALWAYS, MEASURES, find_measure, measures_of
from evomerge.evaluation.measures.tokens import GENERATED_TOKENS
from evomerge.system import registry

OWN = """
from evomerge.evaluation.measures.base import Measure

class Own:
    def __init__(self, **settings):
        self.settings = settings

BRIEF = Measure("brief", "minimize", ("generate_until",), lambda item: {"brief": 2.0, "_note": 1.0})
NUMBER = 3
"""
ITEM = Answered(dict, ["one two"], [""], None, len)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's file in the current folder."""
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Pretends that an installed package offers something: (group, name, "module:attribute")."""

    def pretend(group: str, name: str, value: str) -> None:
        point = importlib.metadata.EntryPoint(name, value, group)
        monkeypatch.setattr(
            registry.importlib.metadata, "entry_points", lambda group: [point] if group == point.group else []
        )
        registry._entry_points.cache_clear()

    yield pretend
    registry._entry_points.cache_clear()


def test_an_engine_of_an_installed_package_has_its_name(offer: Callable[[str, str, str], None]) -> None:
    offer("evomerge.engines", "fancy", "evomerge.evaluation.engines.lm_eval:LmEvalEngine")
    assert ENGINES.names == ("hf", "lm-eval", "vllm", "fancy")
    assert isinstance(make_engine("fancy", batch_size=1, max_length=None), LmEvalEngine)


@pytest.mark.parametrize("name", ["own_parts:Own", "own_parts.py:Own"])
def test_an_engine_of_a_users_file_is_made_like_every_other(own: None, name: str) -> None:
    assert engine_problems(name) == []
    made = make_engine(name, batch_size=3, max_length=7, sharers=2, halvings=1)
    assert vars(made) == {"settings": {"batch_size": 3, "max_length": 7, "sharers": 2, "halvings": 1}}


def test_an_engine_that_is_not_there_is_told(own: None) -> None:
    assert engine_problems("hff") == ["unknown evaluation engine 'hff'; did you mean 'hf'? Known: hf, lm-eval, vllm"]
    assert "cannot be found: own_parts has no 'Owner'" in engine_problems("own_parts:Owner")[0]
    with pytest.raises(ConfigError, match="evaluation engine 'own_parts:Owner' cannot be found"):
        make_engine("own_parts:Owner", batch_size=1, max_length=None)


def test_a_measure_of_an_installed_package_has_its_name(offer: Callable[[str, str, str], None]) -> None:
    offer("evomerge.measures", "fancy", "evomerge.evaluation.measures.tokens:GENERATED_TOKENS")
    assert measures_of("generate_until") == [*ALWAYS, "fancy"]
    found = find_measure("fancy")
    assert found is not None and found.function(ITEM) == {"fancy": 7.0}


@pytest.mark.parametrize("name", ["own_parts:BRIEF", "own_parts.py:BRIEF"])
def test_a_measure_of_a_users_file_is_called_as_the_configuration_calls_it(own: None, tasks: Path, name: str) -> None:
    found = find_measure(name)
    assert found is not None and name in MEASURES
    assert (found.name, found.direction) == (name, "minimize")
    assert found.function(ITEM) == {name: 2.0, "_note": 1.0}
    assert check([TaskSpec("copy", name)], [tasks]) == []


def test_a_built_in_measure_is_as_it_is_and_a_metric_of_a_task_is_none() -> None:
    assert find_measure("generated_tokens") is GENERATED_TOKENS
    assert measures_of("multiple_choice") == ["cut_prompts", "entropy"]
    assert find_measure("exact_match") is None


def test_what_is_no_measure_is_refused(own: None) -> None:
    with pytest.raises(ConfigError, match=r"'own_parts:NUMBER' must be an evomerge.*Measure, but is 3"):
        find_measure("own_parts:NUMBER")


@pytest.mark.parametrize(
    "module",
    [
        "evomerge.evaluation.engines.registry",
        "evomerge.evaluation.measures.registry",
        "evomerge.estimation.registry",
        "evomerge.estimation.run_estimators",
    ],
)
def test_names_are_listed_without_loading_anything_heavy(module: str) -> None:
    heavy = ("torch", "ray", "transformers", "lm_eval")
    code = f"import {module}, sys; sys.exit(' '.join(sorted(sys.modules.keys() & set({heavy}))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
