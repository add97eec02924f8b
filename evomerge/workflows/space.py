"""The genes of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.assembly.prepare import prepare_spaces
from evomerge.config.reader import from_data


def space(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every gene of a configuration; see `evomerge.api.space`."""
    checked = from_data(config)
    spaces = zip(checked.stages, prepare_spaces(checked), strict=True)
    return [{**gene, "stage": stage.name} for stage, space in spaces for gene in space.describe()]
