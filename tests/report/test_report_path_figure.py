"""The picture of a layer path."""

import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from path_recipes import example, path_recipe, random_recipe

from evomerge.errors import RecipeError, RunError
from evomerge.recipe import ModelSource, Parent, Recipe, Step
from evomerge.report.path_figure import _nice_limit, _short, draw_path, save_path_figure
from evomerge.report.path_layout import lay_out


def words_of(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_equal_recipes_give_equal_files_whatever_the_users_style(tmp_path: Path) -> None:
    first = save_path_figure(example(), tmp_path / "one", title="candidate 3")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "none", "savefig.dpi": 20}):
        second = save_path_figure(example(), tmp_path / "v1.2", title="candidate 3")
    assert [path.name for path in second] == ["v1.2.svg", "v1.2.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    svg = first[0].read_text()
    assert "<dc:date>" not in svg and "<text" not in svg and str(tmp_path) not in svg
    assert first[1].read_bytes().startswith(b"\x89PNG")


def test_drawing_leaves_matplotlibs_settings_alone_and_never_loads_pyplot() -> None:
    before = dict(matplotlib.rcParams)
    draw_path(example())
    assert dict(matplotlib.rcParams) == before
    code = "import evomerge.report.path_figure, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_the_picture_says_layers_scales_repeats_parents_and_title() -> None:
    words = words_of(draw_path(example(), title="candidate 3: 62.0 %"))
    assert "candidate 3: 62.0 %" in words
    assert [word for word in words if word.startswith("×")] == ["×.80", "×1.3", "×.62"]
    assert words.count("2nd") == 3
    assert {"math", "japanese", "org/math", "in", "out"} <= set(words)
    layers = [text.get_text() for text in draw_path(example()).axes[0].texts if text.get_fontsize() == 9]
    assert layers == ["0", "1", "2", "3", "2", "3", "3", "2", "3", "5"]


def test_a_merged_parent_hints_at_what_it_is_made_of() -> None:
    inner = Recipe("linear", (Parent("math", ModelSource("org/m")), Parent("ja", ModelSource("org/j"))))
    assert "merged: linear of math, ja" in words_of(draw_path(path_recipe([Step("both", 0)], {"both": inner})))


def test_the_colour_bar_is_there_only_with_scales_and_is_centred_on_one() -> None:
    assert len(draw_path(path_recipe([Step("a", 0), Step("a", 1)])).axes) == 1
    _, bar = draw_path(path_recipe([Step("a", 0), Step("a", 1, 0.3)])).axes
    assert [tick.get_text() for tick in bar.get_xticklabels()] == ["×.25", "×.50", "×1", "×2", "×4"]
    low, high = bar.get_xlim()
    assert low == -high


def test_dimmed_and_amplified_steps_differ_in_colour_and_scale_one_is_neutral() -> None:
    axes = draw_path(path_recipe([Step("a", 0), Step("a", 1, 0.5), Step("a", 2, 2.0)])).axes[0]
    boxes = [patch for patch in axes.patches if patch.get_linewidth() == 0.9]
    (r, g, b), dim, bright = (box.get_facecolor()[:3] for box in boxes)
    assert (r, g, b) == (1, 1, 1)
    assert dim[2] > dim[0] and bright[0] > bright[2]


@pytest.mark.parametrize(("n_steps", "n_parents"), [(1, 1), (2, 2), (45, 7), (200, 3)])
def test_no_word_leaves_the_picture(n_steps: int, n_parents: int) -> None:
    figure = draw_path(random_recipe(n_steps, n_parents, seed=n_steps), title="a long title " * 30)
    renderer = figure.canvas.get_renderer()
    page, bars = figure.axes[0], figure.axes[1:]
    for text in [*page.texts, *(tick for bar in bars for tick in bar.get_xticklabels())]:
        box = text.get_window_extent(renderer)
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    assert figure.get_size_inches()[0] < 14  # readable on a page


def test_a_dollar_sign_in_a_name_is_no_formula_and_strange_letters_are_one_log_line(tmp_path: Path, caplog) -> None:
    recipe = path_recipe([Step("a$_b$ \U000f0000", 0), Step(r"\frac", 1)])
    with caplog.at_level("WARNING"):
        save_path_figure(recipe, tmp_path / "path")
    assert "a$_b$ \U000f0000" in words_of(draw_path(recipe))
    assert len([record for record in caplog.records if "letters" in record.message]) == 1


def test_a_recipe_without_a_path_is_refused() -> None:
    with pytest.raises(RecipeError, match="no layer path to draw: the recipe's method is linear"):
        draw_path(Recipe("linear", (Parent("a", ModelSource("org/a")),)))


def test_files_that_cannot_be_written_are_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        save_path_figure(example(), tmp_path / "file" / "path")


@pytest.mark.parametrize(
    ("scale", "short"),
    [(0.8, ".80"), (0.05, ".05"), (0.999, "0.999"), (0.001, "0.001"), (1.25, "1.25"), (12.3456, "12.3")],
)
def test_scales_are_short(scale: float, short: str) -> None:
    assert _short(scale) == short


def test_the_colour_bar_ends_at_a_round_factor_that_holds_every_scale() -> None:
    assert [_nice_limit(x) for x in (1.0, 1.25, 1 / 0.8, 1.26, 90, 1e6)] == [1.25, 1.25, 1.25, 1.5, 100, 1e6]


def test_names_and_titles_are_drawn_as_they_are(tmp_path: Path) -> None:
    names = ("$x_{$ a$b", "\x1b[2J\ud800")
    parents = tuple(Parent(name, ModelSource(f"/models/{name}$\\frac$")) for name in names)
    recipe = Recipe("passthrough", parents, path=tuple(Step(name, layer) for layer, name in enumerate(names)))
    words = words_of(draw_path(recipe, title="$\\bad{$ [/red]\ud800"))
    assert "$x_{$ a$b" in words and r"\x1b[2J\ud800" in words and r"$\bad{$ [/red]\ud800" in words
    assert all(path.stat().st_size > 1000 for path in save_path_figure(recipe, tmp_path / "odd"))


def test_the_ends_are_drawn_in_the_lanes_of_their_lenders() -> None:
    recipe = Recipe(
        "passthrough",
        tuple(Parent(name, ModelSource(f"org/{name}")) for name in ("a", "b", "idle", "c")),
        path=(Step("a", 0), Step("b", 1)),
        embeddings="c",
        head="b",
    )
    layout = lay_out(recipe)
    assert (layout.lanes, layout.embeddings, layout.head) == (("a", "b", "c"), 2, 1)
    picture = draw_path(recipe)
    assert {"embeddings of c", "final norm and head of b"} <= set(words_of(picture))
    height = {text.get_text(): text.get_position()[1] for text in picture.axes[0].texts if text.get_fontsize() == 6.5}
    assert height["in"] < height["out"]
    assert "embeddings, final norm and head of a" in words_of(draw_path(path_recipe([Step("a", 0)])))
