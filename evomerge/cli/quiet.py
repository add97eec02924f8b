"""`--quiet`: nothing is shown while a command works; its result, grave warnings and errors are."""

from __future__ import annotations

import argparse
from contextvars import ContextVar
from typing import Any

_QUIET: ContextVar[bool] = ContextVar("evomerge_quiet", default=False)


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    parser.add_argument("-q", "--quiet", action=_Quiet, help="show nothing but the result and errors")


def be_quiet(quiet: bool) -> None:
    """Let the displays of this command show nothing, or something again."""
    _QUIET.set(quiet)


def is_quiet() -> bool:
    """Return whether this command is to be quiet."""
    return _QUIET.get()


class _Quiet(argparse.Action):
    """A flag that quiets all displays where it stands."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=False, **options)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: object) -> None:
        setattr(namespace, self.dest, True)
        be_quiet(True)
