"""What the items of a task ask and what their answers are worth, as short hashes: whether a task is still the same."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evomerge.evaluation.images import image_digest, is_image
from evomerge.system.contents import content_of, digest_of
from evomerge.system.source_files import is_installed, source_files

LENGTH = 16
"""Hexadecimal digits of the hash of one item: 64 bits, so that two of a million items are confused once in 4e7 runs."""

ASPECTS = ("prompt", "options", "choice", "target", "generation", "document")
"""What is kept of an item: what is asked, the options in their order, the options in any order, the right answer, how
an answer is generated, and all fields of the document."""

_SCORING = ("output_type", "metric_list", "filter_list", "process_results", "generation_kwargs", "repeats")
"""The settings of a task that say what an answer is worth; all others show in prompts, options and targets."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def item_hashes(
    documents: Iterable[Any], groups: Iterable[Sequence[Any]], target: Callable[[Any], Any]
) -> dict[str, str]:
    """Return the aspects of items, each as the hashes of all items one after the other.

    Args:
        documents: the documents of the items.
        groups: for each item, its lm-eval instances, in order.
        target: returns the right answer of a document; it may raise anything, since some tasks have none.
    """
    found: dict[str, list[str]] = {aspect: [] for aspect in ASPECTS}
    for document, group in zip(documents, groups, strict=True):
        texts = [[one for one in instance.args if isinstance(one, str)] for instance in group]
        others = [[one for one in instance.args if not isinstance(one, str)] for instance in group]
        options = ["\0".join(own[1:]) for own in texts]
        try:
            answer = target(document)
        except Exception:  # the document, which holds it, is hashed as well
            answer = None
        values = {
            "prompt": [own[:1] for own in texts],
            "options": options,
            "choice": sorted(options),
            "target": answer,
            "generation": [[one.request_type, one.repeats, own] for one, own in zip(group, others, strict=True)],
            "document": document,
        }
        for aspect, value in values.items():
            found[aspect].append(short_hash(value))
    return {aspect: "".join(hashes) for aspect, hashes in found.items()}


def document_hashes(documents: Iterable[Any]) -> list[str]:
    """Return the hash of each document, as in the aspect "document"."""
    return [short_hash(document) for document in documents]


def short_hash(value: Any) -> str:
    """Return the hash of a value of any kind."""
    return digest_of(_plain(value))[:LENGTH]


def scoring_contents(task: Any) -> dict[str, str]:
    """Return the hash of each thing that says what the answers to an lm-eval task are worth, by its name.

    These are settings of its file, and the files of code in which its own functions stand.
    """
    config = getattr(task, "config", None)
    settings = {name: getattr(config, name, None) for name in _SCORING}
    found = {name: short_hash(value) for name, value in settings.items() if value is not None}
    tables = [getattr(task, name, None) for name in ("_metric_fn_list", "_aggregation_list")]
    code = [*_functions(settings), *_functions(tables), *_functions([getattr(task, "_filters", None)])]
    if not type(task).__module__.startswith("lm_eval.api."):
        code.append(type(task))
    return {**found, **code_contents(code)}


def code_contents(things: Iterable[Any]) -> dict[str, str]:
    """Return the hash of each file of code that functions or classes stand on, as "file NAME".

    What stands in an installed package is left out, except for lm-eval's tasks: packages have versions.
    """
    files = source_files(things)
    own = {place: path for place, path in files.items() if not is_installed(path) or "tasks" in path.parts}
    return {f"file {place}": content_of(path).digest for place, path in own.items()}


def _functions(value: Any) -> list[Any]:
    """Return the functions inside of containers and of lm-eval's filters."""
    if isinstance(value, Mapping):
        return [one for inner in value.values() for one in _functions(inner)]
    if isinstance(value, (list, tuple)):
        return [one for inner in value for one in _functions(inner)]
    if isinstance(value, functools.partial):
        return _functions([value.func, value.args, value.keywords])
    if type(value).__module__.startswith(("lm_eval.api.filter", "lm_eval.filters")):
        return [one for inner in vars(value).values() for one in _functions(inner)]
    return [value] if callable(value) and hasattr(value, "__module__") else []


def _plain(value: Any) -> Any:
    """Return JSON data that is the same in every process."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_plain(one), sort_keys=True) for one in value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if is_image(value):
        return {"image": image_digest(value)}
    if callable(value):
        return f"function {getattr(value, '__name__', type(value).__name__)}"
    return _ADDRESS.sub("", repr(value))
