"""Every error that evomerge raises on purpose, under one base.

A message says what was expected, what came and what to do. Anything that is not an `EvomergeError` is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import StrEnum


class EvomergeError(Exception):
    """Base of all errors raised on purpose; the command line prints its text and exits with 2."""


class ConfigError(EvomergeError, ValueError):
    """One or more mistakes in a configuration, all found before a model is loaded.

    Attributes:
        problems: one sentence per mistake, in the order of the configuration.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        if len(self.problems) == 1:
            super().__init__(self.problems[0])
        else:
            lines = "\n".join(f"  - {problem}" for problem in self.problems)
            super().__init__(f"{len(self.problems)} mistakes in the configuration:\n{lines}")


class RecipeError(EvomergeError, ValueError):
    """A recipe that cannot be read or does not describe a merge."""


class CheckpointError(EvomergeError, ValueError):
    """A parent that is missing, unreadable, broken (NaN) or does not fit the others."""


class Fault(StrEnum):
    """What failed, where it was not the candidate: another process or device may well score the same candidate."""

    MEMORY = "memory"  # there was too little of it: smaller batches may help, too
    DEVICE = "device"  # a CUDA error, after which the process that saw it is of no use


class EvaluationError(EvomergeError, RuntimeError):
    """A candidate could not be scored; the candidate fails and the search goes on.

    Attributes:
        fault: what failed, if it was not the candidate; None: it was the candidate.
    """

    def __init__(self, message: str = "", *, fault: Fault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


class ExecutionError(EvomergeError, RuntimeError):
    """No cluster or no worker can be used; the run is as it was, and `evomerge resume` continues it."""


class RunError(EvomergeError, RuntimeError):
    """A run folder cannot be used: locked, damaged, not writable, or not a run."""


class InputsChanged(RunError):
    """A run cannot be continued, since what it stands on is no longer what it was; it stays as it is.

    Attributes:
        changes: one sentence for each change.
    """

    def __init__(self, message: str, changes: Sequence[str]) -> None:
        super().__init__(message)
        self.changes: tuple[str, ...] = tuple(changes)


class ExportError(EvomergeError, RuntimeError):
    """A model could not be exported or pushed."""


class EstimationError(EvomergeError, ValueError):
    """Responses, items or models from which no estimate can be made."""


class Interrupted(EvomergeError):
    """The user asked to stop, or a deadline passed, while a candidate was running; nothing was recorded for it."""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like another one, if any is like it."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return a sentence that says that `name` is not a known `kind`, with the nearest known names first.

    Args:
        kind: what the name should stand for, for example "merge method".
        name: what came.
        known: all names that are accepted.

    Returns:
        One sentence, for example "unknown merge method 'tie'; did you mean 'ties'? Known: linear, slerp, ties".
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(repr(other) for other in near)}?" if near else "."
    # Some registries hold ten thousand names (lm-eval's tasks): the full list helps only while it can be read.
    if len(names) <= 40:
        return f"unknown {kind} {name!r}{hint} Known: {', '.join(names) or 'none'}"
    return f"unknown {kind} {name!r}{hint} ({len(names)} are known)"
