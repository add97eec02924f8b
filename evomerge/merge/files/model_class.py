"""Which transformers class a configuration is for, and a model of that class without weights.

A configuration alone does not tell: a `BertConfig` is that of a masked language model, a classifier, a bare encoder or
a decoder. `architectures` in config.json names the class, and transformers' own mappings say which Auto class makes it;
custom code names its Auto classes in `auto_map`. Only where neither helps, the first Auto class that knows the
configuration is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from evomerge.errors import CheckpointError

Kind = Literal["causal", "image_text", "seq2seq", "masked", "other"]
"""What a model is for, as far as it matters here: who can score it, and whether it generates."""

_KINDS: dict[str, Kind] = {
    "AutoModelForImageTextToText": "image_text",
    "AutoModelForCausalLM": "causal",
    "AutoModelForSeq2SeqLM": "seq2seq",
    "AutoModelForMaskedLM": "masked",
}
"""The Auto classes that go before all others where several make the same class, and what their models are for."""

_BARE = ("AutoModel", "AutoModelForTextEncoding")
"""The Auto classes of models without a head, which come last."""


def auto_class(config: Any) -> Any:
    """Return the Auto class of transformers that builds and loads the models of a configuration.

    A model that several Auto classes make (a vision-language model that counts as a causal one, too) belongs to the
    first of: image-text-to-text, causal, sequence-to-sequence, masked, all others, the bare model.
    """
    import transformers

    choices = list(_auto_classes())
    custom = getattr(config, "auto_map", None) or {}
    names = getattr(config, "architectures", None) or ()
    for name in names:
        for each in choices:
            if str(custom.get(each.__name__, "")).endswith(f".{name}"):
                return each
    for each in choices:
        if each.__name__ in custom:
            return each
    for name in names:
        for each in choices:
            if name in _class_names(each, config):
                return each
    usual = "AutoModelForCausalLM" if getattr(config, "is_decoder", False) else "AutoModelForMaskedLM"
    if getattr(config, "is_encoder_decoder", False):
        usual = "AutoModelForSeq2SeqLM"
    order = ("AutoModelForImageTextToText", usual, *_KINDS, *_BARE)
    first = [getattr(transformers, name) for name in order]
    known = [each for each in (*first, *choices) if type(config) in each._model_mapping]
    return known[0] if known else transformers.AutoModelForCausalLM


def auto_class_of(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the Auto class that loads the checkpoint in a folder.

    Raises:
        Exception: almost anything, as transformers does on a config.json that it cannot read.
    """
    from transformers import AutoConfig

    return auto_class(AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code))


def model_kind(config: Any) -> Kind:
    """Return what the models of a configuration are for."""
    return _KINDS.get(auto_class(config).__name__, "other")


def build_on_meta(config: Any, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """Return a model of a configuration on the meta device: modules and shapes, no values.

    Args:
        config: the configuration.
        trust_remote_code: whether its custom code may run.
        options: further arguments of `from_config`.

    Raises:
        CheckpointError: if transformers cannot build it.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    auto = auto_class(config)
    try:
        with torch.device("meta"):
            return auto.from_config(config, trust_remote_code=trust_remote_code, **options)
    except ImportError as error:
        raise CheckpointError(f"the model class of {kind!r} needs a package: {error}") from error
    except Exception as error:  # a configuration can break its model class in any way
        raise CheckpointError(
            f"transformers cannot build a model of type {kind!r} from its config.json, as {auto.__name__} does: {error}"
        ) from error


def _auto_classes() -> Iterator[Any]:
    """Yield the Auto classes of models in the order in which they are asked."""
    from transformers.models.auto import modeling_auto

    for name in _KINDS:
        yield getattr(modeling_auto, name)
    for name, each in vars(modeling_auto).items():
        known = (*_KINDS, *_BARE)
        if name.startswith("AutoModel") and name not in known and getattr(each, "_model_mapping", None) is not None:
            yield each
    for name in _BARE:
        yield getattr(modeling_auto, name)


def _class_names(auto: Any, config: Any) -> tuple[str, ...]:
    """Return the names of the classes that an Auto class makes of a configuration."""
    try:
        found = auto._model_mapping[type(config)]
    except (KeyError, ImportError, ValueError):
        return ()
    return tuple(each.__name__ for each in (found if isinstance(found, tuple) else (found,)))
