import json
import math
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from evomerge.export.licences import (
    Licence,
    ParentModel,
    describe_parents,
    front_matter,
    is_hub_id,
    merged_licence,
    read_model_file,
)
from evomerge.export.model_card import model_card
from evomerge.export.publishing import without_folders
from evomerge.recipe import Group, ModelSource, Parent, Recipe
from evomerge.record import Score, Split
from evomerge.store import collect_environment

CARDS = {
    "org/base": "---\nlicense: llama3\nlanguage:\n- en\n---\n",
    "org/math": "---\nlicense: llama3\n---\n",
    "org/ja": "---\nlicense: llama3\nlanguage: ja\n---\n",
}


def hub_recipe(**sources):
    sources = sources or {"math": ModelSource("org/math", revision="abc123"), "日本語": ModelSource("org/ja")}
    return Recipe(
        method="dare_ties",
        base=Parent("base", ModelSource("org/base")),
        parents=tuple(Parent(name, source) for name, source in sources.items()),
        parameters={"density": 0.5},
    )


def reader(cards):
    return lambda source, name: cards.get(source.path) if name == "README.md" else None


def score(mean, n=100):
    return Score(mean, mean - 0.05, mean + 0.04, n)


def full_card(**changes):
    options = {
        "title": "my-merge",
        "parents": describe_parents(hub_recipe(), read=reader(CARDS)),
        "scores": {
            "my-merge": {Split.SEARCH: score(0.7, 200), Split.VALIDATION: score(0.6), Split.TEST: score(0.55, 400)},
            "math": {Split.SEARCH: score(0.5, 200), Split.TEST: score(0.45, 400)},
            "aver|age": {Split.TEST: Score(0.1, math.nan, math.nan, 1)},
        },
        "tasks": {"gsm8k_ja": "exact_match", "mgsm": "exact_match"},
        "facts": {"optimizer": "cma", "seed": 3},
        "commands": ("evomerge search search.yaml",),
        "environment": collect_environment(),
    }
    return model_card(hub_recipe(), **{**options, **changes})


def test_the_metadata_survives_the_hubs_own_reader_and_writer():
    card = ModelCard(full_card(tasks={"gsm8k_ja": "exact_match"}), ignore_metadata_errors=False)
    data = card.data
    assert data.license == "llama3"
    assert data.base_model == ["org/base", "org/math", "org/ja"]
    assert data.to_dict()["base_model_relation"] == "merge"
    assert data.language == ["en", "ja"]
    assert data.pipeline_tag == "text-generation"
    assert data.library_name == "transformers"
    assert {"merge", "evomerge", "dare-ties"} <= set(data.tags)
    assert data.model_name == "my-merge"
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_split) == ("exact_match", 0.55, "test")
    assert result.dataset_name == "gsm8k_ja"
    assert result.metric_name == result.metric_type
    again = ModelCard(str(card), ignore_metadata_errors=False)
    assert again.data.to_dict() == data.to_dict()


def test_the_card_shows_scores_with_intervals_beside_every_baseline():
    text = full_card()
    row = next(line for line in text.splitlines() if line.startswith("| **my-merge**"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "**my-merge**",
        "0.5500 [0.5000, 0.5900] (n = 400)",
        "0.6000 [0.5500, 0.6400] (n = 100)",
        "0.7000 [0.6500, 0.7400] (n = 200)",
    ]
    assert "| math | 0.4500 [0.4000, 0.4900] (n = 400) | – | 0.5000 [0.4500, 0.5400] (n = 200) |" in text
    assert "| aver\\|age | 0.1000 [nan, nan] (n = 1) |" in text
    assert "`gsm8k_ja` (exact_match)" in text


def test_the_card_says_how_to_reproduce():
    text = full_card()
    version = collect_environment()["packages"]["torch"]
    assert "evomerge search search.yaml\n```" in text
    assert "pip install evomerge" not in text and "pip install .  # in a checkout of evomerge" in text
    assert f"torch {version}" in text
    assert "| optimizer | cma |" in text
    assert hub_recipe().content_hash in text
    block = text.split("```yaml\n")[1].split("```")[0]
    assert Recipe.from_yaml(block) == hub_recipe()
    assert "| math | parent | [org/math](https://huggingface.co/org/math) | abc123 | llama3 |" in text


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.SEARCH])
def test_only_items_that_were_not_optimized_make_a_result(split):
    data = ModelCard(full_card(scores={"my-merge": {split: score(0.6)}}, tasks={"mgsm": "acc"})).data
    if split == Split.SEARCH:
        assert data.eval_results is None
    else:
        assert (data.eval_results[0].dataset_type, data.eval_results[0].dataset_split) == ("mgsm", "validation")


def test_a_sum_over_several_tasks_is_no_result():
    assert ModelCard(full_card()).data.eval_results is None
    worst = {"objective": "worst"}
    assert ModelCard(full_card(tasks={"mgsm": "acc"}, verdict=worst)).data.eval_results is None


def test_a_card_of_a_recipe_alone_has_no_empty_sections():
    text = model_card(hub_recipe(), title="plain", parents=describe_parents(hub_recipe(), read=reader(CARDS)))
    assert "It was built with evomerge" in text
    for heading in ("## Scores", "## How it was found"):
        assert heading not in text
    assert "evomerge merge recipe.yaml DIR" in text
    assert ModelCard(text).data.eval_results is None


def test_methods_of_groups_are_named_without_folders():
    recipe = replace(
        hub_recipe(),
        groups=(Group({}, (0, 4), method="linear"), Group({}, roles=("head",), method="/home/me/power.py:merge")),
    )
    text = model_card(recipe, title="m", parents=describe_parents(recipe, read=reader(CARDS)))
    assert "with the methods `dare_ties`, `linear`, `power.py:merge`, in groups of tensors." in text
    assert ModelCard(text).data.tags[-2:] == ["dare-ties", "linear"]
    assert "/home/me" not in text


def test_local_and_zoo_parents_are_no_hub_ids_and_their_folders_are_not_shown(tmp_path):
    folder = tmp_path / "home" / "math-model"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    recipe = hub_recipe(math=ModelSource(str(folder)), tiny=ModelSource("zoo:math"))
    parents = describe_parents(recipe, read=lambda s, n: CARDS.get(s.path) or read_model_file(s, n))
    text = model_card(recipe, title="m", parents=parents)
    assert str(tmp_path) not in text
    assert ModelCard(text).data.base_model == ["org/base"]
    assert "`math-model` (local folder)" in text
    assert [str(parent.licence) for parent in parents] == ["llama3", "apache-2.0", "apache-2.0"]
    only_local = Recipe(method="linear", parents=(Parent("a", ModelSource(str(folder))),))
    data = ModelCard(model_card(only_local, title="m")).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert "base_model" not in data
    assert "base_model_relation" not in data


def test_what_is_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "here").mkdir(parents=True)
    for path in ("org/model", "gpt2", "Org-1/Model_2.5-7B"):
        assert is_hub_id(path)
    for path in ("org/here", "./org/model", "/abs/model", "~/model", "zoo:math", "a/b/c", "../x", "日本/モデル"):
        assert not is_hub_id(path)


def test_parents_inside_of_parents_are_listed_once_each_with_their_lineage():
    outer = hub_recipe(mix=hub_recipe(), math=ModelSource("org/math"))
    parents = describe_parents(outer, read=reader(CARDS))
    assert [parent.name for parent in parents] == ["base", "mix/base", "mix/math", "mix/日本語", "math"]
    data = ModelCard(model_card(outer, title="m", parents=parents)).data
    assert data.base_model == ["org/base", "org/math", "org/ja"]


def licence_of(*cards):
    recipe = hub_recipe(**{f"p{i}": ModelSource(f"org/p{i}") for i in range(len(cards))})
    texts = {f"org/p{i}": card for i, card in enumerate(cards)} | {"org/base": cards[0]}
    return merged_licence(describe_parents(recipe, read=reader(texts)))


def test_a_common_licence_is_the_merges_with_its_name_and_link():
    data, note = licence_of("---\nlicense: MIT\n---\n", "---\r\nlicense: mit\r\n---\r\n")
    assert data == {"license": "mit"}
    assert note == "All parents have the licence mit."
    named = "---\nlicense: other\nlicense_name: qwen\nlicense_link: https://x.org/LICENSE\n---\n"
    data, _ = licence_of(named, named)
    assert data == {"license": "other", "license_name": "qwen", "license_link": "https://x.org/LICENSE"}
    data, _ = licence_of(named.replace("https://x.org/", ""), named.replace("https://x.org/", ""))
    assert data == {"license": "other", "license_name": "qwen"}  # a link into the parent's own repository


def test_different_licences_are_said_plainly():
    data, note = licence_of("---\nlicense: mit\n---\n", "---\nlicense: cc-by-nc-4.0\n---\n")
    assert data == {"license": "other", "license_name": "mixed"}
    assert "different licences: `base` mit, `p0` mit, `p1` cc-by-nc-4.0. Check that you may publish" in note
    other = "---\nlicense: other\nlicense_name: {}\n---\n"
    data, _ = licence_of(other.format("qwen"), other.format("gemma"))
    assert data["license_name"] == "mixed"


@pytest.mark.parametrize(
    "card",
    [
        "# no metadata",
        "",
        "---\nlicense: other\n---\n",
        "---\nlicense: unknown\n---\n",
        "---\nlicense: [1\n---\n",
        "---\n- a list\n---\n",
        "---\nlicense: 3\n---\n",
        "---\nlicense: other\nlicense_name: mixed\n---\n",  # of another merge: nobody knows what it allows
    ],
)
def test_an_unknown_licence_is_said_plainly(card):
    data, note = licence_of("---\nlicense: mit\n---\n", card)
    assert data == {"license": "other", "license_name": "unknown"}
    assert note.startswith("The licence of `p1` is unknown: check that you may use")


def test_a_licence_is_also_taken_from_the_config():
    recipe = Recipe(method="linear", parents=(Parent("a", ModelSource("org/a")),))
    files = {"config.json": json.dumps({"license": "Apache-2.0"})}
    (parent,) = describe_parents(recipe, read=lambda source, name: files.get(name))
    assert parent.licence == Licence("apache-2.0")
    (parent,) = describe_parents(recipe, read=lambda source, name: "{broken")
    assert parent.licence is None


def test_a_card_out_of_reach_is_no_error(monkeypatch):
    import huggingface_hub

    asked = []

    def offline(repo_id, name, **_):
        asked.append((repo_id, name))
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    assert read_model_file(ModelSource("org/not-in-any-cache"), "README.md") is None
    assert asked == [("org/not-in-any-cache", "README.md")]


def test_front_matter_takes_only_a_block_at_the_top():
    assert front_matter("---\na: 1\n---\ntext\n---\nb: 2\n---\n") == {"a": 1}
    assert front_matter("---\na: 1\n---") == {"a": 1}
    assert front_matter("text\n---\na: 1\n---\n") == {}


def test_norwegian_stays_a_language():
    recipe = Recipe(method="linear", parents=(Parent("a", ModelSource("org/a")),))
    parents = describe_parents(recipe, read=reader({"org/a": "---\nlanguage: [no, sv]\n---\n"}))
    assert parents[0].languages == ("no", "sv")
    block = model_card(recipe, title="m", parents=parents).split("---\n")[1]
    assert yaml.safe_load(block)["language"] == ["no", "sv"]


def test_titles_and_names_with_signs_of_yaml_and_markdown_stay_whole():
    parents = [ParentModel("a|b", "weird: [label]", licence=Licence("mit"))]
    text = model_card(hub_recipe(), title="a: 'b' #c", parents=parents, scores={"a: 'b' #c": {Split.TEST: score(0.5)}})
    assert ModelCard(text, ignore_metadata_errors=False).data.model_name == "a: 'b' #c"
    assert "| a\\|b | parent | `weird: [label]` (local folder) |" in text


def test_local_paths_are_cut_to_their_last_part():
    data = {"a": ["/home/me/x/", "~/y", "../../z.yaml"], "b": {"c": "org/model", "d": 1, "e": "zoo:math"}}
    assert without_folders(data) == {"a": ["x", "y", "z.yaml"], "b": {"c": "org/model", "d": 1, "e": "zoo:math"}}
