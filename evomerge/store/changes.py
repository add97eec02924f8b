"""What changed between the inputs of a run when it began and now, in sentences that a user can act on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.recipe import ModelSource
from evomerge.store.inputs import ModelContents, RunInputs

_WORDS = {
    "prompt": "the prompts (question, description or few-shot examples)",
    "target": "the labels (right answers)",
    "generation": "the generation arguments",
}


def config_changes(before: RunInputs, now: RunInputs, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each key that decides results and has another value now.

    Args:
        before: the inputs when the run began.
        now: the inputs now.
        old: the values of the keys when the run began, as far as they are known.
        new: the values of the keys now.
    """
    hint = {"execution.dtype": "; what null stands for follows from the device: set it to what it was"}
    names = [*before.keys, *(name for name in now.keys if name not in before.keys)]
    return [
        f"{name}: {_shown(old, name, before)} when the run began, {_shown(new, name, now)} now{hint.get(name, '')}"
        for name in names
        if before.keys.get(name) != now.keys.get(name)
    ]


def model_changes(before: RunInputs, now: RunInputs) -> list[str]:
    """Return one sentence for each model that is another one now, and for another order of the parents."""
    found = list(_parents(before, now))
    swapped: set[str] = set()
    for name, was in before.models.items():
        one = now.models.get(name)
        if one is None or name in swapped:
            continue
        changed = _changed_files(was, one)
        if not changed and was.source.trust_remote_code == one.source.trust_remote_code:
            continue
        other = next((n for n, model in before.models.items() if n != name and model.digests == one.digests), None)
        partner = now.models.get(other) if other is not None else None
        if other is not None and partner is not None and partner.digests == was.digests:
            swapped.add(other)
            found.append(f"{called(name)} and {called(other)} were swapped: {name!r} is {one.source.path} now")
        elif was.source != one.source and changed:
            also = f", which was {called(other)}" if other is not None else ""
            found.append(f"{called(name)} is another model: {_place(was)} when the run began, {_place(one)} now{also}")
        elif changed:
            found += [
                f"the {part} of {called(name)} ({_place(one)}) changed: {', '.join(files)}"
                for part, files in changed.items()
            ]
        else:
            found.append(f"{called(name)}: trust_remote_code was {str(was.source.trust_remote_code).lower()}")
    return found


def moved_models(before: RunInputs, now: RunInputs) -> dict[str, tuple[ModelSource, ModelSource]]:
    """Return the models that are named otherwise now, and have the same content: name to the source then and now."""
    return {
        name: (was.source, now.models[name].source)
        for name, was in before.models.items()
        if name in now.models and was.source != now.models[name].source
    }


def file_changes(before: RunInputs, now: RunInputs) -> list[str]:
    """Return one sentence for each other file whose content is another one now, that came or that went."""
    found = []
    for name in dict.fromkeys([*before.files, *now.files]):
        was, one = before.files.get(name), now.files.get(name)
        if was != one:
            found.append(f"{name} changed" if was and one else f"{name} is {'gone' if was else 'new'}")
    return found


def item_changes(before: RunInputs, now: RunInputs, pools: Mapping[str, Sequence[str]], length: int) -> list[str]:
    """Return one sentence for each way in which items of the run's splits, or their scoring, are no longer the same.

    Args:
        before: the inputs when the run began.
        now: the inputs now.
        pools: for each lm-eval task the hashes of all documents that it has now.
        length: characters of the hash of one item.
    """
    found: list[str] = []
    for task, splits in before.items.items():
        pairs = [(was, now.items.get(task, {}).get(split, {})) for split, was in splits.items()]
        by_source: dict[str, list[tuple[Mapping[str, str], Mapping[str, str]]]] = {}
        for was, one in pairs:
            by_source.setdefault(was["source"], []).append((was, one))
        for source, own in by_source.items():
            named = task if source == task else f"{task} (items of {source})"
            found += [f"task {named}: {text}" for text in _items(own, pools.get(source, ()), length)]
    for task, was_scoring in before.scoring.items():
        scoring = now.scoring.get(task, {})
        for name in dict.fromkeys([*was_scoring, *scoring]):
            if was_scoring.get(name) != scoring.get(name):
                what = f"the {name} of its own functions" if name.startswith("file ") else f"its {name}"
                found.append(f"task {task}: {what} changed, by which answers are scored")
    return found


def _items(
    pairs: Sequence[tuple[Mapping[str, str], Mapping[str, str]]], pool: Sequence[str], length: int
) -> Iterator[str]:
    """Yield what changed about the items of one pool; each pair is a split then and now."""

    def hashes(aspect: str) -> list[tuple[str, str]]:
        found = []
        for was, now in pairs:
            then, one = was.get(aspect, ""), now.get(aspect, "")
            found += [(then[i : i + length], one[i : i + length]) for i in range(0, len(then), length)]
        return found

    differ = {aspect: [then != now for then, now in hashes(aspect)] for aspect in pairs[0][0] if aspect != "source"}
    n = len(differ["document"])
    count = {aspect: sum(own) for aspect, own in differ.items()}
    elsewhere = set(pool)
    if count["document"] and all(then in elsewhere for then, now in hashes("document") if then != now):
        yield (
            f"{count['document']} of the run's {n} items stand at other places in its data now: the order of the items "
            "changed, or rows were put in or taken out before them"
        )
        return
    for aspect, words in _WORDS.items():
        if count[aspect]:
            yield f"{words} of {count[aspect]} of {n} items changed"
    if count["choice"]:
        yield f"the answer options of {count['choice']} of {n} items changed"
    elif count["options"]:
        yield f"the order of the answer options of {count['options']} of {n} items changed"
    shown = [any(own) for own in zip(*(own for aspect, own in differ.items() if aspect != "document"), strict=True)]
    hidden = sum(document and not seen for document, seen in zip(differ["document"], shown, strict=True))
    if hidden:
        yield f"other fields of the documents of {hidden} of {n} items changed"


def _parents(before: RunInputs, now: RunInputs) -> Iterator[str]:
    old, new = list(before.models), list(now.models)
    gone, come = [name for name in old if name not in new], [name for name in new if name not in old]
    renamed = {
        name: other for name in gone for other in come if before.models[name].digests == now.models[other].digests
    }
    for name in gone:
        if name in renamed:
            yield f"{called(name)} is called {renamed[name]!r} now, but names decide which genes are whose"
        else:
            yield f"{called(name)} is no longer there"
    for name in come:
        if name not in renamed.values():
            yield f"{called(name)} is new"
    if not gone and not come and old != new:
        yield f"the order of the parents changed: {', '.join(old)} when the run began, {', '.join(new)} now"
    for name in dict.fromkeys([*before.recipes, *now.recipes]):
        if before.recipes.get(name) != now.recipes.get(name):
            yield f"the recipe that is {called(name)} changed"


def _changed_files(was: ModelContents, now: ModelContents) -> dict[str, list[str]]:
    """Return the names of the files that differ, by part."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys([*was.files, *now.files]):
        then, one = was.files.get(name), now.files.get(name)
        if then is None or one is None or then[1].digest != one[1].digest:
            part = (then or one or ("", None))[0]
            found.setdefault(part, []).append(name if then and one else f"{name} ({'gone' if then else 'new'})")
    return found


def called(name: str) -> str:
    """Return what a model is called in a sentence: "the base", or "parent 'math'"."""
    return "the base" if name == "base" else f"parent {name!r}"


def _place(model: ModelContents) -> str:
    source = model.source
    return source.path if source.revision is None else f"{source.path} at {source.revision}"


def _shown(values: Mapping[str, Any], name: str, inputs: RunInputs) -> str:
    if name not in inputs.keys:
        return "not set"
    if name not in values:
        return "another value"
    return json.dumps(values[name], ensure_ascii=False)
