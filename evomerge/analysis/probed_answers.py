"""What the first answers of the parents say before a search: answers that are cut or empty tell of wrong settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evomerge.record import Caution, ItemScore

MANY = 0.5
"""From which share of a parent's answers on it is looked at, before the search and with its result."""


def probed_cautions(scores: Mapping[str, Sequence[ItemScore]], *, what: str = "probe answers") -> Iterator[Caution]:
    """Yield one if answers to some tasks were mostly cut by the limit, of at least one model, and one if empty.

    Args:
        scores: name of a model to the scores of its answers.
        what: what the answers are called.
    """
    cut, empty = [], []
    for task in dict.fromkeys(score.task for own in scores.values() for score in own):
        answers = {name: [score for score in own if score.task == task] for name, own in scores.items()}
        if whose := _mostly("cut_answers", answers):
            lengths = [score.metrics.get("generated_tokens", 0.0) for own in answers.values() for score in own
                       if score.metrics.get("cut_answers")]  # fmt: skip
            cut.append(f"{whose} to {task} at {max(lengths):.0f} tokens")
        if whose := _mostly("empty_answers", answers):
            empty.append(f"{whose} to {task}")
    if cut:
        yield Caution(
            "parent_answers",
            f"{what} were cut: {'; '.join(cut)}. Where the model should be good at the task, raise "
            "evaluation.tasks[].generation.max_gen_toks, set what ends an answer (until, a chat template), or, if it "
            "thinks before it answers, evaluation.chat.arguments.enable_thinking: false",
        )
    if empty:
        yield Caution(
            "parent_answers",
            f"{what} are empty: {'; '.join(empty)}. See whether the prompt, its chat template and the stop texts fit "
            "the model",
        )


def _mostly(measure: str, answers: Mapping[str, Sequence[ItemScore]]) -> str:
    """Return "8 of 8 of math, 5 of 8 of code": the models for which a measure is 1 on many of their answers."""
    found = []
    for name, own in answers.items():
        values = [score.metrics[measure] for score in own if measure in score.metrics]
        if values and sum(values) >= MANY * len(values):
            found.append(f"{sum(values):.0f} of {len(values)} of {name}")
    return ", ".join(found)
