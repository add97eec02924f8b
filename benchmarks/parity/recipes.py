"""Recipes of every method that mergekit and evomerge share, as mergekit's YAML says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = (0.6, 0.3, 0.45)
"""Of the models a, b and c."""


@dataclass(frozen=True)
class Case:
    """One recipe.

    Attributes:
        method: mergekit's name of the method.
        models: which of a, b and c are merged, each with its own `WEIGHTS` if `weighted`.
        base: whether `base_model` is the base.
        parameters: of all models.
        each: further parameters of each model, one value a model.
        random: whether the result is drawn, so that the two are compared in distribution.
    """

    method: str
    models: str = "abc"
    base: bool = False
    weighted: bool = True
    parameters: Mapping[str, Any] | None = None
    each: Mapping[str, Sequence[float]] | None = None
    random: bool = False

    def recipe(self, folders: Mapping[str, Path], n_layers: int) -> dict[str, Any]:
        """Return the recipe for checkpoints in some folders."""
        data: dict[str, Any] = {"merge_method": self.method}
        if self.method == "passthrough":
            half = {"sources": [{"model": str(folders["a"]), "layer_range": [0, n_layers - 1]}]}
            scale = [{"filter": "o_proj", "value": 0.7}, {"filter": "down_proj", "value": 0.7}, {"value": 1.0}]
            other = {
                "sources": [{"model": str(folders["b"]), "layer_range": [0, n_layers], "parameters": {"scale": scale}}]
            }
            data["slices"] = [half, other]
        else:
            data["models"] = [self._model(folders, i, who) for i, who in enumerate(self.models)]
        if self.base or self.method == "slerp":
            data["base_model"] = str(folders["base" if self.base else "a"])
        if self.parameters:
            data["parameters"] = dict(self.parameters)
        return data

    def _model(self, folders: Mapping[str, Path], i: int, who: str) -> dict[str, Any]:
        own: dict[str, Any] = {"weight": WEIGHTS[i]} if self.weighted else {}
        own |= {name: values[i] for name, values in (self.each or {}).items()}
        return {"model": str(folders[who]), **({"parameters": own} if own else {})}


GRADIENT = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
    {"value": 0.5},
]
DENSITY = {"density": (0.5, 0.7, 0.25)}

CASES = {
    "linear": Case("linear"),
    "linear, sum": Case("linear", parameters={"normalize": False}),
    "slerp": Case("slerp", "ab", weighted=False, parameters={"t": 0.3}),
    "slerp, filters and gradients": Case("slerp", "ab", weighted=False, parameters={"t": GRADIENT}),
    "nuslerp": Case("nuslerp", "ab"),
    "nuslerp, task vectors": Case("nuslerp", "ab", base=True),
    "nuslerp, rows": Case("nuslerp", "ab", parameters={"nuslerp_flatten": False}),
    "nuslerp, columns of task vectors": Case(
        "nuslerp", "ab", base=True, parameters={"nuslerp_flatten": False, "nuslerp_row_wise": True}
    ),
    "multislerp": Case("multislerp"),
    "multislerp, task vectors": Case("multislerp", base=True),
    "karcher": Case("karcher", weighted=False),
    "karcher, to the end": Case("karcher", weighted=False, parameters={"max_iter": 50, "tol": 1e-7}),
    "passthrough, scaled": Case("passthrough"),
    "model_stock": Case("model_stock", base=True, weighted=False),
    "model_stock, rows": Case("model_stock", base=True, weighted=False, parameters={"filter_wise": True}),
    "nearswap": Case("nearswap", "a", base=True, weighted=False, parameters={"t": 0.001}),
    "arcee_fusion": Case("arcee_fusion", "a", base=True, weighted=False),
    "task_arithmetic": Case("task_arithmetic", base=True, parameters={"lambda": 0.8}),
    "task_arithmetic, mean": Case("task_arithmetic", base=True, parameters={"normalize": True}),
    "ties": Case("ties", base=True, each=DENSITY, parameters={"lambda": 1.2}),
    "ties, sum": Case("ties", base=True, each=DENSITY, parameters={"normalize": False}),
    "breadcrumbs": Case("breadcrumbs", base=True, each={**DENSITY, "gamma": (0.02, 0.02, 0.02)}),
    "breadcrumbs_ties": Case("breadcrumbs_ties", base=True, each={**DENSITY, "gamma": (0.02, 0.02, 0.02)}),
    "sce": Case("sce", base=True, weighted=False, parameters={"select_topk": 0.4}),
    "ram": Case("ram", base=True, weighted=False, parameters={"epsilon": 0.001}),
    "ramplus_tl": Case("ramplus_tl", base=True, weighted=False, parameters={"epsilon": 0.001}),
    "dare_linear": Case("dare_linear", base=True, each=DENSITY, random=True),
    "dare_ties": Case("dare_ties", base=True, each=DENSITY, random=True),
    "della": Case("della", base=True, each=DENSITY, parameters={"epsilon": 0.1}, random=True),
    "della_linear": Case("della_linear", base=True, each=DENSITY, parameters={"epsilon": 0.1}, random=True),
}
"""By the names of the table's rows."""
