"""What a spec may say, and what it is told when it says something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evomerge.errors import ConfigError
from evomerge.evaluation.task import SplitSizes, TaskSpec, spec_problems, specs_from_data
from evomerge.record import Split


def test_a_spec_survives_json() -> None:
    specs = (TaskSpec("a", "acc"), TaskSpec("b", "f", "x", 0.5, "minimize", "c", "d", 3))
    assert specs_from_data(json.loads(json.dumps([spec.to_data() for spec in specs]))) == specs


def test_sources_name_each_task_once() -> None:
    assert TaskSpec("a", "acc").sources == ("a",)
    assert TaskSpec("a", "acc", validation="b", test="b").sources == ("a", "b")
    assert TaskSpec("a", "acc", test="b").source(Split.VALIDATION) == "a"


@pytest.mark.parametrize("size", [0, -1, 1.0, 1.5, True, "5", float("nan")])
def test_a_search_size_that_is_no_count_or_fraction_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="size of the search split must be"):
        SplitSizes(search=size)


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


def test_no_task_and_a_repeated_task_are_refused() -> None:
    assert spec_problems([]) == ["an objective needs at least one task, but none came"]
    assert "'a' is listed 2 times" in spec_problems([TaskSpec("a", "acc"), TaskSpec("a", "acc_norm")])[0]


def test_items_may_not_be_searched_on_by_one_task_and_tested_on_by_another() -> None:
    problems = spec_problems([TaskSpec("a", "acc", test="b"), TaskSpec("b", "acc")])
    assert any(
        "items of 'b' would serve as test items of task 'a' and as search items of task 'b'" in p for p in problems
    )
    assert spec_problems([TaskSpec("a", "acc", test="c"), TaskSpec("b", "acc", test="c")]) == []
