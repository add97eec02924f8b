"""Mistakes in what a task says of answers and their scoring, found on one made-up answer before a model is loaded.

Filters, metrics and generation settings are lm-eval's and transformers', so they are tried rather than listed: what
stands in a task's YAML is given to them as it would be for a model's answer. Only what fails for every answer counts; a
filter or function of the task's own that an answer of one letter does not suit is no mistake.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from evomerge.evaluation.engines.decoding import settings_refusal
from evomerge.evaluation.engines.encoding import IGNORED_WHEN_GREEDY
from evomerge.evaluation.metrics import is_open
from evomerge.system.faults import PASSED_ON
from evomerge.system.text import error_text, visible

_ANSWER = "a"
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""lm-eval's names for the length of an answer, the first of which counts."""

_TASKS_OWN = {*_LENGTHS, "until", "max_length"}
"""Settings that lm-eval takes itself; it passes the others on to transformers."""


def answer_length(settings: Mapping[str, Any]) -> int:
    """Return how many tokens an answer may have, by the settings of a request, as lm-eval reads them.

    Raises:
        ValueError, TypeError: if the setting is no number.
    """
    from lm_eval.models.huggingface import HFLM

    given = next((settings[name] for name in _LENGTHS if settings.get(name) is not None), None)
    return int(HFLM.max_gen_toks.fget(None)) if given is None else int(given)


def generation_problems(settings: Any) -> list[str]:
    """Return what lm-eval cannot take of a task's generation_kwargs; what it passes on is not looked at."""
    if settings is None:
        return []
    if not isinstance(settings, Mapping):
        return [f"must be a mapping, but came {_shown(settings)}"]
    problems = []
    until = settings.get("until")
    texts = until if isinstance(until, list) else [until]
    if until is not None and not all(isinstance(text, str) for text in texts):
        problems.append(f"until must be a text or a list of texts, but came {_shown(until)}")
    name = next((name for name in _LENGTHS if settings.get(name) is not None), _LENGTHS[0])
    try:
        fits = answer_length(settings) >= 1
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        problems.append(f"{name} must be a whole number of at least 1, but came {_shown(settings[name])}")
    return problems


def passed_on_problem(settings: Mapping[str, Any]) -> str | None:
    """Return why transformers refuses what lm-eval passes on to it of a task's generation_kwargs; None: it does not."""
    wanted = {name: one for name, one in settings.items() if name not in _TASKS_OWN | IGNORED_WHEN_GREEDY}
    if not wanted.get("do_sample"):
        wanted.pop("temperature", None)  # lm-eval leaves it out where answers are greedy
    wanted.pop("do_sample", None)
    return settings_refusal(wanted) if wanted else None


def filter_problems(task: Any) -> Iterator[str]:
    """Yield a sentence for each filter of a loaded lm-eval task that fails for any answer."""
    for ensemble in task._filters:
        responses: Any = [[_ANSWER] * (task.config.repeats or 1)]
        for make in ensemble.filters:
            try:
                one = make()
            except PASSED_ON:
                raise
            except (Exception, SystemExit) as error:  # lm-eval makes it anew for all answers of each model
                yield f"filter {ensemble.name!r} cannot be made: {_said(error)}"
                break
            group = getattr(one, "group_select", 0)
            is_lm_evals = type(one).__module__.startswith("lm_eval.filters")
            if is_lm_evals and not isinstance(group, int):
                yield f"filter {ensemble.name!r}: group_select must be a whole number, but came {_shown(group)}"
                break
            try:
                responses = list(one.apply(responses, [task.eval_docs[0]]))
            except PASSED_ON:
                raise
            except re.error as error:
                yield f"filter {ensemble.name!r} fails: {_said(error)}"
                break
            except AssertionError as error:
                if is_lm_evals:  # it asks for more answers than the task repeats
                    yield f"filter {ensemble.name!r} fails: {_said(error)}"
                break
            except (Exception, SystemExit):  # this answer may be too little for it
                break


def metric_problems(task: Any) -> Iterator[str]:
    """Yield a sentence for each metric of a loaded lm-eval task that fails with its arguments for any answer."""
    for name, function in getattr(task, "_metric_fn_list", {}).items():
        arguments = getattr(task, "_metric_fn_kwargs", {}).get(name) or {}
        if function is None or not arguments:
            continue
        if is_open(name, function):
            unknown = _unknown_arguments(function, arguments)
            if unknown:
                yield f"metric {name!r} takes no argument {', '.join(map(repr, unknown))}"
            continue
        reason = _metric_fails(function, arguments)
        if reason is not None:
            yield f"metric {name!r} fails: {reason}"


def _metric_fails(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str | None:
    """Return why lm-eval's own function of a metric fails with its arguments on any answer."""
    try:
        function(references=[_ANSWER], predictions=[_ANSWER], **arguments)
    except TypeError as error:
        try:  # as lm-eval does: the functions of most metrics take one list, and no arguments
            function([_ANSWER, _ANSWER])
        except Exception:
            return _said(error)
    except re.error as error:
        return _said(error)
    except Exception:  # one letter may be too little
        return None
    return None


def _unknown_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> list[str]:
    """Return the arguments that a function does not have, as far as it says; it is not called."""
    # lm-eval keeps the `__call__` of a task's own function; a metric of the library evaluate passes all to `_compute`.
    owner = getattr(function, "__self__", None)
    inner = getattr(owner, "_compute", owner if inspect.isfunction(owner) else function)
    try:
        signature = inspect.signature(inner)
    except (TypeError, ValueError):
        return []
    parameters = signature.parameters
    takes_names = {"references", "predictions"} <= set(parameters)
    if not takes_names or any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return []  # lm-eval calls such a function without arguments, or it takes all
    try:
        signature.bind([_ANSWER, _ANSWER])  # what lm-eval tries next
    except TypeError:
        return [name for name in arguments if name not in parameters]
    return []


def _shown(value: Any) -> str:
    return visible(repr(value), most=80)


def _said(error: BaseException) -> str:
    return " ".join(error_text(error, name=True, most=300).split())
