"""`evomerge push`: merges of a run to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.cli.quiet import add_quiet, is_quiet
from evomerge.cli.steps import steps
from evomerge.cli.streams import say

if TYPE_CHECKING:
    from evomerge.export.hub import Pushed


def run(words: Sequence[str]) -> int:
    """Upload the best merge of a run, its front, or an exported folder; private unless told otherwise."""
    parser = argparse.ArgumentParser(
        prog="evomerge push",
        description="Upload a run's best merge (or an exported folder) to the Hub, in one commit. The token is taken "
        "from HF_TOKEN or `hf auth login`, and never printed. A push that was interrupted is repeated by the same "
        "command, which sends what is missing.",
    )
    parser.add_argument("run", type=Path, help="the run folder, or a folder made by `evomerge export`")
    parser.add_argument("repo", help="where to: org/name, or name for your own account")
    parser.add_argument("--public", action="store_true", help="make the repository public")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and send nothing")
    parser.add_argument("--no-answers", action="store_true", help="show no answers in the model card, nor their items")
    parser.add_argument("--branch", metavar="NAME", help="to this branch, made if it is not there (default main)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--replace", action="store_true", help="in a new commit, put these files in the place of others that are there"
    )
    existing.add_argument("--pr", action="store_true", help="propose the commit as a pull request")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        *("--candidate", "--candidates"),
        dest="candidates",
        type=_numbers,
        action="extend",
        default=[],
        metavar="N,N,…",
        help="of the run, in place of its best",
    )
    which.add_argument("--front", action="store_true", help="all merges with which the search ended (front, archive)")
    parser.add_argument(
        "--as",
        dest="several",
        choices=("branches", "collection"),
        default="branches",
        help="several merges: branches of one repository, the chosen one on main; or a collection of repositories",
    )
    parser.add_argument("--force", action="store_true", help="push a merge however it answers, as `evomerge export`")
    add_quiet(parser)
    arguments = parser.parse_args(words)

    from evomerge import api

    with _Shown() as shown:
        found = api.push(
            arguments.run,
            arguments.repo,
            private=not arguments.public,
            dry_run=arguments.dry_run,
            answers=not arguments.no_answers,
            branch=arguments.branch,
            overwrite=arguments.replace,
            pull_request=arguments.pr,
            candidates=arguments.candidates,
            front=arguments.front,
            several=arguments.several,
            force=arguments.force,
            say=shown.say,
            progress=shown.progress,
        )
    for one in found:
        _tell(one, dry_run=arguments.dry_run, built=not (arguments.run / "run.sqlite").is_file())
    return 0


class _Shown(contextlib.ExitStack):
    """What is shown while merges are built and sent: our bar while one is built, the client's own while it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Callable[[int, int], None] | None = None

    def say(self, text: str) -> None:
        """Say a sentence; what comes after it has no bar yet."""
        self.close()
        self._bar = None
        if not is_quiet():
            say(text)

    def progress(self, done: int, total: int) -> None:
        """Show how far a merge is built."""
        if self._bar is None:
            self._bar = self.enter_context(steps("building"))
        self._bar(done, total)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers of candidates, as 3,7,12, but came {text!r}") from None


def _tell(one: Pushed, *, dry_run: bool, built: bool) -> None:
    """Say what was uploaded, or would be."""
    kind = "private" if one.private else "public"
    if dry_run:
        say(f"would push to {one.place.name} ({kind}; {_there(one)}):")
        for name, size in one.files:
            about = "about " if name == "README.md" and not built else ""  # how it was verified is not known yet
            say(f"  {about + format(size, ','):>20} bytes  {name}")
        say(f"  {one.size:>20,} bytes in {len(one.files)} files")
        for name in one.removed:
            say(f"  would be removed with --replace or --pr: {name}")
        return
    if not one.done:
        say(f"{one.place.name} ({kind}) holds just these {len(one.files)} files already: nothing was sent")
        return
    say(f"pushed to {one.place.name} ({kind}): {len(one.files)} files, {one.size:,} bytes, {one.url}")
    if one.pull_request is not None:
        say(f"proposed as {one.pull_request}")
    for name, size in one.files:
        say(f"  {size:>14,} bytes  {name}")
    for name in one.removed:
        say(f"  removed: {name}")


def _there(one: Pushed) -> str:
    place = one.place
    if place.exists is None:
        return f"whether it is there is not known: {place.unknown}"
    if not place.exists:
        return "it is not there yet and would be made"
    if place.head is None:
        return "the repository is there, the branch would be made"
    return f"it is there, with {len(place.files)} files" if place.files else "it is there, and empty"
