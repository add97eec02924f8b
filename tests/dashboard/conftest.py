"""A server over a folder of runs, on a free port, in a thread."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evomerge.dashboard.server import Listening, listen
from evomerge.report import figures


@pytest.fixture(autouse=True)
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two figures: what others show is tested with the report."""
    monkeypatch.setattr(figures, "SECTIONS", {"What was found": ("summary",), "How the search went": ("progress",)})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str


class Reader:
    """Asks a server as a browser would, but with any method and header."""

    def __init__(self, listening: Listening) -> None:
        self.listening = listening
        self.port: int = listening.socket.getsockname()[1]

    def __call__(self, path: str, method: str = "GET", *, host: str | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", f"127.0.0.1:{self.port}" if host is None else host)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode())
        finally:
            connection.close()

    def drawn(self, path: str) -> Answer:
        """Ask for a page about runs until it is drawn, which takes long on a busy machine."""
        while "The figures are being drawn" in (answer := self(path)).text:
            time.sleep(0.05)
        return answer


Serve = Callable[..., Reader]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serves a folder: `serve(folder, token=…)`; what is drawn does not wait for the other tests of the machine."""
    monkeypatch.setattr("evomerge.dashboard.background.NICE", 0)
    begun: list[tuple[Listening, threading.Thread]] = []

    def start(folder: Path, **options: Any) -> Reader:
        listening = listen(folder, port=options.pop("port", 0), **options)
        thread = threading.Thread(target=listening.serve)
        thread.start()
        begun.append((listening, thread))
        while not listening.server.started:
            time.sleep(0.01)
        return Reader(listening)

    yield start
    for listening, thread in begun:
        listening.server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()
