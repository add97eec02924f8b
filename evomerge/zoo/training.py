"""Trains a tiny Llama on documents: from scratch, or on from another model's weights."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from evomerge.zoo.documents import Document, Mix, draw
from evomerge.zoo.muon import Muon
from evomerge.zoo.tokenizer import MAX_LENGTH

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Progress = Callable[[str, int, int, float], None]
"""Called with the stage's name, the steps done, the steps in all, and the mean loss since the last call."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; both learning rates fall linearly over the last 60 %."""

    steps: int
    adam_rate: float
    muon_rate: float
    warmup: int = 100
    prompt_weight: float = 0.0
    """What a prompt token counts in the loss; an answer token counts 1."""
    batch_tokens: int = 2048

    def factor(self, step: int) -> float:
        """Return the factor of the learning rates at a step."""
        falling = 0.05 + 0.95 * (1 - step / self.steps) / 0.6
        return min(1.0, (step + 1) / self.warmup) * min(1.0, falling)


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return an untrained model of one million parameters, its weights drawn from a generator of its own."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device("meta"):  # so that transformers draws nothing from torch's global generator
        model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            weights[name] = torch.ones(parameter.shape)
            continue
        hidden = ".layers." in name
        std = 0.05 if hidden else 0.02
        if name.endswith(("o_proj.weight", "down_proj.weight")):  # these write to the residual stream
            std /= math.sqrt(2 * config.num_hidden_layers)
        weights[name] = torch.randn(parameter.shape, generator=generator) * std
    return with_weights(config, weights)


def with_weights(config: Any, weights: dict[str, Tensor]) -> LlamaForCausalLM:
    """Return a model of a configuration with these weights, made without drawing a random number."""
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(weights, assign=True)
    # The rotary table is a buffer that is not saved, so it is still on the meta device.
    model.model.rotary_emb = LlamaRotaryEmbedding(config=config)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.train()


def fine_tuned(
    start: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    mix: Mix,
    schedule: Schedule,
    *,
    seed: int,
    name: str = "model",
    progress: Progress | None = None,
    every: int = 50,
) -> LlamaForCausalLM:
    """Return a new model: the start trained on a mix of documents; the start itself is left as it is."""
    model = copy.deepcopy(start)
    parameters = dict(model.named_parameters())
    hidden = {n: p for n, p in parameters.items() if p.dim() == 2 and ".layers." in n}
    rest = [p for n, p in parameters.items() if p.dim() == 2 and n not in hidden]
    norms = [p for p in parameters.values() if p.dim() == 1]
    muon = Muon(hidden.values())
    adam = torch.optim.AdamW(
        [{"params": rest, "weight_decay": 0.05}, {"params": norms, "weight_decay": 0.0}],
        lr=schedule.adam_rate,
        betas=(0.9, 0.98),
    )
    batches = _batches(mix, tokenizer, schedule, random.Random(f"{name} {seed}"))
    total = 0.0
    for step in range(schedule.steps):
        tokens, weights = next(batches)
        loss = weighted_loss(model, tokens, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        factor = schedule.factor(step)
        for group in adam.param_groups:
            group["lr"] = schedule.adam_rate * factor
        adam.step()
        muon.step(schedule.muon_rate * factor)
        adam.zero_grad()
        total += loss.item()
        done = step + 1
        if progress is not None and (done % every == 0 or done == schedule.steps):
            progress(name, done, schedule.steps, total / (done % every or every))
            total = 0.0
    return model


def weighted_loss(model: LlamaForCausalLM, tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cross entropy of the tokens that count.

    Args:
        model: The model.
        tokens: ``(batch, time)``, padded on the right.
        weights: ``(batch, time)``, what each token counts when it is the one to predict.
    """
    states = model.model(tokens).last_hidden_state[:, :-1]  # (batch, time - 1, hidden)
    wanted, counts = tokens[:, 1:], weights[:, 1:]
    chosen = counts > 0  # the head is the largest product of so small a model: leave out what is not needed
    losses = functional.cross_entropy(model.lm_head(states[chosen]), wanted[chosen], reduction="none")
    return (losses * counts[chosen]).sum() / counts[chosen].sum()


def _batches(
    mix: Mix, tokenizer: PreTrainedTokenizerFast, schedule: Schedule, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield endless batches of about as many tokens each, of documents of about one length."""
    while True:
        documents = _encoded([draw(mix, rng) for _ in range(4000)], tokenizer)
        documents.sort(key=lambda d: len(d[0]) + len(d[1]))
        groups: list[list[tuple[list[int], list[int]]]] = [[]]
        for document in documents:
            width = len(document[0]) + len(document[1])
            if width * (len(groups[-1]) + 1) > schedule.batch_tokens:
                groups.append([])
            groups[-1].append(document)
        rng.shuffle(groups)
        for group in groups:
            yield _padded(group, schedule.prompt_weight)


def _encoded(documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> list[tuple[list[int], list[int]]]:
    end = tokenizer.eos_token_id
    # An empty prompt stands for plain text, whose first token nothing can predict: it becomes the prompt.
    prompts = tokenizer([d.prompt for d in documents])["input_ids"]
    answers = tokenizer([d.answer for d in documents])["input_ids"]
    return [
        (prompt or answer[:1], (answer if prompt else answer[1:]) + [end])
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _padded(group: list[tuple[list[int], list[int]]], prompt_weight: float) -> tuple[Tensor, Tensor]:
    width = max(len(prompt) + len(answer) for prompt, answer in group)
    tokens = torch.zeros(len(group), width, dtype=torch.long)  # 0 is the padding; causal, so never looked at
    weights = torch.zeros(len(group), width)
    for row, (prompt, answer) in enumerate(group):
        length = len(prompt) + len(answer)
        tokens[row, :length] = torch.tensor(prompt + answer)
        weights[row, : len(prompt)] = prompt_weight
        weights[row, len(prompt) : length] = 1.0
    return tokens, weights
