"""Methods on singular values on whole checkpoints: in memory as on disk, with turned matrices and stacked experts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from device_models import assert_same_on_a_device
from memory_family import merged
from tiny_models import recipe, same_bytes, tensors_of
from transformers import AutoModelForCausalLM, GPT2Config, GptOssConfig, LlamaConfig

from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.recipe import ModelSource

VALUES: dict[str, dict[str, Any]] = {
    "iso_c": {"alpha": 1.2, "beta": 0.7},
    "iso_cts": {"fraction": 0.5},
    "tsv_m": {"weight": {"a": 0.7, "b": 1.1}},
    "laser": {"rank": 0.5, "of": "task_vectors"},
    "knots": {"density": 0.6},
    "twin": {"rank": 0.4},
}

SIZES: dict[str, Any] = {"vocab_size": 24, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LAYERS: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
}
CONFIGS = {
    "gpt2": GPT2Config(n_embd=16, n_head=2, n_layer=1, n_positions=32, **SIZES),
    "gpt-oss": GptOssConfig(num_local_experts=3, num_experts_per_tok=2, **LAYERS, **SIZES),
    "llama, tied": LlamaConfig(tie_word_embeddings=True, **LAYERS, **SIZES),
}


def write(folder: Path, config: Any, base: Path | None, seed: int, dtype: torch.dtype) -> Path:
    """A random checkpoint of any architecture, or one near another."""
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    before = {} if base is None else tensors_of(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.1 * noise if base is None else before[name].float() + 0.02 * noise)
    model.save_pretrained(folder)
    return folder


DTYPES = {"gpt2": torch.bfloat16, "gpt-oss": torch.float32, "llama, tied": torch.float16}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "llama, tied" else ()) for name in CONFIGS]
)
def test_live_bytes_equal_disk_bytes(name: str, tmp_path: Path) -> None:
    base = write(tmp_path / "base", CONFIGS[name], None, 0, DTYPES[name])
    parents = {who: write(tmp_path / who, CONFIGS[name], base, k, DTYPES[name]) for k, who in enumerate("ab", 1)}
    live = LiveModel(ModelSource(str(base)))
    for method, values in VALUES.items():
        few = {"a": parents["a"]} if method == "laser" else parents
        of = recipe(method, base, few, parameters=values)
        disk = tensors_of(merge_to_disk(of, tmp_path / method))
        live.write(of)
        live.model.save_pretrained(tmp_path / f"{method}-live")
        assert same_bytes(tensors_of(tmp_path / f"{method}-live"), disk), method


def test_another_device_gets_the_bytes_of_the_cpu(tmp_path: Path) -> None:
    base = write(tmp_path / "base", CONFIGS["llama, tied"], None, 0, torch.bfloat16)
    parents = {
        who: write(tmp_path / who, CONFIGS["llama, tied"], base, k, torch.bfloat16) for k, who in enumerate("ab", 1)
    }
    recipes = [
        recipe(method, base, {"a": parents["a"]} if method == "laser" else parents, parameters={**values, **more})
        for method, values in VALUES.items()
        for more in ({}, {"rank": 0.8} if "rank" in values else {"weight": 0.6})  # found anew, then kept
    ]
    assert_same_on_a_device(recipes, base, parents.values())


@pytest.mark.parametrize("method", ["iso_cts", "knots"])
def test_matrices_of_gpt2_are_turned_to_outputs_and_inputs(method: str, tmp_path: Path) -> None:
    """Which side is the outputs' counts in these methods."""
    config, name = CONFIGS["gpt2"], "transformer.h.0.mlp.c_fc.weight"
    base = write(tmp_path / "base", config, None, 0, torch.float32)
    parents = {who: write(tmp_path / who, config, base, k, torch.float32) for k, who in enumerate("ab", 1)}
    out = tensors_of(merge_to_disk(recipe(method, base, parents, parameters=VALUES[method]), tmp_path / "out"))

    def alone(how: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        here = {who: {"layers.0.mlp": how(tensors_of(each)[name])} for who, each in {**parents, "base": base}.items()}
        start = here.pop("base")
        return merged(method, here, start, VALUES[method])["layers.0.mlp"]

    assert torch.equal(out[name], alone(lambda x: x.T.contiguous()).T)
    assert not torch.allclose(out[name], alone(lambda x: x), atol=1e-4)


def test_stacked_biases_of_experts_are_no_matrix() -> None:
    assert TensorAt("layers.0.mlp.experts.down_proj_bias", "mlp", 0, 1, (3, 16)).kind == "vector"
    assert TensorAt("layers.0.mlp.experts.down_proj", "mlp", 0, 1, (3, 24, 16)).kind == "stack"
