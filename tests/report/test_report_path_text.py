"""Layer paths in words, and where their steps stand in the picture."""

import pytest
from path_recipes import example, path_recipe, random_recipe

from evomerge.recipe import ModelSource, Parent, Recipe, Step
from evomerge.report import describe_source, path_text
from evomerge.report.path_layout import Move, lay_out, move_words, moves
from evomerge.report.path_text import path_summary


def test_a_path_reads_as_runs_of_layers_with_their_scales() -> None:
    assert path_text(example().path) == "math 0-3 -> japanese 2-3 x0.8 -> japanese 3 x1.3 -> math 2-3 x0.62 -> math 5"


def test_the_summary_counts_steps_shares_repeats_and_scales() -> None:
    assert path_summary(example()) == (
        "10 steps: 7 of math, 3 of japanese; 3 layers used more than once; scales 0.62 to 1.3"
    )


def test_the_summary_names_parents_without_a_step_and_is_silent_about_scales_of_one() -> None:
    recipe = path_recipe([Step("a", 0)], {"a": ModelSource("org/a"), "b": ModelSource("org/b")})
    assert path_summary(recipe) == "1 step: 1 of a; none of b"


def test_a_parent_that_is_a_recipe_says_what_it_is_made_of() -> None:
    inner = Recipe("slerp", (Parent("math", ModelSource("org/m")), Parent("ja", ModelSource("org/j"))))
    assert describe_source(inner) == "merged: slerp of math, ja"
    assert describe_source(example()) == "stacked: 10 layers of math, japanese"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (ModelSource("/home/someone/models/math-7b/"), "math-7b"),
        (ModelSource("zoo:math"), "zoo:math"),
        (ModelSource("org/model", revision="0123456789abcdef0123"), "org/model at 0123456789ab"),
    ],
)
def test_a_source_is_named_without_the_folders_of_one_machine(source: ModelSource, words: str) -> None:
    assert describe_source(source) == words


def test_moves_tell_the_next_layer_from_jumps_and_from_steps_back() -> None:
    assert moves(example().path) == [
        *[Move.NEXT] * 3,
        Move.BACK,  # math 3 -> japanese 2
        Move.NEXT,
        Move.BACK,  # japanese 3 again
        Move.BACK,
        Move.NEXT,
        Move.ONWARD,  # math 3 -> math 5
    ]
    assert moves([Step("a", 3), Step("b", 4)]) == [Move.ONWARD]
    assert moves([Step("a", 3), Step("b", 3)]) == [Move.BACK]


@pytest.mark.parametrize("n_steps", [1, 2, 199])
def test_every_step_is_placed_once_in_order_in_the_lane_of_its_parent(n_steps: int) -> None:
    recipe = random_recipe(n_steps, 3, seed=n_steps)
    layout = lay_out(recipe)
    assert [placed.step for placed in layout.steps] == list(recipe.path)
    assert [placed.number for placed in layout.steps] == list(range(1, n_steps + 1))
    assert all(layout.lanes[placed.lane] == placed.step.parent for placed in layout.steps)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (("a", 1), ("a", 2), "the next layer"),
        (("a", 1), ("b", 2), "the next depth of b"),
        (("a", 1), ("a", 1), "repeats the layer"),
        (("a", 1), ("b", 1), "the same depth of b"),
        (("a", 5), ("b", 2), "back to layer 2 of b"),
        (("a", 1), ("a", 4), "skips 2 layers"),
        (("a", 1), ("b", 3), "skips 1 layer and goes on with b"),
    ],
)
def test_a_move_is_told_in_words(before: tuple[str, int], after: tuple[str, int], words: str) -> None:
    assert move_words(Step(*before), Step(*after)) == words


def test_lanes_are_the_first_parent_and_those_that_are_used() -> None:
    sources = {name: ModelSource(f"org/{name}") for name in ("first", "idle", "busy")}
    assert lay_out(path_recipe([Step("busy", 1)], sources)).lanes == ("first", "busy")


def test_the_uses_of_a_layer_are_counted_per_parent() -> None:
    path = [Step("a", 1), Step("b", 1), Step("a", 1, 0.5), Step("a", 1)]
    assert [placed.use for placed in lay_out(path_recipe(path)).steps] == [1, 1, 2, 3]
