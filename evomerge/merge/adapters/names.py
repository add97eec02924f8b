"""Which adapter a source names, and which model lies below it; read from names and small files alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.config import read_config
from evomerge.merge.files.locate import adapter_folder
from evomerge.recipe import ModelSource
from evomerge.system.text import cut

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def adapter_of(source: ModelSource) -> ModelSource | None:
    """Return what a model's adapter is read from: what it names as `adapter`, or its own path; None: it has none.

    Raises:
        CheckpointError: if there is no such folder, repository or revision.
    """
    if source.adapter is not None:
        return ModelSource(source.adapter, source.adapter_revision, allow_pickle=source.allow_pickle)
    return None if adapter_folder(source) is None else source


def base_of(source: ModelSource) -> ModelSource:
    """Return the model below the adapter of a source that has one.

    Raises:
        CheckpointError: if the adapter's configuration cannot be read, or does not name it in a way that holds here.
    """
    if source.adapter is not None:
        return replace(source, adapter=None, adapter_revision=None)
    folder = adapter_folder(source)
    if folder is None:
        raise ValueError(f"{source.path} is no adapter")
    config = read_config(folder)
    name = config.base
    instead = f"write {{path: MODEL, adapter: {source.path}}} with the model that it was trained on"
    if name is None:
        raise CheckpointError(f"{source.label} is an adapter that does not say of which model; {instead}")
    try:
        there = Path(name).expanduser()
        exists = there.exists()
    except (OSError, RuntimeError):  # too long, or no such user's home
        there, exists = Path(name), False
    # A folder named from where it was trained counts from here, as other names of folders do, and as peft reads it.
    if not there.is_absolute() and not exists and not _HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"{source.label} is an adapter of {cut(repr(name), 200)}, a folder that is not here but where it was "
            f"trained; {instead}"
        )
    if there.is_absolute() and not exists:
        raise CheckpointError(f"{source.label} is an adapter of {cut(name, 200)}, which is not here; {instead}")
    return ModelSource(name, config.revision, source.trust_remote_code, allow_pickle=source.allow_pickle)
