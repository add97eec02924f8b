"""The picture of a layer path: its chart, and its files."""

import itertools
import re
from pathlib import Path

import pytest
from charts import check_chart
from made_runs import HOSTILE
from path_recipes import example, path_recipe, random_recipe

from evomerge.errors import RecipeError, RunError
from evomerge.recipe import ModelSource, Parent, Recipe, Step
from evomerge.report.figures import layer_path
from evomerge.report.page import render_figure
from evomerge.report.path_chart import ends_words, path_chart, short_scale
from evomerge.report.path_figure import path_figure, save_path_figure
from evomerge.report.pictures import PNG, SVG, WIDTH, picture


def words_of(recipe: Recipe, **more) -> list[str]:
    svg = picture(path_figure(recipe, **more), SVG, "light").decode()
    return re.findall(r">([^<>\n]+)</t", svg)


def test_the_layer_path_of_any_run_is_drawn_or_there_is_none(any_run) -> None:
    figure = layer_path.draw([any_run])
    recipe = any_run.best_recipe
    assert (figure is not None) == (recipe is not None and bool(recipe.path))
    if figure is not None:
        check_chart(figure)
        assert HOSTILE[:8] not in render_figure(figure, strict=True)


def test_several_paths_are_not_laid_upon_each_other(open_made) -> None:
    assert layer_path.draw([open_made(dataflow=True), open_made(dataflow=True, seed=1)]) is None


def test_each_step_says_what_it_is_and_how_it_follows() -> None:
    steps = path_chart(example())["datasets"]["steps"]
    assert [(step["n"], step["parent"], step["layer"]) for step in steps][3:6] == [
        (4, "math", 3),
        (5, "japanese", 2),
        (6, "japanese", 3),
    ]
    assert [step["move"] for step in steps] == [
        "the first layer",
        *["the next layer"] * 3,
        "back to layer 2 of japanese",
        "the next layer",
        "repeats the layer",
        "back to layer 2 of math",
        "the next layer",
        "skips 1 layer",
    ]
    assert [step["use"] for step in steps if step["again"]] == ["2nd time"] * 3
    assert [step["short"] for step in steps if step["short"]] == ["×.80", "×1.3", "×.62"]
    assert [step["sign"] for step in steps if step["sign"]] == ["–", "+", "–"]


def test_lines_join_all_steps_with_the_ends() -> None:
    spec = path_chart(example())
    lines = sorted(spec["datasets"]["lines"], key=lambda line: line["n"])
    assert [(line["n"], line["n2"]) for line in lines] == [(i, i + 1) for i in range(11)]
    layers = [0, *(step.layer for step in example().path), 5]
    assert [(line["layer"], line["layer2"]) for line in lines] == list(itertools.pairwise(layers))


def test_the_ends_have_the_colours_of_their_lenders() -> None:
    recipe = Recipe(
        "passthrough",
        tuple(Parent(name, ModelSource(f"org/{name}")) for name in ("a", "b", "idle", "c")),
        path=(Step("a", 0), Step("b", 1)),
        embeddings="c",
        head="b",
    )
    ends = path_chart(recipe)["datasets"]["ends"]
    assert [(end["word"], end["parent"], end["n"], end["layer"]) for end in ends] == [
        ("in", "c", 0, 0),
        ("out", "b", 3, 1),
    ]
    assert ends_words(recipe) == "Embeddings are of c, final norm and head of b"
    assert "idle" not in str(path_chart(recipe)["layer"])


def test_a_name_has_the_colour_that_it_has_in_other_figures(open_made) -> None:
    run = open_made(dataflow=True)
    colour = next(
        layer["encoding"]["color"] for layer in layer_path.draw([run]).chart["layer"] if "color" in layer["encoding"]
    )
    assert colour["scale"]["domain"] == ["best merge", "math", "words", "code", "average"]
    assert set(colour["legend"]["values"]) <= {"math", "words", "code"}


def test_equal_recipes_give_equal_files(tmp_path: Path) -> None:
    first = save_path_figure(example(), tmp_path / "one", title="candidate 3")
    second = save_path_figure(example(), tmp_path / "v1.2", title="candidate 3")
    assert [path.name for path in second] == ["v1.2.svg", "v1.2.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert str(tmp_path) not in first[0].read_text()
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_the_picture_says_layers_scales_parents_and_title() -> None:
    words = words_of(example(), title="candidate 3: 62.0 %")
    assert "candidate 3: 62.0 %" in words
    assert [word for word in words if word.startswith("×")] == ["×.80", "×1.3", "×.62"]
    assert {"math", "japanese", "math: org/math", "in", "out", "Embeddings, final norm and head are of math"} <= set(
        words
    )
    assert "10 steps: 7 of math, 3 of japanese; 3 layers used more than once; scales 0.62 to 1.3" in words


def test_a_merged_parent_hints_at_what_it_is_made_of() -> None:
    inner = Recipe("linear", (Parent("math", ModelSource("org/m")), Parent("ja", ModelSource("org/j"))))
    assert "both: merged: linear of math, ja" in words_of(path_recipe([Step("both", 0)], {"both": inner}))


@pytest.mark.parametrize("n_steps", [1, 2, 45, 120])
@pytest.mark.parametrize("title", ["a long title " * 30, "題" * 300, "W" * 300])
def test_the_picture_of_any_path_keeps_the_width_of_a_page(n_steps: int, title: str) -> None:
    png = picture(path_figure(random_recipe(n_steps, min(7, n_steps), seed=n_steps), title=title), PNG, "light")
    assert int.from_bytes(png[16:20], "big") <= 2 * (WIDTH + 120)


def test_a_recipe_without_a_path_is_refused() -> None:
    with pytest.raises(RecipeError, match="no layer path to draw: the recipe's method is linear"):
        path_figure(Recipe("linear", (Parent("a", ModelSource("org/a")),)))


def test_files_that_cannot_be_written_are_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        save_path_figure(example(), tmp_path / "file" / "path")


@pytest.mark.parametrize(
    ("scale", "short"),
    [(0.8, "×.80"), (0.05, "×.05"), (0.999, "×0.999"), (0.001, "×0.001"), (1.25, "×1.25"), (12.3456, "×12.3")],
)
def test_scales_are_short(scale: float, short: str) -> None:
    assert short_scale(scale) == short


def test_names_and_titles_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ("$x_{$ a$b", "\x1b[2J\ud800", "<b>&amp;")
    parents = tuple(Parent(name, ModelSource(f"/models/{name}$\\frac$")) for name in names)
    recipe = Recipe("passthrough", parents, path=tuple(Step(name, layer) for layer, name in enumerate(names)))
    svg, png = save_path_figure(recipe, tmp_path / "odd", title="$\\bad{$ [/red]\ud800")
    text = svg.read_text()
    assert "$x_{$ a$b" in text and r"\x1b[2J\ud800" in text and r"$\bad{$ [/red]\ud800" in text
    assert "&lt;b&gt;&amp;amp;" in text and png.stat().st_size > 1000


def test_the_lead_counts_what_is_unusual_in_the_path(open_made, monkeypatch) -> None:
    run = open_made(dataflow=True)
    monkeypatch.setattr(type(run), "best_recipe", property(lambda self: example()))
    figure = layer_path.draw([run])
    assert figure.lead.endswith(
        "It changes the parent 2 times, goes back or stays at a depth 3 times and skips 1 layer."
    )
    assert figure.table.rows == [
        ["1–4", "math", "0–3", 1.0],
        ["5–6", "japanese", "2–3", 0.8],
        ["7", "japanese", "3", 1.3],
        ["8–9", "math", "2–3", 0.62],
        ["10", "math", "5", 1.0],
    ]
    monkeypatch.setattr(type(run), "best_recipe", property(lambda self: path_recipe([Step("a", 0), Step("a", 1)])))
    assert layer_path.draw([run]).lead.endswith("It takes the layers of one model in their order.")
