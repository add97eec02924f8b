"""Chat templates: what decides how one writes a chat, and whether it can write a task's prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def chat_key(tokenizer: Any) -> str | None:
    """Return what decides how a tokenizer writes a chat; None if it has no template."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return None
    # A template may print any special token, and a class of its own may write chats in another way.
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    return repr((kind, template, sorted(map(str, tokenizer.special_tokens_map.items()))))


class TriedTemplate:
    """lm-eval's way from a chat to text, which notes what fails.

    Attributes:
        error: the first error.
        refuses_system: whether the template refused a chat with a system message, but took it without.
    """

    def __init__(self, tokenizer: Any, template: Callable[..., str]) -> None:
        """Keep both.

        Args:
            tokenizer: whose template it is.
            template: lm-eval's function, which drops system messages that the template refuses.
        """
        self.error: Exception | None = None
        self.refuses_system = False
        self._tokenizer = tokenizer
        self._template = template

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
        if any(message["role"] == "system" for message in chat) and not self.refuses_system:
            try:
                self._tokenizer.apply_chat_template(
                    chat,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=not add_generation_prompt,
                )
            except Exception:  # lm-eval has written it without
                self.refuses_system = True
        return text
