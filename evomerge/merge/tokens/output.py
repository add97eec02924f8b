"""The tokens of a merge whose vocabulary is built: which there are, with what numbers.

Tokens of the model whose tokenizer is taken, or extended, keep their numbers. Further ones follow: those that other
models' tokenizers cut text into, then those that are added to them, model by model, each in the order of its numbers;
at last those that the recipe alone names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.tokens import Tokens
from evomerge.recipe.tokenizer import UNION, ModelToken, TokenizerBuild

FLAGS: Mapping[str, bool] = {
    "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False,
}  # fmt: skip
"""What tokenizer.json says about an added token, where a recipe alone names it."""


@dataclass(frozen=True)
class Member:
    """A model whose rows are put in another order.

    Attributes:
        name: its name in the recipe.
        label: its name in messages.
        folder: the folder of its tokenizer.
        tokens: its tokens.
        n_rows: how many rows its embedding has.
    """

    name: str
    label: str
    folder: Path
    tokens: Tokens = field(repr=False)
    n_rows: int

    @property
    def who(self) -> str:
        """Its name and label, for messages."""
        return f"{self.name} ({self.label})"

    def row_of(self, token: str) -> int | None:
        """Return the row of a token; None if the model has none for it."""
        row = self.tokens.ids.get(token)
        return row if row is not None and row < self.n_rows else None


@dataclass(frozen=True)
class Output:
    """The vocabulary of a result.

    Attributes:
        ids: token to number.
        n_rows: how many rows embedding and head have.
        cut: the new tokens that are made by a tokenizer's own rules, with the models from which they come.
        added: the new tokens that are looked for in texts first, with their flags.
        warnings: what users should know.
    """

    ids: Mapping[str, int] = field(repr=False)
    n_rows: int
    cut: Mapping[str, Member] = field(repr=False)
    added: Mapping[str, Mapping[str, Any]] = field(repr=False)
    warnings: tuple[str, ...] = ()


def make_output(build: TokenizerBuild, members: Sequence[Member], lender: int) -> Output:
    """Return the vocabulary that a recipe asks for.

    Args:
        build: what the recipe says.
        members: its models; the same one may come twice.
        lender: index of the one whose tokenizer is taken or extended.

    Raises:
        CheckpointError: with every reason why it cannot be built.
    """
    own = members[lender]
    ids: dict[str, int] = dict(own.tokens.ids)
    cut: dict[str, Member] = {}
    added: dict[str, Mapping[str, Any]] = {}
    warnings: list[str] = []
    problems: list[str] = []
    read = {one.folder: tokenizer_json(one.folder) for one in members}
    flags = {one.folder: _flags(one, read[one.folder]) for one in members}
    others = list({one.folder: one for one in members if one.folder != own.folder}.values())
    next_id = own.tokens.n_rows
    if build.source == UNION:
        new: list[tuple[str, Mapping[str, Any] | None, Member]] = []
        for member in others:
            missing = sorted((i, token) for token, i in member.tokens.ids.items() if token not in ids)
            new += [(token, flags[member.folder].get(token), member) for _, token in missing]
            warnings += _other_flags(own, flags[own.folder], member, flags[member.folder])
        for token, flag, member in sorted(new, key=lambda one: one[1] is not None):  # stable
            if token not in ids:
                ids[token], next_id = next_id, next_id + 1
                if flag is None:
                    cut[token] = member
                else:
                    added[token] = flag
    for token in build.tokens:
        if token not in ids:
            ids[token], next_id = next_id, next_id + 1
            added[token] = next((found for one in others if (found := flags[one.folder].get(token))), FLAGS)
    if cut or added:
        problems += _extension_problems(own, read[own.folder], cut, read)
    problems += _row_problems(build, members)
    if problems:
        raise CheckpointError("\n".join(problems))
    multiple = build.pad_to_multiple_of or 1
    return Output(ids, -(-next_id // multiple) * multiple, cut, added, tuple(warnings))


def tokenizer_json(folder: Path) -> dict[str, Any] | None:
    """Return the tokenizer.json of a folder; None if it has none.

    Raises:
        CheckpointError: if it cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = data["model"]["type"], data["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot read {path}: {type(error).__name__}: {error}") from error
    return data


def _flags(member: Member, data: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Return the flags of those tokens of a model that its tokenizer looks for in texts before it cuts them."""
    if data is None:
        return {}
    written = {
        one["content"]: {key: bool(one.get(key, value)) for key, value in FLAGS.items()}
        for one in data.get("added_tokens") or ()
    }
    return written | unwritten_flags(member, data)


def unwritten_flags(member: Member, data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the flags of the tokens that tokenizer_config.json alone names; transformers adds them."""
    vocab = data["model"]["vocab"]
    known = vocab.keys() if isinstance(vocab, dict) else {token for token, _ in vocab}
    unwritten = member.tokens.ids.keys() - known - {one["content"] for one in data.get("added_tokens") or ()}
    return {token: {**FLAGS, "special": token in member.tokens.special} for token in unwritten}


def _other_flags(
    own: Member, mine: Mapping[str, Mapping[str, Any]], other: Member, flags: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return a warning if tokens that two models add have other flags in one than in the other."""
    differing = sorted(token for token in mine.keys() & flags.keys() if mine[token] != flags[token])
    if not differing:
        return []
    first = differing[0]
    keys = [key for key in FLAGS if mine[first][key] != flags[first][key]]
    said = ", ".join(f"{key} is {_word(mine[first][key])} in {own.name}" for key in keys)
    return [
        f"{len(differing)} added tokens have other flags in {other.name} than in {own.name}, whose flags the result "
        f"has (the first is {first!r}: {said})"
    ]


def _word(flag: bool) -> str:
    return "true" if flag else "false"


def _extension_problems(
    own: Member, data: Mapping[str, Any] | None, cut: Mapping[str, Member], read: Mapping[Path, Any]
) -> list[str]:
    """Return why tokens cannot be added to a tokenizer."""
    instead = "take the tokens of one model with {source: base}, or {source: NAME}"
    if data is None:
        return [
            f"the tokenizer of {own.who} has no tokenizer.json, so no tokens can be added to it; save it as a fast "
            f"tokenizer first, or {instead}"
        ]
    problems = []
    kind = data["model"]["type"]
    for member in {one.folder: one for one in cut.values()}.values():
        theirs = read[member.folder]
        n = sum(one is member for one in cut.values())
        first = next(token for token, one in cut.items() if one is member)
        if theirs is None:
            problems.append(
                f"the tokenizer of {member.who} has no tokenizer.json, which would say how its {n} tokens that "
                f"{own.name} lacks are made (the first is {first!r}); save it as a fast tokenizer first, or {instead}"
            )
        elif theirs["model"]["type"] != kind:
            problems.append(
                f"the tokenizer of {member.who} is of the kind {theirs['model']['type']}, that of {own.who} of the "
                f"kind {kind}, so its {n} further tokens (the first is {first!r}) cannot be joined to it; {instead}"
            )
    return problems


def _row_problems(build: TokenizerBuild, members: Sequence[Member]) -> list[str]:
    """Return what is wrong with the rows that a recipe names."""
    named = {one.name: one for one in members}
    problems = []
    for token, row in build.tokens.items():
        if not isinstance(row.source, ModelToken) or row.source.model not in named:
            continue
        member, wanted = named[row.source.model], row.source
        if wanted.token_id is not None:
            if wanted.token_id >= member.n_rows:
                problems.append(
                    f"tokenizer.tokens takes the row of {token!r} from number {wanted.token_id} of {member.who}, whose "
                    f"embedding has {member.n_rows} rows"
                )
        elif member.row_of(wanted.token or token) is None:
            problems.append(
                f"tokenizer.tokens takes the row of {token!r} from {member.who}, which has no row for "
                f"{wanted.token or token!r}"
            )
    return problems
