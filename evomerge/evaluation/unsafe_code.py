"""Code that a model writes: which tasks run it, and the one switch without which none of them does.

lm-eval marks such tasks by `unsafe_code`. Metrics of the library evaluate that run code (`code_eval`) are guarded by an
environment variable of their own; it is shut for unmarked tasks too, whatever the user's shell says. Where a file of a
task names either, that is seen before anything is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evomerge.evaluation.index import function_files

GUARD = "HF_ALLOW_CODE_EVAL"
"""The environment variable without which the library evaluate refuses to run code; its errors name it."""

_METRIC = "code_eval"
"""The metric of that library that runs code."""


def runs_code(config: Mapping[str, Any]) -> bool:
    """Return whether a task's YAML says that it runs what the model writes, or a file of its functions does.

    lm-eval takes any value but false for a mark.

    Args:
        config: the YAML as `index.load` reads it.
    """
    listed = config.get("metric_list")
    metrics = [str(one.get("metric")) for one in listed or () if isinstance(one, Mapping)]
    declared = config.get("unsafe_code", False) is not False or any(_METRIC in one.split("/")[-1] for one in metrics)
    return declared or any(_names_guard(file) for file in function_files(config))


def _names_guard(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return _METRIC in text or GUARD in text


def refusal(task: str) -> str:
    """Return the sentence about a task that would run code although that was not allowed."""
    return (
        f"task {task!r} runs code that the models write, on this machine and with your rights; if that is what you "
        "want, set `evaluation.allow_unsafe_code: true` (evomerge evaluate: --allow-unsafe-code), best in a container"
    )


def warning(tasks: Sequence[str]) -> str:
    """Return the sentence to begin with where it is allowed."""
    which = f"of the tasks {', '.join(tasks)}" if tasks else "of any task that does so"
    return (
        f"code that the models write in answers {which} is run on this machine with your rights "
        "(evaluation.allow_unsafe_code)"
    )


@contextmanager
def code_execution(allowed: bool) -> Iterator[None]:
    """Open or shut the guard of the library evaluate while code of a task is running."""
    before = os.environ.get(GUARD)
    os.environ[GUARD] = "1" if allowed else "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[GUARD]
        else:
            os.environ[GUARD] = before
