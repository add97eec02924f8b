"""Models of different vocabularies: rows in the order of one tokenizer, on disk and in memory, and that tokenizer."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import edit_config, recipe, same_bytes, tensors_of
from token_models import EMBEDDING, HEAD, LETTERS, SPECIALS, bpe, model, row, three, vocabulary
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.disk.plain import plain_merge
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import Recipe, TokenizerBuild
from evomerge.recipe.tokenizer import ModelToken, TokenRow, ZeroRow


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return three(tmp_path_factory.mktemp("vocabularies"))


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.WARNING, logger="evomerge")
    return lambda: "\n".join(one.getMessage() for one in caplog.records if one.name.startswith("evomerge"))


def union(**more: Any) -> TokenizerBuild:
    return TokenizerBuild("union", **more)


def arithmetic(family: SimpleNamespace, tokenizer: Any, weight: Any = 1.0, **fields: Any) -> Recipe:
    parents = {"chat": family.chat, "other": family.other}
    return recipe("task_arithmetic", family.base, parents, parameters={"weight": weight}, tokenizer=tokenizer, **fields)


# ---- rows


@pytest.mark.parametrize(("dtype", "tied"), [("float32", False), ("bfloat16", True)])
def test_each_token_has_the_row_that_the_rule_says(dtype: str, tied: bool, tmp_path: Path) -> None:
    family = three(tmp_path, dtype=dtype, tie_word_embeddings=tied)
    made = merge_to_disk(arithmetic(family, union(), {"chat": 1.0, "other": 0.5}, dtype="float32"), tmp_path / "out")
    ids, merged = vocabulary(made), tensors_of(made)
    assert len(ids) == len(vocabulary(family.base)) + 4
    assert {token: number for token, number in ids.items() if number < 14} == vocabulary(family.base)
    exact = getattr(torch, dtype)
    for name in (EMBEDDING,) if tied else (EMBEDDING, HEAD):
        assert merged[name].shape == (len(ids), 16)
        for token, number in ids.items():
            base, chat, other = (row(one, name, token) for one in (family.base, family.chat, family.other))
            owners = [one for one in (chat, other) if one is not None]
            lent = base if base is not None else torch.stack(owners).mean(0).to(exact).double()
            base, chat, other = (lent if one is None else one for one in (base, chat, other))
            expected = base + (chat - base) + 0.5 * (other - base)
            torch.testing.assert_close(merged[name][number].double(), expected, rtol=1e-5, atol=1e-7)
    plain = {name: values for name, values in merged.items() if name not in (EMBEDDING, HEAD)}
    base, chat, other = (tensors_of(one) for one in (family.base, family.chat, family.other))
    for name, values in plain.items():
        expected = base[name].float() + (chat[name].float() - base[name].float())
        torch.testing.assert_close(values, expected + 0.5 * (other[name].float() - base[name].float()))


@pytest.mark.parametrize("source", ["base", "other", "union"])
@pytest.mark.parametrize("method", ["linear", "ties", "slerp"])
def test_memory_and_disk_have_the_same_bytes(source: str, method: str, family: SimpleNamespace, tmp_path: Path) -> None:
    parents = {"chat": family.chat, "other": family.other}
    fixed = {"slerp": {"t": 0.3}, "ties": {"density": 0.5}, "linear": {"weight": {"chat": 0.3, "other": 0.9}}}[method]
    wanted = recipe(method, family.base, parents, parameters=fixed, tokenizer=TokenizerBuild(source))
    assert plain_merge(wanted) is None
    made = merge_to_disk(wanted, tmp_path / "out")
    live = LiveModels(sources=Sources())
    for _ in range(3):  # the first time rows are put in order, the second time they are kept
        live.write(Recipe("linear", (wanted.parents[1],)))  # a parent as it is, with rows of its own
        assert live.tokenizer.get_vocab() == vocabulary(family.other)
        assert live.model.config.vocab_size == len(vocabulary(family.other))
        live.write(wanted)
        live.model.save_pretrained(tmp_path / "live")
        assert same_bytes(tensors_of(tmp_path / "live"), tensors_of(made))
        assert live.tokenizer.get_vocab() == vocabulary(made)
        assert live.model.config.vocab_size == AutoConfig.from_pretrained(made).vocab_size == len(vocabulary(made))
        assert live.model.config.eos_token_id == AutoConfig.from_pretrained(made).eos_token_id


def test_rows_are_kept_in_a_search_and_the_number_of_threads_changes_nothing(family: SimpleNamespace) -> None:
    sources = Sources(cache=1)
    wanted = arithmetic(family, union(pad_to_multiple_of=32))
    opened = sources.family(wanted)
    assert sources.family(arithmetic(family, union(pad_to_multiple_of=32), weight=0.5)) is opened
    assert sources.family(arithmetic(family, union())) is not opened
    first = opened.load(1, EMBEDDING)
    used = sources.parent_cache.used
    second, third = opened.load(1, EMBEDDING), opened.load(1, EMBEDDING)
    assert sources.parent_cache.used == used + 32 * 16 * 4
    assert torch.equal(first, second)
    assert third is second
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert torch.equal(Sources().family(wanted).load(1, EMBEDDING), first)
    finally:
        torch.set_num_threads(threads)


def test_rows_beyond_the_tokens_are_the_mean_of_the_others(family: SimpleNamespace, tmp_path: Path) -> None:
    wanted = recipe(
        "linear", None, {"chat": family.chat}, tokenizer=TokenizerBuild("chat", pad_to_multiple_of=32), dtype="float32"
    )
    values = tensors_of(merge_to_disk(wanted, tmp_path / "out"))[HEAD]
    own = tensors_of(family.chat)[HEAD][:16]  # it has 16 tokens and 24 rows
    assert values.shape == (32, 16)
    assert torch.equal(values[:16], own)
    torch.testing.assert_close(values[16:], own.double().mean(0).float().expand(16, 16))


def test_a_recipe_says_where_rows_come_from(family: SimpleNamespace, tmp_path: Path, said: Callable[[], str]) -> None:
    tokens = {
        "cd": TokenRow(ModelToken("chat", token="ab")),  # other has one of its own
        "ab": TokenRow(ModelToken("other"), force=True),
        "<|x|>": TokenRow(ZeroRow()),
        "<|new|>": TokenRow(ModelToken("chat", token_id=4)),
        "<|tool|>": TokenRow(ZeroRow()),
    }
    made = merge_to_disk(arithmetic(family, union(tokens=tokens), weight=0.0), tmp_path / "out")  # the base's rows
    ids, values = vocabulary(made), tensors_of(made)[EMBEDDING]
    for token, where, which in (("cd", family.chat, "ab"), ("ab", family.other, "ab"), ("<|new|>", family.chat, "a")):
        assert torch.equal(values[ids[token]].double(), row(where, EMBEDDING, which))
    assert not values[ids["<|x|>"]].any()
    assert not values[ids["<|tool|>"]].any()
    assert "zeros" not in said()  # they were asked for
    second = merge_to_disk(
        arithmetic(family, union(tokens=tokens), weight={"chat": 0.0, "other": 1.0}), tmp_path / "two"
    )
    values = tensors_of(second)[EMBEDDING]
    for token in ("cd", "<|x|>"):  # other's own, since they are not forced
        torch.testing.assert_close(values[ids[token]].double(), row(family.other, EMBEDDING, token))


def test_a_token_beyond_the_embedding_has_no_row_and_that_is_said(tmp_path: Path, said: Callable[[], str]) -> None:
    short = model(tmp_path / "short", 0, bpe([*SPECIALS, *LETTERS], []), "<|x|>", rows=12)
    made = merge_to_disk(recipe("linear", None, {"a": short}, tokenizer=union()), tmp_path / "out")
    values = tensors_of(made)[EMBEDDING]
    assert values.shape[0] == 13
    assert not values[12].any()
    assert "1 tokens have a row in none of a, so their rows are zeros (the first is '<|x|>')" in said()


def test_a_base_with_its_own_tokens_is_copied_bit_for_bit(family: SimpleNamespace, tmp_path: Path) -> None:
    wanted = recipe("slerp", None, {"chat": family.chat, "other": family.other}, parameters={"t": 1.0},
                    tokenizer=TokenizerBuild("other"))  # fmt: skip
    made = merge_to_disk(wanted, tmp_path / "out")
    assert same_bytes(tensors_of(made), tensors_of(family.other))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (made / name).read_bytes() == (family.other / name).read_bytes()


def test_merges_of_merges_have_the_vocabulary_of_the_last(family: SimpleNamespace, tmp_path: Path) -> None:
    inner = recipe("linear", None, {"chat": family.chat, "other": family.other}, tokenizer=union())
    outer = recipe("linear", None, {"m": inner, "base": family.base}, tokenizer=union(), dtype="float32")
    made = merge_to_disk(outer, tmp_path / "out")
    stand_in = merge_to_disk(inner, tmp_path / "inner")
    again = merge_to_disk(
        recipe("linear", None, {"m": stand_in, "base": family.base}, tokenizer=union(), dtype="float32"),
        tmp_path / "two",
    )
    assert same_bytes(tensors_of(made), tensors_of(again))
    assert vocabulary(made) == vocabulary(again) == vocabulary(stand_in)
    live = LiveModels(sources=Sources())
    live.write(outer)
    live.model.save_pretrained(tmp_path / "live")
    assert same_bytes(tensors_of(tmp_path / "live"), tensors_of(made))
    assert AutoConfig.from_pretrained(made).vocab_size == len(vocabulary(made))


# ---- the tokenizer


def test_the_tokenizer_knows_all_tokens_and_gives_texts_back(family: SimpleNamespace, tmp_path: Path) -> None:
    made = merge_to_disk(arithmetic(family, union()), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(made)
    for text in ("ab cd", "<|im_start|>ab abc<|im_end|>", "h<|x|>g"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.tokenize("cd") == ["▁", "cd"]  # other's merge, which joins what base's leave apart
    assert tokenizer.tokenize("ab") == AutoTokenizer.from_pretrained(family.base).tokenize("ab") == ["▁ab"]
    special = {one["content"] for one in json.loads((made / "tokenizer.json").read_text())["added_tokens"]}
    assert special == {*SPECIALS, "<|im_start|>", "<|im_end|>", "<|x|>"}
    loaded = AutoModelForCausalLM.from_pretrained(made)
    written = loaded.generate(**tokenizer("<|im_start|>ab", return_tensors="pt", return_token_type_ids=False),
                              max_new_tokens=4, do_sample=False)  # fmt: skip
    assert written.shape[1] <= 6 + 4


def test_numbers_of_tokens_follow_in_configurations(
    family: SimpleNamespace, tmp_path: Path, said: Callable[[], str]
) -> None:
    GenerationConfig(
        eos_token_id=[0, 14], pad_token_id=1, suppress_tokens=[12, 15], bad_words_ids=[[12, 13]], max_new_tokens=7
    ).save_pretrained(family.other)
    edit_config(family.other, eos_token_id=[0, 14])
    try:
        wanted = recipe("linear", None, {"base": family.base, "other": family.other}, tokenizer=union(),
                        generation_config="other")  # fmt: skip
        made = merge_to_disk(wanted, tmp_path / "out")
        ids = vocabulary(made)
        told = GenerationConfig.from_pretrained(made)
        assert told.eos_token_id == [ids["</s>"], ids["<|im_end|>"]]
        assert told.pad_token_id == ids["<pad>"]
        assert told.suppress_tokens == [ids["cd"], ids["<|x|>"]]
        assert told.bad_words_ids == [[ids["cd"], ids["ab"]]]
        assert told.max_new_tokens == 7
        live = LiveModels(sources=Sources())
        live.write(wanted)
        assert live.model.generation_config.to_diff_dict() == told.to_diff_dict()
        few = recipe("linear", None, {"other": family.other, "b": family.base}, tokenizer=TokenizerBuild("b"))
        assert AutoConfig.from_pretrained(merge_to_disk(few, tmp_path / "few")).eos_token_id == [1]
        assert "eos_token_id of other is 14, a token that the merge's vocabulary does not have" in said()
    finally:
        (family.other / "generation_config.json").unlink()
        edit_config(family.other, eos_token_id=0)


@pytest.mark.parametrize("kind", ["WordLevel", "WordPiece", "Unigram"])
def test_other_kinds_of_tokenizers_are_extended_too(kind: str, tmp_path: Path) -> None:
    def made(*pieces: str) -> Tokenizer:
        every = [*SPECIALS, *pieces]
        if kind == "Unigram":
            return Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(every)], unk_id=2))
        found = Tokenizer(getattr(models, kind)({piece: i for i, piece in enumerate(every)}, unk_token="<unk>"))
        found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return found

    one = model(tmp_path / "one", 0, made("a", "b"), "<|x|>")
    two = model(tmp_path / "two", 1, made("b", "c", "d"), "<|y|>")
    merged = merge_to_disk(recipe("linear", None, {"one": one, "two": two}, tokenizer=union()), tmp_path / "out")
    ids, tokenizer = vocabulary(merged), AutoTokenizer.from_pretrained(merged)
    assert ids == {**vocabulary(one), "c": 6, "d": 7, "<|y|>": 8}
    sep = "" if kind == "Unigram" else " "
    text = sep.join(["a", "c", "<|y|>", "d", "<|x|>"])
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == ["a", "c", "<|y|>", "d", "<|x|>"]


def test_flags_that_differ_are_said(tmp_path: Path, said: Callable[[], str]) -> None:
    one = model(tmp_path / "one", 0, bpe([*SPECIALS, *LETTERS], []), "<|x|>")
    two = model(tmp_path / "two", 1, bpe([*SPECIALS, *LETTERS], []), AddedToken("<|x|>", special=False, lstrip=True))
    Sources().plan(recipe("linear", None, {"one": one, "two": two}, tokenizer=union()))
    assert "1 added tokens have other flags in two than in one, whose flags the result has" in said()
    assert "lstrip is false in one" in said()
    assert "special is true in one" in said()


# ---- what cannot be


def test_what_cannot_be_built_is_refused_with_every_reason(family: SimpleNamespace, tmp_path: Path) -> None:
    def refused(wanted: Recipe) -> str:
        with pytest.raises(CheckpointError) as raised:
            Sources().plan(wanted)
        return str(raised.value)

    unigram = Tokenizer(models.Unigram([(piece, 0.0) for piece in [*SPECIALS, "q", "a"]], unk_id=2))
    kind = model(tmp_path / "kind", 3, unigram)
    text = refused(recipe("linear", family.base, {"kind": kind}, tokenizer=union()))
    assert "is of the kind Unigram" in text
    assert "{source: base}" in text
    one = recipe("linear", family.base, {"kind": kind}, tokenizer=TokenizerBuild("base"))
    assert Sources().plan(one).family.info(0, EMBEDDING).shape == (14, 16)  # by the tokens' texts

    without = model(tmp_path / "without", 4, bpe([*SPECIALS, *LETTERS], []))
    for path in without.glob("tokenizer*"):
        path.unlink()
    assert "has no tokenizer that can be read" in refused(
        recipe("linear", family.base, {"without": without}, tokenizer=union())
    )
    rows = {"<|y|>": TokenRow(ModelToken("chat")), "q": TokenRow(ModelToken("base", token_id=14))}
    text = refused(arithmetic(family, union(tokens=rows)))
    assert f"the row of '<|y|>' from chat ({family.chat}), which has no row for '<|y|>'" in text
    assert f"from number 14 of base ({family.base}), whose embedding has 14 rows" in text


def test_models_that_differ_in_their_vocabulary_alone_are_told_the_way_out(
    family: SimpleNamespace, tmp_path: Path
) -> None:
    def refused(other: Path) -> str:
        with pytest.raises(CheckpointError) as raised:
            Sources().plan(recipe("linear", family.base, {"other": other}))
        return str(raised.value)

    assert "only their vocabularies differ: `tokenizer: {source: union}`" in refused(family.chat)
    wide = model(tmp_path / "wide", 3, bpe([*SPECIALS, *LETTERS], []), intermediate_size=24)
    assert "vocabularies differ" not in refused(wide)
    moved = model(tmp_path / "moved", 3, bpe([*SPECIALS, *LETTERS[::-1], "ab", "▁ab"], []))
    assert "`tokenizer: {source: union}` put their rows in one order" in refused(moved)


# ---- chat templates


def written_by(recipe: Recipe, folder: Path) -> str:
    """What the exported model's template writes; the live model's must write the same."""
    chat = [{"role": "user", "content": "a"}]
    made = merge_to_disk(recipe, folder)
    live = LiveModels(sources=Sources())
    live.write(recipe)
    ours, exported = live.tokenizer, AutoTokenizer.from_pretrained(made)
    assert ours.chat_template == exported.chat_template
    return str(exported.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


@pytest.mark.parametrize(
    ("said", "tokenizer", "text"),
    [
        (None, None, "of base"),
        ("auto", None, "of chat"),
        ("other", None, "of chat"),
        ("base", "chat", "of base"),
        ("base", "union", "of base"),
        ("auto", "union", "of chat"),
        ("chatml", None, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
        ("{{ messages[0]['content'] * 3 }}", "union", "aaa"),
    ],
)
def test_a_recipe_sets_the_chat_template(
    said: str | None, tokenizer: str | None, text: str, tmp_path: Path, family: SimpleNamespace
) -> None:
    wanted = arithmetic(family, union(), chat_template=said)
    if tokenizer != "union":  # models of one vocabulary
        parents = {"chat": family.base, "other": family.base, "third": family.base}
        copies = {}
        for name in parents:
            copies[name] = tmp_path / name
            copies[name].mkdir()
            for path in family.base.iterdir():
                (copies[name] / path.name).write_bytes(path.read_bytes())
            if name != "third":
                (copies[name] / "chat_template.jinja").write_text("{{ 'of chat' }}")
        wanted = recipe("linear", family.base, copies, tokenizer=tokenizer, chat_template=said)
    assert written_by(wanted, tmp_path / "out") == text


def test_several_templates_of_a_model_come_together_and_a_path_takes_one_too(
    family: SimpleNamespace, tmp_path: Path
) -> None:
    named = model(tmp_path / "named", 3, bpe([*SPECIALS, *LETTERS, "ab", "▁ab"], [("a", "b"), ("▁", "ab")]))
    config = json.loads((named / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "default", "template": "{{ 'd' }}"}, {"name": "rag", "template": "{{ 'r' }}"}]
    (named / "tokenizer_config.json").write_text(json.dumps(config))
    wanted = recipe("linear", family.base, {"named": named}, chat_template="named")
    made = AutoTokenizer.from_pretrained(merge_to_disk(wanted, tmp_path / "out"))
    assert made.chat_template == {"default": "{{ 'd' }}", "rag": "{{ 'r' }}"}
    path = Recipe.from_data(
        {
            "method": "passthrough",
            "parents": {"base": str(family.base), "named": str(named)},
            "path": [{"parent": "base", "layers": [0, 2]}, {"parent": "named", "layers": [1, 2]}],
            "chat_template": "llama3",
        }
    )
    assert written_by(path, tmp_path / "path").startswith("<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>")


def test_a_vocabulary_is_built_once_for_parents_that_are_other_recipes_each_time(family: SimpleNamespace) -> None:
    live = LiveModels(sources=Sources())
    seen = set()
    for weight in (0.5, 1.0):
        inner = recipe("task_arithmetic", family.base, {"a": family.base}, parameters={"weight": weight})
        live.write(recipe("linear", None, {"mix": inner, "chat": family.chat}, tokenizer=union()))
        seen.add(id(live.tokenizer))
    assert len(seen) == 1


def test_a_lender_that_is_another_recipe_each_time_has_one_tokenizer(family: SimpleNamespace) -> None:
    live = LiveModels(sources=Sources())
    seen = set()
    for weight in (0.5, 1.0):
        inner = recipe("linear", None, {"a": family.base, "b": family.base}, parameters={"weight": weight})
        live.write(recipe("linear", None, {"mix": inner, "base": family.base}, chat_template="chatml"))
        seen.add(id(live.tokenizer))
        assert "im_start" in live.tokenizer.chat_template
    assert len(seen) == 1


def test_no_template_at_all_is_said(tmp_path: Path, said: Callable[[], str]) -> None:
    one = model(tmp_path / "one", 0, bpe([*SPECIALS, *LETTERS], []))
    made = merge_to_disk(recipe("linear", None, {"a": one}, chat_template="auto"), tmp_path / "out")
    assert AutoTokenizer.from_pretrained(made).chat_template is None
    assert "chat_template is auto, but no model of the merge has a chat template" in said()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mistral", "<s>[INST] S\n\nhi [/INST] yes</s>[INST] more [/INST]"),
        ("exaone", "[|system|]S[|endofturn|]\n[|user|]hi\n[|assistant|]yes[|endofturn|]\n[|user|]more\n[|assistant|]"),
        (
            "alpaca",
            "S\n\n### Instruction:\nhi\n\n### Response:\nyes</s>\n\n### Instruction:\nmore\n\n### Response:\n",
        ),
    ],
)
def test_built_in_templates_write_the_published_formats(name: str, text: str) -> None:
    from evomerge.merge.tokens.templates import BUILT_IN

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe(SPECIALS, []), bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = BUILT_IN[name]
    turns = [("system", "S"), ("user", "hi"), ("assistant", "yes"), ("user", "more")]
    chat = [{"role": role, "content": content} for role, content in turns]
    assert tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == text
