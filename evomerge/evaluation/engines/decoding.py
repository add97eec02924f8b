"""What a model's generation config makes of greedy decoding: asked of transformers, for each prompt.

`generate` turns the settings into end tokens and logits processors (penalties, forbidden and forced tokens, a least
length, whatever its release knows) before it decodes. Here a function of ours takes the place of its loop and keeps
them; so no list of settings stands here. The task decides about sampling and the length of answers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_SHORT = (0, 0)
"""A prompt for the questions whose answer does not depend on the prompt."""


@dataclass(frozen=True, eq=False)
class Decoding:
    """How answers are decoded greedily.

    Attributes:
        eos: the tokens that end an answer.
        processors: transformers' logits processors, in order; a processor may depend on the prompt it was made for.
        obstacle: what of the generation config only transformers' own loop does (beams, a time limit, …), or why it
            cannot be used; None: nothing.
        refused: whether transformers refuses to generate at all.
    """

    eos: frozenset[int]
    processors: Sequence[Any] = ()
    obstacle: str | None = None
    refused: bool = False

    @property
    def shapes(self) -> bool:
        """Whether the next token is not simply the likeliest."""
        return bool(self.processors)


def decoding(model: Any, prompt: Sequence[int] = _SHORT, max_new_tokens: int = 2) -> Decoding:
    """Return how a model's answer to a prompt is decoded greedily, by its generation config.

    Args:
        model: a transformers model; nothing is run.
        prompt: its token ids.
        max_new_tokens: longest answer, in tokens.
    """
    from transformers.generation import GenerationMode
    from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

    found: dict[str, Any] = {}

    def instead_of_the_loop(_model: Any, input_ids: Tensor, **prepared: Any) -> Tensor:
        found.update(prepared)
        return input_ids

    ids = torch.tensor([list(prompt)], device=model.device)
    try:
        with task_limits(model):
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=True,
                custom_generate=instead_of_the_loop,
            )
        mode = found["generation_config"].get_generation_mode()
        criteria, processors = list(found["stopping_criteria"]), list(found["logits_processor"])
    except Exception as error:  # a setting that transformers refuses may raise anything
        said = " ".join(str(error).split()) or type(error).__name__
        return Decoding(frozenset(), obstacle=said, refused=True)
    ends = [int(token) for one in criteria if isinstance(one, EosTokenCriteria) for token in one.eos_token_id]
    obstacles = [] if mode == GenerationMode.GREEDY_SEARCH else [str(getattr(mode, "value", mode))]
    obstacles += [type(one).__name__ for one in criteria if not isinstance(one, (EosTokenCriteria, MaxLengthCriteria))]
    # A processor that runs the model itself (guidance) keeps a cache of its own, one for all rows.
    obstacles += [type(one).__name__ for one in processors if any(value is model for value in vars(one).values())]
    return Decoding(frozenset(ends), processors, ", ".join(obstacles) or None)


class Shaped:
    """One row whose tokens are picked by transformers' logits processors, as if it were alone in its batch.

    The processors see the row's own tokens without padding, so that an answer does not depend on the rows beside it.
    """

    def __init__(self, model: Any, prompt: Sequence[int], max_new_tokens: int, spare: int) -> None:
        """Ask transformers for the row's processors.

        Args:
            model: the model.
            prompt: token ids.
            max_new_tokens: longest answer, in tokens.
            spare: how many more tokens may be picked after it.
        """
        self._processors = decoding(model, prompt, max_new_tokens).processors
        self._tokens = torch.zeros(1, len(prompt) + max_new_tokens + spare, dtype=torch.long, device=model.device)
        self._tokens[0, : len(prompt)] = torch.tensor(list(prompt))
        self._n = len(prompt)

    def pick(self, logits: Tensor) -> Tensor:
        """Return the next token, `()`, and remember it; `logits` are `(vocabulary,)`."""
        scores = logits[None].to(torch.float32, copy=True)
        for processor in self._processors:
            scores = processor(self._tokens[:, : self._n], scores)
        token = scores[0].argmax()
        self._tokens[0, self._n] = token
        self._n += 1
        return token


@contextmanager
def task_limits(model: Any) -> Iterator[None]:
    """Hide a model's own length of answers, which would override the task's in `generate`, or be warned of."""
    from transformers import GenerationConfig

    own, usual = model.generation_config, GenerationConfig().max_length
    if own is None or (own.max_new_tokens is None and own.max_length == usual):
        yield
        return
    model.generation_config = copy.deepcopy(own)
    model.generation_config.max_new_tokens, model.generation_config.max_length = None, usual
    try:
        yield
    finally:
        model.generation_config = own


def refusal(generation_config: Any, vocabulary: int) -> str | None:
    """Return why transformers refuses to decode greedily with a generation config; None if it does not.

    Args:
        generation_config: the generation config.
        vocabulary: how many logits its model gives for each position.
    """
    model = _small_model(vocabulary)
    model.generation_config = generation_config
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()  # else what the memory held before, NaN perhaps
    how = decoding(model)
    if how.refused:
        return how.obstacle
    try:
        if how.obstacle is not None:
            return _refused_by_the_loop(model, how.obstacle)
        scores = torch.zeros(1, max(1, vocabulary))
        for processor in how.processors:
            scores = processor(torch.tensor([_SHORT]), scores)
    except Exception as error:  # an id beyond the vocabulary, say
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _refused_by_the_loop(model: Any, asked: str) -> str | None:
    """Return why transformers' own loop refuses what a generation config asks for; None if it does not.

    A function in the place of the loop passes by the question whether transformers has the loop: some ways of decoding
    (contrastive, constrained, …) are fetched as foreign code, others want what no engine gives them.

    Args:
        model: a tiny model, which is run for two tokens of one prompt, as lm-eval does.
        asked: what the generation config asks for.
    """
    ids = torch.tensor([_SHORT])
    options = {"max_new_tokens": 2, "do_sample": False, "use_cache": True, "pad_token_id": 0}
    try:
        with task_limits(model):
            found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        if not isinstance(found, Tensor) or len(found) != 1:
            return f"{asked}: it returns something else than one answer to each prompt"
    except Exception as error:  # as in `decoding`
        return f"{asked}: {' '.join(str(error).split()) or type(error).__name__}"
    return None


def settings_refusal(settings: Mapping[str, Any]) -> str | None:
    """Return why transformers refuses keyword arguments of `generate`, as a task gives them; None if it does not."""
    model = _small_model(8)
    ids = torch.tensor([_SHORT])
    try:
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=2,
            do_sample=False,
            pad_token_id=0,
            custom_generate=lambda _model, input_ids, **_: input_ids,
            **settings,
        )
    except Exception as error:  # a setting that transformers refuses may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def _small_model(vocabulary: int) -> Any:
    """Return a model to be asked about settings, which is never run."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 2, "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1}
    with torch.device("meta"):  # where no weights are drawn; none are used
        model = LlamaForCausalLM(LlamaConfig(vocab_size=max(1, vocabulary), **sizes))
    return model.to_empty(device="cpu")
