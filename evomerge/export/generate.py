"""A model folder as its users load it, and its greedy answers by transformers' own `generate`.

That is another way than that of a search, which has its own loop (`evomerge.evaluation.engines`): so what an export's
folder says is said by the library that its users have, with the end tokens and penalties of the folder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from evomerge.analysis.short_answers import ShortAnswer
from evomerge.export.questions import Question
from evomerge.merge.files.model_class import auto_class

_BATCH = 8


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def can_generate(self) -> bool:
        """Whether it writes texts at all, unlike an encoder."""
        return bool(self.model.can_generate())

    def count_and_cut(self) -> tuple[Callable[[str], Sequence[int]], Callable[[Sequence[int]], str]]:
        """Return what encodes a text without special tokens, and what decodes tokens."""
        tokenizer = self.tokenizer
        return (
            lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
            lambda tokens: str(tokenizer.decode(tokens, skip_special_tokens=True)),
        )


def load_folder(folder: Path, *, trust_remote_code: bool = False) -> Loaded:
    """Load a folder as plain transformers does, in its own type, on the CPU."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    model = auto_class(config).from_pretrained(folder, trust_remote_code=trust_remote_code)
    tokenizer = None
    if model.can_generate():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return Loaded(model.eval(), tokenizer)


def generate(
    loaded: Loaded, questions: Sequence[Question], progress: Callable[[int, int], None] | None = None
) -> list[ShortAnswer]:
    """Return the greedy answer to each question.

    Prompts of a batch are padded on the left; those of models whose state runs through padding are answered one by
    one. A prompt that is too long for the context loses its beginning.

    Args:
        loaded: the model.
        questions: what is asked.
        progress: called with (tokens made of each answer, in all batches; at most so many).
    """
    size = 1 if getattr(loaded.model, "_is_stateful", False) else _BATCH
    groups = [questions[start : start + size] for start in range(0, len(questions), size)]
    total = sum(max(one.max_new_tokens for one in group) for group in groups)
    answers: list[ShortAnswer] = []
    done = 0
    for group in groups:
        count = None if progress is None else _counted(progress, done, total)
        answers += _generate(loaded, group, count)
        done += max(one.max_new_tokens for one in group)
        if progress is not None:
            progress(done, total)  # answers may have ended early
    return answers


def _counted(progress: Callable[[int, int], None], done: int, total: int) -> Callable[[int], None]:
    return lambda made: progress(done + made, total)


class _Ended(StoppingCriteria):
    """Ends each row at its own stop texts and its own limit of tokens."""

    def __init__(
        self, tokenizer: Any, questions: Sequence[Question], limits: Sequence[int], start: int, count: Any
    ) -> None:
        self._tokenizer, self._questions, self._limits = tokenizer, questions, limits
        self._start, self._count = start, count

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return `(rows,)` whether each answer is over."""
        made = input_ids[:, self._start :]
        if self._count is not None:
            self._count(made.shape[1])
        over = [
            made.shape[1] >= limit
            or (bool(one.until) and _stop(self._tokenizer.decode(row, skip_special_tokens=True), one.until) is not None)
            for row, one, limit in zip(made, self._questions, self._limits, strict=True)
        ]
        return torch.tensor(over, device=input_ids.device)


@torch.no_grad()
def _generate(loaded: Loaded, questions: Sequence[Question], count: Callable[[int], None] | None) -> list[ShortAnswer]:
    model, tokenizer = loaded.model, loaded.tokenizer
    context = _context_length(model)
    limits = [one.max_new_tokens if context is None else max(1, min(one.max_new_tokens, context // 2))
              for one in questions]  # fmt: skip
    rows = [_encoded(tokenizer, one) for one in questions]
    if context is not None:
        rows = [row[-max(1, context - limit) :] for row, limit in zip(rows, limits, strict=True)]
    longest = max(map(len, rows))
    pad = _pad(model, tokenizer)
    inputs = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    decodes_apart = bool(getattr(model.config, "is_encoder_decoder", False))
    start = 1 if decodes_apart else longest
    with _without_own_length(model):
        made = model.generate(
            inputs.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=max(limits),
            pad_token_id=pad,
            stopping_criteria=StoppingCriteriaList([_Ended(tokenizer, questions, limits, start, count)]),
        )
    ends = _end_tokens(model)
    return [
        _answer(tokenizer, row.tolist()[:limit], one, limit, ends)
        for row, one, limit in zip(made[:, start:].cpu(), questions, limits, strict=True)
    ]


@contextmanager
def _without_own_length(model: Any) -> Iterator[None]:
    """Hide a model's own `max_length`: the question's limit counts, and transformers would warn of the two."""
    own = model.generation_config
    model.generation_config = copy.copy(own)
    model.generation_config.max_length = GenerationConfig().max_length
    try:
        yield
    finally:
        model.generation_config = own


def _answer(tokenizer: Any, tokens: list[int], question: Question, limit: int, ends: set[int]) -> ShortAnswer:
    end = next((i for i, token in enumerate(tokens) if token in ends), None)
    text = str(tokenizer.decode(tokens[:end], skip_special_tokens=True))
    stop = _stop(text, question.until)
    return ShortAnswer(text[:stop], cut=end is None and stop is None and len(tokens) >= limit)


def _encoded(tokenizer: Any, question: Question) -> list[int]:
    text, chat = question.text, question.chat and getattr(tokenizer, "chat_template", None) is not None
    if chat:
        text = _as_chat(tokenizer, text)
    begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
    tokens: list[int] = tokenizer(text, add_special_tokens=not (begins or chat))["input_ids"]
    return tokens or [_first_token(tokenizer)]


def _as_chat(tokenizer: Any, text: str) -> str:
    """Return a text as the one turn of a user; templates of models that see may want its parts in a list."""
    forms: list[Any] = [text, [{"type": "text", "text": text}]]
    found: list[str] = []
    for form in forms:
        try:
            turns = [{"role": "user", "content": form}]
            found.append(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception:
            if form is forms[-1] and not found:
                raise
            continue
        if text.strip() in found[-1]:
            return found[-1]
    return found[0]


def _first_token(tokenizer: Any) -> int:
    return int(next((one for one in (tokenizer.bos_token_id, tokenizer.eos_token_id) if one is not None), 0))


def _pad(model: Any, tokenizer: Any) -> int:
    ends = sorted(_end_tokens(model))
    known = (getattr(tokenizer, "pad_token_id", None), *ends[:1], getattr(tokenizer, "eos_token_id", None))
    return int(next((one for one in known if one is not None), 0))


def _end_tokens(model: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    return {int(one) for one in (ends if isinstance(ends, (list, tuple)) else [ends]) if one is not None}


def _context_length(model: Any) -> int | None:
    config = model.config.get_text_config(decoder=True)
    lengths = (getattr(config, key, None) for key in ("max_position_embeddings", "n_positions", "n_ctx"))
    return next((one for one in lengths if isinstance(one, int) and one > 1), None)


def _stop(text: str, until: Sequence[str]) -> int | None:
    """Return where the first stop text begins; None: there is none."""
    places = [place for one in until if one and (place := text.find(one)) >= 0]
    return min(places, default=None)
