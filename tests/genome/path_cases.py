"""The spaces of layer paths that the conformance suite runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from genome_cases import make as make_parameters

from evomerge.genome import JointSpace, PathSpace, SegmentSpace
from evomerge.recipe import ModelSource, Parent

AnySpace = PathSpace | SegmentSpace | JointSpace


def parents_of(depths: dict[str, int]) -> tuple[Parent, ...]:
    return tuple(Parent(name, ModelSource(f"org/{name}")) for name in depths)


def paths(depths: dict[str, int], **arguments: Any) -> PathSpace:
    return PathSpace(parents_of(depths), n_layers=depths, **arguments)


def segments(depths: dict[str, int], **arguments: Any) -> SegmentSpace:
    return SegmentSpace(parents_of(depths), n_layers=depths, **arguments)


def joint(depths: dict[str, int], **arguments: Any) -> JointSpace:
    """A merge as the first parent."""
    make = segments if "segments" in arguments else paths
    return JointSpace(make_parameters(next(iter(depths.values())), tokenizer="ja"), make(depths, **arguments))


@dataclass(frozen=True)
class Case:
    """One space of the suite; `depths` in the order of the parents."""

    make_space: Callable[..., AnySpace]
    depths: dict[str, int]
    arguments: dict[str, Any] = field(default_factory=dict)

    def make(self, **changes: Any) -> AnySpace:
        return self.make_space(self.depths, **{**self.arguments, **changes})

    @property
    def limits(self) -> tuple[int, int]:
        """Shortest and longest path that the arguments allow."""
        return self.arguments.get("min_layers", 1), self.arguments.get("max_layers", 10**6)

    def __str__(self) -> str:
        depths = "+".join(map(str, self.depths.values()))
        return "-".join([self.make_space.__name__, depths, *(f"{k}={v}" for k, v in self.arguments.items())])


TWO = {"math": 6, "ja": 6}
UNEVEN = {"math": 3, "ja": 7, "code": 1}
CASES = (
    *(Case(paths, TWO, {"scales": scales}) for scales in ("none", "step", "matrix", "network")),
    *(Case(paths, UNEVEN, {"scales": scales, "repeats": 3}) for scales in ("none", "step", "matrix", "network")),
    Case(paths, {"math": 1, "ja": 4}, {"repeats": 2}),
    Case(paths, {"math": 1, "ja": 1}, {"scales": "matrix"}),
    Case(paths, {"math": 1}, {"repeats": 2, "scales": "network", "hidden": 1}),
    Case(paths, {"math": 5}, {"repeats": 2, "scale_low": 0.3, "scale_high": 3.0}),
    Case(paths, {"math": 8, "ja": 2}, {"max_layers": 9, "min_layers": 6, "scales": "matrix"}),
    Case(paths, TWO, {"max_layers": 7, "min_layers": 6, "repeats": 2}),
    Case(paths, TWO, {"tokenizer": "ja", "dtype": "float32", "seed": 5}),
    Case(segments, TWO),
    Case(segments, TWO, {"scales": "none", "repeats": 1, "segments": 1}),
    Case(segments, UNEVEN, {"repeats": 3, "segments": 2, "scale_low": 0.3}),
    Case(segments, {"math": 1, "ja": 4}),
    Case(segments, {"math": 1}, {"min_layers": 1}),
    Case(segments, {"math": 2}, {"repeats": 3}),
    Case(segments, TWO, {"max_layers": 8, "min_layers": 5}),
    Case(joint, {"merged": 6, "ja": 6}, {"scales": "matrix"}),
    Case(joint, {"merged": 4, "code": 7}, {"repeats": 2, "max_layers": 9}),
    Case(joint, {"merged": 4, "code": 7}, {"segments": 3}),
)
