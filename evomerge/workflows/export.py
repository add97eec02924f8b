"""The best merge of a run as a model folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evomerge.assembly.inputs import changed_models
from evomerge.config.canonical import deciding
from evomerge.errors import ExportError, RunError
from evomerge.export import ExportReport, export_run
from evomerge.export.from_run import chosen_record
from evomerge.store.run_dir import RunDir
from evomerge.system.files import free_folder
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
        free_folder(out, ExportError)
        _refuse_other_models(run, candidate)
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
        )


def _refuse_other_models(run: RunDir, candidate: int | None) -> None:
    """Check that the models are those that were merged and scored, since their scores stand in the card.

    Raises:
        ExportError: if one is another model now.
    """
    inputs, recipe = run.inputs, chosen_record(run, candidate).recipe
    changes = [] if inputs is None else changed_models(inputs, recipe)
    if changes:
        lines = "\n".join(f"  - {change}" for change in changes)
        raise ExportError(
            f"the models are not those that the run {run.path} merged and scored, so its scores are not those of what "
            f"would be exported:\n{lines}\nPut them back; or build the recipe from what is there now, without scores: "
            f"evomerge merge {run.best_path} DIR"
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
