"""What distinguishes a model from its base, as a LoRA adapter that PEFT loads: truncated, with its error told.

Each matrix of θ − θ0 is cut to a rank by itself (`low_rank.py`), one tensor in memory at a time. Where it goes:

- linear layers (and GPT-2's `Conv1D`): `lora_A`, `lora_B` of the layer; scaling is 1, since α is the rank
- embeddings that are not tied to the head: PEFT's `lora_embedding_A`, `lora_embedding_B`
- matrices of other modules (a router), and stacks of them (experts): PEFT's `target_parameters`
- a tied embedding, which PEFT cannot merge back from factors, norms and whatever else is no matrix: whole, in the
  model's own type, as `modules_to_save`; biases of adapted layers as `lora_bias`. `others=False` leaves these out

What is left out counts as error. https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from evomerge.errors import CheckpointError, ExportError
from evomerge.export.low_rank import LowRank, low_rank, padded, relative
from evomerge.merge.files.model import OpenModel
from evomerge.merge.methods.matrices import one_thread

PREFIX = "base_model.model."
"""What PEFT puts in front of the names of a model's modules."""


@dataclass(frozen=True)
class Fit:
    """How well one tensor of the difference is approximated.

    Attributes:
        name: of the parameter in the model.
        rank: of the approximation; None: it is stored whole; 0: it is left out.
        squared: ‖Δ‖², Frobenius.
        squared_error: ‖Δ − approximation‖².
    """

    name: str
    rank: int | None
    squared: float
    squared_error: float

    @property
    def error(self) -> float:
        """‖Δ − approximation‖ / ‖Δ‖."""
        return relative(self.squared_error, self.squared)


@dataclass
class Extraction:
    """A difference as an adapter, in memory.

    Attributes:
        rank: the largest rank, r of the adapter's configuration.
        tensors: the adapter's tensors by PEFT's names.
        ranks: module to its rank.
        parameters: names of parameters that are no layer's own (`target_parameters`).
        whole: modules that are stored whole (`modules_to_save`).
        biases: whether adapted layers have biases of their own (`lora_bias`).
        ties: whether a tied embedding is stored.
        fits: tensor by tensor, those that differ.
        equal: how many tensors do not differ.
        shapes: outputs and inputs of layers whose bias differs.
        stacked: the factors of `parameters`, matrix by matrix.
    """

    rank: int = 1
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    biases: bool = False
    ties: bool = False
    fits: list[Fit] = field(default_factory=list)
    equal: int = 0
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    stacked: dict[str, list[LowRank]] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """‖Δ − approximation‖ / ‖Δ‖ over all tensors."""
        return relative(sum(one.squared_error for one in self.fits), sum(one.squared for one in self.fits))

    @property
    def energy(self) -> float:
        """The share of ‖Δ‖² that the approximation has."""
        return 1.0 - self.error**2


def extract(
    model: OpenModel,
    base: OpenModel,
    *,
    rank: int | None,
    error: float = 0.05,
    others: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Return the difference of two models of one architecture as an adapter.

    Args:
        model: the model.
        base: what the adapter will lie on.
        rank: the most columns of each factor; None: as few as `error` asks for, matrix by matrix.
        error: largest ‖Δ − B A‖ / ‖Δ‖ of a matrix, where there is no rank.
        others: whether what has no factors is stored whole.
        progress: called with (tensors done, tensors in all).

    Raises:
        ExportError: if the models have other tensors or shapes, are equal, or rank or error make no sense.
        CheckpointError: if they cannot be read.
    """
    if rank is not None and rank < 1:
        raise ExportError(f"the rank must be at least 1, but came {rank}")
    if rank is None and not 0.0 <= error < 1.0:
        raise ExportError(f"the error must be a share in [0, 1), but came {error}")
    _check_same(model, base)
    shell: Any = model.architecture.model
    made = Extraction(biases=others and _keeps_biases(model, base))
    stacks: dict[str, list[tuple[str, list[LowRank]]]] = {}
    total, done = len(model.architecture.places), 0
    for (name, own), (_, other) in zip(_parameters(model), _parameters(base), strict=True):
        done += 1
        if progress is not None:
            progress(done, total)
        if torch.equal(own, other):
            made.equal += 1
            continue
        owner, _, attribute = name.rpartition(".")
        module = shell.get_submodule(owner)
        matrices = _matrices(module, attribute, own, other)
        tied = isinstance(module, torch.nn.Embedding) and _is_tied(model, name)
        unbiased = made.biases and _is_layer(module) and getattr(module, "bias", None) is None  # an embedding, a head
        if not matrices or tied or unbiased:
            _store_whole(made, model, shell, name, own, other, others=others)
            continue
        with one_thread():
            parts = [low_rank(one, rank, error) for one in matrices]
        made.rank = max(made.rank, *(part.rank for part in parts))
        made.fits.append(
            Fit(
                name,
                max(part.rank for part in parts),
                sum(part.squared for part in parts),
                sum(part.squared_error for part in parts),
            )
        )
        if _is_layer(module) and attribute == "weight":
            made.ranks[owner] = parts[0].rank
            embeds = isinstance(module, torch.nn.Embedding)
            keys = ("lora_embedding_A", "lora_embedding_B") if embeds else ("lora_A.weight", "lora_B.weight")
            made.tensors[f"{PREFIX}{owner}.{keys[0]}"], made.tensors[f"{PREFIX}{owner}.{keys[1]}"] = (
                parts[0].a,
                parts[0].b,
            )
        else:
            stacks.setdefault(owner, []).append((attribute, parts))
    if not made.fits:
        raise ExportError(f"{model.label} and {base.label} have the same weights, so there is nothing to extract")
    _add_stacks(made, stacks)
    _add_biases(made)
    return made


def _check_same(model: OpenModel, base: OpenModel) -> None:
    ours, theirs = model.architecture.shapes, base.architecture.shapes
    other = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    if other:
        shown = "; ".join(f"{name}: {ours.get(name)} and {theirs.get(name)}" for name in other[:5])
        raise ExportError(
            f"an adapter needs a base of the same shape, but {len(other)} tensors of {model.label} and {base.label} "
            f"differ in shape, or one has them alone: {shown}{' and more' if other[5:] else ''}"
        )


def _parameters(model: OpenModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield name and values of each trained parameter, in the class' order; one converted group is read at a time."""
    naming = model.naming
    files: dict[str, str] = {}
    for file, target in naming.targets.items():
        if target not in naming.parts:
            files[target] = file
    groups: dict[str, dict[str, torch.Tensor]] = {}
    made_by = {name: target for target in naming.parts for name in _made(naming, target)}
    for name, place in model.architecture.places.items():
        if place.buffer:
            continue
        if name in files:
            yield name, model.load(files[name])
        elif name in made_by:
            target = made_by[name]
            if target not in groups:
                groups = {target: naming.convert(target, {one: model.load(one) for one in naming.parts[target]})}
            yield name, groups[target][name]
        # else it is one that transformers does not miss, either


def _made(naming: Any, target: str) -> Sequence[str]:
    shapes = naming.part_shapes(target)
    given = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return list(naming.convert(target, given))


def _is_layer(module: torch.nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return type(module) in (torch.nn.Linear, torch.nn.Embedding, Conv1D)


def _is_tied(model: OpenModel, name: str) -> bool:
    return any(first == name != other for other, first in model.architecture.canonical.items())


def _matrices(module: torch.nn.Module, attribute: str, own: torch.Tensor, other: torch.Tensor) -> list[torch.Tensor]:
    """Return the matrices of a difference, float64, as PEFT's factors multiply to them; none: it holds no matrix."""
    from transformers.pytorch_utils import Conv1D

    if not own.is_floating_point() or own.dim() not in (2, 3) or "bias" in attribute:
        return []
    if own.dim() == 3 and _is_layer(module):
        return []
    if isinstance(module, torch.nn.modules.conv._ConvNd):
        return []
    wide = own.double() - other.double()
    if isinstance(module, (Conv1D, torch.nn.Embedding)):
        return [wide.T]
    if own.dim() == 2:
        return [wide]
    return [one.T if getattr(module, "is_transposed", False) else one for one in wide]


def _store_whole(
    made: Extraction, model: OpenModel, shell: Any, name: str, own: torch.Tensor, other: torch.Tensor, *, others: bool
) -> None:
    """Store a parameter with its module, unless that is left out."""
    owner, _, attribute = name.rpartition(".")
    wide = own.double() - other.double()
    squared = float((wide * wide).sum())
    module = shell.get_submodule(owner)
    is_bias = _is_layer(module) and attribute == "bias"
    # A module with parts of its own would be stored with all of them.
    can = made.biases if is_bias else others and owner != "" and not any(module.children())
    made.fits.append(Fit(name, None if can else 0, squared, 0.0 if can else squared))
    if not can:
        return
    if is_bias:
        made.tensors[f"{PREFIX}{owner}.lora_B.bias"] = wide.float()
        made.shapes[owner] = (len(own), model.architecture.shapes[f"{owner}.weight"][0 if _turned(module) else 1])
        return
    if owner not in made.whole:
        made.whole.append(owner)
        for each, _ in module.named_parameters(recurse=False):
            made.tensors[f"{PREFIX}{owner}.{each}"] = _parameter(model, f"{owner}.{each}")
    if isinstance(module, torch.nn.Embedding) and _is_tied(model, name):
        made.ties = True
        for alias, first in model.architecture.canonical.items():
            if first == name != alias and alias.rpartition(".")[0] not in made.whole:
                made.whole.append(alias.rpartition(".")[0])
                made.tensors[f"{PREFIX}{alias}"] = own.clone()


def _turned(module: torch.nn.Module) -> bool:
    """Return whether a layer holds its matrix as inputs × outputs."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def _parameter(model: OpenModel, name: str) -> torch.Tensor:
    file = next((file for file, target in model.naming.targets.items() if target == name), None)
    if file is None:
        raise CheckpointError(f"{model.label} has no tensor {name}")
    return model.load(file).clone()


def _add_stacks(made: Extraction, stacks: Mapping[str, Sequence[tuple[str, list[LowRank]]]]) -> None:
    """Add what PEFT wraps parameter by parameter; of a module with several, the later ones lie around the first.

    A stack of experts has A of `(experts · r, inputs)`, expert by expert, and B of `(outputs, r · experts)`, in which
    the experts alternate.
    """
    for owner, members in stacks.items():
        for i, (attribute, parts) in enumerate(members):
            made.parameters.append(f"{owner}.{attribute}")
            own = made.stacked[f"{owner}.{attribute}"] = padded(parts, made.rank)
            place = f"{PREFIX}{owner}" + ".base_layer" * (len(members) - 1 - i)
            made.tensors[f"{place}.lora_A.weight"] = torch.cat([part.a for part in own])
            b = torch.stack([part.b for part in own], dim=-1)
            made.tensors[f"{place}.lora_B.weight"] = b.reshape(b.shape[0], -1).contiguous()


def _keeps_biases(model: OpenModel, base: OpenModel) -> bool:
    """Return whether adapted layers get biases: PEFT gives one to all or none, and merges none back without the other.

    So they are kept where all linear layers inside of the model's layers have one (GPT-2), and some differ.
    """
    shell: Any = model.architecture.model
    differ = False
    for name, place in model.architecture.places.items():
        owner, _, attribute = name.rpartition(".")
        module = shell.get_submodule(owner)
        if place.layer is None or isinstance(module, torch.nn.Embedding):
            continue
        if not _is_layer(module):
            if len(model.architecture.shapes[name]) > 1:
                return False  # PEFT wraps it as a parameter, which has no bias
            continue
        if module.bias is None:
            return False
        if attribute == "bias" and not differ:
            differ = not torch.equal(_parameter(model, name), _parameter(base, name))
    return differ


def _add_biases(made: Extraction) -> None:
    """Give every adapted layer a bias, of zeros where it has none yet."""
    for layer in made.ranks if made.biases else ():
        outputs = made.tensors[f"{PREFIX}{layer}.lora_B.weight"].shape[0]
        made.tensors.setdefault(f"{PREFIX}{layer}.lora_B.bias", torch.zeros(outputs))
    for key in [key for key in made.tensors if key.endswith(".lora_B.bias")]:
        layer = key.removeprefix(PREFIX).removesuffix(".lora_B.bias")
        if layer not in made.ranks:  # its matrix does not differ, so give it one of zeros
            n, m = made.shapes[layer]
            made.ranks[layer] = 1
            made.tensors[f"{PREFIX}{layer}.lora_A.weight"] = torch.zeros(1, m)
            made.tensors[f"{PREFIX}{layer}.lora_B.weight"] = torch.zeros(n, 1)
