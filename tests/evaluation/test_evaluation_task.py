"""What a spec may say, and what it is told when it says something else."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from evomerge.errors import ConfigError
from evomerge.evaluation.floor import Floor
from evomerge.evaluation.task import (
    Constraint,
    SplitSizes,
    Task,
    TaskSpec,
    reference_problems,
    shared,
    spec_problems,
    specs_from_data,
)
from evomerge.record import Split


def test_a_spec_survives_json() -> None:
    specs = (
        TaskSpec("a", "acc", objective="skill", floor=Floor(of_best_parent=0.95)),
        TaskSpec("b", "f", "x", 0.0, "minimize", "c", "d", 3, {"until": ["."]}, Constraint(max=0.5), "m", "acc", 0.2),
    )
    assert specs_from_data(json.loads(json.dumps([spec.to_data() for spec in specs]))) == specs


def test_sources_name_each_task_once() -> None:
    assert TaskSpec("a", "acc").sources == ("a",)
    assert TaskSpec("a", "acc", validation="b", test="b").sources == ("a", "b")
    assert TaskSpec("a", "acc", test="b").source(Split.VALIDATION) == "a"


@pytest.mark.parametrize("size", [0, -1, 1.0, 1.5, True, "5", float("nan")])
def test_a_search_size_that_is_no_count_or_fraction_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="size of the search split must be"):
        SplitSizes(search=size, validation=0.2, test=0.2)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TaskSpec("a", "acc", weight=-1.0), r"weight must be a finite number of at least 0, but came -1.0 .*minimize"),
        (TaskSpec("a", "acc", weight=float("inf")), "but came inf"),
        (TaskSpec("a", "acc", weight=0.0), "every task has weight 0"),
        (TaskSpec("a", "acc", direction="up"), "direction must be 'maximize', 'minimize' or null.*'up'"),  # type: ignore[arg-type]
        (TaskSpec("a", "acc", num_fewshot=-2), "num_fewshot must be a whole number of at least 0, but came -2"),
    ],
)
def test_a_bad_number_or_direction_is_named(spec: TaskSpec, message: str) -> None:
    problems = spec_problems([spec])
    assert len(problems) == 1
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(problems)


def test_no_task_and_a_metric_listed_twice_are_refused() -> None:
    assert spec_problems([]) == ["an objective needs at least one task, but none came"]
    assert spec_problems([TaskSpec("a", "acc"), TaskSpec("a", "acc_norm")]) == []
    twice = [TaskSpec("a", "acc"), TaskSpec("a", "acc", weight=2.0)]
    assert spec_problems(twice) == ["metric 'acc' of task 'a' is listed 2 times; list every metric of a task once"]
    limited = TaskSpec("a", "acc", weight=0.0, constraint=Constraint(min=0.4))
    assert spec_problems([TaskSpec("a", "acc"), limited]) == []  # optimised, and kept above a limit


def test_entries_of_one_task_share_what_is_run_and_must_agree_on_it() -> None:
    first, second = shared([TaskSpec("a", "acc", test="b", num_fewshot=2), TaskSpec("a", "f1", validation="c")])
    assert first.task == second.task == Task("a", "c", "b", 2)
    problems = spec_problems([TaskSpec("a", "acc", test="b"), TaskSpec("a", "f1", test="c", num_fewshot=0)])
    assert len(problems) == 1
    assert "task 'a': its entries do not agree on `test`: 'b', 'c'; they share their items and prompts" in problems[0]


def entry(metric: str = "acc", **options: Any) -> list[TaskSpec]:
    """An entry under test, beside one that is fine."""
    return [TaskSpec("fine", "acc"), TaskSpec("a", metric, **options)]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (entry(weight=0.0, constraint=Constraint()), "a constraint has either max or min, but 0 of them came"),
        (entry(weight=0.0, constraint=Constraint(max=1, min=0)), "but 2 of them came"),
        (entry(weight=0.0, constraint=Constraint(max=math.inf)), "must be a finite number, but came inf"),
        (
            entry(weight=0.5, constraint=Constraint(max=0.1)),
            r"'acc' has a constraint and a weight of 0\.5.*second time",
        ),
        (entry("negative_flips", of="acc"), "'negative_flips' needs `reference`, the baseline to compare with"),
        (entry("negative_flips", reference="math"), "'negative_flips' needs `of`, the metric that says what is right"),
        (entry(reference="math"), "`reference` is an option of 'negative_flips', not of 'acc'"),
        (entry(of="acc"), "`of` is an option of 'negative_flips', not of 'acc'"),
        (entry(collapse_margin=0.2), "`collapse_margin` is an option of 'entropy', not of 'acc'"),
        (entry("entropy", collapse_margin=1.5), r"collapse_margin must be a number from 0 to 1, but came 1\.5"),
    ],
)
def test_an_option_that_is_missing_wrong_or_of_another_metric_is_named(specs: list[TaskSpec], message: str) -> None:
    problems = spec_problems(specs)
    assert len(problems) == 1
    assert re.search(message, problems[0])


def test_a_reference_must_be_a_baseline() -> None:
    flips = TaskSpec("a", "negative_flips", reference="maths", of="acc")
    assert reference_problems([flips], ["math", "average"]) == [
        "unknown baseline in `reference` of task 'a': 'maths'; did you mean 'math'? Known: average, math"
    ]
    assert reference_problems([flips, TaskSpec("a", "acc")], ["maths"]) == []


def test_items_may_not_be_searched_on_by_one_task_and_tested_on_by_another() -> None:
    problems = spec_problems([TaskSpec("a", "acc", test="b"), TaskSpec("b", "acc")])
    assert any(
        "items of 'b' would serve as test items of task 'a' and as search items of task 'b'" in p for p in problems
    )
    assert spec_problems([TaskSpec("a", "acc", test="c"), TaskSpec("b", "acc", test="c")]) == []


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_an_objective_without_a_visible_name_is_refused(name: str) -> None:
    (problem,) = spec_problems([TaskSpec("a", "acc", objective=name)])
    assert "`objective` must be a name for what is improved" in problem
