"""Tables and lines for people hold whatever words users and libraries choose."""

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import ModelCard
from made_runs import made_run
from rich.console import Console

from evomerge import api
from evomerge.cli.console import make_console
from evomerge.cli.display import Display
from evomerge.cli.main import main
from evomerge.cli.running import show_result
from evomerge.cli.tables import result_tables
from evomerge.errors import EvaluationError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Result, Score, Split, State
from evomerge.search.session import Search
from evomerge.store.run_dir import RunDir

FURTHER = "next: search further, with a larger budget:"
ODD = ["[/INST]", "[red]", "tokens [a]", "  ", "日本語"]


def shown() -> Console:
    console = make_console()
    console.file, console.width = io.StringIO(), 400
    return console


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def status_of(objectives: list[str], parent: str) -> dict[str, Any]:
    score = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    scores = {"validation": score, "test": score}
    by_objective = dict.fromkeys(objectives, scores)
    return {
        "name": "[/run]",
        "best": {"name": "candidate 1", **scores},
        "baselines": [{"name": parent, **scores, "objectives": by_objective}],
        "objectives": [{"name": name, "direction": "minimize"} for name in objectives],
        "choice": {"kind": "front", "records": [{"name": "candidate 1", "objectives": by_objective}]},
    }


def test_names_with_square_brackets_stand_in_the_tables_as_they_are() -> None:
    console = shown()
    for table in result_tables(status_of(ODD, "[/parent]")):
        console.print(table)
    for name in (*ODD, "[/parent]", "[/run]"):
        assert name in text_of(console)


@pytest.mark.parametrize("error", ["unexpected [/INST] in the prompt", "shape [a, b]"])
def test_an_error_with_square_brackets_is_shown_and_ends_no_search(error: str) -> None:
    console = shown()
    recipe = Recipe("linear", (Parent("a", ModelSource("a")),))
    with Display(console) as display:
        display.phase("search: [/stage]", 2, 0)
        display.scored(Record(0, "candidate 0", State.FAILED, recipe, error=error), Split.SEARCH, None)
    assert error in text_of(console) and "[/stage]" in text_of(console)


def test_status_shows_an_error_with_square_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDir.create(tmp_path / "run", config={"name": "[/name]", "budget": {}}) as run:
        run.database.set_meta("state", "failed")
        run.database.set_meta("error", "the tag [/x] is [odd]")
    assert main(["status", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "[/name]: failed" in out and "the tag [/x] is [odd]" in out


def scored(number: int, fitness: float, name: str = "") -> Record:
    recipe = Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": number})
    score = Score(fitness, fitness - 0.1, fitness + 0.1, 10)
    return Record(number, name or f"candidate {number}", State.COMPLETE, recipe, (0.5,), fitness, {Split.SEARCH: score})


def test_a_resumed_search_remembers_the_best_of_before(tmp_path: Path) -> None:
    console = shown()
    with RunDir.create(tmp_path / "run", config={"name": "again", "budget": {"candidates": 4}}) as run:
        for record in (scored(-1, 0.3, "math"), scored(0, 0.8), scored(1, 0.6)):
            run.database.add(record)
        now = scored(2, 0.5)
        with Display(console) as display:
            display.attach(run.path)
            display.phase("search", 4, 2)
            display._last_line = -1e9  # so that a line is due
            run.database.add(now)
            display.scored(now, Split.SEARCH, (now.scores or {})[Split.SEARCH])
    (line,) = [line for line in text_of(console).splitlines() if "candidate 2" in line]
    assert line.startswith("search 3 of 4") and "candidate 2 50.0 % [40.0, 60.0] on the search items" in line
    assert "best candidate 0 80.0 % [70.0, 90.0]" in line and "the best so far" not in line


def test_a_new_best_is_shown_with_its_gain_alone(tmp_path: Path) -> None:
    console = shown()
    with RunDir.open(made_run(tmp_path / "run", candidates=6)) as run, Display(console) as display:
        best = max(run.database.records(), key=lambda one: one.fitness or 0.0)
        score = (best.scores or {})[Split.SEARCH]
        display.attach(run.path)
        display.phase("search", 9, 6)
        display._best = -1.0
        display.scored(best, Split.SEARCH, score)
    (line,) = [line for line in text_of(console).splitlines() if "the best so far" in line]
    text, gain = line.split("the best so far, ")
    assert f"{100 * score.mean:.1f} % [{100 * score.low:.1f}, " in text
    assert re.match(r"[+-][\d.]+ points \[.*, .*\] over \S+, the best parent$", gain), line


def test_status_of_a_run_that_stopped_in_its_baselines_shows_those_that_were_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunDir.create(tmp_path / "run", config={"name": "early", "budget": {"candidates": 3}}) as run:
        assert main(["status", str(run.path)]) == 0
        out = capsys.readouterr().out
        assert "nothing has been scored yet" in out and f"`evomerge resume {run.path}` continues it" in out
        run.database.add(scored(-1, 0.375, "math"))
    assert main(["status", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "math" in line]
    assert "37.5 % [27.5, 47.5]" in line and "search" in out


def test_a_search_that_breaks_says_how_to_go_on(
    zoo_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "a run"
    shutil.copytree(zoo_run, run)
    monkeypatch.setattr(Search, "run", lambda self: 1 // 0)
    assert main(["resume", str(run)]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and f"`evomerge resume '{run}'` continues it" in said
    monkeypatch.setattr(Search, "run", lambda self: (_ for _ in ()).throw(EvaluationError("no candidate was scored")))
    assert main(["resume", str(run)]) == 1
    said = capsys.readouterr().err
    assert "no candidate was scored" in said and f"`evomerge resume '{run}'` continues it" in said


def test_a_candidate_that_breaks_a_limit_is_marked_so_that_a_better_score_is_no_riddle() -> None:
    console = shown()
    with Display(console) as display:
        display._last_line = -1e9  # so that a line is due
        record = scored(0, 0.9)
        broken = replace(record, result=Result((0.9,), violation=0.2))
        display.scored(broken, Split.SEARCH, (record.scores or {})[Split.SEARCH])
        display.scored(record, Split.SEARCH, (record.scores or {})[Split.SEARCH])
        display.scored(broken, Split.VALIDATION, Score(0.8, 0.7, 0.9, 10))
        display.scored(record, Split.VALIDATION, Score(0.7, 0.6, 0.8, 10))
        display.scored(broken, Split.TEST, Score(0.8, 0.7, 0.9, 10))  # what it kept there the record does not say
    first, *others = text_of(console).splitlines()[:4]  # the second one was not due
    assert "on the search items, breaks a limit" in first
    assert [line.endswith("items, breaks a limit") for line in others] == [True, False, False]


def test_candidates_without_a_line_of_their_own_are_counted() -> None:
    console = shown()
    with Display(console) as display:
        display.phase("search", 6, 0)
        for number, fitness in enumerate((0.5, 0.4, 0.6, 0.3, 0.2)):
            record = scored(number, fitness)
            display.scored(record, Split.SEARCH, (record.scores or {})[Split.SEARCH])
        record = scored(5, 0.1, "consensus")
        display.scored(record, Split.SEARCH, (record.scores or {})[Split.SEARCH])
        display.phase("validation", 2, 0)
    lines = [" ".join(line.split()[:3]) for line in text_of(console).splitlines()]
    assert lines == [
        "search: 6 candidates", "search: candidate 0", "search: candidate 2", "search: consensus 10.0", "(3 more in",
        "validation: 2 candidates",
    ]  # fmt: skip


def test_a_budget_that_is_spent_already_is_told() -> None:
    console = shown()
    with Display(console) as display:
        display.phase("search", 3, 4)
        display.phase("validation", 4, 4)
    assert text_of(console).splitlines() == [
        "search: the run has 4 candidates already; nothing more to search with a budget of 3",
        "validation: 4 candidates (4 done before)",
    ]


@pytest.mark.parametrize(
    ("beats", "said"),
    [
        (True, "next: evomerge export 'a run' --out my-merge"),
        (None, "next: evomerge export 'a run' --out my-merge"),
        (False, f"{FURTHER} evomerge resume 'a run' budget.candidates=44 budget.seconds=60.0"),
    ],
)
def test_a_search_without_a_gain_is_to_go_on_and_not_to_be_exported(
    beats: bool | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = {"candidates": 5, "items": None, "seconds": 30.0}
    spent = {"candidates": 22, "items": 40, "seconds": 12.5, "budget": budget}
    kept = {"answers": {"kept": {"test": [-1, 0]}}}
    status = {**status_of(["o"], "a"), **spent, **kept, "path": "a run", "beats_parent": beats}
    assert show_result(SimpleNamespace(path="a run", status=lambda: status, warnings=lambda: [])) == 0
    assert said in capsys.readouterr().out.splitlines()


def test_a_ratio_to_the_best_parent_is_called_that_and_no_per_cent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiny_search import write_tiny

    file, run = write_tiny(tmp_path), tmp_path / "run"
    words = ["evaluation.objective=worst", "evaluation.split={search: 20, validation: 20, test: 20}"]
    assert main(["search", str(file), f"run.dir={run}", *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "tiny: worst task relative to its best parent (1: as good) and 95 % interval, 20 test items" in said
    assert "(worst task, relative to its best parent) over" in said
    scores, _, rest = said.partition("gain on the same")
    assert " % [" not in scores and " % [" not in rest
    assert main(["status", str(run)]) == 0
    assert "worst task relative to its best parent" in capsys.readouterr().out
    assert main(["resume", str(run), "budget.candidates=8"]) == 0
    assert main(["resume", str(run), "evaluation.objective=sum"]) == 2  # it decides results
    assert main(["export", str(run), "--out", str(tmp_path / "merge")]) == 0
    card = (tmp_path / "merge" / "README.md").read_text(encoding="utf-8")
    assert "The worst task relative to its best parent (1: as good) with its 95 % confidence interval" in card
    (result,) = ModelCard(card, ignore_metadata_errors=False).data.eval_results
    (scores_of_it,) = api.Run(run).status()["best"]["tasks"].values()
    assert result.metric_name.startswith("acc") and result.metric_value == scores_of_it["test"]["mean"]
