"""The tokenizer that a recipe builds where its models have different vocabularies, and the chat template it sets.

The YAML form, beside `tokenizer: NAME` for the tokenizer of one model as it is::

    tokenizer:
      source: union                             # the base's tokens, then what the others have; or `base`, or a parent
      tokens:                                   # where the row of a token comes from, if not by the rule
        <|im_start|>: math                      # that model's row of this token
        <|end|>: {kind: model_token, model: math, token: <|eot|>}     # its row of another token, or `token_id: 5`
        <|tool|>: {source: {kind: zero}, force: true}                 # also for models that have the token
      pad_to_multiple_of: 64                    # of the number of rows

Each model's rows are put in the order of this vocabulary before anything is merged. A model that lacks a token gets the
base's row; if the base lacks it too, the row of the only model that has it, or the mean of those that do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from evomerge.errors import RecipeError
from evomerge.system.yaml_text import Place

UNION, BASE_NAME, AUTO = "union", "base", "auto"

TEMPLATES = ("alpaca", "chatml", "exaone", "llama3", "mistral")
"""The names of the chat templates that evomerge brings along (`evomerge/merge/tokens/templates`)."""


@dataclass(frozen=True)
class ModelToken:
    """The row of a token of a model.

    Attributes:
        model: a parent's name, or "base".
        token: the token; None: the one that the row is for, or `token_id`.
        token_id: the token's number in the model's own tokenizer.
    """

    model: str
    token: str | None = None
    token_id: int | None = None


@dataclass(frozen=True)
class ZeroRow:
    """A row of zeros."""


@dataclass(frozen=True)
class TokenRow:
    """Where the row of a token comes from.

    Attributes:
        source: a model's row, or zeros.
        force: whether models that have the token get this row too; else it is for those that lack it.
    """

    source: ModelToken | ZeroRow
    force: bool = False


@dataclass(frozen=True)
class TokenizerBuild:
    """A tokenizer that is built of those of a recipe's models, to whose tokens all rows are put in order.

    Attributes:
        source: "union", "base" or a parent's name: whose tokens there are.
        tokens: token to where its row comes from; tokens that the source lacks are added to it.
        pad_to_multiple_of: the number of rows is a multiple of this; None: as many as there are tokens.
    """

    source: str = UNION
    tokens: Mapping[str, TokenRow] = field(default_factory=dict)
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", MappingProxyType(dict(sorted(self.tokens.items()))))

    def __hash__(self) -> int:
        return hash((self.source, tuple(self.tokens.items()), self.pad_to_multiple_of))

    def __reduce__(self) -> tuple[Any, ...]:  # a read-only mapping cannot be pickled
        return TokenizerBuild, (self.source, dict(self.tokens), self.pad_to_multiple_of)

    @property
    def lender(self) -> str | None:
        """The model whose tokenizer is taken, or extended; None: the base's, or without a base the first parent's."""
        return None if self.source == UNION else self.source

    def to_data(self) -> dict[str, Any]:
        """Return the JSON/YAML form; `tokenizer_from_data` reads it back."""
        data: dict[str, Any] = {"source": self.source}
        if self.tokens:
            data["tokens"] = {token: _row_to_data(row) for token, row in self.tokens.items()}
        if self.pad_to_multiple_of is not None:
            data["pad_to_multiple_of"] = self.pad_to_multiple_of
        return data


Tokenizer: TypeAlias = "str | TokenizerBuild"
"""A model's name, whose tokenizer is taken as it is; or how to build one."""


def tokenizer_to_data(tokenizer: Tokenizer) -> str | dict[str, Any]:
    """Return the JSON/YAML form of a recipe's tokenizer."""
    return tokenizer.to_data() if isinstance(tokenizer, TokenizerBuild) else tokenizer


def tokenizer_from_data(data: Any) -> Tokenizer | None:
    """Read the JSON/YAML form of a recipe's tokenizer.

    Raises:
        RecipeError: with every mistake in it.
    """
    if data is None or isinstance(data, str):
        return data
    if not isinstance(data, Mapping):
        raise RecipeError(
            f"`tokenizer` is a parent's name, `base`, or a mapping like {{source: union}}, but came {data!r}"
        )
    problems = [
        f"unknown key of `tokenizer`: {key!r}; known: source, tokens, pad_to_multiple_of"
        for key in data
        if key not in ("source", "tokens", "pad_to_multiple_of")
    ]
    source = data.get("source", UNION)
    if not isinstance(source, str):
        problems.append(f"`tokenizer.source` is union, base or a parent's name, but came {source!r}")
    multiple = data.get("pad_to_multiple_of")
    if multiple is not None and (isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1):
        problems.append(f"`tokenizer.pad_to_multiple_of` is a whole number from 1, but came {multiple!r}")
    given, tokens = data.get("tokens") or {}, {}
    if not isinstance(given, Mapping):
        problems.append(f"`tokenizer.tokens` maps tokens to where their rows come from, but came {given!r}")
        given = {}
    for token, one in given.items():
        if not isinstance(token, str) or not token:
            problems.append(f"`tokenizer.tokens` has {token!r}, which is no text; write it in quotes")
            continue
        row = _row_from_data(one)
        if row is None:
            problems.append(
                f"`tokenizer.tokens` says where the row of {token!r} comes from: a model's name, {{kind: model_token, "
                "model: NAME, token: TOKEN} (or token_id: NUMBER), or {kind: zero}; each also as {source: …, force: "
                f"true}}; but came {dict(one) if isinstance(one, Mapping) else one!r}"
            )
        else:
            tokens[token] = row
    if problems:
        raise RecipeError("; ".join(problems))
    return TokenizerBuild(source, tokens, multiple)


def tokenizer_problems(tokenizer: Tokenizer | None, parents: list[str]) -> list[str]:
    """Return what is wrong with the names of models in a recipe's tokenizer, one sentence each."""
    models = {*parents, BASE_NAME}
    known = f"a parent ({', '.join(parents)}) or 'base'"
    if not isinstance(tokenizer, TokenizerBuild):
        if tokenizer is None or tokenizer in models:
            return []
        instead = ", or be {source: union}" if tokenizer == UNION else ""
        return [f"tokenizer must name {known}{instead}, not {tokenizer!r}"]
    problems = []
    if tokenizer.source not in {UNION, *models}:
        problems.append(f"tokenizer.source must be 'union', or name {known}, not {tokenizer.source!r}")
    return problems + [
        f"tokenizer.tokens takes the row of {token!r} from {name!r}, which is neither {known}"
        for token, name in models_named(tokenizer)
        if name not in models
    ]


def models_named(build: TokenizerBuild) -> Iterator[tuple[str, str]]:
    """Yield each token whose row is said to come from a model, with the model's name."""
    for token, row in build.tokens.items():
        if isinstance(row.source, ModelToken):
            yield token, row.source.model


def template_problem(template: Any, parents: list[str]) -> str | None:
    """Return what is wrong with a recipe's chat template, as far as it shows in its text; None: nothing."""
    if template is None or (isinstance(template, str) and template in {AUTO, BASE_NAME, *parents, *TEMPLATES}):
        return None
    if isinstance(template, str) and "{" in template:
        return None
    return (
        f"chat_template must be auto, a parent ({', '.join(parents)}) or 'base', one of {', '.join(TEMPLATES)}, or the "
        f"text of a Jinja template, which holds a '{{'; but came {template!r}"
    )


def tokenizer_text_at(place: Place) -> bool:
    """Return whether text is meant at a place inside of a recipe's tokenizer."""
    match place:
        case () | ("source",) | ("tokens", str()):
            return True
        case ("tokens", str(), *inner):
            return tuple(inner) in {
                *(("source",), ("kind",), ("model",), ("token",)),
                *(("source", "kind"), ("source", "model"), ("source", "token")),
            }
        case _:
            return False


def _row_to_data(row: TokenRow) -> Any:
    source: Any
    if isinstance(row.source, ZeroRow):
        source = {"kind": "zero"}
    elif row.source.token is not None:
        source = {"kind": "model_token", "model": row.source.model, "token": row.source.token}
    elif row.source.token_id is not None:
        source = {"kind": "model_token", "model": row.source.model, "token_id": row.source.token_id}
    else:
        source = row.source.model
    return {"source": source, "force": True} if row.force else source


def _row_from_data(data: Any) -> TokenRow | None:
    """Read where a row comes from; None if it is not understood."""
    force = False
    if isinstance(data, Mapping) and "source" in data:
        force = data.get("force", False)
        if set(data) - {"source", "force"} or not isinstance(force, bool):
            return None
        data = data["source"]
    elif isinstance(data, Mapping) and "force" in data:
        force = data["force"]
        data = {key: value for key, value in data.items() if key != "force"}
        if not isinstance(force, bool):
            return None
    if isinstance(data, str) and data:
        return TokenRow(ModelToken(data), force)
    if not isinstance(data, Mapping):
        return None
    if data.get("kind") == "zero" and set(data) == {"kind"}:
        return TokenRow(ZeroRow(), force)
    model, token, token_id = data.get("model"), data.get("token"), data.get("token_id")
    if data.get("kind") != "model_token" or not isinstance(model, str) or (token is None) == (token_id is None):
        return None
    if set(data) - {"kind", "model", "token", "token_id"} or not isinstance(token, (str, type(None))):
        return None
    if token_id is not None and (isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0):
        return None
    return TokenRow(ModelToken(model, token, token_id), force)
