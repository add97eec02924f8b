"""Merges of a run as model folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError, ExportError
from evomerge.export import ExportReport, export_run
from evomerge.export.from_run import chosen_record
from evomerge.export.publication import Publication
from evomerge.merge.sources import Sources
from evomerge.store.run_dir import RunDir
from evomerge.system.files import free_folder
from evomerge.system.text import command, error_text
from evomerge.workflows import Note, Progress
from evomerge.workflows.published import published_config
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
    force: bool = False,
    title: str | None = None,
    published: Publication | None = None,
    sources: Sources | None = None,
) -> Path:
    """Write the best merge of a run, or another candidate, as a Hugging Face folder; see `evomerge.api.export`."""
    with RunDir.open(run_dir, frozen=True) as run:  # the search may go on while the weights are written
        free_folder(out, ExportError)
        _refuse_others(run, [candidate])
        return export_run(
            run,
            out,
            number=candidate,
            config=published_config(run),
            title=title,
            shard_size=shard_size,
            progress=progress,
            verify=verify,
            tolerance=tolerance,
            report=report,
            answers=answers,
            force=force,
            published=published,
            sources=sources,
        )


def export_several(
    run_dir: str | Path,
    out: str | Path,
    *,
    candidates: Sequence[int],
    front: bool,
    note: Note | None,
    title: str | None,
    **options: Any,
) -> list[Path]:
    """Write several candidates of a run, each into a folder of its own; see `evomerge.api.export_several`."""
    out = Path(out)
    with RunDir.open(run_dir, frozen=True) as run:
        numbers = _numbers(run, candidates, front=front)
        records = [chosen_record(run, number) for number in numbers]
        folders = [free_folder(out / _folder_name(number), ExportError) for number in numbers]
        _refuse_others(run, numbers)
        config, sources = published_config(run), Sources()
        title = title or out.resolve().name
        written, failed = [], []
        for record, folder in zip(records, folders, strict=True):
            try:
                written.append(
                    export_run(
                        run,
                        folder,
                        number=record.number,
                        config=config,
                        title=f"{title} {folder.name}",
                        sources=sources,
                        **options,
                    )
                )
            except EvomergeError as error:  # the others are whole all the same
                failed.append(f"{record.name}: {error_text(error, most=None)}")
            else:
                if note is not None:
                    note(f"wrote {folder}")
        if failed:
            done = f"the other {len(written)} are there: {', '.join(str(one) for one in written)}"
            raise ExportError("\n".join([*failed, *([done] if written else [])]))
        return written


def exported_folders(run: RunDir, out: Path, candidates: Sequence[int], *, front: bool) -> dict[Path, int | None]:
    """Return the folders that an export writes, with the number of each one's candidate; None: the best."""
    if not front and len(candidates) < 2:
        return {out: candidates[0] if candidates else None}
    return {out / _folder_name(number): number for number in _numbers(run, candidates, front=front)}


def _numbers(run: RunDir, candidates: Sequence[int], *, front: bool) -> list[int]:
    choice = run.database.choice()
    if front and choice is None:
        raise ExportError(
            f"the run {run.path} has chosen nothing yet, so it has no front; continue it with "
            f"`{command('resume', run.path)}`, or name candidates"
        )
    chosen = () if choice is None or not front else choice.records
    numbers = list(dict.fromkeys([*candidates, *chosen]))
    if not numbers:
        raise ExportError("no candidates are named; give their numbers, or ask for the whole front")
    return numbers


def _folder_name(number: int) -> str:
    return f"candidate-{number}" if number >= 0 else f"baseline-{-number}"


def _refuse_others(run: RunDir, numbers: Sequence[int | None]) -> None:
    refuse_other_models(
        run,
        [chosen_record(run, number).recipe for number in numbers],
        "its scores are not those of what would be exported",
        f"build the recipe from what is there now, without scores: {command('merge', run.best_path, 'DIR')}",
        error=ExportError,
    )
