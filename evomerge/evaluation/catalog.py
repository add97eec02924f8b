"""Which lm-eval tasks there are, and whether a spec fits one: from the YAML files alone.

Names are lm-eval's own (`index`). Local folders are searched first; only if a name is not there, lm-eval's own tasks
are looked at, whose names are kept from one start to the next. No dataset is opened, and no code of a task is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import ConfigError, unknown_name
from evomerge.evaluation.images import showing_problems
from evomerge.evaluation.index import Entry, built_in, load, local, version_problem, yaml_files
from evomerge.evaluation.metrics import declared_metrics
from evomerge.evaluation.task import TaskSpec, generation_problems, samples, shared, spec_problems
from evomerge.evaluation.terms import function_problems, resolve
from evomerge.evaluation.unsafe_code import refusal, runs_code
from evomerge.record import Split
from evomerge.system.text import error_text

OUTPUT_TYPES = ("generate_until", "multiple_choice", "loglikelihood", "loglikelihood_rolling")

_KEY = "evaluation.include_path"

_SHOWN = 100
"""How many members of a group or tag are listed."""


class TaskCatalog:
    """Finds tasks by name: in local folders (the later ones first), then among lm-eval's own."""

    def __init__(self, include_path: Sequence[str | Path] = ()) -> None:
        self.include_path = tuple(Path(path).expanduser() for path in include_path)
        self._local: dict[str, Entry] = {}
        for path in self.include_path:
            self._local.update(local(path))

    def find(self, name: str) -> Entry | None:
        """Return the task, group or tag of a name, or None."""
        return self._local.get(name) or built_in().get(name)

    def is_public(self, name: str) -> bool:
        """Return whether a name is one of lm-eval's own benchmarks, on whose items others report scores."""
        return name not in self._local and name in built_in()

    def names(self) -> list[str]:
        """Return all names: tasks, groups and tags, local ones included."""
        return sorted({**built_in(), **self._local})

    def members(self, entry: Entry) -> list[str]:
        """Return the tasks in a group or tag, those of its groups and tags included, each once.

        Tasks that are defined within a group have no name by which they could be found, and are left out.
        """
        return list(dict.fromkeys(self._leaves(entry.listed, {entry.name})))

    def problems(self) -> list[str]:
        """Return what is wrong with the local folders."""
        missing = [path for path in self.include_path if not path.exists()]
        return [f"include_path: there is no folder or file {str(path)!r}{_from_here(path)}" for path in missing]

    def unread_files(self) -> list[str]:
        """Return local files that lm-eval skips silently, each with the reason."""
        unread = []
        for folder in self.include_path:
            for path in yaml_files(folder):
                try:
                    config = load(path)
                except ConfigError as error:
                    unread.append(str(error))
                    continue
                named = [config[key] for key in ("task", "group") if key in config]
                if named and not any(isinstance(name, str) for name in named):
                    unread.append(f"{path} has the name {named[-1]!r}, which is no text; put it in quotes")
            unread += [f"{path} does not end in .yaml" for path in sorted(folder.glob("**/*.yml"))]
        return unread

    def _leaves(self, listed: Sequence[Any], above: set[str]) -> Iterator[str]:
        for one in listed:
            name, inner = (one, ()) if isinstance(one, str) else one
            entry = self.find(name)
            if entry is not None and entry.kind == "task":
                yield name
            elif name not in above:
                yield from self._leaves(inner if entry is None else entry.listed, above | {name})


def check(
    specs: Sequence[TaskSpec],
    include_path: Sequence[str | Path] = (),
    *,
    allow_unsafe_code: bool = False,
    every_metric: bool = False,
    where_they_fit: bool = False,
) -> list[str]:
    """Return every mistake in the specs that can be seen without loading a model or a dataset, one sentence each.

    Args:
        specs: the entries.
        include_path: folders (or single files) with the user's own task YAML.
        allow_unsafe_code: whether tasks may run what the model writes.
        every_metric: whether the entries only name tasks, of which all metrics are wanted.
        where_they_fit: whether `num_fewshot` and `generation` are left out for a task that cannot follow them.

    Tasks, metrics and filters are looked up for every task from which a split is drawn. Tasks written in Python, and
    metrics that a task's own function aggregates, can be checked in full only when they are loaded
    (`LmHarness.prepare`).
    """
    problems = spec_problems(specs)
    version = version_problem()
    if version is not None:
        return [*problems, version]
    catalog = TaskCatalog(include_path)
    unread = catalog.problems()
    problems += unread
    for spec in shared(specs):
        for name in spec.sources:
            entry = catalog.find(name)
            if entry is None:
                if not unread:  # else the task may well be in the folder that was not found
                    problems.append(_unknown(name, catalog, "--include-path" if every_metric else _KEY))
                continue
            if entry.path is None or entry.kind != "task":
                problems.append(_no_task(entry, catalog))
                continue
            try:
                config = load(entry.path)
            except ConfigError as error:
                problems.append(f"task {name!r}: {error}")
                continue
            try:
                problems += _check_task(spec, name, config, allow_unsafe_code, where_they_fit)
                if not every_metric:
                    problems += _check_metric(spec, name, config)
            except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:  # a key of another shape
                said = error_text(error, name=True)
                problems.append(f"task {name!r}: {entry.path} is not what lm-eval takes for a task ({said})")
    return list(dict.fromkeys(problems))  # entries of one task share its mistakes


def public_sources(specs: Sequence[TaskSpec], include_path: Sequence[str | Path] = ()) -> list[str]:
    """Return the public benchmarks from which search items are drawn.

    lm-eval evaluates its own tasks on their test documents (on validation documents, where the test answers are not
    public), and search items are drawn from the documents on which a task is evaluated. A task of a local file may use
    any documents, a training split for instance, and is taken to be the user's own data.
    """
    catalog = TaskCatalog(include_path)
    return [name for name in dict.fromkeys(spec.source(Split.SEARCH) for spec in specs) if catalog.is_public(name)]


def filter_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a task's filters; lm-eval calls the default one "none"."""
    return tuple(str(one["name"]) for one in config.get("filter_list") or ()) or ("none",)


def _check_task(
    spec: TaskSpec, name: str, config: Mapping[str, Any], allow_unsafe_code: bool, where_they_fit: bool
) -> list[str]:
    """Return what keeps a task from being run at all, or as its entry says."""
    problems = []
    if runs_code(config) and not allow_unsafe_code:
        problems.append(refusal(name))
    if "class" in config:  # written in Python: the rest is known only once it is loaded
        return problems
    output_type = config.get("output_type", "generate_until")
    if output_type not in OUTPUT_TYPES:
        return [f"task {name!r} has output_type {output_type!r}; supported are {', '.join(OUTPUT_TYPES)}"]
    problems += showing_problems(name, config.get("doc_to_image"), config.get("doc_to_audio"), output_type)
    own = spec.generation or {}
    if output_type != "generate_until" and own and not where_they_fit:
        problems.append(no_generation(name, output_type))
    if not generation_problems(own, "generation") and samples({**(config.get("generation_kwargs") or {}), **own}):
        problems.append(
            f"task {name!r} samples its answers (do_sample or temperature in generation_kwargs), so its scores are "
            "random; use a greedy task, or give its entry `generation: {do_sample: false}` (in `evaluate`: "
            "--gen-kwargs do_sample=false)"
        )
    if config.get("num_fewshot") == 0 and spec.num_fewshot and not where_they_fit:
        problems.append(
            f"task {name!r} fixes num_fewshot to 0 in its YAML (its prompt is complete without examples), "
            f"but num_fewshot={spec.num_fewshot} came; leave it out"
        )
    return problems


def no_generation(name: str, output_type: str) -> str:
    """Return the sentence about `generation` of a task that asks for no texts."""
    return (
        f"task {name!r} is of the kind {output_type}, in which no answer is generated, but its entry has `generation`; "
        "leave that out"
    )


def _check_metric(spec: TaskSpec, name: str, config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a spec's metric, as far as the YAML tells."""
    if "class" in config:
        return function_problems(spec.metric)
    output_type = config.get("output_type", "generate_until")
    if output_type not in OUTPUT_TYPES:
        return []
    return resolve(spec, name, output_type, declared_metrics(config, output_type), filter_names(config))[1]


def _from_here(path: Path) -> str:
    """Return where a relative path was looked for."""
    return "" if path.is_absolute() else f" (paths start from the current folder, {Path.cwd()})"


def _unknown(name: str, catalog: TaskCatalog, option: str) -> str:
    """Return the sentence about a name that nobody has, with the nearest names; `option` is what takes folders."""
    hint = "" if catalog.include_path else f"; a task of your own needs its folder: {option} (zoo:tasks: the zoo's)"
    if name.endswith((".yaml", ".yml")):
        hint += "; to use a local file, put its folder into include_path and give the `task:` name inside it"
    unread = catalog.unread_files()
    if unread:
        hint += "; lm-eval skips these local files: " + "; ".join(unread)
    return unknown_name("lm-eval task", name, catalog.names()) + hint


def _no_task(entry: Entry, catalog: TaskCatalog) -> str:
    """Return the sentence about a group or tag where a task is needed, with its tasks in a form to be copied."""
    members = catalog.members(entry)
    if not members:
        return f"{entry.name!r} is a {entry.kind}, not a task, and its tasks have no names of their own: name others"
    more = len(members) - _SHOWN
    shown = ", ".join(members[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
    adapts = "; as a group it also changes settings of its tasks, which the names alone do not" if entry.adapts else ""
    return (
        f"{entry.name!r} is a {entry.kind} of {len(members)} tasks, not a task; list the tasks that should count: "
        f"{shown}{adapts}"
    )
