"""`evomerge search`: one search, or with `-m` one for each of several values."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from evomerge.cli.compose import Composer, plain_config
from evomerge.cli.quiet import be_quiet
from evomerge.cli.running import run_search
from evomerge.cli.streams import say
from evomerge.cli.sweep import has_basic_sweeper, plan_sweep, run_by_hydra, run_sweep
from evomerge.cli.words import Asked, experiments, read_words
from evomerge.errors import ConfigError
from evomerge.system.yaml_text import write_yaml

HELP = """\
usage: evomerge search FILE.yaml [KEY=VALUE ...] [-m]
       evomerge search experiment=NAME [KEY=VALUE ...] [-m]

Evolve a merge: score the parents, evolve recipes within the budget, choose on validation items, report on test items.

what to search:
  FILE.yaml            your configuration, of any name; what it leaves out has its default. It may begin with
                       `defaults: [search, _self_]`, and name further files there
  experiment=NAME      a built-in example:
                       {experiments}

keys (`evomerge explain` lists them all, `evomerge explain KEY` says what one means):
  KEY=VALUE            another value for a key: seed=1 budget.candidates=200 models.parents.math=org/model
  optimizer=NAME       a built-in choice of keys: {optimizers}; execution=NAME: {executions}
  ~KEY                 without that key

  A value may hold any signs where a text is meant (a path, a name). Elsewhere put text with commas, brackets or equals
  signs in quotes, twice, since your shell takes the outer ones: "fitness.responses='a,b.npz'".

several searches:
  -m, --multirun       values with commas are searches of their own: -m seed=0,1,2 optimizer=cma,random; each has its
                       folder, and a table at the end says mean and spread over the seeds

what is shown:
  -q, --quiet          nothing but the verdict, the next command, grave warnings and errors; the exit status is the same

to look without searching:
  -c, --cfg job        print the composed configuration; with --resolve, references such as ${{name}} resolved;
                       with -p SECTION, that section
  -i, --info WHAT      what Hydra, which composes the configuration, knows: defaults, searchpath, config, plugins, all
  -h, --help           this text

The run is kept in outputs/<name>/<time>; run.dir=FOLDER names another folder. Ctrl-C stops after the running candidate,
and `evomerge resume FOLDER` goes on. Exit status: 0 done, 2 bad input (nothing was made), 130 stopped, 1 other."""


def run(words: Sequence[str]) -> int:
    """Run one search, or one per job of a sweep.

    Returns:
        The worst exit status of the jobs.
    """
    asked = read_words(words)
    if asked.help:
        say(_help())
        return 0
    be_quiet(asked.quiet)
    with Composer(asked) as composer:
        if asked.show is not None or asked.info is not None:
            return _look(composer, asked)
        if asked.sweep and not has_basic_sweeper(composer):
            return run_by_hydra(composer)
        if asked.sweep:
            jobs = plan_sweep(composer)
        else:
            data = composer.data(composer.composed())
    return run_sweep(jobs) if asked.sweep else run_search(data)


def _look(composer: Composer, asked: Asked) -> int:
    """Print a composed configuration, or what Hydra knows."""
    words = composer.overrides()
    if asked.info is not None:
        known = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
        if asked.info not in known:
            raise ConfigError(f"--info takes {', '.join(known)}, not {asked.info!r}")
        composer.hydra.show_info(asked.info, composer.name, words)
        return 0
    if asked.show != "job":
        composer.hydra.show_cfg(composer.name, words, str(asked.show), asked.package, asked.resolve)
        return 0
    shown: object = plain_config(composer.composed(words), resolve=asked.resolve)
    for step in (asked.package or "").split("."):
        if step and step != "_global_":
            if not isinstance(shown, dict) or step not in shown:
                raise ConfigError(f"the configuration has no section {asked.package!r}")
            shown = shown[step]
    say(write_yaml(shown).rstrip("\n"))
    return 0


def _help() -> str:
    from evomerge.system.config_files import configs_path

    def names(group: str) -> str:
        return ", ".join(sorted(path.stem for path in (configs_path() / group).glob("*.yaml")))

    filled = HELP.format(experiments="EXPERIMENTS", optimizers=names("optimizer"), executions=names("execution"))
    wrapped = textwrap.wrap(", ".join(experiments()), width=95)
    return filled.replace("EXPERIMENTS", ("\n" + " " * 23).join(wrapped))
