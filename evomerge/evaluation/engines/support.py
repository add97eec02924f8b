"""What a model can do, found by trying it: not a list of names decides, but wrong results.

A few short made-up prompts go through the model plainly, and then as the engine would send them. If the logits differ,
the engine uses fewer features; in the end it leaves the model to lm-eval.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import IntEnum

import torch
from torch import Tensor

from evomerge.errors import EvaluationError, Interrupted
from evomerge.evaluation.engines.encoding import Likelihood
from evomerge.evaluation.engines.finite import require_finite
from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.kv_cache import all_attention, all_full
from evomerge.evaluation.engines.likelihood import by_context, score_packed
from evomerge.evaluation.engines.rows import Rows, read_prefix

log = logging.getLogger("evomerge.evaluation")


class Support(IntEnum):
    """What a model can do; each level includes the lower ones."""

    LM_EVAL = 0
    """Nothing that is known to be right, so lm-eval generates."""
    MASKED = 1
    """Greedy decoding of padded prompts with transformers' own cache."""
    RESERVED = 2
    """A cache written in place, shared prefixes, and options packed behind their context."""


def examine(forward: Forward) -> Support:
    """Try a model, from the highest level to the lowest, and return what it can do.

    Raises:
        Interrupted: if it is time to stop.
        EvaluationError: if its logits are not finite, so that nothing can be found.
    """
    model = forward.model
    kinds = forward.cache_kinds
    if not all_attention(kinds):
        names = ", ".join(sorted(kind.__name__ for kind in set(kinds)))
        log.warning("%s keeps other states than keys and values (%s): lm-eval generates, more slowly",
                    type(model).__name__, names)  # fmt: skip
        return Support.LM_EVAL
    vocabulary = int(getattr(model.config.get_text_config(decoder=True), "vocab_size", 0)) or 100
    prompts = [tuple((7 * i + 3 * n) % vocabulary for i in range(n)) for n in (13, 12, 8)]
    prompts = [prompts[0][:6] + prompt[6:] for prompt in prompts]
    following = [5 % vocabulary, 2 % vocabulary, 11 % vocabulary]
    expected = [_plain(forward, (*p, t))[-2:] for p, t in zip(prompts, following, strict=True)]
    expected_steps = torch.stack(expected, dim=1)  # (2, rows, vocabulary)
    tolerance = 2e-3 if model.dtype in (torch.float32, torch.float64) else 0.1

    def decoded(reserved: bool, n_prefix: int) -> bool:
        prefix = read_prefix(forward, prompts[0][:n_prefix]) if n_prefix else None
        rows = Rows(forward, prompts, [2, 2, 2], reserved=reserved, prefix=prefix)
        first = rows.read()
        second = rows.step(torch.tensor(following, device=forward.device))
        return _alike(torch.stack([first, second]), expected_steps, tolerance)

    def packed() -> bool:
        options = [prompts[0][6:9], prompts[1][8:11], prompts[2][3:4]]
        context = prompts[0][:6]
        answers = score_packed(forward, by_context([Likelihood(context, option) for option in options]))
        for index, option in enumerate(options):
            log_p = _plain(forward, context + option[:-1])[-len(option) :].float().log_softmax(dim=-1)
            total = float(log_p.gather(1, torch.tensor(option, device=log_p.device)[:, None]).sum())
            if abs(total - answers[index].log_probability) > tolerance * max(1.0, abs(total)):
                return False
        return True

    def full() -> bool:
        return all_full(kinds) and decoded(True, 0) and decoded(True, 6) and packed()

    if _holds(full):
        return Support.RESERVED
    if _holds(lambda: decoded(False, 0)):
        log.info("%s cannot share prompts between requests (windowed attention, or masks of its own)",
                 type(model).__name__)  # fmt: skip
        return Support.MASKED
    log.warning("%s gives other logits for padded prompts: lm-eval generates, more slowly", type(model).__name__)
    return Support.LM_EVAL


def _plain(forward: Forward, tokens: tuple[int, ...]) -> Tensor:
    logits = forward(torch.tensor([tokens], device=forward.device), keep=len(tokens))[0]  # (tokens, vocabulary)
    require_finite(logits.amax(dim=-1))
    return logits


def _alike(mine: Tensor, expected: Tensor, tolerance: float) -> bool:
    both = torch.stack([mine, expected]).float()
    both = both.masked_fill(both.isinf(), 0.0)  # vocabulary that the model masks
    return bool((both[0] - both[1]).abs().max() <= tolerance * expected.float().masked_fill(
        expected.isinf(), 0.0).abs().max().clamp(min=1e-6))  # fmt: skip


def _holds(trial: Callable[[], bool]) -> bool:
    try:
        return trial()
    except (Interrupted, EvaluationError):
        raise
    except Exception as error:  # a model's code that was not made for this may raise anything
        log.debug("trial failed: %s: %s", type(error).__name__, error)
        return False
