"""From lm-eval's requests to token ids, by its rules for special tokens, boundaries and truncation, without a model.

Requests are encoded once per tokenizer and context length; a candidate only runs the token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

IGNORED_WHEN_GREEDY = {"top_k", "top_p", "min_p", "typical_p"}
"""Sampling settings, which greedy decoding ignores."""

_LENGTH_AND_END = {"until", "max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"}
"""When an answer ends, in lm-eval's words."""


@dataclass(frozen=True)
class Completion:
    """An answer to be written greedily.

    Attributes:
        prompt: token ids, cut from the left to leave room for the answer; at least one.
        until: texts that end the answer; the last one is the tokenizer's end-of-text.
        max_new_tokens: longest answer, in tokens, with its thinking.
        n_cut: how many tokens of the prompt were cut.
        think_end: the text, or the id of the token, behind which the answer begins; None: at its first token.
    """

    prompt: tuple[int, ...]
    until: tuple[str, ...]
    max_new_tokens: int
    n_cut: int = 0
    think_end: str | int | None = None


@dataclass(frozen=True)
class Likelihood:
    """A continuation whose log-probability is asked for.

    Attributes:
        context: token ids, cut from the left to the context length; at least one.
        continuation: token ids; at least one.
        n_cut: how many tokens of the context were cut.
    """

    context: tuple[int, ...]
    continuation: tuple[int, ...]
    n_cut: int = 0


def is_greedy(settings: Mapping[str, Any]) -> bool:
    """Return whether a task's `generation_kwargs` ask for the likeliest tokens and nothing else."""
    wanted = {key: value for key, value in settings.items() if key not in _LENGTH_AND_END}
    sampled = wanted.pop("do_sample", False) or wanted.pop("temperature", 0.0) or wanted.pop("num_beams", 1) != 1
    return not sampled and not wanted.keys() - IGNORED_WHEN_GREEDY


Encoded: TypeAlias = Completion | Likelihood | tuple[Likelihood, ...]
"""One encoded request; for `loglikelihood_rolling` a tuple of windows of a text, whose log-probabilities add up."""


def is_cut(request: Encoded | None) -> bool | None:
    """Return whether a request lost its beginning, since it is longer than the context; None where nobody knows.

    A text whose windows are scored one by one loses nothing.
    """
    if isinstance(request, Completion | Likelihood):
        return request.n_cut > 0
    return None if request is None else False


def request_size(encoded: Encoded) -> tuple[tuple[int, ...], int]:
    """Return the token ids that a request makes a model read, and the most tokens that it makes it write."""
    if isinstance(encoded, Completion):
        return encoded.prompt, encoded.max_new_tokens
    windows = (encoded,) if isinstance(encoded, Likelihood) else encoded
    return tuple(token for one in windows for token in (*one.context, *one.continuation)), 0


class Encoder:
    """Encodes the requests of one tokenizer, exactly as lm-eval's `HFLM` would.

    Attributes:
        max_length: context length, in tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        *,
        template_arguments: Mapping[str, Any] | None = None,
        think_end: str | int | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            tokenizer: the tokenizer.
            max_length: context length, in tokens.
            template_arguments: what else the chat template is given, by name.
            think_end: see `Completion`.
        """
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._think_end = think_end
        self._lm = _rules(tokenizer, max_length, dict(template_arguments or {}))

    @property
    def chat_template(self) -> Callable[..., str]:
        """lm-eval's function from a chat to text."""
        template: Callable[..., str] = self._lm.apply_chat_template
        return template

    def encode(self, kind: str, args: tuple[Any, ...]) -> Encoded | None:
        """Return a request as token ids.

        Args:
            kind: lm-eval's request type.
            args: the arguments of its instance.

        Returns:
            The request; None if only lm-eval itself can answer it (images, sampling, beams, an empty prompt or
            continuation, no room for an answer).
        """
        if len(args) > 2:  # images
            return None
        if kind == "generate_until":
            return self._generation(*args)
        if kind == "loglikelihood":
            return self._likelihood(*args)
        if kind == "loglikelihood_rolling":
            return self._windows(*args)
        return None

    def _generation(self, context: str, settings: Mapping[str, Any]) -> Completion | None:
        from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs

        lm = self._lm
        if self._tokenizer.eos_token_id is None:
            return None
        wanted: dict[str, Any] = dict(normalize_gen_kwargs(dict(settings), lm.max_gen_toks))
        eos = lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(wanted.pop("until", None), eos=eos)
        max_new_tokens = wanted.pop("max_gen_toks")
        room = self.max_length - max_new_tokens
        if not is_greedy(wanted) or room <= 0 or max_new_tokens < 1:
            return None
        # Not `tok_encode`, since for generation lm-eval looks only for the tokenizer's own begin-of-text.
        special = {"add_special_tokens": False} if has_bos_prefix(context, self._tokenizer.bos_token) else {}
        prompt = self._tokenizer(context, **special)["input_ids"]
        if len(prompt) > room:
            _say_cut(len(prompt), room)
        if not prompt:
            return None
        n_cut = max(0, len(prompt) - room)
        return Completion(tuple(prompt[-room:]), tuple(until), max_new_tokens, n_cut, self._think_end)

    def _likelihood(self, context: str, continuation: str) -> Likelihood | None:
        lm = self._lm
        if context == "":
            tail = lm.tok_encode(continuation, add_special_tokens=False)
            if not tail:
                return None
            # A text that begins with the prefix token itself does not get it twice.
            head = [lm.prefix_token_id]
            if tail[0] == head[0]:
                head, tail = tail[:1], tail[1:]
        else:
            head, tail = lm._encode_pair(context, continuation)
        return self._fit(head, tail)

    def _windows(self, text: str) -> tuple[Likelihood, ...] | None:
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        windows = get_rolling_token_windows(
            token_list=self._lm.tok_encode(text),
            prefix_token=self._lm.prefix_token_id,
            max_seq_len=self.max_length,
            context_len=1,
        )
        fitted = [self._fit(*make_disjoint_window(window)) for window in windows]
        whole = tuple(one for one in fitted if one is not None)
        return whole if len(whole) == len(fitted) else None

    def _fit(self, context: list[int], continuation: list[int]) -> Likelihood | None:
        if None in context or not context or not continuation or len(continuation) > self.max_length:
            return None
        # The last token is scored but never read, so the model reads one token fewer than there are.
        kept = (context + continuation)[-(self.max_length + 1) :]
        n_cut = len(context) + len(continuation) - len(kept)
        if n_cut:
            _say_cut(len(context) + len(continuation) - 1, self.max_length)
        return Likelihood(tuple(kept[: -len(continuation)]), tuple(continuation), n_cut)


def _rules(tokenizer: Any, max_length: int, template_arguments: dict[str, Any]) -> Any:
    """Return lm-eval's model wrapper without a model; only its methods that turn text into token ids work."""
    from lm_eval.models.huggingface import HFLM

    class Rules(HFLM):
        def __init__(self) -> None:
            # The parent's constructor is not called, since it needs a model and gives the tokenizer a pad token.
            self.tokenizer = tokenizer
            self.backend = "causal"
            self.add_bos_token = None
            self.custom_prefix_token_id = None
            self.chat_template_args = template_arguments
            self._max_length = max_length

    return Rules()


def _say_cut(length: int, room: int) -> None:
    import logging

    # Logged through lm-eval's logger like its own warning, which `quiet` passes on once.
    logging.getLogger("lm_eval").warning(
        "a request of %d tokens exceeds model's maximum length (room for %d); truncating from the left", length, room
    )
