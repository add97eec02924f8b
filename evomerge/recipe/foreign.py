"""Files that are no recipes of evomerge but of something that people have beside them, told by their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_MAPPING = (
    "`method:` for merge_method (`evomerge methods` lists those that there are), `base:` for base_model, "
    "`parents: {NAME: MODEL, …}` for models, `parameters: {weight: {NAME: …}, density: {NAME: …}}` for the parameters "
    "of each model, `dtype:`, and `tokenizer: NAME` for tokenizer_source"
)
_SLICES = (
    "`method: passthrough`, `parents: {NAME: MODEL, …}` for the models, and "
    "`path: [{parent: NAME, layers: [start, stop]}, …]` for slices with their layer_range"
)


def foreign_problem(data: Mapping[Any, Any]) -> str | None:
    """Return the sentence about a mapping that is no recipe but something known, with what to do; else None."""
    if "method" in data and "parents" in data:
        return None
    if "evaluation" in data or "budget" in data:
        return "this is a configuration of a search, not a recipe; `evomerge search FILE.yaml` runs it"
    if "merge_method" in data or "slices" in data or ("experts" in data and "base_model" in data):
        if "experts" in data:
            return "this is a mixture of experts of mergekit, which evomerge does not build"
        if "slices" in data and len(_sources(data["slices"])) > 1:
            return (
                "this is a recipe of mergekit that merges slice by slice, which evomerge does not read; write it as "
                f"one of evomerge with `groups:` of layers, and with {_MAPPING}{_further(data)}"
            )
        method = f" (merge_method: {data['merge_method']})" if "merge_method" in data else ""
        form = _SLICES if "slices" in data else _MAPPING
        return (
            f"this is a recipe of mergekit{method}, which evomerge does not read yet; write it as one of evomerge, "
            f"with {form}{_further(data)}"
        )
    return None


def _further(data: Mapping[Any, Any]) -> str:
    """Return what to do with those parameters of mergekit in a file that have no key of their own here."""
    given = list(_parameters(data))
    text = ""
    if any(isinstance(value, list) and not any(isinstance(one, Mapping) for one in value) for _, value in given):
        text += (
            "; for a gradient over the layers (a list of numbers), one of `groups: [{layers: [start, stop], …}]` each"
        )
    if any(isinstance(value, list) and any(isinstance(one, Mapping) for one in value) for _, value in given):
        text += "; for a `filter:`, `groups: [{roles: [attention], …}]` with attention, mlp, norm …"
    if any(name == "int8_mask" for name, _ in given):
        text += "; `int8_mask` is left out, since it changes no result"
    return text


def _parameters(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the parameters in a file of mergekit, wherever they stand: of the merge, a model, a slice or its source."""
    inner = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    for value in inner:
        yield from _parameters(value)
    if isinstance(data, Mapping) and isinstance(data.get("parameters"), Mapping):
        yield from data["parameters"].items()


def _sources(slices: Any) -> list[Any]:
    """Return the sources of the slice that has most."""
    found = [one.get("sources") for one in slices if isinstance(one, Mapping)] if isinstance(slices, list) else []
    return max((one for one in found if isinstance(one, list)), key=len, default=[])
