"""`evomerge dashboard`: pages over all runs of a folder, live."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """Serve the pages until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="evomerge dashboard",
        description="Serve a list of all runs in a folder, and of each the page that `evomerge report` writes, which "
        "follows the search. It only reads. Ctrl-C ends it.",
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", default="outputs", help="the folder; outputs if left out")
    parser.add_argument("--port", type=_port, help="8420, or the next free one, if left out")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen at; only this machine is answered if left out, and others only with --token",
    )
    parser.add_argument(
        "--token",
        help="what a reader must know: auto, which makes one, or at least 16 letters (others on this machine can read "
        "them in its list of processes)",
    )
    parser.add_argument("--open", action="store_true", help="show the list in the browser")
    arguments = parser.parse_args(words)

    from evomerge import api

    api.dashboard(
        arguments.folder,
        host=arguments.host,
        port=arguments.port,
        token=arguments.token,
        open_browser=arguments.open,
        say=_say,
    )
    return 0


def _say(text: str) -> None:
    say(text)
    sys.stdout.flush()  # who reads a pipe waits for the address


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, or 0 for any that is free, not {text}")
    return number
