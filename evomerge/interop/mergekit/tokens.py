"""Whose tokenizer and chat template the result of a mergekit file carries, in a recipe's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evomerge.interop.mergekit.models import Source
from evomerge.interop.mergekit.schema import Document, Reference
from evomerge.recipe import Parent, Recipe


def tokens_of(
    document: Document,
    parents: Sequence[Parent],
    base: Parent | None,
    source: Callable[[Reference], Source],
    reference: Callable[[Any, str], Reference | None],
    wrong: Callable[[str, str], None],
) -> dict[str, Any]:
    """Return the keywords of a recipe for the tokenizer and the chat template of a merge.

    Args:
        document: the merge.
        parents, base: the members of the recipe.
        source: returns what a reference names.
        reference: reads a reference, which stands at a place.
        wrong: is told each mistake, with its place.
    """
    found: dict[str, Any] = {}
    if document.chat_template is not None:
        wrong("chat_template", "chat templates are not read yet; leave it out")
    data = document.tokenizer
    if data is None:
        return found
    if not isinstance(data, Mapping):
        wrong("tokenizer", f"{{source: union, base or a model}} is needed, but came {data!r}")
        return found
    if set(data) - {"source"}:
        wrong("tokenizer", "only `source` is read yet")
    wanted = data.get("source")
    if wanted == "union":
        wrong("tokenizer", "the union of vocabularies is not read yet")
        return found
    if wanted == "base":
        if document.base is None:
            wrong("tokenizer", "it is base, but there is no base_model")
            return found
        model: Reference | None = document.base
    else:
        model = reference(wanted, "tokenizer.source")
    if model is not None:
        lender = lender_of(source(model), parents, base)
        if lender is None:
            wrong("tokenizer", f"{model} is none of the models that are merged")
        elif lender != ("base" if base is not None else parents[0].name):
            found["tokenizer"] = lender
    return found


def lender_of(wanted: Source, parents: Sequence[Parent], base: Parent | None) -> str | None:
    """Return the name of the member that is a model, or a stack with its tokenizer; None if there is none."""
    if base is not None and _tokens_from(base.source) == wanted:
        return "base"
    return next((parent.name for parent in parents if wanted in (parent.source, _tokens_from(parent.source))), None)


def _tokens_from(source: Source) -> Source:
    return source.parents[0].source if isinstance(source, Recipe) and source.path else source
