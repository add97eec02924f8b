"""Whether the rotary embeddings of two models turn by the same angles, however their configurations are spelled."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
from torch import nn

ROPE = frozenset({
    "rope_parameters", "rope_scaling", "rope_theta", "rope_type", "type", "factor", "original_max_position_embeddings",
    "rotary_emb_base", "partial_rotary_factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow",
    "attention_factor", "short_factor", "long_factor", "truncate",
})  # fmt: skip
"""Settings that rotary modules alone read."""

_ELSEWHERE = re.compile(r"mscale|scaling_beta")
_BY_LENGTH = re.compile(r"dynamic|longrope|^su$")


def same_angles(one: nn.Module, other: nn.Module) -> bool | None:
    """Return whether the rotary modules of two models compute the same; None if that cannot be said.

    Each is built once more, with values, from its own configuration: it has no weights.

    Args:
        one: a model, on any device.
        other: another one of the same class.
    """
    try:
        mine, theirs = _angles(one), _angles(other)
    except Exception:  # a class of its own may need other arguments or fail in any way
        return None
    if not mine or mine.keys() != theirs.keys():
        return None
    return all(_equal(mine[name], theirs[name]) for name in mine)


def _angles(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the buffers and factors of each rotary module, by its name.

    Raises:
        ValueError: if it is not all that the settings of the rope change.
    """
    found = {}
    for name, module in model.named_modules():
        if not any("inv_freq" in buffer for buffer, _ in module.named_buffers(recurse=False)):
            continue
        config = module.config
        kinds = vars(module).get("rope_type")
        texts = [str(kind) for kind in (kinds.values() if isinstance(kinds, dict) else [kinds])]
        settings = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        if any(_BY_LENGTH.search(text) for text in texts) or _ELSEWHERE.search(str(settings)):
            raise ValueError("the angles depend on the length, or other modules read the settings, too")
        options = {} if "device" not in inspect.signature(type(module)).parameters else {"device": "cpu"}
        with torch.device("cpu"):
            built = type(module)(config, **options)
        found[name] = {
            **dict(built.named_buffers()),
            **{key: value for key, value in vars(built).items() if isinstance(value, float)},
        }
    return found


def _equal(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    if mine.keys() != theirs.keys():
        return False
    return all(
        torch.equal(value, theirs[key]) if isinstance(value, torch.Tensor) else value == theirs[key]
        for key, value in mine.items()
    )
