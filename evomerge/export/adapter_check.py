"""How far a base with an extracted adapter is from the model, on logits: what an error of weights comes to."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.export.lora import PREFIX, Extraction
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe

PROMPTS, LENGTH = 4, 32


@dataclass(frozen=True)
class AdapterCheck:
    """Logits of base and adapter beside those of the model, both in float32, on random tokens.

    Attributes:
        difference: largest |a − b| / largest |a| of a prompt (a: the model).
        divergence: mean KL(model ‖ base and adapter) of the next token, in nats.
        base_divergence: the same of the base alone.
        equal: share of positions at which the likeliest token is the same.
        n_tokens: at how many positions.
    """

    difference: float
    divergence: float
    base_divergence: float
    equal: float
    n_tokens: int

    def __str__(self) -> str:
        """Return one sentence with the numbers."""
        return (
            f"the likeliest next token is the same at {self.equal:.1%} of {self.n_tokens} positions of random tokens, "
            f"KL divergence {self.divergence:.2g} nats (the base alone: {self.base_divergence:.2g})"
        )


def check_adapter(model: ModelSource, base: ModelSource, made: Extraction) -> AdapterCheck:
    """Compare base and adapter with the model, one model in memory at a time.

    Args:
        model: the model.
        base: the base.
        made: what was extracted.
    """
    live = _live(base)
    n_tokens = live.get_input_embeddings().num_embeddings
    tokens = torch.randint(n_tokens, (PROMPTS, LENGTH), generator=torch.Generator().manual_seed(0))
    below = _log_probabilities(live, tokens)
    apply(made, live)
    near = _log_probabilities(live, tokens)
    del live
    gc.collect()
    own = _log_probabilities(_live(model), tokens)
    return AdapterCheck(
        difference=float((own - near).abs().max() / own.abs().max()),
        divergence=_divergence(own, near),
        base_divergence=_divergence(own, below),
        equal=float((own.argmax(-1) == near.argmax(-1)).float().mean()),
        n_tokens=tokens.numel(),
    )


@torch.no_grad()
def apply(made: Extraction, model: Any) -> None:
    """Add an adapter to the weights of its base, in place."""
    tensors = {name.removeprefix(PREFIX): one for name, one in made.tensors.items()}
    for layer in made.ranks:
        module = model.get_submodule(layer)
        if isinstance(module, torch.nn.Embedding):
            module.weight += (tensors[f"{layer}.lora_embedding_B"] @ tensors[f"{layer}.lora_embedding_A"]).T
            continue
        change = tensors[f"{layer}.lora_B.weight"] @ tensors[f"{layer}.lora_A.weight"]
        module.weight += change if isinstance(module, torch.nn.Linear) else change.T
        if made.biases:
            module.bias += tensors[f"{layer}.lora_B.bias"]
    for name, parts in made.stacked.items():
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        parameter = getattr(module, attribute)
        changes = [part.b @ part.a for part in parts]
        if parameter.dim() == 2:
            parameter += changes[0]
            continue
        for i, change in enumerate(changes):
            parameter[i] += change.T if getattr(module, "is_transposed", False) else change
    for owner in made.whole:
        for name, parameter in model.get_submodule(owner).named_parameters(recurse=False):
            parameter.copy_(tensors[f"{owner}.{name}"])


def _live(source: ModelSource) -> Any:
    live = LiveModels(dtype="float32", sources=Sources())
    live.write(Recipe(method=PASSTHROUGH, parents=(Parent("model", source),)))
    return live.model


@torch.no_grad()
def _log_probabilities(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return `(prompts, positions, vocabulary)` log-probabilities of the next token."""
    more = {"decoder_input_ids": tokens} if getattr(model.config, "is_encoder_decoder", False) else {}
    rows = [model(row[None], **{name: one[:1] for name, one in more.items()}).logits.float()[0] for row in tokens]
    return torch.stack(rows).log_softmax(-1)


def _divergence(own: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.kl_div(other, own, reduction="none", log_target=True).sum(-1).mean())
