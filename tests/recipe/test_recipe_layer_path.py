import pytest

from evomerge.errors import RecipeError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.recipe.layer_path import Step, path_from_data, path_to_data, runs

A, B = Parent("a", ModelSource("org/a")), Parent("b", ModelSource("org/b"))
PATH = (Step("a", 0), Step("a", 1), Step("b", 1, 0.5), Step("b", 2), Step("b", 2), Step("a", 3), Step("a", 2, 2.0))


def test_neighbouring_layers_are_one_run_and_a_scale_begins_another() -> None:
    assert runs(PATH) == [("a", 0, 2, 1.0), ("b", 1, 3, 0.5), ("b", 2, 3, 1.0), ("a", 3, 4, 1.0), ("a", 2, 3, 2.0)]


def test_a_path_is_read_as_it_was_written() -> None:
    data = path_to_data(PATH)
    assert data[1] == {"parent": "b", "layers": [1, 3], "scale": 0.5}
    assert path_from_data(data) == PATH
    assert path_from_data(None) == ()


def test_one_layer_may_be_written_shortly() -> None:
    assert path_from_data([{"parent": "a", "layer": 3, "scale": 2}]) == (Step("a", 3, 2.0),)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"parent": "a"}, r"an entry of `path` is"),
        ({"layers": [0, 2]}, r"an entry of `path` is"),
        ({"parent": "a", "layers": [0, 2], "layer": 1}, r"an entry of `path` is"),
        ({"parent": "a", "layers": [0, 2], "scales": 1}, r"an entry of `path` is"),
        ({"parent": "a", "layers": [0]}, r"an entry of `path` is"),
        ({"parent": "a", "layers": [0, True]}, r"an entry of `path` is"),
        ("a", r"an entry of `path` is"),
        ({"parent": "a", "layers": [2, 2]}, r"0 <= start < stop, but came \[2, 2\]"),
        ({"parent": "a", "layers": [-1, 2]}, r"0 <= start < stop, but came \[-1, 2\]"),
        ({"parent": "a", "layer": -1}, r"0 <= start < stop"),
        (
            {"parent": "a", "layers": [0, 2], "scale": 0},
            r"scale of a layer 0 must be above 0, but came 0, which erases",
        ),
        ({"parent": "a", "layers": [0, 2], "scale": -1.5}, r"above 0, but came -1.5, which flips the sign"),
        ({"parent": "a", "layers": [0, 2], "scale": float("nan")}, r"must be a finite number, but came nan"),
        ({"parent": "a", "layers": [0, 2], "scale": "2"}, r"must be a finite number, but came '2'"),
    ],
)
def test_a_wrong_entry_is_refused_with_what_came(entry: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        path_from_data([entry])


def test_a_path_must_be_a_list() -> None:
    with pytest.raises(RecipeError, match="`path` must list runs of layers"):
        path_from_data({"parent": "a", "layers": [0, 2]})


def test_a_recipe_with_a_path_makes_the_round_trip_and_its_hash_knows_the_path() -> None:
    recipe = Recipe("passthrough", (A, B), path=PATH)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert recipe.content_hash == Recipe.from_yaml(recipe.to_yaml()).content_hash
    others = [PATH[:-1], (*PATH[:-1], Step("a", 2, 2.1)), tuple(reversed(PATH))]
    assert len({recipe.content_hash, *(Recipe("passthrough", (A, B), path=path).content_hash for path in others)}) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "linear", "parents": (A, B), "path": PATH}, r"built by the method passthrough, but .* is linear"),
        ({"method": "passthrough", "parents": (A, B)}, r"passthrough with 2 parents needs a `path`"),
        ({"method": "passthrough", "parents": (A,), "path": PATH}, r"the path names b, but the parents are a"),
        ({"method": "passthrough", "parents": (A,), "base": B}, r"passthrough takes no base"),
    ],
)  # fmt: skip
def test_a_path_belongs_to_passthrough_and_to_its_parents(arguments: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(**arguments)


def test_a_path_says_who_lends_embeddings_and_head() -> None:
    plain = Recipe("passthrough", (A, B), path=PATH)
    recipe = Recipe("passthrough", (A, B), path=PATH, embeddings="b", head="b")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    hashes = {
        Recipe("passthrough", (A, B), path=PATH, **lent).content_hash
        for lent in ({"embeddings": "b"}, {"head": "b"}, {})
    }
    assert len({recipe.content_hash, *hashes}) == 4
    assert Recipe("passthrough", (A, B), path=PATH, embeddings="a", head="a") == plain
    assert Recipe("passthrough", (A, B), path=PATH, embeddings="a", head="a").content_hash == plain.content_hash


def test_a_lender_called_like_a_number_stays_a_name() -> None:
    text = "method: passthrough\nparents: {a: org/a, '1e3': org/b}\npath: [{parent: a, layer: 0}]\nhead: 1e3\n"
    assert Recipe.from_yaml(text).head == "1e3"


@pytest.mark.parametrize("key", ["embeddings", "head"])
def test_a_lender_that_is_no_parent_of_a_path_is_refused(key: str) -> None:
    with pytest.raises(RecipeError, match=rf"{key} must name a parent \(a, b\), not 'c'"):
        Recipe("passthrough", (A, B), path=PATH, **{key: "c"})
    with pytest.raises(RecipeError, match=f"{key} says who lends a part of a layer path, but the recipe has no `path`"):
        Recipe("linear", (A, B), **{key: "b"})
