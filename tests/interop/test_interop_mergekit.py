"""Layer paths in mergekit's words."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from evomerge.errors import RecipeError
from evomerge.interop import passthrough_problems, passthrough_yaml
from evomerge.recipe import ModelSource, Parent, Recipe, Step


def stack(*runs: tuple[str, int, int], sources: dict[str, ModelSource | Recipe] | None = None, **changes) -> Recipe:
    chosen = sources or {"a": ModelSource("org/a"), "b": ModelSource("org/b", revision="v1")}
    path = tuple(Step(name, layer) for name, start, stop in runs for layer in range(start, stop))
    return Recipe("passthrough", tuple(Parent(*item) for item in chosen.items()), path=path, **changes)


def test_a_path_becomes_slices_of_whole_layers() -> None:
    text = passthrough_yaml(stack(("a", 0, 2), ("b", 1, 4), ("b", 3, 4), ("a", 2, 3), dtype="bfloat16"))
    assert text.startswith("# mergekit-yaml FILE DIR\n")
    assert "layer_range: [0, 2]" in text
    assert yaml.safe_load(text) == {
        "slices": [
            {"sources": [{"model": "org/a", "layer_range": [0, 2]}]},
            {"sources": [{"model": "org/b@v1", "layer_range": [1, 4]}]},
            {"sources": [{"model": "org/b@v1", "layer_range": [3, 4]}]},
            {"sources": [{"model": "org/a", "layer_range": [2, 3]}]},
        ],
        "merge_method": "passthrough",
        "base_model": "org/a",
        "dtype": "bfloat16",
    }


def test_the_dtype_is_the_recipes_else_the_callers_else_left_open() -> None:
    def dtype(recipe: Recipe, **options) -> str | None:
        return yaml.safe_load(passthrough_yaml(recipe, **options)).get("dtype")

    assert dtype(stack(("a", 0, 1))) is None
    assert dtype(stack(("a", 0, 1)), dtype="float16") == "float16"
    assert dtype(stack(("a", 0, 1), dtype="bfloat16"), dtype="float16") == "bfloat16"


def test_paths_with_mergekits_own_signs_are_spelled_out_and_a_model_named_twice_is_written_twice() -> None:
    sources = {"a": ModelSource("/models/a+b@c"), "b": ModelSource("~/b")}
    text = passthrough_yaml(stack(("a", 0, 1), ("b", 0, 1), ("a", 1, 2), sources=sources))
    data = yaml.safe_load(text)
    assert data["base_model"] == {"model": {"path": "/models/a+b@c"}}
    assert data["slices"][1]["sources"][0]["model"] == str(Path("~/b").expanduser())
    assert "&" not in text and "*" not in text


def test_remote_code_is_asked_for_in_the_command() -> None:
    sources = {"a": ModelSource("org/a", trust_remote_code=True)}
    assert passthrough_yaml(stack(("a", 0, 1), sources=sources)).startswith(
        "# mergekit-yaml FILE DIR --trust-remote-code\n"
    )


def test_a_path_that_takes_its_ends_where_mergekit_does_is_written() -> None:
    path = (("b", 0, 2), ("a", 1, 3))
    assert passthrough_problems(stack(*path, embeddings="b")) == []
    assert yaml.safe_load(passthrough_yaml(stack(*path, embeddings="b")))["base_model"] == "org/a"
    (wrong,) = passthrough_problems(stack(*path, embeddings="b", head="b"))
    assert "head from the last step's model, a, instead of b" in wrong
    (scaled,) = passthrough_problems(stack(("a", 0, 2), parameters={"scale": 0.5}))
    assert "scales of tensors" in scaled
    assert passthrough_problems(stack(("a", 0, 2), parameters={"scale": 1.0})) == []


def test_all_that_mergekit_cannot_say_is_said_at_once() -> None:
    inner = Recipe("linear", (Parent("x", ModelSource("org/x")),))
    recipe = Recipe(
        "passthrough",
        (Parent("a", ModelSource("zoo:math")), Parent("b", inner), Parent("idle", ModelSource("zoo:japanese"))),
        path=(Step("b", 0), Step("a", 1, 0.5), Step("b", 2)),
        tokenizer="b",
    )
    problems = passthrough_problems(recipe)
    expected = ["no input scale, but a layer 1 has 0.5", "embeddings from the first step's model, b, instead of a"]
    expected += [
        "head from the last step's model, b, instead of a",
        "the tokenizer of b",
        "a is zoo:math",
        "b is itself",
    ]
    assert len(problems) == len(expected)
    for words in expected:
        assert any(words in problem for problem in problems), words
    with pytest.raises(RecipeError) as raised:
        passthrough_yaml(recipe)
    assert all(problem in str(raised.value) for problem in problems)


def test_a_folder_can_stand_for_a_merged_parent_or_one_of_the_zoo() -> None:
    sources = {"a": ModelSource("zoo:math"), "b": Recipe("linear", (Parent("x", ModelSource("org/x")),))}
    recipe = stack(("a", 0, 1), ("b", 0, 1), ("a", 1, 2), sources=sources)
    models = {"a": "/models/math", "b": Path("/models/merged")}
    assert not passthrough_problems(recipe, models=models)
    data = yaml.safe_load(passthrough_yaml(recipe, models=models))
    assert [one["sources"][0]["model"] for one in data["slices"]] == ["/models/math", "/models/merged", "/models/math"]


def test_a_recipe_without_a_path_is_no_passthrough() -> None:
    recipe = Recipe("linear", (Parent("a", ModelSource("org/a")),))
    assert passthrough_problems(recipe) == [
        "only a layer path is a passthrough merge, and this recipe (method linear) has none"
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mergekit-yaml") is None, reason="mergekit is not installed")
def test_mergekit_builds_the_same_tensors(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "merge"))
    import torch
    from tiny_models import make, tensors_of

    from evomerge.merge.disk.folder import merge_to_disk

    sources = {
        "a": ModelSource(str(make(tmp_path / "a", 1, num_hidden_layers=4))),
        "b": ModelSource(str(make(tmp_path / "b+x@y", 2, num_hidden_layers=6))),
    }
    recipe = stack(("a", 0, 2), ("b", 1, 5), ("b", 4, 6), ("a", 1, 4), sources=sources, dtype="bfloat16")
    (tmp_path / "recipe.yaml").write_text(passthrough_yaml(recipe))
    command = ["mergekit-yaml", str(tmp_path / "recipe.yaml"), str(tmp_path / "theirs")]
    subprocess.run(command, check=True, capture_output=True)
    ours, theirs = tensors_of(merge_to_disk(recipe, tmp_path / "ours")), tensors_of(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name
