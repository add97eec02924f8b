"""From words on the command line to a plain configuration; Hydra and OmegaConf are used only in `evomerge.cli`.

Every mistake on the way ends here as one `ConfigError` with all of them: files that are no YAML, overrides that cannot
be read, unknown choices of a group, references to nothing, values that must be given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from evomerge.cli.overrides import Overrides, read_overrides
from evomerge.cli.sources import OWN, composer
from evomerge.cli.words import Asked, read_words
from evomerge.config.reader import read
from evomerge.errors import ConfigError, EvomergeError, unknown_name
from evomerge.system.references import as_text, resolved
from evomerge.system.text import error_text

_HYDRA = "hydra"
"""The section that is Hydra's own."""


def compose(words: Sequence[str]) -> dict[str, Any]:
    """Compose a configuration and return it.

    Args:
        words: as for `evomerge search`, without flags.

    Raises:
        ConfigError: with every mistake, if they cannot be composed.
    """
    asked = read_words(words)
    if asked.sweep or asked.show or asked.info or asked.help:
        raise ConfigError(
            "flags like -m and --cfg are for `evomerge search`; expected a YAML file, experiment=NAME, key=value"
        )
    with Composer(asked) as composer_:
        return composer_.data(composer_.composed())


class Composer:
    """Composes the configuration that a command line asks for; a context manager."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.name = asked.name or ("search" if asked.file is None else OWN)
        self._stack = contextlib.ExitStack()
        self._own: list[tuple[tuple[str, ...], Any]] = []

    def __enter__(self) -> Composer:
        folders = [] if self.asked.folder is None else [self.asked.folder]
        self.hydra: Hydra = self._stack.enter_context(composer(self.asked.file, folders))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def overrides(self) -> list[str]:
        """Return the overrides as Hydra can read them.

        Raises:
            ConfigError: with every override that cannot be read.
        """
        with config_errors():
            groups = self.hydra.config_loader.list_groups("")
            found: Overrides = read_overrides(self.asked.overrides, groups=groups, sweep=self.asked.sweep)
            problems = [*found.problems, *self._unknown_choices(found.words, groups)]
        if problems:
            raise ConfigError(problems)
        self._own = found.own
        return found.words

    def composed(self, overrides: Sequence[str] | None = None, *, job: int | None = None) -> DictConfig:
        """Compose, and return what Hydra has made, with its own section.

        Args:
            overrides: as `overrides` returns them; None: those.
            job: the number of a search of a sweep; None: there is one search.

        Raises:
            ConfigError: if they cannot be composed.
        """
        words = self.overrides() if overrides is None else list(overrides)
        with config_errors(self.asked):
            made = self.hydra.compose_config(self.name, words, RunMode.RUN, from_shell=False)
            OmegaConf.set_struct(made, False)
            for place, value in self._own:
                _set(made, place, value)
            if job is not None:
                with read_write(made.hydra), open_dict(made.hydra):
                    made.hydra.job.num, made.hydra.job.id = job, str(job)
            HydraConfig.instance().set_config(made)  # for references like ${hydra:job.num}
            return made

    def data(self, made: DictConfig) -> dict[str, Any]:
        """Return a composed configuration as plain data, without Hydra's own section.

        References to the world outside, such as the environment, stay text (`evomerge.system.references`).

        Raises:
            ConfigError: with every reference that leads nowhere and every value that must be given; then also with
                every other mistake that the data alone shows.
        """
        problems: dict[str, str] = {}
        with config_errors(), as_text():
            data = _resolved(made, "", problems)
        assert isinstance(data, dict)
        if "run" in data:  # where the run goes is kept nowhere
            data["run"], unknown = resolved(data["run"], "run")
            problems |= {one: one for one in unknown}
        if problems:
            _, more = read(data)
            others = [one for one in more if not any(f"`{place}`" in one for place in problems)]
            raise ConfigError([*problems.values(), *others])
        return data

    def _unknown_choices(self, words: Sequence[str], groups: Sequence[str]) -> Iterator[str]:
        """Yield the choices of groups that are no files, with the nearest that are."""
        for word in words:
            key, _, value = word.lstrip("+").partition("=")
            if key in groups and not set(value) & set(",([") and key != _HYDRA:
                known = self.hydra.config_loader.get_group_options(key)
                if value not in known and value.removesuffix(".yaml") not in known:
                    yield unknown_name(key, value, known)


@contextlib.contextmanager
def config_errors(asked: Asked | None = None) -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into ours; with what was asked for, the user's file is named.

    Raises:
        ConfigError: in place of the error.
    """
    what = "the configuration" if asked is None or asked.file is None else str(asked.file)
    try:
        yield
    except EvomergeError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_said(error).replace(f"'{OWN}'", what)) from error
    except RecursionError as error:
        raise ConfigError(f"{what} refers to itself, or is nested too deeply") from error
    except Exception as error:  # Hydra checks the types of what it reads by assertions and attributes
        raise ConfigError(f"{what} cannot be composed: {error_text(error, name=True)}") from error


def _said(error: BaseException) -> str:
    """Return what Hydra says and why, without the lines that are for its own developers."""
    said: list[str] = []
    one: BaseException | None = error
    while one is not None:
        lines = [line.strip() for line in str(one).splitlines()]
        kept = []
        for line in lines:
            if line.startswith(
                ("Search path:", "Config search path:", "provider=", "full_key:", "object_type=", "See https")
            ):
                break
            if line and not set(line) <= set("^ "):
                kept.append(line)
        text = " ".join(kept).replace("Error merging override ++", "the override ")
        if text and not any(text in before for before in said):
            said.append(text)
        one = one.__cause__
    return ": ".join(said) or type(error).__name__


def _resolved(node: Any, where: str, problems: dict[str, str]) -> Any:
    """Return plain data with references resolved; those that cannot be are left out, and said in `problems`."""
    if isinstance(node, DictConfig):
        made: dict[str, Any] = {}
        for key in list(node):
            if where == "" and key == _HYDRA:
                continue
            place = f"{where}.{key}".lstrip(".")
            found, value = _value(node, key, place, problems)
            if found:
                made[str(key)] = _resolved(value, place, problems)
        return made
    if isinstance(node, ListConfig):
        listed = [(_value(node, i, f"{where}[{i}]", problems), i) for i in range(len(node))]
        return [_resolved(value, f"{where}[{i}]", problems) for (found, value), i in listed if found]
    return node


def _value(node: Any, key: Any, place: str, problems: dict[str, str]) -> tuple[bool, Any]:
    try:
        if OmegaConf.is_missing(node, key):
            problems[place] = f"`{place}` is ???, so it must be given: {place}=VALUE"
            return False, None
        value = node[key]
    except (OmegaConfBaseException, HydraException, RecursionError, ValueError, TypeError, KeyError) as error:
        reason = "it refers to itself" if isinstance(error, RecursionError) else _said(error)
        problems[place] = f"`{place}` cannot be resolved: {reason}"
        return False, None
    return True, value


def _set(made: DictConfig, place: Sequence[str], value: Any) -> None:
    """Set a value at a place, and make the sections around it."""
    inner: Any = made
    for step in place[:-1]:
        if not isinstance(inner.get(step), DictConfig):
            inner[step] = {}
        inner = inner[step]
    inner[place[-1]] = value


def plain_config(made: DictConfig, *, resolve: bool) -> Mapping[str, Any]:
    """Return a composed configuration as plain data for printing, without Hydra's own section.

    Raises:
        ConfigError: if a reference leads nowhere.
    """
    with config_errors(), as_text():
        shown = OmegaConf.masked_copy(made, [str(name) for name in made if name != _HYDRA])
        shown._set_parent(made)  # references are followed from the top
        found = OmegaConf.to_container(shown, resolve=resolve)
    assert isinstance(found, dict)
    return {str(name): one for name, one in found.items()}
