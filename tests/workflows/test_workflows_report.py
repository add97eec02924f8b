"""`evomerge report`, from the command line and from Python."""

import csv
import json
import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from made_runs import made_run

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import ConfigError, RunError
from evomerge.report.figure import Figure, Table
from evomerge.report.pictures import rows_as_csv
from evomerge.store.run_dir import DATABASE


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_run(tmp_path / "runs" / "one")


def damage(run: Path) -> None:
    (run / DATABASE).write_bytes(b"this is no database" * 100)


def test_the_page_is_written_into_the_run_and_an_earlier_one_is_replaced(run: Path, capsys) -> None:
    assert main(["report", str(run)]) == 0
    page = run / "report.html"
    assert capsys.readouterr().out == f"wrote {page}\n"
    first = page.read_text(encoding="utf-8")
    assert first.startswith("<!DOCTYPE html>") and "made up" in first
    page.write_text(first.replace("made up", "of yesterday"), encoding="utf-8")
    assert api.report(run).page == page
    assert "of yesterday" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content", ["<html>my notes</html>", "", '<meta name="generator" content="evomerge reportage">']
)
def test_a_file_that_is_no_report_is_left_as_it_is(run: Path, tmp_path: Path, content: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(content)
    with pytest.raises(RunError, match="is there, and no report of evomerge"):
        api.report(run, out=page)
    assert page.read_text() == content
    assert api.report(run, out=tmp_path / "other.html").page == tmp_path / "other.html"
    assert api.report(run, out=tmp_path).page == tmp_path / "report.html"


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run: Path, tmp_path: Path) -> None:
    for name in ("page.html", "figures.json"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match="is there, and no report of evomerge"):
        api.report(run, out=tmp_path / "page.html")
    with pytest.raises(RunError, match="is there, and not of an earlier report"):
        api.report(run, figures=tmp_path, only=["progress"])


def test_a_folder_stands_for_all_runs_in_it_and_each_counts_once(tmp_path: Path) -> None:
    for seed in range(2):
        made_run(tmp_path / "runs" / "sweep" / str(seed), seed=seed)
    made_run(tmp_path / "runs" / "alone", name="alone")
    (tmp_path / "runs" / "notes").mkdir()
    written = api.report([tmp_path / "runs", tmp_path / "runs" / "alone"])
    assert written.page == tmp_path / "runs" / "report.html" and written.problems == ()
    text = written.page.read_text(encoding="utf-8")
    assert "<h1>alone · made up: 3 runs</h1>" in text
    assert text.count('<code class="path">') == 3
    assert "seed 0" in text and "seed 1" in text


def test_a_run_that_is_named_in_several_ways_counts_once(tmp_path: Path, monkeypatch) -> None:
    run = made_run(tmp_path / "runs" / "one")
    (tmp_path / "runs" / "latest").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    page = api.report(["runs", "runs/one", run], out="page.html", only=["summary"]).page
    assert "<h1>made up</h1>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("several", [False, True])
def test_a_run_with_nonsense_in_it_is_an_error_that_says_so(tmp_path: Path, several: bool, capsys) -> None:
    odd = made_run(tmp_path / "runs" / "odd", config={"budget": ["nonsense"]})
    if several:
        made_run(tmp_path / "runs" / "whole")
    assert main(["report", str(tmp_path / "runs"), "--only", "summary"]) == 2
    said = capsys.readouterr()
    assert f"{odd} was left out: the run {odd} cannot be read (AttributeError: " in said.err
    assert said.out.startswith("wrote ") is several


def test_a_damaged_run_among_others_is_said_and_left_out(run: Path, capsys) -> None:
    other = made_run(run.parent / "two", seed=1)
    damage(other)
    assert main(["report", str(run.parent)]) == 2
    said = capsys.readouterr()
    page = run / "report.html"
    assert said.out == f"wrote {page}\n"
    assert f"{other} was left out: the run's database" in said.err
    assert f"{other} was left out" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("several", [False, True])
def test_nothing_is_written_where_no_run_can_be_read(run: Path, several: bool) -> None:
    damage(run)
    with pytest.raises(RunError, match="is damaged"):
        api.report(run.parent if several else run)
    assert not list(run.parent.rglob("*.html"))


def test_folders_without_runs_are_refused_with_what_a_run_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no folder .*none; a run is a folder outputs"):
        api.report(tmp_path / "none")
    with pytest.raises(RunError, match=r"is no run, and no folder of runs: there is no run\.sqlite in it"):
        api.report(tmp_path)
    with pytest.raises(ConfigError, match="no run was named"):
        api.report([])


def test_a_figure_that_cannot_be_drawn_is_said_beside_the_page(run: Path, monkeypatch, capsys) -> None:
    def broken(runs: object) -> None:
        raise ZeroDivisionError("nothing to divide")

    monkeypatch.setattr("evomerge.report.figures.progress.draw", broken)
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr()
    assert said.out == f"wrote {run / 'report.html'}\n"
    assert "the figure progress could not be drawn: ZeroDivisionError: nothing to divide" in said.err
    with pytest.raises(ZeroDivisionError):
        api.report(run, strict=True)


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_figures_are_written_as_pictures_with_their_words(run: Path, tmp_path: Path, kind: str, capsys) -> None:
    folder = tmp_path / "pictures"
    words = ["report", str(run), "--figures", str(folder), "--format", kind, "--only", "progress"]
    assert main(words) == 0
    picture = (folder / f"progress.{kind}").read_bytes()
    if kind == "svg":
        assert float(ElementTree.fromstring(picture).attrib["width"]) >= 720
    else:
        assert picture.startswith(b"\x89PNG") and int.from_bytes(picture[16:20]) >= 1440
    (figure,) = json.loads((folder / "figures.json").read_text())["figures"]
    assert figure["key"] == "progress" and f"progress.{kind}" in figure["files"] and figure["lead"]
    assert {path.name for path in folder.iterdir()} == {"figures.json", *figure["files"]}
    assert not (run / "report.html").exists()
    assert main(words) == 0  # an earlier picture of ours is replaced


def test_pictures_stay_ours_after_a_report_of_others_or_one_that_was_cut_short(
    run: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "pictures"
    monkeypatch.setattr("evomerge.workflows.report.picture", lambda *_: b"a picture")
    for only in (["progress"], ["scores"], ["progress"]):
        api.report(run, figures=folder, only=only)
    assert {"progress.svg", "scores.svg"} <= {path.name for path in folder.iterdir()}
    cut = tmp_path / "cut"
    with monkeypatch.context() as now:
        now.setattr("evomerge.workflows.report.rows_as_csv", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            api.report(run, figures=cut, only=["progress"])
    assert (cut / "progress.svg").is_file()
    api.report(run, figures=cut, only=["progress"])


def _interrupted(figure: Figure) -> str:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_all_figures_of_a_hostile_run_are_pictures_that_run_nothing(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", hostile=True, answers=True)
    written = api.report(run, figures=tmp_path / "pictures", theme="dark", strict=True)
    assert written.pictures == tmp_path / "pictures" and written.page is None
    pictures = list(written.pictures.glob("*.svg"))
    assert pictures
    for picture in pictures:
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(picture).iter()}
        assert not tags & {"script", "image", "foreignObject"}


def test_files_that_are_no_pictures_of_ours_are_left_as_they_are(run: Path, tmp_path: Path) -> None:
    (tmp_path / "progress.svg").write_text("mine")
    with pytest.raises(RunError, match=r"progress\.svg is there, and no picture of an earlier report"):
        api.report(run, figures=tmp_path, only=["progress"])
    assert (tmp_path / "progress.svg").read_text() == "mine"
    (tmp_path / "figures.json").write_text("[]")
    with pytest.raises(RunError, match=r"figures\.json is there, and not of an earlier report"):
        api.report(run, figures=tmp_path, only=["progress"])
    with pytest.raises(RunError, match="is a file, not a folder"):
        api.report(run, figures=tmp_path / "progress.svg")


def test_wrong_names_are_told_together_before_a_run_is_read() -> None:
    with pytest.raises(ConfigError) as caught:
        api.report("nowhere", only=["progres"], kind="gif", theme="pink")
    assert len(caught.value.problems) == 3
    assert "progress" in caught.value.problems[0]


def test_a_run_that_goes_on_is_shown_as_it_stands(run: Path, monkeypatch) -> None:
    monkeypatch.setattr("evomerge.store.status.run_state", lambda run: "running")
    assert "as it stood on" in api.report(run).page.read_text(encoding="utf-8")


def test_the_browser_is_asked_to_show_the_page(run: Path, monkeypatch, capsys) -> None:
    shown: list[str] = []

    def fail(address: str) -> bool:
        shown.append(address)
        return False

    monkeypatch.setattr("webbrowser.open", fail)
    assert main(["report", str(run), "--open"]) == 0
    assert shown == [(run / "report.html").as_uri()]
    assert "no browser could be started" in capsys.readouterr().err


def test_cells_of_csv_are_no_formulas() -> None:
    table = Table(["name", "n"], [["=1+1", 2], ["-0.5", None], ["+4.2 % [1.0, 7.4]", "-1+1"], ["a,b\n", "@x"]])
    rows = list(csv.reader(rows_as_csv(Figure("own", "Mine", "l", table=table)).splitlines(keepends=True)))
    assert rows == [["name", "n"], ["'=1+1", "2"], ["-0.5", ""], ["+4.2 % [1.0, 7.4]", "'-1+1"], ["a,b\n", "'@x"]]
    with pytest.raises(ValueError, match="has no table"):
        rows_as_csv(Figure("own", "Mine", "l"))
