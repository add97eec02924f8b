"""The best merge of a run as a model folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evomerge.export import ExportReport, export_run
from evomerge.store.run_dir import RunDir
from evomerge.workflows import Progress


def export(
    run_dir: str | Path,
    out: str | Path,
    *,
    candidate: int | None = None,
    shard_size: int | None = None,
    progress: Progress | None = None,
    verify: bool = True,
    tolerance: float | None = None,
    report: Callable[[ExportReport], None] | None = None,
) -> Path:
    """Write the best merge of a run, or another candidate, as a Hugging Face folder; see `evomerge.api.export`."""
    with RunDir.open(run_dir, frozen=True) as run:  # the search may go on while the weights are written
        return export_run(
            run,
            out,
            number=candidate,
            shard_size=shard_size,
            progress=progress,
            verify=verify,
            tolerance=tolerance,
            report=report,
        )
