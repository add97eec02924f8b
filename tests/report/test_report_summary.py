"""What was searched and found, in words, for whatever state a run is in."""

from __future__ import annotations

from typing import Any

from made_runs import PERPLEXITY, TWO_OBJECTIVES

from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.figures.summary import draw
from evomerge.store.run_dir import RunDir


def test_a_finished_run_is_told_in_full(open_made: Any) -> None:
    run = open_made()
    figure = draw([run])
    status = run.status
    test, parent = status["best"]["test"], status["best_parent"]
    gain = next(one for one in status["comparisons"] if one["against"] == parent)
    assert figure.lead.startswith(
        "16 merges of math, words, code by task_arithmetic were tried for better acc of add and exact_match of "
        "reverse. The best merge, "
    )
    assert len(figure.data["sentences"]) == 2 and figure.data["sentences"][1].count(". ") == 0
    facts = {one["name"]: one["value"] for one in figure.data["facts"]}
    assert facts["base"] == "org/base"
    assert facts["search"] == "9 genes, moved by cma, say how much of each parent goes where"
    assert facts["items"] == "40 search items; 40 validation and 80 test items that the search never saw"
    assert facts["candidates"] == "16 (1 failed, 1 repeated an earlier recipe)" and facts["time"].startswith("32 s, ")
    assert f"reaches {100 * test['mean']:.1f} %" in figure.lead and "on 80 test items" in figure.lead
    assert f"{100 * gain['difference']:+.1f} points" in figure.lead and f"over {parent}, the best parent" in figure.lead
    assert figure.data["standing"] is None and figure.data["verdict"]["text"] == status["verdict"]["text"]
    assert [one["text"] for one in figure.data["cautions"]] == [one["text"] for one in status["warnings"]]
    assert figure.data["next"]


def test_any_run_has_a_summary(any_run: RunData) -> None:
    figure = draw([any_run])
    assert figure.template == "summary.html" and len(figure.lead) < 2000
    assert {one["name"] for one in figure.data["numbers"]} >= {"candidates"}
    if not any(record.fitness is not None for record in any_run.records):
        assert figure.lead.endswith(("Nothing has been scored yet.", "No candidate was scored (5 failed)."))


def test_a_search_that_was_stopped_says_how_it_goes_on(open_made: Any) -> None:
    figure = draw([open_made(choice=None, candidates=8, budget={"candidates": 16, "seconds": 600})])
    standing = figure.data["standing"]
    assert standing["text"].startswith("The search was interrupted after 8 of 16 candidates, 16 s of 10 min")
    assert standing["command"].startswith("evomerge resume ")
    assert figure.data["next"][0]["command"] == standing["command"]
    assert figure.data["verdict"] is None and "So far the best is candidate" in figure.lead
    assert "on 40 search items, by which it was chosen, so that it flatters" in figure.lead


def test_a_search_that_failed_says_why(open_made: Any) -> None:
    figure = draw([open_made(choice=None, state="failed", error="the disk is full <b>")])
    assert figure.data["standing"]["text"] == "The search failed: the disk is full <b>"
    assert figure.data["next"][0]["text"].startswith("mend what the error names")


def test_a_search_that_runs_says_how_long_it_will_take(open_made: Any) -> None:
    made = open_made(choice=None, candidates=8, budget={"candidates": 16})
    with RunDir.open(made.path, write=True), RunData.open(made.path) as run:
        figure = draw([run])
    text = figure.data["standing"]["text"]
    assert text == "The search is running: 8 of 16 candidates, 26.2 candidates a minute, about 18 s left."
    assert "have been tried so far" in figure.lead
    assert figure.data["next"] == [
        {"text": "follow it in a terminal", "command": f"evomerge top {made.path}"},
    ]


def test_a_front_is_told_from_end_to_end(open_made: Any) -> None:
    run = open_made(specs=TWO_OBJECTIVES, choice="front")
    figure = draw([run])
    rows = [row["objectives"]["sums"][Split.TEST]["mean"] for row in run.status["choice"]["records"]]
    assert "The search ended with a front of 4 merges: on the test items" in figure.lead
    best = max((row["objectives"]["sums"][Split.TEST]["mean"], row["name"]) for row in run.status["baselines"]
               if row["name"] != "average")  # fmt: skip
    span = f"{100 * min(rows):.1f} % to {100 * max(rows):.1f} % in sums"
    assert f"{span} ({best[1]}: {100 * best[0]:.1f} %)" in figure.lead
    assert "--front" in figure.data["next"][0]["command"]


def test_less_is_better_is_said(open_made: Any) -> None:
    figure = draw([open_made(specs=(PERPLEXITY,))])
    assert "word_perplexity of wiki (less is better)" in figure.lead


def test_several_runs_have_none(open_made: Any) -> None:
    few = {"candidates": 0, "baselines": False, "choice": None}
    assert draw([open_made(**few), open_made(**few)]) is None
