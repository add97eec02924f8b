"""What the configuration of a PEFT adapter says, and which adapters are no fixed change of weights."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.locate import ADAPTER
from evomerge.system.text import cut

_MERGE_IT = "merge it into its base with peft (merge_and_unload, then save_pretrained) and name the result"

_KNOWN = frozenset({
    "auto_mapping", "base_model_name_or_path", "peft_type", "peft_version", "revision", "task_type", "inference_mode",
    "runtime_config", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias", "bias",
    "modules_to_save", "trainable_token_indices", "ensure_weight_tying", "init_lora_weights",
    # Which modules are changed shows in the names of the adapter's tensors, and how they lie in the base's modules.
    "target_modules", "target_parameters", "exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out",
    # What counted during training alone, or in the beginning.
    "lora_dropout", "eva_config", "corda_config", "loftq_config", "lora_ga_config", "megatron_core",
    "qalora_group_size",
})  # fmt: skip
"""The keys with which an adapter is still the change that its tensors say; another key must not be set."""

_REASONS = {
    "layer_replication": "it repeats layers of its base, so it changes another model than the base",
    "alora_invocation_tokens": "it acts only behind certain tokens, so it is no change of the weights (aLoRA)",
    "arrow_config": "it chooses among several adapters for each token, so it is no change of the weights (Arrow)",
}

_PURE_STARTS = ("gaussian", "eva", "orthogonal")
"""Ways to begin, beside true and false, that leave the base as it was."""

_CHANGED_BASE = (
    "it began (init_lora_weights: {init}) with factors that were taken out of the base's weights, so it fits a changed "
    "base that is not the one on the disk; save it once more with peft's path_initial_model_for_weight_conversion, or "
    + _MERGE_IT
)


@dataclass(frozen=True)
class AdapterConfig:
    """What matters of an adapter's configuration.

    Attributes:
        folder: where it lies.
        base: the model below it as the configuration names it; None: it names none.
        revision: the revision of that model.
        rank: r of the modules that no pattern names.
        alpha: lora_alpha of the modules that no pattern names.
        ranks, alphas: r and lora_alpha by patterns of modules' names.
        rs: whether the scale is alpha / √r (rsLoRA, https://arxiv.org/abs/2312.03732) rather than alpha / r.
        dora: whether columns are scaled to trained lengths (DoRA, https://arxiv.org/abs/2402.09353).
        parameters: the names of targets that are parameters rather than modules (stacked experts).
        tokens: the numbers of tokens whose rows are replaced, by the end of the embedding's name; "": the input's.
        kept: the ends of the names of modules that were trained as a whole (modules_to_save).
        tied: whether it was trained so that embedding and head stay the same.
    """

    folder: Path
    base: str | None
    revision: str | None
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rs: bool
    dora: bool
    parameters: tuple[str, ...]
    tokens: Mapping[str, tuple[int, ...]]
    kept: tuple[str, ...]
    tied: bool

    def rank_of(self, module: str) -> int:
        """Return the rank of a module."""
        return _by_pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        """Return the factor s of s·B·A in a module."""
        rank = self.rank_of(module)
        return _by_pattern(self.alphas, module, self.alpha) / (math.sqrt(rank) if self.rs else rank)


def _by_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """Return the value of the first pattern that a module's name, or its end from a dot on, matches, as peft does."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def read_config(folder: Path) -> AdapterConfig:
    """Return the configuration of the adapter in a folder.

    Raises:
        CheckpointError: with every reason why the adapter cannot be used, if there is one.
    """
    path = folder / ADAPTER
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds no configuration of an adapter, but {type(data).__name__}")
    kind = str(data.get("peft_type", "LORA")).upper()
    if kind != "LORA":
        raise CheckpointError(
            f"{folder} is an adapter of the type {kind}; of adapters only LoRA (with rsLoRA and DoRA) is a change of "
            f"weights that evomerge reads: {_MERGE_IT}, if its type allows that"
        )
    problems = _problems(data)
    if problems:
        raise CheckpointError(f"{folder} cannot be merged: " + "; ".join(problems))
    tokens = data.get("trainable_token_indices") or {}
    return AdapterConfig(
        folder=folder,
        base=data.get("base_model_name_or_path") or None,
        revision=data.get("revision") or None,
        rank=data["r"],
        alpha=data["lora_alpha"],
        ranks=data.get("rank_pattern") or {},
        alphas=data.get("alpha_pattern") or {},
        rs=bool(data.get("use_rslora")),
        dora=bool(data.get("use_dora")),
        parameters=tuple(data.get("target_parameters") or ()),
        tokens={name: tuple(rows) for name, rows in (tokens if isinstance(tokens, dict) else {"": tokens}).items()},
        kept=tuple(data.get("modules_to_save") or ()),
        tied=bool(data.get("ensure_weight_tying")),
    )


def _problems(data: Mapping[str, Any]) -> list[str]:
    """Return what of a LoRA configuration is wrong, or means more than a change of weights."""
    found = []
    for key, value in data.items():
        if value in (None, False, "", 0) or (isinstance(value, (dict, list)) and not value):
            continue
        if key in _REASONS:
            found.append(f"{_REASONS[key]} ({key})")
        elif key not in _KNOWN:
            found.append(f"its configuration sets {key}, of which evomerge does not know what it does to the weights; "
                         f"{_MERGE_IT}")  # fmt: skip
    init = data.get("init_lora_weights", True)
    if not isinstance(init, bool) and init is not None and init not in _PURE_STARTS:
        found.append(_CHANGED_BASE.format(init=init))
    found += [f"{key} must be {form}, but is {cut(repr(data[key]), 60)}"
              for key, (form, fits) in _FORMS.items() if data.get(key) is not None and not fits(data[key])]  # fmt: skip
    ranks = {"r": data.get("r"), **_patterns(data, "rank_pattern")}
    found += [f"{name} must be a whole number above 0, but is {rank!r}" for name, rank in ranks.items()
              if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1]  # fmt: skip
    alphas = {"lora_alpha": data.get("lora_alpha"), **_patterns(data, "alpha_pattern")}
    found += [f"{name} must be a number, but is {cut(repr(alpha), 60)}" for name, alpha in alphas.items()
              if not _is_number(alpha)]  # fmt: skip
    return found


def _patterns(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return {f"{key} of {pattern}": one for pattern, one in value.items()} if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _are_patterns(value: Any) -> bool:
    try:
        return isinstance(value, dict) and all(re.compile(rf"(.*\.)?({pattern})$") for pattern in value)
    except re.error:
        return False


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_tokens(value: Any) -> bool:
    lists = value.values() if isinstance(value, dict) else (value,)
    return all(isinstance(one, list) and all(type(token) is int for token in one) for one in lists)


_PATTERNS = "a mapping from regular expressions of modules' names", _are_patterns
_NAMES = "a list of names", _are_names
_TRUTH = "true or false", lambda value: isinstance(value, bool)
_TEXT = "a text", lambda value: isinstance(value, str)

_FORMS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "base_model_name_or_path": _TEXT, "revision": _TEXT, "rank_pattern": _PATTERNS, "alpha_pattern": _PATTERNS,
    "use_rslora": _TRUTH, "use_dora": _TRUTH, "ensure_weight_tying": _TRUTH, "target_parameters": _NAMES,
    "modules_to_save": _NAMES,
    "trainable_token_indices": ("a list of tokens' numbers, or such lists by embedding", _are_tokens),
}  # fmt: skip
"""What the values of those keys are that are read, beside numbers."""
