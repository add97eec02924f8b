"""Files that are no recipes of evomerge but of something that people have beside them, told by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def foreign_problem(data: Mapping[Any, Any]) -> str | None:
    """Return the sentence about a mapping that is no recipe but something known, with what to do; else None."""
    if "method" in data and "parents" in data:
        return None
    if "evaluation" in data or "budget" in data:
        return "this is a configuration of a search, not a recipe; `evomerge search FILE.yaml` runs it"
    if "experts" in data and "base_model" in data:
        return "this is a mixture of experts of mergekit, which evomerge does not build"
    if "merge_method" in data or "slices" in data:
        return (
            "this is a recipe of mergekit; `evomerge merge` and `evomerge evaluate` take it as it is, and "
            "`evomerge convert FILE.yaml OURS.yaml` writes it as a recipe of evomerge"
        )
    return None
