"""The tokens of a model's tokenizer, and in which the tokenizers of two models differ.

A row of an embedding (or of a head) stands for the token with its number. So models can share rows only if their
tokenizers give a token the same number; what else the tokenizers do differently is a matter of how text is cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.belongings import belongings, code_files, has_tokenizer

PROBES = (
    "Hello  world!\n\tÉcole n° 12345.67 — don't STOP",
    " leading and trailing ",
    "東京で 한국어 ภาษา 🙂 e\u0301 ﬁ ＡＢＣ",
    "def f(x):\n        return x**2  # ok\r\n",
)
"""Texts that tokenizers with other rules cut differently: blanks, lines, digits, accents, widths, scripts, code."""

_SAMPLES = 256
"""How many tokens' own texts are cut, too, spread over the vocabulary: merges in another order show in them."""

_MOST = 0.5
"""The share of rows that may stand for other tokens, before two vocabularies count as different ones."""

_UNTOKENIZED = frozenset({
    "chat_template", "model_max_length", "padding_side", "truncation_side", "name_or_path", "processor_class",
    "clean_up_tokenization_spaces", "tokenizer_class", "backend", "is_local", "extra_special_tokens",
    "additional_special_tokens", "special_tokens_map_file", "local_files_only", "errors",
})  # fmt: skip
"""Keys of tokenizer_config.json that say nothing about how text is cut; nor do those that end in "_token"."""


class UnusualTokenizerError(Exception):
    """A tokenizer whose tokens only transformers can tell."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one tokenizer.

    Attributes:
        files: a digest of its files.
        ids: token to number.
        special: the tokens that decoding may leave out.
        rules: a text that is equal for tokenizers which cut text in the same way if they have the same tokens.
        encode: text to the numbers of its tokens, with those that the tokenizer puts around it; None: not known here.
        decode: the number of a token to its text; None: not known here.
    """

    files: str
    ids: Mapping[str, int] = field(repr=False)
    special: frozenset[str]
    rules: str = field(repr=False)
    encode: Callable[[str], Sequence[int]] | None = field(repr=False, default=None)
    decode: Callable[[int], str] | None = field(repr=False, default=None)

    @property
    def n_rows(self) -> int:
        """How many rows an embedding needs for them."""
        return max(self.ids.values(), default=-1) + 1


def read_tokens(folder: Path, *, trust_remote_code: bool = False) -> Tokens | None:
    """Return the tokens of the tokenizer in a folder, as transformers reads it; None if there is no tokenizer.

    Raises:
        CheckpointError: if transformers cannot load it.
    """
    if not has_tokenizer(folder):
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        ids = {str(token): int(number) for token, number in tokenizer.get_vocab().items()}
        special = frozenset(map(str, tokenizer.all_special_tokens))
    except Exception as error:  # transformers raises almost anything on missing or broken files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{folder} has no tokenizer that transformers can load: {reason}") from error
    files = files_digest(folder)
    return Tokens(
        files,
        ids,
        special,
        rules=files,
        encode=lambda text: list(tokenizer(text)["input_ids"]),
        decode=lambda number: str(tokenizer.decode([number])),
    )


def files_digest(folder: Path) -> str:
    """Return a text that is equal for folders with the same files of a tokenizer and processor, and of code.

    Raises:
        CheckpointError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for name in (*belongings(folder), *code_files(folder)):
            content = (folder / name).read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror or error}") from error
    return digest.hexdigest()


def read_tokens_quickly(folder: Path) -> Tokens | None:
    """Return the tokens of a tokenizer from its files, without transformers; None if there is no tokenizer.

    Raises:
        UnusualTokenizerError: if the files do not tell them for certain.
    """
    if not has_tokenizer(folder):
        return None
    try:
        whole: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        model = dict(whole.pop("model"))
        vocab, added = model.pop("vocab"), whole.pop("added_tokens") or []
        ids = dict(vocab) if isinstance(vocab, dict) else {token: i for i, (token, _) in enumerate(vocab)}
        known = {one["content"]: one["id"] for one in added}
        config = _read_json(folder / "tokenizer_config.json")
        written = {one["content"]: int(i) for i, one in (config.pop("added_tokens_decoder", None) or {}).items()}
        written |= _read_json(folder / "added_tokens.json")
        named = _special_tokens(config) | _special_tokens(_read_json(folder / "special_tokens_map.json"))
        if not written.items() <= known.items() or not named <= known.keys() or "auto_map" in config:
            raise UnusualTokenizerError
        special = frozenset(one["content"] for one in added if one.get("special")) | named
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnusualTokenizerError from error
    # The order of merges and the way of every token count; an added token that all have is the same one.
    flags = sorted(json.dumps({key: value for key, value in one.items() if key != "id"}) for one in added)
    ways = {key: value for key, value in config.items() if key not in _UNTOKENIZED and not key.endswith("_token")}
    rules = json.dumps([whole, model, flags, ways], sort_keys=True)
    return Tokens(files_digest(folder), ids | known, special, rules)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _special_tokens(config: Mapping[str, Any]) -> set[str]:
    found: list[Any] = [value for key, value in config.items() if key.endswith("_token")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = config.get(key) or []
        found += list(more.values()) if isinstance(more, dict) else list(more)
    texts = [one.get("content") if isinstance(one, dict) else one for one in found]
    return {one for one in texts if isinstance(one, str)}


def row_problem(tokens: Tokens, whose: str, n_rows: int, model: str) -> str | None:
    """Return a sentence if a tokenizer has tokens beyond the rows of an embedding; None: it has not.

    Args:
        tokens: the tokenizer's.
        whose: the model whose tokenizer it is.
        n_rows: how many rows the embedding has.
        model: the model that has the embedding.
    """
    beyond = sorted((number, token) for token, number in tokens.ids.items() if number >= n_rows)
    if not beyond:
        return None
    number, token = beyond[0]
    return (
        f"the tokenizer of {whose} has {len(tokens.ids)} tokens, but the embedding of {model} has {n_rows} rows, so "
        f"that {len(beyond)} tokens have none (the first is {token!r}, number {number}); take another model's "
        "tokenizer, remove these tokens, or give the model rows for them (resize_token_embeddings)"
    )


def differences(one: Tokens, other: Tokens, names: tuple[str, str]) -> tuple[list[str], list[str]]:
    """Compare the tokenizers of two models that share rows.

    Args:
        one: the tokens of the first.
        other: those of the second.
        names: of both models, in messages.

    Returns:
        Why their rows cannot be mixed; what else the user should know.

    Raises:
        UnusualTokenizerError: if it takes `encode` to say how they differ.
    """
    a, b = names
    if one.ids == other.ids:
        return [], _other_rules(one, other, names)
    moved = sorted((i, token) for token, i in one.ids.items() if other.ids.get(token, i) != i)
    if moved:
        i, token = moved[0]
        return [
            f"{a} and {b} give {len(moved)} of their tokens other numbers ({token!r} is {i} in {a} and "
            f"{other.ids[token]} in {b}), so that the same row of their embeddings stands for different tokens; let "
            "`tokenizer: {source: union}` put their rows in one order, leave one of them out, or let only one of them "
            "give embedding and head (a group with roles: [embedding, head] and weight 0 for the other)"
        ], []
    mine = {i: token for token, i in one.ids.items()}
    theirs = {i: token for token, i in other.ids.items()}
    renamed = sorted(i for i in mine.keys() & theirs.keys() if mine[i] not in other.ids and theirs[i] not in one.ids)
    warnings = []
    if renamed:
        i = renamed[0]
        said = (
            f"{len(renamed)} rows stand for other tokens in {a} than in {b} (number {i} is {mine[i]!r} in {a} and "
            f"{theirs[i]!r} in {b})"
        )
        if len(renamed) > _MOST * min(len(mine), len(theirs)):
            return [
                f"{said}: they have different vocabularies; let `tokenizer: {{source: union}}` put their rows in one "
                "order, or leave one of them out"
            ], []
        warnings.append(f"{said}; a merge mixes these rows")
    for who, more, fewer in ((a, one, other), (b, other, one)):
        extra = sorted(set(more.ids.values()) - set(fewer.ids.values()))
        if extra:
            first = next(token for token, i in more.ids.items() if i == extra[0])
            warnings.append(
                f"{len(extra)} tokens are in the tokenizer of {who} only (the first is {first!r}, number {extra[0]})"
            )
    # Where rows were given to other tokens, most texts with these are cut differently.
    return [], warnings if renamed else warnings + _other_rules(one, other, names)


def _other_rules(one: Tokens, other: Tokens, names: tuple[str, str]) -> list[str]:
    if one.rules == other.rules:
        return []
    if one.encode is None or other.encode is None or one.decode is None:
        raise UnusualTokenizerError
    a, b = names
    common = one.ids.keys() & other.ids.keys()
    special = sorted((one.special | other.special) & common)
    found = []
    numbers = sorted(one.ids[token] for token in common)
    words = [one.decode(numbers[k * len(numbers) // _SAMPLES]) for k in range(_SAMPLES if numbers else 0)]
    for text in dict.fromkeys([*PROBES, *(f"a {token} b{token}c" for token in special[:64]), *words]):
        here, there = list(one.encode(text)), list(other.encode(text))
        if here != there:
            first = next((i for i, pair in enumerate(zip(here, there, strict=False)) if pair[0] != pair[1]), 0)
            found.append(
                f"the tokenizers of {a} and {b} cut text differently: {text!r} is {_shown(here, one, first)} for {a} "
                f"and {_shown(there, other, first)} for {b}"
            )
            break
    ways = sorted((one.special ^ other.special) & common)
    if ways:
        who = a if ways[0] in one.special else b
        found.append(f"{ways[0]!r} is a special token for {who} only, which decoding may leave out")
    return found


def _shown(numbers: Sequence[int], tokens: Tokens, first: int, most: int = 6) -> str:
    """Return some tokens of a text, from the first one on that counts."""
    names = {i: token for token, i in tokens.ids.items()}
    shown = [repr(names.get(i, i)) for i in numbers[first : first + most]]
    before, after = ["…"] * (first > 0), ["…"] * (len(numbers) > first + most)
    return f"[{' '.join([*before, *shown, *after])}] ({len(numbers)} tokens)"
