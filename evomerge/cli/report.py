"""`evomerge report`: what runs found, as one page to look at, or its figures as pictures."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.notes import say_note
from evomerge.cli.streams import say
from evomerge.errors import RunError
from evomerge.system.text import visible


def run(words: Sequence[str]) -> int:
    """Write the page, or the pictures."""
    parser = argparse.ArgumentParser(
        prog="evomerge report",
        description="Write what runs found as one HTML page that needs no network; several runs are overlaid.",
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run folder, or a folder of runs (outputs/<name>)")
    parser.add_argument(
        "--out", metavar="FILE", help="the page; in the run if left out, or beside the runs where there are several"
    )
    parser.add_argument("--figures", metavar="DIR", help="write each figure as a picture, and its numbers as CSV")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="of the pictures")
    parser.add_argument("--only", metavar="NAME", nargs="+", default=(), help="these figures alone")
    parser.add_argument(
        "--theme",
        choices=("auto", "light", "dark"),
        default="auto",
        help="auto, that of the reader's system, if left out",
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    arguments = parser.parse_args(words)

    from evomerge import api

    written = api.report(
        arguments.runs,
        out=arguments.out,
        figures=arguments.figures,
        kind=arguments.format,
        only=arguments.only,
        theme=arguments.theme,
        note=say_note,
    )
    if written.pictures is not None:
        say(f"wrote {len(written.figures)} figures to {written.pictures}")
    if written.page is not None:
        say(f"wrote {written.page}")
        if arguments.open and not webbrowser.open(Path(written.page).absolute().as_uri()):
            say_note(f"no browser could be started; open {visible(written.page)} yourself")
    if written.problems:
        raise RunError("\n".join(written.problems))
    return 0
