"""The best merge of a run as a model folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evomerge.config.canonical import deciding
from evomerge.errors import ExportError, RunError
from evomerge.export import ExportReport, export_run
from evomerge.export.from_run import chosen_record
from evomerge.store.run_dir import RunDir
from evomerge.system.files import free_folder
from evomerge.system.text import command
from evomerge.workflows import Progress
from evomerge.workflows.same_models import refuse_other_models


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
    answers: bool = True,
) -> Path:
    """Write the best merge of a run, or another candidate, as a Hugging Face folder; see `evomerge.api.export`."""
    with RunDir.open(run_dir, frozen=True) as run:  # the search may go on while the weights are written
        free_folder(out, ExportError)
        refuse_other_models(
            run,
            [chosen_record(run, candidate).recipe],
            "its scores are not those of what would be exported",
            f"build the recipe from what is there now, without scores: {command('merge', run.best_path, 'DIR')}",
            error=ExportError,
        )
        return export_run(
            run,
            out,
            number=candidate,
            config=_config(run),
            shard_size=shard_size,
            progress=progress,
            verify=verify,
            tolerance=tolerance,
            report=report,
            answers=answers,
        )


def _config(run: RunDir) -> dict[str, Any]:
    """Return the configuration for publication: config.yaml as long as it says the same as the run's own.

    So a secret that was written out can be replaced there by a reference.
    """
    own = run.config
    try:
        edited = run.edited_config
    except RunError:
        return own
    return edited if deciding(edited) == deciding(own) else own
