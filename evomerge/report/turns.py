"""The turns of a prompt that a chat template wrote, so that people read who says what rather than its marks.

Templates are told by their marks (ChatML, Llama 2 and 3, Gemma, Phi, Zephyr, Mistral, DeepSeek, Command R, Harmony).
Only a prompt that begins with one, behind marks for the beginning of a text, is a chat; any other is shown as it is.
"""

from __future__ import annotations

import re

Turns = list[tuple[str, str]]
"""Who speaks ("system", "user", "assistant", …), and what they say."""

_BEGIN = re.compile(
    r"(?:\s|<\|begin_of_text\|>|<bos>|<s>|<\|startoftext\|>|<BOS_TOKEN>|<[|｜]begin▁of▁sentence[|｜]>)*"
)
_HEAD = re.compile(
    r"<\|im_start\|>(?P<chatml>[\w.-]+)\n?"
    r"|<\|start_header_id\|>(?P<llama3>[\w.-]+)<\|end_header_id\|>\n*"
    r"|<start_of_turn>(?P<gemma>\w+)\n?"
    r"|<\|start\|>(?P<harmony>\w+)(?:<\|channel\|>\w+)?<\|message\|>"
    r"|<[|｜](?P<named>[Ss]ystem|[Uu]ser|[Aa]ssistant)[|｜]>\n?"
    r"|<\|START_OF_TURN_TOKEN\|><\|(?P<command>[A-Z]+)_TOKEN\|>"
    r"|(?P<question>\[INST\]) ?"
    r"|(?P<answer>\[/INST\]) ?"
)
_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "</s>",
    "<s>",
)
_SYSTEM = re.compile(r"\s*<<SYS>>\s*(?P<system>.*?)\s*<</SYS>>\s*", re.DOTALL)
_ROLES = {"[inst]": "user", "[/inst]": "assistant", "model": "assistant", "chatbot": "assistant", "human": "user"}


def turns_of(prompt: str) -> Turns | None:
    """Return the turns of a prompt; None: no template that is known wrote it.

    A last turn without a word, where the model goes on, is left out.
    """
    begin = _BEGIN.match(prompt)
    if begin is None or _HEAD.match(prompt, begin.end()) is None:
        return None  # before all of a long prompt is looked through
    heads = list(_HEAD.finditer(prompt, begin.end()))
    found: Turns = []
    for head, after in zip(heads, [*heads[1:], None], strict=True):
        role = str(head[head.lastgroup or 0]).lower()
        text = _without_end(prompt[head.end() : len(prompt) if after is None else after.start()])
        system = _SYSTEM.match(text) if role == "[inst]" else None
        if system is not None:
            found.append(("system", system["system"]))
            text = text[system.end() :]
        found.append((_ROLES.get(role, role), text.strip()))
    return found[:-1] if len(found) > 1 and not found[-1][1] else found


def _without_end(text: str) -> str:
    """Return what is said without the marks behind it."""
    text = text.rstrip()
    while end := next((mark for mark in _ENDS if text.endswith(mark)), None):
        text = text.removesuffix(end).rstrip()
    return text
