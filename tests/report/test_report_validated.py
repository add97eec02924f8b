"""Search scores, or estimates, beside validation scores."""

import pytest
from charts import check_chart
from made_runs import ADD, PERPLEXITY

from evomerge.report.data import RunData
from evomerge.report.figures.validated import draw


def test_finalists_and_parents_stand_beside_each_other(open_made) -> None:
    run: RunData = open_made(specs=(ADD,))
    figure = draw([run])
    assert figure is not None and figure.title == "Search scores beside validation scores"
    rows = figure.chart["datasets"]["rows"]
    assert [row["kind"] for row in rows].count("finalists") == 4 and len(rows) == 8
    assert len(figure.table.rows) == 8 and figure.table.columns[0] == "model"
    errors = [row["x"] - row["y"] for row in rows if row["kind"] == "finalists"]
    assert f"{abs(100 * sum(errors) / 4):.1f} points" in figure.lead and "of 4 agree" in figure.lead
    assert "Those of parents and average are" in figure.lead


def test_estimates_are_called_so(open_made) -> None:
    # Of two tasks with 20 search items each only one was answered: as if estimated from half of the items.
    run = open_made(meta={"finalists": [{"number": 1, "worth": 0.75, "added": 0.25}]}, choice=None)
    run.run.database._db.execute("PRAGMA query_only = OFF")
    run.run.database._db.execute("UPDATE scores SET n = 15 WHERE split = 'search' AND candidate >= 0")
    run.run.database._db.execute(
        "INSERT INTO scores SELECT candidate, 'validation', mean, low, high, 40 FROM scores WHERE candidate = 1"
    )
    figure = draw([run])
    assert figure is not None and figure.title == "Estimates beside validation scores"
    assert figure.lead.startswith("The estimates from 15 of 40 search items of 1 finalists are equal to")
    row = next(row for row in figure.table.rows if row[0] == "candidate 1")
    assert row[1] == 15 and row[3] == "50.0 %"


def test_several_runs_are_overlaid_if_their_scores_are_alike(open_made) -> None:
    runs = [open_made(seed=seed, label=f"seed {seed}") for seed in (0, 1)]
    figure = draw(runs)
    assert figure is not None and "The search scores of 8 finalists" in figure.lead and "by run" in figure.lead
    assert {row["run"] for row in figure.chart["datasets"]["rows"]} == {"seed 0", "seed 1"}
    assert draw([runs[0], open_made(specs=(PERPLEXITY,))]) is None


@pytest.mark.parametrize("changes", [{"combination": "worst"}, {"specs": (PERPLEXITY,)}])
def test_other_scores_are_shown_in_their_own_way(open_made, changes: dict) -> None:
    figure = draw([open_made(**changes)])
    assert figure is not None and "points" not in figure.lead


def test_every_kind_of_run_has_it_or_none(any_run: RunData) -> None:
    figure = draw([any_run])
    assert (figure is None) == (any_run.run.database.choice() is None)
    if figure is not None:
        check_chart(figure)
