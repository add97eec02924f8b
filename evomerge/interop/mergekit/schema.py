"""A mergekit file as data: every key is known or named as a mistake, with its place and the nearest known key.

mergekit itself ignores keys that it does not know, so that a misspelt `weight` passes there without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import unknown_name
from evomerge.interop.mergekit.values import Conditional, Setting
from evomerge.system.yaml_text import Place

_MODEL_KEYS = ("model", "parameters")
_SOURCE_KEYS = ("model", "layer_range", "parameters")
_SLICE_KEYS = ("sources", "base_model", "parameters", "residual_weight")
_MODULE_KEYS = ("models", "slices", "parameters")
_TOP_KEYS = (
    *("merge_method", "models", "slices", "modules", "base_model", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "name"),
)
_TEXT_KEYS = frozenset(
    (
        *("model", "base_model", "merge_method", "dtype", "out_dtype", "tokenizer_source", "chat_template", "name"),
        *("path", "revision", "filter", "source", "token", "kind", "lora"),
    )
)
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Reference:
    """A model as a file names it: a folder, a Hub id, or the name of another merge of the same file."""

    path: str
    revision: str | None = None
    lora: Reference | None = None

    def __str__(self) -> str:
        path = self.path if self.revision is None else f"{self.path}@{self.revision}"
        return path if self.lora is None else f"{path}+{self.lora}"


@dataclass(frozen=True)
class Input:
    """A model that is merged, with parameters of its own; `layers` is None where all layers are meant."""

    model: Reference
    parameters: Mapping[str, Setting]
    place: str
    layers: tuple[int, int] | None = None


@dataclass(frozen=True)
class Slice:
    """Layers of the result, and the inputs that are merged into them."""

    inputs: tuple[Input, ...]
    place: str
    base: Reference | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class MergeDocument:
    """One merge. `whole` says that it was written with `models`, so that its one slice is all layers."""

    method: str
    slices: tuple[Slice, ...]
    whole: bool
    name: str | None = None
    base: Reference | None = None
    parameters: tuple[Mapping[str, Setting], ...] = ()
    dtype: str | None = None
    tokenizer: Any = None
    chat_template: str | None = None


def is_mergekit(data: Any) -> bool:
    """Return whether data of a YAML document are a merge of mergekit rather than a recipe of evomerge."""
    if not isinstance(data, Mapping) or ("method" in data and "parents" in data):
        return False
    return "merge_method" in data or ("slices" in data and "path" not in data and "method" not in data)


def text_at(place: Place) -> bool:
    """Return whether text is meant at a place of a mergekit file, so that a model may be called `no`."""
    return bool(place) and place[-1] in _TEXT_KEYS and "tokens" not in place[:-2]


def read_document(data: Any, where: str, problems: list[str]) -> MergeDocument | None:
    """Read one document; mistakes are added to `problems`, and None comes back where nothing can be made of it."""
    return _Reader(where, problems).document(data)


def read_reference(data: Any, where: str, place: str, problems: list[str]) -> Reference | None:
    """Read a model that is named at a place; mistakes are added to `problems`."""
    return _Reader(where, problems).reference(data, place)


class _Reader:
    def __init__(self, where: str, problems: list[str]) -> None:
        self._where, self._problems = where, problems

    def wrong(self, place: str, text: str) -> None:
        self._problems.append(f"{self._where}{place}: {text}" if place else f"{self._where}{text}")

    def keys(self, data: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
        for key in data:
            if key not in known:
                self.wrong(place, unknown_name("key", str(key), known))

    def document(self, data: Any) -> MergeDocument | None:
        if not isinstance(data, Mapping):
            self.wrong("", f"a merge is a mapping with merge_method and models or slices, but came {_shown(data)}")
            return None
        self.keys(data, _TOP_KEYS, "")
        method = data.get("merge_method")
        if not isinstance(method, str) or not method:
            self.wrong("merge_method", f"the name of a merge method is needed, but came {_shown(method)}")
            method = ""
        parts = [key for key in ("models", "slices", "modules") if data.get(key) is not None]
        if len(parts) != 1:
            came = ", ".join(parts) if parts else "none of them"
            self.wrong("", f"exactly one of models, slices and modules is needed, but came {came}")
        inner, place, levels = data, "", []
        if parts == ["modules"]:
            inner, place = self._module(data["modules"])
            levels.append(self.settings(inner.get("parameters"), f"{place}parameters"))
        slices, whole = self._slices(inner, place)
        levels.append(self.settings(data.get("parameters"), "parameters"))
        if data.get("tokenizer") is not None and data.get("tokenizer_source") is not None:
            self.wrong("tokenizer", "it stands beside tokenizer_source; keep one of them")
        source = data.get("tokenizer_source")
        template, name = data.get("chat_template"), data.get("name")
        if template is not None and not isinstance(template, str):
            self.wrong("chat_template", f"a name or a Jinja template is needed, but came {_shown(template)}")
            template = None
        if name is not None and not isinstance(name, str):
            self.wrong("name", f"text is needed, but came {_shown(name)}")
            name = None
        types = [self._dtype(data.get(key), key) for key in ("out_dtype", "dtype")]
        return MergeDocument(
            method=method,
            slices=slices,
            whole=whole,
            name=name,
            base=self._optional(data.get("base_model"), "base_model"),
            parameters=tuple(levels),
            dtype=types[0] or types[1],
            tokenizer=data.get("tokenizer") if source is None else {"source": source},
            chat_template=template,
        )

    def _module(self, data: Any) -> tuple[Mapping[str, Any], str]:
        if not isinstance(data, Mapping) or len(data) != 1:
            came = ", ".join(map(str, data)) if isinstance(data, Mapping) else _shown(data)
            self.wrong("modules", f"only models of one module (a decoder) are merged, but came {came or 'none'}")
            return {}, "modules."
        name, inner = next(iter(data.items()))
        place = f"modules.{name}"
        if not isinstance(inner, Mapping):
            self.wrong(place, f"a mapping with models or slices is needed, but came {_shown(inner)}")
            return {}, f"{place}."
        self.keys(inner, _MODULE_KEYS, place)
        if (inner.get("models") is None) == (inner.get("slices") is None):
            self.wrong(place, "exactly one of models and slices is needed")
        return inner, f"{place}."

    def _slices(self, data: Mapping[str, Any], place: str) -> tuple[tuple[Slice, ...], bool]:
        if data.get("models") is not None:
            where = f"{place}models"
            inputs = self._list(data["models"], where, "models like {model: org/name, parameters: {…}}")
            found = [self._input(one, f"{where}[{i}]", _MODEL_KEYS) for i, one in enumerate(inputs)]
            return (Slice(tuple(one for one in found if one is not None), where),), True
        if data.get("slices") is None:
            return (), True
        where = f"{place}slices"
        listed = self._list(data["slices"], where, "slices like {sources: [{model: org/name, layer_range: [0, 8]}]}")
        found_slices = [self._slice(one, f"{where}[{i}]") for i, one in enumerate(listed)]
        return tuple(one for one in found_slices if one is not None), False

    def _slice(self, data: Any, place: str) -> Slice | None:
        if not isinstance(data, Mapping):
            self.wrong(place, f"a slice is a mapping with sources, but came {_shown(data)}")
            return None
        self.keys(data, _SLICE_KEYS, place)
        where = f"{place}.sources"
        listed = self._list(data.get("sources"), where, "sources like {model: org/name, layer_range: [0, 8]}")
        found = [self._input(one, f"{where}[{i}]", _SOURCE_KEYS) for i, one in enumerate(listed)]
        inputs = tuple(one for one in found if one is not None)
        lengths = {one.layers[1] - one.layers[0] for one in inputs if one.layers is not None}
        if len(lengths) > 1:
            self.wrong(where, f"the layer ranges of a slice must be equally long, but came {sorted(lengths)} layers")
        base = self._optional(data.get("base_model"), f"{place}.base_model")
        return Slice(inputs, place, base, self.settings(data.get("parameters"), f"{place}.parameters"))

    def _input(self, data: Any, place: str, known: tuple[str, ...]) -> Input | None:
        if not isinstance(data, Mapping):
            self.wrong(place, f"a mapping with `model` is needed, but came {_shown(data)}")
            return None
        self.keys(data, known, place)
        layers = self._layers(data.get("layer_range"), f"{place}.layer_range") if "layer_range" in known else None
        settings = self.settings(data.get("parameters"), f"{place}.parameters")
        model = self.reference(data.get("model"), f"{place}.model")
        return None if model is None else Input(model, settings, place, layers)

    def _layers(self, data: Any, place: str) -> tuple[int, int] | None:
        whole = isinstance(data, list) and len(data) == 2
        if not whole or any(isinstance(one, bool) or not isinstance(one, int) for one in data):
            self.wrong(place, f"[start, stop] with 0 <= start < stop is needed, but came {_shown(data)}")
            return None
        if not 0 <= data[0] < data[1]:
            self.wrong(place, f"[start, stop] with 0 <= start < stop is needed, but came {data}")
            return None
        return data[0], data[1]

    def _list(self, data: Any, place: str, what: str) -> list[Any]:
        if isinstance(data, list) and data:
            return data
        self.wrong(place, f"a list of {what} is needed, but came {_shown(data)}")
        return []

    def _optional(self, data: Any, place: str) -> Reference | None:
        return None if data is None else self.reference(data, place)

    def reference(self, data: Any, place: str) -> Reference | None:
        """Read a model: "path@revision+lora@revision", {model: {path:, revision:}, lora:} or {path:, revision:}."""
        if isinstance(data, Mapping):
            return self._spelled_out(data, place)
        if not isinstance(data, str) or not data:
            self.wrong(place, f"a folder or a Hub id is needed, but came {_shown(data)}")
            return None
        if _is_folder(data):
            return Reference(data)
        path, plus, adapter = data.partition("+")
        if plus and (not path or not adapter):
            self.wrong(place, f"model+lora names a model and an adapter, but came {data!r}")
            return None
        path, _, revision = path.partition("@")
        name, _, its_revision = adapter.partition("@")
        return Reference(path, revision or None, Reference(name, its_revision or None) if plus else None)

    def _spelled_out(self, data: Mapping[str, Any], place: str) -> Reference | None:
        inner = data.get("model") if "model" in data else data
        if isinstance(inner, str):
            inner = {"path": inner}
        known = ("model", "lora", "override_architecture") if "model" in data else ("path", "revision")
        self.keys(data, known, place)
        if not isinstance(inner, Mapping) or not isinstance(inner.get("path"), str) or not inner["path"]:
            self.wrong(place, f"a model is a path or {{model: {{path:, revision:}}}}, but came {_shown(data)}")
            return None
        if inner is not data:
            self.keys(inner, ("path", "revision"), f"{place}.model")
        lora = None
        if data.get("lora") is not None:
            lora = self._spelled_out({"model": data["lora"]}, f"{place}.lora")
            if lora is None:
                return None
        if data.get("override_architecture") is not None:
            self.wrong(place, "override_architecture is not read: what a model is made of is told by its config.json")
        revision = inner.get("revision")
        return Reference(inner["path"], None if revision is None else str(revision), lora)

    def _dtype(self, data: Any, place: str) -> str | None:
        if data is None or data in DTYPES:
            return data
        more = "; a model of whole numbers is no merge" if data == "int64" else ""
        self.wrong(place, f"one of {', '.join(DTYPES)} is needed, but came {_shown(data)}{more}")
        return None

    def settings(self, data: Any, place: str) -> dict[str, Setting]:
        """Read the parameters of one level."""
        if data is None:
            return {}
        if not isinstance(data, Mapping):
            self.wrong(place, f"a mapping of parameters to values is needed, but came {_shown(data)}")
            return {}
        return {name: self._setting(value, f"{place}.{name}") for name, value in data.items()}

    def _setting(self, data: Any, place: str) -> Setting:
        if isinstance(data, Mapping):
            data = [data]
        if isinstance(data, list) and any(isinstance(one, Mapping) for one in data):
            found = [self._choice(one, f"{place}[{i}]") for i, one in enumerate(data)]
            return tuple(one for one in found if one is not None)
        return (Conditional(None, self._numbers(data, place), place),)

    def _choice(self, data: Any, place: str) -> Conditional | None:
        if not isinstance(data, Mapping) or "value" not in data:
            self.wrong(place, f"{{filter: PART OF A NAME, value: NUMBER}} is needed, but came {_shown(data)}")
            return None
        self.keys(data, ("filter", "value"), place)
        part = data.get("filter")
        if part is not None and not isinstance(part, str):
            self.wrong(f"{place}.filter", f"a part of tensors' names is needed, but came {_shown(part)}")
            return None
        return Conditional(None if part in (None, "*") else part, self._numbers(data["value"], f"{place}.value"), place)

    def _numbers(self, data: Any, place: str) -> tuple[float, ...]:
        listed = data if isinstance(data, list) and data else [data]
        found = []
        for one in listed:
            number = _number(one)
            if number is None:
                self.wrong(place, f"a number, true or false, or a list of numbers is needed, but came {_shown(one)}")
            found.append(number or 0.0)
        return tuple(found)


def _number(data: Any) -> float | None:
    """Return a number as it is, flags as 0 and 1 (like mergekit), and None for all else."""
    try:
        number = float(data) if isinstance(data, (int, float)) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _is_folder(path: str) -> bool:
    try:
        return Path(path).expanduser().is_dir()
    except (OSError, RuntimeError):  # too long, or the home of nobody
        return False


def _shown(data: Any) -> str:
    if data is None:
        return "nothing"
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}…"
