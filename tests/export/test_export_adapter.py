"""A model as a LoRA adapter on its base: PEFT, which reads it, gives the model's own logits."""

import copy
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
)

from evomerge.errors import CheckpointError, ExportError
from evomerge.export.adapter import extract_adapter
from evomerge.recipe import ModelSource

SMALL = {"vocab_size": 37, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 6}
LLAMA = {**SMALL, "intermediate_size": 22, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
EXPERTS = {
    "num_local_experts": 3,
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "intermediate_size": 20,
}
CONFIGS = {
    "untied": LlamaConfig(**LLAMA, tie_word_embeddings=False),
    "tied": LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "some biases": Qwen2Config(**LLAMA, tie_word_embeddings=False),
    "Conv1D": GPT2Config(vocab_size=37, n_embd=12, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2),
    "stacked experts": MixtralConfig(**{**LLAMA, **EXPERTS}),
    "routers": Qwen2MoeConfig(**{**LLAMA, **EXPERTS}, shared_expert_intermediate_size=12, decoder_sparse_step=1),
}
RANK = 3


def write_pair(folder: Path, config, *, rank: int | None, dtype=torch.float32, biases: bool = True) -> None:
    """Write a base, and a model that differs from it by matrices of a rank, and by vectors at will."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(copy.deepcopy(config)).float()
    draw = torch.Generator().manual_seed(1)
    random = lambda *shape: torch.randn(*shape, generator=draw)  # noqa: E731
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(random(*parameter.shape) * 0.1)
        model = copy.deepcopy(base)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                if biases or "norm" in name:
                    parameter.add_(random(*parameter.shape) * 0.1)
                continue
            k = min(rank or 99, *parameter.shape[-2:])
            *stack, m, n = parameter.shape
            parameter.add_(random(*stack, m, k) @ random(*stack, k, n) * 0.1)
    for one, name in ((base, "base"), (model, "model")):
        one.to(dtype).save_pretrained(folder / name)


def logits(model) -> torch.Tensor:
    tokens = torch.randint(37, (2, 11), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.eval()(tokens).logits


def with_peft(folder: Path, out: Path, *, merged: bool = False):
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected|not found).*")  # so PEFT calls lost keys
        made = PeftModel.from_pretrained(base, out)
    return made.merge_and_unload() if merged else made


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_difference_of_the_rank_is_exact_in_peft(kind: str, tmp_path: Path) -> None:
    write_pair(tmp_path, CONFIGS[kind], rank=RANK, biases=kind not in ("some biases", "routers"))
    sources = [ModelSource(str(tmp_path / name)) for name in ("model", "base")]
    found = extract_adapter(*sources, tmp_path / "out", rank=RANK)
    assert found.extraction.error < 1e-5 and not [one for one in found.extraction.fits if one.rank == 0]
    wanted = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model"))
    for merged in (False, True):
        torch.testing.assert_close(
            logits(with_peft(tmp_path, tmp_path / "out", merged=merged)), wanted, rtol=1e-4, atol=2e-5
        )
    assert found.check is not None and found.check.equal > 0.98 and found.check.divergence < 1e-6
    assert found.check.base_divergence > 1e-4


def test_a_lower_rank_has_the_error_that_it_tells(tmp_path: Path) -> None:
    write_pair(tmp_path, CONFIGS["some biases"], rank=None)
    sources = [ModelSource(str(tmp_path / name)) for name in ("model", "base")]
    found = extract_adapter(*sources, tmp_path / "out", rank=2)
    model, base = (load_file(tmp_path / name / "model.safetensors") for name in ("model", "base"))
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    squared = lost = 0.0
    errors = {one["name"]: one for one in json.loads((tmp_path / "out" / "extraction.json").read_text())["tensors"]}
    for name in model:
        delta = model[name].double() - base[name].double()
        place = f"base_model.model.{name.removesuffix('.weight')}"
        if name.endswith("bias"):
            rest = delta  # PEFT gives a bias to all adapted layers or to none
        elif f"{place}.lora_A.weight" in tensors:
            rest = delta - tensors[f"{place}.lora_B.weight"].double() @ tensors[f"{place}.lora_A.weight"].double()
            sigma = torch.linalg.svdvals(delta)
            assert errors[name]["error"] == pytest.approx(float(sigma[2:].norm() / sigma.norm()), rel=1e-4)
        elif f"{place}.lora_embedding_A" in tensors:
            rest = (
                delta
                - (tensors[f"{place}.lora_embedding_B"].double() @ tensors[f"{place}.lora_embedding_A"].double()).T
            )
        else:
            assert torch.equal(tensors[f"{place}.weight"], model[name])
            rest = torch.zeros(1)
        squared, lost = squared + float((delta**2).sum()), lost + float((rest**2).sum())
    assert found.extraction.error == pytest.approx((lost / squared) ** 0.5, rel=1e-6)
    assert "6 tensors left out (model.layers.0.self_attn.q_proj.bias" in str(found)
    with_peft(tmp_path, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This is not model itself, but an approximation" in card and str(tmp_path) not in card


def test_ranks_follow_a_wanted_error(tmp_path: Path) -> None:
    write_pair(tmp_path, CONFIGS["untied"], rank=None)
    sources = [ModelSource(str(tmp_path / name)) for name in ("model", "base")]
    found = extract_adapter(*sources, tmp_path / "out", rank=None, error=0.1)
    fits = [one for one in found.extraction.fits if one.rank]
    assert all(one.error <= 0.1 for one in fits) and len({one.rank for one in fits}) > 1
    lower = extract_adapter(*sources, tmp_path / "lower", rank=max(one.rank for one in fits) - 1, verify=False)
    assert any(one.error > 0.1 for one in lower.extraction.fits)
    wanted = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "model"))
    near, far = (
        logits(with_peft(tmp_path, tmp_path / "out")),
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "base")),
    )
    assert (near - wanted).norm() < 0.5 * (far - wanted).norm()


@pytest.mark.slow
def test_the_bytes_do_not_follow_threads(tmp_path: Path) -> None:
    write_pair(tmp_path, CONFIGS["tied"], rank=None, dtype=torch.bfloat16)
    code = (
        "import sys, torch; torch.set_num_threads(int(sys.argv[2])); from evomerge import api; "
        "api.extract_lora('model', 'base', sys.argv[1], rank=4)"
    )
    for threads in ("1", "2"):
        subprocess.run([sys.executable, "-c", code, f"out-{threads}", threads], cwd=tmp_path, check=True)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / f"out-{i}").iterdir()} for i in "12")
    assert one.keys() == two.keys() and all(one[name] == two[name] for name in one)


def test_what_cannot_be_extracted_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    write_pair(tmp_path, CONFIGS["untied"], rank=1)
    write_pair(tmp_path / "other", LlamaConfig(**{**LLAMA, "vocab_size": 41}, tie_word_embeddings=False), rank=1)
    model, base, other = (ModelSource(str(tmp_path / name)) for name in ("model", "base", "other/base"))
    for pair, options, said in [
        ((base, base), {"rank": 2}, "have the same weights"),
        ((model, other), {"rank": 2}, r"lm_head.weight: \(37, 12\) and \(41, 12\)"),
        ((model, base), {"rank": 0}, "at least 1"),
        ((model, base), {"rank": None, "error": 1.5}, r"in \[0, 1\)"),
    ]:
        with pytest.raises(ExportError, match=said):
            extract_adapter(*pair, tmp_path / "out", **options)
    assert not [one for one in tmp_path.iterdir() if "out" in one.name]


def test_an_adapter_on_a_model_is_not_taken_for_the_model_below(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="m \\+ a is a model with an adapter, and whole weights are needed here"):
        extract_adapter(ModelSource("m", adapter="a"), ModelSource("m"), tmp_path / "out", rank=4)
    assert not (tmp_path / "out").exists()
