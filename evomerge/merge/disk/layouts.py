"""The tensors of common model types, from config.json alone.

`evomerge.merge.files.architecture` learns names, shapes and roles from any model's own class, but importing and
building a class takes seconds. For a few types whose tensors are always the same, this module has what it would find. A
configuration with any setting that is not known here has no layout, so its class is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.merge.files.places import TensorPlace

_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "vocab_size")  # fmt: skip
_HARMLESS = frozenset({
    "_name_or_path", "architectures", "attention_dropout", "bos_token_id", "dtype", "eos_token_id", "initializer_range",
    "max_position_embeddings", "max_window_layers", "pad_token_id", "pretraining_tp", "torch_dtype",
    "transformers_version", "use_cache",
})  # fmt: skip
"""Settings that change neither the tensors nor what they compute, so that parents may differ in them."""
_KNOWN = _HARMLESS | {
    *_SIZES, "attention_bias", "head_dim", "hidden_act", "layer_types", "mlp_bias", "model_type", "rms_norm_eps",
    "rope_parameters", "rope_scaling", "rope_theta", "sliding_window", "tie_word_embeddings", "use_sliding_window",
}  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """What distinguishes the model types: biases of the projections, norms of queries and keys."""

    input_bias: bool | None = False  # None: `attention_bias` says it
    output_bias: bool | None = False
    mlp_bias: bool | None = False
    head_norms: bool = False
    explicit_head_dim: bool = False


_KINDS = {
    "llama": _Kind(input_bias=None, output_bias=None, mlp_bias=None),
    "mistral": _Kind(),
    "qwen2": _Kind(input_bias=True),
    "qwen3": _Kind(input_bias=None, output_bias=None, head_norms=True, explicit_head_dim=True),
}


@dataclass(frozen=True)
class TensorLayout:
    """The tensors of one model.

    Attributes:
        shapes: shapes by name, in the order in which a merge writes the tensors.
        places: places by name.
        n_layers: how many layers there are.
    """

    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, TensorPlace]
    n_layers: int


def meaning(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in which the parents of a merge must agree."""
    return {key: value for key, value in config.items() if key not in _HARMLESS}


def find_layout(config: Mapping[str, Any]) -> TensorLayout | None:
    """Return the tensors that a config.json describes; None if its class must be used."""
    kind = _KINDS.get(str(config.get("model_type")))
    if kind is None or not config.keys() <= _KNOWN or not _plain(config):
        return None
    hidden, inner, n_layers, heads, groups, words = (config[name] for name in _SIZES)
    size = config.get("head_dim")
    if size is None:
        if kind.explicit_head_dim or hidden % heads:
            return None
        size = hidden // heads
    if not _is_size(size) or heads % groups:
        return None

    def given(bias: bool | None, setting: str) -> bool:
        return bool(config.get(setting, False)) if bias is None else bias

    linear = {  # of one layer: outputs, inputs, whether there is a bias, role
        "self_attn.q_proj": (heads * size, hidden, given(kind.input_bias, "attention_bias"), "attention"),
        "self_attn.k_proj": (groups * size, hidden, given(kind.input_bias, "attention_bias"), "attention"),
        "self_attn.v_proj": (groups * size, hidden, given(kind.input_bias, "attention_bias"), "attention"),
        "self_attn.o_proj": (hidden, heads * size, given(kind.output_bias, "attention_bias"), "attention"),
        "mlp.gate_proj": (inner, hidden, given(kind.mlp_bias, "mlp_bias"), "mlp"),
        "mlp.up_proj": (inner, hidden, given(kind.mlp_bias, "mlp_bias"), "mlp"),
        "mlp.down_proj": (hidden, inner, given(kind.mlp_bias, "mlp_bias"), "mlp"),
    }
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if kind.head_norms:
        norms |= {"self_attn.q_norm": size, "self_attn.k_norm": size}
    layer: dict[str, tuple[tuple[int, ...], str]] = {f"{name}.weight": ((n,), "norm") for name, n in norms.items()}
    for name, (outputs, inputs, bias, role) in linear.items():
        layer[f"{name}.weight"] = ((outputs, inputs), role)
        if bias:
            layer[f"{name}.bias"] = ((outputs,), role)

    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, TensorPlace] = {}

    def add(name: str, shape: tuple[int, ...], role: str, index: int | None = None) -> None:
        shapes[name] = shape
        places[name] = TensorPlace(role, index, heads=(heads, groups, size) if role == "attention" else None)

    if not config["tie_word_embeddings"]:
        add("lm_head.weight", (words, hidden), "head")
    add("model.embed_tokens.weight", (words, hidden), "embedding")
    for index in range(n_layers):
        for name, (shape, role) in sorted(layer.items(), key=lambda item: item[0].split(".")):
            add(f"model.layers.{index}.{name}", shape, role, index)
    add("model.norm.weight", (hidden,), "norm")
    return TensorLayout(shapes, places, n_layers)


def _plain(config: Mapping[str, Any]) -> bool:
    """Return whether every setting has a value that needs no knowledge of the class."""
    layer_types = config.get("layer_types")
    return (
        all(_is_size(config.get(name)) for name in _SIZES)
        and isinstance(config.get("tie_word_embeddings"), bool)
        and config.get("hidden_act") == "silu"
        and all(isinstance(config.get(name, False), bool) for name in ("attention_bias", "mlp_bias"))
        and isinstance(config.get("rms_norm_eps"), float)
        and config.get("rope_scaling") is None
        and _is_plain_rope(config)
        and (layer_types is None or layer_types == ["full_attention"] * config["num_hidden_layers"])
        and (config.get("sliding_window") is None or _is_size(config["sliding_window"]))
        and config.get("use_sliding_window", False) is False
    )


def _is_plain_rope(config: Mapping[str, Any]) -> bool:
    rope = config.get("rope_parameters", {"rope_type": "default", "rope_theta": config.get("rope_theta")})
    return (
        isinstance(rope, Mapping)
        and rope.keys() == {"rope_type", "rope_theta"}
        and rope["rope_type"] == "default"
        and isinstance(rope["rope_theta"], int | float)
        and rope["rope_theta"] > 0
    )


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
