"""A layer path as a stock checkpoint: it computes what the live path computes, or says why it cannot."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from path_families import FAMILIES, VOCABULARY, make_family
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, make, recipe, same_bytes, tensors_of, write_checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Exaone4Config,
    GPT2Config,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
)

from evomerge.errors import CheckpointError, ExportError, RecipeError
from evomerge.merge import disk
from evomerge.merge.disk import merge_to_disk
from evomerge.merge.fold import find_fold
from evomerge.merge.live import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe, Step

# Families beside those of the live path, whose carriers of scale are called otherwise.
CARRIERS = {
    "llama": {"self_attn.o_proj.weight": 0.0, "self_attn.o_proj.bias": 0.0,
              "mlp.down_proj.weight": 0.0, "mlp.down_proj.bias": 0.0},
    "phi3": {"self_attn.o_proj.weight": 0.0, "mlp.down_proj.weight": 0.0},
    "gemma2": {"post_attention_layernorm.weight": 1.0, "post_feedforward_layernorm.weight": 1.0},
    "gemma3": {"post_attention_layernorm.weight": 1.0, "post_feedforward_layernorm.weight": 1.0},
    "gpt_neox": {"attention.dense.weight": 0.0, "attention.dense.bias": 0.0,
                 "mlp.dense_4h_to_h.weight": 0.0, "mlp.dense_4h_to_h.bias": 0.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Parents of a family, made once."""
    root, known = tmp_path_factory.mktemp("families"), {}

    def parents(name: str) -> dict[str, Path]:
        if name not in known:
            # The fold is exact up to the norms' epsilon; with the usual 1e-5 that is what one would measure here.
            epsilon = {"layer_norm_eps" if "neox" in name else "rms_norm_eps": 1e-8}
            known[name] = dict(zip(("first", "second"), make_family(root, name, **epsilon), strict=True))
        return known[name]

    return parents


def random_path(seed: int, *, scaled: bool = True, length: int = 6) -> tuple[Step, ...]:
    """A path over both parents with repeats, and scales whose logarithm is uniform from 0.3 to 3."""
    draw = random.Random(seed)
    layers = [("first", 0), ("first", 1), ("second", 0), ("second", 1), ("second", 2)]
    steps = [draw.choice(layers) for _ in range(length - 2)]
    steps[1] = steps[0]
    chosen = [("first", 0), *steps, ("first", 1)]
    return tuple(Step(*step, 0.3 * 10 ** draw.random() if scaled else 1.0) for step in chosen)


def passthrough(parents: dict[str, Any], path: Sequence[Step], **fields: Any) -> Recipe:
    return recipe("passthrough", None, parents, path=tuple(path), **fields)


def prompts(seed: int, n: int = 50, length: int = 10) -> torch.Tensor:
    return torch.randint(VOCABULARY, (n, length), generator=torch.Generator().manual_seed(seed))


def greedy(model: Any, tokens: torch.Tensor, n_new: int = 6) -> torch.Tensor:
    """Greedy tokens, generated with cache."""
    made, past = tokens, None
    with torch.no_grad():
        for _ in range(n_new):
            output = model(tokens, past_key_values=past, use_cache=True)
            past, tokens = output.past_key_values, output.logits[:, -1:].argmax(-1)
            made = torch.cat([made, tokens], 1)
    return made


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens).logits


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_checkpoint_computes_what_the_live_path_does(name: str, made: Any, tmp_path: Path) -> None:
    live = LiveModels(dtype="float32")
    for seed in range(3):
        one = passthrough(made(name), random_path(seed))
        folder = merge_to_disk(one, tmp_path / str(seed), sources=live.sources)
        stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        live.write(one)
        tokens = prompts(seed)
        assert relative(logits(live.model, tokens), logits(stock, tokens)) < 1e-4
        assert torch.equal(greedy(live.model, tokens), greedy(stock, tokens))
        unscaled = tuple(replace(step, scale=1.0) for step in one.path)
        live.write(replace(one, path=unscaled))
        assert relative(logits(live.model, tokens), logits(stock, tokens)) > 1e-2  # scales do something here
        # The file says it all: class of the parents, no code of anybody's.
        assert type(stock) is type(AutoModelForCausalLM.from_pretrained(made(name)["first"]))
        assert not list(folder.glob("*.py"))
