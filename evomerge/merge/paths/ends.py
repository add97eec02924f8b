"""The two ends of a layer path: what a token passes before the first layer, and what behind the last.

A recipe may take each end from a parent of its own: `embeddings` (with learned positions and their norms) and `head`
(with the final norm). Which tensor belongs to which end is found from the forward pass of the model class, on the meta
device, since names and the order of modules do not tell: in OPT, the final norm is listed before the layers.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.model_class import build_on_meta
from evomerge.recipe import Recipe


@dataclass(frozen=True)
class Lenders:
    """The names of the parents that lend the ends of a path."""

    embeddings: str
    head: str

    @classmethod
    def of(cls, recipe: Recipe) -> Lenders:
        """Return the lenders of a recipe's path: those that it names, else the first parent."""
        first = recipe.parents[0].name
        return cls(recipe.embeddings or first, recipe.head or first)


class _ReachedError(Exception):
    """The forward pass has come to the first layer."""


def tensors_before_layers(model: OpenModel) -> frozenset[str]:
    """Return the names of the saved tensors outside of the layers that are used before the first layer.

    Raises:
        CheckpointError: if the forward pass of the class cannot be followed to its layers without weights.
    """
    # Another attention may look at the mask's values before the layers.
    built = build_on_meta(
        copy.deepcopy(model.config), trust_remote_code=model.trust_remote_code, attn_implementation="eager"
    ).eval()
    ones = torch.ones((1, 2), dtype=torch.long, device="meta")
    layers = model.architecture.layers_name
    used: set[str] = set()

    def note(name: str) -> Any:
        def hook(module: Any, args: Any) -> None:
            used.add(name)

        return hook

    def reached(module: Any, args: Any) -> None:
        raise _ReachedError

    try:
        with torch.no_grad(), ExitStack() as stack:
            for name, module in built.named_modules():
                if not name.startswith(f"{layers}."):
                    stack.callback(module.register_forward_pre_hook(note(name)).remove)
            stack.callback(built.get_submodule(layers)[0].register_forward_pre_hook(reached).remove)
            built(input_ids=ones, attention_mask=ones, position_ids=ones, use_cache=False)
        reason = "it never calls its first layer"
    except _ReachedError:
        outside = (name for name in model.architecture.shapes if not name.startswith(f"{layers}."))
        return frozenset(name for name in outside if name.rpartition(".")[0] in used)
    except Exception as error:  # control flow that asks for values, for example
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise CheckpointError(
        f"{model.label}: its forward pass cannot be followed to its layers ({reason}), so that it is not known which "
        "tensors stand before them; let the first parent lend both embeddings and head"
    )
