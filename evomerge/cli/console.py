"""Where commands print for people."""

from __future__ import annotations

from rich.console import Console


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that takes every text as it is.

    Names, errors and warnings are anybody's words, so rich must not look for its markup in them: a parent called "[/x]"
    would be an error, and "[x]" would vanish.
    """
    return Console(markup=False, stderr=stderr)
