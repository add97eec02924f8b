"""What a task reports for one item, as plain numbers whose mean over items is the task's score.

Most lm-eval metrics are means of per-item numbers already (`acc`, `exact_match`). The others:

- `perplexity`, `word_perplexity`, `byte_perplexity` are kept as their logarithms `log_…` (nats per item's target, per
  word, per byte), whose mean over items can be an objective. For the last two the mean weighs every document alike,
  while lm-eval pools all words or bytes.
- `bits_per_byte` is kept per document; its mean, too, weighs every document alike.
- `brier_score` is the item's own squared error.
- `nanmean` leaves out items whose value is NaN: they are not judged, and have no number here, like items for which the
  task leaves a metric out.
- `bleu`, `chrf`, `chrf++`, `ter` of each answer alone are `sentence_…`, whose mean over items can be an objective.
- F1, MCC, a median and whatever a task's own function aggregates in another way than by the mean have no per-item value
  that could be averaged, and cannot be an objective; neither can `bypass`, which measures nothing.

What lm-eval makes of all items together is in `totals`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.errors import EvaluationError
from evomerge.evaluation.index import function_name
from evomerge.evaluation.task import Direction
from evomerge.system.text import visible

_LOGS = {"perplexity", "weighted_perplexity"}
_MEANS = {"mean", "nanmean"}
_OWN_FUNCTION = "its own function"
_CORPUS = {"bleu", "chrf", "chrf++", "ter"}
_NO_MEAN = "it is aggregated by {kind}, not by a mean over items, so it has no per-item value"
_REASONS = {
    **dict.fromkeys(
        _CORPUS, "{kind} is one number for all answers together; use 'sentence_{name}', that of each alone"
    ),
    "f1": _NO_MEAN + "; acc has one, where the task reports it, or a function of yours (python:MODULE:FUNCTION)",
    "matthews_corrcoef": _NO_MEAN + "; acc has one, where the task reports it",
    "bypass": "lm-eval's bypass measures nothing: its value is 999 for every model",
}
_OWN_SCALE = _CORPUS | {"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "bypass"}
_OTHER_PER_ITEM = {"bits_per_byte", "brier_score"}


@dataclass(frozen=True)
class Metric:
    """A metric that a task reports.

    Attributes:
        per_item: whether its mean over items has a meaning; None: unknown until the task is loaded.
        direction: which values are better, as the task says; None: it does not say.
        reason: why it cannot be an objective, where `per_item` is False.
        open: whether its function may report other names in its place, which are known once the task is loaded.
    """

    per_item: bool | None
    direction: Direction | None
    reason: str = ""
    open: bool = False


def declared_metrics(config: Mapping[str, Any], output_type: str) -> dict[str, Metric]:
    """Return the metrics that a task's YAML declares (or lm-eval's defaults for its output type), by their name here.

    A perplexity appears twice: under the task's name for it, which cannot be averaged, and as its logarithm.
    """
    from lm_eval.api import metrics as _registers_metrics  # noqa: F401
    from lm_eval.api import registry

    listed = config.get("metric_list")
    if listed is None:
        listed = [{"metric": name} for name in registry.DEFAULT_METRIC_REGISTRY[output_type]]
    reported: dict[str, Metric] = {}
    names = {function: name for name, function in registry.AGGREGATION_REGISTRY.items()}
    for one in listed:
        name = function_name(one["metric"]) or str(one["metric"])
        aggregation = one.get("aggregation")
        if aggregation is None:
            aggregation = names.get(registry.METRIC_AGGREGATION_REGISTRY.get(name, None))
        higher = one.get("higher_is_better")
        if higher is None:
            higher = registry.HIGHER_IS_BETTER_REGISTRY.get(name, None)
        kind = aggregation if aggregation is None or function_name(aggregation) is None else _OWN_FUNCTION
        _add(reported, name, None if kind is None else str(kind), higher)
        if output_type == "generate_until" and config.get("process_results") is None and name in reported:
            known = one.get("hf_evaluate") is not True and name in registry.METRIC_REGISTRY
            is_function = function_name(one["metric"]) is not None
            reported[name] = replace(reported[name], open=is_function or not known)
    return reported


def is_open(name: str, function: Any) -> bool:
    """Return whether the function of a loaded task's metric is not lm-eval's own, so that it may report other names."""
    from lm_eval.api import registry

    return function is not None and registry.METRIC_REGISTRY.get(name, None) is not function


def loaded_metrics(task: Any) -> dict[str, Metric]:
    """Return the metrics of a loaded lm-eval task, by their name here; `per_item` is never None."""
    higher = task.higher_is_better()
    reported: dict[str, Metric] = {}
    for name, function in task.aggregation().items():
        kind = _kind(function)
        if kind is None:
            kind = "mean" if _is_mean(function) else f"{_OWN_FUNCTION} {getattr(function, '__name__', function)!r}"
        _add(reported, str(name), kind, higher.get(name))
    return {
        name: Metric(False, one.direction, one.reason) if one.per_item is None else one
        for name, one in reported.items()
    }


def item_metrics(result: Mapping[str, Any], aggregation: Mapping[str, Callable[..., Any]]) -> dict[str, float]:
    """Return the numbers that one item contributes, by their name here.

    Args:
        result: what the task's `process_results` returned for the item.
        aggregation: the task's metric name to aggregation function.

    Raises:
        EvaluationError: if a value is no number where the aggregation takes numbers (of which lm-eval's own would make
            no score, and ours a better one); the message names the metric and the value.
    """
    numbers_: dict[str, float] = {}
    for name, value in result.items():
        function = aggregation.get(name)
        kind = None if function is None else _kind(function)
        if kind == "perplexity":
            numbers_[f"log_{name}"] = -float(value)
        elif kind == "weighted_perplexity":
            numbers_[f"log_{name}"] = -float(value[0]) / value[1]
        elif kind == "bits_per_byte":
            numbers_[name] = -float(value[0]) / (value[1] * math.log(2))
        elif kind == "brier_score" and function is not None:
            numbers_[name] = float(function([value]))
        elif kind in _CORPUS and function is not None:
            with contextlib.suppress(Exception):  # sacrebleu's; an answer that it cannot take is not judged
                numbers_[f"sentence_{name}"] = float(function([value]))
        else:
            number = _number(value)
            if number is None and _averages(function):
                number = _own_number(name, value, function)
            if number is None:
                continue
            if not (math.isnan(number) and function is not None and _leaves_nan_out(function)):
                numbers_[name] = number
    return numbers_


def is_share(key: str) -> bool:
    """Return whether values of lm-eval's metric may be shown in per cent: not those of a scale or unit of their own."""
    name = key.partition(",")[0]
    return name not in _OWN_SCALE and not name.startswith(("log_", "sentence_"))


def is_mean_of_items(function: Callable[..., Any], results: Sequence[Any]) -> bool:
    """Return whether an aggregation is the mean of the numbers that `item_metrics` returns, on these results.

    The mean of no judged item is no number, which only the aggregation itself can say.
    """
    kind = _kind(function)
    if kind == "brier_score":
        return True
    mean = kind in _MEANS or (kind is None and _is_mean(function))
    return mean and any(not math.isnan(number) for number in map(_number, results) if number is not None)


def _add(reported: dict[str, Metric], name: str, kind: str | None, higher: bool | None) -> None:
    direction: Direction | None = None if higher is None else ("maximize" if higher else "minimize")
    if kind in _LOGS:
        reason = f"a perplexity is no mean over items; use 'log_{name}', the logarithm of each item's"
        reported[name] = Metric(False, direction, reason)
        reported[f"log_{name}"] = Metric(True, direction)
    elif kind in _MEANS or kind in _OTHER_PER_ITEM:
        reported[name] = Metric(True, direction)
    else:
        if kind in _CORPUS:
            reported[f"sentence_{name}"] = Metric(True, direction)
        reason = _REASONS.get(kind or "", _NO_MEAN).format(kind=kind or "nothing known", name=name)
        # Whether a function is a mean (and what an undeclared default is) is known once the task is loaded.
        known = kind is not None and kind != _OWN_FUNCTION
        reported[name] = Metric(False if known else None, direction, reason)


def _number(value: Any) -> float | None:
    """Return a number, a truth value, or what an array or tensor of one element holds; None: it is no number."""
    if not isinstance(value, numbers.Number) and hasattr(value, "item") and _size(value) == 1:
        try:
            value = value.item()
        except Exception:  # an array library's own
            return None
    if not isinstance(value, numbers.Number) or isinstance(value, complex):
        return None
    try:
        return float(value)  # type: ignore[arg-type]  # Decimal is a Number, but no Real
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    except (TypeError, ValueError):
        return None


def _size(value: Any) -> Any:
    """Return how many elements an array or tensor has; a method in torch, a number elsewhere."""
    counted = getattr(value, "numel", None)
    return counted() if callable(counted) else getattr(value, "size", None)


def _averages(function: Callable[..., Any] | None) -> bool:
    """Return whether an aggregation takes the mean of numbers, perhaps of some of them."""
    if function is None:  # a remark, of which the task reports no score
        return False
    kind = _kind(function)
    return kind in _MEANS or (kind is None and (_is_mean(function) or _leaves_nan_out(function)))


def _own_number(name: str, value: Any, function: Callable[..., Any] | None) -> float | None:
    """Return what a task's own mean makes of a value that is no number (None as 0, say); None: it leaves it out."""
    if function is not None and _kind(function) is None:
        if _gives(function, ([0.25, value, 0.5, 1.0], 1.75 / 3), ([value, 1.0], 1.0)):
            return None
        with contextlib.suppress(Exception):  # the task's own: it takes no such value
            alone = float(function([value]))
            if _gives(function, ([0.25, value, 0.5, 1.0], (1.75 + alone) / 4), ([value, 1.0], (alone + 1.0) / 2)):
                return alone
    try:
        shown = visible(" ".join(repr(value).split()), most=80)
    except Exception:  # anybody's class
        shown = f"a {type(value).__name__}"
    raise EvaluationError(f"metric {name!r} is {shown}, not a number")


@functools.lru_cache(maxsize=1024)
def _leaves_nan_out(function: Callable[..., Any]) -> bool:
    """Return whether an aggregation is the mean of the values that are not NaN."""
    if _kind(function) == "nanmean":
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _gives(function, ([0.25, math.nan, 0.5, 1.0], 1.75 / 3), ([math.nan, 1.0], 1.0))


@functools.lru_cache(maxsize=1024)
def _kind(function: Callable[..., Any]) -> str | None:
    """Return lm-eval's name of an aggregation function, or None for a task's own."""
    from lm_eval.api import metrics as _registers_metrics  # noqa: F401
    from lm_eval.api import registry

    return next((str(name) for name, known in registry.AGGREGATION_REGISTRY.items() if known is function), None)


def _is_mean(function: Callable[..., Any]) -> bool:
    """Return whether a task's own aggregation is a mean by another name; it is tried on a few numbers."""
    return _gives(function, ([0.0, 1.0, 1.0], 2 / 3), ([0.25, 0.5, 0.125, 1.0], 0.46875), ([1.0], 1.0))


def _gives(function: Callable[..., Any], *known: tuple[list[float], float]) -> bool:
    try:
        return all(abs(float(function(list(values))) - result) < 1e-12 for values, result in known)
    except Exception:  # it expects something else than numbers
        return False
