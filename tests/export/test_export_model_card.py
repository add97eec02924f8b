import json
import math
import time
from dataclasses import replace

import pytest
import yaml
from hub_server import HubServer, use_hub
from huggingface_hub import ModelCard

from evomerge.analysis.measured import Measured
from evomerge.evaluation.task_data import TaskData
from evomerge.export.card_items import items_text
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
from evomerge.export.publishing import published_recipe, without_folders
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
    assert "| math | parent | [org/math](https://huggingface.co/org/math) | `abc123` | llama3 |" in text


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
    assert "`math-model` (local)" in text
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


OTHER = "---\nlicense: other\nlicense_name: {}\n---\n"


@pytest.mark.parametrize(
    ("cards", "data", "said"),
    [
        # What asks for its notice alone gives way to the only other licence.
        (("mit", "cc-by-nc-4.0"), {"license": "cc-by-nc-4.0"}, "cc-by-nc-4.0 forbids commercial use"),
        (
            ("apache-2.0", "llama3.1"),
            {"license": "llama3.1"},
            "The terms of llama3.1 on use, names and notices go along",
        ),
        (("gpl-3.0", "apache-2.0"), {"license": "gpl-3.0"}, "asks that what is made of the work be shared"),
        (("cc-by-nc-4.0", "cc-by-nc-sa-4.0"), {"license": "cc-by-nc-sa-4.0"}, "forbid commercial use"),
        (("apache-2.0", "mit"), {"license": ["apache-2.0", "mit"]}, "keep all of them"),
        # Terms that hold at once, without a conflict that is known.
        (("llama3.1", "gemma"), {"license": "other", "license_name": "mixed"}, "The terms of llama3.1 and gemma"),
        # Terms that cannot be kept at once.
        (("gpl-3.0", "cc-by-nc-4.0"), None, "gpl-3.0 allows no further restrictions, and cc-by-nc-4.0 forbids"),
        (("llama3.1", "agpl-3.0"), None, "agpl-3.0 allows no further restrictions, and llama3.1 has terms of its own"),
        (
            ("gpl-2.0", "apache-2.0"),
            None,
            "gpl-2.0 (where it does not say “or later”) cannot be combined with apache-2.0",
        ),
        (("llama3", "gemma"), None, "llama3 forbids using its model to improve another language model"),
        (("cc-by-sa-4.0", "gpl-3.0"), None, "each ask that the whole be shared under their own terms"),
        (("cc-by-nd-4.0", "mit"), None, "cc-by-nd-4.0 does not allow sharing what is made of the work"),
    ],
)
def test_what_licences_ask_of_a_merge_is_said_and_conflicts_are_named(cards, data, said):
    found, note = licence_of(*(f"---\nlicense: {one}\n---\n" for one in cards))
    assert found == (data or {"license": "other", "license_name": "mixed"})
    assert said in note and ("**Conflict of licences**:" in note) == (data is None)
    assert f"different licences: base {cards[0]}, p0 {cards[0]}, p1 {cards[1]}. " in note
    assert "Check that you may publish" in note and "no legal advice" in note


def test_two_licences_that_have_names_alone_are_mixed():
    assert licence_of(OTHER.format("qwen"), OTHER.format("gemma-x"))[0] == {"license": "other", "license_name": "mixed"}
    assert licence_of(OTHER.format("Qwen Research"), "---\nlicense: mit\n---\n")[0]["license_name"] == "qwen-research"


def test_a_licence_that_forbids_derived_works_is_a_conflict_by_itself():
    data, note = licence_of("---\nlicense: cc-by-nc-nd-4.0\n---\n")
    assert data == {"license": "cc-by-nc-nd-4.0"}
    assert "**Conflict of licences**: cc-by-nc-nd-4.0 does not allow sharing" in note


def test_an_identifier_that_the_hub_does_not_take_is_a_name():
    assert licence_of("---\nlicense: gpl-3.0-or-later\n---\n")[0] == {
        "license": "other", "license_name": "gpl-3.0-or-later"
    }  # fmt: skip
    assert licence_of("---\nlicense: [mit, apache-2.0]\n---\n")[0] == {"license": ["mit", "apache-2.0"]}


def test_an_adapter_and_the_model_below_it_are_two_base_models_with_two_licences():
    cards = {"org/base": "---\nlicense: mit\n---\n", "org/m": "---\nlicense: mit\n---\n",
             "org/lora": "---\nlicense: cc-by-nc-4.0\ndatasets: [org/set, '<x>']\n---\n"}  # fmt: skip
    settings = json.dumps({"base_model_name_or_path": "org/m", "revision": "v1", "peft_type": "LORA"})

    def read(source, name):
        if name == "adapter_config.json":
            return settings if source.path == "org/lora" else None
        return cards.get(source.path) if name == "README.md" else None

    named = hub_recipe(skill=ModelSource("org/m", adapter="org/lora", adapter_revision="a" * 40))
    alone = hub_recipe(skill=ModelSource("org/lora"))
    for recipe, roles in ((named, ["base", "parent", "adapter"]), (alone, ["base", "below", "adapter"])):
        parents = describe_parents(recipe, read=read)
        assert [parent.role for parent in parents] == roles
        text = model_card(recipe, title="m", parents=parents)
        data = ModelCard(text, ignore_metadata_errors=False).data
        assert data.base_model == ["org/base", "org/m", "org/lora"]
        assert data.license == "cc-by-nc-4.0" and data.datasets == ["org/set"]
        assert "A merge of 1 model (`org/m + org/lora`)" in text
        assert "| skill | adapter | [org/lora](https://huggingface.co/org/lora) |" in text
    assert "| skill | model below the adapter | [org/m](https://huggingface.co/org/m) | `v1` | mit |" in text


def test_the_commit_that_was_used_stands_in_card_and_recipe(tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit, other = "c" * 40, "d" * 40
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--org--math" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)
    (refs.parent / "snapshots" / commit).mkdir(parents=True)
    snapshot = tmp_path / "models--org--ja" / "snapshots" / other
    snapshot.mkdir(parents=True)
    recipe = hub_recipe(math=ModelSource("org/math"), ja=ModelSource(str(snapshot)), x=ModelSource("org/x", "v2"))
    parents = {one.name: one for one in describe_parents(recipe, read=reader(CARDS))}
    assert (parents["math"].hub_id, parents["math"].revision) == ("org/math", commit)
    assert (parents["ja"].hub_id, parents["ja"].revision) == ("org/ja", other)
    assert parents["x"].revision == "v2", "the cache does not know it"
    published = published_recipe(recipe)
    assert [parent.source for parent in published.parents] == [
        ModelSource("org/math", commit), ModelSource("org/ja", other), ModelSource("org/x", "v2")
    ]  # fmt: skip
    text = model_card(recipe, title="m", parents=list(parents.values()))
    assert f"| `{commit}` |" in text and f"revision: {commit}" in text and str(tmp_path) not in text


def test_items_are_named_by_data_set_split_number_and_which():
    gsm = TaskData("openai/gsm8k", "main", "test", "e" * 40)
    measured = {
        "gsm8k": {
            Split.SEARCH: Measured("gsm8k", (0, 1, 2, 7), 1319, gsm),
            Split.TEST: Measured("gsm8k_cot", tuple(range(100, 500, 2)), 1319, gsm),
        },
        "own|task": {Split.TEST: Measured("own|task", (3,), 5, TaskData(split="test"))},
    }
    text = full_card(tasks={"gsm8k": "exact_match"}, measured=measured, verdict={
        "best": {"tasks": {"gsm8k": {"test": {"mean": 0.5, "n": 200}}, "own|task": {"test": {"mean": 0.25, "n": 1}}}},
        "skills": [],
    })  # fmt: skip
    link = "[openai/gsm8k](https://huggingface.co/datasets/openai/gsm8k) (main, split test, eeeeeeeeeeee), by"
    assert f"| gsm8k | search | {link} `gsm8k` | 4 of 1319 | 0–2, 7 |" in text
    assert "| gsm8k | test | " in text and "| 200 of 1319 | 100, 102, 104," in text and "…" in text
    assert "| own\\|task | test | `own\\|task` (files of the task) | 1 of 5 | 3 |" in text
    data = ModelCard(text, ignore_metadata_errors=False).data
    assert data.datasets == ["openai/gsm8k"], "the data set whose items chose the recipe"
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_name) == ("openai/gsm8k", "gsm8k_cot")
    assert (result.dataset_config, result.dataset_split, result.dataset_revision) == ("main", "test", "e" * 40)
    assert result.dataset_args == {"lm_eval_task": "gsm8k_cot", "items": 400, "items_of": "test"}
    listed = json.loads(items_text(measured))
    assert listed["gsm8k"]["search"] == {
        "task": "gsm8k", "dataset": "openai/gsm8k", "config": "main", "split": "test", "revision": "e" * 40,
        "documents": 1319, "items": [0, 1, 2, 7],
    }  # fmt: skip


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
    assert note.startswith("The licence of p1 is unknown: check that you may use")


def test_a_licence_is_also_taken_from_the_config():
    recipe = Recipe(method="linear", parents=(Parent("a", ModelSource("org/a")),))
    files = {"config.json": json.dumps({"license": "Apache-2.0"})}
    (parent,) = describe_parents(recipe, read=lambda source, name: files.get(name))
    assert parent.licence == Licence("apache-2.0")
    (parent,) = describe_parents(recipe, read=lambda source, name: "{broken")
    assert parent.licence is None


def test_a_card_comes_from_the_hub_and_out_of_reach_is_no_error(monkeypatch, tmp_path):
    with HubServer().running() as hub:
        use_hub(hub, tmp_path, monkeypatch)
        hub.repositories.create("org/a").commit({"README.md": b"a card", "model.safetensors": b"x"})
        assert read_model_file(ModelSource("org/a"), "README.md") == "a card"
        hub.log.clear()
        assert read_model_file(ModelSource("org/a"), "README.md") == "a card" and not hub.log.requests
        assert read_model_file(ModelSource("org/a"), "config.json") is None
        assert read_model_file(ModelSource("org/b"), "README.md") is None
    begin = time.monotonic()
    assert read_model_file(ModelSource("org/not-in-any-cache"), "README.md") is None
    assert time.monotonic() - begin < 5


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
    assert "| a\\|b | parent | `weird: [label]` (local) |" in text


def test_local_paths_are_cut_to_their_last_part():
    data = {"a": ["/home/me/x/", "~/y", "../../z.yaml"], "b": {"c": "org/model", "d": 1, "e": "zoo:math"}}
    assert without_folders(data) == {"a": ["x", "y", "z.yaml"], "b": {"c": "org/model", "d": 1, "e": "zoo:math"}}
