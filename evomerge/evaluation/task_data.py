"""From which data set the documents of an lm-eval task are: its id on the Hub, configuration, split and commit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", flags=re.ASCII)
_AT_COMMIT = re.compile(r"hf://datasets/[^@\s]+@([0-9a-f]{40})/")


@dataclass(frozen=True)
class TaskData:
    """A data set, as far as a task says.

    Attributes:
        dataset: its id on the Hub; None: files or code on the machine.
        config: the name of its configuration.
        split: the split on whose documents the task evaluates.
        revision: the commit that was loaded, or else the revision that the task names.
    """

    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    def to_data(self) -> dict[str, str]:
        """Return what is known, as JSON data."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> TaskData:
        """Return what `to_data` wrote."""
        return cls(**{name: str(data[name]) for name in cls.__dataclass_fields__ if data.get(name) is not None})


def task_data(task: Any) -> TaskData:
    """Return the data set of a loaded lm-eval task.

    Whether a name is that of a data set on the Hub follows from how the library datasets reads it: it is not the name
    of a reader of files (`json`, `parquet`), and no place on the machine.
    """
    config = getattr(task, "config", None)
    split = _text(getattr(config, "test_split", None)) or _text(getattr(config, "validation_split", None))
    path, named = _text(getattr(task, "DATASET_PATH", None)), _text(getattr(task, "DATASET_NAME", None))
    if path is None or callable(getattr(config, "custom_dataset", None)) or not _on_the_hub(path):
        return TaskData(split=split)
    arguments = getattr(config, "dataset_kwargs", None)
    revision = _text(arguments.get("revision")) if isinstance(arguments, Mapping) else None
    return TaskData(path, named, split, _loaded_commit(task, split) or revision)


def _on_the_hub(path: str) -> bool:
    from datasets import packaged_modules

    return _ID.fullmatch(path) is not None and path not in packaged_modules._PACKAGED_DATASETS_MODULES and (
        not Path(path).exists()
    )  # fmt: skip


def _loaded_commit(task: Any, split: str | None) -> str | None:
    """Return the commit of the files that were read, which the library datasets keeps with their sizes."""
    try:
        files = task.dataset[split].info.download_checksums or {}
    except (AttributeError, KeyError, TypeError):
        return None
    commits = {found[1] for name in files if (found := _AT_COMMIT.match(str(name)))}
    return commits.pop() if len(commits) == 1 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
