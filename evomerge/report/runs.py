"""Which runs a page is about: folders, or folders of runs, each opened."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from evomerge.errors import EvomergeError, RunError
from evomerge.report.data import RunData
from evomerge.store.run_dir import DATABASE, not_a_run
from evomerge.system.files import explain_os_errors, user_path
from evomerge.system.text import error_text

log = logging.getLogger(__name__)

DEEPEST = 3
"""How many folders down runs are looked for: outputs/NAME/sweep_TIME/0."""


def find_runs(folder: str | Path) -> list[Path]:
    """Return a run's folder itself, or the runs in a folder of runs, in the order of their names.

    Raises:
        RunError: if the folder is not there, or holds no run.
    """
    path = user_path(folder)
    if (path / DATABASE).is_file():
        return [path]
    if not path.is_dir():
        raise RunError(not_a_run(path))
    found = _below(path, DEEPEST)
    if not found:
        raise RunError(
            f"{path} is no run, and no folder of runs: there is no {DATABASE} in it. `evomerge search` makes runs"
        )
    return found


def open_run(path: str | Path, *, busy_seconds: float = 60.0) -> RunData:
    """Open one run, whose damage shows now rather than in the middle of a page.

    Args:
        path: the folder.
        busy_seconds: how long to wait for the commit of its writer.

    Raises:
        RunError: if it cannot be read, whatever its database holds.
    """
    run = RunData.open(path, busy_seconds=busy_seconds)
    try:
        _ = run.status  # which reads all records
    except BaseException as error:
        run.close()
        if isinstance(error, EvomergeError) or not isinstance(error, Exception):
            raise
        log.info("the run %s cannot be read", path, exc_info=True)
        raise RunError(
            f"the run {path} cannot be read ({error_text(error, name=True)}): something other than evomerge wrote into "
            "its database, or this is a bug of evomerge"
        ) from error
    return run


def open_runs(folders: Iterable[str | Path]) -> tuple[list[RunData], list[str]]:
    """Open runs.

    Args:
        folders: of runs, or of folders that hold several; each run counts once.

    Returns:
        The runs, which the caller closes, and a sentence about each that cannot be read.

    Raises:
        RunError: if a folder is not there or holds no run.
    """
    # A run that is named in two ways (a link, a relative path) must not count as two seeds.
    paths: dict[Path, Path] = {}
    for path in (path for folder in folders for path in find_runs(folder)):
        paths.setdefault(path.resolve(), path)
    runs: list[RunData] = []
    problems: list[str] = []
    try:
        for path in paths.values():
            try:
                runs.append(open_run(path))
            except EvomergeError as error:
                problems.append(f"{path} was left out: {error_text(error)}")
    except BaseException:
        for run in runs:
            run.close()
        raise
    return runs, problems


def _below(folder: Path, depth: int) -> list[Path]:
    with explain_os_errors(folder):
        inner = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    found: list[Path] = []
    for one in inner:
        if (one / DATABASE).is_file():
            found.append(one)
        elif depth > 1:
            found += _below(one, depth - 1)
    return found
