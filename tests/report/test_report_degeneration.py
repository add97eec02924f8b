"""How answers degenerate: of models side by side, and in the course of a search."""

import numpy as np
import pytest
from charts import check_chart
from made_runs import ADD

from evomerge.analysis.degeneration import Degeneration
from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.figures import degeneration, degeneration_course


def test_shares_are_drawn_and_tokens_said(open_made) -> None:
    run: RunData = open_made()
    figure = degeneration.draw([run])
    assert figure is not None
    rows = figure.chart["datasets"]["rows"]
    assert {row["what"] for row in rows} == {"repetitive answers, add", "repetitive answers, reverse"}
    own = {(row["what"], row["model"]): row for row in rows}
    items = run.run.database.item_scores(-2, Split.TEST)
    loops = np.mean([one.metrics["repetitive_answers"] for one in items if one.task == "add"])
    assert own["repetitive answers, add", "words"]["mean"] == pytest.approx(100 * loops)
    assert own["repetitive answers, add", "words"]["n"] == 40
    assert figure.lead.startswith("The best merge's answers are no more often cut")
    assert "tokens an answer to add" in figure.lead
    assert {row[1] for row in figure.table.rows} == {"repetitive answers", "tokens"}


def test_what_is_worse_is_said_first_and_marked(open_made) -> None:
    run = open_made()
    worse = {
        "task": "add", "measure": "repetitive_answers", "best": 0.5, "parent": 0.0, "against": "math",
        "difference": 0.5, "low": 0.3, "high": 0.7, "p_value": 0.0, "n": 40, "split": "test", "share": True,
    }  # fmt: skip
    run.status = {**run.status, "degeneration": [worse]}
    figure = degeneration.draw([run])
    assert figure.lead.startswith("The best merge's answers to add loop: 50.0 % repeat themselves, 0.0 % of math's")
    place = next(i for i, row in enumerate(figure.table.rows) if row[:2] == ["add", "repetitive answers"])
    assert figure.table.marked == {place}


def test_the_course_is_that_of_the_candidates(open_made) -> None:
    run = open_made(specs=(ADD,))
    figure = degeneration_course.draw([run])
    assert figure is not None
    rows = [row for row in figure.chart["datasets"]["rows"] if row["measure"] == "tokens (number)"]
    numbers, means = Degeneration(run.skills).over_candidates("add", "generated_tokens")
    assert [row["n"] for row in rows] == numbers and 3 not in numbers and 6 not in numbers
    values = [one.metrics["generated_tokens"] for one in run.run.database.item_scores(0, Split.SEARCH)]
    assert means[0] == pytest.approx(np.mean(values)) and rows[0]["mean"] == pytest.approx(means[0], rel=1e-3)
    assert figure.lead.startswith("Of the first and of the last quarter of the candidates: ")


def test_every_kind_of_run_has_them_or_none(any_run: RunData) -> None:
    figure, course = degeneration.draw([any_run]), degeneration_course.draw([any_run])
    assert (figure is not None) == bool(any_run.baselines)
    assert course is None or len(any_run.records) > 1
    for one in (figure, course):
        if one is not None and one.chart is not None:
            check_chart(one)


def test_several_runs_have_none(open_made) -> None:
    runs = [open_made(), open_made()]
    assert degeneration.draw(runs) is None and degeneration_course.draw(runs) is None
