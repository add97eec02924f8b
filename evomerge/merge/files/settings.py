"""Whether two configurations make the same function of the same weights.

They are compared as transformers has read them, with defaults, aliases and older spellings resolved. Where they still
differ, the question is whether the same input gives another output: a setting counts unless

- it is known to change no forward pass (names, versions, token ids, dropout, initial values, caches, losses);
- the code that computes the model never mentions it (`code_words.py`), so that it cannot change anything;
- both values mean the same: the rotary modules of both compute the same angles (`rope.py`), two names of an activation
  are one function, a window is set where no layer has one, or the same tensors are tied either way.

So a setting that is new, or not understood, is a difference. Both sides must have the same model type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from evomerge.errors import CheckpointError
from evomerge.merge.files.code_words import code_words
from evomerge.merge.files.rope import ROPE, same_angles

if TYPE_CHECKING:
    from evomerge.merge.files.model import OpenModel

_HARMLESS = re.compile(
    r"^_|version$|(^|_)name_or_path$|^(torch_)?dtype$|^architectures$|^auto_map$|^(tokenizer|processor)_class$"
    r"|(^|_)token(s|_ids?|_index|_idx|_list)?$|_tokens?_ids?$|dropout|pdrop|layerdrop|drop_(path|rate|prob)"
    r"|initializer|(^|_)init(_|$)|loss|(^|_)aux(_|$)|^use_cache$|^cache_implementation$|^(output|return)_"
    r"|gradient_checkpointing|attn_implementation|flash|fused|^chunk_size_feed_forward$|^pretraining_tp$|^pruned_heads$"
    r"|^(id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params|language|torchscript)$"
    r"|^use_bfloat16$|^summary_|^reorder_and_upcast_attn$|^slow_but_exact$|^use_(mambapy|associative_scan|mamba_kernels)$|^transformers_weights$|^model_max_length$|^unsloth"
)
"""Settings that change no output of a forward pass in evaluation, by the last part of their names."""

_HARMFUL = re.compile(r"per_token")  # how many experts a token has

_POSITIONS = re.compile(
    r"^(max_position_embeddings|n_positions|n_ctx|seq(uence)?_len(gth)?|max_seq(uence)?_len(gth)?)$"
)
"""How many positions there are: where they are learned it shows in a shape, and the rotary modules are asked."""

_PATTERN = re.compile(r"^(sliding_window_pattern|use_sliding_window|max_window_layers)$")
"""Settings from which a configuration computes the types of its layers, where it does not list them."""

_WINDOW = re.compile(r"^(sliding_window|attention_chunk_size)$")
"""Settings of layers that look at a part of the text only."""

_ABSENT = object()


def setting_differences(model: OpenModel, reference: OpenModel, *, language: bool = False) -> dict[str, str]:
    """Return the settings by which one model computes another function than a second one of the same weights.

    Args:
        model: a model.
        reference: the second one.
        language: whether the language parts alone are compared, which may have a name of their own where they stand
            beside a vision tower. How many layers there are is then left to their tensors.

    Returns:
        The name of each setting ("rope_parameters.factor") to a sentence with both values, the model's first.
    """
    mine, theirs = (
        _meaning(one.architecture.language.config if language else one.config) for one in (model, reference)
    )
    found = {
        key
        for key in mine.keys() | theirs.keys()
        if not _same(key, mine.get(key, _ABSENT), theirs.get(key, _ABSENT)) and not _is_harmless(key)
    }
    if language:
        found -= {"model_type", "num_hidden_layers", "layer_types"}
        if mine.get("model_type") != theirs.get("model_type"):  # what one class does not know is off in the other
            found -= {key for key in found if not (mine.get(key) or theirs.get(key))}
    if found and "model_type" not in found:
        found = _that_matter(found, model, reference, language)
    return {
        key: f"{key} is {_shown(mine.get(key, _ABSENT))} instead of {_shown(theirs.get(key, _ABSENT))}"
        for key in sorted(found)
    }


def settings_alike(model: OpenModel, reference: OpenModel) -> set[str]:
    """Return the settings that two models may spell differently, and that mean the same in both.

    These are settings of the rope, if both turn by the same angles, and those whose two values are one.
    """
    mine, theirs = _meaning(model.config), _meaning(reference.config)
    keys = mine.keys() | theirs.keys()
    alike = {key for key in keys if _same(key, mine.get(key, _ABSENT), theirs.get(key, _ABSENT))}
    turning = {key for key in keys - alike if _is_of_rope(key)}
    return alike | turning if turning and not turning & setting_differences(model, reference).keys() else alike


def _is_of_rope(key: str) -> bool:
    return _top(key) in ROPE or _last(key) in ROPE


def _that_matter(found: set[str], model: OpenModel, reference: OpenModel, language: bool) -> set[str]:
    """Leave out what cannot be seen in an output; what cannot be decided stays."""
    try:
        here, there = model.architecture, reference.architecture
    except CheckpointError:  # the class cannot be built, which is an error of its own
        return found
    one, other, configs = here.model, there.model, (model.config, reference.config)
    if language:
        one, other = (each.model.get_submodule(each.language.prefix) for each in (here, there))
        configs = (here.language.config, there.language.config)
    words = _words(one, other, language)
    turning = {key for key in found if _is_of_rope(key)}
    places = {key for key in found if _POSITIONS.match(_last(key))}
    if words is not None:
        aliases: dict[str, set[str]] = {}
        for alias, name in getattr(configs[1], "attribute_map", {}).items():
            aliases.setdefault(name, set()).add(alias)
        seen = {key for key in found if {_last(key), *aliases.get(_last(key), ())} & words}
        found = seen | {key for key in found if _last(key) == "tie_word_embeddings" or key in turning}
    if turning or places:
        same = same_angles(one, other)
        if same:
            found -= turning | places
        elif turning or same is None:  # else angles differ because of the number of positions
            followed = any(map(_depends_on_length, configs))
            found -= set() if followed else places
    if words is not None and "layer_types" in words:
        types = [each for config in configs for each in _layer_types(config)]
        if all(types):
            found = {key for key in found if not _PATTERN.search(_last(key))}
        if all(each and set(each) == {"full_attention"} for each in types):
            found = {key for key in found if not _WINDOW.search(_last(key))}
    if here.canonical == there.canonical or (language and here.tied == there.tied):
        found = {key for key in found if _last(key) != "tie_word_embeddings"}
    return found


def _words(one: Any, other: Any, language: bool) -> frozenset[str] | None:
    """Return what the code of two models mentions; None if it cannot be read, or their classes differ.

    Of language parts, which may have classes of their own, both are read.
    """
    if type(one) is type(other):
        return code_words(one)
    if type(one).__qualname__ != type(other).__qualname__ and not language:
        return None
    mine, theirs = code_words(one), code_words(other)  # the same custom code, which each folder brings along
    return None if mine is None or theirs is None else mine | theirs


def _is_harmless(key: str) -> bool:
    last = _last(key)
    return bool(_HARMLESS.search(last)) and not _HARMFUL.search(last)


def _top(key: str) -> str:
    return key.split(".")[0]


def _last(key: str) -> str:
    return key.split(".")[-1]


def _shown(value: Any) -> str:
    return "not set" if value is None or value is _ABSENT else repr(value)


def _meaning(config: Any) -> dict[str, Any]:
    """Return the settings of a configuration as one flat mapping, in one spelling."""
    flat = _flat(config.to_dict())
    types = flat.get("layer_types")
    if isinstance(types, list) and set(types) == {"full_attention"}:
        del flat["layer_types"]  # what a class does that knows no other
    # Many classes compute these where they are not set.
    heads, width = flat.get("num_attention_heads"), flat.get("hidden_size")
    if isinstance(heads, int) and isinstance(width, int) and heads > 0:
        for key, value in (("head_dim", width // heads), ("num_key_value_heads", heads)):
            flat[key] = value if flat.get(key) is None else flat[key]
    return flat


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        value = _data(value)
        if isinstance(value, Mapping):
            # The older word for the kind of rope stays beside the newer one.
            flat.update(_flat({k: v for k, v in value.items() if k != "type" or "rope_type" not in value}, f"{name}."))
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def _data(value: Any) -> Any:
    """Return plain data for what a configuration of somebody's own may hold."""
    if value is None or isinstance(value, (str, int, float, list, tuple, Mapping)):
        return value
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return dict(vars(value)) if hasattr(value, "__dict__") and not callable(value) else str(value)


def _same(key: str, one: Any, other: Any) -> bool:
    unset = [value is None or value is _ABSENT for value in (one, other)]
    if any(unset):  # a flag that is said to be none is off; one that is not there may be on by default
        return all(unset) or (one is None and other is False) or (one is False and other is None)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(key, a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) or isinstance(other, float):
        # Models compute with at most float32, and converters write 9.999999747378752e-06 for 1e-5.
        if one != one and other != other:  # NaN
            return True
        return bool(one == other) or (_is_number(one) and _is_number(other) and np.float32(one) == np.float32(other))
    if isinstance(one, str) and isinstance(other, str) and "act" in _last(key):
        return one == other or _same_activation(one, other)
    return bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@cache
def _same_activation(one: str, other: str) -> bool:
    """Return whether two names stand for the same function of a number, up to rounding."""
    import torch
    from transformers.activations import ACT2FN

    if one not in ACT2FN or other not in ACT2FN:
        return False
    x = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    try:
        return bool(torch.allclose(ACT2FN[one](x), ACT2FN[other](x), rtol=0, atol=1e-7))
    except (RuntimeError, TypeError):  # one of them takes more than a number
        return False


def _layer_types(config: Any) -> list[list[str] | None]:
    """Return the types of the layers of a configuration and those inside of it; None in the place of none."""
    return [list(value) for key, value in _flat(config.to_dict()).items() if _last(key) == "layer_types" and value] or [
        None
    ]


def _depends_on_length(config: Any) -> bool:
    """Return whether the number of positions changes what the model computes: angles or scales that follow a length."""
    return any(
        (_last(key) in ("rope_type", "type") and str(value) in ("dynamic", "longrope", "su"))
        or (re.search(r"dynamic|logn", _last(key)) and bool(value))
        for key, value in _flat(config.to_dict()).items()
    )
