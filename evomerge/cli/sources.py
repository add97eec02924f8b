"""Configuration files for Hydra, read by `evomerge.system.yaml_text` so that names stay names.

Hydra finds files by name along a path of folders, and reads them as YAML 1.1. Here the user's file is the primary
configuration whatever its name, and each file is read with what the configuration declares: where text is meant, a
value is text as written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from evomerge.cli.overrides import is_whole
from evomerge.config.keys import declared, takes_text
from evomerge.errors import ConfigError
from evomerge.system.config_files import configs_path
from evomerge.system.files import read_file
from evomerge.system.yaml_text import YamlError, read_yaml

OWN = "evomerge: your file"
"""The name that Hydra knows the user's file by."""

_DEFAULTS = ["search", "_self_"]
"""What a user's file begins with if it does not say so itself: everything that it leaves out."""


class _FolderSource(FileConfigSource):
    """A folder of configuration files."""

    @staticmethod
    def scheme() -> str:
        """Return how Hydra tells that a place is one of these."""
        return "evomerge-folder"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one file.

        Raises:
            ConfigError: if it is not plain YAML, or no mapping.
        """
        path = Path(self.path, self._normalize_file_name(config_path))
        text = read_file(path, "the configuration", ConfigError)
        try:
            header = ConfigSource._get_header_dict(text[:512].decode("utf-8", "ignore"))
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from error
        data = _mapping(path, text, _package(header.get("package"), config_path))
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(config=OmegaConf.create(data), path=place, provider=self.provider, header=header)


class _OneFileSource(_FolderSource):
    """The user's own file, of any name."""

    @staticmethod
    def scheme() -> str:
        """Return how Hydra tells that a place is one of these."""
        return "evomerge-file"

    def load_config(self, config_path: str) -> ConfigResult:
        """Read the file; if it names no defaults, it begins with the built-in ones.

        Raises:
            ConfigError: if it is not plain YAML, or no mapping.
        """
        path = Path(self.path)
        data = _mapping(path, read_file(path, "the configuration", ConfigError), ())
        if not data:
            raise ConfigError(f"{path} is empty; see configs/experiment/ for whole examples")
        own = {"defaults", *declared(()).keys} - {"models", "name"}  # which mergekit has as well
        if "merge_method" in data and not own & data.keys():
            raise ConfigError(f"{path} is a recipe of mergekit, which says one merge rather than what to search")
        if "defaults" not in data:
            data = {"defaults": list(_DEFAULTS), **data}
        if not isinstance(data["defaults"], list):
            raise ConfigError(f"{path}: `defaults` must be a list, like [search, _self_], but is {data['defaults']!r}")
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(config=OmegaConf.create(data), path=place, provider=self.provider, header={"package": None})

    def available(self) -> bool:
        """Return that it is there; reading says what is wrong with it."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return that there are no folders in it."""
        return False

    def is_config(self, config_path: str) -> bool:
        """Return whether Hydra asks for the user's file."""
        return config_path.removesuffix(".yaml") == OWN

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return what Hydra may offer instead of an unknown name: not this one."""
        return []


@contextlib.contextmanager
def composer(file: Path | None, folders: Sequence[Path] = ()) -> Iterator[Hydra]:
    """Lend a Hydra that finds the built-in configurations, the user's file, and what lies in folders beside it."""
    version.setbase("1.3")
    for source in (_FolderSource, _OneFileSource):
        Plugins.instance().register(source)
    places = ConfigSearchPathImpl()
    places.append("hydra", "pkg://hydra.conf")
    places.append("main", f"{_FolderSource.scheme()}://{configs_path()}")
    if file is not None:
        places.append("file", f"{_OneFileSource.scheme()}://{file}")
        folders = (*folders, file.resolve().parent)
    for folder in folders:
        places.append("folder", f"{_FolderSource.scheme()}://{folder}")
    places.append("schema", "structured://")
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2("evomerge search", places)
    finally:
        GlobalHydra.instance().clear()


def _package(said: str | None, config_path: str) -> tuple[str, ...]:
    """Return below which keys the content of a file stands."""
    group = tuple(config_path.split("/")[:-1])
    if said is None or said == "_group_":
        return group
    return tuple(step for step in said.split(".") if step and not (step.startswith("_") and step.endswith("_")))


def _broken_references(data: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yield places of text in which a reference like ${seed} cannot be read, with that text."""
    if isinstance(data, dict):
        for key, one in data.items():
            yield from _broken_references(one, f"{where}.{key}".lstrip("."))
    elif isinstance(data, list):
        for i, one in enumerate(data):
            yield from _broken_references(one, f"{where}[{i}]")
    elif isinstance(data, str) and not is_whole(data):
        yield where, data


def _mapping(path: Path, text: bytes, prefix: tuple[str, ...]) -> dict[str, Any]:
    try:
        data = read_yaml(text, text_at=lambda place: takes_text((*prefix, *place)), lenient=True)
    except YamlError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if data is None:
        return {}
    broken = list(_broken_references(data, ""))
    if broken:
        raise ConfigError(
            [f"{path}: `{place}` holds a reference that is not whole: {value}" for place, value in broken]
        )
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold keys with values, like `name: my_search`, but holds {type(data).__name__}")
    return data
