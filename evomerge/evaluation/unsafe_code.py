"""Code that a model writes: which tasks run it, and the one switch without which none of them does.

lm-eval marks such tasks by `unsafe_code`. Metrics of the library evaluate that run code (`code_eval`) are guarded by an
environment variable of their own, so they stay shut in unmarked tasks too, whatever the user's shell says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

GUARD = "HF_ALLOW_CODE_EVAL"
"""The environment variable without which the library evaluate refuses to run code; its errors name it."""


def runs_code(config: Mapping[str, Any]) -> bool:
    """Return whether a task's YAML says that it runs what the model writes.

    lm-eval takes any value but false for a mark.
    """
    listed = config.get("metric_list")
    metrics = [str(one.get("metric")) for one in listed or () if isinstance(one, Mapping)]
    return config.get("unsafe_code", False) is not False or any("code_eval" in name.split("/")[-1] for name in metrics)


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
