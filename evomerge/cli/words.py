"""What the words behind `evomerge search` ask for: a file or an experiment, overrides, flags."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from evomerge.errors import ConfigError, unknown_name
from evomerge.system.config_files import configs_path
from evomerge.system.text import command

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    Attributes:
        file: the user's configuration; None: the built-in one.
        overrides: key=value, +key=value, ~key, in their order.
        sweep: whether values with commas are several searches (`-m`).
        show: which configuration is printed rather than run: job, hydra or all; None: it is run.
        resolve: whether that is printed with interpolations resolved.
        package: the section that is printed; None: all.
        info: what of Hydra's own is printed rather than run: defaults, searchpath …
        folder: one more folder with configuration files.
        name: the configuration instead of the built-in `search`.
        help: whether only the help is asked for.
        quiet: whether nothing is shown but the result.
    """

    file: Path | None
    overrides: tuple[str, ...]
    sweep: bool = False
    show: str | None = None
    resolve: bool = False
    package: str | None = None
    info: str | None = None
    folder: Path | None = None
    name: str | None = None
    help: bool = False
    quiet: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; `evomerge search --help` says what may stand there")


def experiments() -> list[str]:
    """Return the names of the built-in experiments."""
    return sorted(path.stem for path in (configs_path() / "experiment").glob("*.yaml"))


def read_words(words: Sequence[str]) -> Asked:
    """Return what the words ask for; flags and the file may stand anywhere among them.

    Raises:
        ConfigError: if an option is unknown, or a word is no file, experiment or override.
    """
    parser = _Parser(prog="evomerge search", add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-p", "--package")
    parser.add_argument("-i", "--info", nargs="?", const="all")
    parser.add_argument("-cd", "--config-dir", type=Path)
    parser.add_argument("-cn", "--config-name")
    parser.add_argument("-r", "--run", action="store_true")
    parser.add_argument("-q", "--quiet", action="store_true")
    found, rest = parser.parse_known_args(words)
    unknown = [word for word in rest if word.startswith("-") and word != "--" and not _is_file(word)]
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]}; `evomerge search --help` lists them")
    file: Path | None = None
    overrides: list[str] = []
    for word in (word for word in rest if word != "--"):
        if _is_override(word):
            overrides.append(word)
        elif word in experiments() and not word.endswith(SUFFIXES):
            overrides.insert(0, f"experiment={word}")
        elif file is not None:
            raise ConfigError(f"one file is read, but two came: {file} and {word}; name the second in its `defaults`")
        else:
            file = _file(word)
    return Asked(
        file, tuple(overrides), found.multirun, found.cfg, found.resolve, found.package, found.info, found.config_dir,
        found.config_name, found.help, found.quiet,
    )  # fmt: skip


def _is_override(word: str) -> bool:
    return (word.startswith("~") and not word.startswith("~/")) or ("=" in word and not _is_file(word))


def _is_file(word: str) -> bool:
    """Return whether a word names a file that is there; so may one whose name holds "="."""
    return word.endswith(SUFFIXES) and _asks(Path(word), Path.is_file)


def _asks(path: Path, question: Callable[[Path], bool]) -> bool:
    try:
        return question(path)
    except (OSError, ValueError):  # too long, or a character that no path can hold
        return False


def _file(word: str) -> Path:
    path = Path(word)
    with contextlib.suppress(RuntimeError):  # ~NOBODY
        path = path.expanduser()
    is_folder = _asks(path, Path.is_dir)
    if _asks(path, Path.is_file) or (word.endswith(SUFFIXES) and not is_folder and _asks(path, Path.exists)):
        return path
    if is_folder:
        raise ConfigError(
            f"{word} is a folder; `evomerge search` takes a YAML file or experiment=NAME (a run goes on with "
            f"`{command('resume', word)}`)"
        )
    if word.endswith(SUFFIXES):
        raise ConfigError(f"there is no file {word}; `evomerge search` takes a YAML file or experiment=NAME")
    raise ConfigError(unknown_name("experiment or YAML file", word, experiments()))
