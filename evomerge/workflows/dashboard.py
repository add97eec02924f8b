"""Serving pages over all runs of a folder."""

from __future__ import annotations

from pathlib import Path

from evomerge.workflows import Note


def serve(
    folder: str | Path, *, host: str, port: int | None, token: str | None, open_browser: bool, say: Note | None
) -> None:
    """Serve the pages until Ctrl-C; see `evomerge.api.dashboard`."""
    from evomerge.dashboard.server import listen, open_when_ready  # loads a server, which nothing else needs

    say = say or (lambda _: None)
    listening = listen(folder, host=host, port=port, token=token)
    say(f"the runs in {folder} are at {listening.url}")
    if open_browser:
        open_when_ready(listening, say)
    listening.serve()
