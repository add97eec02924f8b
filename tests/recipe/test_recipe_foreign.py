"""A file of something else where a recipe is wanted: it is named, and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evomerge.cli.main import main
from evomerge.errors import RecipeError
from evomerge.recipe import Recipe

TIES = "models:\n- {model: org/a, parameters: {density: 0.5}}\nmerge_method: ties\nbase_model: org/base\n"
SLICES = "slices:\n- sources:\n  - {model: org/a, layer_range: [0, 4]}\nmerge_method: passthrough\n"
EXPERTS = "base_model: org/a\ngate_mode: hidden\nexperts:\n- {source_model: org/b, positive_prompts: [x]}\n"
SEARCH = "defaults: [search, _self_]\nmodels: {base: org/a}\nevaluation: {tasks: []}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            TIES,
            "a recipe of mergekit; `evomerge merge` and .* take it as it is, .* `evomerge convert FILE.yaml",
        ),
        (SLICES, "this is a recipe of mergekit"),
        (EXPERTS, "mixture of experts of mergekit"),
        (SEARCH, "configuration of a search, not a recipe; `evomerge search FILE.yaml` runs it"),
        (f"{SEARCH}merge_method: ties\n", "configuration of a search, not a recipe"),
        (f"{TIES}---\n{TIES}", "not valid YAML: .*; `evomerge merge` reads several merges of mergekit"),
        ("method: ties\nparents: {a: org/a}\nmerge_method: ties\n", "unknown keys in the recipe: ['merge_method']"),
    ],
)
def test_what_it_is_and_what_to_do(text: str, said: str) -> None:
    pattern = ".*".join(re.escape(part) for part in said.split(".*"))
    with pytest.raises(RecipeError, match=pattern):
        Recipe.from_yaml(text)


def test_merge_and_evaluate_say_it_with_the_name_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(EXPERTS)
    for words in (["merge", str(file), str(tmp_path / "out")], ["evaluate", str(file), "--task", "gsm8k"]):
        assert main(words) == 2
        assert f"{file}: this is a mixture of experts of mergekit" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    file.write_text(TIES)
    assert main(["search", str(file)]) == 2
    assert "mergekit" in capsys.readouterr().err
