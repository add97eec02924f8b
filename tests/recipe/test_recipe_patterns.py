"""Checkpoints of one training run by one pattern."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import RecipeError
from evomerge.recipe import ModelSource, Recipe
from evomerge.recipe.patterns import expand_parents, is_pattern


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for step in (500, 1000, 1500, 2000, 10000):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint-final.txt").write_text("a file, and so no model")
    (tmp_path / "run" / "logs").mkdir()
    return tmp_path


def paths(found: dict[str, Any]) -> list[str]:
    return [one["path"] if isinstance(one, dict) else one for one in found.values()]


def test_a_pattern_becomes_parents_in_the_order_of_their_numbers(run: Path) -> None:
    found = expand_parents({"base2": "org/model", "sft": "run/checkpoint-*"})
    assert list(found) == ["base2", "sft-500", "sft-1000", "sft-1500", "sft-2000", "sft-10000"]
    assert found["sft-1000"] == "run/checkpoint-1000" and found["base2"] == "org/model"
    absolute = expand_parents({"sft": str(run / "run" / "checkpoint-*")})
    assert list(absolute) == list(found)[1:] and absolute["sft-500"] == str(run / "run" / "checkpoint-500")
    assert list(expand_parents({"a": "./run/checkpoint-?00/"}).items()) == [("a-5", "./run/checkpoint-500")]


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({"last": 2}, [2000, 10000]),
        ({"last": 9}, [500, 1000, 1500, 2000, 10000]),
        ({"every": 2}, [500, 1500, 10000]),
        ({"every": 2, "last": 2}, [1500, 10000]),
        ({"every": 7}, [10000]),
    ],
)
def test_the_newest_or_every_so_many_are_taken(run: Path, said: dict[str, int], steps: list[int]) -> None:
    found = expand_parents({"sft": {"pattern": "run/checkpoint-*", **said}})
    assert paths(found) == [f"run/checkpoint-{step}" for step in steps]


def test_several_wildcards_and_classes_name_the_parents(run: Path) -> None:
    (run / "other" / "checkpoint-7").mkdir(parents=True)
    (run / "run" / "best.Q8_0.gguf").write_bytes(b"")
    assert list(expand_parents({"x": "*/checkpoint-[57]*"})) == ["x-other-7", "x-run-500"]
    assert list(expand_parents({"x": "run/checkpoint-1[!0]00"})) == ["x-5"]
    assert expand_parents({"x": "run/*.gguf"}) == {"x-best.Q8_0": "run/best.Q8_0.gguf"}


def test_what_a_pattern_permits_holds_for_each_model(run: Path) -> None:
    found = expand_parents({"sft": {"pattern": "run/checkpoint-1*00", "allow_pickle": True, "trust_remote_code": None}})
    assert found["sft-0"] == {"path": "run/checkpoint-1000", "allow_pickle": True}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("run/step-*", "no model matches run/step-.; run has checkpoint-1000, checkpoint-10000, .* logs"),
        ("nowhere/checkpoint-*", "there is no folder nowhere"),
        ({"pattern": "run/checkpoint-500"}, "is a path with wildcards"),
        ({"pattern": 5}, "is a path with wildcards"),
        ({"pattern": "run/checkpoint-*", "last": 0}, "`last` of a pattern is a whole number from 1, but came 0"),
        ({"pattern": "run/checkpoint-*", "every": True}, "`every` of a pattern"),
        ({"pattern": "run/checkpoint-*", "first": 3}, "a pattern has the keys pattern, last, every.* but came first"),
        ({"pattern": "run/**"}, "is no wildcard here"),
        ("a\0*", "cannot look for|no model matches"),
    ],
)
def test_a_pattern_that_names_nothing_is_an_error(run: Path, source: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=f"sft: .*({message})"):
        expand_parents({"sft": source})


def test_every_mistake_is_named_at_once_and_names_must_differ(run: Path) -> None:
    with pytest.raises(RecipeError, match=r"a: no model matches .*; b: `last`.*; two parents are called 'c-500'"):
        expand_parents(
            {
                "a": "run/x*",
                "b": {"pattern": "run/*", "last": -1},
                "c-500": "org/model",
                "c": "run/checkpoint-*",
            }
        )


def test_a_folder_that_has_wildcards_in_its_name_is_itself(run: Path) -> None:
    (run / "run" / "checkpoint-*").mkdir()
    assert not is_pattern("run/checkpoint-*") and is_pattern({"pattern": "run/checkpoint-*"})
    assert expand_parents({"a": "run/checkpoint-*"}) == {"a": "run/checkpoint-*"}


def test_a_recipe_holds_what_was_found(run: Path) -> None:
    text = "method: linear\nparents:\n  sft: {pattern: run/checkpoint-*, last: 2}\n"
    recipe = Recipe.from_yaml(text)
    assert [parent.name for parent in recipe.parents] == ["sft-2000", "sft-10000"]
    assert recipe.parents[0].source == ModelSource("run/checkpoint-2000")
    for path in (run / "run").glob("checkpoint-*"):
        path.rmdir() if path.is_dir() else path.unlink()
    assert Recipe.from_data(recipe.to_data()) == recipe  # what is kept needs no folder any more
    assert "pattern" not in recipe.to_yaml()
    with pytest.raises(RecipeError, match="no model matches"):
        Recipe.from_yaml(text)


def test_signs_that_belong_to_names_and_names_that_meet(run: Path) -> None:
    for name in ("a[1]/c-1", "a[1]/c-2²", "b/1-1/2", "b/1/1-2"):
        (run / name).mkdir(parents=True)
    assert list(expand_parents({"s": "a[[]1]/c-*"})) == ["s-1", "s-2²"]
    assert list(expand_parents({"s": "run//checkpoint-[^5]00"})) == ["s-5"]
    with pytest.raises(RecipeError, match=r"a bracket that belongs to a name is written \[\[\]"):
        expand_parents({"s": "a[1]/c-*"})
    with pytest.raises(RecipeError, match="names two models 's-1-1-2'"):
        expand_parents({"s": "b/*/*"})
