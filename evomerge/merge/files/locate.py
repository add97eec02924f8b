"""The local folder of a model that a recipe names."""

from __future__ import annotations

from pathlib import Path

from evomerge.errors import CheckpointError
from evomerge.merge.files.hub import HubModel, bring, find
from evomerge.merge.files.weights import few
from evomerge.recipe import ModelSource
from evomerge.system.text import cut, error_text

ADAPTER = "adapter_config.json"
"""The file by which a folder shows that it holds an adapter."""


def locate(source: ModelSource) -> Path:
    """Return the local folder of a checkpoint; a Hub id is downloaded (weights, configuration, tokenizer only).

    Of a GGUF file it is the folder that is made of it, with its configuration and tokenizer. Where the source names an
    adapter, too, it is the folder of the model below it.

    Raises:
        CheckpointError: if there is no such folder, zoo model, Hub repository or revision, or no connection to the Hub,
            or the folder holds no whole model.
    """
    folder, coming = locate_headers(source)
    if coming is not None:
        bring([coming])
    return folder


def whole_model(source: ModelSource) -> None:
    """Refuse a source that names an adapter on top of its model, which `locate` would leave out.

    Raises:
        CheckpointError: if it does.
    """
    if source.adapter is not None:
        raise CheckpointError(
            f"{source.label} is a model with an adapter, and whole weights are needed here; write them first: "
            "`evomerge merge RECIPE.yaml DIR` with `method: passthrough` and this as the one parent"
        )


def locate_any(source: ModelSource) -> Path:
    """Return the local folder of what a path names, a whole model or an adapter; a Hub id is downloaded.

    Raises:
        CheckpointError: if there is no such folder, zoo model, Hub repository or revision, or no connection to the Hub.
    """
    local = _local(source)
    if local is not None:
        return _there(local)
    found = find(source)
    if found.missing:
        bring([found])
    return found.folder


def adapter_folder(source: ModelSource) -> Path | None:
    """Return the folder of what a path names if it is an adapter without a whole model; None: it is a model.

    Of a Hub id only small files are fetched.

    Raises:
        CheckpointError: as `locate_any`.
    """
    if source.file is not None:
        return None
    local = _local(source)
    folder = find(source).folder if local is None else local
    return folder if is_adapter(folder) else None


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter without a whole model."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def locate_headers(source: ModelSource) -> tuple[Path, HubModel | None]:
    """Return the local folder of a checkpoint, and the Hub model whose weights are not there yet.

    None stands for a folder that is whole, as all are whose weights have no headers that could be read without them.

    Raises:
        CheckpointError: as `locate`.
    """
    local = _local(source)
    if local is not None:
        return _model_folder(source, local), None
    found = find(source)
    if found.missing and not found.has_headers:
        bring([found])
        return _model_folder(source, found.folder), None
    return _model_folder(source, found.folder), found if found.missing else None


def is_on_hub(source: ModelSource) -> bool:
    """Return whether a source names a model of the Hub rather than a folder, which need not exist."""
    try:
        return _local(source) is None
    except CheckpointError:
        return False


def _local(source: ModelSource) -> Path | None:
    """Return the folder that a source names; None: it is a Hub id.

    Raises:
        CheckpointError: if it can only be a folder, and is not there.
    """
    if source.path.startswith("zoo:"):
        from evomerge.zoo import zoo_path

        try:
            return zoo_path(source.path.removeprefix("zoo:"))
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    try:
        if source.revision is not None and Path(f"{source.path}@{source.revision}").is_dir():
            return Path(f"{source.path}@{source.revision}")  # a local folder of that very name
        local = Path(source.path).expanduser()
        here = local.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that nobody may look into
        raise CheckpointError(f"there is no folder {cut(source.path, 200)}: {error_text(error, most=100)}") from error
    if here:
        if source.revision is not None:
            raise CheckpointError(f"{source.path} is a local folder, so it has no revision {source.revision!r}")
        return local
    if local.suffix == ".gguf" and ("/" not in source.path or local.parent.is_dir()):
        raise CheckpointError(f"there is no file {source.path}")  # no Hub id: those have an owner
    if source.path.startswith((".", "/", "~")) or source.path.count("/") > 1:
        raise CheckpointError(f"there is no folder {source.path}")
    return None


def _model_folder(source: ModelSource, place: Path) -> Path:
    """Return the folder of a model at a place: itself, or what is made of the GGUF file there.

    Raises:
        CheckpointError: if it is none.
    """
    if source.file is not None:
        return _gguf(source.file, place)
    if place.suffix == ".gguf" and place.is_file():
        return _gguf(place.name, place.parent)
    return _folder(source, place)


def _gguf(file: str, folder: Path) -> Path:
    """Return the folder that is made of a GGUF file in a folder.

    Raises:
        CheckpointError: if there is no such file, or it cannot be translated.
    """
    if not file.endswith(".gguf"):
        raise CheckpointError(f"`file` names the GGUF file that holds the weights, but came {file!r}")
    if not (folder / file).is_file():
        others = sorted(path.name for path in folder.glob("*.gguf")) if folder.is_dir() else []
        there = f"it has {few(others)}" if others else "it has no GGUF file" if folder.is_dir() else "it is no folder"
        raise CheckpointError(f"{folder} has no file {file}; {there}")
    from evomerge.merge.files.formats.gguf_folder import gguf_folder

    return gguf_folder(folder / file)


def _folder(source: ModelSource, folder: Path) -> Path:
    has_adapter = (_there(folder) / ADAPTER).is_file()
    if not (folder / "config.json").is_file():
        if has_adapter:
            raise CheckpointError(f"{folder} is an adapter, not the whole model that is needed here")
        raise CheckpointError(f"{folder} has no config.json, so it is not a Hugging Face model folder")
    if has_adapter and source.adapter != source.path:
        raise CheckpointError(
            f"{folder} holds a model and an adapter (adapter_config.json), and programs differ in which counts: "
            f"write {{path: {source.path}, adapter: {source.path}}} for the adapter on top of these weights, or remove "
            "that file"
        )
    return folder


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        raise CheckpointError(
            f"{folder} is {kind}; a model is a folder with config.json and safetensors, or a GGUF file"
        )
    return folder
