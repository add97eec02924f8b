"""What the user asks to be measured: tasks, metrics, directions, weights, limits, and how the items are split.

An entry of `evaluation.tasks` (`TaskSpec`) says two things: which task is run (`Task`) and what is measured on it.
Entries that name the same task share its splits and its requests, so a second metric costs no second forward pass.

Plain data; neither lm-eval nor torch is imported here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

from evomerge.errors import ConfigError, unknown_name
from evomerge.evaluation.floor import Floor, floor_from_data
from evomerge.record import Split

Direction: TypeAlias = Literal["maximize", "minimize"]
"""Whether a larger or a smaller value of a metric is better."""

DIRECTIONS: tuple[Direction, Direction] = ("maximize", "minimize")

Size: TypeAlias = int | float | None
"""How much of a pool of items a split takes: a count, a fraction in (0, 1), or None for what other splits leave."""


NEGATIVE_FLIPS = "negative_flips"
"""Metric: the items that a baseline has right and the candidate has wrong."""

SUM, WORST = "sum", "worst"
"""How entries become one objective: their weighted sum, or the worst of them, each relative to its best parent."""

ENTROPY = "entropy"
"""Metric: how undecided the model is among the options, in nats; see `measures.entropy`."""

FOREIGN_SCRIPT = "foreign_script"
"""Metric: the answers in a script in which no parent answered the item; see `measures.script`."""

PYTHON = "python:"
"""The beginning of the name of a metric that a function of the user computes."""

ANSWER = "_answer"
"""The name under which an item keeps its answer as a number; as it begins with an underscore, it is no metric."""

SCRIPT = "_script"
"""The name under which an item keeps the script of its answer as a number; no metric, either."""

NOT_JUDGED = "_not_judged"
"""The name under which an item is kept that was answered, but has no value of any metric of its task."""

COLLAPSE_MARGIN = 0.1
"""By how much the share of the commonest answer may exceed that of every baseline, unless an entry says otherwise."""

_OF_THE_TASK = ("validation", "test", "num_fewshot", "generation")
"""The keys that the entries of one task have in common besides its name."""

_OTHER_LENGTHS = ("max_new_tokens", "max_tokens", "max_completion_tokens", "max_length", "min_length")
"""Names for an answer's length that lm-eval reads only where there is no `max_gen_toks`, or reads in its own way."""


@dataclass(frozen=True)
class Task:
    """What is run: an lm-eval task, and the tasks from which its splits are drawn.

    Attributes:
        name: an lm-eval task, built-in or from a local YAML file; also the name under which scores are recorded.
        validation: another lm-eval task whose items form the validation split; None: items of `name`.
        test: another lm-eval task whose items form the test split; None: items of `name`.
        num_fewshot: number of solved examples in front of each question; None: as the task says.
        generation: settings that take the place of those in the task's generation_kwargs; None: all as the task says.
    """

    name: str
    validation: str | None = None
    test: str | None = None
    num_fewshot: int | None = None
    generation: Mapping[str, Any] | None = field(default=None, hash=False)

    def source(self, split: Split) -> str:
        """Return the name of the lm-eval task that the items of a split are drawn from."""
        other = {Split.VALIDATION: self.validation, Split.TEST: self.test}.get(split)
        return self.name if other is None else other

    @property
    def sources(self) -> tuple[str, ...]:
        """The lm-eval tasks of the three splits, each once, the main one first."""
        return tuple(dict.fromkeys(self.source(split) for split in Split))


@dataclass(frozen=True)
class Constraint:
    """A limit that the mean of a metric must keep: a maximum or a minimum."""

    max: float | None = None
    min: float | None = None

    def __str__(self) -> str:
        return f"at most {self.max:g}" if self.max is not None else f"at least {self.min:g}"

    def violation(self, mean: float) -> float:
        """Return by how much a mean exceeds the limit, in units of the limit (unless that is 0); 0 if it does not."""
        limit, beyond = (self.max, 1.0) if self.max is not None else (self.min or 0.0, -1.0)
        return max(0.0, beyond * (mean - limit)) / (abs(limit) or 1.0)


@dataclass(frozen=True)
class TaskSpec:
    """One entry of an objective: an lm-eval task, and what is measured on it.

    Attributes:
        name, validation, test, num_fewshot, generation: the task; see `Task`. Entries of the same task need to say the
            last four once (`shared`).
        metric: a metric that the task reports per item, for example "exact_match" or "acc"; one of `measures`, for
            example "generated_tokens"; "negative_flips"; or "python:MODULE:FUNCTION", "python:FILE.py:FUNCTION".
        filter: the task's filter after which the metric is taken; None: the only one that the task has.
        weight: weight in the weighted sum, at least 0; with 0 the metric is measured but not optimised.
        direction: "maximize" or "minimize"; None: as the task itself says (`higher_is_better` in its YAML).
        constraint: a limit for the mean, in place of a weight in an objective (the weight is 0 then).
        reference: for negative flips, the baseline with which the candidate is compared.
        of: for negative flips, the metric of the task, 0 or 1 per item, that says whether an answer is right.
        collapse_margin: for entropy, by how much the share of the commonest answer may exceed the largest baseline's;
            1 switches the guard off, None is `COLLAPSE_MARGIN`.
        objective: the name, chosen by the user, of the objective of which it is a term; entries without one share one.
        floor: the least that the mean may be, while the entry keeps its weight; of a metric to maximize.
    """

    name: str
    metric: str
    filter: str | None = None
    weight: float = 1.0
    direction: Direction | None = None
    validation: str | None = None
    test: str | None = None
    num_fewshot: int | None = None
    generation: Mapping[str, Any] | None = field(default=None, hash=False)
    constraint: Constraint | None = None
    reference: str | None = None
    of: str | None = None
    collapse_margin: float | None = None
    objective: str | None = None
    floor: Floor | None = None

    @property
    def task(self) -> Task:
        """What is run."""
        return Task(self.name, self.validation, self.test, self.num_fewshot, self.generation)

    def source(self, split: Split) -> str:
        """Return the name of the lm-eval task that the items of a split are drawn from."""
        return self.task.source(split)

    @property
    def sources(self) -> tuple[str, ...]:
        """The lm-eval tasks of the three splits, each once, the main one first."""
        return self.task.sources

    @property
    def label(self) -> str:
        """What is measured, in words, for example "gsm8k, exact_match"; unique except for a limit on the same."""
        metric = self.metric if self.filter in (None, "none") else f"{self.metric} after {self.filter}"
        against = f" against {self.reference} in {self.of}" if self.reference else ""
        return f"{self.name}, {metric}{against}"

    def to_data(self) -> dict[str, Any]:
        """Return the fields as JSON data; `specs_from_data` reads it back."""
        return asdict(self)


@dataclass(frozen=True)
class SplitSizes:
    """How many items each split takes from its pool: a count, a fraction in (0, 1), or None for the rest.

    Splits that share a pool (all three, unless `TaskSpec.validation` or `TaskSpec.test` name another task) are
    disjoint, and at most one of them may take the rest. Validation and test may be 0: nothing is measured there then.

    Raises:
        ConfigError: with the first size that is none of these.
    """

    search: Size
    validation: Size
    test: Size

    def __post_init__(self) -> None:
        for split in Split:
            size = self.of(split)
            if size is None:
                continue
            least = 1 if split is Split.SEARCH else 0
            whole = isinstance(size, int) and not isinstance(size, bool) and size >= least
            fraction = isinstance(size, float) and 0.0 < size < 1.0
            if not (whole or fraction):
                raise ConfigError(
                    f"the size of the {split} split must be a whole number of at least {least}, a fraction between 0 "
                    f"and 1, or null for the rest, but came {size!r}"
                )

    def of(self, split: Split) -> Size:
        """Return the size of one split."""
        return {Split.SEARCH: self.search, Split.VALIDATION: self.validation, Split.TEST: self.test}[split]


def spec_problems(specs: Sequence[TaskSpec]) -> list[str]:
    """Return every mistake of the specs themselves, one sentence each; names are not looked up."""
    if not specs:
        return ["an objective needs at least one task, but none came"]
    problems = list(_repeated(specs))
    for spec in specs:
        weight: Any = spec.weight
        number = isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)
        if not number or weight < 0:
            problems.append(
                f"task {spec.name!r}: the weight must be a finite number of at least 0, but came {weight!r} "
                "(to make small values better, set `direction: minimize`)"
            )
        if spec.direction is not None and spec.direction not in DIRECTIONS:
            problems.append(
                f"task {spec.name!r}: the direction must be 'maximize', 'minimize' or null (as the task says), "
                f"but came {spec.direction!r}"
            )
        shots: Any = spec.num_fewshot
        if shots is not None and (not isinstance(shots, int) or isinstance(shots, bool) or shots < 0):
            problems.append(f"task {spec.name!r}: num_fewshot must be a whole number of at least 0, but came {shots!r}")
        problems += [f"task {spec.name!r}: {one}" for one in generation_problems(spec.generation or {}, "generation")]
        problems += _constraint_problems(spec)
        problems += _floor_problems(spec)
        problems += _option_problems(spec)
        named: Any = spec.objective
        if named is not None and (not isinstance(named, str) or not named.strip()):
            problems.append(f"task {spec.name!r}: `objective` must be a name for what is improved, but came {named!r}")
    if not problems:
        weighing = {spec.objective for spec in specs if spec.weight > 0}
        if not weighing:
            problems.append(
                "every task has weight 0, so there is nothing to optimise; give at least one a weight above 0"
            )
        problems += [
            f"objective {name!r} has no task with a weight above 0, so there is nothing to improve in it"
            for name in dict.fromkeys(spec.objective for spec in specs)
            if weighing and name is not None and name not in weighing
        ]
    return problems + _leaks(specs)


def samples(settings: Mapping[str, Any]) -> bool:
    """Return whether lm-eval draws answers at random by these generation_kwargs, by its own rules.

    A temperature alone turns sampling on, and `do_sample: false` always turns it off.

    Raises:
        TypeError, ValueError: if the temperature is no number.
    """
    said = settings.get("do_sample")
    return bool(float(settings.get("temperature") or 0.0) > 0.0 if said is None else said)


def generation_problems(settings: Mapping[str, Any], where: str) -> list[str]:
    """Return every mistake of settings that take the place of a task's own generation_kwargs, one clause each.

    Args:
        settings: the settings; what they mean to transformers is not looked at.
        where: what the user calls them.
    """
    problems = []
    try:
        if samples(settings):
            problems.append(
                f"`{where}` asks for sampled answers (do_sample or temperature), but answers must be the same each "
                "time, since models are compared by them; leave it out, or set do_sample: false"
            )
    except (TypeError, ValueError):
        problems.append(f"`{where}`: temperature must be a number, but came {settings['temperature']!r}")
    length: Any = settings.get("max_gen_toks")
    if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 1):
        problems.append(f"`{where}`: max_gen_toks must be a whole number of at least 1, but came {length!r}")
    until: Any = settings.get("until")
    texts = until if isinstance(until, (list, tuple)) else [until]
    if until is not None and not all(isinstance(text, str) for text in texts):
        problems.append(f"`{where}`: until must be a text or a list of texts, but came {until!r}")
    problems += [
        f"`{where}`: {name} is not how lm-eval says how long an answer may be; call it max_gen_toks (its tokens, "
        "without the prompt)"
        for name in _OTHER_LENGTHS
        if name in settings
    ]
    return problems


def combination_problems(specs: Sequence[TaskSpec], combination: str) -> list[str]:
    """Return one sentence for each spec that does not fit how the entries become one objective."""
    if combination not in (SUM, WORST):
        return [unknown_name("way to make one objective of the tasks", combination, (SUM, WORST))]
    return [
        f"task {spec.name!r}: `evaluation.objective: {WORST}` makes one objective of all entries, so an "
        f"entry has no objective of its own; leave its `objective: {spec.objective}` out"
        for spec in specs
        if combination == WORST and spec.objective is not None
    ]


def idle_weights(specs: Sequence[TaskSpec], combination: str) -> str | None:
    """Return a sentence if the entries differ in weights that play no part; None: they do not."""
    weights = [spec.weight for spec in specs if spec.weight > 0.0]
    if combination != WORST or len(set(weights)) < 2:
        return None
    return (
        f"evaluation.objective is {WORST}, for which every task with a weight counts alike: the weights "
        f"{', '.join(f'{weight:g}' for weight in weights)} have no effect; make them equal, or choose "
        f"evaluation.objective: {SUM}"
    )


def reference_problems(specs: Sequence[TaskSpec], baselines: Collection[str]) -> list[str]:
    """Return one sentence for each spec that compares with a baseline that does not exist."""
    return [
        unknown_name(f"baseline in `reference` of task {spec.name!r}:", spec.reference, baselines)
        for spec in specs
        if spec.reference is not None and spec.reference not in baselines
    ]


def shared(specs: Sequence[TaskSpec]) -> tuple[TaskSpec, ...]:
    """Return the specs, each with the validation, test and num_fewshot that any entry of its task names."""
    said: dict[str, dict[str, Any]] = {}
    for spec in specs:
        for key in _OF_THE_TASK:
            if getattr(spec, key) is not None:
                said.setdefault(spec.name, {}).setdefault(key, getattr(spec, key))
    return tuple(replace(spec, **said.get(spec.name, {})) for spec in specs)


def _repeated(specs: Sequence[TaskSpec]) -> Iterator[str]:
    """Yield a sentence for entries that measure the same twice, or that disagree on what is run for their task."""
    seen = Counter(
        (spec.name, spec.metric, spec.filter, spec.reference, spec.of, spec.constraint is None) for spec in specs
    )
    for (name, metric, *_), count in seen.items():
        if count > 1:
            yield f"metric {metric!r} of task {name!r} is listed {count} times; list every metric of a task once"
    for name in dict.fromkeys(spec.name for spec in specs):
        for key in _OF_THE_TASK:
            values: list[Any] = []
            for spec in specs:
                value = getattr(spec, key)
                if spec.name == name and value is not None and value not in values:
                    values.append(value)
            if len(values) > 1:
                yield (
                    f"task {name!r}: its entries do not agree on `{key}`: {', '.join(map(repr, values))}; they share "
                    "their items and prompts, so one value must do for all"
                )


def _constraint_problems(spec: TaskSpec) -> Iterator[str]:
    if spec.constraint is None:
        return
    limits: list[Any] = [limit for limit in (spec.constraint.max, spec.constraint.min) if limit is not None]
    if len(limits) != 1:
        yield f"task {spec.name!r}: a constraint has either max or min, but {len(limits)} of them came"
    for limit in limits:
        if not isinstance(limit, (int, float)) or isinstance(limit, bool) or not math.isfinite(limit):
            yield f"task {spec.name!r}: the limit of a constraint must be a finite number, but came {limit!r}"
    if spec.objective is not None:
        yield (
            f"task {spec.name!r}: {spec.metric!r} has a constraint and is a term of the objective {spec.objective!r}; "
            "a limit is no term. To improve the metric as well, list it a second time"
        )
    if spec.weight:
        yield (
            f"task {spec.name!r}: {spec.metric!r} has a constraint and a weight of {spec.weight!r}; a constraint "
            "has no weight. To optimise the metric as well, list it a second time"
        )


def _floor_problems(spec: TaskSpec) -> Iterator[str]:
    if spec.floor is None:
        return
    for problem in spec.floor.problems():
        yield f"task {spec.name!r}: {problem}"
    if spec.constraint is not None:
        yield (
            f"task {spec.name!r}: {spec.metric!r} has a constraint and a floor; a constraint is the whole entry, a "
            "floor keeps its weight: leave one of them out"
        )
    yield from floor_direction_problems(spec)


def floor_direction_problems(spec: TaskSpec) -> Iterator[str]:
    """Yield a sentence if an entry whose direction is known to be "minimize" has a floor."""
    if spec.floor is not None and spec.constraint is None and spec.direction == "minimize":
        yield (
            f"task {spec.name!r}: {spec.metric!r} is to be small, so it has no floor; list it a second time with "
            "`constraint: {max: …}` to limit it"
        )


def _option_problems(spec: TaskSpec) -> Iterator[str]:
    """Yield a sentence for options of a metric that are missing, or that belong to another metric."""
    flips = spec.metric == NEGATIVE_FLIPS
    if flips and not spec.reference:
        yield f"task {spec.name!r}: {NEGATIVE_FLIPS!r} needs `reference`, the baseline to compare with, like a parent"
    if flips and not spec.of:
        yield f"task {spec.name!r}: {NEGATIVE_FLIPS!r} needs `of`, the metric that says what is right, like exact_match"
    for key in ("reference", "of"):
        if getattr(spec, key) is not None and not flips:
            yield f"task {spec.name!r}: `{key}` is an option of {NEGATIVE_FLIPS!r}, not of {spec.metric!r}"
    margin: Any = spec.collapse_margin
    if margin is None:
        return
    if spec.metric != ENTROPY:
        yield f"task {spec.name!r}: `collapse_margin` is an option of {ENTROPY!r}, not of {spec.metric!r}"
    if not isinstance(margin, (int, float)) or isinstance(margin, bool) or not 0.0 <= margin <= 1.0:
        yield f"task {spec.name!r}: collapse_margin must be a number from 0 to 1, but came {margin!r}"


def _leaks(specs: Sequence[TaskSpec]) -> list[str]:
    """Return a sentence for each task whose items serve different splits: test items must never reach the search."""
    uses: dict[str, dict[Split, str]] = {}
    problems = []
    for spec in shared(specs):
        for split in Split:
            source = spec.source(split)
            for other_split, other in uses.setdefault(source, {}).items():
                if other != spec.name and other_split != split:
                    problems.append(
                        f"items of {source!r} would serve as {other_split} items of task {other!r} and as {split} "
                        f"items of task {spec.name!r}; draw one of the two from another task"
                    )
            uses[source].setdefault(split, spec.name)
    return problems


def specs_from_data(data: Sequence[Mapping[str, Any]]) -> tuple[TaskSpec, ...]:
    """Return the specs that `TaskSpec.to_data` wrote, from one mapping per entry."""
    return tuple(
        TaskSpec(
            **{
                **one,
                "constraint": Constraint(**one["constraint"]) if one.get("constraint") else None,
                "floor": floor_from_data(one.get("floor")),
            }
        )
        for one in data
    )
