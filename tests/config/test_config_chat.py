"""How models are asked, in a configuration: short forms, spellings, mistakes, and what `resume` compares."""

from typing import Any

import pytest

from evomerge.config.canonical import canonical, deciding
from evomerge.config.changes import with_changes
from evomerge.config.reader import from_data, read
from evomerge.errors import ConfigError
from evomerge.evaluation.chat import Chat


def data(task: dict[str, Any] | None = None, **evaluation: Any) -> dict[str, Any]:
    tasks = [{"name": "gsm8k", "metric": "exact_match", **(task or {})}]
    return {
        "models": {"parents": {"a": "org/a"}},
        "method": "linear",
        "budget": {"candidates": 3},
        "evaluation": {"tasks": tasks, **evaluation},
    }


def chat(**evaluation: Any) -> Chat:
    return from_data(data(**evaluation)).evaluation.chat


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({}, Chat(False)),
        ({"chat": None}, Chat(False)),
        ({"chat": True}, Chat(True)),
        ({"chat": "on"}, Chat(True)),
        ({"chat": "tool_use"}, Chat("tool_use")),
        ({"chat": {"template": "no"}}, Chat(False)),
        ({"apply_chat_template": True}, Chat(True)),
        ({"apply_chat_template": "yes", "chat": {"system": "Be."}}, Chat(True, system="Be.")),
        ({"apply_chat_template": True, "chat": "short"}, Chat("short")),
        ({"apply_chat_template": False, "chat": {"system": "Be."}}, Chat(False, system="Be.")),
        ({"chat": {"template": True, "arguments": {"a": False, "b": None}}}, Chat(True, arguments={"a": False})),
        ({"chat": {"template": True, "fewshot_as_turns": "off"}}, Chat(True, fewshot_as_turns=False)),
        ({"chat": {"think_end_token": 151668}}, Chat(False, think_end_token="151668")),
    ],
    ids=str,
)
def test_what_is_said_and_what_it_means(said: dict[str, Any], meant: Chat) -> None:
    assert chat(**said) == meant


def test_digits_are_the_id_of_a_token() -> None:
    assert Chat(think_end_token="151668").think_end == 151668
    assert Chat(think_end_token="</think>").think_end == "</think>"
    assert Chat().think_end is None


def test_the_same_in_other_words_is_the_same_search() -> None:
    short = canonical(data(apply_chat_template=True))
    assert short == canonical(data(chat=True)) == canonical(data(chat={"template": "yes", "system": None}))
    assert canonical(data()) == canonical(data(apply_chat_template=False, chat={"arguments": {}}))
    assert short["evaluation.chat.template"] is True and "evaluation.apply_chat_template" not in short


@pytest.mark.parametrize(
    "other",
    [
        {"chat": False},
        {"chat": "short"},
        {"chat": {"template": True, "system": "Be."}},
        {"chat": {"template": True, "arguments": {"enable_thinking": False}}},
        {"chat": {"template": True, "fewshot_as_turns": False}},
        {"chat": {"template": True, "think_end_token": "</think>"}},
        {"task": {"generation": {"max_gen_toks": 9}}, "chat": True},
        {"task": {"generation": {"top_k": 9}}, "chat": True},
    ],
    ids=str,
)
def test_how_models_are_asked_decides_results(other: dict[str, Any]) -> None:
    assert deciding(data(**other)) != deciding(data(chat=True))


def test_a_continued_run_asks_as_it_did() -> None:
    for change in ({"evaluation": {"chat": {"system": "Be."}}}, {"evaluation.chat.arguments.enable_thinking": True}):
        with pytest.raises(ConfigError, match="decides the results of a search"):
            with_changes(data(chat=True), change)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"apply_chat_template": False, "chat": True},
            "is false, but `evaluation.chat.template`, for which it is short",
        ),
        ({"apply_chat_template": True, "chat": {"template": False}}, "is true, but `evaluation.chat.template`"),
        ({"apply_chat_template": False, "chat": "short"}, "for which it is short, is 'short'; leave it out"),
        ({"apply_chat_template": 3}, "`evaluation.apply_chat_template` must be true or false, but came 3"),
        ({"chat": {"template": 3}}, "`evaluation.chat.template` must be true, false or the name of a chat template"),
        ({"chat": {"tempalte": True}}, "unknown key in evaluation.chat 'tempalte'; did you mean 'template'"),
        ({"chat": {"arguments": {"a": 1}}}, "are for a chat template, but models are asked in plain text"),
        ({"chat": {"template": True, "arguments": {"tokenize": 1}}}, "may not hold 'tokenize', which lm-eval sets"),
        ({"chat": {"template": True, "arguments": {"chat_template": "x"}}}, "name it as `evaluation.chat.template`"),
        ({"chat": {"template": True, "arguments": {"a-b": 1}}}, "a template can only read names like enable_thinking"),
        ({"chat": {"template": True, "arguments": 3}}, "`evaluation.chat.arguments` must be a mapping of names"),
        ({"chat": {"think_end_token": " "}}, "must be a text like </think>, or the id of a token, but is empty"),
    ],
    ids=str,
)
def test_mistakes(said: dict[str, Any], message: str) -> None:
    problems = read(data(**said))[1]
    assert len(problems) == 1 and message in problems[0]


def test_settings_of_answers_are_read_with_their_task() -> None:
    made = from_data(data({"generation": {"max_gen_toks": 9, "until": ["\n"], "num_beams": 2, "top_p": None}}))
    assert made.evaluation.tasks[0].generation == {"max_gen_toks": 9, "until": ["\n"], "num_beams": 2}
    for nothing in (None, {}, {"until": None}):
        assert from_data(data({"generation": nothing})).evaluation.tasks[0].generation is None
    problems = read(data({"generation": {"do_sample": True, "max_new_tokens": 3}}))[1]
    assert [one.partition("`generation`")[0] for one in problems] == ["task 'gsm8k': "] * 2
    assert read(data({"generation": [3]}))[1] == [
        "`evaluation.tasks[0].generation` must be like {max_gen_toks: 1024, until: []}, but came [3]"
    ]
