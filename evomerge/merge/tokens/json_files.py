"""A tokenizer's files with further tokens, or with another chat template.

Numbers of tokens that were there stay. The `tokenizers` library numbers added tokens anew when it reads a file, unless
the model's vocabulary has them; so where that grows, all tokens stand in it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.belongings import belongings, code_files, processor_files
from evomerge.merge.tokens.output import Member, Output, tokenizer_json, unwritten_flags
from evomerge.merge.tokens.templates import DEFAULT, JINJA, MORE_TEMPLATES
from evomerge.system.files import write_json

_OTHER_FORMS = (
    "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
    "added_tokens.json",
)  # fmt: skip
"""Files that hold the vocabulary in another form; they would lack the new tokens."""

_UNLIKELY = 10.0
"""How far below the least score of a Unigram model stand tokens that are looked for before text is cut."""


def copy_tokenizer(source: Path, target: Path, *, code: bool) -> None:
    """Copy the files of a tokenizer or processor into another folder, with the code of its class if that may run."""
    for name in (*belongings(source, trust_remote_code=code), *(code_files(source) if code else ())):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def copy_processor(source: Path, target: Path) -> None:
    """Give a folder of a tokenizer the files of another folder that say how images are read, in place of its own."""
    for name in processor_files(target):
        (target / name).unlink()
    for name, content in processor_files(source).items():
        (target / name).write_bytes(content)
    shutil.copyfile(source / "config.json", target / "config.json")  # older ones have their class's name there alone


def write_templates(folder: Path, templates: Mapping[str, str]) -> None:
    """Give a folder of a tokenizer these chat templates, by name, in place of its own."""
    for path in (folder / "chat_template.json", folder / JINJA, *(folder / MORE_TEMPLATES).glob("*.jinja")):
        path.unlink(missing_ok=True)
    config = folder / "tokenizer_config.json"
    if config.is_file():
        data = json.loads(config.read_text(encoding="utf-8"))
        if data.pop("chat_template", None) is not None:
            write_json(config, data)
    for name, text in templates.items():
        path = folder / JINJA if name == DEFAULT else folder / MORE_TEMPLATES / f"{name}.jinja"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def extend_tokenizer(folder: Path, own: Member, output: Output) -> None:
    """Add the new tokens of an output to the copy of a tokenizer in a folder.

    Args:
        folder: the copy.
        own: the model whose tokenizer it is.
        output: the vocabulary, which `make_output` has checked.

    Raises:
        CheckpointError: if the result is read back with other tokens.
    """
    data = tokenizer_json(folder)
    assert data is not None  # `make_output` has refused it
    model, added = data["model"], [dict(one) for one in data.get("added_tokens") or ()]
    # Tokens that tokenizer_config.json alone names would get other numbers.
    for token, flags in {**unwritten_flags(own, data), **output.added}.items():
        added.append({"id": output.ids[token], "content": token, **flags})
    data["added_tokens"] = sorted(added, key=lambda one: int(one["id"]))
    if output.cut:
        _grow(model, output, {one["content"] for one in added})
        for name in _OTHER_FORMS:
            (folder / name).unlink(missing_ok=True)
    write_json(folder / "tokenizer.json", data)
    _name_added(folder, data["added_tokens"])
    _check(folder, output)


def _grow(model: dict[str, Any], output: Output, added: set[str]) -> None:
    """Put all tokens into a model's vocabulary, with what makes the new ones of a text."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        vocab |= {token: output.ids[token] for token in (*sorted(added), *output.cut) if token not in vocab}
        model["vocab"] = dict(sorted(vocab.items(), key=lambda one: one[1]))
        if "merges" in model:
            model["merges"] = [*model["merges"], *_new_merges(model, output)]
        return
    scores = dict(vocab)
    lowest = min(scores.values(), default=0.0) - _UNLIKELY
    theirs = {}
    for member in {one.folder: one for one in output.cut.values()}.values():
        data = tokenizer_json(member.folder)
        theirs[member.folder] = dict(data["model"]["vocab"]) if data is not None else {}
    new = {token: theirs[member.folder][token] for token, member in output.cut.items()}
    by_number = {number: token for token, number in output.ids.items()}
    lost = [number for number in range(max(by_number) + 1) if number not in by_number]
    if lost:
        raise CheckpointError(
            f"a Unigram tokenizer numbers its tokens without gaps, but no token has the number {lost[0]}; take the "
            "tokens of one model with {source: base}, or {source: NAME}"
        )
    model["vocab"] = [
        [by_number[number], scores.get(by_number[number], new.get(by_number[number], lowest))]
        for number in range(len(by_number))
    ]


def _new_merges(model: Mapping[str, Any], output: Output) -> Iterator[Any]:
    """Yield the merges that make new tokens; they come last, so that they join what the own merges leave apart."""
    seen = {tuple(_pair(merge)) for merge in model["merges"]}
    as_text = bool(model["merges"]) and isinstance(model["merges"][0], str)
    prefix = model.get("continuing_subword_prefix") or ""
    for member in {one.folder: one for one in output.cut.values()}.values():
        data = tokenizer_json(member.folder)
        for merge in data["model"].get("merges") or () if data is not None else ():
            left, right = _pair(merge)
            made = left + right.removeprefix(prefix)
            if output.cut.get(made) is not member or (left, right) in seen:
                continue
            if left in output.ids and right in output.ids:
                seen.add((left, right))
                yield f"{left} {right}" if as_text else [left, right]


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right


def _name_added(folder: Path, added: list[dict[str, Any]]) -> None:
    """Let tokenizer_config.json and added_tokens.json, where they list added tokens, list all of them."""
    path = folder / "tokenizer_config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        if "added_tokens_decoder" in config:
            config["added_tokens_decoder"] = {
                str(one["id"]): {key: value for key, value in one.items() if key != "id"} for one in added
            }
            write_json(path, config)
    path = folder / "added_tokens.json"
    if path.is_file():
        listed = json.loads(path.read_text(encoding="utf-8"))
        own = {one["content"]: one["id"] for one in added}
        write_json(path, {**listed, **own})


def _check(folder: Path, output: Output) -> None:
    from tokenizers import Tokenizer

    try:
        read = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab(with_added_tokens=True)
    except Exception as error:  # the library raises plain exceptions
        raise CheckpointError(f"the tokenizer with all tokens cannot be read back: {error}") from error
    wrong = sorted(token for token in read.keys() | output.ids.keys() if read.get(token) != output.ids.get(token))
    if wrong:
        raise CheckpointError(
            f"the tokenizer with all tokens is read back with other numbers for {len(wrong)} of them (the first is "
            f"{wrong[0]!r}); take the tokens of one model with {{source: base}}, or {{source: NAME}}"
        )
