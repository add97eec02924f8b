"""How the names in a checkpoint's files relate to the parameters of its model class.

Mostly they are equal. But files may lack the base model's prefix (GPT-2 on the Hub), use another name (GPT-NeoX's
`embed_out`), hold both copies of tied tensors, contain tensors that no model uses any more (masks, rotary caches), or
hold the experts of an MoE layer one by one where the model has them stacked. Merging works on the tensors as they lie
in the files; this module says which parameter each of them fills, and stacks the experts for a live model.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.checkpoint import TensorInfo

Rename = Callable[[str], "tuple[str, str | None]"]


@dataclass(frozen=True)
class Naming:
    """The tensors of one checkpoint that its model uses.

    Attributes:
        targets: name in the files to the (canonical) parameter that the tensor fills, alone or with others.
        copies: name in the files to further names there that hold the same tied tensor.
        parts: parameter to the names, in order, that are converted together to fill it, if it takes several tensors.
    """

    targets: Mapping[str, str]
    copies: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, tuple[str, ...]]
    _converters: Mapping[str, tuple[Any, Mapping[str, str]]] = field(repr=False)
    _architecture: Architecture = field(repr=False)
    _shapes: Mapping[str, tuple[int, ...]] = field(repr=False)

    def part_shapes(self, target: str) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors of `parts[target]`, by name and in order."""
        return {name: self._shapes[name] for name in self.parts[target]}

    def convert(self, target: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the parameters that the tensors of `parts[target]` fill, by name."""
        converter, patterns = self._converters[target]
        return _convert(converter, patterns, target, {name: tensors[name] for name in patterns}, self._architecture)


def find_naming(infos: Mapping[str, TensorInfo], architecture: Architecture) -> Naming:
    """Return how the tensors of a checkpoint fill the parameters of its model.

    Raises:
        CheckpointError: with every tensor that is missing, unknown to the model, or of another shape.
    """
    rename = _renaming(architecture)
    single: dict[str, list[str]] = {}
    grouped: dict[str, dict[str, str]] = {}
    unknown = []
    for name in sorted(infos, key=_natural):
        target, pattern = rename(name)
        if pattern is not None:
            grouped.setdefault(target, {})[name] = pattern
        elif target in architecture.canonical:
            single.setdefault(architecture.canonical[target], []).append(name)
        elif not _unused(name, architecture):
            unknown.append(name)

    problems = [f"{name}: {architecture.model.__class__.__name__} has no such tensor" for name in unknown]
    targets, copies, filled = {}, {}, set[str]()
    for target, names in single.items():
        # Of two copies of a tied tensor, the one under the first parameter's own name is kept.
        first, *rest = sorted(names, key=lambda name: rename(name)[0] != target)
        targets[first], filled = target, filled | {target}
        if rest:
            copies[first] = tuple(rest)
        for name in names:
            if infos[name].shape != architecture.shapes[target]:
                problems.append(f"{name} has shape {infos[name].shape}, but config.json asks for "
                                f"{architecture.shapes[target]}")  # fmt: skip
    converters = {}
    for target, patterns in grouped.items():
        converters[target] = (_converter(architecture, next(iter(patterns.values()))), patterns)
        targets.update(dict.fromkeys(patterns, target))
        given = {name: torch.empty(infos[name].shape, dtype=infos[name].dtype, device="meta") for name in patterns}
        try:
            made = _convert(*converters[target], target, given, architecture)
        except Exception as error:  # transformers' converters raise what torch raises
            problems.append(f"{target} cannot be made of {len(patterns)} tensors: {error}")
            filled.add(target)
            continue
        filled |= made.keys()
        for name, tensor in made.items():
            shape, wanted = tuple(tensor.shape), architecture.shapes.get(name)
            if shape != wanted:
                problems.append(
                    f"{name} gets shape {shape} from {len(patterns)} parts, but config.json asks for {wanted}"
                )
    optional = _patterns(getattr(architecture.model, "_keys_to_ignore_on_load_missing", None))
    for name in architecture.places:
        if name not in filled and not (optional and optional.search(name)):
            problems.append(f"{name} is missing")
    if problems:
        raise CheckpointError("; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if problems[20:] else ""))
    parts = {target: tuple(names) for target, names in grouped.items()}
    shapes = {name: infos[name].shape for names in parts.values() for name in names}
    return Naming(targets, copies, parts, converters, architecture, shapes)


def parameter_finder(architecture: Architecture) -> Callable[[str], str | None]:
    """Return a function from a name, as files spell it, to the model's parameter of that name; None: there is none."""
    rename = _renaming(architecture)

    def find(name: str) -> str | None:
        parameter = rename(name)[0]
        return parameter if parameter in architecture.shapes else None

    return find


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which expert 10 comes after expert 9."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _unused(name: str, architecture: Architecture) -> bool:
    """Return whether transformers, too, ignores this tensor of a checkpoint: mostly an old mask or rotary cache."""
    ignored = _patterns(getattr(architecture.model, "_keys_to_ignore_on_load_unexpected", None))
    if ignored and ignored.search(name):
        return True
    if re.search(r"rotary_emb\.\w*inv_freq$|(^|\.)position_ids$|\.attn\.(masked_)?bias$", name):
        return True
    buffers = {buffer for buffer, _ in architecture.model.named_buffers()}
    return name in buffers or f"{architecture.model.base_model_prefix}.{name}" in buffers


def _patterns(patterns: Any) -> re.Pattern[str] | None:
    return re.compile("|".join(f"({pattern})" for pattern in sorted(patterns))) if patterns else None


def _transforms(architecture: Architecture) -> list[Any]:
    """Return transformers' table of renamed and restacked tensors for this model; older releases have none."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError:
        return []
    return list(get_model_conversion_mapping(architecture.model))


def _renaming(architecture: Architecture) -> Rename:
    """Return the function from a name in a file to (parameter, pattern of the converter that makes it or None)."""
    prefix, known = architecture.model.base_model_prefix, architecture.shapes
    transforms = _transforms(architecture)
    if transforms:
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
        converters = [one for one in transforms if isinstance(one, WeightConverter)]

        def rename(name: str) -> tuple[str, str | None]:
            # A name that the model has needs no renaming, though rules for old spellings could match it.
            if name in known:
                return name, None
            return rename_source_key(name, renamings, converters, prefix, known)

        return rename

    def plain(name: str) -> tuple[str, str | None]:
        forms = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
        return next((form for form in forms if form in known), name), None

    return plain


def _converter(architecture: Architecture, pattern: str) -> Any:
    return next(one for one in _transforms(architecture) if pattern in one.source_patterns)


def _convert(
    converter: Any,
    patterns: Mapping[str, str],
    target: str,
    tensors: Mapping[str, torch.Tensor],
    architecture: Architecture,
) -> dict[str, torch.Tensor]:
    fresh = copy.deepcopy(converter)  # converters collect what they are given
    for name, tensor in tensors.items():
        fresh.add_tensor(target, name, patterns[name], tensor)
    made = fresh.convert(target, model=architecture.model, config=architecture.model.config)
    return {name: tensor[0] if isinstance(tensor, list) else tensor for name, tensor in made.items()}
