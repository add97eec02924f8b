"""Several runs side by side, and what they say together over their seeds."""

from __future__ import annotations

from typing import Any

import pytest
from charts import check_chart
from made_runs import ADD, PERPLEXITY

from evomerge import api
from evomerge.analysis.over_seeds import over_seeds
from evomerge.record import Split
from evomerge.report.figures import runs as side_by_side
from evomerge.report.figures import scores_over_seeds


def test_a_row_for_each_run_with_what_differs(open_made: Any) -> None:
    runs = [open_made(seed=seed) for seed in (0, 1)] + [open_made(config={"optimizer": {"name": "random"}})]
    figure = side_by_side.draw(runs)
    rows = [dict(zip(figure.table.columns, row, strict=True)) for row in figure.table.rows]
    assert [row["run"] for row in rows] == ["optimizer=cma, seed 0", "optimizer=cma, seed 1", "optimizer=random"]
    assert [row["optimizer.name"] for row in rows] == ["cma", "cma", "random"]
    assert [row["seed"] for row in rows] == [0, 1, 0]
    gains = [run.found["gain"]["difference"] for run in runs]
    assert all(row["gain over the best parent [95 %]"].startswith("+") for row in rows) and min(gains) > 0
    both = over_seeds(gains[:2], (-1.0, 1.0))
    assert figure.lead.startswith(f"3 runs of 2 configurations. optimizer=cma: {100 * both.mean:+.1f} points [")
    assert "above zero in 2 of 2" in figure.lead and figure.note.startswith("An interval from fewer than 5 seeds")
    summary = api.sweep_summary([(["seed=0"], runs[0].path), (["seed=1"], runs[1].path)])
    assert summary["groups"][0]["gain"]["mean"] == pytest.approx(both.mean)


def test_runs_that_are_not_complete_are_marked(open_made: Any) -> None:
    begun = {"candidates": 0, "baselines": False, "choice": None}
    runs = [open_made(), open_made(seed=1, state="failed", error="no disk", **begun)]
    figure = side_by_side.draw(runs)
    row = dict(zip(figure.table.columns, figure.table.rows[1], strict=True))
    assert row["state"] == "failed: no disk" and 1 in figure.table.marked
    assert figure.lead.endswith("1 of the runs is not complete, and left out of that.")
    assert side_by_side.draw(runs[:1]) is None
    assert "No gain is known." in side_by_side.draw([runs[1], runs[1]]).lead


def test_a_seed_that_was_run_twice_counts_once(open_made: Any) -> None:
    other = {"optimizer": {"name": "random"}}
    runs = [open_made(), open_made(seed=1), open_made(seed=1), open_made(config=other)]
    figure = side_by_side.draw(runs)
    gains = [run.found["gain"]["difference"] for run in runs]
    both = over_seeds(gains[:2], (-1.0, 1.0))
    assert f"{100 * both.mean:+.1f} points [" in figure.lead and "mean of 2 seeds" in figure.lead
    assert "1 of the runs repeats a seed, which counts once." in figure.lead and len(figure.table.rows) == 4
    drawn = scores_over_seeds.draw(runs).chart["datasets"]["scores"]
    assert {one["runs"] for one in drawn if one["group"] == "optimizer=cma"} == {2}
    assert "2 runs of one configuration and seed." in side_by_side.draw(runs[1:3]).lead


def test_scores_over_seeds_are_means_of_the_runs(open_made: Any) -> None:
    other = {"optimizer": {"name": "random"}}
    runs = [open_made(seed=seed) for seed in (0, 1, 2)] + [open_made(config=other)]
    figure = scores_over_seeds.draw(runs)
    check_chart(figure)
    means = [run.status["best"]["tasks"]["add"]["test"]["mean"] for run in runs[:3]]
    expected = over_seeds(means, (0.0, 1.0))
    values = figure.chart["datasets"]["scores"]
    (mean,) = (
        one for one in values if (one["kind"], one["group"], one["task"]) == ("mean", "optimizer=cma", "add acc")
    )
    assert mean["score"] == pytest.approx(expected.mean, abs=1e-4)
    assert mean["high"] - mean["low"] == pytest.approx(2 * expected.spread, abs=1e-3)
    each = [one["score"] for one in values if (one["kind"], one["task"]) == ("run", "add acc")]
    assert each == pytest.approx(means, abs=1e-4)
    parent = next(one for one in values if (one["kind"], one["task"]) == ("parent", "reverse exact_match"))
    assert parent["name"] == "words, the best parent"
    row = figure.table.rows[0]
    assert row[:3] == ["add acc", "optimizer=cma", 3]
    assert row[3].startswith(f"{100 * expected.mean:.1f} % ± {100 * expected.spread:.1f} [")


def test_tasks_in_other_units_stand_in_the_table_alone(open_made: Any) -> None:
    runs = [open_made(seed=seed, specs=(PERPLEXITY,)) for seed in (0, 1)]
    figure = scores_over_seeds.draw(runs)
    assert figure.chart is None and "Tasks in other units stand in the table." in figure.note
    means = [run.status["best"]["test"]["mean"] for run in runs]
    parents = [row["tasks"]["wiki"]["test"]["mean"] for row in runs[0].status["baselines"]]
    assert figure.table.rows[0][4] == runs[0].baselines[parents.index(min(parents[:3]))].name
    assert max(means) < 0.0  # less is better, so that the score is below 0, but the task's own mean is not
    assert not figure.table.rows[0][3].startswith("-")


def test_what_has_no_test_scores_has_none_over_seeds(open_made: Any) -> None:
    items = {Split.SEARCH: 4, Split.VALIDATION: 4, Split.TEST: 0}
    runs = [open_made(items=items, specs=(ADD,)), open_made(candidates=0, baselines=False, choice=None)]
    assert scores_over_seeds.draw(runs) is None and scores_over_seeds.draw(runs[:1]) is None
