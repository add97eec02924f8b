"""What was found where a saved checkpoint was compared with the live model of its recipe."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from evomerge.system.figures import percentage


@dataclass(frozen=True)
class Verification:
    """How a checkpoint compares with the live model of its recipe.

    Attributes:
        logit_difference: max |a - b| / max |a| over all positions of a prompt (a: live, b: checkpoint); the largest of
            all prompts.
        tolerance: the largest `logit_difference` that passes.
        equal_tokens: share of the greedy tokens, generated with a cache, that are the same at the same place.
        n_prompts: how many prompts were compared, given and random ones.
        n_tokens: how many greedy tokens were compared, over all prompts.
        dtype: the type of the checkpoint's weights.
        folded: whether the scales of a path were folded into the weights.
        without_epsilon: `logit_difference` where both run without the norms' epsilon; None: nothing was folded, or the
            folder holds other weights.
        epsilon_allowed: the largest `logit_difference` that passes if the norms' epsilon is its only reason.
        unseen: why no image was shown to a model that sees; "": one was, or it does not see.
        problems: everything else that is wrong, one sentence each: lost tensors, another tokenizer.
    """

    logit_difference: float
    tolerance: float
    equal_tokens: float
    n_prompts: int
    n_tokens: int
    dtype: str
    folded: bool
    problems: tuple[str, ...] = ()
    without_epsilon: float | None = None
    epsilon_allowed: float = 0.0
    unseen: str = ""

    @property
    def passed(self) -> bool:
        """Whether the checkpoint computes what the recipe does."""
        return not self.problems and (self.logit_difference <= self.tolerance or self.epsilon_only)  # NaN does not

    @property
    def epsilon_only(self) -> bool:
        """Whether the difference is more than rounding, but small, and comes from the norms' epsilon alone."""
        return (
            self.without_epsilon is not None
            and self.without_epsilon <= self.tolerance < self.logit_difference <= self.epsilon_allowed
            and self.equal_tokens == 1.0
        )

    def to_data(self) -> dict[str, Any]:
        """Return the JSON form; a difference that is not finite is None."""
        data = {**asdict(self), "passed": self.passed, "problems": list(self.problems)}
        if not math.isfinite(self.logit_difference):
            data["logit_difference"] = None
        return data

    @property
    def stated(self) -> str:
        """What is said of it in a card: what every machine finds, unlike last digits that follow the order of sums."""
        if self.epsilon_only:
            return (
                f"logits differ by at most {self.epsilon_allowed:.2g} of the largest one, on {self.n_prompts} prompts, "
                "by the epsilon of the norms alone, and no greedy token does"
            )
        return f"logits differ by at most {self.tolerance:.2g} of the largest one, on {self.n_prompts} prompts"

    def __str__(self) -> str:
        """Return one sentence with the numbers."""
        if not self.n_prompts:
            return "; ".join(["every weight compared, but no output, since the model reads no text", *self.problems])
        tokens = f", {percentage(self.equal_tokens)}% of {self.n_tokens} greedy tokens equal" if self.n_tokens else ""
        found = (
            f"largest relative {'logit' if tokens else 'output'} difference {self.logit_difference:.2g} "
            f"(allowed {self.tolerance:.2g}){tokens}, on {self.n_prompts} prompts"
        )
        if self.without_epsilon is not None and self.logit_difference > self.tolerance:
            found += f"; without the norms' epsilon the difference is {self.without_epsilon:.2g}"
        if self.unseen:
            found += f"; no image was shown: {self.unseen}"
        return "; ".join([found, *self.problems])
