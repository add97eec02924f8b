"""Where a model's weights come from, as plain data: a checkpoint, and what lies on top of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from evomerge.errors import RecipeError, unknown_name
from evomerge.system.yaml_text import Place, YamlError, read_yaml

_AT_REVISION = re.compile(r"([\w-][\w.-]*/[\w.-]+)@([\w./-]+)")
"""A Hub id at a revision, `org/name@revision`. A local folder of that very name comes first; see `locate`."""

_FLAGS = ("trust_remote_code", "allow_pickle")


@dataclass(frozen=True)
class ModelSource:
    """A source checkpoint, with a LoRA adapter on top of it where one is named.

    Attributes:
        path: a local folder, a Hub id, `zoo:NAME` for the built-in zoo, a GGUF file, or a folder or Hub id of an
            adapter, whose own configuration names the model below it.
        revision: branch, tag or commit of a Hub id; None: its main branch.
        trust_remote_code: whether Python code that comes with the model may run.
        file: the GGUF file in the folder or repository that holds the weights; None: what transformers would load.
        allow_pickle: whether weights may be read from a pickle (`pytorch_model.bin`), by torch's weights-only loader.
        adapter: folder or Hub id of a PEFT adapter on top of the model at `path`; None: none.
        adapter_revision: branch, tag or commit of the adapter.
    """

    path: str
    revision: str | None = None
    trust_remote_code: bool = False
    file: str | None = None
    allow_pickle: bool = False
    adapter: str | None = None
    adapter_revision: str | None = None

    def __post_init__(self) -> None:
        if self.adapter_revision is not None and self.adapter is None:
            raise RecipeError(
                f"{self.path} has an adapter_revision ({self.adapter_revision!r}), but names no adapter; "
                "write {path: MODEL, adapter: ADAPTER, adapter_revision: …}"
            )

    @property
    def label(self) -> str:
        """What it is called in messages: its path, with the file or adapter that was named."""
        text = self.path if self.file is None else f"{self.path} ({self.file})"
        return text if self.adapter is None else f"{text} + {self.adapter}"

    def to_data(self) -> str | dict[str, Any]:
        """Return the shortest JSON form, which is the path alone if nothing else is set."""
        data = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return self.path if data.keys() == {"path"} else data

    @classmethod
    def from_data(cls, data: Any) -> ModelSource:
        """Return what `to_data` wrote; keys that are not set may stand there as null.

        Raises:
            RecipeError: if it is neither a path nor a mapping with a path, or says something else.
        """
        if isinstance(data, str):
            at_revision = _AT_REVISION.fullmatch(data)
            return cls(at_revision[1], at_revision[2]) if at_revision else cls(data)
        names = [one.name for one in fields(cls)]
        if not isinstance(data, Mapping) or data.get("path") is None:
            shown = dict(data) if isinstance(data, Mapping) else data
            raise RecipeError(f"a model is a path or Hub id, {_FORM} or {{recipe: …}}, but came {shown!r}")
        unknown = [name for name in data if name not in names]
        if unknown:
            raise RecipeError(f"a model has no key of this name: {unknown_name('key', str(unknown[0]), names)}")
        for name in _FLAGS:
            if not isinstance(data.get(name) or False, bool):
                raise RecipeError(f"{name} of {data['path']} must be true or false, but came {data[name]!r}")
        read: dict[str, Any] = {name: str(one) for name, one in data.items() if name not in _FLAGS and one is not None}
        read |= {name: bool(data.get(name)) for name in _FLAGS}
        return cls(**read)

    @classmethod
    def from_text(cls, text: str) -> ModelSource:
        """Return the model that a word of a command names: a path or Hub id, or as in a recipe `{path: …, adapter: …}`.

        Raises:
            RecipeError: if what stands in braces names no model.
        """
        if not in_braces(text):
            return cls.from_data(text)
        try:
            return cls.from_data(read_yaml(text, text_at=_is_text))
        except YamlError as error:
            raise RecipeError(f"a model is a path or Hub id, or {_FORM}, but {text} is no YAML: {error}") from error


def in_braces(text: str) -> bool:
    """Return whether a word of a command names a model as a recipe does, `{path: …}`, rather than by its path alone."""
    return text.startswith("{") and text.endswith("}")


def _is_text(place: Place) -> bool:
    return len(place) == 1 and place[0] in SOURCE_TEXTS


_FORM = "{path:, revision:, file:, adapter:, adapter_revision:, trust_remote_code:, allow_pickle:}"
"""How a mapping that names a model is shown in messages."""

SOURCE_TEXTS = frozenset({"path", "revision", "file", "adapter", "adapter_revision"})
"""The keys of a model whose values are text as written."""
