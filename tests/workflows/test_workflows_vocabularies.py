"""A search over parents of different vocabularies, from the configuration to a folder that writes text."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_search import composed, write_tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge import api
from evomerge.assembly.memory_plan import live_bytes
from evomerge.assembly.prepare import Prepared, prepare
from evomerge.errors import ConfigError
from evomerge.recipe import Recipe
from evomerge.record import Split, State

TOOLS = ["<|tool|>", "<|end|>"]


def with_more_tokens(folder: Path) -> None:
    """Give a model two tokens more, with rows of their own."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    tokenizer.add_tokens(TOOLS, special_tokens=True)
    draw = torch.Generator().manual_seed(9)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for module in {model.get_input_embeddings(), model.get_output_embeddings()}:
            module.weight[-2:].normal_(0, 0.5, generator=draw)
    model.save_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<|tool|>{{ m.content }}<|end|>{% endfor %}"
    tokenizer.save_pretrained(folder)


@pytest.mark.slow
def test_parents_of_different_vocabularies_are_searched_and_exported(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    with_more_tokens(tmp_path / "models" / "b")
    words = [
        "models.tokenizer={source: union, pad_to_multiple_of: 8}",
        "models.chat_template=auto",
        "budget.candidates=3",
    ]
    with pytest.raises(ConfigError, match=r"tokenizer: \{source: union\}"):
        api.search(composed(file, f"run.dir={tmp_path}/refused"))
    api.search(composed(file, *words, f"run.dir={tmp_path}/run"))
    scores = {one.name: one.scores for one in api.records(tmp_path / "run", baselines=True)}
    # A parent is scored as its own folder, whatever tokens the merge has.
    api.search(composed(file, "models.tokenizer={source: a}", "budget.candidates=1", f"run.dir={tmp_path}/other"))
    own = {one.name: one.scores for one in api.records(tmp_path / "other", baselines=True)}
    for name in ("a", "b"):
        assert scores[name][Split.SEARCH] == own[name][Split.SEARCH]
    candidates = api.records(tmp_path / "run")
    assert [one.state for one in candidates] == [State.COMPLETE] * 3
    api.export(tmp_path / "run", tmp_path / "out")  # compared with the live model before it appears
    folder = tmp_path / "out"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    before = AutoTokenizer.from_pretrained(tmp_path / "models" / "a")
    assert tokenizer.get_vocab() == {**before.get_vocab(), **{t: len(before) + i for i, t in enumerate(TOOLS)}}
    assert model.config.vocab_size % 8 == 0
    assert model.config.vocab_size >= len(tokenizer)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "1 + 2"}], tokenize=False)
    assert chat == "<|tool|>1 + 2<|end|>"
    ids = tokenizer(chat, return_tensors="pt", return_token_type_ids=False)
    assert tokenizer.decode(ids["input_ids"][0]) == chat
    assert model.generate(**ids, max_new_tokens=3, do_sample=False).shape[1] > ids["input_ids"].shape[1]
    recipe = Recipe.load(folder / "recipe.yaml")
    assert recipe.builds_vocabulary
    assert recipe.chat_template == "auto"


def live_bytes_taken(prepared: Prepared) -> int:
    """Hold every kind of model of a search at once, as a worker does in the end; return what they take."""
    live = prepared.live_models()
    for recipe in (
        *prepared.baselines.values(),
        *(space.decode(space.genome(space.start)) for space in prepared.spaces),
    ):
        live.write(recipe)
    space = prepared.spaces[-1]
    for seed in range(3):
        point = np.random.default_rng(seed).random(space.n_dims)
        live.write(space.decode(space.genome(point)))
    models = [one.model for one in (*live._parents.values(), *live._merges)] + [live.model]
    storages = [parameter.untyped_storage() for model in models for parameter in model.parameters()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("space", ["parameter", "dataflow", "joint"])
def test_the_memory_plan_counts_models_and_rows_of_other_vocabularies(space: str, tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    with_more_tokens(tmp_path / "models" / "b")
    config = composed(file, "models.tokenizer={source: union}", "models.dtype=float32")
    if space == "dataflow":
        config["models"]["base"] = config["method"] = None
    if space != "parameter":
        config["space"] |= {"name": space, "path": {"encoding": "segments"}}
    if space == "dataflow":
        config["space"] = {"name": "dataflow", "path": {"encoding": "segments"}}
    prepared = prepare(config)
    assert live_bytes(prepared.config, prepared.sources, "float32") == live_bytes_taken(prepared)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["dataflow", "joint", "stages"])
def test_layer_paths_over_parents_of_different_vocabularies(space: str, tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    for name in ("b", "base") if space == "joint" else ("b",):
        with_more_tokens(tmp_path / "models" / name)
    config = composed(file, "models.tokenizer={source: union}", "models.chat_template=auto", "budget.candidates=4",
                      f"run.dir={tmp_path}/run")  # fmt: skip
    path = {"encoding": "segments"}
    if space == "dataflow":
        config["models"]["base"] = config["method"] = None
        config["space"] = {"name": "dataflow", "path": path}
    elif space == "joint":
        config["space"] |= {"name": "joint", "path": path}
    else:
        weights = {"share": 0.5, "space": dict(config["space"])}
        config["stages"] = {"weights": weights, "layers": {"share": 0.5, "space": {"name": "dataflow", "path": path}}}
    api.search(config)
    run = tmp_path / "run"
    assert [one.state for one in api.records(run)] == [State.COMPLETE] * 4
    recipes = [one.recipe for one in api.records(run)]
    stacks = [one for one in recipes if one.path]
    assert stacks
    assert all(one.builds_vocabulary and one.chat_template is not None for one in stacks)
    whole = AutoTokenizer.from_pretrained(tmp_path / "models" / "b").get_vocab()
    for i, one in enumerate(stacks[-1:]):
        folder = api.merge(one, tmp_path / f"out{i}")
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
        assert tokenizer.get_vocab() == whole
        assert model.config.vocab_size == len(whole)
        chat = tokenizer.apply_chat_template([{"role": "user", "content": "1 + 2"}], tokenize=False)
        assert chat == "<|tool|>1 + 2<|end|>"
        ids = tokenizer(chat, return_tensors="pt", return_token_type_ids=False)
        assert model.generate(**ids, max_new_tokens=3, do_sample=False).shape[1] > ids["input_ids"].shape[1]
    api.export(run, tmp_path / "exported")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "exported").config.vocab_size >= len(whole) - len(TOOLS)
