"""What models were asked and what they answered, as JSON data for people: the fields of lm-eval's sample logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evomerge.evaluation.images import image_text, is_image
from evomerge.evaluation.samples import sample_hashes
from evomerge.record import ItemAnswer, ItemPrompt
from evomerge.system.text import STORED_LENGTH, cut

PROMPT_LENGTH = 200_000
"""Most characters of a prompt that are kept; its middle is left out beyond that."""


def item_answers(
    task: str,
    items: Sequence[int],
    groups: Sequence[Sequence[Any]],
    results: Mapping[tuple[str, str], Sequence[Any]],
) -> list[ItemAnswer]:
    """Return what the instances of items hold after they were scored.

    Args:
        task: the name under which the scores are recorded.
        items: indices of the items.
        groups: for each item, its lm-eval instances, in order.
        results: metric and filter to what the task said of each item; metrics that it left out somewhere are left out.
    """
    told: dict[str, dict[str, list[Any]]] = {}
    for (metric, ensemble), values in results.items():
        if len(values) == len(items):
            told.setdefault(ensemble, {})[metric] = [as_json(value) for value in values]
    return [
        ItemAnswer(
            task,
            item,
            [as_json(instance.resps[0]) for instance in group],
            {name: [as_json(one.filtered_resps[name]) for one in group] for name in group[0].filtered_resps},
            {name: {metric: values[i] for metric, values in metrics.items()} for name, metrics in told.items()},
        )
        for i, (item, group) in enumerate(zip(items, groups, strict=True))
    ]


def item_prompts(
    task: str,
    items: Sequence[int],
    groups: Sequence[Sequence[Any]],
    documents: Iterable[Any],
    target: Callable[[Any], Any],
) -> list[ItemPrompt]:
    """Return what items ask.

    Args:
        task: the name under which the items are recorded.
        items: indices of the items.
        groups: for each item, its lm-eval instances, in order.
        documents: the documents of the items.
        target: returns the right answer of a document; it may raise anything, since some tasks have none.
    """
    found = []
    for item, group, document in zip(items, groups, documents, strict=True):
        requests = [list(instance.args) for instance in group]
        whole = as_json(document, most=None)
        try:
            answer = target(document)
        except Exception:
            answer = None
        kept = [[_middle_cut(args[0]), *map(as_json, args[1:])] for args in requests]
        shown = as_json(document)
        was_cut = shown != whole or kept != [as_json(args, most=None) for args in requests]
        hashes = sample_hashes(whole, requests[0][0], answer) if was_cut else None
        repeats = int(group[0].repeats or 1)
        found.append(ItemPrompt(task, item, kept, as_json(answer), shown, repeats, hashes))
    return found


def as_json(value: Any, *, most: int | None = STORED_LENGTH) -> Any:
    """Return a value as JSON data, by lm-eval's rules for what is none, with each text cut at a length; None: whole."""
    if isinstance(value, str):
        return cut(str(value), most)
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, Mapping):
        return {_key(name): as_json(one, most=most) for name, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(one, most=most) for one in value]
    if is_image(value):
        return image_text(value)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # numbers of numpy
        return as_json(value.item(), most=most)
    return cut(str(value), most)


def _key(name: Any) -> str:
    """Return a key as JSON has it."""
    if isinstance(name, str):
        return str(name)
    words = {True: "true", False: "false", None: "null"}
    return words[name] if name is None or isinstance(name, bool) else str(name)


def _middle_cut(text: Any) -> Any:
    if not isinstance(text, str) or len(text) <= PROMPT_LENGTH:
        return as_json(text, most=None)
    half = PROMPT_LENGTH // 2
    return f"{text[:half]}\n… ({len(text) - 2 * half:,} characters left out) …\n{text[-half:]}"
