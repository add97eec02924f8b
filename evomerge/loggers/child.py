"""The process of one logger: takes lines of JSON from its standard input, and says what came of them.

Its own session, streams, signals and random state keep the library away from the search. Where the search dies, the
input ends, and what had arrived is still sent.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import EvomergeError, RunError
from evomerge.loggers.base import Logger
from evomerge.loggers.ledger import END, SentNotes, ledger_path
from evomerge.loggers.registry import make_logger
from evomerge.loggers.row import LogRow, RunFacts, Summary
from evomerge.system.text import error_text

PAUSES = (1.0, 4.0)
"""Seconds before each further try of what failed."""

MOST_WAITING = 64
"""So many rows at most are sent before they are handed over safely and noted."""

TOO_LATE = 3
"""The exit status where the library still works, or hangs, long after the last row came."""

Tell = Callable[[Mapping[str, Any]], None]
Waiting = Callable[[], bool]
"""Returns whether another line has arrived."""


def serve(lines: Iterable[str], tell: Tell, more: Waiting, *, pauses: tuple[float, ...] = PAUSES) -> None:
    """Send what lines say: first `begin`, then `row`s and `finished` in any number, to the end of the input.

    Args:
        lines: each a JSON object with one of these keys.
        tell: called with `ready` (where the run is to be seen), `sent` (so many more rows were sent), `known` (so many
            more had been sent before), `problem`, and at the end `closed`.
        more: see `Waiting`.
        pauses: see `PAUSES`.
    """
    rest = iter(lines)
    asked = json.loads(next(rest))["begin"]
    facts, name = RunFacts(**asked["facts"]), str(asked["logger"])
    ledger: SentNotes | None = None
    try:
        logger = make_logger(name, asked["options"])
        path = ledger_path(Path(asked["run"]), name, logger.place)
        ledger = SentNotes(path, logger.place, wait=asked["turn"], anew=bool(asked["anew"]))
        run, again = ledger.run, ledger.begun
        begun = _tried(lambda: logger.begin(facts, run, again=again), pauses)
        if begun.logged is not None:
            ledger.correct(begun.logged)
        tell({"ready": begun.where})
        _send(logger, ledger, rest, tell, more, pauses)
        _tried(logger.close, pauses)
    except EvomergeError as error:
        tell({"problem": str(error)})
    except Exception as error:  # a library may raise anything
        tell({"problem": error_text(error, name=True)})
    else:
        tell({"closed": True})
    finally:
        if ledger is not None:
            ledger.close()


def _send(
    logger: Logger, ledger: SentNotes, lines: Iterator[str], tell: Tell, more: Waiting, pauses: tuple[float, ...]
) -> None:
    waiting: list[str] = []
    anything = False

    def hand_over() -> None:
        if waiting:
            _tried(logger.flush, pauses)
            ledger.add(waiting)
            tell({"sent": len(waiting)})
            waiting.clear()

    for line in lines:
        one = json.loads(line)
        if "row" in one:
            row = LogRow.from_data(one["row"])
            if row.key in ledger or row.key in waiting:
                tell({"known": 1})
                continue
            _tried(lambda row=row: logger.candidate(row), pauses)  # type: ignore[misc]
            waiting.append(row.key)
            anything = True
        if "finished" in one:
            hand_over()
            summary = Summary(**one["finished"])
            if (key := END + summary.key) not in ledger or anything:
                _tried(lambda summary=summary: logger.finished(summary), pauses)  # type: ignore[misc]
                ledger.add([key])
        if len(waiting) >= MOST_WAITING or not more():
            hand_over()
    hand_over()


def _tried(call: Callable[[], Any], pauses: tuple[float, ...]) -> Any:
    """Return what a call returns; if it raises, try again after each pause."""
    for pause in pauses:
        try:
            return call()
        except RunError:  # our own words, which another try would not change
            raise
        except Exception as error:  # a library may raise anything
            print(f"{error_text(error, name=True)}; trying again in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
    return call()


def main() -> int:
    """Serve standard input; what the library prints goes to standard error, which is a file.

    Returns:
        The exit status.
    """
    said, heard = os.fdopen(os.dup(1), "w", encoding="utf-8"), os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(2, 1)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)  # a library that asks a question gets no answer
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:  # at once, so that the search never waits for a library that is slow
        patience = math.inf
        for i, line in enumerate(heard):
            arrived.put(line)
            if i == 0:
                patience = float(json.loads(line)["begin"]["patience"])
        arrived.put(None)
        threading.Event().wait(min(patience, threading.TIMEOUT_MAX))
        print("the time to send what had arrived is over", file=sys.stderr, flush=True)
        os._exit(TOO_LATE)  # whatever the library waits for: nobody is there who could end it

    threading.Thread(target=read, daemon=True).start()

    def tell(what: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the search is gone
            print(json.dumps(what), file=said, flush=True)

    first = arrived.get()
    if first is None:
        return 0

    def lines() -> Iterator[str]:
        yield first
        yield from iter(arrived.get, None)

    serve(lines(), tell, lambda: not arrived.empty())
    return 0


if __name__ == "__main__":
    sys.exit(main())
