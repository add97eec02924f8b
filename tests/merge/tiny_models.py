"""Tiny random checkpoints, made on the spot from generators of their own."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from evomerge.recipe import ModelSource, Parent, Recipe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def llama(**changes: Any) -> LlamaConfig:
    settings = {
        "vocab_size": 24,
        "hidden_size": 16,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 32,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaConfig(**{**settings, **changes})


def random_tensors(config: Any, seed: int, dtype: str = "float32") -> dict[str, torch.Tensor]:
    """Random values for every parameter of the model that a configuration describes; tied copies are left out."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(parameter.shape, generator=generator) * 0.1).to(DTYPES[dtype])
        for name, parameter in model.named_parameters()
    }


def write_checkpoint(folder: Path, tensors: dict[str, torch.Tensor], config: Any, tokens: str = "abc") -> Path:
    folder.mkdir(parents=True)
    config.dtype = next(iter(tensors.values())).dtype
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *tokens])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")), pad_token="<pad>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    return folder


def make(folder: Path, seed: int, *, dtype: str = "float32", tokens: str = "abc", **config: Any) -> Path:
    """A tiny random Llama."""
    settings = llama(**config)
    return write_checkpoint(folder, random_tensors(settings, seed, dtype), settings, tokens)


def near(folder: Path, base: Path, seed: int, *, scale: float = 0.02, tokens: str = "abc") -> Path:
    """A "fine-tune": the base plus small random deltas."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: (tensor.float() + scale * torch.randn(tensor.shape, generator=generator)).to(tensor.dtype)
        for name, tensor in sorted(load_file(base / "model.safetensors").items())
    }
    return write_checkpoint(folder, tensors, LlamaConfig.from_pretrained(base), tokens)


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, from one file or several."""
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def same_bytes(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and torch.equal(
            a[name].contiguous().view(-1).view(torch.uint8), b[name].contiguous().view(-1).view(torch.uint8)
        )
        for name in a
    )


def recipe(method: str, base: Path | None, parents: dict[str, Any], /, **fields: Any) -> Recipe:
    """A recipe whose parents are folders (or recipes)."""
    source = {name: each if isinstance(each, Recipe) else ModelSource(str(each)) for name, each in parents.items()}
    return Recipe(
        method=method,
        base=None if base is None else Parent("base", ModelSource(str(base))),
        parents=tuple(Parent(name, each) for name, each in source.items()),
        **fields,
    )


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
