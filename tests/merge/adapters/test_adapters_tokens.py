"""Adapters that were trained with further tokens bring their embedding and head along, with more rows than the base."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, TokenizerBuild


def with_token(base: Path, out: Path, token: str, n_rows: int, seed: int) -> Path:
    from peft import LoraConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([token])
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = AutoModelForCausalLM.from_pretrained(base)
        whole.resize_token_embeddings(n_rows, mean_resizing=False)
        kept = ["embed_tokens", "lm_head"]
        model: Any = get_peft_model(whole, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=kept))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
    return out


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.make(tmp_path / "base", 0, vocab_size=7)  # as many rows as tokens


def test_its_model_has_its_rows_and_its_tokenizer(base: Path, tmp_path: Path) -> None:
    adapter = with_token(base, tmp_path / "adapter", "<new>", 8, 1)
    opened = Sources().open(ModelSource(str(adapter)))
    assert opened.architecture.n_embeddings == opened.config.vocab_size == 8
    assert opened.tokenizer_folder == adapter
    out = merge_to_disk(tiny_models.recipe("linear", None, {"one": adapter}), tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(out)
    trained = load_file(adapter / "adapter_model.safetensors")["base_model.model.model.embed_tokens.weight"]
    assert torch.equal(loaded.get_input_embeddings().weight, trained)
    assert AutoTokenizer.from_pretrained(out).convert_tokens_to_ids("<new>") == 7


def test_different_tokens_are_merged_in_one_vocabulary(base: Path, tmp_path: Path) -> None:
    pair = {
        "one": with_token(base, tmp_path / "one", "<one>", 8, 1),
        "two": with_token(base, tmp_path / "two", "<two>", 8, 2),
    }
    of = tiny_models.recipe("task_arithmetic", base, pair, parameters={"weight": 0.5})
    with pytest.raises(CheckpointError, match="vocabular"):
        merge_to_disk(of, tmp_path / "refused")
    union = tiny_models.recipe(
        "task_arithmetic", base, pair, parameters={"weight": 0.5}, tokenizer=TokenizerBuild(source="union")
    )
    made = tiny_models.tensors_of(merge_to_disk(union, tmp_path / "union"))
    assert made["model.embed_tokens.weight"].shape[0] == 9
    sources, name = Sources(), "model.layers.0.self_attn.q_proj.weight"
    parts = [sources.open(ModelSource(str(path))).load(name) for path in pair.values()]
    below = tiny_models.tensors_of(base)[name]
    expected = below + sum(0.5 * (part - below) for part in parts)
    torch.testing.assert_close(made[name], expected, rtol=1e-5, atol=1e-6)


def test_a_head_without_the_new_rows_is_named(base: Path, tmp_path: Path) -> None:
    adapter = with_token(base, tmp_path / "adapter", "<new>", 8, 1)
    tensors = load_file(adapter / "adapter_model.safetensors")
    assert "base_model.model.lm_head.original_module.weight" in tensors  # beside the trained one
    save_file(
        {name: tensor for name, tensor in tensors.items() if "lm_head" not in name},
        adapter / "adapter_model.safetensors",
    )
    assert json.loads((adapter / "adapter_config.json").read_text())["modules_to_save"]
    with pytest.raises(CheckpointError, match=r"8 rows for tokens, but lm_head.weight.* has 7"):
        Sources().open(ModelSource(str(adapter)))
