"""`evomerge search -m`: a search for each of several values, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from evomerge import api
from evomerge.cli.compose import Composer, config_errors
from evomerge.cli.failures import report_failure
from evomerge.cli.quiet import is_quiet
from evomerge.cli.running import run_search
from evomerge.cli.streams import say
from evomerge.cli.sweep_display import show_sweep
from evomerge.cli.sweep_progress import sweep_lines
from evomerge.config.reader import read
from evomerge.errors import ConfigError

_PLUGINS = "hydra._internal.core_plugins"
_BASIC = (f"{_PLUGINS}.basic_sweeper.BasicSweeper", f"{_PLUGINS}.basic_launcher.BasicLauncher")
_INTERRUPTED = 130


@dataclass(frozen=True)
class SweepJob:
    """One search of a sweep.

    Attributes:
        setting: the overrides by which it differs from the others, as they were typed.
        data: its configuration.
        folder: its run folder.
    """

    setting: tuple[str, ...]
    data: dict[str, Any]
    folder: Path


def has_basic_sweeper(composer: Composer) -> bool:
    """Return whether the searches run here, one after the other; not so with a plugin (hydra/launcher=…)."""
    made = _master(composer, composer.overrides())
    return (made.hydra.sweeper.get("_target_"), made.hydra.launcher.get("_target_")) == _BASIC


def plan_sweep(composer: Composer) -> list[SweepJob]:
    """Return the searches of a sweep, each composed and checked.

    Raises:
        ConfigError: with every mistake of every search that its configuration alone shows.
    """
    words = composer.overrides()
    with config_errors():
        made = _master(composer, words)
        params = made.hydra.sweeper.params or {}
        own = [word for word in words if word.partition("=")[0].lstrip("+~").startswith("hydra")]
        rest = [*(f"{key}={value}" for key, value in params.items()), *(word for word in words if word not in own)]
        parsed = OverridesParser.create().parse_overrides(rest)
        (combined,) = BasicSweeper.split_arguments(parsed, None)
        swept = {one.get_key_element() for one in parsed if one.is_sweep_override()}
    jobs: list[SweepJob] = []
    problems: list[str] = []
    top: Path | None = None
    for number, job_words in enumerate(combined):
        setting = tuple(word.lstrip("+") for word in job_words if word.partition("=")[0] in swept)
        try:
            one = composer.composed([*own, *job_words], job=number)
            with config_errors():
                # The folder of the sweep may hold the time: the first search's is that of all.
                top = top or Path(str(one.hydra.sweep.dir)).expanduser()
                folder = top / str(one.hydra.sweep.subdir)
            data = composer.data(one)
            found = read(data)[1]
        except ConfigError as error:
            found = list(error.problems)
        else:
            jobs.append(SweepJob(setting, data, folder))
        problems += [problem for problem in found if problem not in problems]
    if problems:
        raise ConfigError(problems)
    return jobs


def run_sweep(jobs: Sequence[SweepJob]) -> int:
    """Run searches one after the other; one that fails ends only itself, Ctrl-C ends the sweep.

    Returns:
        The worst exit status.
    """
    statuses: list[int] = []
    done: list[Mapping[str, Any]] = []  # what searches found that are over; each is read once
    for number, job in enumerate(jobs):
        if not is_quiet():
            done += api.sweep_summary([(one.setting, one.folder) for one in jobs[len(done) : number]])["searches"]
            for line in sweep_lines([one.setting for one in jobs], done):
                say(line)
        statuses.append(_run(job))
        if statuses[-1] == _INTERRUPTED:
            break
    show_sweep(api.sweep_summary([(job.setting, job.folder) for job in jobs]))
    return max(statuses, default=0)


def run_by_hydra(composer: Composer) -> int:
    """Run a sweep by plugins of Hydra's, which start the searches."""
    statuses: list[int] = []

    def job(made: DictConfig) -> None:
        statuses.append(_run(SweepJob((), composer.data(made), Path(HydraConfig.get().runtime.output_dir))))
        if statuses[-1] == _INTERRUPTED:
            raise KeyboardInterrupt

    words = composer.overrides()
    with config_errors():
        composer.hydra.multirun(composer.name, job, words)
    return max(statuses, default=0)


def _run(job: SweepJob) -> int:
    try:
        return run_search(job.data, job.folder)
    except BaseException as error:  # anybody's code may raise anything
        return report_failure(error)


def _master(composer: Composer, words: Sequence[str]) -> DictConfig:
    """Return the configuration of the sweep as a whole, from which Hydra's section is read."""
    with config_errors():
        return composer.hydra.compose_config(composer.name, list(words), RunMode.MULTIRUN, from_shell=False)
