"""Which files of a folder hold its weights: those that transformers loads, in the order in which it looks.

`PreTrainedModel.from_pretrained` takes the file that config.json names as `transformers_weights`, else
model.safetensors, else the shards of model.safetensors.index.json (else a pickle, which evomerge does not read).
Whatever else lies there (shards of an earlier save beside one file, consolidated.safetensors, variants, adapters) is
not looked at. The tests hold this rule against transformers itself; it is written here since importing transformers
takes longer than a merge.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.header import read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

_INDEX_END = ".safetensors.index.json"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "consolidated.00.pth")


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
        if not isinstance(explicit, str) or not explicit.endswith((".safetensors", _INDEX_END)) or _leaves(explicit):
            raise CheckpointError(
                f"config.json names {explicit!r} as its weights (transformers_weights), which is no safetensors file "
                "or index inside of the folder"
            )
        if explicit not in names:
            raise CheckpointError(f"config.json names {explicit} as its weights (transformers_weights); it is missing")
        return explicit
    return next((name for name in (SINGLE, INDEX) if name in names), None)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return every file from which the weights of a folder are read: an index where there is one, then its shards.

    Raises:
        CheckpointError: as `locate_tensors`.
    """
    first = _first(folder)
    return (first, *sorted(set(_shards(folder, first).values()))) if first.name.endswith(_INDEX_END) else (first,)


def locate_tensors(folder: Path) -> dict[str, Path]:
    """Return the files of a folder's tensors by name, from the header or the index; headers are checked.

    Raises:
        CheckpointError: if there is neither, it cannot be read, or index and headers disagree.
    """
    first = _first(folder)
    if not first.name.endswith(_INDEX_END):
        return dict.fromkeys(read_header(first), first)
    files = _shards(folder, first)
    for path in sorted(set(files.values())):
        mine = {name for name, file in files.items() if file == path}
        there = read_header(path).keys()
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
    return files


def _first(folder: Path) -> Path:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        config = None  # whoever reads the configuration says so
    name = weights_name({name for name in _candidates(config) if _is_file(folder / name)}, config)
    if name is not None:
        return folder / name
    pickles = [name for name in _PICKLES if (folder / name).exists()]
    if pickles:
        raise CheckpointError(
            f"{folder} holds its weights as {pickles[0]}, a pickle, which can run code when it is read. Convert it: "
            f"AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder) writes safetensors"
        )
    others = sorted(path.name for path in folder.glob("*.safetensors") if _is_file(path))
    there = f"; it has {few(others)}" if others else ""
    for name in (SINGLE, INDEX):
        if (folder / name).is_symlink() or (folder / name).is_dir():
            there += f"; {name} there is a folder, or a link to nothing"
    raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}{there}")


def _candidates(config: Any) -> tuple[str, ...]:
    explicit = config.get("transformers_weights") if isinstance(config, dict) else None
    return (SINGLE, INDEX, explicit) if isinstance(explicit, str) and not _leaves(explicit) else (SINGLE, INDEX)


def _shards(folder: Path, index: Path) -> dict[str, Path]:
    """Return the files that an index names, by tensor; all of them lie in the folder.

    Raises:
        CheckpointError: if it is no index, names files outside of the folder, or some are missing.
    """
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {name: str(file) if isinstance(file, str) else _no_name(file) for name, file in weight_map.items()}
        if not files:
            raise ValueError("it names no tensor")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} is not an index of safetensors files: {error!r}") from error
    outside = sorted({file for file in files.values() if _leaves(file)})
    if outside:
        raise CheckpointError(
            f"{index} names {few([repr(file) for file in outside])}, outside of its folder; a model's shards lie "
            "beside its index, so nothing there was read"
        )
    others = sorted({file for file in files.values() if not file.endswith(".safetensors")})
    if others:
        raise CheckpointError(f"{index} names {few([repr(file) for file in others])}, which is no safetensors file")
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
