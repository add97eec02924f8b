import json
import math

import pytest

from evomerge.errors import RecipeError, unknown_name
from evomerge.recipe import Group, ModelSource, Parent, Recipe

TEXT = """
method: dare_ties
base: org/base
parents:
  math: org/math
  japanese: {path: org/japanese, revision: 1a2b3c}
  mix: {recipe: {method: linear, parents: {x: a, y: b}, parameters: {weight: 0.5}}}
parameters: {lambda: 1, weight: 0.5, election: sum}
groups:
  - {name: low, layers: [0, 8], roles: [attention], parameters: {weight: {math: 0.8, japanese: 0.3}}}
  - {roles: [embedding, head], parameters: {weight: 0.1}}
dtype: bfloat16
tokenizer: japanese
seed: 7
"""


def recipe() -> Recipe:
    return Recipe.from_yaml(TEXT)


def test_a_recipe_survives_yaml_and_json() -> None:
    again = Recipe.from_yaml(recipe().to_yaml())
    assert again == recipe()
    assert again.content_hash == recipe().content_hash
    assert Recipe.from_data(json.loads(json.dumps(recipe().to_data()))) == recipe()


def test_yaml_is_read_as_it_is_written_in_the_documentation() -> None:
    read = recipe()
    assert read.base == Parent("base", ModelSource("org/base"))
    assert [parent.name for parent in read.parents] == ["math", "japanese", "mix"]
    assert read.parents[1].source == ModelSource("org/japanese", revision="1a2b3c")
    assert isinstance(read.parents[2].source, Recipe)
    assert (read.dtype, read.tokenizer, read.seed) == ("bfloat16", "japanese", 7)


def test_the_first_group_that_matches_a_tensor_overrides_the_parameters() -> None:
    assert recipe().parameters_of("attention", 7)["weight"] == {"math": 0.8, "japanese": 0.3}
    assert recipe().parameters_of("attention", 8)["weight"] == 0.5
    assert recipe().parameters_of("mlp", 0)["weight"] == 0.5
    assert recipe().parameters_of("head", None) == {"lambda": 1.0, "weight": 0.1, "election": "sum"}


def test_a_group_of_layers_matches_no_tensor_outside_of_layers() -> None:
    assert not Group({}, layers=(0, 99)).matches("embedding", None)
    assert Group({}).matches("embedding", None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.8", "0.80001"),
        ("seed: 7", "seed: 8"),
        ("[0, 8]", "[0, 9]"),
        ("1a2b3c", "ffff"),
        ("path: org/j", "path: org/k"),
    ],
)
def test_the_hash_changes_with_what_is_built(old: str, new: str) -> None:
    assert Recipe.from_yaml(TEXT.replace(old, new, 1)).content_hash != recipe().content_hash


def test_the_hash_ignores_labels_and_ways_to_write_a_number() -> None:
    relabelled = TEXT.replace("name: low", "name: other").replace("lambda: 1,", "lambda: 1.0,")
    assert Recipe.from_yaml(relabelled).content_hash == recipe().content_hash
    zero = Recipe("linear", (Parent("a", ModelSource("x")),), parameters={"weight": 0.0})
    minus = Recipe("linear", (Parent("a", ModelSource("x")),), parameters={"weight": -0.0})
    assert zero.content_hash == minus.content_hash


def test_the_order_of_parents_is_kept_and_hashed() -> None:
    one = Recipe.from_yaml("method: slerp\nparents: {b: x, a: y}")
    two = Recipe.from_yaml("method: slerp\nparents: {a: y, b: x}")
    assert [parent.name for parent in one.parents] == ["b", "a"]
    assert one.content_hash != two.content_hash
    assert Recipe.from_data(json.loads(json.dumps(one.to_data(), sort_keys=True))) == one


def test_a_recipe_cannot_be_changed() -> None:
    weights = {"math": 0.8}
    built = Recipe("linear", (Parent("math", ModelSource("x")),), parameters={"weight": weights})
    weights["math"] = 0.1
    assert built.parameters["weight"] == {"math": 0.8}
    with pytest.raises(TypeError):
        built.parameters["weight"] = 1.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "a recipe is a mapping"),
        ("method: linear", "needs the key `parents`"),
        ("parents: {a: x}", "needs the key `method`"),
        ("method: linear\nparents: {}", "at least one name"),
        ("method: linear\nparents: {a: x}\nwieght: 1", r"unknown keys .*wieght"),
        ("method: linear\nparents: {a: x}\ndtype: fp8", "dtype must be one of float32"),
        ("method: linear\nparents: {a: x}\ntokenizer: b", "tokenizer must name a parent"),
        ("method: linear\nparents: {a: x}\nparameters: {weight: {b: 1}}", r"names \['b'\]"),
        ("method: linear\nparents: {a: x}\nparameters: {weight: .nan}", "finite number"),
        ("method: linear\nparents: {a: x}\ngroups: [{layers: [3, 2], parameters: {}}]", "start < stop"),
        ("method: linear\nparents: {a: x}\ngroups: [{roles: [attn], parameters: {}}]", "unknown roles"),
        ("method: linear\nparents: {a: {file: x}}", "a model is a path or Hub id"),
        ("method: [", "not valid YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_yaml(text)


def test_a_missing_recipe_file_is_named(tmp_path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*none\.yaml"):
        Recipe.load(tmp_path / "none.yaml")


def test_numbers_survive_exactly() -> None:
    value = math.nextafter(0.1, 1.0)
    built = Recipe("linear", (Parent("a", ModelSource("x")),), parameters={"weight": value})
    assert Recipe.from_yaml(built.to_yaml()).parameters["weight"] == value


def test_an_unknown_name_shows_the_nearest_and_the_known() -> None:
    text = unknown_name("merge method", "tie", ["ties", "linear"])
    assert text == "unknown merge method 'tie'; did you mean 'ties'? Known: linear, ties"
    assert "Known" not in unknown_name("task", "x", map(str, range(100)))
