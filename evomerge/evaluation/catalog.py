"""Which lm-eval tasks there are, and whether a spec fits one: from the YAML files alone, in about a second.

`lm_eval.tasks.TaskManager` parses all of lm-eval's 14,000 YAML files to learn their names (20 s). Here local folders
are searched first; only if a name is not there, lm-eval's own files are scanned for their `task:`, `group:` and `tag:`
lines (1.5 s). Only the named tasks are parsed, and no dataset is opened.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from evomerge.errors import ConfigError, unknown_name
from evomerge.evaluation.metrics import declared_metrics
from evomerge.evaluation.task import TaskSpec, shared, spec_problems
from evomerge.evaluation.terms import function_problems, resolve
from evomerge.record import Split

OUTPUT_TYPES = ("generate_until", "multiple_choice", "loglikelihood", "loglikelihood_rolling")

_KEY = re.compile(r"""^(["']?)(task|group|tag|class)\1[ \t]*:[ \t]*(.*(?:\n[ \t]*-.*)*)""", re.MULTILINE)
_SKIPPED_FOLDERS = {"__pycache__", ".ipynb_checkpoints"}


@dataclass
class Entry:
    """A name that lm-eval knows: a task with its file, or a group or tag with its members."""

    name: str
    kind: Literal["task", "group", "tag"]
    path: Path
    members: list[str] = field(default_factory=list)


class TaskCatalog:
    """Finds tasks by name: in local folders (the later ones first), then among lm-eval's own."""

    def __init__(self, include_path: Sequence[str | Path] = ()) -> None:
        self.include_path = tuple(Path(path).expanduser() for path in include_path)
        self._local: dict[str, Entry] = {}
        for path in self.include_path:
            self._local.update(_scan(path))

    def find(self, name: str) -> Entry | None:
        """Return the task, group or tag of a name, or None."""
        return self._local.get(name) or _built_in().get(name)

    def is_public(self, name: str) -> bool:
        """Return whether a name is one of lm-eval's own benchmarks, on whose items others report scores."""
        return name not in self._local and name in _built_in()

    def names(self) -> list[str]:
        """Return the names of all tasks (no groups or tags), local ones included."""
        return sorted(e.name for e in {**_built_in(), **self._local}.values() if e.kind == "task")

    def problems(self) -> list[str]:
        """Return what is wrong with the local folders."""
        missing = [path for path in self.include_path if not path.exists()]
        return [f"include_path: there is no folder or file {str(path)!r}" for path in missing]

    def broken_files(self) -> list[str]:
        """Return local YAML files that cannot be read, each with the reason; lm-eval itself skips them silently."""
        broken = []
        for path in (file for folder in self.include_path for file in _yaml_files(folder)):
            try:
                read_config(path)
            except ConfigError as error:
                broken.append(str(error))
        return broken


def check(
    specs: Sequence[TaskSpec], include_path: Sequence[str | Path] = (), *, allow_unsafe_code: bool = False
) -> list[str]:
    """Return every mistake in the specs that can be seen without loading a model or a dataset, one sentence each.

    Tasks, metrics and filters are looked up for every task from which a split is drawn. Tasks written in Python, and
    metrics that a task's own function aggregates, can be checked in full only when they are loaded
    (`LmHarness.prepare`).
    """
    problems = spec_problems(specs)
    catalog = TaskCatalog(include_path)
    problems += catalog.problems()
    for spec in shared(specs):
        for name in spec.sources:
            problems += _check_source(spec, name, catalog, allow_unsafe_code)
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


def read_config(path: Path) -> dict[str, Any]:
    """Return a task's YAML with its `include`s merged; `!function` stays text, so no code is run.

    Raises:
        ConfigError: if a file is missing or not YAML; the message names it.
    """
    return _read_config(path.resolve(), ())


def _check_source(spec: TaskSpec, name: str, catalog: TaskCatalog, allow_unsafe_code: bool) -> list[str]:
    entry = catalog.find(name)
    if entry is None:
        hint = ""
        if name.endswith((".yaml", ".yml")):
            hint = "; to use a local file, put its folder into include_path and give the `task:` name inside it"
        broken = catalog.broken_files()
        if broken:
            hint += "; these local files were skipped: " + "; ".join(broken)
        return [unknown_name("lm-eval task", name, catalog.names()) + hint]
    if entry.kind != "task":
        shown = ", ".join(entry.members[:12]) + (", …" if len(entry.members) > 12 else "")
        return [
            f"{name!r} is a {entry.kind} of {len(entry.members)} tasks, not a task; "
            f"list the tasks that should count: {shown}"
        ]
    try:
        config = read_config(entry.path)
    except ConfigError as error:
        return [f"task {name!r}: {error}"]
    if "class" in config:  # written in Python: its metrics are known only once it is loaded
        return function_problems(spec.metric)
    return _check_config(spec, name, config, allow_unsafe_code)


def _check_config(spec: TaskSpec, name: str, config: Mapping[str, Any], allow_unsafe_code: bool) -> list[str]:
    output_type = config.get("output_type", "generate_until")
    if output_type not in OUTPUT_TYPES:
        return [f"task {name!r} has output_type {output_type!r}; supported are {', '.join(OUTPUT_TYPES)}"]
    problems = []
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        problems.append(f"task {name!r} shows images or audio to the model; only text tasks are supported")
    if config.get("unsafe_code") and not allow_unsafe_code:
        problems.append(f"task {name!r} runs code that the model writes; set allow_unsafe_code to run it all the same")
    settings = config.get("generation_kwargs") or {}
    # The rules of lm-eval: a temperature alone turns sampling on, and `do_sample: false` always turns it off.
    if settings.get("do_sample", float(settings.get("temperature") or 0.0) > 0.0):
        problems.append(
            f"task {name!r} samples its answers (do_sample or temperature in generation_kwargs), so its scores are "
            "random; use a greedy task, or a local copy of its YAML with `do_sample: false`"
        )
    if config.get("num_fewshot") == 0 and spec.num_fewshot:
        problems.append(
            f"task {name!r} fixes num_fewshot to 0 in its YAML (its prompt is complete without examples), "
            f"but num_fewshot={spec.num_fewshot} came; leave it out"
        )
    _, mistakes = resolve(spec, name, output_type, declared_metrics(config, output_type), filter_names(config))
    return problems + mistakes


@functools.cache
def _built_in() -> dict[str, Entry]:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ConfigError("lm-eval is not installed; run `pip install 'lm-eval[hf]'`")
    return _scan(Path(spec.origin).parent / "tasks")


def _scan(folder: Path) -> dict[str, Entry]:
    """Return the names in a folder's YAML files; like lm-eval, the first file in sorted order wins."""
    entries: dict[str, Entry] = {}
    tags: dict[str, Entry] = {}
    for path in _yaml_files(folder):
        text = path.read_text(encoding="utf-8", errors="replace")
        found = {match[2]: match[3] for match in _KEY.finditer(text)}
        if "group" in found and "class" not in found:
            for name in _words(found["group"]):
                entries.setdefault(name, Entry(name, "group", path, list(_words(found.get("task", "")))))
        elif "task" in found:
            for name in _words(found["task"]):
                entries.setdefault(name, Entry(name, "task", path))
                for tag in _words(found.get("tag", "")):
                    tags.setdefault(tag, Entry(tag, "tag", path)).members.append(name)
    return {**tags, **entries}


def _yaml_files(folder: Path) -> Iterable[Path]:
    if folder.is_file():
        return [folder]
    files = (path for path in folder.rglob("*.yaml") if not _SKIPPED_FOLDERS.intersection(path.parts))
    return sorted(files, key=lambda path: path.as_posix())


def _words(value: str) -> Iterator[str]:
    """Yield the names in the text of a scalar, a [flow, list] or a block list, without quotes, comments and keys."""
    for line in value.split("\n"):
        text = re.sub(r"(^|\s)#.*", "", line).strip().removeprefix("-").strip()
        text = re.sub(r"^(task|group)\s*:\s*", "", text)
        for word in text.strip("[]").split(","):
            name = word.strip().strip("\"'")
            if name:
                yield name


class _Loader(yaml.SafeLoader):
    """Reads lm-eval's YAML, where `!function module.name` stays text."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def _read_config(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise ConfigError(f"{path} includes itself")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping, but holds {type(data).__name__}")
    includes = data.pop("include", None) or ()
    merged: dict[str, Any] = {}
    for include in [includes] if isinstance(includes, str) else includes:
        merged.update(_read_config((path.parent / include).resolve(), (*seen, path)))
    return {**merged, **data}
