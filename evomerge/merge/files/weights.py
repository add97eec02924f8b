"""Which files of a folder hold its weights: those that transformers loads, in the order in which it looks.

`PreTrainedModel.from_pretrained` takes the file that config.json names as `transformers_weights`, else
model.safetensors, else the shards of model.safetensors.index.json, else pytorch_model.bin, else the shards of
pytorch_model.bin.index.json (pickles, which are read only where that is permitted). A folder that evomerge made of a
GGUF file has none of them, but a table of that file's tensors. Whatever else lies there (shards of an earlier save
beside one file, consolidated.safetensors, variants, adapters) is not looked at. The tests hold this rule against
transformers itself; it is written here since importing transformers takes longer than a merge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path, PurePosixPath
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.header import read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""What transformers looks for where there are no safetensors."""
GGUF_TABLE = "gguf_tensors.json"
"""The table of tensors in a folder that was made of GGUF files; its key `files` names them."""

_INDEX_END = ".index.json"
_TRAINING = ("global_step*", "pytorch_model_fsdp*", "*.distcp", "zero_pp_rank*", "bf16_zero_pp_rank*")
"""What trainers write that shard a model over processes."""
_OTHER_PICKLES = ("model.pt", "model.pth", "consolidated.00.pth")


def weights_name(names: set[str], config: Any) -> str | None:
    """Return the file with which transformers begins to load weights: a safetensors file or an index; None: neither.

    Args:
        names: the files of the folder or repository.
        config: what config.json holds.

    Raises:
        CheckpointError: if config.json names a file that is not there, or is no safetensors file of the folder.
    """
    explicit = config.get("transformers_weights") if isinstance(config, dict) else None
    if explicit is not None:
        ends = (".safetensors", f".safetensors{_INDEX_END}")
        if not isinstance(explicit, str) or not explicit.endswith(ends) or _leaves(explicit):
            raise CheckpointError(
                f"config.json names {explicit!r} as its weights (transformers_weights), which is no safetensors file "
                "or index inside of the folder"
            )
        if explicit not in names:
            raise CheckpointError(f"config.json names {explicit} as its weights (transformers_weights); it is missing")
        return explicit
    return next((name for name in (SINGLE, INDEX) if name in names), None)


def first_file(folder: Path) -> Path:
    """Return the file of a folder with which transformers begins to load weights, or the table of a GGUF file.

    Raises:
        CheckpointError: if there is none, or config.json names another one that is not there.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None  # whoever reads the configuration says so
    name = weights_name({name for name in _candidates(config) if _is_file(folder / name)}, config)
    if name is None:
        name = next((name for name in (*PICKLES, GGUF_TABLE) if _is_file(folder / name)), None)
    if name is None:
        raise CheckpointError(_without_weights(folder))
    return folder / name


def gguf_data(folder: Path) -> dict[str, Any]:
    """Return the data of the table in a folder that was made of a GGUF file.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        data = json.loads((folder / GGUF_TABLE).read_text(encoding="utf-8"))
        if not isinstance(data, dict) or not isinstance(data.get("files"), list):
            raise ValueError("it names no files")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / GGUF_TABLE} is damaged ({error}); remove {folder}, which is then made again from the GGUF file"
        ) from error
    return data


def is_pickle(path: Path) -> bool:
    """Return whether a file of weights, or what an index names, is a pickle."""
    return path.name.removesuffix(_INDEX_END).endswith(".bin")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return every file from which the weights of a folder are read: an index where there is one, then its shards.

    Raises:
        CheckpointError: as `locate_tensors`, but pickles are named, too.
    """
    first = first_file(folder)
    if first.name == GGUF_TABLE:
        return tuple(folder / name for name in gguf_data(folder)["files"])
    return (first, *sorted(set(_shards(folder, first).values()))) if first.name.endswith(_INDEX_END) else (first,)


def locate_tensors(folder: Path) -> dict[str, Path]:
    """Return the safetensors files of a folder's tensors by name, from the header or the index; headers are checked.

    Raises:
        CheckpointError: if there is neither, it cannot be read, index and headers disagree, or the weights are stored
            otherwise.
    """
    first = first_file(folder)
    if is_pickle(first):
        raise CheckpointError(no_pickle(folder, first))
    if first.name == GGUF_TABLE:
        raise CheckpointError(f"the weights of {folder} are those of a GGUF file")
    if not first.name.endswith(_INDEX_END):
        return dict.fromkeys(read_header(first), first)
    files = _shards(folder, first)
    for path in sorted(set(files.values())):
        check_shard(folder, path, files, read_header(path).keys())
    return files


def index_of(folder: Path, first: Path) -> dict[str, Path] | None:
    """Return the files that an index names by tensor; None: the first file is no index, and holds all of them.

    Raises:
        CheckpointError: if it is no index, names files outside of the folder, or some are missing.
    """
    return _shards(folder, first) if first.name.endswith(_INDEX_END) else None


def check_shard(folder: Path, path: Path, files: Mapping[str, Path], there: Set[str]) -> None:
    """Check that a file holds the tensors that an index places in it, and no others.

    Args:
        folder: the folder.
        path: the file.
        files: the file of each tensor, as the index says.
        there: the tensors that the file holds.

    Raises:
        CheckpointError: if it does not.
    """
    mine = {name for name, file in files.items() if file == path}
    lost = sorted(mine - there)
    if lost:
        raise CheckpointError(f"{path} lacks {few(lost)}, which the index of {folder} places there")
    extra = sorted(there - mine)
    if extra:
        where = "in another file" if extra[0] in files else "nowhere"
        raise CheckpointError(
            f"{path} holds {few(extra)}, which the index of {folder} places {where}, so that it belongs to other "
            "files; download the model again, or save it anew with save_pretrained"
        )


def no_pickle(folder: Path, file: Path) -> str:
    """Return why the weights of a folder are not read, if they are a pickle, and what can be done."""
    return (
        f"{folder} holds its weights as {file.name}, a pickle, which can run code when it is read. If you trust "
        f"where it comes from, write {{path: {folder}, allow_pickle: true}}: it is then read by torch's loader for "
        "weights alone, which refuses code. Or convert it: AutoModelForCausalLM.from_pretrained(folder)"
        ".save_pretrained(new_folder) writes safetensors"
    )


def _without_weights(folder: Path) -> str:
    """Return what a folder without weights lacks, and what it has instead."""
    pickles = [name for name in _OTHER_PICKLES if (folder / name).exists()]
    if pickles:
        return (
            f"{folder} holds its weights as {pickles[0]}, a pickle that transformers does not load. Convert it with "
            "the script of the model's family (transformers/models/…/convert_…_weights_to_hf.py)"
        )
    ggufs = sorted(path.name for path in folder.glob("*.gguf") if _is_file(path))
    if ggufs:
        return (
            f"{folder} has neither {SINGLE} nor {INDEX}, but {few(ggufs)}; to read one of them, write "
            f"{{path: …, file: {ggufs[0]}}}"
        )
    parts = sorted({path.name for form in _TRAINING for path in folder.glob(form)})
    if parts:
        return (
            f"{folder} holds no model's weights, but {few(parts)}: the state of a training run in parts. Put "
            "them together first: `python zero_to_fp32.py . OUT` in a folder of DeepSpeed, `accelerate merge-weights` "
            "for FSDP"
        )
    others = sorted(path.name for path in folder.glob("*.safetensors") if _is_file(path))
    there = f"; it has {few(others)}" if others else ""
    for name in (SINGLE, INDEX):
        if (folder / name).is_symlink() or (folder / name).is_dir():
            there += f"; {name} there is a folder, or a link to nothing"
    return f"{folder} has neither {SINGLE} nor {INDEX}{there}"


def _candidates(config: Any) -> tuple[str, ...]:
    explicit = config.get("transformers_weights") if isinstance(config, dict) else None
    return (SINGLE, INDEX, explicit) if isinstance(explicit, str) and not _leaves(explicit) else (SINGLE, INDEX)


def _shards(folder: Path, index: Path) -> dict[str, Path]:
    """Return the files that an index names, by tensor; all of them lie in the folder.

    Raises:
        CheckpointError: if it is no index, names files outside of the folder, or some are missing.
    """
    end = ".bin" if is_pickle(index) else ".safetensors"
    kind = "pickles" if is_pickle(index) else "safetensors files"
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {name: str(file) if isinstance(file, str) else _no_name(file) for name, file in weight_map.items()}
        if not files:
            raise ValueError("it names no tensor")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} is not an index of {kind}: {error!r}") from error
    outside = sorted({file for file in files.values() if _leaves(file)})
    if outside:
        raise CheckpointError(
            f"{index} names {few([repr(file) for file in outside])}, outside of its folder; a model's shards lie "
            "beside its index, so nothing there was read"
        )
    others = sorted({file for file in files.values() if not file.endswith(end)})
    if others:
        raise CheckpointError(f"{index} names {few([repr(file) for file in others])}; {kind} were expected")
    lost = sorted({file for file in files.values() if not _is_file(folder / file)})
    if lost:
        raise CheckpointError(f"{folder} lacks {few(lost)}, which {index.name} names; download the model again")
    return {name: folder / file for name, file in files.items()}


def _no_name(file: Any) -> str:
    raise TypeError(f"{file!r} is no name of a file")


def _leaves(name: str) -> bool:
    """Return whether a file's name leads out of its folder. Links are followed: caches of the Hub are made of them."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not name or "\0" in name or path.is_absolute() or ".." in path.parts or name[1:2] == ":"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def few(names: list[str], limit: int = 5) -> str:
    """Return the first few of some names, joined, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
