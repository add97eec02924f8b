"""From an exception to a message and an exit status: 2 bad input, 130 interrupt, 1 anything else."""

from __future__ import annotations

import sys
import traceback

from evomerge.errors import EvaluationError, EvomergeError, Interrupted


def report_failure(error: BaseException) -> int:
    """Print what went wrong to stderr and return the exit status; only a bug shows its traceback."""
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        print(f"evomerge: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130
    if isinstance(error, EvomergeError):
        print(f"evomerge: {error}", file=sys.stderr)
        return 1 if isinstance(error, EvaluationError) else 2
    traceback.print_exception(error)
    print("evomerge: this is a bug; please report it with the lines above", file=sys.stderr)
    return 1
