"""What did not work, counted."""

from charts import check_chart

from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.figures.failures import BARS, draw
from evomerge.store.status import UNSCORED


def test_what_became_of_candidates_is_counted_in_order(open_made) -> None:
    run: RunData = open_made(candidates=100, failed=(3, 4, 90), invalid=(50,), twins={7: 2, 8: 2})
    figure = draw([run])
    assert figure is not None
    assert figure.lead.startswith(
        "3 of 100 candidates failed, 1 of 100 could not be built, 2 of 100 repeated an earlier"
    )
    assert "The reason, 3 times, was: out of memory in layer 3" in figure.lead
    rows = figure.chart["datasets"]["rows"]
    assert len({row["x"] for row in rows}) <= BARS and sum(row["n"] for row in rows) == 100
    assert {row["what"]: row["n"] for row in rows if row["x"] == 3} == {"scored": 1, "failed": 2}
    assert all(row["y2"] - row["y"] == row["n"] for row in rows)
    assert [list(row[:4]) for row in figure.table.rows] == [["failed", 3, 3, 90], ["could not be built", 1, 50, 50]]


def test_models_without_a_score_are_named(open_made) -> None:
    meta = {UNSCORED: {"-1": {str(Split.TEST): "the device broke"}}}
    figure = draw([open_made(failed=(), twins={}, meta=meta)])
    assert figure is not None and figure.chart is None
    assert list(figure.table.rows[0]) == ["math: no test score", 1, None, None, "the device broke"]


def test_where_all_went_well_there_is_nothing_to_show(open_made) -> None:
    assert draw([open_made(failed=(), twins={})]) is None


def test_several_runs_have_a_table(open_made) -> None:
    figure = draw([open_made(label="a"), open_made(failed=(), seed=1, label="b")])
    assert figure is not None and figure.lead == "1 of 32 candidates of 2 runs have no result."
    assert [list(row) for row in figure.table.rows] == [
        ["seed 0", 16, 14, 1, 0, 1, 0],
        ["seed 1", 16, 15, 1, 0, 0, 0],
    ]


def test_every_kind_of_run_has_it_or_none(any_run: RunData) -> None:
    figure = draw([any_run])
    assert (figure is None) == all(one.error is None and one.same_as is None for one in any_run.records)
    if figure is not None and figure.chart is not None:
        check_chart(figure)
