"""The language part of a model: the decoder and its head, whatever else (a vision tower, a projector) stands beside it.

It is found from the module tree and the configuration: transformers says which part of a configuration is about text
(`get_text_config`), and each of its model classes keeps the configuration that it was built from. So the language part
is the outermost module that was built from the text's configuration, with the output embeddings. In a model that is
nothing but a language model, it is the whole. No family is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

HEAD, OUTER = "(head)", "(outer)"
"""What stands before the names of a head's tensors, and of those that are in neither the decoder nor the head."""


@dataclass(frozen=True)
class LanguagePart:
    """The tensors of a model that belong to its language part.

    Attributes:
        names: name of each saved tensor of the language part to its name within that part, which is the same for a
            language model alone and for one that stands in a larger model.
        whole: whether it is all of the model.
        prefix: the name of its decoder in the module tree, "model.language_model" for a LLaVA.
        config: the part of the configuration that describes it.
        modules: its modules: the decoder and the head.
    """

    names: Mapping[str, str]
    whole: bool
    prefix: str
    config: Any
    modules: tuple[nn.Module, ...]


def has_other_parts(config: Any) -> bool:
    """Return whether a configuration may describe more than a language model; no model is built."""
    return any(map(_is_config, vars(config).values()))


def find_language_part(model: nn.Module, saved: Mapping[str, Any]) -> LanguagePart:
    """Return the language part of a transformers model.

    Args:
        model: the model, on any device.
        saved: the names of its saved tensors.
    """
    config = model.config
    text = _text_config(config)
    owner = model if text is config else _outermost(model, text)
    whole = owner is None or owner is model
    owner = model if owner is None else owner
    decoder = getattr(owner, "base_model", owner)
    head = _output_embeddings(model) or _output_embeddings(owner)
    places = {id(module): name for name, module in model.named_modules()}
    others = () if not whole else tuple(f"{places[id(module)]}." for module in _of_other_parts(model))
    owned, inner = places[id(owner)], places[id(decoder)]
    heads = None if head is None or id(head) not in places else places[id(head)]
    names: dict[str, str] = {}
    for name in saved:
        if name.startswith(others):
            continue
        if heads is not None and name.startswith(f"{heads}."):
            names[name] = f"{HEAD}{name.removeprefix(f'{heads}.')}"
        elif _within(name, inner):
            names[name] = _inside(name, inner)
        elif _within(name, owned):
            names[name] = f"{OUTER}{_inside(name, owned)}"
    modules = (owner,) if head is None or _within(heads or "", owned) else (owner, head)
    return LanguagePart(names, len(names) == len(saved), inner, text, modules)


def _text_config(config: Any) -> Any:
    """Return the part of a configuration that is about text; itself, where that is all of it or cannot be told."""
    try:
        text = config.get_text_config()
    except (AttributeError, ValueError):  # custom code; or several parts are about text, and none is the decoder
        return config
    # An encoder that reads texts belongs to the language, and a configuration alone does not say what it reads.
    both = getattr(config, "is_encoder_decoder", False) and text is getattr(config, "decoder", None)
    return config if both else text


def _of_other_parts(model: Any) -> list[nn.Module]:
    """Return the modules that were built from a part of the configuration, where all else of it is about text."""
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        return []
    parts = [value for value in vars(config).values() if _is_config(value)]
    others = [module for module in model.modules() if any(getattr(module, "config", None) is part for part in parts)]
    # Parts that hold the embeddings of tokens are about text themselves: byte encoder, latent model, byte decoder.
    tokens = model.get_input_embeddings()
    return [] if any(tokens is inner for other in others for inner in other.modules()) else others


def _is_config(value: Any) -> bool:
    return hasattr(value, "to_dict") and hasattr(value, "model_type")


def _outermost(model: nn.Module, config: Any) -> nn.Module | None:
    """Return the outermost module that was built from a configuration, or from one that says the same."""
    own = [module for module in model.modules() if getattr(module, "config", None) is config]
    if own:
        return own[0]
    said = config.to_dict()
    for module in model.modules():
        other = getattr(module, "config", None)
        if module is not model and other is not None and _is_config(other) and other.to_dict() == said:
            return module
    return None


def _output_embeddings(model: Any) -> nn.Module | None:
    try:
        found: nn.Module | None = model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return found


def _within(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(f"{prefix}.") or name == prefix


def _inside(name: str, prefix: str) -> str:
    return name.removeprefix(f"{prefix}.") if prefix else name
