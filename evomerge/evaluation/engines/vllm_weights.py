"""A candidate's weights, written in place into the model that a running vLLM engine holds.

vLLM's own function for this is `reload_weights` of its worker. It takes tensors under their checkpoint names, puts them
into the fused parameters (query, key and value; gate and up), repeats the steps that turn parameters into what its
kernels read (on CPUs oneDNN packs every matrix, and leaves the parameter itself empty), and copies the result into the
tensors to which captured graphs point. This module does two things that it does not: it reports missing weights (the
layer would compute with memory that was never written), and repacks an output matrix that is tied to the embeddings
(the packed copy would stay that of the previous candidate).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from evomerge.errors import EvaluationError

NamedTensors = Iterable[tuple[str, torch.Tensor]]
Shapes = Mapping[str, tuple[int, ...]]


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    """Return a transformers model's parameters and saved buffers by name, tied ones once, under their first name."""
    weights: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() == 0 or place not in seen:
            weights[name] = tensor
        seen.add(place)
    return weights


def check_shapes(given: Shapes, expected: Shapes) -> None:
    """Check that weights are exactly those of the model with which vLLM was started.

    Raises:
        EvaluationError: with everything that is missing, unknown or of another shape.
    """
    problems = [f"{name} is missing" for name in expected if name not in given]
    for name, shape in given.items():
        if name not in expected:
            problems.append(f"{name} is not in vLLM's model")
        elif shape != expected[name]:
            problems.append(f"{name} has shape {shape}, but vLLM's model has {expected[name]}")
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if problems[5:] else "")
        raise EvaluationError(
            f"these weights do not fit the model that vLLM was started with: {shown}. vLLM builds its layers once, so "
            "every candidate must have the same; where their number changes, use evaluation.engine=hf"
        )


def write_weights(worker: Any, named: NamedTensors) -> None:
    """Write all weights of a candidate; `collective_rpc` runs this on vLLM's worker, in this process.

    Args:
        worker: vLLM's worker.
        named: all weights of the model under their checkpoint names.

    Raises:
        EvaluationError: if vLLM left one of its own parameters unwritten.
    """
    model = worker.get_model()
    load = model.load_weights
    written: set[str] = set()

    def recorded(weights: NamedTensors) -> Any:
        names = load(weights)
        written.update(names or ())
        return names

    model.load_weights = recorded
    try:
        with torch.no_grad():
            worker.reload_weights(weights_iterator=iter(named))
            _repack_tied(model)
    finally:
        del model.load_weights
    left = sorted({name for name, _ in model.named_parameters()} - written)
    if left:
        shown = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if left[5:] else "")
        raise EvaluationError(f"vLLM found no weights for its {shown}")


def _repack_tied(model: Any) -> None:
    """Pack again the modules that share their matrix with an earlier module, which `reload_weights` skips."""
    owners: set[int] = set()
    for module in model.modules():
        weight = module._parameters.get("weight")
        if weight is None:
            continue
        method = getattr(module, "quant_method", None)
        if id(weight) in owners and method is not None and hasattr(method, "process_weights_after_loading"):
            method.process_weights_after_loading(module)
        owners.add(id(weight))
