"""A tiny configuration of any model type that transformers knows, made from the defaults of its configuration class.

Numbers are made small by what their names say they are (widths, heads, experts, states …), and of settings with one
entry per layer those layers are kept that show each kind once, so that a hybrid stays one. Only what cannot be found
this way stands in `BY_HAND`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

VOCABULARY = 96
N_LAYERS = 2

SIZES = (
    # Heads and groups, before widths, whose names they contain.
    (r"(key_value|kv)_heads(_per_layer)?$|num_kv_heads|n_groups$|num_query_groups|mamba_n_groups", 2),
    (r"linear_num_(key_|value_)?heads", 2),
    (r"^n_head$|heads$|num_attention_heads_per_layer", 4),
    (r"qk_head_dim", 8), (r"qk_rope_head_dim|qk_nope_head_dim", 4), (r"v_head_dim", 8),
    (r"mamba_(d_head|head_?dim)|mamba_headdim", 16),
    (r"head_dim|head_size|dim_head|d_head$|kv_channels", 8),
    (r"rotary_dim", 4),
    # Widths.
    (r"vocab_size_per_layer_input", VOCABULARY),
    (r"hidden_size_per_layer", 8),
    (r"mamba_d_ssm", 64),
    (r"^n_ctx$", 64),
    (r"intermediate_multiple_size|intermediate_ratio", 2),
    (r"expert_ffn|moe_intermediate|expert.*intermediate|shared_intermediate", 16),
    (r"intermediate|ffn_dim|ffn_hidden|dim_ff|^dff$|d_inner|d_ff$|feed_forward_size|prompt_mid_dim|^n_inner$", 48),
    (r"attention_hidden_size|lru_width|^hidden_size$|d_model|^n_embd$|emb_dim|embedding_dim|embedding_size|word_embed_proj_dim"
     r"|^dim$|backbone_hidden_size|hidden_dim$|dim_model_base|router_hidden_size|^d_kv_unused$", 32),
    (r"^d_kv$", 8),
    (r"embed_dim$", 16),
    (r"lora_rank|lowrank|_rank$", 8),
    # State-space parts.
    (r"state_size|d_state", 8), (r"(mamba_)?chunk_size", 8), (r"dt_rank|time_step_rank", 4),
    # Mixtures.
    (r"num_experts_per_tok(en)?$|moe_top_?k$|^moe_k$|num_experts_per_token|top_k_experts", 2),
    (r"^(n_group|topk_group|num_expert_group)$", 1),
    (r"(num|n)_(local_|routed_)?experts$|moe_num_experts|num_local_experts|zero_expert_num", 4),
    (r"shared_experts$", 1),
    (r"first_k_dense_replace|num_dense_layers", 1),
    # Lengths, windows, vocabularies.
    (r"max_position|max_seq_len|n_positions|max_(source|target)_positions|context_length|model_max_length|mem_len", 64),
    (r"^index_topk$", 16),
    (r"sliding_window$|attention_window|local_attention$|window_size|attention_chunk_size|keep_window", 16),
    (r"type_vocab_size|_type_vocab", 2),
    (r"vocab", VOCABULARY),
    (r"image_seq_length", 4),
)  # fmt: skip
"""Names of settings, in order, and what they are made."""

_DEPTH = re.compile(
    r"^(num_hidden_layers|n_layers?|num_layers|(num_)?(encoder|decoder)_layers|num_blocks|num_layers_per_stack)$"
)
_TOKEN = re.compile(r"(token|bos|eos|pad|sep|cls|mask|unk)_?(id|ids|index|idx)?$|token_(id|index)$|_index$")
_PER_LAYER = re.compile(r"layer|att|window|block|pattern|type|idx|moe|heads")

BY_HAND: dict[str, dict[str, Any]] = {
    # The Mamba heads are the inner width, which is a multiple of the outer one.
    "falcon_h1": {"mamba_d_head": 16},
    "mamba2": {"head_dim": 16},
    # Settings that have no default where the class needs one.
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0},
                            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}},
    },
    "longcat_flash": {"head_dim": 4},
    "neomme": {"head_dim": 16},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "esm": {"vocab_size": VOCABULARY, "pad_token_id": 0, "mask_token_id": 3},
    # As many heads for keys as for queries.
    "dots3_note_text": {
        "num_key_value_heads": 4,
        # Layers with a window have sizes of their own, under names of another form.
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 8, "swa_kv_lora_rank": 8,
        "swa_head_dim": 8, "swa_qk_nope_head_dim": 4, "swa_qk_rope_head_dim": 4, "swa_v_head_dim": 8,
    },
    "esmc": {"num_key_value_heads": 4},
    # Layers that use the keys of earlier layers of their kind.
    "gemma3n_text": {
        "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2, "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0], "intermediate_size": [48] * 4,
    },
    # A decoder only if it is said to be one, with learned positions that are a grid of two axes.
    "reformer": {
        "is_decoder": True, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], "attn_layers": ["local", "lsh"],
        "num_hidden_layers": 2, "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8, "num_buckets": 4,
    },
    # A pattern that is said by its period, or by the numbers of some layers.
    "bamba": {"attn_layer_indices": [1]},
    "lfm2": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    # Widths that are rounded up to 64.
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_heads": 4, "chunk_size": 16},
    # As many layers of the cache as passes through the two stacks.
    "hrm_text": {"num_hidden_layers": 16, "num_layers_per_stack": 2},
    "xmod": {"default_language": "en_XX"},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
    # Two layers of the shared block at least, and more than one of the others between them.
    "zamba": {
        "num_hidden_layers": 5, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "mamba"],
        "attention_hidden_size": 64, "attention_head_dim": 16,
    },
    "zamba2": {
        "num_hidden_layers": 5, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "mamba"],
        "attention_hidden_size": 64, "attention_head_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What cannot be found from names, by model type, with the reason beside it."""

SKIPPED: dict[str, str] = {
    "gemma4_assistant": "a draft head that reads the hidden states of another model",
    "gemma4_unified_assistant": "a draft head that reads the hidden states of another model",
    "perceiver": "it has no small model: its latent array and its stacks are of fixed sizes",
    "gemma3n": "its vision tower needs the package timm",
    "emu3": "transformers saves its causal class with a configuration that AutoModelForCausalLM does not know",
    "mllama": "transformers saves its causal class with a configuration that AutoModelForCausalLM does not know",
    "musicgen": "transformers cannot build its causal class from its configuration",
    "musicgen_melody": "transformers cannot build its causal class from its configuration",
    "qwen4_exp": "its configuration has no defaults that its class can be built from",
    "qwen4_exp_text": "its configuration has no defaults that its class can be built from",
    "dots3_note": "its configuration has no defaults that its class can be built from",
}
"""Model types without a tiny model, and why."""


def tiny_config(model_type: str, **changes: Any) -> Any:
    """Return a tiny configuration of a model type; `changes` go before everything else."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    made = CONFIG_MAPPING[model_type]
    wanted = {**BY_HAND.get(model_type, {}), **changes}
    return made(**{**shrunk(made(), wanted), **wanted})


def shrunk(config: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return settings that make a model of a configuration's class tiny."""
    data, parts = config.to_dict(), getattr(config, "sub_configs", None) or {}
    found: dict[str, Any] = {}
    for key, value in data.items():
        if key in given or (key in ("head_dim", "qk_head_dim") and "qk_rope_head_dim" in data):
            continue  # given, or the sum of its parts
        if key in parts:
            if isinstance(value, dict) and getattr(config, key) is not None:
                found[key] = shrunk(getattr(config, key), {})
        elif isinstance(value, int) and not isinstance(value, bool):
            size = _size(key, value)
            if size is not None and size != value:
                found[key] = size
    if "kv_lora_rank" in data and "num_key_value_heads" not in given:  # latent attention has keys for each head
        found |= {"num_key_value_heads": found["num_attention_heads"]} if "num_key_value_heads" in data else {}
    return {**found, **_layers(data, given)}


def _size(key: str, value: int) -> int | None:
    if _DEPTH.match(key):
        return N_LAYERS
    if key.endswith(("_token_id", "_token_index")) or key in ("mask_index", "unk_index", "image_token_index"):
        return min(value, _SPECIAL.get(key, VOCABULARY - 1))
    if value < 1:
        return None
    return next((min(size, value) for pattern, size in SIZES if re.search(pattern, key)), None)


_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


def _layers(data: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with one entry per layer, for the first layer of each kind, and the depth."""
    depth_key = next((key for key in data if _DEPTH.match(key)), None)
    if depth_key is None or depth_key in given:
        return {}
    depth = data[depth_key]
    lists = {
        key: value
        for key, value in data.items()
        if isinstance(value, (list, tuple)) and len(value) == depth > 1 and _PER_LAYER.search(key) and key not in given
    }  # fmt: skip
    if not lists:
        return {}
    first: dict[str, int] = {}
    for index, entries in enumerate(zip(*lists.values(), strict=True)):
        first.setdefault(repr(entries), index)
    kept = sorted(first.values())[:6]
    if len(kept) < N_LAYERS:
        kept = sorted({*kept, *range(N_LAYERS)})[:N_LAYERS]
    return {depth_key: len(kept), **{key: [value[index] for index in kept] for key, value in lists.items()}}


def tiny_model(config: Any, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    """Return a random model of a configuration, in eval mode; its weights are all its own.

    Its class's initial values, moved a little: so decays and biases stay where the model works, and no two are equal.
    """
    from evomerge.merge.files.model_class import auto_class

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto_class(config).from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in _parameters(model):
            noise = 0.05 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(torch.where(parameter.isfinite(), parameter, 0.0) + noise)
    return model.to(dtype).eval()


def _parameters(model: Any) -> Iterator[torch.nn.Parameter]:
    yield from (parameter for _, parameter in sorted(model.named_parameters()))


def families(mapping: str) -> dict[str, str]:
    """Return the model types of one of transformers' mappings ("CAUSAL_LM") with the names of their classes."""
    from transformers.models.auto import modeling_auto

    return dict(getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES"))
