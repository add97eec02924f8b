"""The tensors of files from which a tensor is computed, so that pages of all of them can be fetched and dropped.

Tensors may be computed from others, which may be computed themselves: a recipe as a parent, an adapter on its base,
rows in the order of another vocabulary, quantised weights. In the end there are files that are mapped into memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from evomerge.errors import CheckpointError
from evomerge.merge.files import pages

if TYPE_CHECKING:
    from evomerge.merge.files.checkpoint import TensorInfo


@runtime_checkable
class Computed(Protocol):
    """Tensors that are computed from those of others."""

    def reads(self, name: str) -> Sequence[tuple[Any, str]]:
        """Return the tensors, each a source and a name in it, from which one is computed; nothing is read."""
        ...


def stored(tensors: Any, name: str) -> Iterator[tuple[Any, str]]:
    """Yield the mapped tensors, each a source and a name in it, from which a tensor comes; perhaps itself."""
    if tensors.mapped:
        yield tensors, name
    elif isinstance(tensors, Computed):
        for source, inner in tensors.reads(name):
            yield from stored(source, inner)


def inputs_of(tensors: Any, name: str) -> Iterator[TensorInfo]:
    """Yield what is in memory for a tensor: itself, and what is mapped for it."""
    yield tensors.infos[name]
    if not tensors.mapped:
        for source, inner in stored(tensors, name):
            yield source.infos[inner]


def fetch(tensors: Any, name: str) -> None:
    """Read the pages of what a tensor comes from; what cannot be read is reported when it is really used."""
    for source, inner in stored(tensors, name):
        with contextlib.suppress(CheckpointError):
            pages.fetch(source.load(inner))


def release(tensors: Any, name: str) -> None:
    """Drop the pages of what a tensor comes from; if they are used again, they are read again."""
    for source, inner in stored(tensors, name):
        pages.release(source.load(inner))
