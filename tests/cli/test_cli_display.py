"""Tables and lines for people hold whatever words users and libraries choose."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evomerge.cli.console import make_console
from evomerge.cli.display import Display, result_tables
from evomerge.cli.main import main
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Split, State
from evomerge.store.run_dir import RunDir

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
