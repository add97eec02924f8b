"""What a configuration says however it is written, and which keys may be changed when a run is continued."""

from typing import Any

import pytest

from evomerge.config.canonical import at_resume, canonical, deciding, shown
from evomerge.config.changes import with_changes
from evomerge.config.keys import all_keys
from evomerge.errors import ConfigError

CONFIG: dict[str, Any] = {
    "models": {"base": "zoo:base", "parents": {"math": "zoo:math", "my.model": "zoo:japanese"}},
    "method": "task_arithmetic",
    "space": {"genes": {"weight": {"low": 0, "high": 1.5}}},
    "evaluation": {"tasks": [{"name": "t", "metric": "python:/here/mine.py:f"}]},
    "execution": {"name": "ray", "workers": 3, "threads": 1, "address": "auto"},
}

MAY_CHANGE = {
    "speed": {
        *("evaluation.batch_size", "evaluation.answers.candidates", "evaluation.answers.mib"),
        *(
            f"execution.{name}"
            for name in (
                *("name", "device", "threads", "cache", "parents", "workers", "cpus_per_worker", "gpus_per_worker"),
                *("address", "timeout", "share", "runtime_env"),
            )
        ),
    },
    "shown": {"name", "run.dir", "loggers"},
    "place": {"models.base", "models.parents", "evaluation.include_path", "fitness.responses", "space.start"},
    "limit": {"budget.candidates", "budget.items", "budget.seconds"},
    "effect": {"execution.dtype"},
}
"""A key that is not here decides results; whoever declares one that does not, puts it here as well."""


def test_each_key_that_may_change_was_judged() -> None:
    found: dict[str, set[str]] = {}
    for name, key in all_keys().items():
        if key.at_resume is not None:
            found.setdefault(key.at_resume, set()).add(name)
    assert found == MAY_CHANGE


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("models.parents.my.model", "place"),
        ("execution.runtime_env.env_vars.A", "speed"),
        ("stages.layers.space.genes.weight.low", None),
        ("stages.1.optimizer.sigma", None),
        ("evaluation.tasks[0].weight", None),
        ("optimizer.sigma", None),
    ],
)
def test_what_stands_below_a_key_is_changed_as_that_is(key: str, reason: str | None) -> None:
    assert at_resume(key) == reason


def test_configurations_that_say_the_same_are_equal() -> None:
    other = {
        "seed": 0,
        "models": {"base": {"path": "zoo:base"}, "parents": dict(CONFIG["models"]["parents"]), "dtype": None},
        "method": {"name": "task_arithmetic", "parameters": {}},
        "space": {"name": "parameter", "genes": {"weight": {"high": 1.5, "low": 0.0}}},
        "evaluation": {"tasks": [{"metric": "python:there/mine.py:f", "name": "t", "weight": 1.0}]},
    }
    assert deciding(other) == deciding(CONFIG)
    other["space"]["genes"]["weight"]["low"] = 0.01
    assert {key for key, value in deciding(other).items() if deciding(CONFIG)[key] != value} == {
        "space.genes.weight.low"
    }


def test_references_count_by_their_value_and_are_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIGH", "2.5")
    config = {**CONFIG, "space": {"genes": {"weight": {"high": "${oc.decode:${oc.env:HIGH}}"}}}}
    assert float(canonical(config)["space.genes.weight.high"]) == 2.5
    assert shown(config)["space.genes.weight.high"] == "${oc.decode:${oc.env:HIGH}}"


def test_changes_by_key_by_section_and_by_a_word() -> None:
    assert with_changes(CONFIG, {"execution.threads": 4})["execution"] == {**CONFIG["execution"], "threads": 4}
    assert with_changes(CONFIG, {"execution": {"threads": 4}}) == with_changes(CONFIG, {"execution.threads": 4})
    local = with_changes(CONFIG, {"execution": "local"})["execution"]
    assert local == {"name": "local", "threads": 1}  # the settings of Ray would be mistakes now
    word = with_changes({**CONFIG, "execution": "local"}, {"execution": "ray", "execution.workers": 2})
    assert word["execution"] == {"name": "ray", "workers": 2}
    moved = with_changes(CONFIG, {"models.parents.my.model": "/new"})["models"]["parents"]
    assert moved == {"math": "zoo:math", "my.model": "/new"}
    assert CONFIG["execution"]["threads"] == 1


@pytest.mark.parametrize(
    "key",
    [
        "optimizer.sigma",
        "strategy.mine",
        "stages.layers.optimizer.population",
        "stages.layers.optimizer",
        "stages.layers.space",
        "stages.1.optimizer.sigma",
        "space.genes.weight.low",
        "method.parameters.density",
        "evaluation.tasks[0].weight",
    ],
)
def test_what_a_search_may_have_decides_its_results_declared_or_not(key: str) -> None:
    with pytest.raises(ConfigError, match="decides the results of a search"):
        with_changes(CONFIG, {key: "random"})


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("execution.thread.most", "unknown key in execution 'thread'; did you mean 'threads'"),
        ("stages.layers.shape", "unknown key in stages.layers 'shape'; did you mean 'share'"),
        ("evaluation.tasks[0].wait", "unknown key in evaluation.tasks\\[0\\] 'wait'; did you mean 'weight'"),
    ],
)
def test_an_unknown_key_is_named_where_it_stands(key: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_changes(CONFIG, {key: 1})


def test_all_that_may_not_be_changed_is_named_at_once() -> None:
    changes = {"seed": 1, "execution.thread": 2, "budget.items": 9, "run.dir": "x", "method": "ties", "nonsense": 1}
    with pytest.raises(ConfigError) as raised:
        with_changes(CONFIG, changes)
    said = raised.value.problems
    assert len(said) == len(changes)
    words = [
        "`seed` decides",
        "did you mean 'threads'",
        "`budget`",
        "move its folder",
        "`method.name` decides",
        "nonsense",
    ]
    for problem, word in zip(said, words, strict=True):
        assert word in problem
