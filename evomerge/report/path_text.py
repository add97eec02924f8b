"""A layer path in one line of text, and its parents in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evomerge.recipe import ModelSource, Recipe
from evomerge.recipe.layer_path import Step, runs


def path_text(path: Sequence[Step]) -> str:
    """Return a path as "math 0-3 -> japanese 2-3 x0.8 -> math 5".

    Both ends of a run of layers are included; a scale is that of the input of the run's first layer.
    """
    parts = []
    for parent, start, stop, scale in runs(path):
        layers = str(start) if stop == start + 1 else f"{start}-{stop - 1}"
        parts.append(f"{parent} {layers}" + ("" if scale == 1.0 else f" x{scale:.3g}"))
    return " -> ".join(parts)


def path_summary(recipe: Recipe) -> str:
    """Return a path in numbers: "8 steps: 5 of math, 3 of japanese; 1 layer twice or more; scales 0.6 to 1.4"."""
    path = recipe.path
    uses = Counter(step.parent for step in path)
    shares = [f"{uses[parent.name]} of {parent.name}" for parent in recipe.parents if uses[parent.name]]
    unused = [parent.name for parent in recipe.parents if not uses[parent.name]]
    repeated = sum(n > 1 for n in Counter((step.parent, step.layer) for step in path).values())
    scales = sorted({step.scale for step in path})
    parts = [f"{len(path)} step{'s' * (len(path) != 1)}: {', '.join(shares)}"]
    if unused:
        parts.append(f"none of {', '.join(unused)}")
    if repeated:
        parts.append(f"{repeated} layer{'s' * (repeated != 1)} used more than once")
    if scales != [1.0]:
        spread = f"scale {scales[0]:.3g}" if len(scales) == 1 else f"scales {scales[0]:.3g} to {scales[-1]:.3g}"
        parts.append(spread)
    return "; ".join(parts)


def describe_source(source: ModelSource | Recipe) -> str:
    """Return where a parent comes from: a Hub id, a folder's last part, or "merged: slerp of math, japanese"."""
    if isinstance(source, Recipe):
        of = [parent.name for parent in source.parents]
        if source.path:
            used = {step.parent for step in source.path}
            return f"stacked: {len(source.path)} layers of {', '.join(name for name in of if name in used)}"
        return f"merged: {', '.join(source.methods)} of {', '.join(of)}"
    path = source.path
    if path.startswith(("/", "~/", "./", "../")):  # the author's folders are private
        path = path.rstrip("/").rsplit("/", 1)[-1]
    return path if source.revision is None else f"{path} at {source.revision[:12]}"


@dataclass(frozen=True)
class Shown:
    """What `evomerge show` made of a path.

    Attributes:
        text: the path in one line.
        svg, png: the pictures.
    """

    text: str
    svg: Path
    png: Path
