"""What the first answers of the parents say before a search: answers that are cut or empty tell of wrong settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evomerge.record import Caution, ItemScore

MANY = 0.5
"""From which share of a parent's answers on it is said."""


def probed_cautions(scores: Mapping[str, Sequence[ItemScore]], *, what: str = "probe answers") -> Iterator[Caution]:
    """Yield one for each task whose answers were mostly cut by the limit, or empty, of at least one model.

    Args:
        scores: name of a model to the scores of its answers.
        what: what the answers are called.
    """
    tasks = dict.fromkeys(score.task for own in scores.values() for score in own)
    for task in tasks:
        answers = {name: [score for score in own if score.task == task] for name, own in scores.items()}
        cut = _mostly("cut_answers", answers)
        if cut:
            lengths = [score.metrics.get("generated_tokens", 0.0) for own in answers.values() for score in own
                       if score.metrics.get("cut_answers")]  # fmt: skip
            yield Caution(
                "cut_answers",
                f"{what} to {task} were cut at {max(lengths):.0f} tokens: {cut}; raise "
                "evaluation.tasks[].generation.max_gen_toks, set what ends an answer (until, a chat template), or, for "
                "a model that thinks before it answers, evaluation.chat.arguments.enable_thinking: false",
            )
        empty = _mostly("empty_answers", answers)
        if empty:
            yield Caution(
                "degenerate",
                f"{what} to {task} are empty: {empty}; see whether the prompt, its chat template and the stop texts "
                "fit these models",
            )


def _mostly(measure: str, answers: Mapping[str, Sequence[ItemScore]]) -> str:
    """Return "8 of 8 of math, 5 of 8 of code": the models for which a measure is 1 on many of their answers."""
    found = []
    for name, own in answers.items():
        values = [score.metrics[measure] for score in own if measure in score.metrics]
        if values and sum(values) >= MANY * len(values):
            found.append(f"{sum(values):.0f} of {len(values)} of {name}")
    return ", ".join(found)
