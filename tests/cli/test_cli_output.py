"""What is shown ends nothing: any text, in any encoding, on any terminal, and to nobody at all."""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.table import Table
from tiny_search import composed

from evomerge import api
from evomerge.cli.console import make_console, named, print_table
from evomerge.cli.display import Display
from evomerge.cli.main import COMMANDS, main
from evomerge.cli.streams import say
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Score, Split, State

ODD = [
    "[/red]",
    "[bold]x",
    "\ud800",
    "\x1b[2J",
    "a\nb",
    "\u202eb",
    ":smile:",
    "日本",
    "x" * 300,
    "\x9b",
    "\r",
    "–…▁",
    "|`<b>*_",
]
METRIC = """
n = [0]
def f(doc, responses):
    n[0] += 1
    if n[0] > 45:
        raise ValueError("[/INST] \\ud800 \\x1b[2J \\u202e" + "x" * 5_000_000)
    return float(responses[0][0] > responses[1][0])
"""


@contextmanager
def output(encoding: str) -> Iterator[io.BytesIO]:
    """Lend stdout and stderr with an encoding, and take what is written."""
    raw = io.BytesIO()
    before = sys.stdout, sys.stderr
    sys.stdout = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    try:
        yield raw
    finally:
        sys.stdout.flush()
        sys.stdout.detach()  # type: ignore[union-attr]
        sys.stdout, sys.stderr = before


def shown(encoding: str, *words: object) -> str:
    with output(encoding) as raw:
        assert main([str(word) for word in words]) == 0
    text = raw.getvalue().decode(encoding)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text) and len(text) < 200_000
    return text


@pytest.fixture(scope="module")
def odd_run(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose names and errors are as odd as can be."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "metric.py").write_text(METRIC)
    data = composed(tiny_file)
    a, b = data["models"]["parents"].values()
    data["models"]["parents"] = {"[/red]": a, "b\x1b[2J\n|`<b>\u202e": b}
    data["name"] = "[/red] \ud800\n"
    data["evaluation"]["tasks"] = [
        {"name": "tiny", "metric": f"python:{folder}/metric.py:f", "direction": "maximize", "objective": "[bold]"}
    ]
    with output("ascii"), Display() as display:
        run = api.search(data, run_dir=folder / "run", listener=display, note=display.note)
    return run.path


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_a_search_with_odd_names_and_errors_ends_and_is_shown(odd_run: Path, encoding: str) -> None:
    status = json.loads(shown(encoding, "status", odd_run, "--json"))
    assert status["state"] == "complete" and status["failed"] >= 1
    assert status["name"] == "[/red] \ud800\n"
    assert [row["name"] for row in status["baselines"]] == ["[/red]", "b\x1b[2J\n|`<b>\u202e", "average"]
    said = shown(encoding, "status", odd_run)
    assert "[/red]" in said and r"b\x1b[2J\n|`<b>\u202e" in said
    records = [json.loads(line) for line in shown(encoding, "records", odd_run).splitlines()]
    error = next(record["error"] for record in records if record["error"])
    assert "[/INST]" in error and "more characters" in error and len(error) < 30_000
    assert (odd_run / "run.log").stat().st_size < 500_000


def test_odd_names_are_exported_with_a_card_that_shows_them(odd_run: Path, tmp_path: Path) -> None:
    shown("ascii", "export", odd_run, "--out", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    body = card.split("---\n", 2)[2].split("```yaml")[0]
    outside_of_code = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", body)
    assert "<b>" not in outside_of_code and "\x1b" not in card and "\u202e" not in card
    assert r"\[/red\]" in body and r"b\\x1b\[2J\\n\|\`&lt;b&gt;\\u202e" in body
    recipe = Recipe.load(tmp_path / "out" / "recipe.yaml")
    assert [parent.name for parent in recipe.parents] == ["[/red]", "b\x1b[2J\n|`<b>\u202e"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    "command", ["methods", "explain", "zoo", "search --help", "space zoo_ja_math", "--help", "--version"]
)
def test_commands_print_in_any_encoding(command: str, encoding: str) -> None:
    assert shown(encoding, *command.split())


@pytest.mark.parametrize("width", [1, 2, 7, 40, 80, 200])
@pytest.mark.parametrize("term", ["dumb", "xterm", None])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_table_is_whole_on_any_terminal(
    width: int, term: str | None, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if term is not None:
        monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    with output(encoding) as raw:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        console = make_console()
        if term is not None:
            console._force_terminal, console.width = True, width
        table = Table(title=named("a title"))
        for column in ("model", "score", "folder"):
            table.add_column(column)
        table.add_row(named("[/red]"), "51.2 % [46.1, 56.3]", named("/a/very/long/folder/" + "x" * 100))
        print_table(console, table)
    said = re.sub(r"[^!-~]|[|]", "", re.sub("\x1b\\[[0-9;]*m", "", raw.getvalue().decode(encoding)))
    for part in ("[/red]", "51.2", "46.1,", "56.3]"):
        assert part in said or set(part) <= set(said)
    assert said.count("x") >= 100


def record(number: int, error: str | None = None) -> Record:
    recipe = Recipe("linear", (Parent("a", ModelSource("a")),))
    return Record(number, ODD[number % len(ODD)], State.FAILED if error else State.COMPLETE, recipe, error=error)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_display_takes_any_text(encoding: str, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with output(encoding) as raw:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        console = make_console()
        console._force_terminal = terminal
        with Display(console) as display:
            for text in ODD:
                display.note(text)
                display.phase(text, 3, 0)
            for number in range(len(ODD)):
                display.scored(record(-1 - number), Split.SEARCH, Score(0.5, 0.4, 0.6, 10))
                display.scored(record(number, ODD[number]), Split.SEARCH, None)
    said = raw.getvalue().decode(encoding, "replace")
    assert "\x1b[2J" not in said and "\u202e" not in said


def test_an_output_that_nobody_reads_ends_no_search(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    gone = os.fdopen(write_end, "w", buffering=1)
    monkeypatch.setattr(sys, "stdout", gone)
    monkeypatch.setattr(sys, "stderr", gone)
    assert main(["search", str(tiny_file), "budget.candidates=2", f"run.dir={tmp_path / 'run'}"]) == 0
    monkeypatch.undo()
    assert api.status(tmp_path / "run")["state"] == "complete"


def test_a_process_without_output_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["methods"]) == 0 and main(["status", "nowhere"]) == 2
    assert sys.stdout is None and sys.stderr is None


def test_a_full_disk_under_the_output_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["methods", "--json"]) == 1
        monkeypatch.undo()
    assert "No space left" in capsys.readouterr().err


def test_a_display_that_fails_is_left_out_and_the_search_goes_on(tiny_file: Path, tmp_path: Path) -> None:
    class Broken:
        calls = 0

        def phase(self, name: str, total: int | None, done: int) -> None:
            self.calls += 1
            raise RuntimeError("the display is broken")

        def scored(self, record: Record, split: Split, score: Score | None) -> None:
            raise RuntimeError("the display is broken")

    broken = Broken()
    run = api.search(composed(tiny_file, "budget.candidates=2"), run_dir=tmp_path / "run", listener=broken)
    assert run.status()["state"] == "complete" and broken.calls == 1
    assert (tmp_path / "run" / "run.log").read_text().count("the display is broken") <= 2


def test_lines_for_people_show_every_character(capsys: pytest.CaptureFixture[str]) -> None:
    say("wrote /x/\x1b[2J\ud800\nnext")
    assert capsys.readouterr().out == "wrote /x/\\x1b[2J\\ud800\nnext\n"
    assert set(COMMANDS) >= {"search", "status", "explain"}
