"""The merge methods, as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evomerge.merge.methods import METHODS


def methods() -> list[dict[str, Any]]:
    """Return the merge methods; see `evomerge.api.methods`."""
    return [asdict(method.spec) for method in METHODS.values()]
