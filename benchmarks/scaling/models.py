"""A family of random Llamas large enough that their weights show beside Python's libraries."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, LlamaForCausalLM

from evomerge.zoo import zoo_path

SHAPES = {
    "100M": {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 16},
    "1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8},
}
"""With 8 layers 104 million parameters; with 16 those of Llama 3.2 1B, but for its large vocabulary: 973 million."""


def random_family(folder: Path, *, layers: int, shape: str = "100M") -> tuple[int, list[str]]:
    """Write a base and two experts in bfloat16 with the zoo's tokenizer.

    Args:
        shape: of `SHAPES`.

    Returns:
        The bytes of a live model in float32, and the words of a search with two Ray workers over them.
    """
    config = AutoConfig.from_pretrained(zoo_path("base"))
    for name, value in {**SHAPES[shape], "num_hidden_layers": layers, "head_dim": 64}.items():
        setattr(config, name, value)
    parameters = 0
    for seed, name in enumerate(("base", "math", "japanese")):
        torch.manual_seed(seed)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = LlamaForCausalLM(config).to(torch.bfloat16)
        parameters = sum(one.numel() for one in model.parameters())
        model.save_pretrained(folder / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(zoo_path("base") / file, folder / name / file)
    return 4 * parameters, [
        "experiment=zoo_ja_math",
        "execution=ray",
        "execution.workers=2",
        "execution.threads=1",
        "evaluation.split={search:4,validation:4,test:4}",
        f"models.base={folder / 'base'}",
        f"models.parents.math={folder / 'math'}",
        f"models.parents.japanese={folder / 'japanese'}",
    ]
