"""How models are asked: as a chat or in plain text, and what of an answer counts. Plain data, and chat templates tried.

The settings are lm-eval's own: `apply_chat_template`, `system_instruction`, `chat_template_args`, `think_end_token` and
`fewshot_as_multiturn`. Each model has its own tokenizer, and so its own template; the settings are the same for all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_DATE = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1""")
"""Where a chat template writes the present time, with its format."""

DEFAULT = "default"
"""The name of the template that is taken where none is named; a tokenizer's only template has it, too."""

RESERVED = (
    "conversation",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
)
"""Arguments of transformers' `apply_chat_template` that lm-eval sets itself, or that say how a chat becomes tokens."""


@dataclass(frozen=True)
class Chat:
    """How models are asked.

    Attributes:
        template: True: by each tokenizer's chat template (of several, the one called "default"); a name: by that one of
            its templates; False or None: in plain text.
        system: what the system message says before the task's own description; in plain text it is the beginning of
            each prompt. None: the description alone.
        arguments: what else the template is given, by name, as `enable_thinking`.
        fewshot_as_turns: whether solved examples are turns of their own in a chat, or all in the user's one turn.
        think_end_token: the text behind which an answer begins (its last occurrence); digits are the id of a token.
            None: an answer begins at its first token.
    """

    template: bool | str | None = None
    system: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    fewshot_as_turns: bool = True
    think_end_token: str | None = None

    @property
    def think_end(self) -> str | int | None:
        """The text, or the id of the token, behind which an answer begins."""
        said = self.think_end_token
        return int(said) if said is not None and said.isdecimal() else said

    def template_of(self, tokenizer: Any) -> str | None:
        """Return the text of the template by which a tokenizer writes chats; None: it has none of that name."""
        found = getattr(tokenizer, "chat_template", None)
        name = self.template if isinstance(self.template, str) else DEFAULT
        if not isinstance(found, Mapping):
            return found if found and name == DEFAULT else None
        with_tools = self.template is True and "tools" in self.arguments and "tool_use" in found  # transformers' rule
        return found.get("tool_use" if with_tools else name) or None

    def arguments_for(self, tokenizer: Any) -> dict[str, Any]:
        """Return the arguments of transformers' `apply_chat_template` for a tokenizer, by name."""
        several = isinstance(getattr(tokenizer, "chat_template", None), Mapping)
        named = {"chat_template": self.template} if several and isinstance(self.template, str) else {}
        return {**self.arguments, **named}

    def lacking(self, tokenizer: Any) -> str | None:
        """Return what a tokenizer lacks to write chats, in words that follow "has"; None: nothing."""
        if self.template_of(tokenizer) is not None:
            return None
        found = getattr(tokenizer, "chat_template", None)
        if not found:
            return "no chat template"
        wanted = self.template if isinstance(self.template, str) else DEFAULT
        there = ", ".join(map(repr, found)) if isinstance(found, Mapping) else "one without a name"
        return f"no chat template {wanted!r} (but {there})"

    def unread(self, tokenizer: Any) -> list[str]:
        """Return the arguments of which the template's text has no word, so that they change nothing."""
        text = self.template_of(tokenizer)
        if text is None:
            return []
        return [name for name in self.arguments if not re.search(rf"\b{re.escape(name)}\b", text)]


def chat_problems(chat: Chat, *, asks: str, arguments: str, marker: str) -> list[str]:
    """Return every mistake of the settings alone, one sentence each.

    Args:
        chat: the settings.
        asks: what the user calls the setting that asks for a template.
        arguments: what the user calls the template's arguments.
        marker: what the user calls the text that ends the thinking.
    """
    problems = []
    if chat.arguments and not chat.template:
        problems.append(f"`{arguments}` are for a chat template, but models are asked in plain text; set `{asks}`")
    for name in chat.arguments:
        if name in RESERVED:
            where = f": name it as `{asks}`" if name == "chat_template" else ""
            problems.append(f"`{arguments}` may not hold {name!r}, which lm-eval sets itself{where}")
        elif not name.isidentifier():
            problems.append(f"`{arguments}` holds {name!r}, but a template can only read names like enable_thinking")
    if chat.think_end_token is not None and not chat.think_end_token.strip():
        problems.append(f"`{marker}` must be a text like </think>, or the id of a token, but is empty")
    return problems


def chat_key(tokenizer: Any) -> str | None:
    """Return what decides how a tokenizer writes a chat; None if it has no template."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return None
    # A template may print any special token, and a class of its own may write chats in another way.
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    return repr((kind, template, sorted(map(str, tokenizer.special_tokens_map.items()))))


def settings_tried(chat: Chat, tokenizers: Sequence[tuple[str, Any]]) -> tuple[list[str], list[str]]:
    """Try the settings on tokenizers that have the template.

    Args:
        chat: the settings.
        tokenizers: who is to be scored, as a sentence calls it, with the tokenizer.

    Returns:
        What cannot be, and what changes nothing or looks like a slip; one sentence each.
    """
    problems, notes = [], []
    for name in chat.arguments if chat.template else ():
        blind = [who for who, tokenizer in tokenizers if name in chat.unread(tokenizer)]
        if tokenizers and len(blind) == len(tokenizers):
            problems.append(f"no chat template here reads the argument {name!r}, so it changes nothing; leave it out")
        elif blind:
            notes.append(f"the chat template of {', '.join(blind)} does not read {name!r}, so it changes nothing there")
    marker = chat.think_end
    refused: dict[str, list[str]] = {}
    odd = []
    for who, tokenizer in tokenizers if marker is not None else ():
        assert marker is not None
        reason = think_end_problem(tokenizer, marker)
        if reason is not None:
            refused.setdefault(reason, []).append(who)
        elif not is_usual_end(tokenizer, marker, chat.template_of(tokenizer)):
            odd.append(who)
    problems += [
        f"think_end_token is {marker!r}, of which answers of {', '.join(names)} cannot show anything: {reason}"
        for reason, names in refused.items()
    ]
    if odd:
        notes.append(
            f"think_end_token {marker!r} is neither one token of {', '.join(odd)} nor in the chat template there; look "
            "at its spelling, since an answer without it counts as a whole"
        )
    return problems, notes


def think_end_problem(tokenizer: Any, marker: str | int) -> str | None:
    """Return why a tokenizer's answers can never show the end of their thinking; None: they can.

    Args:
        tokenizer: the tokenizer.
        marker: `Chat.think_end`.
    """
    if isinstance(marker, int):
        return None if marker < len(tokenizer) else f"their tokens end before that id ({len(tokenizer)} tokens)"
    ids = tokenizer.encode(marker, add_special_tokens=False)
    if marker not in tokenizer.decode(ids):
        return "their tokenizer cannot write that text"
    if marker in tokenizer.decode(ids, skip_special_tokens=True):
        return None
    special = next(one for one in reversed(ids) if one in tokenizer.all_special_ids)
    return (
        "it is or holds a special token, and those are taken out of an answer before the text is looked for; give the "
        f"token's id instead, '{special}'"
    )


def is_usual_end(tokenizer: Any, marker: str | int, template: str | None) -> bool:
    """Return whether a text that ends thinking is one token of a tokenizer, or stands in its chat template."""
    if isinstance(marker, int) or (template is not None and marker in template):
        return True
    return len(tokenizer.encode(marker, add_special_tokens=False)) == 1


class TriedTemplate:
    """lm-eval's way from a chat to text, which notes what fails.

    Attributes:
        error: the first error.
        refuses_system: whether the template refused a chat with a system message, but took it without.
        dated: whether the template wrote today's date.
    """

    def __init__(self, tokenizer: Any, template: Callable[..., str], chat: Chat) -> None:
        """Keep all three.

        Args:
            tokenizer: whose template it is.
            template: lm-eval's function, which drops system messages that the template refuses.
            chat: how models are asked.
        """
        self.error: Exception | None = None
        self.refuses_system = self.dated = False
        self._tokenizer = tokenizer
        self._template = template
        self._arguments = chat.arguments_for(tokenizer)
        self._dates = _DATE.findall(chat.template_of(tokenizer) or "")

    def __call__(self, chat: Sequence[Any], add_generation_prompt: bool = True, **settings: Any) -> str:
        """Return a chat as text.

        Raises:
            Exception: what the template raises, also without system messages.
        """
        try:
            text = self._template(chat, add_generation_prompt=add_generation_prompt, **settings)
        except Exception as error:  # a template is code of anybody's
            self.error = self.error or error
            raise
        self.dated |= any(datetime.now().astimezone().strftime(date) in text for _, date in self._dates)
        if any(message["role"] == "system" for message in chat) and not self.refuses_system:
            try:
                self._tokenizer.apply_chat_template(
                    chat,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                    **self._arguments,
                )
            except Exception:  # lm-eval has written it without
                self.refuses_system = True
        return text
