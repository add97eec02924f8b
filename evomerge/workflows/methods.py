"""The merge methods, as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evomerge.merge.methods.registry import METHODS, find_method


def methods() -> list[dict[str, Any]]:
    """Return the merge methods; see `evomerge.api.methods`."""
    return [asdict(find_method(name).spec) for name in METHODS]
