"""How a search went, over whatever is known of it; bands over seeds of known numbers."""

from __future__ import annotations

from typing import Any

import pytest
from charts import check_chart

from evomerge.record import Split
from evomerge.report.course import CANDIDATES, SeedBand, bands
from evomerge.report.data import RunData
from evomerge.report.figures.progress import draw


def rows(chart: dict[str, Any], mark: str) -> list[dict[str, Any]]:
    """The data of the first layer of a kind."""
    layer = next(one for one in chart["layer"] if one["mark"]["type"] == mark)
    return list(chart["datasets"][(layer.get("data") or chart["data"])["name"]])


def test_a_band_is_of_all_runs_from_the_last_first_score_to_the_first_end() -> None:
    courses = [[(1.0, 0.1), (4.0, 0.5)], [(2.0, 0.3), (5.0, 0.4)]]
    found = bands(courses, [6.0, 8.0], 100)
    assert [(one.spent, one.low, one.high, one.n) for one in found] == [
        (2.0, 0.1, 0.3, 2),
        (4.0, 0.3, 0.5, 2),
        (5.0, 0.4, 0.5, 2),
        (6.0, 0.4, 0.5, 2),
    ]
    assert [one.mean for one in found] == pytest.approx([0.2, 0.4, 0.45, 0.45])
    few = bands(courses, [6.0, 8.0], 2)
    assert few == [SeedBand(2.0, 0.2, 0.1, 0.3, 2), SeedBand(6.0, 0.45, 0.4, 0.5, 2)]


def test_one_run_shows_every_candidate_and_the_best_so_far(open_made: Any) -> None:
    run = open_made()
    figure = draw([run])
    scored = [record for record in run.records if record.fitness is not None]
    assert [row["name"] for row in rows(figure.chart, "point")] == [record.name for record in scored]
    assert [row["name"] for row in rows(figure.chart, "line")][-1] == max(scored, key=lambda one: one.fitness).name
    twin = next(row for row in rows(figure.chart, "point") if row["name"] == "candidate 6")
    assert twin["said"] == "the recipe of candidate 2" and (twin["items"], twin["seconds"]) == (280, 14)
    assert any(one["encoding"].get("y") == {"value": 311} for one in figure.chart["layer"])
    (failed,) = figure.chart["datasets"]["failed"]
    assert failed["name"] == "candidate 3" and "out of memory" in failed["error"]
    assert [one["bind"]["options"] for one in figure.chart["params"] if "bind" in one] == [
        ["candidates", "items", "seconds"]
    ]
    best = max(record.scores[Split.SEARCH].mean for record in scored)
    assert f"{100 * best:.1f} %" in figure.lead and figure.lead.endswith("1 candidate failed.")


def test_any_run_has_a_course(any_run: RunData) -> None:
    figure = draw([any_run])
    assert (figure is None) == (not any_run.records)
    if figure is not None:
        check_chart(figure)
    if figure is not None and not any_run.traces:
        assert "params" not in figure.chart
    if figure is not None and not any(record.fitness is not None for record in any_run.records):
        assert figure.lead == "None of 5 candidates has a score: 5 failed."


def test_stages_begin_where_they_began(open_made: Any) -> None:
    chart = draw([open_made(stages=2)]).chart
    assert [(row["stage"], row[CANDIDATES]) for row in rows(chart, "text")] == [("stage0", 1), ("stage1", 9)]


def test_several_runs_are_bands_over_seeds(open_made: Any) -> None:
    other = {"optimizer": {"name": "random"}}
    runs = [open_made(seed=seed) for seed in (0, 1)] + [open_made(seed=2, config=other, candidates=12)]
    figure = draw(runs)
    assert [row[:3] for row in figure.table.rows] == [["optimizer=cma", 2, "16"], ["optimizer=random", 1, "12"]]
    assert "after 12 candidates, which each run has (mean over seeds)" in figure.lead
    check_chart(figure)
    line = rows(figure.chart, "area")
    assert {row["over"] for row in line} == {"candidates", "items", "seconds"}
    assert all(row["low"] <= row["score"] <= row["high"] for row in line)
    last = [row for row in line if row["over"] == CANDIDATES and row["group"] == "optimizer=cma"][-1]
    finals = [max(r.scores[Split.SEARCH].mean for r in run.records if r.fitness is not None) for run in runs[:2]]
    assert (last["x"], last["low"], last["high"]) == (16, min(finals), max(finals))


def test_runs_that_have_not_begun_are_left_out(open_made: Any) -> None:
    begun = open_made(candidates=0, baselines=False, choice=None)
    assert draw([begun, begun]) is None
    assert len(draw([begun, open_made()]).table.rows) == 1
