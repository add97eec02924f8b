"""TensorBoard: event files in the run folder, without TensorFlow or torch."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from evomerge.loggers.base import Begun, Logger
from evomerge.loggers.row import LogRow, RunFacts, Summary
from evomerge.system.yaml_text import write_yaml

ROWS = "evomerge/rows"
"""The tag of the key of each row, by which a later session knows what the files hold."""

FILES = "events.out.tfevents.*"
"""How TensorBoard's library names its files; ours end with a part of the id of the run outside."""


class TensorBoardLogger(Logger):
    """Event files that TensorBoard shows.

    Args:
        dir: a folder of several runs, each of which gets one of its own in it; null: `tensorboard` in the run
            folder, `tensorboard-…` beside it where everything is sent again.
    """

    LIBRARY, EXTRA = "tensorboard", "tensorboard"

    def __init__(self, *, dir: str | None = None) -> None:
        self._dir = dir

    @property
    def place(self) -> str:
        """The folder."""
        return "the run folder" if self._dir is None else str(Path(self._dir).expanduser().absolute())

    def begin(self, facts: RunFacts, run: str, *, again: bool) -> Begun:
        """Read what earlier sessions wrote, and begin another file beside theirs."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        mark = run[:6]
        if self._dir is None:
            folder = Path(facts.folder) / "tensorboard"
            top = Path(facts.folder).parent
            if any(not path.name.endswith(f".{mark}") for path in folder.glob(FILES)):  # of another run outside
                folder = folder.with_name(f"{folder.name}-{mark}")
        else:
            top = Path(self._dir).expanduser()
            folder = top / facts.group / f"{facts.name}-{mark}"
        logged = _logged(folder) if folder.is_dir() else set()
        self._writer: Any = EventFileWriter(str(folder), max_queue_size=1000, flush_secs=5, filename_suffix=f".{mark}")
        self._facts, self._folder = facts, folder
        if not logged:
            self._text("run/configuration", _block(write_yaml(dict(facts.config))))
        return Begun(shlex.join(["tensorboard", "--logdir", str(top)]), logged)

    def candidate(self, row: LogRow) -> None:
        """Write a row: its numbers, and the error of one that failed."""
        from tensorboard.compat.proto.summary_pb2 import Summary as Values

        values = Values(value=[Values.Value(tag=tag, simple_value=one) for tag, one in row.numbers().items()])
        self._add(values, row.step)
        if row.error is not None:
            self._text("run/failures", _block(f"{row.name} ({row.split}): {row.error}"), row.step)
        # Last, and in an event of its own: where it stands, all of the row does.
        self._text(ROWS, row.key, row.step)

    def flush(self) -> None:
        """Write the file."""
        self._writer.flush()

    def finished(self, summary: Summary) -> None:
        """Write the verdict."""
        self._text("run/verdict", _block(summary.text()))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _text(self, tag: str, text: str, step: int = 0) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary as Values
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.metadata import create_summary_metadata

        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode("utf-8", "replace")])
        metadata = create_summary_metadata(tag, "")
        self._add(Values(value=[Values.Value(tag=tag, metadata=metadata, tensor=tensor)]), step)

    def _add(self, values: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=values))


def _block(text: str) -> str:
    """Return text as TensorBoard's Markdown shows it: as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _logged(folder: Path) -> set[str]:
    """Return the keys of the rows in a folder's files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found = set()
    for path in sorted(folder.glob(FILES)):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == ROWS:
                    found.add(value.tensor.string_val[0].decode())
    return found
