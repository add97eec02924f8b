"""Folding the scales of a layer path into weights, so that a stock architecture computes what the path does.

A path multiplies the input of its step t by s_t (Akiba et al., arXiv 2403.13187, section 3.2):

    h_{t+1} = x_t + f_t(x_t),   x_t = s_t·h_t

With c_t = s_0·…·s_t and g_t = x_t / c_t this is

    g_{t+1} = g_t + f_t(c_t·g_t) / c_t = g_t + f_t(g_t) / c_t

if the branches f_t begin with a norm, which forgets the scale of its input (up to its epsilon). So if the weights
divide the output of a branch by c_t, the model computes the same function without scales; the final norm forgets the
last c.

The tensors to divide are found from the forward pass of the model class. `homogeneity.py` follows how everything scales
with the residual stream. At each sum of stream and branch, the parameters that scale the branch linearly are noted. A
second pass, in which the noted parameters scale too, proves that every layer then scales as a whole.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.model_class import build_on_meta
from evomerge.merge.paths.homogeneity import Degrees, NotHomogeneousError, Scaler, Scaling, is_zero

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_N_TOKENS = 4


@dataclass(frozen=True)
class Fold:
    """Which tensors carry the scale of a layer's branches.

    Attributes:
        layers: for each layer of the model, the parameters to divide by their names inside of the layer
            ("mlp.down_proj.weight"), with their offsets. An offset is the number that the model adds to a parameter
            before it multiplies by it: 0, or 1 for norms that multiply by 1 + w. A weight w with offset a becomes
            (w + a)/c - a.
    """

    layers: tuple[dict[str, float], ...]


def find_fold(model: OpenModel) -> Fold:
    """Return the parameters that carry the scale of each layer's branches.

    Raises:
        CheckpointError: with the reason, if the scales of a path cannot be folded into this architecture.
    """
    kind = getattr(model.config, "model_type", type(model.config).__name__)
    key = f"{type(model.config)} {model.config.to_json_string(use_diff=False)}"
    if key in _FOUND:
        return _FOUND[key]
    try:
        probe = _Probe(model)
        chosen = probe.collect()
        probe.prove(chosen)
    except NotHomogeneousError as error:
        raise CheckpointError(
            f"{model.label}: the scales of a path cannot be folded into the weights of {kind}: {error}. A path whose "
            f"scales are all 1 can be saved"
        ) from error
    prefix = model.architecture.layers_name
    layers: list[dict[str, float]] = [{} for _ in range(model.architecture.n_layers)]
    for name, offset in chosen:
        index, _, inside = name.removeprefix(f"{prefix}.").partition(".")
        layers[int(index)][inside] = offset
    _FOUND[key] = Fold(tuple(layers))
    return _FOUND[key]


_FOUND: dict[str, Fold] = {}
"""Folds by configuration, since the parents of a path mostly differ only in weights and depth."""


class _Probe:
    """A model class on the meta device whose forward pass is watched."""

    def __init__(self, model: OpenModel) -> None:
        # A built model may have another attention, whose fused kernels would hide their steps.
        self._model = build_on_meta(
            copy.deepcopy(model.config), trust_remote_code=model.trust_remote_code, attn_implementation="eager"
        ).eval()
        self._prefix = f"{model.architecture.layers_name}."
        self._layers = self._model.get_submodule(model.architecture.layers_name)
        self._layer: int | None = None
        self._inside: list[str] = []

    def collect(self) -> frozenset[Scaler]:
        """Return the parameters that scale the branches of all layers.

        Raises:
            NotHomogeneousError: if there are none, or they do not scale every branch linearly.
        """
        found: set[Scaler] = set()

        def on_sum(scalers: frozenset[Scaler] | None) -> None:
            if self._layer is None:
                raise NotHomogeneousError("something is added to the residual stream outside of the layers")
            mine = f"{self._prefix}{self._layer}."
            if not scalers or not all(name.startswith(mine) for name, _ in scalers):
                raise NotHomogeneousError(
                    f"layer {self._layer} adds something to the residual stream that no tensor of its own scales"
                )
            found.update(scalers)

        self._run(Degrees(self._parameters, on_sum=on_sum))
        if len({name for name, _ in found}) < len(found):
            raise NotHomogeneousError("a parameter scales two branches in different ways")
        if not found:
            raise NotHomogeneousError("its layers add nothing to the residual stream")
        return frozenset(found)

    def prove(self, chosen: frozenset[Scaler]) -> None:
        """Check that every layer scales as a whole when its chosen parameters scale with the stream."""
        self._run(Degrees(self._parameters, chosen=chosen))

    @property
    def _parameters(self) -> dict[str, torch.Tensor]:
        return dict(self._model.named_parameters())

    def _run(self, degrees: Degrees) -> None:
        tokens = torch.zeros((1, _N_TOKENS), dtype=torch.long, device="meta")
        positions = torch.zeros((1, _N_TOKENS), dtype=torch.long, device="meta")
        mask = torch.ones((1, _N_TOKENS), dtype=torch.long, device="meta")
        self._layer, self._inside = None, []
        try:
            with torch.no_grad(), self._watched(degrees), degrees:
                output = self._model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False)
        except NotHomogeneousError as error:
            raise NotHomogeneousError(f"{self._where()}{error}") from error
        except Exception as error:  # control flow that asks for values, kernels without a meta implementation, …
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise NotHomogeneousError(f"its forward pass cannot be followed without values ({first})") from error
        if not is_zero(degrees.of(output.logits).degree):
            raise NotHomogeneousError("no norm stands between the layers and the logits")

    def _where(self) -> str:
        if self._layer is None:
            return ""
        module = next((name for name in self._inside if _ATTENTION.search(name)), None)
        place = f"in layer {self._layer}"
        part = module or (self._inside[0] if self._inside else "")
        return f"{place}, {part}: " if part else f"{place}: "

    @contextmanager
    def _watched(self, degrees: Degrees) -> Iterator[None]:
        with ExitStack() as stack:
            for index, layer in enumerate(self._layers):
                stack.enter_context(_removing(layer.register_forward_pre_hook(self._enters(degrees, index),
                                                                              with_kwargs=True)))  # fmt: skip
                stack.enter_context(_removing(layer.register_forward_hook(self._leaves(degrees))))
                for name, module in layer.named_modules():
                    if name:
                        stack.enter_context(_removing(module.register_forward_pre_hook(self._opens(name))))
                        stack.enter_context(_removing(module.register_forward_hook(self._closes)))
            yield

    def _enters(self, degrees: Degrees, index: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            self._layer = index
            stream = args[0] if args else kwargs["hidden_states"]
            if index == 0:
                # An alias, since other uses of the embeddings do not scale with the stream.
                stream = torch.ops.aten.alias(stream)
                degrees.set(stream, Scaling(1.0))
            elif degrees.of(stream).degree != 1.0:
                raise NotHomogeneousError("the residual stream was normalised after the block before")
            if args:
                return (stream, *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": stream}

        return hook

    def _leaves(self, degrees: Degrees) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            stream = output[0] if isinstance(output, tuple) else output
            if degrees.of(stream).degree != 1.0:
                raise NotHomogeneousError("the residual stream itself is normalised after the block")
            self._layer = None

        return hook

    def _opens(self, name: str) -> Any:
        def hook(module: Any, args: Any) -> None:
            self._inside.append(name)

        return hook

    def _closes(self, module: Any, args: Any, output: Any) -> None:
        self._inside.pop()


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
