"""Where a model comes from, as text and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.files.locate import locate
from evomerge.recipe import ModelSource, Recipe

SOURCES: list[tuple[Any, ModelSource]] = [
    ("org/model", ModelSource("org/model")),
    ("org/model@v1.2", ModelSource("org/model", "v1.2")),
    ("org/model@refs/pr/3", ModelSource("org/model", "refs/pr/3")),
    ("./org/model@v1", ModelSource("./org/model@v1")),
    ("/data/a@b/c", ModelSource("/data/a@b/c")),
    ("user@host", ModelSource("user@host")),
    ({"path": "org/model", "revision": 12}, ModelSource("org/model", "12")),
    ({"path": "m", "adapter": "org/lora", "adapter_revision": "v2"},
     ModelSource("m", adapter="org/lora", adapter_revision="v2")),
    ({"path": "org/gguf", "file": "m.Q8_0.gguf"}, ModelSource("org/gguf", file="m.Q8_0.gguf")),
    ({"path": "m", "allow_pickle": True, "revision": None}, ModelSource("m", allow_pickle=True)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "source"), SOURCES)
def test_a_source_is_read_and_written(data: Any, source: ModelSource) -> None:
    assert ModelSource.from_data(data) == source
    assert ModelSource.from_data(source.to_data()) == source


@pytest.mark.parametrize(("data", "words"), [
    ({"path": "m", "revison": "a"}, "did you mean 'revision'"),
    ({"revision": "a"}, "a model is a path or Hub id"),
    (["m"], "a model is a path or Hub id"),
    ({"path": "m", "allow_pickle": "yes"}, "allow_pickle of m must be true or false, but came 'yes'"),
    ({"path": "m", "adapter_revision": "a"}, "names no adapter"),
])  # fmt: skip
def test_a_wrong_source_is_told(data: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words.replace("(", r"\(")):
        ModelSource.from_data(data)


@pytest.mark.parametrize(("word", "source"), [
    ("org/model@v1", ModelSource("org/model", "v1")),
    ("{path: m, adapter: 007, adapter_revision: 1e3}", ModelSource("m", adapter="007", adapter_revision="1e3")),
    ("{path: m, allow_pickle: true}", ModelSource("m", allow_pickle=True)),
    ('{"path": "a, b", "file": "x.gguf"}', ModelSource("a, b", file="x.gguf")),
])  # fmt: skip
def test_a_word_of_a_command_names_a_model_as_a_recipe_does(word: str, source: ModelSource) -> None:
    assert ModelSource.from_text(word) == source


@pytest.mark.parametrize(("word", "words"), [
    ("{path: [m}", r"or \{path:, .*, but \{path: \[m\} is no YAML"),
    ("{pth: m}", "a model is a path or Hub id"),
])  # fmt: skip
def test_a_word_in_braces_that_names_no_model_is_told(word: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        ModelSource.from_text(word)


def test_revisions_and_adapters_are_text_in_a_recipe() -> None:
    text = "method: linear\nparents:\n  no: {path: org/m, revision: 1e3, adapter: 007, adapter_revision: 1.0}\n"
    recipe = Recipe.from_yaml(text + "parameters: {weight: 1.0}\n")
    assert recipe.parents[0].source == ModelSource("org/m", "1e3", adapter="007", adapter_revision="1.0")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_a_missing_gguf_file_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("x.gguf", "here/x.gguf", str(tmp_path / "x.gguf")):
        with pytest.raises(CheckpointError, match=f"^there is no file {name}$"):
            locate(ModelSource(name))


def test_a_folder_whose_name_looks_like_a_revision_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "org" / "model@v1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    source = ModelSource.from_data("org/model@v1")
    assert locate(source).samefile(folder)
