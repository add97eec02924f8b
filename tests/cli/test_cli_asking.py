"""The words of `evaluate` that say how a model is asked."""

import argparse
from typing import Any

import pytest

from evomerge.cli.asking import add_asking, asking_of, pairs


def read(*words: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    add_asking(parser)
    found = asking_of(parser.parse_args(["m", *words]))
    return {name: one for name, one in found.items() if one is not None}


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], {}),
        (["--apply-chat-template"], {"apply_chat_template": True}),
        (["--apply_chat_template", "tool_use"], {"apply_chat_template": "tool_use"}),
        (["--apply-chat-template", "false"], {"apply_chat_template": False}),
        (["--system-instruction", "Be."], {"system_instruction": "Be."}),
        (["--fewshot-as-multiturn", "false"], {"fewshot_as_multiturn": False}),
        (["--fewshot_as_multiturn"], {"fewshot_as_multiturn": True}),
        (["--num-fewshot", "0"], {"num_fewshot": 0}),
        (["--think-end-token", "</think>"], {"think_end_token": "</think>"}),
        (["--chat-template-args", '{"enable_thinking": false}'], {"chat_template_args": {"enable_thinking": False}}),
        (["--gen_kwargs", "max_gen_toks=9,until=[]"], {"gen_kwargs": {"max_gen_toks": 9, "until": []}}),
    ],
    ids=str,
)
def test_words_and_what_they_mean(words: list[str], meant: dict[str, Any]) -> None:
    assert read(*words) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"until": ["\\n", "a,b"], "max_gen_toks": 9}', {"until": ["\n", "a,b"], "max_gen_toks": 9}),
        ('until=["\\n", "a,b"],max_gen_toks=9', {"until": ["\n", "a,b"], "max_gen_toks": 9}),
        ("until=.,do_sample=False,temperature=0.5", {"until": ".", "do_sample": False, "temperature": 0.5}),
        ("enable_thinking=true, level='low'", {"enable_thinking": True, "level": "low"}),
        ("until='a=b'", {"until": "a=b"}),
    ],
)
def test_settings_are_json_or_as_lm_eval_writes_them(text: str, meant: dict[str, Any]) -> None:
    assert pairs(text) == meant


@pytest.mark.parametrize("text", ["{", "max_gen_toks", "=3", ""])
def test_what_are_no_settings_is_said(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="JSON object"):
        pairs(text)


def test_the_words_are_lm_evals_own() -> None:
    from lm_eval._cli.run import Run

    theirs = argparse.ArgumentParser()
    Run(theirs.add_subparsers())
    known = {word for action in theirs._subparsers._group_actions[0].choices["run"]._actions  # type: ignore[union-attr]
             for word in action.option_strings}  # fmt: skip
    ours = argparse.ArgumentParser()
    add_asking(ours)
    words = {word for action in ours._actions for word in action.option_strings if "_" in word}
    # These two are arguments of lm-eval's models.
    assert words - known == {"--chat_template_args", "--think_end_token"}
