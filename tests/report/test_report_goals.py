"""Fronts, hypervolume, finalists and maps of made-up runs."""

from __future__ import annotations

from typing import Any

import pytest
from charts import check_chart
from made_runs import ADD, HOSTILE, PERPLEXITY, THREE_OBJECTIVES, TOKENS, TWO_OBJECTIVES

from evomerge.analysis.front import front as undominated
from evomerge.analysis.front import hypervolume as volume
from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.figures import archive, finalists, front, hypervolume
from evomerge.report.groups import labels_of


def bound(chart: dict[str, Any]) -> dict[str, list[str]]:
    return {one["name"]: one["bind"]["options"] for one in chart.get("params", ()) if "bind" in one}


@pytest.mark.parametrize("figure", [front, hypervolume, finalists, archive])
def test_any_run_can_be_drawn(figure: Any, any_run: RunData) -> None:
    found = figure.draw([any_run])
    if found is not None:
        check_chart(found)
        assert found.lead.endswith((".", "…")) and len(found.lead) < 1500
    if not any(record.fitness is not None for record in any_run.records):
        assert found is None


def test_a_front_shows_what_nothing_dominates_what_was_chosen_and_limits(open_made: Any) -> None:
    run = open_made(specs=TWO_OBJECTIVES, choice="front", infeasible={5: 0.3}, finalists=3)
    figure = front.draw([run])
    check_chart(figure)
    rows = {row["name"]: row for row in figure.chart["datasets"]["rows"]}
    assert {name for name, row in rows.items() if row["kind"] == "chosen"} == {one.name for one in run.chosen}
    best = {record.name for record in undominated(run.records)}
    assert {name for name, row in rows.items() if row["joined"]} == best - {"candidate 6"}  # a twin is its twin
    assert rows["candidate 5"]["kind"] == "breaks a limit" and rows["math"]["kind"] == "parent or average"
    one = run.chosen[0]
    assert rows[one.name]["at"]["search"]["sums"] == pytest.approx(one.result.objectives[0], abs=1e-4)
    test = run.status["choice"]["records"][0]["objectives"]["words"]["test"]
    assert rows[one.name]["at"]["test"]["words"] == pytest.approx(test["mean"], abs=1e-4)
    assert bound(figure.chart) == {"front_items": ["search", "validation", "test"]}
    assert "1 of 15 break a limit. 3 were chosen" in figure.lead
    assert [row[0] for row in figure.table.rows][:3] == [record.name for record in run.chosen]


def test_axes_are_chosen_where_there_are_more_than_two(open_made: Any) -> None:
    run = open_made(specs=THREE_OBJECTIVES, choice="front")
    figure = front.draw([run])
    assert bound(figure.chart)["front_x"] == ["sums", "words", "tokens"]
    row = figure.chart["datasets"]["rows"][0]
    assert row["at"]["search"]["tokens"] > 0.0  # as it is measured, although less is better
    measured = open_made(specs=(ADD, TOKENS), measures={"layers": (4.0, 5.0)})
    assert bound(front.draw([measured]).chart)["front_y"] == ["score", "add, generated_tokens", "layers"]
    assert front.draw([open_made()]) is not None  # two tasks in one score: each is a measure
    assert front.draw([open_made(specs=(ADD,))]) is None and hypervolume.draw([open_made()]) is None


def test_fronts_of_several_runs_are_overlaid(open_made: Any) -> None:
    runs = [open_made(specs=TWO_OBJECTIVES, choice="front", seed=seed) for seed in (0, 1)]
    shown = [*runs, open_made()]
    figure = front.draw(shown)
    check_chart(figure)
    assert figure.note == "Runs with other objectives are left out: 1."
    rows = figure.chart["datasets"]["rows"]
    assert {row["run"] for row in rows} == set(labels_of(shown)[:2]) and len(labels_of(shown)) == 3
    best = [record.name for run in runs for record in undominated(run.records)]
    assert sorted(row["name"] for row in rows) == sorted(best)


def test_the_hypervolume_is_that_of_all_candidates_from_the_worst_that_is_possible(open_made: Any) -> None:
    run = open_made(specs=THREE_OBJECTIVES, choice="front")
    figure = hypervolume.draw([run])
    check_chart(figure)
    worst = min(record.result.objectives[2] for record in run.baselines)
    whole = volume([record.result for record in run.records], (0.0, 0.0, worst))
    assert figure.table.rows[0][2] == pytest.approx(whole, rel=1e-3)
    assert f"measured from 0 in sums, 0 in words, {-worst:.4g} in tokens" in figure.note
    assert bound(figure.chart) == {"hypervolume_over": ["candidates", "items", "seconds"]}
    other = open_made(specs=THREE_OBJECTIVES, choice="front", seed=1, config={"optimizer": {"name": "random"}})
    both = hypervolume.draw([run, other])
    assert [row[0] for row in both.table.rows] == ["optimizer=cma", "optimizer=random"]


def test_finalists_are_put_in_order_with_the_winner_and_its_luck(open_made: Any) -> None:
    run = open_made()
    figure = finalists.draw([run])
    named = {record.name: record for record in run.records}
    means = [named[row[0]].scores[Split.VALIDATION].mean for row in figure.table.rows]
    assert means == sorted(means, reverse=True) and len(means) == 4
    adjusted = run.status["best"]["adjusted"]
    (without,) = (one for one in figure.chart["datasets"]["finalists"] if one["kind"] == "chosen, without luck")
    assert without["score"] == pytest.approx(adjusted["mean"], abs=1e-4)
    assert f"without the luck of the best of 4 its score is {100 * adjusted['mean']:.1f} %" in figure.lead
    assert [row[-1] for row in figure.table.rows].count("yes") == 1
    assert finalists.draw([open_made(choice=None)]) is None and finalists.draw([run, run]) is None


def test_maps_show_the_best_of_each_cell(open_made: Any) -> None:
    run = open_made(
        specs=(ADD,), choice="archive", measures={"layers": (4.0, 5.0), HOSTILE: (0.0, 0.5, 1.0)}, candidates=12
    )
    figure = archive.draw([run])
    check_chart(figure)
    assert figure.title == "Archive" and len(bound(figure.chart)["archive_measures"]) == 3
    pair = f"layers × {HOSTILE}"
    cells = [row for row in figure.chart["datasets"]["cells"] if row["pair"] == pair]
    assert len(cells) == 6 and sum(row["n"] for row in cells) == 11  # one candidate of 12 has failed
    best = max(run.records, key=lambda one: one.fitness or 0.0)
    assert best.name in {row["name"] for row in cells}
    assert archive.draw([open_made(specs=(PERPLEXITY,))]) is None
