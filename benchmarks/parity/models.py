"""Small random checkpoints, a base and three fine-tunes of it, in the layouts of common families."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config
from transformers.utils import logging

logging.disable_progress_bar()

N_LAYERS = 3
FAMILIES = {"llama": LlamaConfig, "qwen2": Qwen2Config, "mistral": MistralConfig}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIZES = {
    "vocab_size": 300, "hidden_size": 96, "intermediate_size": 168, "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


def write_family(folder: Path, family: str, dtype: str, *, sharded: bool) -> dict[str, Path]:
    """Write the checkpoints, each in one file or in several.

    Entries have a standard deviation of 0.05, those of task vectors 0.004. A fifth of each task vector is 0, and half
    of its variance is common to all three, so that their cosines are above 0.

    Args:
        folder: where they are written.
        family: one of `FAMILIES`; that of Qwen2 has tied embeddings.
        dtype: one of `DTYPES`.
        sharded: whether the weights are split over several files.

    Returns:
        The folders of "base", "a", "b" and "c".
    """
    config: PretrainedConfig = FAMILIES[family](**SIZES, tie_word_embeddings=family == "qwen2")
    folders: dict[str, Path] = {}
    base: dict[str, torch.Tensor] = {}
    for seed, who in enumerate(("base", "a", "b", "c")):
        generator, shared = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(9)
        model = AutoModelForCausalLM.from_config(config, dtype=DTYPES[dtype])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if base:
                    moved = torch.rand(parameter.shape, generator=generator) < 0.8
                    common = torch.randn(parameter.shape, generator=shared)
                    value = base[name].float() + 0.004 * (noise + common) / 2**0.5 * moved
                else:
                    value = 0.05 * noise
                parameter.copy_(value)
        base = base or {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        model.save_pretrained(folder / who, max_shard_size="200KB" if sharded else "5GB")
        folders[who] = folder / who
    return folders
