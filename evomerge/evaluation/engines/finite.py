"""The check that a candidate's logits are finite."""

from __future__ import annotations

from typing import Any

from evomerge.errors import EvaluationError


def require_finite(values: Any) -> None:
    """Check a tensor of largest logits, one per position, of any shape; this waits for the device once.

    Raises:
        EvaluationError: if one is NaN or infinite.
    """
    if not bool(values.isfinite().all()):
        raise EvaluationError(
            "the model's logits are not finite (NaN or infinity): its weights hold such values, "
            f"or are too large for {values.dtype}"
        )
