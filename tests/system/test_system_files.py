"""Files and folders that users name: what cannot be there is said, and nothing is made."""

import os
from pathlib import Path

import pytest

from evomerge.cli.main import main
from evomerge.errors import ConfigError, ExportError, RecipeError, RunError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.store.run_dir import RunDir
from evomerge.system.files import MOST_TEXT, explain_os_errors, free_folder, read_file, read_text, user_path


def impossible(here: Path) -> dict[str, str]:
    """Paths that no folder can be made at, each with what is said."""
    (here / "file").write_text("")
    (here / "full").mkdir()
    (here / "full" / "notes.txt").write_text("mine")
    (here / "circle").symlink_to("circle")
    (here / "astray").symlink_to("file")
    long, way = "x" * 300, "in the way"
    return {
        **{"file": "a", "file/inside": way, "file/in/side": way, "full": "full", "astray": "a", "nul\0": r"\x00"},
        **dict.fromkeys((long, f"{long}/y", "y/" * 3000), "too long"),
        **dict.fromkeys(("circle", "circle/x"), "circle"),
        "~nobody-of-that-name/x": "nobody-of-that-name",
    }


def test_folders_that_cannot_be_made_are_refused_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], zoo_run: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(Recipe("linear", (Parent("a", ModelSource("zoo:math")),)).to_yaml())
    named = impossible(tmp_path)
    before = sorted(Path().iterdir())
    for name, said in named.items():
        for kind, make in (
            (ExportError, lambda name=name: free_folder(name, ExportError)),
            (RunError, lambda name=name: RunDir.create(name, config={})),
        ):
            with pytest.raises(kind) as found:
                make()
            assert said in str(found.value) and len(str(found.value)) < 8000, name
        for words in (["merge", "recipe.yaml", name], ["export", str(zoo_run), "--out", name]):
            assert main(words) == 2
            err = capsys.readouterr().err
            assert "Traceback" not in err and "bug" not in err and "\0" not in err
    assert sorted(Path().iterdir()) == before and [one.name for one in Path("full").iterdir()] == ["notes.txt"]


def test_the_home_folder_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs/one") == tmp_path / "runs" / "one"
    with RunDir.create("~/runs/one", config={}) as run:
        assert run.path == tmp_path / "runs" / "one"
    with pytest.raises(RunError, match="already holds a run"):
        RunDir.create("~/runs/one", config={})


def test_a_start_that_was_cut_short_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run.lock", "config.yaml", ".run.sqlite.partial"):
        (tmp_path / "run" / name).write_text("")
    RunDir.create(tmp_path / "run", config={"name": "x"}).close()


def test_text_files_are_read_only_where_they_are_text_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MOST_TEXT + 1)
    for name, said in {
        "pipe": "no ordinary file", ".": "a folder", "large": "MB are too many", "none": "No such file",
        "x" * 300: "too long", "nul\0": "null",
    }.items():  # fmt: skip
        for kind in (ConfigError, RecipeError):
            with pytest.raises(kind, match=f"cannot read the thing .*{said}"):
                read_file(tmp_path / name, "the thing", kind)
        with pytest.raises(RecipeError):
            Recipe.load(tmp_path / name)


def test_a_folder_that_was_moved_is_not_called_read_only(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "run", config={"name": "x"})
    (tmp_path / "run").rename(tmp_path / "moved")
    recipe = Recipe("linear", (Parent("a", ModelSource("a")),))
    with pytest.raises(RunError, match="moved or removed") as database:
        run.database.set_meta("state", "running")
    with pytest.raises(RunError, match="moved or removed"):
        run.write_best(recipe)
    assert "read-only" not in str(database.value)
    run.close()
    with RunDir.open(tmp_path / "moved", write=True) as again:
        again.write_best(recipe)


def test_errors_of_the_system_keep_their_kind(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is read-only for this user"), explain_os_errors(tmp_path, ExportError):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(ValueError, match="of ours"), explain_os_errors(tmp_path):
        raise ValueError("of ours")


def test_text_that_is_not_utf_8_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfone")
    assert read_text(tmp_path / "bom.txt", "the thing", ConfigError) == "one"
    (tmp_path / "latin.txt").write_bytes(b"a\xe9")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        read_text(tmp_path / "latin.txt", "the thing", ConfigError)
    latin = str(tmp_path / "latin.txt")
    words = ["estimate", "--responses", "x.npz", "--items", "3", "--calibration", latin, "--targets", latin]
    for command in (words, ["verify", "x.yaml", "folder", "--prompts", latin]):
        assert main(command) == 2
        assert "not UTF-8 text" in capsys.readouterr().err
