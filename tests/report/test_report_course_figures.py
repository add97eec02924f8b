"""Convergence, where the time went, lineage and kinship: what they say of runs whose course is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from charts import check_chart, fields

from evomerge.report.data import RunData
from evomerge.report.figures import convergence, figures_of, kinship, lineage, time
from evomerge.store.database import Database
from evomerge.store.run_dir import DATABASE
from evomerge.store.traces import Trace

NAMES = ("convergence", "time", "lineage", "kinship")


def rows(figure: Any, name: str = "rows") -> list[Mapping[str, Any]]:
    return list(figure.chart["datasets"][name])


def noted(run: RunData, traces: Mapping[int, Trace] | None = None, course: Sequence[Any] | None = None) -> RunData:
    """Open a run anew with other traces, and another course of its strategy."""
    with Database.open(run.path / DATABASE, write=True) as database:
        for number, trace in (traces or {}).items():
            database.traces.put(number, trace)
        for standing in course or ():
            database.traces.put_course(standing["candidates"], standing)
    run.close()
    return RunData.open(run.path)


def test_any_run_can_be_drawn_or_has_nothing_to_show(any_run: RunData) -> None:
    found = [figure for _, figure in figures_of([any_run], NAMES, strict=True)]
    for figure in found:
        assert figure.lead.endswith(".") or figure.lead.endswith(". ")
        assert figure.table is not None and all(len(row) == len(figure.table.columns) for row in figure.table.rows)
        if figure.chart is not None:
            check_chart(figure)
            assert not any("script" in name for name in fields(figure.chart))
    if not any_run.traces:
        assert not {"time", "lineage"} & {figure.key for figure in found}
    if not any_run.course:
        assert "convergence" not in {figure.key for figure in found}


def test_several_runs_are_overlaid(open_made: Any) -> None:
    runs = [open_made(seed=seed) for seed in (0, 1)] + [open_made(config={"optimizer": {"name": "mixed"}})]
    found = {figure.key: figure for _, figure in figures_of(runs, NAMES, strict=True)}
    assert set(found) == {"convergence", "time", "kinship"}  # a tree is of one run
    for figure in found.values():
        check_chart(figure)
    assert [row[1] for row in found["convergence"].table.rows] == [2, 1]
    assert len({row["group"] for row in rows(found["convergence"])}) == 2
    assert {row["run"] for row in rows(found["time"])} == {row[0] for row in found["time"].table.rows}
    assert len(found["time"].table.rows) == 3


# ---- convergence ----


def standing(candidates: int, step: float, **more: Any) -> dict[str, Any]:
    axes = {"axes": [2.0 * step, step, 0.5 * step]}
    return {"candidates": candidates, "stage": 0, "step_size": step, "restarts": 0, "generation": 0, **axes, **more}


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (0.15, "from 20.0 % to 15.0 % of a gene's range within 2 generations, so the search had hardly begun"),
        (0.05, "so the search was closing in, and had not ended"),
        (0.00005, "to 0.005 % of a gene's range within 2 generations, so the search has converged"),
    ],
)
def test_how_far_a_search_converged_is_said(open_made: Any, last: float, said: str) -> None:
    course = [standing(0, 0.2), standing(8, 0.1, generation=1), standing(16, last, generation=2)]
    figure = convergence.draw([noted(open_made(course=False), course=course)])
    assert said in figure.lead and "4 times as long as it is narrow" in figure.lead
    assert [row["length"] for row in rows(figure) if row["what"] == "step size"] == [0.2, 0.1, last]
    assert [(row["long"], row["short"]) for row in rows(figure, "axes")] == [
        (0.4, 0.1),
        (0.2, 0.05),
        (2 * last, last / 2),
    ]


def test_restarts_and_stages_are_shown(open_made: Any) -> None:
    course = [
        standing(0, 0.2),
        standing(8, 0.01, generation=1),
        standing(9, 0.2, generation=2, restarts=1),
        standing(12, 0.2, stage=1),
        standing(16, 0.1, stage=1, generation=1),
    ]
    figure = convergence.draw([noted(open_made(course=False), course=course)])
    assert rows(figure, "breaks") == [
        {"candidates": 9, "why": "restart 1"},
        {"candidates": 12, "why": "stage 2 begins"},
    ]
    assert "in the last stage within 1 generation" in figure.lead
    assert len({row["phase"] for row in rows(figure)}) == 3  # no line from one to the next


def test_what_is_no_length_is_not_drawn(open_made: Any) -> None:
    course = [
        {"candidates": 2, "stage": 0, "soup": ["math"]},
        {"candidates": 4, "stage": 0, "spread": 0.3, "generation": 1},
        {"candidates": 8, "stage": 0, "spread": 0.0, "step_size": "far", "axes": [0.1, None, -1.0]},
        {"candidates": 9, "stage": 0, "spread": 0.2, "generation": 2},
    ]
    figure = convergence.draw([noted(open_made(course=False), course=course)])
    assert [(row["what"], row["length"]) for row in rows(figure)] == [
        ("spread of the population", 0.3),
        ("spread of the population", 0.2),
    ]
    assert convergence.draw([noted(open_made(course=False), course=course[:1])]) is None


# ---- where the time went ----


def test_the_time_of_candidates_adds_up(open_made: Any) -> None:
    run = open_made(candidates=4, twins={}, failed=())
    parts = {"merge": 0.25, "prefill": 0.5, "decode": 1.0, "engine": 0.25, "database": 0.5, "later": 0.5, "wait": 9.0}
    run = noted(run, {number: Trace(parts=parts) for number in range(4)})
    taken = [record.seconds for record in run.records]
    other = sum(taken) / 4 - 2.0  # what no part of a worker took, with a part of a later version
    figure = time.draw([run])
    table = {row[0]: row[1] for row in figure.table.rows}
    assert table["around the passes"] == 0.25 and table["database"] == 0.5
    assert table["other"] == pytest.approx(max(0.5, other), rel=1e-3)
    total = sum(taken) / 4 + 0.5 if min(taken) >= 2.5 else 3.0
    assert table["all"] == pytest.approx(total, rel=1e-3)
    outside = 100 * (1 - 1.5 / total)
    assert f"{outside:.1f} % outside of them" in figure.lead and "Most of it is decode" in figure.lead
    assert "a candidate waited 9.0 s on average" in figure.note
    first = [row for row in rows(figure) if row["who"] == "candidate 0"]
    assert [row["from"] for row in first[1:]] == [row["to"] for row in first[:-1]]
    assert first[-1]["to"] == pytest.approx(total, rel=1e-3)


def test_where_passes_were_not_told_apart_that_is_said(open_made: Any) -> None:
    run = noted(open_made(), {number: Trace(parts={"merge": 0.5, "engine": 1.5}) for number in range(16)})
    assert "forward passes were not told apart" in time.draw([run]).lead


def test_many_candidates_are_drawn_as_means(open_made: Any) -> None:
    run = open_made(candidates=200, twins={}, failed=())
    figure = time.draw([run])
    check_chart(figure)
    assert len({row["who"] for row in rows(figure)}) <= time.BINS
    assert rows(figure)[0]["who"] == "candidates 0 to 2"


# ---- lineage ----


def test_only_ancestors_of_the_chosen_are_in_the_tree(open_made: Any) -> None:
    run = open_made(twins={}, failed=())
    best = run.best.number
    bred = {number: Trace() for number in range(16)}
    bred |= {best: Trace(parents=(0, 1)), 1: Trace(parents=(0,)), 15: Trace(parents=(2,) if best != 15 else (0, 1))}
    run = noted(run, bred)
    figure = lineage.draw([run])
    assert set(lineage.ancestors(run, [best]).items()) == {(best, 0), (0, 1), (1, 1)}
    assert {row["candidate"] for row in rows(figure)} == {best, 0, 1}
    assert {(row["candidate"], row["to"]) for row in rows(figure, "edges")} == {(0, best), (1, best), (0, 1)}
    assert "was bred from candidates 0, 1; it has 2 ancestors among the candidates" in figure.lead


def test_a_search_without_parents_has_no_tree(open_made: Any) -> None:
    run = open_made(consensus=False)
    assert lineage.draw([noted(run, {number: Trace() for number in range(16)})]) is None


def test_a_tree_is_no_larger_than_can_be_read(open_made: Any) -> None:
    run = open_made(candidates=150, twins={}, failed=())
    best = run.best.number
    chain = {number: Trace(parents=(number - 1,) if number else ()) for number in range(150)}
    figure = lineage.draw([noted(run, {**chain, best: Trace(parents=tuple(range(best)))})])
    check_chart(figure)
    assert len(rows(figure)) <= lineage.MOST
    assert (best + 1 > lineage.MOST) == ("nearest of" in figure.note)


# ---- kinship ----


def test_pairs_are_judged_in_words(open_made: Any) -> None:
    figure = kinship.draw([open_made()])
    assert {(row["one"], row["other"]): row["value"] for row in rows(figure)}[("math", "words")] == 0.6
    assert not any(row["one"] == row["other"] for row in rows(figure))
    assert figure.lead.startswith("Most alike are math and words (cosine of the task vectors 0.60)")
    assert ["math", "base", "made from the same weights", None, "10.0 %", "correlation of weights 0.99"] in [
        list(row) for row in figure.table.rows
    ]
    assert not figure.table.marked


def test_a_foreign_parent_and_a_missing_base_are_told(open_made: Any) -> None:
    data = {
        "base": None,
        "parents": ["a", "b"],
        "models": [
            {"name": "a", "verdict": "same", "reason": "to b", "likelier_base": None},
            {"name": "b", "verdict": "foreign", "reason": "correlation of weights 0.01", "likelier_base": None},
        ],
        "pairs": [{"a": "a", "b": "b", "verdict": "foreign", "cosine": None, "correlation": 0.01, "distance": 1.4}],
    }
    figure = kinship.draw([open_made(kinship=False, meta={"kinship": data})])
    assert figure.chart is None  # of one number
    assert figure.lead == (
        "a and b: correlation of the weights 0.01. Look at b: whether it was made from the same weights as the others "
        "is doubtful."
    )
    assert figure.table.marked == frozenset({1})
    assert "Without a base there are no task vectors" in figure.note


def test_runs_of_different_parents_have_no_kinship_together(open_made: Any) -> None:
    runs = [open_made(), open_made(parents=("a", "b"))]
    assert kinship.draw(runs) is None and kinship.draw(runs[:1]) is not None
