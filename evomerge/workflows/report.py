"""Writing the report of runs: the page, and its figures as pictures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evomerge.errors import ConfigError, RunError, unknown_name
from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.report.figures import SECTIONS, Problem
from evomerge.report.page import AUTO, GENERATOR, PageSection, render_page, sections_of
from evomerge.report.pictures import PNG, SVG, picture, rows_as_csv
from evomerge.report.runs import open_runs
from evomerge.report.style import DARK, LIGHT
from evomerge.system.files import explain_os_errors, user_path, write_atomically
from evomerge.system.text import json_text, visible
from evomerge.workflows import Note

INDEX = "figures.json"
"""What stands in a folder of pictures: each figure's title, words and files. It tells which files are ours."""

_PATIENCE = 2.0
"""Seconds after which it is said what takes so long."""


@dataclass(frozen=True)
class WrittenReport:
    """What was written about some runs.

    Attributes:
        page: the page; None: none was asked for.
        pictures: the folder of pictures; None: none was asked for.
        figures: keys of the figures, in their order.
        problems: a sentence about each run that could not be read, and each figure that could not be drawn.
    """

    page: Path | None
    pictures: Path | None
    figures: tuple[str, ...]
    problems: tuple[str, ...]


def write_report(
    runs: Sequence[str | Path],
    *,
    out: str | Path | None,
    figures: str | Path | None,
    kind: str,
    only: Sequence[str],
    theme: str,
    strict: bool,
    note: Note | None,
) -> WrittenReport:
    """Write the page of some runs, or their figures; see `evomerge.api.report`."""
    _check(kind, only, theme)
    if not runs:
        raise ConfigError("no run was named; a run is a folder outputs/<name>/<time> made by `evomerge search`")
    say = _Patient(note)
    names = [name.replace("-", "_") for name in only]
    folder = None if figures is None else _folder_of_pictures(figures)
    page = None if out is None else _page(out)
    with _opened(runs) as (found, left_out):
        if folder is None and page is None:
            page = _page(_beside(found))
        say(f"drawing the figures of {_names(found)}")
        sections = sections_of(found, names, strict=strict)
        drawn = [one for section in sections for one in section.figures]
        if folder is not None:
            say(f"making pictures of {len(drawn)} figures")
            _write_pictures(folder, sections, kind, LIGHT if theme == AUTO else theme)
        if page is not None:
            say("putting the page together")
            html = render_page(found, sections, theme=theme, left_out=left_out, strict=strict)
            write_atomically(page, html)
        broken = [f"the figure {one.key} could not be drawn: {one.error}" for one in drawn if isinstance(one, Problem)]
        return WrittenReport(page, folder, tuple(one.key for one in drawn), (*left_out, *broken))


class _Patient:
    """Says what is being done once it takes long."""

    def __init__(self, note: Note | None) -> None:
        self._note = note
        self._since = time.monotonic()

    def __call__(self, text: str) -> None:
        if self._note is not None and time.monotonic() - self._since > _PATIENCE:
            self._note(text)


@contextmanager
def _opened(folders: Sequence[str | Path]) -> Iterator[tuple[list[RunData], list[str]]]:
    runs, left_out = open_runs(folders)
    try:
        if not runs:
            raise RunError("\n".join(left_out))
        yield runs, left_out
    finally:
        for run in runs:
            run.close()


def _check(kind: str, only: Sequence[str], theme: str) -> None:
    known = sorted(name.replace("_", "-") for modules in SECTIONS.values() for name in modules)
    problems = [unknown_name("figure", name, known) for name in only if name.replace("_", "-") not in known]
    if kind not in (SVG, PNG):
        problems.append(unknown_name("format", kind, (SVG, PNG)))
    if theme not in (AUTO, LIGHT, DARK):
        problems.append(unknown_name("theme", theme, (AUTO, LIGHT, DARK)))
    if problems:
        raise ConfigError(problems)


def _names(runs: Sequence[RunData]) -> str:
    return runs[0].label if len(runs) == 1 else f"{len(runs)} runs"


def _beside(runs: Sequence[RunData]) -> Path:
    """Return the file of a page whose place nobody named: in the run, or beside several."""
    if len(runs) == 1:
        return runs[0].path / "report.html"
    return Path(os.path.commonpath([run.path.absolute().parent for run in runs])) / "report.html"


def _page(named: str | Path) -> Path:
    """Return the path of a page to be written: nothing is there, or an earlier report."""
    path = user_path(named)
    if path.is_dir():
        path = path / "report.html"
    with explain_os_errors(path):
        if (path.is_symlink() or path.exists()) and not _is_report(path):
            raise RunError(
                f"{path} is there, and no report of evomerge; it is left as it is. Choose another file: --out FILE"
            )
    return path


def _is_report(path: Path) -> bool:
    if not path.is_file():  # a pipe, say, which would wait for somebody
        return False
    with path.open("rb") as file:
        return f'name="generator" content="{GENERATOR} '.encode() in file.read(2_000)


def _folder_of_pictures(named: str | Path) -> Path:
    path = user_path(named)
    with explain_os_errors(path):
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file, not a folder; choose the name of a folder for pictures")
        path.mkdir(parents=True, exist_ok=True)
    return path


def _write_pictures(folder: Path, sections: Sequence[PageSection], kind: str, theme: str) -> None:
    """Write the pictures, the tables and the index of a folder; of the files there, only our own are replaced."""
    earlier = _earlier(folder)
    index = []
    files: dict[str, Callable[[], str | bytes]] = {}
    for section in sections:
        for figure in section.figures:
            if isinstance(figure, Problem):
                continue
            own = dict(_files(figure, kind, theme))
            files |= own
            words = {"key": figure.key, "title": figure.title, "lead": figure.lead, "section": section.title}
            index.append({**words, "note": figure.note, "files": list(own)})
    for path in (folder / name for name in files if name not in earlier):
        if path.exists() or path.is_symlink():
            raise RunError(f"{path} is there, and no picture of an earlier report; choose another folder")
    # The index comes first, for without it the pictures of a report that is cut short would be taken for another's.
    left = sorted(name for name in earlier - set(files) if (folder / name).exists())
    data = {"made by": GENERATOR, "figures": index, "earlier files": left}
    write_atomically(folder / INDEX, json_text(data, indent=2) + "\n")
    for name, make in files.items():
        write_atomically(folder / name, make())


def _files(figure: Figure, kind: str, theme: str) -> Iterator[tuple[str, Callable[[], str | bytes]]]:
    if figure.chart is not None:
        yield f"{figure.key}.{kind}", lambda: picture(figure, kind, theme)
    if figure.table is not None:
        yield f"{figure.key}.csv", lambda: rows_as_csv(figure)


def _earlier(folder: Path) -> set[str]:
    """Return the names of the files that an earlier report wrote into a folder."""
    path = folder / INDEX
    if not (path.exists() or path.is_symlink()):
        return set()
    try:
        # Another file than an ordinary one, a pipe say, might keep us waiting.
        data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if data["made by"] == GENERATOR:
            own = {str(name) for figure in data["figures"] for name in figure["files"]}
            return own | {str(name) for name in data.get("earlier files", ())}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise RunError(f"{visible(path)} is there, and not of an earlier report; choose another folder")
