"""Where an answer ends: lm-eval's rule, at a dictionary look-up per token instead of a decoded text.

lm-eval stops once a stop text is in the decoded last `n + 2` tokens, where `n` is the length of the stop in tokens. A
new occurrence must end inside the new token, so the text is decoded only after tokens that can hold the last character.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


class Text(str):
    """An answer's text with what the text alone does not tell.

    Decoding cannot be undone: the text may be encoded by other tokens than those that were generated.

    Attributes:
        n_tokens: the number of tokens generated for it, including those that ended it.
        cut: whether the limit of tokens ended it; an answer whose last allowed token is an end token, or completes a
            stop text, is not cut.
    """

    __slots__ = ("cut", "n_tokens")
    n_tokens: int
    cut: bool

    def __new__(cls, text: str, n_tokens: int, cut: bool = False) -> Text:
        """Return the text with what is known of it."""
        made = super().__new__(cls, text)
        made.n_tokens, made.cut = n_tokens, cut
        return made

    def __getnewargs__(self) -> tuple[str, int, bool]:  # type: ignore[override]
        """Return the arguments from which copying and pickling make the text."""
        return str(self), self.n_tokens, self.cut


class Stops:
    """The stop texts of one request kind with one tokenizer."""

    def __init__(self, tokenizer: Any, until: Sequence[str], think_end: str | int | None = None) -> None:
        """Find the lengths of the stop texts.

        Args:
            tokenizer: the tokenizer.
            until: the stop texts.
            think_end: the text, or the id of the token, behind which an answer begins; None: at its first token.
        """
        self._tokenizer = tokenizer
        self._until = tuple(until)
        self._think_end = think_end
        self._windows = [(stop, len(tokenizer.encode(stop, add_special_tokens=False)) + 2) for stop in self._until]
        self._possible: dict[int, list[tuple[str, int]]] = {}
        self._anchor = [*tokenizer.encode("a", add_special_tokens=False)[-1:]]
        self._anchor_text: str = tokenizer.decode(self._anchor)

    def ended(self, tokens: Sequence[int]) -> bool:
        """Return whether the last token completes a stop text; to be called after each token."""
        possible = self._possible.get(tokens[-1])
        if possible is None:
            possible = self._possible[tokens[-1]] = self._ending_in(tokens[-1])
        return any(stop in self._tokenizer.decode(tokens[-window:]) for stop, window in possible)

    def text(self, tokens: Sequence[int], *, limit: int, eos: Collection[int]) -> Text:
        """Return an answer as lm-eval gives it: without thinking and special tokens, cut at the first stop text.

        Args:
            tokens: what was generated, with the token that ended it; at least one.
            limit: after how many tokens it would have been ended.
            eos: the tokens that end an answer.
        """
        from lm_eval.models.utils import postprocess_generated_text

        marker, said = self._think_end, tokens
        if isinstance(marker, int) and marker in tokens:
            said = tokens[len(tokens) - tokens[::-1].index(marker) :]
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        if isinstance(marker, int):  # lm-eval strips the answer's beginning whether or not the token came
            text, marker = text.lstrip(), None
        cut = len(tokens) >= limit and tokens[-1] not in eos and not self.ended(tokens)
        return Text(postprocess_generated_text(text, list(self._until), marker), len(tokens), cut)

    def _ending_in(self, token: int) -> list[tuple[str, int]]:
        whole: str = self._tokenizer.decode([*self._anchor, token])
        piece = whole[len(self._anchor_text) :]
        # For a part of a character, or a token that changes the text before it, every stop must be looked for.
        unclear = not piece or "\ufffd" in piece or not whole.startswith(self._anchor_text)
        return [(stop, window) for stop, window in self._windows if unclear or not stop or stop[-1] in piece]
