"""Checkpoints of a common layout, opened without torch and transformers.

Most merges are of a few models of one common type, each with exactly the tensors that config.json describes. Their
headers say all that a plan needs, and importing torch, transformers and the model's class would take longer than the
merge: with two models of 0.5 billion parameters, `linear` takes 2.2 s of a core instead of 8.2 s, and `ties` 6.3 s
instead of 12.1 s (benchmarks/README.md). If anything is unusual, there is no plain family: `evomerge.merge.sources`
then opens the models and finds what is wrong, if anything is. Both ways give the same bytes.
"""

from __future__ import annotations

import json
import logging
import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from evomerge.errors import CheckpointError
from evomerge.merge.apply import program_of
from evomerge.merge.cache import ParentCache
from evomerge.merge.disk.flat import CPU, FLOATS, DType, Flat
from evomerge.merge.disk.layouts import TensorLayout, find_layout, meaning
from evomerge.merge.disk.stream import Lend, block_entries
from evomerge.merge.files.header import read_header
from evomerge.merge.files.locate import locate
from evomerge.merge.files.places import Merged
from evomerge.merge.files.stored import release
from evomerge.merge.files.tokens import UnusualTokenizerError, read_tokens_quickly
from evomerge.merge.files.weights import locate_tensors
from evomerge.merge.kernels.engine import compiled, engine_for
from evomerge.merge.methods.base import Method
from evomerge.merge.plan import MergePlan, TensorTask, check_recipe, make_plan
from evomerge.merge.vocabulary import Vocabularies, row_givers
from evomerge.recipe import ModelSource, Recipe

if TYPE_CHECKING:
    import torch

    from evomerge.merge.family import Family
    from evomerge.merge.files.checkpoint import TensorInfo
    from evomerge.merge.kernels.numba_engine import NumbaEngine

log = logging.getLogger(__name__)


class UnusualError(Exception):
    """Something is unusual, so that the merge or its error message needs the model's class or torch."""


class FlatInfo:
    """What a header says about a tensor, like `evomerge.merge.files.checkpoint.TensorInfo`."""

    def __init__(self, shape: tuple[int, ...], dtype: DType) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def result_dtype(self) -> DType:
        """The type that a merge gives it unless the recipe names one."""
        return self.dtype

    @property
    def n_bytes(self) -> int:
        """Size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class PlainTensors:
    """The tensors of a folder's safetensors files, memory-mapped, all of types in `FLOATS`.

    Raises:
        CheckpointError: if the files cannot be read.
        UnusualError: if they hold anything else.
    """

    mapped = True

    def __init__(self, folder: Path) -> None:
        files = locate_tensors(folder)
        self.infos: dict[str, FlatInfo] = {}
        self._places: dict[str, tuple[np.ndarray, int]] = {}
        for path in sorted(set(files.values())):
            mine = {name for name, file in files.items() if file == path}
            header = read_header(path)
            if not mine <= header.keys():
                raise UnusualError
            with path.open("rb") as file:
                start = 8 + int.from_bytes(file.read(8), "little")
                memory = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), np.uint8)
            for name in mine:
                entry = header[name]
                dtype, (begin, end) = FLOATS.get(entry["dtype"]), entry["data_offsets"]
                shape = tuple(entry["shape"])
                if (
                    dtype is None
                    or end - begin != math.prod(shape) * dtype.itemsize
                    or (start + begin) % dtype.itemsize
                ):
                    raise UnusualError
                self.infos[name] = FlatInfo(shape, dtype)
                self._places[name] = memory, start + begin

    def load(self, name: str) -> Flat:
        """Return a tensor, whose memory is the file's own."""
        info = self.infos[name]
        memory, start = self._places[name]
        return Flat(info.shape, info.dtype, memory[start : start + info.n_bytes])


class PlainModel:
    """An opened checkpoint, with the part of `evomerge.merge.files.model.OpenModel` that a merge to disk needs."""

    trust_remote_code = False

    def __init__(self, label: str, folder: Path, serial: int) -> None:
        self.label = label
        self.folder = folder
        self.tokenizer_folder = folder
        self.serial = serial
        try:
            self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UnusualError from error
        if not isinstance(self.config, dict):
            raise UnusualError
        self.tensors = PlainTensors(folder)


class PlainFamily:
    """Checkpoints of one layout, with the part of `evomerge.merge.family.Family` that a plan needs.

    Attributes:
        members: name and model of each parent in order, then the base if there is one.
        donor: index of the member that lends names, types and configuration.
        tensors: every tensor of the result.
        parent_cache: results of passes over the weights.
        n_layers: how many layers the models have.
    """

    def __init__(self, recipe: Recipe, models: list[PlainModel], layout: TensorLayout) -> None:
        self._models = models
        self.donor = -1 if recipe.base is not None else 0
        donor = models[self.donor]
        self.members = tuple(zip([*(parent.name for parent in recipe.parents), "base"], models, strict=False))
        self.n_layers = layout.n_layers
        self.parent_cache = ParentCache(one_merge=True)
        self.tensors = tuple(
            Merged(name, cast("TensorInfo", donor.tensors.infos[name]), place) for name, place in layout.places.items()
        )
        self.shows_bad = False
        self._checked: set[tuple[int, str]] = set()

    def dtype(self, name: str) -> DType:
        """Return a type by the name that recipes use."""
        return next(dtype for dtype in FLOATS.values() if dtype.name == name)

    def model(self, index: int) -> PlainModel:
        """Return a member by its index."""
        return self._models[index]

    def info(self, index: int, name: str) -> FlatInfo:
        """Return the shape and type of a member's tensor."""
        return self._models[index].tensors.infos[name]

    def source(self, index: int, name: str) -> tuple[PlainModel, str]:
        """Return a member, and its own name for a tensor of the result."""
        return self._models[index], name

    def origin(self, index: int, name: str) -> tuple[PlainModel, str]:
        """Return the same, since none of them is an adapter."""
        return self.source(index, name)

    def shared(self, indices: Sequence[int], name: str) -> bool:
        """Return false, since none of them is an adapter."""
        return False

    def load(self, index: int, name: str) -> Flat:
        """Return a tensor, checked to be finite unless the result will show it.

        Raises:
            UnusualError: if it is not finite.
        """
        return self._models[index].tensors.load(name) if self.shows_bad else self.checked(index, name)

    def release(self, index: int, name: str) -> None:
        """See `evomerge.merge.family.Family`."""
        release(self.model(index).tensors, name)

    def near(self, device: Any, index: int, name: str) -> Flat:
        """Return a tensor as `load` does, since all of them are in the CPU's memory."""
        return self.load(index, name)

    def home(self, index: int, name: str) -> None:
        """Return None, since no copy of a tensor stays on a device."""

    def checked(self, index: int, name: str) -> Flat:
        """Return a tensor, checked to be finite.

        Raises:
            UnusualError: if it is not finite.
        """
        tensor = self._models[index].tensors.load(name)
        if (index, name) not in self._checked:
            if not engine_for(cast("torch.device", CPU)).finite(cast("torch.Tensor", tensor)):
                raise UnusualError
            self._checked.add((index, name))
        return tensor


class PlainMerge:
    """A recipe whose models are plain, and its plan.

    Attributes:
        plan: what happens to each tensor.
        family: the models.
        tokenizer: the model whose tokenizer the result carries.
        generation: the model whose generation config it carries.
        vocabularies: the models' tokenizers.
    """

    def __init__(self, recipe: Recipe, methods: Mapping[str, Method], family: PlainFamily) -> None:
        self.family = family
        self.vocabularies = Vocabularies(lambda model: read_tokens_quickly(model.tokenizer_folder))
        self.plan: MergePlan = make_plan(recipe, methods, cast("Family", family))
        family.shows_bad = all(method.shows_bad for method in self.plan.methods)
        names = {parent.name: i for i, parent in enumerate(recipe.parents)}
        self.tokenizer = family.model(names.get(recipe.tokenizer_lender or "", family.donor))
        self.generation = family.model(
            names.get(recipe.generation_config or recipe.tokenizer_lender or "", family.donor)
        )

    def load(self, task: TensorTask) -> Flat:
        """Return the tensor of a task that copies it bit for bit: a parent's own memory.

        Raises:
            UnusualError: if it is not finite.
        """
        return self.family.checked(cast(int, task.copy_of), task.name)

    def blocks(self, task: TensorTask, lend: Lend) -> Iterator[Flat]:
        """Compute the tensor of a task block by block.

        Args:
            task: the task.
            lend: returns memory for a block.

        Raises:
            UnusualError: if a parent's tensor or the result is not finite, or the method has no program for the tensor.
        """
        if task.copy_of is not None:
            self.family.checked(task.copy_of, task.name)
        engine = cast("NumbaEngine", engine_for(cast("torch.device", CPU)))
        try:
            program, base, parents = program_of(self.plan, task, engine, cast("torch.device", CPU))
        except LookupError as error:  # only the method's reference can compute this one, which needs torch
            raise UnusualError from error
        n, dtype = math.prod(task.shape), cast(DType, task.dtype)
        step = block_entries()
        for start in range(0, max(n, 1), step):
            out = lend(min(step, n - start), dtype)
            if engine.run(program, base, parents, cast("torch.Tensor", out), roundings=[task.dtype], start=start):
                raise UnusualError
            yield out


def plain_merge(recipe: Recipe) -> PlainMerge | None:
    """Open the models of a recipe and return the planned merge; None if that needs the models' class or torch.

    Raises:
        RecipeError: with every mistake of the recipe.
    """
    further = recipe.path or recipe.chat_template is not None or recipe.vision is not None
    if further or recipe.builds_vocabulary or not compiled():
        return None
    methods = check_recipe(recipe)
    if not all(m.program is not None and (m.prepare is None or m.prepare_without_torch) for m in methods.values()):
        return None
    try:
        opened: dict[ModelSource, PlainModel] = {}
        members = recipe.members
        for member in members:
            source = member.source
            if not isinstance(source, ModelSource) or source.trust_remote_code or source.adapter is not None:
                return None
            if source not in opened:
                opened[source] = PlainModel(source.path, locate(source), len(opened))
        models = [opened[cast(ModelSource, member.source)] for member in members]
        layout = find_layout(models[-1 if recipe.base is not None else 0].config)
        if layout is None or not all(_fits(model, models[0].config, layout.shapes) for model in models):
            return None
        made = PlainMerge(recipe, methods, PlainFamily(recipe, models, layout))
        if not all(task.copy_of is not None or _is_fused(task) for task in made.plan.tasks):
            return None
        made.vocabularies.check(
            [made.family.members[index] for index in row_givers(made.plan)],
            (recipe.tokenizer_lender or recipe.donor.name, made.tokenizer),
            models[0].config["vocab_size"],
        )
    except (UnusualError, UnusualTokenizerError, CheckpointError):
        return None  # the general way reports all mistakes
    for warning in made.vocabularies.warnings:
        log.warning("%s", warning)
    return made


def _is_fused(task: TensorTask) -> bool:
    fused = task.method.fused
    return fused is None or (task.values is not None and fused(task.values))


def _fits(model: PlainModel, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    same = meaning(model.config) == meaning(config) and find_layout(model.config) is not None
    return same and {name: info.shape for name, info in model.tensors.infos.items()} == dict(shapes)
