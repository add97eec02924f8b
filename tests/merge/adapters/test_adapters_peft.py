"""An adapter on its base is what peft's merge_and_unload makes of both in fp32, whatever kind of LoRA it is."""

from pathlib import Path
from typing import Any

import peft_adapters
import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GptOssConfig, MixtralConfig

from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource


def gpt2(**changes: Any) -> Any:
    return GPT2Config(
        vocab_size=23, n_embd=12, n_layer=2, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=1, **changes
    )


def experts(kind: Any) -> Any:
    sizes = {"vocab_size": 23, "hidden_size": 12, "intermediate_size": 10, "num_hidden_layers": 1, "head_dim": 6}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 3, "num_experts_per_tok": 2}
    return kind(**sizes, **heads)


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "all linear maps": (tiny_models.llama(), {"target_modules": "all-linear", "r": 5, "lora_alpha": 3}),
    "patterns": (
        tiny_models.llama(),
        {"target_modules": ["q_proj", "down_proj"], "rank_pattern": {"q_proj": 7, "layers.1.mlp.down_proj": 1},
         "alpha_pattern": {"down_proj": 2}},
    ),
    "rank-stabilised": (tiny_models.llama(), {"target_modules": ["v_proj"], "use_rslora": True, "lora_alpha": 5}),
    "some layers": (tiny_models.llama(), {"target_modules": ["v_proj"], "layers_to_transform": [1]}),
    "dora": (tiny_models.llama(), {"target_modules": ["o_proj", "embed_tokens", "lm_head"], "use_dora": True}),
    "embedding": (tiny_models.llama(), {"target_modules": ["embed_tokens", "lm_head"]}),
    "biases": (tiny_models.llama(attention_bias=True), {"target_modules": ["q_proj"], "bias": "all"}),
    "bias of B": (tiny_models.llama(attention_bias=True), {"target_modules": ["q_proj"], "lora_bias": True}),
    "whole head": (tiny_models.llama(), {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "tokens": (tiny_models.llama(), {"target_modules": ["q_proj"], "trainable_token_indices": [1, 7]}),
    "tokens, tied": (
        tiny_models.llama(tie_word_embeddings=True), {"target_modules": ["q_proj"], "trainable_token_indices": [3]},
    ),
    "whole embedding, tied": (
        tiny_models.llama(tie_word_embeddings=True),
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "transposed": (gpt2(), {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "transposed dora": (gpt2(), {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}),
    "experts, one by one": (experts(MixtralConfig), {"target_modules": ["q_proj"], "target_parameters": EXPERTS}),
    "experts, inputs first": (
        experts(GptOssConfig),
        {"target_modules": ["q_proj"], "target_parameters": EXPERTS, "rank_pattern": {"experts.down_proj": 2}},
    ),
}  # fmt: skip


def save(folder: Path, config: Any) -> Path:
    torch.manual_seed(0)  # transformers initialises from torch's own generator
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_it_equals_what_peft_merges(name: str, tmp_path: Path) -> None:
    config, settings = CASES[name]
    base = save(tmp_path / "base", config)
    adapter = peft_adapters.adapt(base, tmp_path / "adapter", 1, **settings)
    expected = peft_adapters.dense(base, adapter)
    opened = Sources().open(ModelSource(str(adapter)))
    found = peft_adapters.parameters_of(opened)
    untouched = peft_adapters.parameters_of(Sources().open(ModelSource(str(base))))
    assert found.keys() <= expected.keys()
    changed = [each for each, tensor in found.items() if not torch.equal(tensor.float(), untouched[each].float())]
    assert changed
    for each, tensor in found.items():
        torch.testing.assert_close(tensor.float(), expected[each], rtol=2e-6, atol=2e-6)


def test_a_tied_embedding_answers_as_the_adapter_does_in_peft(tmp_path: Path) -> None:
    # When peft merges, it adds the change of a tied pair once for each of the two; so this compares unmerged models.
    from peft import PeftModel

    base = save(tmp_path / "base", tiny_models.llama(tie_word_embeddings=True))
    adapter = peft_adapters.adapt(
        base, tmp_path / "adapter", 2, target_modules=["embed_tokens"], ensure_weight_tying=True
    )
    opened = Sources().open(ModelSource(str(adapter)))
    mine = AutoModelForCausalLM.from_pretrained(base)
    mine.load_state_dict(peft_adapters.parameters_of(opened), strict=False)
    theirs: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    tokens = torch.arange(8)[None]
    torch.testing.assert_close(mine(tokens).logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)
