"""A task that no baseline answers is told once the baselines are scored."""

from pathlib import Path

import pytest

from evomerge.analysis.all_wrong import all_wrong
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import TaskSpec
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Record, Split, State
from evomerge.store import RunDir
from evomerge.workflows.search import _Logged

SPECS = [
    TaskSpec("t", "exact_match", filter="flexible", direction="maximize"),
    TaskSpec("t", "generated_tokens", direction="minimize"),
    TaskSpec("u", "acc", direction="maximize"),
]


def test_only_a_metric_that_is_0_for_every_baseline_is_told(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={"name": "x"}) as run:
        for number, name in ((-1, "a"), (-2, "b"), (0, "candidate 0")):
            recipe = Recipe("linear", (Parent(name.replace(" ", ""), ModelSource("org/a")),))
            right = float(number == 0)  # candidates do not count
            scores = [
                ItemScore("t", i, {"exact_match,flexible": right, "exact_match,strict": 1.0, "generated_tokens": 0.0})
                for i in range(4)
            ]
            scores += [ItemScore("u", i, {"acc": float(number == -2 and i == 1)}) for i in range(4)]
            run.database.add(Record(number, name, State.COMPLETE, recipe), scores={Split.SEARCH: scores})
        (line,) = all_wrong(run.database, Objectives(SPECS))
    assert line.startswith("no model has a single one of the 4 search items of t right (exact_match after the filter")


def test_it_is_said_once_when_the_baselines_are_scored(caplog: pytest.LogCaptureFixture) -> None:
    notes: list[str] = []
    logged = _Logged(None, notes.append, lambda: ["nothing is right"])
    logged.phase("baselines", 3, 0)
    assert notes == []
    for name in ("search", "validation", "test"):
        logged.phase(name, 3, 0)
    assert notes == ["warning: nothing is right"]
    assert caplog.text.count("nothing is right") == 1
