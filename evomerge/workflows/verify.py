"""Whether a saved checkpoint computes what a recipe or a run's best merge does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evomerge.assembly.hub_models import ready
from evomerge.export.verification import Verification
from evomerge.export.verify import verify as compare
from evomerge.recipe import Recipe
from evomerge.workflows import Note
from evomerge.workflows.same_models import recipe_of


def verify(
    target: str | Path | Recipe,
    folder: str | Path,
    *,
    prompts: Sequence[str],
    n_random: int,
    length: int,
    new_tokens: int,
    seed: int,
    tolerance: float | None,
    device: str,
    note: Note | None = None,
) -> Verification:
    """Compare a saved checkpoint with the live model of a recipe; see `evomerge.api.verify`."""
    return compare(
        ready(recipe_of(target), note),
        folder,
        prompts=prompts,
        n_random=n_random,
        length=length,
        new_tokens=new_tokens,
        seed=seed,
        tolerance=tolerance,
        device=device,
    )
