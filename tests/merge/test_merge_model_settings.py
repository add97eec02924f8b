"""What belongs to a model but is no weight follows the recipe: in the live model, and in the folder that is written."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import edit_config, make, near, recipe
from transformers import AutoModelForCausalLM, GenerationConfig, GPTJConfig, LlamaConfig

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.model import LiveModel
from evomerge.merge.live.models import LiveModels
from evomerge.merge.live.settings import Configured
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe, Step


def settings_file(folder: Path, **settings: Any) -> Path:
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> SimpleNamespace:
    """A base, a chat model with settings of its own, and one whose settings are in its config.json alone."""
    base = settings_file(make(tmp_path / "base", 0), eos_token_id=2)
    chat = settings_file(near(tmp_path / "chat", base, 1), eos_token_id=[2, 4], repetition_penalty=1.2)
    edit_config(chat, max_position_embeddings=20)
    old = near(tmp_path / "old", base, 2)
    edit_config(old, eos_token_id=[2, 5], bos_token_id=3, no_repeat_ngram_size=2)
    return SimpleNamespace(base=base, chat=chat, old=old, parents={"chat": chat, "old": old})


def of_folder(folder: Path) -> tuple[dict[str, Any], int]:
    """The generation config and context length that plain transformers gives a folder's model."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    return plain(model), model.config.max_position_embeddings


def plain(model: Any) -> dict[str, Any]:
    data: dict[str, Any] = model.generation_config.to_dict()
    return {
        key: value
        for key, value in data.items()
        if key[0] != "_" and key != "transformers_version" and value is not None
    }


def test_a_parent_alone_has_the_settings_of_its_own_folder(models: SimpleNamespace) -> None:
    live = LiveModels()
    live.load(ModelSource(str(models.base)))
    for name in ("chat", "old", "base", "chat"):
        folder = getattr(models, name)
        live.write(Recipe("linear", (Parent(name, ModelSource(str(folder))),)))
        assert (plain(live.model), live.model.config.max_position_embeddings) == of_folder(folder), name
        assert live.model.config.bos_token_id == (3 if name == "old" else 1)
    assert live.model.config is live.model.model.config, "the modules see the same configuration"
    assert len({id(one.model) for one in live._merges}) == 1, "one model in memory serves all of them"


@pytest.mark.parametrize(
    ("named", "lender"),
    [
        ({}, "base"),
        ({"tokenizer": "chat"}, "chat"),
        ({"tokenizer": "old"}, "old"),
        ({"tokenizer": "chat", "generation_config": "base"}, "base"),
        ({"tokenizer": "chat", "generation_config": "old"}, "old"),
        ({"generation_config": "chat"}, "chat"),
    ],
)
def test_a_merge_and_its_folder_have_the_settings_of_the_named_model(
    models: SimpleNamespace, tmp_path: Path, named: dict[str, str], lender: str
) -> None:
    of = recipe("linear", models.base, models.parents, **named)
    live = LiveModels()
    live.write(of)
    fast, general = (
        merge_to_disk(of, tmp_path / "fast"),
        merge_to_disk(of, tmp_path / "general", sources=Sources()),
    )
    generation, context = of_folder(fast)
    assert generation == plain(live.model) == of_folder(getattr(models, lender))[0]
    assert context == live.model.config.max_position_embeddings == 32, "the base lends config.json"
    for path in fast.iterdir():
        if path.suffix == ".json":
            assert path.read_text() == (general / path.name).read_text(), path.name
    assert of_folder(merge_to_disk(Recipe.load(fast / "recipe.yaml"), tmp_path / "again"))[0] == generation


def test_a_recipe_of_recipes_and_a_path_know_who_lends_the_generation_config(
    models: SimpleNamespace, tmp_path: Path
) -> None:
    inner = recipe("linear", models.base, models.parents, generation_config="chat")
    outer = Recipe("linear", (Parent("inner", inner),))
    steps = tuple(Step(name, layer) for name, layer in (("first", 0), ("chat", 1), ("first", 1)))
    folders = {"first": models.base, **models.parents}
    named = {name: ModelSource(str(folder)) for name, folder in folders.items()}
    members = tuple(Parent(name, source) for name, source in named.items())
    path = Recipe("passthrough", members, path=steps, tokenizer="first", generation_config="old")
    over = Recipe("passthrough", (Parent("merge", inner),), path=(Step("merge", 0), Step("merge", 1), Step("merge", 1)))
    live = LiveModels()
    for number, (of, lender) in enumerate(((outer, "chat"), (path, "old"), (over, "chat"))):
        live.write(of)
        out = merge_to_disk(of, tmp_path / f"out{number}")
        assert plain(live.model) == of_folder(out)[0] == of_folder(getattr(models, lender))[0]


def test_a_generation_config_that_transformers_refuses_names_its_file(models: SimpleNamespace) -> None:
    (models.chat / "generation_config.json").write_text("{eos")
    with pytest.raises(CheckpointError, match=r"cannot read the generation settings in .*chat/generation_config.json"):
        LiveModels().write(Recipe("linear", (Parent("chat", ModelSource(str(models.chat))),)))


def test_the_generation_config_must_be_of_a_member() -> None:
    with pytest.raises(RecipeError, match="generation_config must name a parent"):
        recipe("linear", None, {"a": Path("a")}, generation_config="b")
    with pytest.raises(RecipeError, match="generation_config is 'base', but the recipe has no base"):
        Sources().plan(recipe("linear", None, {"a": Path("a")}, generation_config="base"))


def test_without_the_key_a_recipe_has_the_hash_that_it_always_had() -> None:
    of = recipe("linear", Path("b"), {"a": Path("a")}, tokenizer="a")
    assert of.content_hash == "14d89602351a34a3290ad48162f91b152f18ef4c18bcafd1e43338dc00ce0bed"
    other = recipe("linear", Path("b"), {"a": Path("a")}, tokenizer="a", generation_config="base")
    assert other.content_hash != of.content_hash and Recipe.from_yaml(other.to_yaml()) == other


SMALL = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("short", "long"),
    [
        tuple(GPTJConfig(vocab_size=24, n_embd=16, n_layer=2, n_head=2, rotary_dim=4, n_positions=n) for n in (12, 40)),
        tuple(
            LlamaConfig(
                **SMALL,
                intermediate_size=20,
                max_position_embeddings=n,
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
            )
            for n in (12, 40)
        ),
    ],
    ids=["a table of positions", "positions that depend on the length"],
)
def test_what_a_class_keeps_of_its_context_length_follows_too(short: Any, long: Any, tmp_path: Path) -> None:
    opened, alone = {}, {}
    for name, config in (("short", short), ("long", long)):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        opened[name] = Sources().open(ModelSource(str(tmp_path / name)))
        alone[name] = AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
    live = LiveModel(ModelSource(str(tmp_path / "short")))
    configured = Configured(live.model, live.sources.open(ModelSource(str(tmp_path / "short"))))
    tokens = torch.arange(36)[None] % 24  # (1, tokens)
    with torch.no_grad():
        for name, n in (("long", 36), ("short", 12), ("long", 36)):
            configured.take(opened[name])
            assert torch.equal(live.model(tokens[:, :n]).logits, alone[name](tokens[:, :n]).logits), name


def test_the_settings_of_a_written_folder_are_read_back_by_transformers(
    models: SimpleNamespace, tmp_path: Path
) -> None:
    out = merge_to_disk(recipe("linear", models.base, models.parents, generation_config="old"), tmp_path / "out")
    read = GenerationConfig.from_pretrained(out)
    assert (read.eos_token_id, read.bos_token_id, read.no_repeat_ngram_size) == ([2, 5], 3, 2)
