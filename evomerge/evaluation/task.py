"""What the user asks to be measured: tasks, metrics, directions, weights, and how the items are split.

Plain data; neither lm-eval nor torch is imported here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from evomerge.errors import ConfigError
from evomerge.record import Split

Direction: TypeAlias = Literal["maximize", "minimize"]
"""Whether a larger or a smaller value of a metric is better."""

DIRECTIONS: tuple[Direction, Direction] = ("maximize", "minimize")

Size: TypeAlias = int | float | None
"""How much of a pool of items a split takes: a count, a fraction in (0, 1), or None for what the others leave."""


@dataclass(frozen=True)
class TaskSpec:
    """One lm-eval task as part of an objective.

    Attributes:
        name: an lm-eval task, built-in or from a local YAML file; also the name under which scores are recorded.
        metric: a metric that the task reports per item, for example "exact_match" or "acc".
        filter: which of the task's filters the metric is taken after; None: the only one that the task has.
        weight: share of the task in a weighted sum; at least 0, where 0 means measured but not optimised.
        direction: "maximize" or "minimize"; None: as the task itself says (`higher_is_better` in its YAML).
        validation: another lm-eval task whose items form the validation split; None: items of `name`.
        test: another lm-eval task whose items form the test split; None: items of `name`.
        num_fewshot: number of solved examples in front of each question; None: as the task says.
    """

    name: str
    metric: str
    filter: str | None = None
    weight: float = 1.0
    direction: Direction | None = None
    validation: str | None = None
    test: str | None = None
    num_fewshot: int | None = None

    def source(self, split: Split) -> str:
        """Return the name of the lm-eval task that the items of a split are drawn from."""
        other = {Split.VALIDATION: self.validation, Split.TEST: self.test}.get(split)
        return self.name if other is None else other

    @property
    def sources(self) -> tuple[str, ...]:
        """The lm-eval tasks of the three splits, each once, the main one first."""
        return tuple(dict.fromkeys(self.source(split) for split in Split))

    def to_data(self) -> dict[str, Any]:
        """Return the fields as a JSON-able mapping; `TaskSpec(**data)` reads it back."""
        return asdict(self)


@dataclass(frozen=True)
class SplitSizes:
    """How many items each split takes from its pool: a count, a fraction in (0, 1), or None for the rest.

    Splits that share a pool (all three, unless `TaskSpec.validation` or `TaskSpec.test` name another task) are
    disjoint, and at most one of them may take the rest. Validation and test may be 0 (then nothing is measured there).
    """

    search: Size = None
    validation: Size = 0.2
    test: Size = 0.2

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
    """Return what is wrong with the specs themselves, one sentence per mistake; names are not looked up."""
    if not specs:
        return ["an objective needs at least one task, but none came"]
    problems = []
    for name, count in Counter(spec.name for spec in specs).items():
        if count > 1:
            problems.append(f"task {name!r} is listed {count} times; every task may be listed once")
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
    if not problems and not any(spec.weight > 0 for spec in specs):
        problems.append("every task has weight 0, so there is nothing to optimise; give at least one a weight above 0")
    return problems + _leaks(specs)


def _leaks(specs: Sequence[TaskSpec]) -> list[str]:
    """Find tasks whose items serve one spec's search and another's test: test items must never reach the search."""
    uses: dict[str, dict[Split, str]] = {}
    problems = []
    for spec in specs:
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
    """Read what `TaskSpec.to_data` wrote, one mapping per task."""
    return tuple(TaskSpec(**one) for one in data)
