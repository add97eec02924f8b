"""What one entry of an objective measures on a task: a metric of the task, a measure, or negative flips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from evomerge.errors import ConfigError, unknown_name
from evomerge.evaluation.measures.base import Measure
from evomerge.evaluation.measures.registry import find_measure, measures_of
from evomerge.evaluation.metrics import Metric
from evomerge.evaluation.task import NEGATIVE_FLIPS, Direction, TaskSpec, floor_direction_problems


def resolve(
    spec: TaskSpec, source: str, output_type: str, metrics: Mapping[str, Metric], filters: Sequence[str]
) -> tuple[TaskSpec, list[str]]:
    """Fill in a spec's filter and direction from a task, or say what is wrong.

    Args:
        spec: the entry.
        source: the task's name.
        output_type: lm-eval's kind of the task.
        metrics: the metrics that the task reports, by name; they go before measures of the same name.
        filters: the names of the task's filters.

    Returns:
        The spec, and its mistakes, one sentence each; with any mistake, the spec is as it came.
    """
    found, problems = _resolve(spec, source, output_type, metrics, filters)
    problems += floor_direction_problems(found)  # now that its direction is known
    return (spec, problems) if problems else (found, [])


def _resolve(
    spec: TaskSpec, source: str, output_type: str, metrics: Mapping[str, Metric], filters: Sequence[str]
) -> tuple[TaskSpec, list[str]]:
    if spec.metric == NEGATIVE_FLIPS:
        return _resolve_flips(spec, source, metrics, filters)
    if spec.metric not in metrics:
        try:
            measure = find_measure(spec.metric)
        except ConfigError as error:
            return spec, list(error.problems)
        if measure is not None:
            return _resolve_measure(spec, source, output_type, measure)
    problems = []
    filter_name, wrong = _filter(spec, source, spec.metric, filters)
    problems += wrong
    own = _own(spec.metric, metrics)
    direction = _direction(spec, None if own is None else own.direction)
    if own is None:
        usable = [name for name, one in metrics.items() if one.per_item is not False]
        known = {*usable, *measures_of(output_type), NEGATIVE_FLIPS}
        problems.append(
            unknown_name(f"metric of task {source!r}:", spec.metric, known)
            + "; or python:MODULE:FUNCTION, a function of yours"
        )
    elif own.per_item is False:
        problems.append(f"task {source!r}, metric {spec.metric!r}: {own.reason}")
    elif direction is None and own.per_item:
        problems.append(_no_direction(spec, f"task {source!r} does not say"))
    return (spec, problems) if problems else (replace(spec, filter=filter_name, direction=direction), [])


def function_problems(metric: str) -> list[str]:
    """Return why a user's function cannot serve as a metric, one sentence each; nothing for other metrics."""
    try:
        find_measure(metric)
    except ConfigError as error:
        return list(error.problems)
    return []


def measures_on(names: Iterable[str], output_type: str, metrics: Mapping[str, Metric]) -> tuple[Measure, ...]:
    """Return those of the named measures that can be taken on a task and that the task does not report itself."""
    found = (find_measure(name) for name in dict.fromkeys(names) if name not in metrics)
    return tuple(one for one in found if one is not None and output_type in one.output_types)


def _resolve_measure(spec: TaskSpec, source: str, output_type: str, measure: Measure) -> tuple[TaskSpec, list[str]]:
    problems = []
    if output_type not in measure.output_types:
        problems.append(
            f"task {source!r} is of the kind {output_type}, on which {spec.metric!r} cannot be measured; it needs "
            f"{' or '.join(measure.output_types)}"
        )
    if spec.filter is not None:
        problems.append(
            f"task {source!r}: {spec.metric!r} is measured on the answer as the model gave it; leave `filter` out"
        )
    direction = _direction(spec, measure.direction)
    if direction is None:
        problems.append(_no_direction(spec, "nothing says"))
    return (spec, problems) if problems else (replace(spec, direction=direction), [])


def _resolve_flips(
    spec: TaskSpec, source: str, metrics: Mapping[str, Metric], filters: Sequence[str]
) -> tuple[TaskSpec, list[str]]:
    if spec.of is None:
        return spec, []  # the check of the spec itself notes that
    filter_name, problems = _filter(spec, source, spec.of, filters)
    own = _own(spec.of, metrics)
    if own is None or own.per_item is False:
        usable = [name for name, one in metrics.items() if one.per_item is not False]
        problems.append(unknown_name(f"metric of task {source!r} in `of`:", spec.of, usable))
    if spec.direction == "maximize":
        problems.append(f"task {source!r}: {NEGATIVE_FLIPS!r} are to be few; leave `direction` out")
    return (spec, problems) if problems else (replace(spec, filter=filter_name, direction="minimize"), [])


def _own(name: str, metrics: Mapping[str, Metric]) -> Metric | None:
    """Return a metric of the task; one that may be reported in its place where there is none of that name."""
    return metrics.get(name) or next((one for one in metrics.values() if one.open), None)


def _filter(spec: TaskSpec, source: str, metric: str, filters: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the filter that a spec means, and what is wrong with it."""
    if spec.filter is None:
        if len(filters) == 1:
            return filters[0], []
        return None, [
            f"task {source!r} has {len(filters)} filters, so `filter` must name the one whose {metric!r} counts: "
            f"{', '.join(filters)}"
        ]
    if spec.filter in filters:
        return spec.filter, []
    return None, [unknown_name(f"filter of task {source!r}:", spec.filter, filters)]


def _direction(spec: TaskSpec, own: Direction | None) -> Direction | None:
    """Return which values are better: as the user says, as a limit implies, or as the task or measure says."""
    if spec.direction is not None:
        return spec.direction
    if spec.constraint is not None:
        return "minimize" if spec.constraint.max is not None else "maximize"
    return own


def _no_direction(spec: TaskSpec, who: str) -> str:
    return f"{who} whether a larger {spec.metric!r} is better; set `direction` to maximize or minimize"
