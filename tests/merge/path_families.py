"""Two tiny parents of each decoder family, of unequal depth, whose layers can stand in one path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tiny_models import DTYPES, write_checkpoint
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 32
WINDOW = 4
"""Tokens that a sliding layer sees: fewer than the tests' prompts have."""

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_HEADS = {**_GROUPED, "head_dim": 8}
_WINDOWS = {"sliding_window": WINDOW, "use_sliding_window": True}
_MIXED = ["sliding_attention", "full_attention", "sliding_attention"]  # of the deeper parent

# Of each family: its configuration class, and settings. A list with an entry per layer is cut to the depth.
FAMILIES: Mapping[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {**_GROUPED, "mlp_bias": True, "attention_bias": True}),
    "llama-tied": (LlamaConfig, {**_GROUPED, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, {**_HEADS, "sliding_window": WINDOW}),
    "qwen2": (Qwen2Config, {**_GROUPED, **_WINDOWS, "layer_types": ["full_attention", *_MIXED[:2]]}),
    "qwen3": (Qwen3Config, {**_HEADS, **_WINDOWS, "layer_types": _MIXED, "tie_word_embeddings": True}),
    "gemma2": (Gemma2Config, {**_HEADS, "sliding_window": WINDOW, "query_pre_attn_scalar": 8, "layer_types": _MIXED}),
    "gemma3": (
        Gemma3TextConfig,
        {
            **_HEADS,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 8,
            "layer_types": _MIXED,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
                "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100_000.0},
            },
        },
    ),
    "phi3": (Phi3Config, {**_GROUPED, "sliding_window": WINDOW}),
    "gpt_neox": (GPTNeoXConfig, {**_SIZES, "tie_word_embeddings": False}),
    "gpt_neox-sequential": (GPTNeoXConfig, {**_SIZES, "use_parallel_residual": False, "tie_word_embeddings": True}),
}
"""Name of each family (and of its variants) to the class and settings of its configuration."""


def family_config(name: str, n_layers: int, **changes: Any) -> Any:
    """The configuration of a tiny model of a family."""
    kind, settings = FAMILIES[name]
    settings = {**settings, **changes, "num_hidden_layers": n_layers}
    if settings.get("layer_types") is not None:
        settings["layer_types"] = settings["layer_types"][:n_layers]
    return kind(**settings)


def sensible_tensors(config: Any, seed: int, dtype: str = "float32") -> dict[str, torch.Tensor]:
    """Random weights under which every hidden state is of size about 1, so that epsilons in norms do not matter.

    Matrices keep the size of their input; norms and biases differ from where training starts, to be seen in the logits.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    embedding = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        owner = model.get_submodule(name.rpartition(".")[0])
        if owner is embedding:
            scale = config.hidden_size**0.5 if hasattr(embedding, "embed_scale") else 1.0
            tensors[name] = noise / scale
        elif parameter.dim() == 2:
            tensors[name] = noise / parameter.shape[1] ** 0.5
        elif "norm" in name and name.endswith("weight"):
            center = 0.0 if config.model_type.startswith("gemma") else 1.0  # Gemma multiplies by 1 + weight
            tensors[name] = center + 0.2 * noise
        else:
            tensors[name] = 0.2 * noise
    return {name: tensor.to(DTYPES[dtype]) for name, tensor in tensors.items()}


def make_family(
    folder: Path, name: str, *, depths: tuple[int, ...] = (2, 3), dtype: str = "float32", **changes: Any
) -> list[Path]:
    """Write tiny checkpoints of one family that differ in depth and weights.

    Args:
        depths: of each parent; 3 at most where the family lists its layers.
        changes: settings of all of them.
    """
    folders = []
    for seed, n_layers in enumerate(depths):
        config = family_config(name, n_layers, **changes)
        tensors = sensible_tensors(config, seed, dtype)
        folders.append(write_checkpoint(folder / f"{name}-{seed}", tensors, config, "abcdefgh"))
    return folders
