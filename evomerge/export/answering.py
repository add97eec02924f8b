"""Every export generates before it appears: the finished folder, loaded as its users will, answers a few prompts.

Answers that are cut, empty or repeating beside its parents' are a refusal (see `evomerge.analysis.short_answers`). What
parents answered stands in the run. Where it does not, or there is no run, they are asked too, but only if there is
something to compare: a model with hardly a bad answer needs no comparison.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evomerge.analysis.short_answers import (
    LOOKS,
    MEASURES,
    SUSPICIOUS,
    ShortAnswer,
    Worse,
    bad_answers,
    is_bad_parent,
    is_suspicious,
    worse_than_parents,
)
from evomerge.errors import CheckpointError, EvomergeError, ExportError
from evomerge.export.generate import Loaded, generate, load_folder
from evomerge.export.questions import Question
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, Parent, Recipe
from evomerge.system.faults import PASSED_ON
from evomerge.system.figures import percentage
from evomerge.system.text import error_text

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Answering:
    """How a folder answered.

    Attributes:
        n: to how many prompts.
        shares: measure to the share of its answers that are bad.
        parents: name to the same of each parent with which it was compared.
        worse: in what it is worse than each of these parents.
        problem: why it could not answer at all, in words; None: it did.
        own_tasks: whether the prompts were those of the run's tasks.
    """

    n: int
    shares: Mapping[str, float]
    parents: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    worse: tuple[Worse, ...] = ()
    problem: str | None = None
    own_tasks: bool = True

    @property
    def passed(self) -> bool:
        """Whether it answers as well as one of its parents that answer well."""
        return not self.worse and self.problem is None

    def __str__(self) -> str:
        """Return one sentence with the shares."""
        if self.problem is not None:
            return self.problem
        if self.worse:
            return "; ".join(map(str, self.worse))
        kind = "prompts of its tasks" if self.own_tasks else "prompts"
        return f"of its answers to {self.n} {kind}, {_shares(self.shares)}" + "".join(
            f"; of {name}'s, {_shares(shares)}" for name, shares in self.parents.items()
        )


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{percentage(share)} % {MEASURES[name]}" for name, share in shares.items())


def answering(
    folder: Path,
    recipe: Recipe,
    questions: Sequence[Question],
    *,
    sources: Sources,
    own_tasks: bool = True,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Answering | None:
    """Ask a finished folder, and its parents where that is needed.

    Cost: at most `LOOKS[-1]` answers of the folder and of each parent whose answers are not known; a model at a time
    is in memory.

    Args:
        folder: the folder.
        recipe: what it was built from, whose parents it is compared with.
        questions: what is asked; the first `LOOKS[0]`, and all of them if these answers look worse than the parents'.
        sources: opened models to share.
        own_tasks: whether the questions are those of its run's tasks.
        trust_remote_code: whether code may run that comes with the folder.
        progress: called with (tokens made, at most so many) for each model.

    Returns:
        How it answered; None: it is no model that generates.
    """
    questions = list(questions)
    try:
        model = load_folder(folder, trust_remote_code=trust_remote_code)
        if not model.can_generate or not questions:
            return None
        own = generate(model, questions[: LOOKS[0]], progress)
    except PASSED_ON:
        raise
    except Exception as error:  # whatever transformers raises where a folder cannot be used
        return Answering(0, {}, problem=f"it cannot answer: {error_text(error)}", own_tasks=own_tasks)
    encode, decode = model.count_and_cut()
    del model
    gc.collect()
    parents = _Parents(recipe, sources, encode, decode, progress)
    bad = bad_answers(own)
    if max(map(sum, bad.values())) < SUSPICIOUS:
        return Answering(len(own), _means(bad), own_tasks=own_tasks)
    beside = parents.bad(questions[: len(own)])
    worse = worse_than_parents(bad, beside)
    if not worse and is_suspicious(bad, beside) and len(questions) > len(own):
        rest = generate(load_folder(folder, trust_remote_code=trust_remote_code), questions[len(own) :], progress)
        bad = bad_answers([*own, *rest])
        beside = parents.bad(questions)
        worse = worse_than_parents(bad, beside)
    shares = {name: _means(one) for name, one in beside.items()}
    return Answering(len(bad["empty_answers"]), _means(bad), shares, tuple(worse), own_tasks=own_tasks)


def refusal(found: Answering, out: Path) -> ExportError:
    """Return the error of a folder whose answers are not good enough."""
    if found.problem is not None:
        return ExportError(f"the finished model was asked before {out} appears, but {found.problem}")
    return ExportError(
        f"the finished model was asked before {out} appears, and answers worse than its parents: {found}. "
        "`evomerge answers` shows what it said in the run; --force writes the folder all the same"
    )


class _Parents:
    """What the parents answer: as the run knows it, else as they answer now, each question once."""

    def __init__(
        self,
        recipe: Recipe,
        sources: Sources,
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[Sequence[int]], str],
        progress: Progress | None,
    ) -> None:
        self._recipe, self._sources = recipe, sources
        self._encode, self._decode, self._progress = encode, decode, progress
        self._made: dict[str, list[ShortAnswer]] = {}

    def bad(self, questions: Sequence[Question]) -> dict[str, dict[str, list[bool]]]:
        """Return by parent and measure which answers are bad; those that answer badly, or not at all, are left out."""
        known = [name for name in questions[0].answers if all(name in one.answers for one in questions)]
        if known:
            whole = {
                name: bad_answers([self._shortened(one.answers[name], one.limit) for one in questions])
                for name in known
            }
            return {
                name: bad_answers([self._shortened(one.answers[name], one.max_new_tokens) for one in questions])
                for name in known
                if not is_bad_parent(whole[name])
            }
        asked = {parent.name: self._asked(parent, questions) for parent in self._recipe.parents}
        bad = {name: bad_answers(answers) for name, answers in asked.items() if answers is not None}
        return {name: one for name, one in bad.items() if not is_bad_parent(one)}

    def _shortened(self, text: str, limit: int) -> ShortAnswer:
        """Return a known answer as it would be with a lower limit of tokens."""
        tokens = self._encode(text)
        if len(tokens) < limit:
            return ShortAnswer(text, cut=False)
        return ShortAnswer(text if len(tokens) == limit else self._decode(tokens[:limit]), cut=True)

    def _asked(self, parent: Parent, questions: Sequence[Question]) -> list[ShortAnswer] | None:
        from evomerge.merge.live.models import LiveModels

        made = self._made.setdefault(parent.name, [])
        if len(made) < len(questions):
            live = LiveModels(sources=self._sources)
            try:
                live.write(Recipe(method=PASSTHROUGH, parents=(parent,)))
                made += generate(Loaded(live.model, live.tokenizer), questions[len(made) :], self._progress)
            except (EvomergeError, CheckpointError):
                return None  # a base without a tokenizer, say
        return made[: len(questions)]


def _means(bad: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    return {name: sum(values) / len(values) for name, values in bad.items()}
