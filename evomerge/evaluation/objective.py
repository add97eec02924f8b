"""One number per candidate: the weighted sum of the tasks' means, larger is better.

    fitness = sum_k  w_k / sum_j w_j  *  s_k  *  mean_i metric_k(i),      s_k = +1 to maximize, -1 to minimize

So with one task to maximize the fitness is its mean; with one task to minimize, minus its mean. Metrics are not
rescaled: tasks on different scales (an accuracy, a log-perplexity) need weights that say what a unit of each is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation.intervals import mean_score, weighted_sum
from evomerge.evaluation.task import TaskSpec, spec_problems
from evomerge.record import ItemScore, Score


class Objective:
    """Turns the item scores of a candidate into its fitness and its score.

    Attributes:
        specs: the tasks, each with its direction.
        weights: signed weights `s_k w_k / sum_j w_j`, in the order of `specs`.
    """

    def __init__(self, specs: Sequence[TaskSpec]) -> None:
        """Take specs whose directions are known, such as `LmHarness.specs`.

        Raises:
            ConfigError: on a bad weight or an unknown direction.
        """
        problems = spec_problems(specs)
        problems += [
            f"task {spec.name!r}: the objective needs a direction, 'maximize' or 'minimize'"
            for spec in specs
            if spec.direction is None
        ]
        if problems:
            raise ConfigError(problems)
        self.specs = tuple(specs)
        total = math.fsum(spec.weight for spec in specs)
        self.weights = tuple(
            (1.0 if spec.direction == "maximize" else -1.0) * spec.weight / total for spec in self.specs
        )

    def fitness(self, scores: Sequence[ItemScore]) -> float:
        """Return the weighted sum of the tasks' means; larger is better.

        Raises:
            EvaluationError: as `task_scores`.
        """
        means = [math.fsum(values) / len(values) for values in self._values(scores).values()]
        return math.fsum(w * mean for w, mean in zip(self.weights, means, strict=True))

    def score(self, scores: Sequence[ItemScore]) -> Score:
        """Return the fitness with its 95 % interval (see `intervals`), and the number of items in all tasks.

        Raises:
            EvaluationError: as `task_scores`.
        """
        return weighted_sum(list(self.task_scores(scores).values()), self.weights)

    def task_scores(self, scores: Sequence[ItemScore]) -> dict[str, Score]:
        """Return each task's plain mean, in the metric's own unit and direction, with its 95 % interval.

        Raises:
            EvaluationError: if a task has no items, lacks its metric, or has a value that is not finite.
        """
        return {name: mean_score(values) for name, values in self._values(scores).items()}

    def answers(self, scores: Sequence[ItemScore]) -> dict[str, dict[int, float]]:
        """Return term name to item to value, in the metric's own unit and direction; terms may lack items.

        Raises:
            EvaluationError: if an item lacks its metric, or a value is not finite.
        """
        values: dict[str, dict[int, float]] = {}
        for score in scores:
            values.setdefault(score.task, {})[score.item] = self.item_value(score)
        return values

    def item_value(self, score: ItemScore) -> float:
        """Return the objective's metric of one item, in its own direction.

        Raises:
            EvaluationError: if the item lacks the metric, or the value is not finite.
        """
        spec = next((spec for spec in self.specs if spec.name == score.task), None)
        if spec is None:
            raise EvaluationError(
                f"an item of task {score.task!r} came, but the objective has the tasks "
                f"{', '.join(spec.name for spec in self.specs)}"
            )
        return _value(spec, score)

    def _values(self, scores: Sequence[ItemScore]) -> dict[str, list[float]]:
        specs = {spec.name: spec for spec in self.specs}
        values: dict[str, list[float]] = {name: [] for name in specs}
        for score in scores:
            if score.task in specs:
                values[score.task].append(_value(specs[score.task], score))
            else:
                self.item_value(score)  # raises, naming the tasks
        for name, found in values.items():
            if not found:
                raise EvaluationError(f"task {name!r} has no scored items, so the objective is undefined")
        return values


def metric_key(metric: str, filter_name: str | None, metrics: Mapping[str, object]) -> str | None:
    """Return the key of a metric in an item's `metrics`: "metric", or "metric,filter" in a task with several filters.

    Returns:
        None if the item has no such metric.
    """
    full = f"{metric},{filter_name}"
    if filter_name is not None and full in metrics:
        return full
    return metric if metric in metrics else None


def _value(spec: TaskSpec, score: ItemScore) -> float:
    key = metric_key(spec.metric, spec.filter, score.metrics)
    if key is None:
        raise EvaluationError(
            f"task {spec.name!r}, item {score.item}: no metric {spec.metric!r}; "
            f"the item has {', '.join(sorted(score.metrics)) or 'none'}"
        )
    value = float(score.metrics[key])
    if not math.isfinite(value):
        raise EvaluationError(f"task {spec.name!r}, item {score.item}: metric {spec.metric!r} is {value}")
    return value
