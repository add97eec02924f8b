"""Scores entry by entry: lost skills first, limits, other units, any state of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from charts import check_chart
from made_runs import ADD, PERPLEXITY, REVERSE, TOKENS
from skill_runs import three_skills

from evomerge.evaluation.floor import Floor
from evomerge.evaluation.task import Constraint
from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.entry_rows import entry_rows
from evomerge.report.figures import scores, scores_in_units


def test_the_scores_are_those_of_the_status(open_made: Any) -> None:
    run = open_made()
    rows = {row.label: row for row in entry_rows(run)}
    assert list(rows) == ["add", "reverse"]
    for task, row in rows.items():
        best = run.status["best"]["tasks"][task]
        assert row.score("best merge").to_data() == best["test"]
        assert row.score("best merge", Split.VALIDATION).to_data() == best["validation"]
        one = next(one for one in run.status["skills"] if one["task"] == task)
        assert row.skill == one and row.best_parent == one["best_parent"]
    figure = scores.draw([run])
    one = rows["add"].skill
    means = f"{100 * one['mean']:.1f} % against {100 * one['parent_mean']:.1f} % of {one['best_parent']}"
    assert figure.lead.startswith(f"The best merge is better than the best parent at add ({means}: +")
    assert figure.table.columns[:3] == ["task", "best merge", "best parent"]
    assert figure.table.rows[0][1] == rows["add"].style.score(rows["add"].score("best merge"))
    assert scores_in_units.draw([run]) is None


def test_lost_skills_come_first_and_are_marked(tmp_path: Path) -> None:
    three_skills(tmp_path / "run").close()
    with RunData.open(tmp_path / "run") as run:
        assert [row.label for row in entry_rows(run)] == ["reverse", "add", "capitals"]
        figure = scores.draw([run])
    assert figure.lead.startswith(
        "The best merge is worse than the best parent at reverse (0.0 % against 97.5 % of words: -97.5 points "
        "[-99.6, -80.2] on 40 test items); it is better than the best parent at add (95.0 % against 50.0 % of adder: "
    )
    assert "; it cannot be told from the best parent at capitals (92.5 % against 90.0 % of caps" in figure.lead
    assert figure.table.rows[0][0] == "lost: reverse" and figure.table.marked == {0}
    assert figure.chart["layer"][0]["encoding"]["y"]["sort"] == ["lost: reverse", "add", "capitals"]


def test_limits_are_drawn_and_broken_ones_are_said(open_made: Any) -> None:
    specs = (
        replace(ADD, floor=Floor(of_best_parent=0.95)),
        replace(REVERSE, floor=Floor(absolute=0.97)),
        replace(TOKENS, constraint=Constraint(max=10.0)),
    )
    run = open_made(specs=specs)
    add, reverse, tokens = entry_rows(run)
    parent = max(add.score(name).mean for name in ("math", "words", "code"))
    assert add.limit == pytest.approx(0.95 * parent) and not add.broken
    assert "95 % of the best parent, math" in add.limit_text
    assert (reverse.limit, reverse.limit_text, reverse.broken) == (0.97, "at least 0.97", True)
    assert (tokens.limit, tokens.limit_text, tokens.broken) == (10.0, "at most 10", True)
    figure = scores.draw([run])
    assert "It breaks limits at reverse, add, generated_tokens (limit)." in figure.lead
    assert figure.table.marked == {1, 2} and figure.table.columns[-1] == "limit"
    assert any(one["mark"]["type"] == "tick" for one in figure.chart["layer"])
    assert [row["text"] for row in figure.chart["datasets"]["limits"]] == [add.limit_text, "at least 0.97"]
    said = {text.partition(":")[0] for texts in run.status["best"]["broken_limits"].values() for text in texts}
    assert any("below its floor of 0.97" in text for text in said)


def test_other_units_have_a_chart_of_their_own(open_made: Any) -> None:
    run = open_made(specs=(PERPLEXITY, ADD, TOKENS))
    figure = scores_in_units.draw([run])
    names = ["wiki, word_perplexity (less is better)", "add, generated_tokens (less is better)"]
    assert [one["bind"]["options"] for one in figure.chart["params"] if "bind" in one] == [names]
    assert "(test items, less is better, +" in figure.lead
    own = scores.draw([run])
    assert own.chart["layer"][0]["encoding"]["y"]["sort"] == ["add, acc"]
    assert [row[0] for row in own.table.rows] == [names[0], "add, acc", names[1]]
    alone = scores_in_units.draw([open_made(specs=(PERPLEXITY,))])
    assert not [one for one in alone.chart.get("params", ()) if "bind" in one]


def test_many_tasks_share_lines(open_made: Any) -> None:
    specs = tuple(replace(ADD, name=f"task{n:02}") for n in range(26))
    items = dict.fromkeys(Split, 2)
    figure = scores.draw([open_made(specs=specs, items=items, candidates=2, failed=(), twins={})])
    assert "The first 13 of 26 tasks are drawn; the table has all." in figure.note
    assert len(figure.table.rows) == 26 and len(figure.chart["datasets"]["scores"]) == 13 * 10
    assert "yOffset" not in figure.chart["layer"][0]["encoding"]


def test_any_run_has_scores_where_something_was_scored(any_run: RunData) -> None:
    figure = scores.draw([any_run])
    assert (figure is None) == (not any(record.scores for record in (*any_run.baselines, *any_run.records)))
    if figure is not None and any_run.best is None:
        assert figure.lead == "No candidate has a score yet; these are the parents and the average."
    if figure is not None:
        check_chart(figure)
    assert scores_in_units.draw([any_run]) is None


def test_charts_are_charts(open_made: Any) -> None:
    run = open_made(specs=(PERPLEXITY, replace(ADD, floor=Floor(absolute=0.5)), TOKENS))
    check_chart(scores.draw([run]))
    check_chart(scores_in_units.draw([run]))
