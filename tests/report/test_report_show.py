"""`evomerge show`, from the command line and from Python."""

import os
from pathlib import Path

import pytest
from made_runs import ADD, PERPLEXITY
from path_recipes import example

from evomerge import api
from evomerge.analysis.verdict import OBJECTIVE
from evomerge.cli.main import main
from evomerge.errors import RunError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Choice, Record, Score, Split, State
from evomerge.store import RunDir

LINE = "math 0-3 -> japanese 2-3 x0.8 -> japanese 3 x1.3 -> math 2-3 x0.62 -> math 5"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose candidate 0 mixes weights and whose candidate 1, the winner, has a path."""
    plain = Recipe("linear", (Parent("math", ModelSource("org/math")),))
    scores = {Split.SEARCH: Score(0.7, 0.6, 0.8, 50), Split.VALIDATION: Score(0.62, 0.551, 0.684, 100)}
    with RunDir.create(tmp_path / "run", config={"name": "stacks"}) as run:
        run.database.add(Record(0, "candidate 0", State.COMPLETE, plain, (0.0,), fitness=0.5))
        run.database.add(Record(1, "candidate 1", State.COMPLETE, example(), (1.0,), fitness=0.4, scores=scores))
        run.database.set_choice(Choice("winner", (1,)))
    return tmp_path / "run"


def test_the_best_of_a_run_is_drawn_into_the_run(run: Path, capsys) -> None:
    assert main(["show", str(run)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == LINE
    assert (run / "path.svg").is_file() and (run / "path.png").is_file()
    assert str(run / "path.svg") in out and str(run / "path.png") in out


def test_the_title_names_run_candidate_and_the_score_that_the_search_never_saw(run: Path, monkeypatch) -> None:
    import evomerge.report.path_figure as path_figure

    titles = []
    draw = path_figure.path_figure
    monkeypatch.setattr(
        path_figure, "path_figure", lambda recipe, *, title: titles.append(title) or draw(recipe, title=title)
    )
    with RunDir.open(run, write=True) as opened:
        opened.database.set_meta(OBJECTIVE, [PERPLEXITY.to_data()])
    api.show(run)
    with RunDir.open(run, write=True) as opened:
        opened.database.set_meta(OBJECTIVE, [ADD.to_data()])
    api.show(run)
    assert titles == [
        f"stacks, candidate 1: {score} on validation items" for score in ("0.62 [0.551, 0.684]", "62.0 % [55.1, 68.4]")
    ]


@pytest.mark.parametrize("name", ["mine.svg", "mine.png"])
def test_pictures_of_others_are_left_as_they_are(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a picture of mine")
    with pytest.raises(RunError, match="no picture of a layer path by evomerge; it is left as it is"):
        api.show(example(), out=tmp_path / "mine")
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "a picture of mine"
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(RunError, match="it is left as it is"):
        api.show(example(), out=tmp_path / "mine")


def test_a_recipe_file_and_a_model_folder_are_drawn_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(example().to_yaml())
    shown = api.show(tmp_path / "recipe.yaml")
    assert (shown.text, shown.svg, shown.png) == (LINE, tmp_path / "path.svg", tmp_path / "path.png")
    first = shown.svg.read_bytes()
    assert api.show(tmp_path).svg.read_bytes() == first


@pytest.mark.parametrize("name", ["new/picture", "new/picture.svg", "new/picture.png"])
def test_out_names_both_files(tmp_path: Path, name: str) -> None:
    shown = api.show(example(), out=tmp_path / name)
    assert (shown.svg, shown.png) == (tmp_path / "new" / "picture.svg", tmp_path / "new" / "picture.png")
    assert shown.svg.is_file() and shown.png.is_file()


def test_a_candidate_without_a_path_is_said_to_have_none(run: Path, capsys) -> None:
    assert main(["show", str(run), "--candidate", "0"]) == 2
    assert (
        "stacks, candidate 0 has no layer path to draw: it mixes weights by the method linear"
        in capsys.readouterr().err
    )
    assert not (run / "path.svg").exists()


def test_unknown_candidates_targets_and_numbers_of_recipes_are_mistakes(run: Path, tmp_path: Path, capsys) -> None:
    assert main(["show", str(run), "--candidate", "9"]) == 2
    assert "has no candidate 9" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "none")]) == 2
    assert "cannot read the recipe" in capsys.readouterr().err
    assert main(["show", str(tmp_path)]) == 2
    assert "is not a run" in capsys.readouterr().err
    with pytest.raises(RunError, match="only a run has"):
        api.show(example(), candidate=1)
