"""The local folder of a model that a recipe names."""

from __future__ import annotations

from pathlib import Path

from evomerge.errors import CheckpointError
from evomerge.merge.files.hub import download
from evomerge.recipe import ModelSource
from evomerge.system.text import cut, error_text


def locate(source: ModelSource) -> Path:
    """Return the local folder of a checkpoint; a Hub id is downloaded (weights, configuration, tokenizer only).

    Raises:
        CheckpointError: if there is no such folder, zoo model, Hub repository or revision, or no connection to the Hub.
    """
    if source.path.startswith("zoo:"):
        from evomerge.zoo import zoo_path

        try:
            return _folder(zoo_path(source.path.removeprefix("zoo:")))
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    try:
        if source.revision is not None and Path(f"{source.path}@{source.revision}").is_dir():
            return _folder(Path(f"{source.path}@{source.revision}"))  # a local folder of that very name
        local = Path(source.path).expanduser()
        here = local.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that nobody may look into
        raise CheckpointError(f"there is no folder {cut(source.path, 200)}: {error_text(error, most=100)}") from error
    if here:
        if source.revision is not None:
            raise CheckpointError(f"{source.path} is a local folder, so it has no revision {source.revision!r}")
        return _folder(local)
    if source.path.startswith((".", "/", "~")) or source.path.count("/") > 1:
        raise CheckpointError(f"there is no folder {source.path}")
    return _folder(download(source))


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "missing"
        raise CheckpointError(f"{folder} is {kind}; a model is a folder with config.json and safetensors")
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(
                f"{folder} is a LoRA adapter, not a whole model: merge it into its base first "
                f"(peft's merge_and_unload, then save_pretrained)"
            )
        raise CheckpointError(f"{folder} has no config.json, so it is not a Hugging Face model folder")
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} holds a model and an adapter (adapter_config.json), which transformers puts on top of the "
            "weights where peft is installed: merge it in (merge_and_unload, then save_pretrained), or remove that file"
        )
    return folder
