"""The merge methods, as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from evomerge.merge.methods.registry import METHODS, find_method
from evomerge.recipe.method import TOPICS


def methods() -> list[dict[str, Any]]:
    """Return the merge methods by topic; see `evomerge.api.methods`."""
    specs = [find_method(name).spec for name in METHODS]
    return [asdict(spec) for topic in TOPICS for spec in specs if spec.topic == topic]
