"""Do the settings that evomerge compares change outputs, and only those? Each setting of many families is changed once.

For each family a tiny model is built twice with the same weights, the second time with one setting changed. If the
logits differ, `setting_differences` must name a setting; if not, it should not. Changes that give other shapes are left
out, since shapes are compared anyway. Some minutes on one core.

    python experiments/settings/run.py [FAMILY ...] > experiments/settings/results.jsonl
"""

import copy
import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.settings import setting_differences

COMMON = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
       "n_routed_experts": 4}  # fmt: skip
GPT = {"vocab_size": 40, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
WINDOW = {"sliding_window": 16}
HEAD = {"head_dim": 8}
HEADS, WINDOWS, EXPERTS = {**COMMON, **HEAD}, {**COMMON, **HEAD, **WINDOW}, {**COMMON, **MOE}
FAMILIES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("llama", "qwen2", "granite", "phi", "phi3", "stablelm", "starcoder2", "cohere", "olmo", "olmo2",
                     "smollm3", "nemotron", "gpt_neox", "falcon", "apertus", "bitnet"), COMMON),
    **dict.fromkeys(("qwen3", "gemma", "glm", "glm4", "helium", "hunyuan_v1_dense", "seed_oss", "ernie4_5"), HEADS),
    **dict.fromkeys(("gemma2", "cohere2", "ministral"), WINDOWS),
    "mistral": {**COMMON, **WINDOW},
    "exaone4": {**COMMON, **WINDOW},
    "gemma3_text": {**COMMON, **HEAD, **WINDOW, "num_hidden_layers": 6},
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gptj": {**GPT, "rotary_dim": 4},
    "codegen": {**GPT, "rotary_dim": 4},
    "opt": {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "bloom": {"vocab_size": 40, "hidden_size": 32, "n_layer": 3, "n_head": 4},
    "mpt": {"vocab_size": 40, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64},
    **dict.fromkeys(("mixtral", "olmoe", "phimoe", "granitemoe"), EXPERTS),
    "qwen2_moe": {**COMMON, **MOE, "shared_expert_intermediate_size": 24},
    "qwen3_moe": {**COMMON, **MOE, **HEAD},
    "gpt_oss": {**COMMON, **MOE, **HEAD, **WINDOW},
    "deepseek_v3": {**COMMON, **MOE, "num_key_value_heads": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "n_group": 2,
                    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "topk_group": 1,
                    "first_k_dense_replace": 1, "n_shared_experts": 1},
    "jamba": {**COMMON, **MOE, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
              "expert_layer_offset": 1, "use_mamba_kernels": False, "mamba_d_state": 4},
    "mamba": {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "recurrent_gemma": {**COMMON, **HEAD, "lru_width": 32, "attention_window_size": 16},
}  # fmt: skip
ROPES = (
    {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    {"rope_type": "linear", "factor": 1.0, "rope_theta": 10000.0},
    {"rope_type": "default", "rope_theta": 500.0},
)
LEFT_OUT = ("model_type", "transformers_version", "architectures", "quantization_config")


def changes(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Other values for each setting, one at a time."""
    for key, value in settings.items():
        if key not in LEFT_OUT:
            yield from ((key, other) for other in others(key, value))
    if "rope_parameters" in settings:
        yield from (("rope_parameters", copy.deepcopy(rope)) for rope in ROPES)
    yield "a_setting_that_nothing_reads", 3


def others(key: str, value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float):
        return [value * 2 + 0.013]
    if isinstance(value, int):
        return [value + 1, max(value - 1, 0)] if value < 10 else [value * 2]
    if value is None:
        return [True, 2, 0.5, 8]
    if isinstance(value, str):
        return ["relu", "gelu"] if "act" in key else []
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return [value[::-1], [value[-1]] * len(value)]
    return [value[::-1]] if isinstance(value, list) and all(isinstance(one, int) for one in value) else []


def logits(config: Any) -> torch.Tensor:
    """`(2, 48, vocabulary)`: what a model answers whose weights depend on their names alone."""
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
            values = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
            parameter.copy_(values * (1.0 if "norm" in name else 0.4))
        tokens = torch.randint(3, 40, (2, 48), generator=torch.Generator().manual_seed(0))
        return model(tokens, use_cache=False).logits


def opened(config: Any) -> Any:
    return SimpleNamespace(config=config, architecture=Architecture(copy.deepcopy(config)), label="")


def study(family: str) -> dict[str, Any]:
    base = AutoConfig.for_model(family, **FAMILIES[family])
    first, settings = opened(base), base.to_dict()
    wanted = logits(base)
    found: dict[str, Any] = {"family": family, "same": 0, "different": 0, "missed": [], "refused": []}
    for key, value in changes(settings):
        try:
            config = type(base).from_dict({**copy.deepcopy(settings), key: value})
            second = opened(config)
            if second.architecture.shapes != first.architecture.shapes:
                continue
            here = logits(config)
        except Exception:  # many values make no model
            continue
        differs = not torch.allclose(here, wanted, atol=1e-6, rtol=1e-5, equal_nan=True)
        named = bool(setting_differences(second, first))
        found["different" if differs else "same"] += 1
        if differs != named:
            found["missed" if differs else "refused"].append([key, value])
    return found


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in sys.argv[1:] or FAMILIES:
        print(json.dumps(study(name)), flush=True)
