"""What the Python API and the command line do, with one use case in each file.

- `probe.py`: what is found before a search's baselines, and its plan
- `search.py`: one run to its winner; `resume.py`: continues one; `run.py`: a run folder, to be read
- `inspect.py`: what models are and how they are related
- `space.py`: the genes of a configuration; `methods.py`, `measures.py`: the methods and measures that exist
- `merge.py`: a recipe as a model folder; `export.py`, `verify.py`, `push.py`: a run's best merge as one
- `evaluate.py`: scores one model; `full_evaluation.py`: scores models on all items
- `responses.py`: the answers of a run as a matrix; `estimate.py`: scores from a few answers
- `watch.py`, `moments.py`: what a run has come to, read again and again while it goes on
- `profile.py`: where a candidate's time goes; `show.py`: draws a layer path

This module has the types that use cases share. The use cases themselves load heavy libraries, so each is imported where
it is called.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from evomerge.analysis.moment import Against, Limit, Moment, TaskGain, Works
from evomerge.execution.base import StopSignal
from evomerge.recipe import Recipe
from evomerge.record import Record, Score, Split
from evomerge.search.events import Listener

Note = Callable[[str], None]
"""Called with a sentence about something that takes a while, or that the user should know."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

__all__ = [
    "Against",
    "Limit",
    "Listener",
    "Moment",
    "Note",
    "Progress",
    "Recipe",
    "Record",
    "Score",
    "Split",
    "StopSignal",
    "TaskGain",
    "Works",
]


def tell(warnings: Sequence[str], note: Note | None) -> None:
    """Tell the user what to know before anything runs: by the note, or as warnings in the log where there is none."""
    for warning in warnings:
        if note is None:
            logging.getLogger("evomerge").warning("%s", warning)
        else:
            note(f"warning: {warning}")
