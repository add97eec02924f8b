"""How undecided a model is among the options: an objective that needs no labels.

AdaMerging (Yang et al., arXiv 2310.02575) learns merge weights by minimizing the Shannon entropy of the
predictions on unlabelled items, H = - sum_k p_k ln p_k, since confident predictions of fine-tuned models tend to be
right ones. Here p is the softmax of the options' log-probabilities, the same numbers whose largest `acc` takes as the
answer.

Entropy has a trivial minimum: a model that gives every item the same answer, with certainty. So each item also notes
its answer as a number, and a candidate breaks a limit if the share of its commonest answer exceeds that of every
baseline by more than a margin (`Objectives`). The diversity term of information maximization (SHOT, Liang et al., arXiv
2002.08546), which adds the negated entropy of the mean prediction, aims at the same failure. But it rewards a uniform
use of the options, which is wrong where the right answers are not uniform, and trades diversity against confidence at
any level. A bound relative to the baselines allows unbalanced answers, and acts only when a model collapses.

The guard does not see a model that is certain of everything and gives varied answers, as too large weights can cause.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from evomerge.evaluation.measures.base import Answered, Measure
from evomerge.evaluation.task import ANSWER
from evomerge.evaluation.task import ENTROPY as NAME


def entropy(item: Answered) -> dict[str, float]:
    """Return the entropy in nats, between 0 and ln(number of options), and the answer as a number."""
    log_probabilities = [float(response[0]) for response in item.responses if isinstance(response, tuple)]
    best = log_probabilities.index(max(log_probabilities))
    return {NAME: softmax_entropy(log_probabilities), ANSWER: answer_number(item.options, best)}


def softmax_entropy(log_weights: Sequence[float]) -> float:
    """Return the entropy in nats of the distribution with these unnormalised log-probabilities."""
    top = max(log_weights)
    weights = [math.exp(value - top) for value in log_weights]
    total = math.fsum(weights)
    # H = ln Z - sum_k p_k l_k with l_k = log_weights - top; a weight that underflows to 0 adds nothing.
    spread = math.fsum(w * (value - top) for w, value in zip(weights, log_weights, strict=True) if w > 0.0)
    return max(0.0, math.log(total) - spread / total)


def answer_number(options: Sequence[str], chosen: int) -> float:
    """Return a number that stands for the chosen option's text, the same in every process: 48 bits of its BLAKE2 hash.

    The number is that of the text rather than of its place, so that "yes" is one answer wherever it stands. Where all
    options of an item have the same text (and the questions differ), the place is the answer.
    """
    if len(set(options)) == 1:
        return float(chosen)
    return float(int.from_bytes(hashlib.blake2b(options[chosen].encode(), digest_size=6).digest(), "big"))


ENTROPY = Measure(NAME, "minimize", ("multiple_choice",), entropy)
