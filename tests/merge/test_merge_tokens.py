"""Models that share rows of an embedding must mean the same tokens by them, and every token needs a row."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import make, recipe, same_bytes, tensors_of
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.disk.plain import plain_merge
from evomerge.merge.files.tokens import (
    UnusualTokenizerError,
    differences,
    read_tokens,
    read_tokens_quickly,
    row_problem,
)
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, Recipe
from evomerge.zoo import zoo_path

SPECIALS = ["<pad>", "<s>", "</s>", "<unk>"]
LETTERS = "abcdefghijklmnop"  # with the specials 20 tokens, for 24 rows


def words(*tokens: str) -> dict[str, int]:
    return {token: i for i, token in enumerate(tokens)}


def tokenizer(folder: Path, vocab: dict[str, int], change: Callable[[Any], Any] | None = None, **options: Any) -> None:
    inner = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Split(" ", "removed"), decoders.Fuse()
    if change is not None:
        change(inner)
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>", **options
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    made.save_pretrained(folder)


def model(folder: Path, seed: int, *tokens: str, change: Callable[[Any], Any] | None = None, **config: Any) -> Path:
    tokenizer(make(folder, seed, **config), words(*(tokens or (*SPECIALS, *LETTERS))), change)
    return folder


def linear(**parents: Path) -> Recipe:
    return recipe("linear", None, parents)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, logger="evomerge")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("evomerge")]


# ---- the same numbers


@pytest.mark.parametrize("case", ["all in another order", "two letters", "one special token"])
def test_tokens_with_other_numbers_are_refused(case: str, tmp_path: Path) -> None:
    tokens = {
        "all in another order": [*SPECIALS, *reversed(LETTERS)],
        "two letters": [*SPECIALS, "b", "a", *LETTERS[2:]],
        "one special token": ["<pad>", "</s>", "<s>", "<unk>", *LETTERS],
    }[case]
    one, two = model(tmp_path / "one", 0), model(tmp_path / "two", 1, *tokens)
    token, i, j = {"two letters": ("a", 4, 5), "one special token": ("<s>", 1, 2)}.get(case, ("a", 4, 19))
    both = linear(x=one, y=two)
    assert plain_merge(both) is None
    for build in (lambda: merge_to_disk(both, tmp_path / "out"), lambda: LiveModels().write(both)):
        with pytest.raises(CheckpointError) as caught:
            build()
        assert f"x and y give {16 if i == 4 and j == 19 else 2} of their tokens other numbers" in str(caught.value)
        assert f"({token!r} is {i} in x and {j} in y)" in str(caught.value)
        assert "leave one of them out" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_rows_that_one_model_gives_alone_may_mean_what_they_like(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", 0), model(tmp_path / "two", 1, *SPECIALS, *reversed(LETTERS))
    data = linear(x=one, y=two).to_data()
    data["groups"] = [{"roles": ["embedding", "head"], "parameters": {"weight": {"x": 1.0, "y": 0.0}}}]
    merge_to_disk(Recipe.from_data(data), tmp_path / "out")
    merged, first = tensors_of(tmp_path / "out"), tensors_of(one)
    outer = ("lm_head.weight", "model.embed_tokens.weight")
    assert same_bytes({name: merged[name] for name in outer}, {name: first[name] for name in outer})
    # But then the tokenizer must be that model's.
    data["tokenizer"] = "y"
    with pytest.raises(CheckpointError, match="y and x give 16 of their tokens other numbers"):
        merge_to_disk(Recipe.from_data(data), tmp_path / "again")


def test_the_base_counts_where_its_rows_are_in_the_result(tmp_path: Path) -> None:
    base, one = model(tmp_path / "base", 0), model(tmp_path / "one", 1, *SPECIALS, *reversed(LETTERS))
    with pytest.raises(CheckpointError, match="base and x give 16"):
        Sources().plan(recipe("task_arithmetic", base, {"x": one}))
    inner = recipe("linear", None, {"x": one})
    with pytest.raises(CheckpointError, match="merge and y give 16"):
        Sources().plan(recipe("linear", None, {"merge": inner, "y": base}))


def test_a_path_needs_the_tokenizer_of_its_first_model_only(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", 0), model(tmp_path / "two", 1, *SPECIALS, *reversed(LETTERS))
    data: dict[str, Any] = {
        "method": PASSTHROUGH,
        "parents": {"x": str(one), "y": str(two)},
        "path": [{"parent": "x", "layers": [0, 1]}, {"parent": "y", "layers": [1, 2]}],
    }
    merge_to_disk(Recipe.from_data(data), tmp_path / "out")
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (one / "tokenizer.json").read_bytes()
    for build in (lambda of: merge_to_disk(of, tmp_path / "again"), lambda of: LiveModels().write(of)):
        with pytest.raises(CheckpointError, match="y and x give 16 of their tokens other numbers"):
            build(Recipe.from_data({**data, "tokenizer": "y"}))


# ---- other tokens


def test_tokens_of_one_model_alone_are_said_and_merged(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    one, two = model(tmp_path / "one", 0), model(tmp_path / "two", 1, *SPECIALS, *LETTERS, "<tool>", "<call>")
    merge_to_disk(linear(x=one, y=two), tmp_path / "plain")
    wanted = ["2 tokens are in the tokenizer of y only (the first is '<tool>', number 20)"]
    assert said() == wanted
    sources = Sources()
    merge_to_disk(linear(x=one, y=two), tmp_path / "general", sources=sources)
    assert list(sources.warnings) == wanted
    sources.plan(linear(x=one, y=two))
    assert said() == wanted * 2, "once for each merge"


def test_a_few_rows_for_other_tokens_are_said_and_many_are_refused(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    one = model(tmp_path / "one", 0)
    few = model(tmp_path / "few", 1, *SPECIALS, "あ", *LETTERS[1:])
    many = model(tmp_path / "many", 1, *SPECIALS, *"あいうえおかきくけこさ", *LETTERS[11:])
    merge_to_disk(linear(x=one, y=few), tmp_path / "out")
    assert said() == [
        "1 rows stand for other tokens in x than in y (number 4 is 'a' in x and 'あ' in y); a merge mixes these rows"
    ]
    with pytest.raises(CheckpointError, match=r"11 rows stand for other tokens.*different vocabularies"):
        merge_to_disk(linear(x=one, y=many), tmp_path / "again")


# ---- other rules for the same tokens


RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "normalizer": (lambda inner: setattr(inner, "normalizer", normalizers.Lowercase()), "Hello"),
    "pre-tokenizer": (lambda inner: setattr(inner, "pre_tokenizer", pre_tokenizers.Whitespace()), "Hello"),
    "a token before each text": (
        lambda inner: setattr(
            inner, "post_processor", processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        ),
        "Hello",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_other_rules_are_said_with_a_text_that_shows_them(
    rule: str, tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    change, text = RULES[rule]
    one, two = model(tmp_path / "one", 0), model(tmp_path / "two", 1, change=change)
    merge_to_disk(linear(x=one, y=two), tmp_path / "out")
    (warning,) = said()
    assert warning.startswith("the tokenizers of x and y cut text differently: ")
    assert text in warning
    assert " for x and " in warning
    assert warning.endswith(" for y")


def test_merges_in_another_order_are_said_with_a_word_of_the_vocabulary(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    folders = []
    for name, merges in (("one", [("y", "z"), ("x", "yz")]), ("two", [("y", "z"), ("x", "y")])):
        folders.append(make(tmp_path / name, len(folders)))
        inner = Tokenizer(models.BPE(words(*SPECIALS, *"xyz", "yz", "xy", "xyz"), merges, unk_token="<unk>"))
        PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>").save_pretrained(folders[-1])
    merge_to_disk(linear(x=folders[0], y=folders[1]), tmp_path / "out")
    assert said() == [
        "the tokenizers of x and y cut text differently: 'xy' is ['x' 'y'] (2 tokens) for x and ['xy'] (1 tokens) for y"
    ]


def test_a_token_that_is_special_for_one_model_only_is_said(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one", 0), make(tmp_path / "two", 1)
    tokenizer(two, words(*SPECIALS, *LETTERS), extra_special_tokens=["p"])
    a, b = read_tokens(one), read_tokens(two)
    assert a is not None
    assert b is not None
    assert differences(a, b, ("x", "y")) == ([], ["'p' is a special token for y only, which decoding may leave out"])


def test_other_files_of_the_same_tokenizer_are_equal(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    one, two = make(tmp_path / "one", 0), make(tmp_path / "two", 1)
    for folder in (one, two):
        (folder / "tokenizer.json").unlink()
        vocab = words("<|endoftext|>", *(chr(i) for i in range(97, 118)), "ab")
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "merges.txt").write_text("#version: 0.2\na b\n")
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    AutoTokenizer.from_pretrained(two).save_pretrained(two)
    for name in ("vocab.json", "merges.txt"):
        (two / name).unlink(missing_ok=True)
    assert (two / "tokenizer.json").is_file()
    merge_to_disk(linear(x=one, y=two), tmp_path / "out")
    assert said() == []
    tokens = [AutoTokenizer.from_pretrained(each)("abba c")["input_ids"] for each in (one, two, tmp_path / "out")]
    assert tokens[0] == tokens[1] == tokens[2]


def test_models_without_a_tokenizer_are_merged_without_a_word(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    one, two = make(tmp_path / "one", 0), model(tmp_path / "two", 1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (one / name).unlink()
    merge_to_disk(linear(x=one, y=two), tmp_path / "out")
    merge_to_disk(linear(x=one, y=two), tmp_path / "general", sources=Sources())
    assert said() == []


def test_a_tokenizer_that_cannot_be_read_is_said_and_the_weights_are_merged(
    tmp_path: Path, said: Callable[[], list[str]]
) -> None:
    one, two = model(tmp_path / "one", 0), model(tmp_path / "two", 1)
    (one / "tokenizer.json").write_text("{")
    merge_to_disk(linear(x=one, y=two), tmp_path / "out")
    (warning,) = said()
    assert f"{one} has no tokenizer that transformers can load" in warning
    assert "not compared" in warning


# ---- rows


def test_tokens_beyond_the_rows_are_refused_before_weights_are_read(tmp_path: Path) -> None:
    one = model(tmp_path / "one", 0)
    big = model(tmp_path / "big", 1, *SPECIALS, *LETTERS, *"ABCDEF")
    sound = (one / "model.safetensors").read_bytes()
    for folder in (one, big):  # whoever reads a value says that it is NaN
        empty = {name: torch.full_like(tensor, torch.nan) for name, tensor in tensors_of(folder).items()}
        save_file(empty, folder / "model.safetensors", metadata={"format": "pt"})
    sentence = (
        rf"the tokenizer of big \({big}\) has 26 tokens, but the embedding of \w+ \(.*\) has 24 rows, so that 2 tokens "
        r"have none \(the first is 'E', number 24\)"
    )
    for of in (
        recipe("linear", None, {"big": big}),
        recipe("linear", None, {"one": one, "big": big}, tokenizer="big"),
        recipe(PASSTHROUGH, None, {"big": big}),
    ):
        for build in (lambda of: merge_to_disk(of, tmp_path / "out"), lambda of: LiveModels().write(of)):
            with pytest.raises(CheckpointError, match=sentence):
                build(of)
    for folder in (one, big):
        (folder / "model.safetensors").write_bytes(sound)
    merge_to_disk(recipe("linear", None, {"one": one, "big": big}), tmp_path / "out")  # the tokenizer of one will do


def test_a_special_token_that_only_the_configuration_names_needs_a_row_too(tmp_path: Path) -> None:
    full = model(tmp_path / "full", 0, vocab_size=20)
    config = json.loads((full / "tokenizer_config.json").read_text())
    (full / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "[PAD]"}))
    with pytest.raises(CheckpointError, match=r"20 rows, so that 1 tokens have none \(the first is '\[PAD\]'"):
        merge_to_disk(linear(x=full), tmp_path / "out")


def test_rows_without_a_token_are_padding(tmp_path: Path, said: Callable[[], list[str]]) -> None:
    merge_to_disk(linear(x=model(tmp_path / "one", 0), y=model(tmp_path / "two", 1)), tmp_path / "out")
    assert said() == []


# ---- both ways of reading


@pytest.mark.parametrize("case", ["zoo", "words", "byte-level with added tokens", "pieces"])
def test_files_say_the_same_tokens_as_transformers(case: str, tmp_path: Path) -> None:
    folder = zoo_path("math") if case == "zoo" else make(tmp_path / "m", 0)
    if case == "byte-level with added tokens":
        vocab = words(*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet()))
        tokenizer(folder, vocab, lambda inner: setattr(inner, "pre_tokenizer", pre_tokenizers.ByteLevel()))
        whole = AutoTokenizer.from_pretrained(folder)
        whole.add_tokens(["hello world"])
        whole.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
        whole.save_pretrained(folder)
    elif case == "pieces":
        inner = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0))
        PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>").save_pretrained(folder)
    quick, whole = read_tokens_quickly(folder), read_tokens(folder)
    assert quick is not None
    assert whole is not None
    assert dict(quick.ids) == dict(whole.ids)
    assert quick.special == whole.special


def test_what_files_do_not_tell_is_left_to_transformers(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", 0)
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    with pytest.raises(UnusualTokenizerError):
        read_tokens_quickly(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UnusualTokenizerError):
        read_tokens_quickly(folder)


def test_a_sentence_about_rows_shows_any_token(tmp_path: Path) -> None:
    tokens = read_tokens(model(tmp_path / "m", 0, *SPECIALS, "a\x1b[2J\ud7ff", "\u202eb"))
    assert tokens is not None
    text = row_problem(tokens, "x", 4, "y")
    assert text is not None
    assert "\x1b" not in text
    assert row_problem(tokens, "x", 6, "y") is None
