"""Loggers by name: built in, from an installed package, or from a user's own file ("my_file.py:MyLogger")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.errors import ConfigError, nearest_name
from evomerge.loggers.base import Logger
from evomerge.system.registry import Registry
from evomerge.system.text import error_text

LOGGERS: Registry[type[Logger]] = Registry(
    "logger",
    {
        "tensorboard": "evomerge.loggers.tensorboard:TensorBoardLogger",
        "trackio": "evomerge.loggers.trackio:TrackioLogger",
        "wandb": "evomerge.loggers.wandb:WandbLogger",
        "mlflow": "evomerge.loggers.mlflow:MlflowLogger",
    },
    group="evomerge.loggers",
)


def logger_problems(entries: Sequence[Mapping[str, Any]], *, libraries: bool = False) -> list[str]:
    """Return the mistakes in the loggers of a configuration, one sentence each.

    Args:
        entries: each has a `name`; the other keys are options.
        libraries: whether libraries must be installed, and loggers of a user's own importable; else neither is asked.
    """
    found: list[str] = []
    names = [str(entry["name"]) for entry in entries]
    found += [f"`loggers` names {name} twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    for name, entry in zip(names, entries, strict=True):
        if not libraries and ":" in name:
            continue
        problems = LOGGERS.problems(name)
        near = nearest_name(name, LOGGERS.built_in)  # whose options are probably meant
        found += problems
        if problems and near is None:
            continue
        kind: Any = LOGGERS.find(near if problems and near is not None else name)
        if not (isinstance(kind, type) and issubclass(kind, Logger)):
            found.append(f"the logger {name} must be a class that inherits evomerge.loggers.base.Logger, not {kind!r}")
            continue
        found += kind.problems(name, {key: value for key, value in entry.items() if key != "name"})
        missing = kind.missing(name) if libraries and not problems else None
        found += [] if missing is None else [missing]
    return list(dict.fromkeys(found))


def make_logger(name: str, options: Mapping[str, Any]) -> Logger:
    """Return the logger of a name with its options.

    Raises:
        ConfigError: with every mistake in them, or if it cannot be made.
    """
    problems = logger_problems([{"name": name, **options}], libraries=True)
    if problems:
        raise ConfigError(problems)
    try:
        return LOGGERS.find(name)(**{key: value for key, value in options.items() if value is not None})
    except Exception as error:  # a class of the user's may raise anything
        raise ConfigError(f"the logger {name} cannot be made: {error_text(error, name=True)}") from error
