"""trackio: a local dashboard by the makers of the Hub, or a Space there."""

from __future__ import annotations

import os
import re
import shlex
import time
from typing import Any

from evomerge.loggers.base import Begun, Logger
from evomerge.loggers.row import LogRow, RunFacts, Summary

ROW, PATIENCE = "row", 20.0
"""The name under which a row's key stands, and the seconds that a local database may take to show a row."""


class TrackioLogger(Logger):
    """A run of a trackio project.

    Args:
        project: null: the name of the configuration.
        space_id: a Space of the Hub ("org/name") to which rows go; null: the database of this machine.
        private: whether a Space that is made is private; null: it is.
    """

    LIBRARY, EXTRA = "trackio", "trackio"

    def __init__(self, *, project: str | None = None, space_id: str | None = None, private: bool | None = None) -> None:
        self._project, self._space, self._private = project, space_id, private
        self._new: set[str] = set()

    @property
    def place(self) -> str:
        """The project, and the Space or server."""
        return f"project {self._project or 'of the configuration'} {self._elsewhere or 'here'}"

    @property
    def _elsewhere(self) -> str | None:
        return self._space or os.environ.get("TRACKIO_SPACE_ID") or _server()

    def begin(self, facts: RunFacts, run: str, *, again: bool) -> Begun:
        """Make or continue the run of this name."""
        import trackio

        self._project = self._project or re.sub(r"[^\w.-]+", "-", facts.project).strip("-.") or "evomerge"
        self._name = f"{facts.name}-{run[:6]}"
        logged = None if self._elsewhere else self._here()
        self._run: Any = trackio.init(
            project=self._project,
            name=self._name,
            group=facts.group,
            space_id=self._space,
            private=None if self._space is None else self._private is not False,
            config=facts.to_data(),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        where = shlex.join(["trackio", "show", "--project", self._project])
        return Begun(f"https://huggingface.co/spaces/{self._space}" if self._space else where, logged)

    def candidate(self, row: LogRow) -> None:
        """Log a row; trackio writes it in a thread."""
        said = {"error": row.error} if row.error else {}
        self._run.log({**row.numbers(), "state": row.state, ROW: row.key, **said}, step=row.step)
        self._new.add(row.key)

    def flush(self) -> None:
        """Wait until the local database shows the rows: trackio only warns of what it could not write."""
        if self._elsewhere is None:
            end = time.monotonic() + PATIENCE
            while not self._new <= self._here():
                if time.monotonic() > end:
                    raise TimeoutError(f"trackio's database does not show the rows after {PATIENCE:g} s")
                time.sleep(0.1)
        self._new.clear()

    def finished(self, summary: Summary) -> None:
        """Log the verdict as a row of its own, since trackio has no summary."""
        if summary.state == "complete":
            self._run.log(
                {"verdict": summary.text(), **{f"result/{name}": one for name, one in summary.scores.items()}}
            )

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()

    def _here(self) -> set[str]:
        """Return the keys of the rows that the local database holds."""
        from trackio.sqlite_storage import SQLiteStorage

        return {str(one[ROW]) for one in SQLiteStorage.get_logs(str(self._project), run=self._name) if ROW in one}


def _server() -> str | None:
    """Return the address of a server of one's own, without the token that may stand in it."""
    found = os.environ.get("TRACKIO_SERVER_URL")
    return None if not found else found.partition("?")[0]
