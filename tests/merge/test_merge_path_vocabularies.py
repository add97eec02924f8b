"""Layer paths over models of different vocabularies: in memory as on disk, alone and in nested recipes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import recipe, same_bytes, tensors_of
from token_models import EMBEDDING, HEAD, row, three, vocabulary
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.errors import CheckpointError, RecipeError
from evomerge.export.verify import verify
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.models import LiveModels, check_paths
from evomerge.merge.plan import check_recipe
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, Group, ModelSource, Parent, Recipe, Step, TokenizerBuild
from evomerge.recipe.tokenizer import ModelToken, TokenRow

UNION = TokenizerBuild("union")
PATH = (Step("base", 0), Step("other", 1), Step("chat", 1), Step("other", 1))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return three(tmp_path_factory.mktemp("paths"))


def stack(family: SimpleNamespace, **fields: Any) -> Recipe:
    parents = {"base": family.base, "chat": family.chat, "other": family.other}
    return recipe(PASSTHROUGH, None, parents, **{"path": PATH, "tokenizer": UNION, **fields})


def assert_live_is(folder: Path, live: LiveModels) -> None:
    saved, state, model = tensors_of(folder), live.model.state_dict(), live.model
    assert saved.keys() <= state.keys()
    assert same_bytes({name: one.to(model.dtype) for name, one in saved.items()}, {name: state[name] for name in saved})
    config = AutoConfig.from_pretrained(folder)
    for key in ("vocab_size", "eos_token_id", "pad_token_id", "num_hidden_layers", "tie_word_embeddings"):
        assert getattr(model.config, key) == getattr(config, key)
    assert (HEAD in saved) is not config.tie_word_embeddings
    assert len(saved[EMBEDDING]) == model.get_input_embeddings().num_embeddings == config.vocab_size
    assert model.get_output_embeddings().out_features == config.vocab_size
    assert live.tokenizer.get_vocab() == vocabulary(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype).eval()
    tokens = torch.arange(config.vocab_size)[None]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)
    for key in ("eos_token_id", "pad_token_id"):
        assert getattr(model.generation_config, key) == getattr(loaded.generation_config, key)


@pytest.mark.parametrize("tied", [False, True])
def test_memory_and_disk_are_the_same(tied: bool, tmp_path: Path) -> None:
    family = three(tmp_path, tie_word_embeddings=tied)
    live = LiveModels(sources=Sources())
    plain = recipe(PASSTHROUGH, None, {"other": family.other}, path=(Step("other", 0), Step("other", 1)))
    ends = {"embeddings": "chat", "head": "other"}
    for i, fields in enumerate([
        {}, {"head": "other"}, ends, {"tokenizer": TokenizerBuild("other")}, {"dtype": "bfloat16", **ends},
        {"tokenizer": TokenizerBuild("chat", pad_to_multiple_of=32), "generation_config": "other"},
        {"groups": (Group({"scale": 0.5}, roles=("head",)), Group({"scale": 2.0}, layers=(1, 2)))},
    ]):  # fmt: skip
        wanted = stack(family, **fields)
        made = merge_to_disk(wanted, tmp_path / f"out{i}", sources=live.sources)
        live.write(plain)  # a parent with its own rows, which share its layers
        assert live.model.get_input_embeddings().num_embeddings == live.model.config.vocab_size == 16
        assert torch.equal(live.model.get_input_embeddings().weight, tensors_of(family.other)[EMBEDDING])
        live.write(wanted)
        assert_live_is(made, live)


def test_each_token_has_the_row_of_the_lender_or_of_those_that_have_it(family: SimpleNamespace, tmp_path: Path) -> None:
    made = merge_to_disk(stack(family, embeddings="chat", head="other"), tmp_path / "out")
    models = {"base": family.base, "chat": family.chat, "other": family.other}
    for name, lender in ((EMBEDDING, "chat"), (HEAD, "other")):
        merged = tensors_of(made)[name]
        for token, number in vocabulary(made).items():
            rows = {who: found for who, folder in models.items() if (found := row(folder, name, token)) is not None}
            wanted = rows.get(lender, torch.stack(list(rows.values())).mean(0))
            torch.testing.assert_close(merged[number].double(), wanted, rtol=1e-6, atol=1e-7)
    assert torch.equal(tensors_of(made)["model.norm.weight"], tensors_of(family.other)["model.norm.weight"])
    said = {"<|x|>": TokenRow(ModelToken("chat", token="ab"))}
    named = tensors_of(
        merge_to_disk(stack(family, tokenizer=TokenizerBuild("union", said)), tmp_path / "said", sources=Sources())
    )
    assert torch.equal(named[HEAD][vocabulary(made)["<|x|>"]].double(), row(family.chat, HEAD, "ab"))


def test_scales_of_inputs_are_folded_as_ever(family: SimpleNamespace, tmp_path: Path) -> None:
    path = (Step("base", 0), Step("other", 1, 0.8), Step("chat", 1, 1.3))
    wanted = stack(family, path=path, head="chat")
    made = merge_to_disk(wanted, tmp_path / "out")
    assert verify(wanted, made, n_random=2, length=8, new_tokens=4).passed
    check_paths(LiveModels(), wanted.parents, None, UNION)
    with pytest.raises(CheckpointError, match="vocab_size"):
        check_paths(LiveModels(), wanted.parents, None)


def test_nested_recipes(family: SimpleNamespace, tmp_path: Path) -> None:
    """A merge that builds a vocabulary as parent of a path, and the other way round."""
    pair = {"chat": family.chat, "other": family.other}

    def merges(weight: float) -> dict[str, Recipe]:
        first = recipe("linear", None, pair, parameters={"weight": {"chat": weight, "other": 0.5}}, tokenizer=UNION)
        return {"one": first, "two": recipe("slerp", None, pair, parameters={"t": weight}, tokenizer=UNION)}

    path = (Step("base", 0), Step("one", 1), Step("two", 0), Step("one", 0))
    live = LiveModels(sources=Sources())
    for i, weight in enumerate((0.3, 0.9)):  # what a search does: the same recipe with other numbers
        parents = {"base": family.base, **merges(weight)}
        inner = recipe(PASSTHROUGH, None, parents, path=path, tokenizer=UNION, embeddings="one", head="two")
        made = merge_to_disk(inner, tmp_path / f"inner{i}")
        live.write(inner)
        assert_live_is(made, live)
        stand_ins = {name: merge_to_disk(one, tmp_path / f"{name}{i}") for name, one in merges(weight).items()}
        flat = recipe(PASSTHROUGH, None, {"base": family.base, **stand_ins}, path=path, tokenizer=UNION,
                      embeddings="one", head="two")  # fmt: skip
        assert same_bytes(tensors_of(made), tensors_of(merge_to_disk(flat, tmp_path / f"flat{i}")))
    outer = recipe("linear", None, {"path": stack(family), "again": stack(family, head="chat")}, tokenizer=UNION)
    made = merge_to_disk(outer, tmp_path / "outer")
    live.write(outer)
    assert_live_is(made, live)
    again = tuple(Step("path", layer) for layer in (0, 3, 2))
    deep = recipe(PASSTHROUGH, None, {"path": stack(family), "chat": family.chat}, path=again, tokenizer=UNION)
    made = merge_to_disk(deep, tmp_path / "deep")
    live.write(deep)
    assert_live_is(made, live)
    assert vocabulary(made) == vocabulary(merge_to_disk(stack(family), tmp_path / "path"))


@pytest.mark.parametrize("fields", [{}, {"parameters": {"scale": 0.5}}])
def test_one_parent_gets_another_vocabulary(fields: dict[str, Any], family: SimpleNamespace, tmp_path: Path) -> None:
    wanted = recipe(PASSTHROUGH, None, {"chat": family.chat}, tokenizer=TokenizerBuild("chat"), **fields)
    made = merge_to_disk(wanted, tmp_path / "out")
    live = LiveModels()
    live.write(recipe(PASSTHROUGH, None, {"chat": family.chat}))
    assert live.model.config.vocab_size == 24
    live.write(wanted)
    assert_live_is(made, live)
    assert torch.equal(
        tensors_of(made)[HEAD], tensors_of(family.chat)[HEAD][:16] * fields.get("parameters", {}).get("scale", 1.0)
    )


def test_what_does_not_fit_is_said_before_anything_is_read(family: SimpleNamespace) -> None:
    with pytest.raises(RecipeError, match=r"tokenizer\.source is 'base', but the recipe has no base"):
        check_recipe(
            Recipe(PASSTHROUGH, (Parent("a", ModelSource(str(family.chat))),), tokenizer=TokenizerBuild("base"))
        )
    with pytest.raises(CheckpointError, match="'<\\|y\\|>' from chat"):
        LiveModels().write(stack(family, tokenizer=TokenizerBuild("union", {"<|y|>": TokenRow(ModelToken("chat"))})))
