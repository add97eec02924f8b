"""Models in further formats, each named as what it is: LoRA adapters, GGUF files."""

from __future__ import annotations

from pathlib import Path

from evomerge.export.adapter import ExtractedAdapter, extract_adapter
from evomerge.recipe import ModelSource
from evomerge.workflows import Progress


def extract_lora(
    model: str | Path,
    base: str | Path,
    out: str | Path,
    *,
    rank: int | None,
    error: float,
    others: bool,
    verify: bool,
    progress: Progress | None,
) -> ExtractedAdapter:
    """Write what distinguishes a model from its base as a LoRA adapter; see `evomerge.api.extract_lora`."""
    sources = (ModelSource.from_data(str(model)), ModelSource.from_data(str(base)))
    return extract_adapter(*sources, out, rank=rank, error=error, others=others, verify=verify, progress=progress)
