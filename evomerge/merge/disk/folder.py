"""Merge to disk: a Hugging Face folder, written tensor by tensor, complete or not there at all."""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import ExportError
from evomerge.merge.disk.appearing import appearing
from evomerge.merge.disk.plain import PlainMerge, UnusualError, plain_merge
from evomerge.merge.disk.stream import Lend, Piece, file_size, write_files
from evomerge.merge.files import stored
from evomerge.merge.files.belongings import GENERATION, belongings, code_files
from evomerge.merge.files.weights import INDEX, SINGLE
from evomerge.merge.plan import MergePlan, TensorTask
from evomerge.recipe import Recipe
from evomerge.system.files import free_folder, write_json

if TYPE_CHECKING:
    from evomerge.merge.disk.flat import Flat
    from evomerge.merge.paths.plan import PathTask
    from evomerge.merge.sources import Sources

SHARD_BYTES = 5_000_000_000

Progress = Callable[[int, int], None]
"""Called with (tensors done, tensors in all)."""


def merge_to_disk(
    recipe: Recipe,
    out: str | Path,
    *,
    shard_size: int = SHARD_BYTES,
    progress: Progress | None = None,
    sources: Sources | None = None,
    plan: MergePlan | None = None,
) -> Path:
    """Build the model of a recipe as a Hugging Face folder, which `from_pretrained` loads.

    The folder is written under another name beside `out` and renamed at the end, so a folder called `out` is always
    whole. Reading, arithmetic and writing run at the same time, on all of torch's threads and two more; the bytes do
    not depend on the number of threads. Checkpoints of a common layout are merged without torch and transformers (see
    `evomerge.merge.disk.plain`), unless `sources` are given.

    Memory: at most (parents and base + 2) times the largest tensor and one output shard; with a fused kernel, however
    large or small a shard is. Tensors that are computed as they are read (quantised weights, adapters) count in fp32.

    Args:
        recipe: what to build; it is written into the folder as `recipe.yaml`.
        out: the folder to make; it must not exist, or be empty.
        shard_size: largest weight file, in bytes (a larger tensor gets a file of its own).
        progress: called after each tensor.
        sources: opened models to share.
        plan: what is done in place of the recipe's own plan, made with these sources; its recipe says who lends
            tokenizer and generation config.

    Returns:
        The folder.

    Raises:
        RecipeError: if the recipe is wrong, or its result is not finite.
        CheckpointError: if its models cannot be read or do not fit together.
        ExportError: if the folder cannot be written, or already holds something.
    """
    if shard_size <= 0:
        raise ExportError(f"the shard size must be a positive number of bytes, but came {shard_size}")
    folder = free_folder(out, ExportError)
    plain = plain_merge(recipe) if sources is None else None
    if plain is not None:
        # What is unusual may show only in the values; the general way then says what it is.
        with contextlib.suppress(UnusualError):
            _write(_plain_build(plain), recipe, folder, shard_size, progress)
            return folder
    if sources is None:
        from evomerge.merge.sources import Sources

        sources = Sources(one_merge=True)
    _write(_build(recipe, sources, plan), recipe, folder, shard_size, progress)
    return folder


def outline_on_disk(
    recipe: Recipe, folder: Path, *, shard_size: int = SHARD_BYTES, sources: Sources | None = None
) -> dict[str, int]:
    """Write what `merge_to_disk` would, but for the weights, into a folder that is there.

    The weights' files follow from the headers of the inputs, so none is read.

    Returns:
        The name of each file of weights that is left out, and its size in bytes.

    Raises:
        RecipeError, CheckpointError, ExportError: as `merge_to_disk`.
    """
    plain = plain_merge(recipe) if sources is None else None
    build = None
    if plain is not None:
        with contextlib.suppress(UnusualError):
            build = _plain_build(plain)
    if build is None:
        from evomerge.merge.sources import Sources

        build = _build(recipe, sources or Sources())
    _write_config(build, folder)
    files = _weight_files(build, folder, shard_size)
    _write_tokenizer(build, folder)
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    return {path.name: file_size([_piece(build, task) for task in shard]) for path, shard in files.items()}


def tensors_of(recipe: Recipe, sources: Sources) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each tensor that `merge_to_disk` writes for a recipe, and what computes it.

    Raises:
        RecipeError: if the recipe is wrong, or (when computed) its result is not finite.
        CheckpointError: if its models cannot be read or do not fit together.
    """
    build = _build(recipe, sources)
    for task in build.tasks:
        yield task.name, partial(build.load, task)


@dataclass(frozen=True)
class _Build:
    """The part of a plan, of either kind, that is needed to write a folder.

    Attributes:
        tasks: the tensors, in the order of writing.
        load: computes a tensor.
        inputs: returns the models, and their names of the tensors, from which a tensor is computed.
        copied: returns whether what `load` returns is the input itself.
        donor: the model that lends config.json and custom code.
        config: the configuration of the result; None: the donor's own config.json.
        tokenizer: the folder that lends the tokenizer.
        generation: the folder that lends the generation config.
        tokenizer_code: whether code of a tokenizer class may run that comes with its folder.
        blocks: computes a tensor block by block, in place of `load`, unless it is copied; None: `load` computes all.
        work: returns how many bytes `load` takes for a tensor beside its inputs and the result.
    """

    tasks: Sequence[TensorTask | PathTask]
    load: Callable[[Any], Any]
    inputs: Callable[[Any], list[tuple[Any, str]]]
    copied: Callable[[Any], bool]
    donor: Any
    config: Any
    tokenizer: Path
    generation: Path
    tokenizer_code: bool = False
    blocks: Callable[[Any, Lend], Iterator[Flat]] | None = None
    work: Callable[[Any], int] = lambda task: 0


def _plain_build(plain: PlainMerge) -> _Build:
    donor = plain.family.model(plain.family.donor)
    generation = plain.generation.folder
    if generation != donor.folder and not (generation / GENERATION).is_file():
        raise UnusualError  # transformers says which settings of its config.json these are
    tokenizer = plain.tokenizer.tokenizer_folder
    reads = _reads(plain.plan)
    return _Build(plain.plan.tasks, plain.load, *reads, donor, None, tokenizer, generation, blocks=plain.blocks)


def _build(recipe: Recipe, sources: Sources, plan: MergePlan | None = None) -> _Build:
    from evomerge.merge.apply import merge_tensor

    if plan is not None:
        recipe = plan.recipe

    lender = sources.tokenizer_of(recipe)
    generation = sources.generation_of(recipe).generation_folder
    tokenizer, its_code = lender.tokenizer_folder, lender.trust_remote_code
    if recipe.path:
        path = sources.path_plan(recipe)
        _ = sources.open(recipe).naming  # the unrolled model class must find all of its tensors, under these names
        sources.warn_of_places(recipe)
        return _Build(
            path.tasks,
            path.load,
            lambda task: [(path.compatible.model(task.parent), task.source)],
            lambda task: task.copied,
            path.compatible.first,
            path.config,
            tokenizer,
            generation,
            its_code,
        )
    plan = plan or sources.plan(recipe)
    donor = plan.family.model(plan.family.donor)
    load = partial(merge_tensor, plan)
    return _Build(plan.tasks, load, *_reads(plan), donor, donor.config, tokenizer, generation, its_code, work=_work)


def _reads(plan: MergePlan) -> tuple[Callable[[TensorTask], list[tuple[Any, str]]], Callable[[TensorTask], bool]]:
    """Return `inputs` and `copied` of a build."""
    family = plan.family

    def inputs(task: TensorTask) -> list[tuple[Any, str]]:
        return list(dict.fromkeys(family.origin(index, task.name) for index in task.members))

    def copied(task: TensorTask) -> bool:
        return task.copy_of is not None and family.info(task.copy_of, task.name).dtype == task.dtype

    return inputs, copied


def _work(task: TensorTask) -> int:
    """Return the bytes of what a method makes of a whole tensor in fp32 before it is rounded."""
    whole = task.copy_of is None and task.method.program is None and task.method.block is None
    return 4 * math.prod(task.shape) if whole else 0


def _write(build: _Build, recipe: Recipe, out: Path, shard_size: int, progress: Progress | None) -> None:
    with appearing(out) as folder:
        _write_config(build, folder)
        _write_weights(build, folder, shard_size, progress)
        _write_tokenizer(build, folder)
        (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")


def _write_weights(build: _Build, folder: Path, shard_size: int, progress: Progress | None) -> None:
    done = itertools.count(1)

    def count() -> None:
        if progress is not None:
            progress(next(done), len(build.tasks))

    files = _weight_files(build, folder, shard_size)
    write_files({path: [_piece(build, task) for task in shard] for path, shard in files.items()}, count)


def _weight_files(build: _Build, folder: Path, shard_size: int) -> dict[Path, list[TensorTask | PathTask]]:
    """Return which tensors each file of weights holds; the index of several is written."""
    shards = _shards(build.tasks, shard_size)
    names = [SINGLE] if len(shards) == 1 else [
        f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)
    ]  # fmt: skip
    if len(shards) > 1:
        places = {task.name: name for name, shard in zip(names, shards, strict=True) for task in shard}
        index = {"metadata": {"total_size": sum(task.n_bytes for task in build.tasks)}, "weight_map": places}
        write_json(folder / INDEX, index)
    return {folder / name: shard for name, shard in zip(names, shards, strict=True)}


def _piece(build: _Build, task: TensorTask | PathTask) -> Piece:
    inputs = build.inputs(task)
    infos = [info for model, name in inputs for info in stored.inputs_of(model.tensors, name)]

    def fetch() -> None:
        for model, name in inputs:
            stored.fetch(model.tensors, name)

    def release() -> None:
        for model, name in inputs:
            stored.release(model.tensors, name)

    return Piece(
        task.name,
        task.shape,
        task.dtype,
        n_inputs=sum(info.n_bytes for info in infos),
        copied=build.copied(task),
        load=partial(build.load, task),
        fetch=fetch,
        release=release,
        blocks=None if build.blocks is None or build.copied(task) else partial(build.blocks, task),
        n_work=build.work(task),
    )


def _shards(tasks: Sequence[TensorTask | PathTask], shard_size: int) -> list[list[TensorTask | PathTask]]:
    """Fill one shard after the other, in the order of the tasks."""
    shards: list[list[TensorTask | PathTask]] = [[]]
    size = 0
    for task in tasks:
        if shards[-1] and size + task.n_bytes > shard_size:
            shards.append([])
            size = 0
        shards[-1].append(task)
        size += task.n_bytes
    return shards


def _write_config(build: _Build, folder: Path) -> None:
    donor = build.donor
    if build.config is None:
        config = dict(donor.config)
    else:
        from evomerge.merge.paths.config import check_written, config_json

        config = config_json(donor.folder, build.config)
    config.pop("_name_or_path", None)
    config.pop("transformers_weights", None)  # the donor's files, which have other names here
    # Older files call it torch_dtype; the donor's word is kept.
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    config[key] = _main_dtype(build.tasks)
    write_json(folder / "config.json", config)
    _write_generation_config(build, folder)
    if donor.trust_remote_code:
        for name in code_files(donor.folder):
            _copy(donor.folder, name, folder)
    if build.config is not None:
        check_written(folder, build.config, trust_remote_code=donor.trust_remote_code)


def _write_generation_config(build: _Build, folder: Path) -> None:
    if (build.generation / GENERATION).is_file() or build.generation == build.donor.folder:
        _copy(build.generation, GENERATION, folder)  # without a file, the settings in config.json count
    else:
        from evomerge.merge.files.generation import generation_json

        write_json(folder / GENERATION, generation_json(build.generation))


def _main_dtype(tasks: Sequence[TensorTask | PathTask]) -> str:
    """Return the name of the type that most bytes have."""
    size: dict[str, int] = {}
    for task in tasks:
        if task.dtype.is_floating_point:
            size[str(task.dtype)] = size.get(str(task.dtype), 0) + task.n_bytes
    return max(size, key=lambda dtype: size[dtype], default="float32").removeprefix("torch.")


def _write_tokenizer(build: _Build, folder: Path) -> None:
    """Copy the tokenizer's or processor's files as they are, so that the result encodes as its lender does.

    Raises:
        ExportError: if the lender's code for it has the name of other code of the model.
    """
    lender = build.tokenizer
    for name in belongings(lender, trust_remote_code=build.tokenizer_code):
        _copy(lender, name, folder)
    for name in code_files(lender) if build.tokenizer_code else ():
        if (folder / name).is_file() and (folder / name).read_bytes() != (lender / name).read_bytes():
            raise ExportError(
                f"{build.donor.folder} and {lender}, whose tokenizer the recipe takes, both bring a file {name}, but "
                "not the same one; take the tokenizer of the model that lends the configuration"
            )
        _copy(lender, name, folder)


def _copy(source: Path, name: str, folder: Path) -> None:
    """Copy a file from one folder to another, if it is there."""
    if (source / name).is_file():
        (folder / name).parent.mkdir(exist_ok=True)
        # Hub caches hold links to read-only files, so the bytes are copied, not the link or the mode.
        shutil.copyfile(source / name, folder / name)
