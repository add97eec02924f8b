"""The words of `evomerge evaluate` that say how a model is asked: lm-eval's own, with `-` or `_`."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator
from typing import Any

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_OPEN, _CLOSE = "[({", "])}"


def add_asking(parser: argparse.ArgumentParser) -> None:
    """Add the words."""
    group = parser.add_argument_group(
        "how it is asked",
        "lm-eval's own words; what is left out is as in the run that is scored, else lm-eval's default",
    )
    group.add_argument(
        "--apply-chat-template",
        "--apply_chat_template",
        nargs="?",
        const=True,
        type=_template,
        metavar="NAME",
        help="ask by the tokenizer's chat template, or by that one of several; false: in plain text",
    )
    group.add_argument(
        "--system-instruction",
        "--system_instruction",
        metavar="TEXT",
        help="a system message, before a task's own description",
    )
    group.add_argument(
        "--chat-template-args",
        "--chat_template_args",
        type=pairs,
        metavar="JSON",
        help="""what else the template is given: '{"enable_thinking": false}', or enable_thinking=false""",
    )
    group.add_argument(
        "--fewshot-as-multiturn",
        "--fewshot_as_multiturn",
        nargs="?",
        const=True,
        type=_flag,
        metavar="BOOL",
        help="whether solved examples are turns of the chat; default: true",
    )
    group.add_argument(
        "--think-end-token",
        "--think_end_token",
        metavar="TEXT",
        help="what ends the thinking, like </think>: only what comes behind it is the answer; digits: a token's id",
    )
    group.add_argument(
        "--num-fewshot",
        "--num_fewshot",
        type=int,
        metavar="N",
        help="solved examples in front of each question, of each task that does not fix them at none",
    )
    group.add_argument(
        "--gen-kwargs",
        "--gen_kwargs",
        type=pairs,
        metavar="JSON",
        help="""instead of the tasks' own: '{"max_gen_toks": 1024, "until": []}', or max_gen_toks=1024,until=[]""",
    )


def asking_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `api.evaluate` that say how a model is asked."""
    names = (
        *("apply_chat_template", "system_instruction", "chat_template_args", "fewshot_as_multiturn"),
        *("think_end_token", "num_fewshot", "gen_kwargs"),
    )
    return {name: getattr(arguments, name) for name in names}


def pairs(text: str) -> dict[str, Any]:
    """Return names with values: of a JSON object, or as lm-eval writes them, like `until=["."],max_gen_toks=9`.

    Raises:
        argparse.ArgumentTypeError: if it is neither.
    """
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"no JSON object: {error}; came {text!r}") from error
        return dict(found)
    made = {}
    for pair in _split(text):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise argparse.ArgumentTypeError(f"expected a JSON object or name=value,name=value, but came {text!r}")
        made[name.strip()] = _value(value.strip())
    return made


def _split(text: str) -> Iterator[str]:
    """Yield what stands between commas that are in no brackets and no quotes."""
    depth, quote, start = 0, "", 0
    for i, one in enumerate(text):
        if quote:
            quote = "" if one == quote else quote
        elif one in "\"'":
            quote = one
        elif one in _OPEN:
            depth += 1
        elif one in _CLOSE:
            depth -= 1
        elif one == "," and depth == 0:
            yield text[start:i]
            start = i + 1
    yield text[start:]


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # a text without quotes
        return text


def _template(text: str) -> bool | str:
    return _FLAGS.get(text.lower(), text) if text.lower() not in ("1", "0") else text


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise argparse.ArgumentTypeError(f"expected true or false, but came {text!r}")
    return _FLAGS[text.lower()]
