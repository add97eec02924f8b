"""The line of a model card that says how the scored models were asked."""

from typing import Any

import pytest

from evomerge.export.asked import how_asked

CHAT = "as a chat, by the chat template of each tokenizer"


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (None, None),
        ({}, None),
        ({"chat": {"template": None, "arguments": {}, "fewshot_as_turns": True}, "apply_chat_template": None}, None),
        ({"chat": False}, None),
        ({"chat": True}, CHAT),
        ({"apply_chat_template": "yes"}, CHAT),
        ({"chat": "short"}, "as a chat, by the chat template 'short' of each tokenizer"),
        ({"chat": {"template": True, "fewshot_as_turns": False}}, f"{CHAT}; solved examples in the user's turn"),
        ({"chat": {"system": "Be."}}, "system text: Be."),
        (
            {"chat": {"template": True, "arguments": {"enable_thinking": True}, "think_end_token": "</think>"}},
            f"{CHAT}; enable_thinking=True; the answer is what follows the last </think>",
        ),
        (
            {"tasks": [{"name": "a", "generation": {"max_gen_toks": 9, "until": None}}, {"name": "b"}]},
            "a with max_gen_toks=9",
        ),
    ],
    ids=str,
)
def test_how_models_were_asked(evaluation: Any, said: str | None) -> None:
    assert how_asked({"evaluation": evaluation}) == said


def test_a_long_system_text_is_cut() -> None:
    assert how_asked({"evaluation": {"chat": {"system": "x" * 999}}}) == f"system text: {'x' * 200}…"
