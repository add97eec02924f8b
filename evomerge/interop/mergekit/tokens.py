"""Whose tokenizer and chat template the result of a mergekit file carries, in a recipe's words.

mergekit sorts the rows of every model anew by the tokens of the result as soon as a file names a tokenizer, even the
base's own; so does the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evomerge.errors import unknown_name
from evomerge.interop.mergekit.models import Source
from evomerge.interop.mergekit.schema import MergeDocument, Reference
from evomerge.recipe import Parent, Recipe, TokenizerBuild
from evomerge.recipe.tokenizer import BASE_NAME, UNION, ModelToken, TokenRow, ZeroRow

_ROW_KEYS = ("source", "force")
_TOKEN_KEYS = ("kind", "model", "token", "token_id")


class TokenReader:
    """Reads `tokenizer` of a merge.

    Args:
        parents, base: the members of the recipe.
        source: returns what a reference names.
        reference: reads a reference, which stands at a place.
        wrong: is told each mistake, with its place.
    """

    def __init__(
        self,
        parents: Sequence[Parent],
        base: Parent | None,
        source: Callable[[Reference], Source],
        reference: Callable[[Any, str], Reference | None],
        wrong: Callable[[str, str], None],
    ) -> None:
        self._parents, self._base = parents, base
        self._source, self._reference, self._wrong = source, reference, wrong

    def read(self, document: MergeDocument) -> TokenizerBuild | None:
        """Return the tokenizer of a merge; None: the donor's as it is."""
        data = document.tokenizer
        if data is None:
            return None
        if not isinstance(data, Mapping):
            self._wrong("tokenizer", f"{{source: union, base or a model}} is needed, but came {data!r}")
            return None
        self._keys(data, ("source", "tokens", "pad_to_multiple_of"), "tokenizer")
        source = self._whose(document, data.get("source", UNION))
        multiple = data.get("pad_to_multiple_of")
        if multiple is not None and (isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1):
            self._wrong("tokenizer.pad_to_multiple_of", f"a whole number from 1 is needed, but came {multiple!r}")
            multiple = None
        given, rows = data.get("tokens") or {}, {}
        if not isinstance(given, Mapping):
            self._wrong("tokenizer.tokens", f"tokens with their sources are needed, but came {given!r}")
            given = {}
        for token, one in given.items():
            row = self._row(token, one, f"tokenizer.tokens.{token}")
            if row is not None:
                rows[token] = row
        return None if source is None else TokenizerBuild(source, rows, multiple)

    def _whose(self, document: MergeDocument, wanted: Any) -> str | None:
        if wanted == UNION:
            return UNION
        if wanted == BASE_NAME and document.base is None:
            self._wrong("tokenizer.source", "it is base, but there is no base_model")
            return None
        model = document.base if wanted == BASE_NAME else self._reference(wanted, "tokenizer.source")
        return None if model is None else self._member(model, "tokenizer.source")

    def _row(self, token: str, data: Any, place: str) -> TokenRow | None:
        if not isinstance(data, Mapping) or "source" not in data:
            self._wrong(place, f"{{source: MODEL}} is needed, but came {data!r}")
            return None
        self._keys(data, _ROW_KEYS, place)
        source, force = data["source"], data.get("force", False)
        if not isinstance(force, bool):
            self._wrong(f"{place}.force", f"true or false is needed, but came {force!r}")
            return None
        place = f"{place}.source"
        if not isinstance(source, Mapping) or "kind" not in source:
            model = self._reference(source, place)
            member = None if model is None else self._member(model, place)
            return None if member is None else TokenRow(ModelToken(member), force)
        self._keys(source, _TOKEN_KEYS, place)
        if source["kind"] == "zero":
            return TokenRow(ZeroRow(), force)
        if source["kind"] != "model_token":
            self._wrong(f"{place}.kind", unknown_name("kind", str(source["kind"]), ("model_token", "zero")))
            return None
        model = self._reference(source.get("model"), f"{place}.model")
        member = None if model is None else self._member(model, f"{place}.model")
        named, number = source.get("token"), source.get("token_id")
        if (named is None) == (number is None) or isinstance(number, bool) or not isinstance(number, int | None):
            self._wrong(place, f"either the token or the token_id of the model is needed, but came {dict(source)}")
            return None
        return None if member is None else TokenRow(ModelToken(member, named, number), force)

    def _keys(self, data: Mapping[str, Any], known: tuple[str, ...], place: str) -> None:
        for key in data:
            if key not in known:
                self._wrong(place, unknown_name("key", str(key), known))

    def _member(self, model: Reference, place: str) -> str | None:
        """Return the name of the member that is a model, or a stack with its tokenizer."""
        wanted = self._source(model)
        if self._base is not None and wanted in (self._base.source, _tokens_from(self._base.source)):
            return BASE_NAME
        for parent in self._parents:
            if wanted in (parent.source, _tokens_from(parent.source)):
                return parent.name
        self._wrong(place, f"{model} is none of the models that are merged")
        return None


def _tokens_from(source: Source) -> Source:
    return source.parents[0].source if isinstance(source, Recipe) and source.path else source
