import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from evomerge import api
from evomerge.errors import CheckpointError, ExportError
from evomerge.export import export_recipe, export_run, push
from evomerge.export.publishing import published_recipe
from evomerge.export.search_facts import optimized
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Choice, Record, Score, Split, State
from evomerge.store import RunDir


def read_weights(folder):
    from safetensors.torch import load_file

    tensors = {}
    for path in folder.glob("*.safetensors"):
        tensors.update(load_file(path))
    return tensors


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_an_exported_folder_loads_with_plain_transformers_and_holds_the_merge(tmp_path, recipe, parents):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    steps = []
    out = export_recipe(
        recipe, tmp_path / "deep" / "merge", card="# card\n", progress=lambda done, total: steps.append((done, total))
    )
    assert out == tmp_path / "deep" / "merge"
    model = AutoModelForCausalLM.from_pretrained(out)
    weights = {name: read_weights(folder) for name, folder in parents.items()}
    for name, merged in model.state_dict().items():
        base = weights["base"][name]
        expected = base + 0.75 * (weights["math"][name] - base) + 0.5 * (weights["japanese"][name] - base)
        torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-6)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer("word3 word5")["input_ids"] == [6, 8]
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"
    with torch.no_grad():
        assert model(torch.tensor([[1, 6, 8]])).logits.shape == (1, 3, 64)
    assert (out / "README.md").read_text() == "# card\n"
    assert Recipe.load(out / "recipe.yaml") == published_recipe(recipe) != recipe
    assert steps[-1][0] == steps[-1][1] > 0
    assert leftovers(out.parent) == []


def test_the_largest_file_is_as_large_as_asked(tmp_path, recipe):
    out = export_recipe(recipe, tmp_path / "merge", shard_size=8_000)
    shards = list(out.glob("*.safetensors"))
    assert len(shards) > 1
    assert set(json.loads((out / "model.safetensors.index.json").read_text())["weight_map"].values()) == {
        shard.name for shard in shards
    }
    assert not (out / "README.md").exists()


def test_an_empty_folder_is_filled_and_a_used_one_left_alone(tmp_path, recipe):
    (tmp_path / "empty").mkdir()
    assert (export_recipe(recipe, tmp_path / "empty") / "config.json").exists()
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "empty").iterdir())
    with pytest.raises(ExportError, match="empty already holds something; choose another folder"):
        export_recipe(recipe, tmp_path / "empty", card="# other")
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "empty").iterdir()) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="file is a file"):
        export_recipe(recipe, tmp_path / "file")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("moment", ["merge", "card", "rename"])
def test_a_failed_export_leaves_nothing_behind(tmp_path, recipe, monkeypatch, moment):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if moment == "merge":
        monkeypatch.setattr(os, "pwrite", full)
    elif moment == "card":
        write_text = Path.write_text
        monkeypatch.setattr(
            Path, "write_text", lambda p, *a, **k: (full if p.name == "README.md" else write_text)(p, *a, **k)
        )
    else:
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda p, t: full() if t == tmp_path / "out" else rename(p, t))
    with pytest.raises(
        ExportError,
        match=rf"{re.escape(str(tmp_path / 'out'))}\b.*the disk is full|the disk is full: .* beside .*out .*Make room",
    ):
        export_recipe(recipe, tmp_path / "out", card="# card")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_leaves_nothing_behind(tmp_path, recipe):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_recipe(recipe, tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_parent_is_named_and_leaves_nothing_behind(tmp_path, recipe):
    broken = replace(recipe, parents=(Parent("gone", ModelSource(str(tmp_path / "gone"))),), parameters={})
    with pytest.raises(CheckpointError, match="gone"):
        export_recipe(broken, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named(tmp_path, recipe):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportError, match=r"cannot use .*out.*in the way"):
        export_recipe(recipe, tmp_path / "file" / "out")
    if os.access("/proc", os.R_OK):  # permission bits do not stop root, a folder of the kernel's does
        with pytest.raises(ExportError, match=r"cannot use /proc/merge"):
            export_recipe(recipe, "/proc/merge")


CONFIG = {
    "name": "study",
    "seed": 3,
    "optimizer": {"name": "cma"},
    "models": {"parents": {"math": "/home/somebody/math-model"}},
    "evaluation": {"tasks": [{"name": "sums", "metric": "exact_match"}], "finalists": 2},
}


def scores(search, **more):
    found = {Split.SEARCH: Score(search, search - 0.1, search + 0.1, 50)}
    return found | {Split(split): Score(mean, mean - 0.1, mean + 0.1, 70) for split, mean in more.items()}


@pytest.fixture
def run(tmp_path, recipe):
    with RunDir.create(tmp_path / "outputs" / "run", config=CONFIG) as run:
        add = run.database.add
        math = Recipe(method="linear", parents=recipe.parents[:1])
        add(Record(-1, "math", State.COMPLETE, math, scores=scores(0.4, validation=0.39, test=0.38), fitness=0.4))
        add(Record(-2, "average", State.COMPLETE, Recipe("linear", recipe.parents), scores=scores(0.3), fitness=0.3))
        for number, (fitness, weight) in enumerate([(0.5, 0.1), (0.7, 0.2), (0.6, 0.3)]):
            candidate = replace(recipe, parameters={"weight": weight})
            add(
                Record(number, f"candidate {number}", State.COMPLETE, candidate, (weight,), fitness, scores(fitness)),
                progress={"spent": {"items": 150, "seconds": 12.4, "candidates": 3, "hits": 0}},
            )
        add(Record(3, "candidate 3", State.FAILED, recipe, (0.4,), error="NaN"))
        yield run


def test_the_card_says_what_was_weighed_against_what():
    tasks = [
        {"name": "sums", "metric": "exact_match", "weight": 3},
        {"name": "words", "metric": "acc", "floor": "95%"},
        {"name": "sums", "metric": "cut_answers", "constraint": {"max": 0.02, "min": None}},
    ]
    config = {**CONFIG, "evaluation": {"tasks": tasks}}
    assert optimized(config) == (
        "3 × sums (exact_match); 1 × words (acc, floor 95%); sums (cut_answers, constraint max 0.02)"
    )
    worst = optimized({"evaluation": {"tasks": tasks[:2], "objective": "worst"}})
    assert worst == "the worst of sums (exact_match); words (acc, floor 95%)"
    assert optimized(CONFIG) is None  # one task needs no words


def test_a_run_is_exported_with_its_winner_and_what_it_was_compared_with(run, tmp_path, recipe):
    run.database.add_scores(2, Split.VALIDATION, Score(0.58, 0.5, 0.66, 70), [])
    run.database.add_scores(2, Split.TEST, Score(0.57, 0.49, 0.65, 70), [])
    run.database.set_choice(Choice("winner", (2,)))
    run.close()
    with RunDir.open(run.path) as reader:
        out = export_run(reader, tmp_path / "winner")
    assert Recipe.load(out / "recipe.yaml") == published_recipe(replace(recipe, parameters={"weight": 0.3}))
    text = (out / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text, ignore_metadata_errors=False)
    assert card.data.model_name == "winner"
    assert card.data.license == "apache-2.0"
    assert card.data.language == ["en", "ja"]
    assert card.data.eval_results[0].metric_value == 0.57
    assert "| **winner** | 0.5700 [0.4900, 0.6500] (n = 70) |" in text
    assert "| math | 0.3800 [0.2800, 0.4800] (n = 70) |" in text
    assert text.index("| math | 0.38") < text.index("| average |")
    for fact in (
        "| optimizer | cma |",
        "| seed | 3 |",
        "| candidates tried | 4 |",
        "| item evaluations of candidates | 150 |",
    ):
        assert fact in text
    assert "| time of the search (without baselines and finalists) | 12 s |" in text
    assert "| chosen | candidate 2 |" in text
    assert "before the search ended" not in text
    assert "evomerge search evomerge.yaml" in text
    config = (out / "evomerge.yaml").read_text()
    assert config.startswith("defaults: [search, _self_]\n# Local paths are cut")
    assert yaml.safe_load(config)["models"] == {"parents": {"math": "math-model"}}
    assert {file.path for file in push(out, "org/name", dry_run=True).files} >= {
        "README.md",
        "config.json",
        "model.safetensors",
        "recipe.yaml",
        "evomerge.yaml",
        "tokenizer.json",
    }


def test_a_run_that_has_not_ended_gives_its_best_so_far_and_says_so(run, tmp_path):
    text = (export_run(run, tmp_path / "early", title="org/early") / "README.md").read_text(encoding="utf-8")
    assert "| chosen | candidate 1 |" in text
    assert "chosen on the search items alone" in text
    assert "# org/early" in text
    assert ModelCard(text).data.eval_results is None


def test_any_candidate_can_be_exported_and_a_missing_one_is_named(run, tmp_path, recipe):
    out = export_run(run, tmp_path / "first", number=0)
    assert Recipe.load(out / "recipe.yaml").parameters == {"weight": 0.1}
    with pytest.raises(ExportError, match="has no candidate 99; `evomerge records"):
        export_run(run, tmp_path / "none", number=99)


def test_a_run_without_scores_says_how_to_go_on(tmp_path):
    with (
        RunDir.create(tmp_path / "run", config={}) as run,
        pytest.raises(ExportError, match="no scored candidate yet; continue it with `evomerge resume"),
    ):
        export_run(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_killed_export_leaves_a_hidden_folder_that_the_next_one_clears(tmp_path, recipe):
    child = os.fork()
    if child == 0:  # pragma: no cover
        export_recipe(recipe, tmp_path / "merge", verify=False, card=lambda known: os.kill(os.getpid(), 9))
        os._exit(0)
    os.waitpid(child, 0)
    assert len(leftovers(tmp_path)) == 1 and not (tmp_path / "merge").exists()
    export_recipe(recipe, tmp_path / "merge", verify=False)
    assert leftovers(tmp_path) == [] and (tmp_path / "merge/config.json").is_file()


def test_an_export_of_a_running_search_reads_it_at_one_moment(run, tmp_path, recipe):
    def go_on(done: int, total: int) -> None:
        if run.database.choice() is None:  # what the search finds while the weights are written
            better = replace(recipe, parameters={"weight": 0.9})
            run.database.add(Record(9, "candidate 9", State.COMPLETE, better, (0.9,), 0.99, scores(0.99)))
            run.database.add_scores(9, Split.VALIDATION, Score(0.9, 0.8, 1.0, 70), [])
            run.database.set_choice(Choice("winner", (9,)))

    out = api.export(run.path, tmp_path / "out", progress=go_on, verify=False)
    assert run.database.choice() is not None
    text = (out / "README.md").read_text(encoding="utf-8")
    assert "| candidates tried | 4 |" in text
    assert "| chosen | candidate 1 |" in text
    assert "chosen on the search items alone" in text
    assert "0.9000" not in text
