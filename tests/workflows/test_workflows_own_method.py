"""A merge method in a file of the user's goes all the way: search, merge to disk, export."""

from pathlib import Path

import pytest
from documented import write_example
from safetensors.torch import load_file

from evomerge import api
from evomerge.cli.compose import compose
from evomerge.errors import ConfigError, RecipeError
from evomerge.export.hf_folder import export_recipe
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.registry import METHODS
from evomerge.merge.plan import check_recipe
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe

SMALL = [
    "experiment=zoo_ja_math", "budget.candidates=5", "evaluation.split={search:6,validation:6,test:6}",
    "evaluation.finalists=2", "execution.threads=1",
]  # fmt: skip
NAME = "my_merge.py:METHOD"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The method of the documentation, in a file of the current folder."""
    write_example("methods.md", "my_merge.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return NAME


def recipe(name: str) -> Recipe:
    parents = tuple(Parent(who, ModelSource(f"zoo:{who}")) for who in ("math", "japanese"))
    return Recipe(name, parents, Parent("base", ModelSource("zoo:base")), {"weight": {"math": 0.7, "japanese": 0.4}})


def test_a_method_in_a_users_file_is_searched_merged_and_exported(own: str, tmp_path: Path) -> None:
    run = api.search(compose([*SMALL, f"method.name={own}"]), run_dir=tmp_path / "run").path
    candidates = api.records(run)
    assert len(candidates) == 5
    assert all(record.fitness is not None for record in candidates)
    assert {record.recipe.method for record in candidates} == {own}, "a recipe holds the name as it was written"
    chosen = candidates[1].recipe
    merged = load_file(api.merge(chosen, tmp_path / "merged") / "model.safetensors")
    live = LiveModel(ModelSource("zoo:base"), dtype="float32")
    live.write(chosen)
    assert merged
    assert all(live.model.state_dict()[name].equal(tensor) for name, tensor in merged.items())
    export_recipe(chosen, tmp_path / "exported")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    assert all(exported[name].equal(tensor) for name, tensor in merged.items())
    assert Recipe.load(tmp_path / "exported" / "recipe.yaml") == chosen


def test_what_it_prepares_is_found_once_and_kept_in_the_parent_cache(own: str) -> None:
    sources = Sources()
    live = LiveModel(ModelSource("zoo:base"), sources=sources)
    live.write(recipe(own))
    n_merged = len(sources.plan(recipe(own)).tasks)
    assert sources.parent_cache.used == 8 * 2 * n_merged, "two lengths for each tensor"
    other = Recipe(own, recipe(own).parents, recipe(own).base, {"weight": 0.1})
    live.write(other)
    assert sources.parent_cache.used == 8 * 2 * n_merged


def test_a_name_belongs_to_the_recipes_hash_and_two_methods_of_one_file_are_two(own: str, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text((tmp_path / "my_merge.py").read_text().replace("mean = ", "mean = 2 * "))
    assert recipe(own).content_hash != recipe("other.py:METHOD").content_hash
    live = LiveModel(ModelSource("zoo:base"))
    for name in (own, "other.py:METHOD", own):
        live.write(recipe(name))
        fresh = LiveModel(ModelSource("zoo:base"))
        fresh.write(recipe(name))
        assert all(one.equal(fresh.model.state_dict()[key]) for key, one in live.model.state_dict().items()), name


def test_built_in_methods_are_listed_without_what_is_in_files(own: str) -> None:
    assert own in METHODS
    assert own not in list(METHODS)
    assert {method["name"] for method in api.methods()} == set(METHODS)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tie", r"unknown merge method 'tie'; did you mean 'ties'"),
        ("gone.py:METHOD", r"there is no file gone\.py"),
        ("my_merge.py:METHODS", r"my_merge\.py has no 'METHODS'"),
        ("my_merge.py:merge", r"is a function, so it takes `parents`.*but inputs is none of these"),
        ("my_merge.py:SUM.spec", r"must be like 'my_module:my_name' or 'folder/my_file.py:my_name'"),
        ("my_merge.py:spec", r"`evomerge\.merge\.methods\.base\.Method` or a function, but is a MethodSpec"),
    ],
)
def test_a_method_that_is_none_is_said_before_a_model_is_opened(name: str, what: str, own: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=what):
        check_recipe(recipe(name))
    with pytest.raises(ConfigError, match=what):
        api.search(compose([*SMALL, f"method.name={name}"]), run_dir=tmp_path / "run")
