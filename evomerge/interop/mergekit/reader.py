"""A mergekit file as a recipe: one merge, or several of which one uses the others by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evomerge.errors import RecipeError
from evomerge.interop.mergekit.build import build
from evomerge.interop.mergekit.models import Models
from evomerge.interop.mergekit.schema import MergeDocument, is_mergekit, read_document, text_at
from evomerge.recipe import Recipe
from evomerge.system.yaml_text import YamlError, read_yaml_documents


@dataclass(frozen=True)
class Reading:
    """A recipe, and what was left out of the file, one sentence each."""

    recipe: Recipe
    notes: tuple[str, ...]


def looks_like_mergekit(text: str | bytes) -> bool:
    """Return whether a text is a file of mergekit, or of several merges, rather than a recipe of evomerge."""
    try:
        documents = read_yaml_documents(text, text_at=text_at, lenient=True)
    except YamlError:
        return False
    return any(is_mergekit(one) for one in documents)


def read_mergekit(text: str | bytes) -> Reading:
    """Read the text of a mergekit file. Configurations of models are read where layers must be counted, no tensors.

    Raises:
        RecipeError: with every mistake and its place.
    """
    try:
        datas = read_yaml_documents(text, text_at=text_at, lenient=True)
    except YamlError as error:
        raise RecipeError(f"it is not valid YAML: {error}") from error
    datas = [data for data in datas if data is not None] or [None]
    models = Models()
    problems: list[str] = []
    documents = []
    for i, data in enumerate(datas):
        where = "" if len(datas) == 1 else f"merge {i + 1}{_named(data)}: "
        document = read_document(data, where, problems)
        if document is not None:
            documents.append((where, document))
    if problems:
        problems += [
            one for where, each in documents for one in build(each, {}, models, where, words_only=True).problems
        ]
        raise RecipeError(_said(problems))
    notes: list[str] = []
    stages: dict[str, Recipe] = {}
    result: Recipe | None = None
    order = _in_order(documents)
    for where, document in documents:
        if not any(document is used for _, used in order):
            notes.append(f"{where.rstrip(': ')} is left out: the result does not use it")
    for where, document in order:
        built = build(document, stages, models, where)
        problems += built.problems
        notes += [f"{where}{note}" for note in built.notes]
        result = built.recipe
        if document.name is not None and built.recipe is not None:
            stages[document.name] = built.recipe
        elif built.recipe is None and document.name is not None and len(documents) > 1:
            break  # what is built from it could only be wrong
    if problems or result is None:
        raise RecipeError(_said(problems))
    return Reading(result, tuple(notes))


def _in_order(documents: Sequence[tuple[str, MergeDocument]]) -> list[tuple[str, MergeDocument]]:
    """Return the merges in an order in which each comes after those that it uses, the result last.

    Raises:
        RecipeError: if names stand twice, merges use each other in a circle, or the result is not clear.
    """
    names = [document.name for _, document in documents if document.name is not None]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"the names of merges must differ, but {', '.join(twice)} stands twice")
    named = {document.name: (where, document) for where, document in documents if document.name is not None}
    used = {name for _, document in documents for name in _uses(document, named)}
    last = [one for one in documents if one[1].name is None]
    if not last:
        last = [one for one in documents if one[1].name not in used]
    if not last:
        raise RecipeError(f"the merges {', '.join(named)} use each other in a circle; one must be the result")
    if len(last) > 1:
        listed = ", ".join(document.name or where.rstrip(": ") for where, document in last)
        raise RecipeError(f"one merge must be the result, but no other uses any of these: {listed}")
    order: dict[str | None, tuple[str, MergeDocument]] = {}

    def add(one: tuple[str, MergeDocument], above: tuple[str, ...]) -> None:
        for name in _uses(one[1], named):
            if name in above:
                circle = " → ".join((*above[above.index(name) :], name))
                raise RecipeError(f"merges use each other in a circle: {circle}")
            if name not in order:
                add(named[name], (*above, name))
        order[one[1].name] = one

    add(last[0], () if last[0][1].name is None else (last[0][1].name,))
    return list(order.values())


def _uses(document: MergeDocument, named: dict[str, tuple[str, MergeDocument]]) -> Iterator[str]:
    references = [document.base, *(one.base for one in document.slices)]
    references += [each.model for one in document.slices for each in one.inputs]
    for reference in references:
        if reference is not None and reference.revision is None and reference.path in named:
            yield reference.path


def _named(data: object) -> str:
    name = data.get("name") if isinstance(data, dict) else None
    return f" ({name})" if isinstance(name, str) else ""


def _said(problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} mistakes in the mergekit file:", *(f"  - {one}" for one in problems)])
