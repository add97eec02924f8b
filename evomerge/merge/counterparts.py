"""Which tensor of a model stands for which of the donor, the model that lends names, types and configuration.

Models of one class are compared as a whole. Where something stands beside the language part of either (a vision tower),
the language parts alone are compared: by the names that tensors have within them, whatever they are called in the
files. What the donor has beside its language part comes from the donor alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.settings import setting_differences
from evomerge.merge.files.weights import few
from evomerge.merge.tokens.numbers import VOCABULARY
from evomerge.merge.tokens.view import token_tensors

_LIMIT = 12


@dataclass(frozen=True)
class Counterparts:
    """A model beside the donor.

    Attributes:
        names: the donor's names of tensors to the model's own, without those that the donor alone lends.
        lent: the donor's names of tensors of its language part that the model lacks by design, as it lacks the layers
            of a language model that look at images; the donor lends them.
        problems: why the two do not fit, one sentence each.
        warnings: what users should know.
    """

    names: Mapping[str, str]
    lent: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass
class _Found:
    """What is found about a model, tensor by tensor."""

    own: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    def take(self, name: str, mine: str, model: OpenModel, donor: OpenModel) -> None:
        """Note a pair of tensors, the donor's and the model's."""
        self.own[name] = mine
        here, there = model.tensors.infos[mine], donor.tensors.infos[name]
        if here.shape != there.shape:
            self.shapes.append(f"{name} has shape {shape_text(here.shape)} instead of {shape_text(there.shape)}")
        if here.dtype.is_floating_point != there.dtype.is_floating_point:
            self.types.append(f"{name} has type {here.dtype} instead of {there.dtype}")

    def problems(self, extra: list[str]) -> list[str]:
        """Return all that does not fit, as far as there is room to say it."""
        found = []
        if self.lost:
            found.append(f"lacks {len(self.lost)} tensors: {few(self.lost, _LIMIT)}")
        if extra:
            found.append(f"has {len(extra)} more tensors: {few(extra, _LIMIT)}")
        for kind in (self.shapes, self.types):
            found.extend(kind[:_LIMIT])
            if len(kind) > _LIMIT:
                found.append(f"and {len(kind) - _LIMIT} more tensors of another shape or type")
        return found


def counterparts(model: OpenModel, donor: OpenModel) -> Counterparts:
    """Return the tensors of a model that stand for those of the donor.

    Raises:
        CheckpointError: if either does not hold what its config.json describes.
    """
    if model.has_other_parts or donor.has_other_parts:
        return _of_language_parts(model, donor)
    if model is donor:
        return Counterparts({name: name for name in donor.naming.targets})
    settings = setting_differences(model, donor)
    found = _Found()
    by_target = {target: name for name, target in model.naming.targets.items() if target not in model.naming.parts}
    for name, target in donor.naming.targets.items():
        mine = by_target.get(target) if target not in donor.naming.parts else name
        if mine is None or mine not in model.naming.targets:
            found.lost.append(name)
        else:
            found.take(name, mine, model, donor)
    if not found.own and "model_type" in settings:  # nothing is gained by listing every setting and tensor
        return Counterparts({}, problems=(f"{settings['model_type']}, and no tensor of one is in the other",))
    extra = [name for name in model.naming.targets if name not in set(found.own.values())]
    return Counterparts(found.own, problems=(*settings.values(), *found.problems(extra)))


def differ_in_rows_alone(model: OpenModel, donor: OpenModel) -> bool:
    """Return whether two models differ in nothing but the number of rows of embedding and head.

    Raises:
        CheckpointError: as `counterparts`, or if either has no embedding of tokens.
    """
    rows = {*token_tensors(donor)}
    token_tensors(model)
    language = model.has_other_parts or donor.has_other_parts
    settings = setting_differences(model, donor, language=language)
    own = counterparts(model, donor)
    pairs = [(name, model.tensors.infos[mine], donor.tensors.infos[name]) for name, mine in own.names.items()]
    return (
        all(here.shape == there.shape or name in rows for name, here, there in pairs)
        and all(here.dtype.is_floating_point == there.dtype.is_floating_point for _, here, there in pairs)
        and all(key.rpartition(".")[2] == VOCABULARY for key in settings)
        and not any(text.startswith(("lacks ", "has ")) for text in own.problems)
    )


def _of_language_parts(model: OpenModel, donor: OpenModel) -> Counterparts:
    here, there = model.architecture, donor.architecture
    if model is donor:
        return Counterparts({name: name for name in donor.naming.targets})
    settings = setting_differences(model, donor, language=True)
    layers = _matching_layers(here, there)
    if layers is not None:  # a setting that says which layers the donor has beyond the model's
        further = sorted(set(range(there.n_layers)) - set(layers))
        said = vars(there.language.config)
        settings = {key: text for key, text in settings.items() if list(_listed(said.get(key))) != further}
    mine = {place: target for target, places in _places(here).items() for place in places}
    files, named = _files(model), _places(there)
    same_words = VOCABULARY not in {key.rpartition(".")[2] for key in settings}
    found, lent, taken, warnings = _Found(), set[str](), set[str](), []
    for target, names in _files(donor).items():
        places = named.get(target, ())
        if not places:
            continue  # beside the language part
        if layers is not None and (layer := there.places[target].layer) is not None and layer not in layers:
            lent |= set(names)
            continue
        moved = [_moved(place, layers, there) for place in places]
        other = next((files[mine[place]] for place in moved if place in mine and mine[place] in files), ())
        if len(other) != len(names):
            found.lost += names
            continue
        taken |= set(other)
        for name, its in zip(names, other, strict=True):
            shape, wanted = model.tensors.infos[its].shape, donor.tensors.infos[name].shape
            if same_words and shape != wanted and shape[1:] == wanted[1:]:
                # Rows of the image's own tokens, which the head does not have, so that there are no more words.
                lent.add(name)
                warnings.append(
                    f"{name} has {wanted[0]} rows in {donor.label} and {shape[0]} in {model.label}; the merge has the "
                    "former's"
                )
            else:
                found.take(name, its, model, donor)
    known = [name for target, names in files.items() if target in here.language.names for name in names]
    extra = [name for name in known if name not in taken]
    return Counterparts(found.own, frozenset(lent), (*settings.values(), *found.problems(extra)), tuple(warnings))


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _places(architecture: Architecture) -> dict[str, tuple[str, ...]]:
    """Return each parameter of the language part to its names there; tied parameters have several."""
    found: dict[str, list[str]] = {}
    for name, place in architecture.language.names.items():
        found.setdefault(architecture.canonical[name], []).append(place)
    return {target: tuple(places) for target, places in found.items()}


def _files(model: OpenModel) -> dict[str, tuple[str, ...]]:
    """Return each parameter to the names, in order, of the tensors in the files that fill it."""
    found: dict[str, tuple[str, ...]] = dict(model.naming.parts)
    for name, target in model.naming.targets.items():
        found.setdefault(target, (name,))
    return found


def _layers_place(architecture: Architecture) -> str:
    """Return what stands before the index of a layer in the names of the language part."""
    prefix = architecture.language.prefix
    return f"{architecture.layers_name.removeprefix(f'{prefix}.' if prefix else '')}."


def _matching_layers(here: Architecture, there: Architecture) -> dict[int, int] | None:
    """Return for each layer of the donor the model's layer, where the model lacks some; None: layer for layer.

    A language model that looks at images between its layers has further ones, of another kind, among them.
    """
    if here.n_layers == there.n_layers or not (here.layers_name and there.layers_name):
        return None
    found: dict[int, int] = {}
    for layer in range(there.n_layers):
        following = len(found)
        if following < here.n_layers and here.layer_shapes(following) == there.layer_shapes(layer):
            found[layer] = following
    return found if len(found) == here.n_layers else None


def _moved(place: str, layers: Mapping[int, int] | None, there: Architecture) -> str:
    before = _layers_place(there)
    if layers is None or not place.startswith(before):
        return place
    index, _, inner = place.removeprefix(before).partition(".")
    return f"{before}{layers[int(index)]}.{inner}"


def shape_text(shape: Iterable[int]) -> str:
    """Return a shape as messages show it."""
    return "×".join(str(size) for size in shape) or "scalar"
