"""The genes of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.assembly.prepare import prepare_spaces
from evomerge.assembly.spaces import left_out
from evomerge.config.reader import from_data
from evomerge.workflows import Note


def space(config: Mapping[str, Any], *, note: Note | None = None) -> list[dict[str, Any]]:
    """Return every gene of a configuration; see `evomerge.api.space`."""
    checked = from_data(config)
    spaces = list(zip(checked.stages, prepare_spaces(checked), strict=True))
    if note is not None:
        for text in dict.fromkeys(left_out(checked, space) for _, space in spaces):
            if text is not None:
                note(text)
    return [{**gene, "stage": stage.name} for stage, space in spaces for gene in space.describe()]
