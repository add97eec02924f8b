"""From words on the command line to a plain configuration; Hydra and OmegaConf are used only here and in `search`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.cli.paths import configs_path
from evomerge.errors import ConfigError, unknown_name


def experiments() -> list[str]:
    """Return the names of the built-in experiments."""
    return sorted(path.stem for path in (configs_path() / "experiment").glob("*.yaml"))


def hydra_arguments(words: Sequence[str]) -> list[str]:
    """Return the words as Hydra's arguments: a leading YAML file or experiment name is translated, the rest kept.

    Args:
        words: `my_search.yaml seed=1`, `zoo_ja_math seed=1`, or plain Hydra overrides and flags.

    Raises:
        ConfigError: if the first word is neither a file, an experiment, an override nor a flag.
    """
    # Hydra's parser wants all overrides together, but people write `-m` anywhere, so flags are sorted to one end.
    if not words or words[0].startswith("-") or _is_override(words[0]):
        return sorted(words, key=_is_override)
    first, rest = words[0], sorted(words[1:], key=_is_override)
    path = Path(first)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"there is no file {first}; `evomerge search` takes a YAML file or experiment=NAME")
        if "defaults:" not in path.read_text(encoding="utf-8"):
            if "merge_method:" in path.read_text(encoding="utf-8"):
                raise ConfigError(f"{first} is a recipe of mergekit, which says one merge rather than what to search")
            raise ConfigError(
                f"{first} must start with `defaults: [search, _self_]`, which fills in everything it leaves out"
            )
        return [f"--config-dir={path.resolve().parent}", f"--config-name={path.name}", *rest]
    if first in experiments():
        return sorted([f"experiment={first}", *rest], key=_is_override)
    raise ConfigError(unknown_name("experiment or YAML file", first, experiments()))


def _is_override(word: str) -> bool:
    return word.startswith("~") or ("=" in word and not word.startswith("-"))


def compose(words: Sequence[str]) -> dict[str, Any]:
    """Compose a configuration and return it, without starting a job.

    Args:
        words: as for `evomerge search`, without flags.

    Raises:
        ConfigError: if Hydra cannot compose them.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    arguments = hydra_arguments(words)
    directory, name, overrides = configs_path(), "search", []
    own: Path | None = None
    for argument in arguments:
        if argument.startswith("--config-dir="):
            own = Path(argument.split("=", 1)[1])
        elif argument.startswith("--config-name="):
            name = argument.split("=", 1)[1]
        elif argument.startswith("-"):
            raise ConfigError(f"unknown option {argument}; expected a YAML file, experiment=NAME or key=value")
        else:
            overrides.append(argument)
    if own is not None:
        overrides.append(f"hydra.searchpath=[file://{directory}]")
        directory = own
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(config_dir=str(directory), version_base="1.3"):
            composed = hydra_compose(config_name=name, overrides=overrides)
            data = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error
    finally:
        GlobalHydra.instance().clear()
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items() if key != "hydra"}
