"""Estimates beside the scores of the same models on all search items."""

import pytest
from charts import check_chart
from made_runs import ADD, PERPLEXITY

from evomerge.report.data import RunData
from evomerge.report.figures import estimates
from evomerge.report.figures.estimates import draw
from evomerge.report.groups import labels_of
from evomerge.store.traces import Trace

NOTED = {-1: [(5, 0.5, 0.2)], -2: [(5, 0.25, 0.001)], 2: [(5, 0.0, 0.01), (10, 0.5, 0.5)], 4: [(5, 1.0, 0.9)]}


def test_merges_and_baselines_stand_beside_their_full_scores(open_made) -> None:
    run: RunData = open_made(specs=(ADD,), estimates=NOTED)
    figure = draw([run])
    assert figure is not None
    check_chart(figure)
    full = {number: run.record(number).scores["search"].mean for number in NOTED}
    rows = {row["name"]: row for row in figure.chart["datasets"]["rows"]}
    assert set(rows) == {"math", "words", "candidate 2", "candidate 4"}
    assert rows["candidate 2"]["y"] == 0.0 and rows["candidate 2"]["asked"] == "5 of 20 items"
    assert rows["words"]["error"] == pytest.approx(0.25 - full[-2])
    errors = [0.0 - full[2], 1.0 - full[4]]
    side = "above" if sum(errors) > 0 else "below"
    assert figure.lead.startswith(
        f"The estimates of 2 merges from 5 of 20 search items are {abs(50 * sum(errors)):.1f} points {side} the scores "
        f"on all of them on average, {50 * sum(map(abs, errors)):.1f} points whatever the sign; 1 of 2 95 % intervals"
    )
    assert "The estimates of parents and average, each left out, from 5 of 20" in figure.lead
    assert [row[:3] for row in figure.table.rows] == [
        ["merges", 2, 5], ["merges", 1, 10], ["math", 1, 5], ["words", 1, 5]
    ]  # fmt: skip
    assert [row[-1] for row in figure.table.rows][:2] == ["1 of 2", "1 of 1"]


def test_several_runs_are_overlaid_if_their_scores_are_alike(open_made) -> None:
    runs = [open_made(seed=seed, label=f"seed {seed}", estimates=NOTED) for seed in (0, 1)]
    shown = [*runs, open_made(specs=(PERPLEXITY,), label="without estimates")]
    figure, (first, second, _) = draw(shown), labels_of(shown)
    assert figure is not None and "of 4 merges" in figure.lead and "by run" in figure.lead
    check_chart(figure)
    assert {row["run"] for row in figure.chart["datasets"]["rows"]} == {first, second}
    assert [row[:4] for row in figure.table.rows][2] == [first, "parents, average", 2, 5]
    assert draw([runs[0], open_made(specs=(PERPLEXITY,), estimates=NOTED)]) is None


def test_a_long_race_is_thinned_out(open_made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "MOST", 2)
    figure = draw([open_made(estimates=NOTED)])
    assert figure is not None and len(figure.chart["datasets"]["rows"]) == 2
    assert "spread evenly" in figure.note


def test_every_kind_of_run_has_it_or_none(any_run: RunData) -> None:
    assert draw([any_run]) is None
    noted = {
        one.number: Trace.from_data({"estimates": [[5, 0.5, 0.1]]}) for one in (*any_run.baselines, *any_run.records)
    }
    any_run.__dict__["traces"] = noted
    figure = draw([any_run])
    assert (figure is None) == (not any_run.baselines and not any_run.records)
    if figure is not None:
        check_chart(figure)
