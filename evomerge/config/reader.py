"""Reads a configuration: a nested mapping in, the objects of a search out, with every mistake at once.

pydantic checks the mapping against the declaration (`evomerge.config.schema`) and reports mistakes by place and type;
this module turns them into our sentences. A wrong value is then removed, so that its default stands in, and the rest is
read again. So mistakes of all kinds are reported together, also those of `evomerge.config.rules`.

`evomerge.assembly.prepare` checks what needs more than the mapping (do the parents fit each other? does the task
exist?), still before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import ValidationError

from evomerge.config.keys import declared, unknown_key
from evomerge.config.rules import rule_problems
from evomerge.config.schema import SearchConfig, SearchKeys
from evomerge.config.values import SAYS, UNKNOWN
from evomerge.errors import ConfigError, RecipeError, unknown_name
from evomerge.evaluation.task import shared
from evomerge.recipe.patterns import expand_parents, is_pattern
from evomerge.system.references import resolved

KeyPath: TypeAlias = tuple[str | int, ...]
"""The place of a value: keys and indices from the top."""


def from_data(data: Mapping[str, Any]) -> SearchConfig:
    """Read a composed configuration.

    Raises:
        ConfigError: with every mistake that the mapping alone shows.
    """
    config, problems = read(data)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def with_found_parents(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a composed configuration whose patterns among the parents are the models that they name now.

    So a run that is kept says which these were, whatever its training run writes later. A pattern that matches nothing
    stays, and is a mistake that `read` reports.
    """
    models = data.get("models")
    parents = models.get("parents") if isinstance(models, Mapping) else None
    if not isinstance(models, Mapping) or not isinstance(parents, Mapping):
        return dict(data)
    found: dict[str, Any] = {}
    for name, source in parents.items():
        value, _ = resolved(source)  # what is no pattern keeps its references
        try:
            found |= expand_parents({name: value}) if is_pattern(value) else {name: source}
        except RecipeError:
            found[name] = source
    return {**data, "models": {**models, "parents": found}}


def read(data: Mapping[str, Any]) -> tuple[SearchConfig | None, list[str]]:
    """Read a composed configuration as far as it can be read.

    Returns:
        The configuration, with defaults for wrong values (None where a whole section cannot be read), and every mistake
        that the mapping alone shows. With both, the caller can look for further mistakes and report all together.
    """
    values, problems = resolved(data)
    given = _given(values)
    keys, mistakes = _read_keys(_kept(given))
    problems += [*mistakes, *rule_problems(keys, given)]
    return _config(keys), problems


def read_keys(data: Mapping[str, Any]) -> SearchKeys:
    """Return the keys of a composed configuration, those that it leaves out with their defaults, as they count.

    Values that are wrong have their defaults, too: `read` reports them.
    """
    return _read_keys(_kept(_given(resolved(data)[0])))[0]


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    given = _with_stages(_copied(data))
    if not _merges(given):
        given.pop("method", None)
    else:
        _name_method(given)
    return given


def _name_method(given: dict[str, Any]) -> None:
    """Let `method.name` be the method with which a search begins, where the method is a gene and no name is given."""
    stages = given.get("stages")
    first = next(iter(stages.values())) if stages and isinstance(stages, dict) else given
    space = first.get("space") if isinstance(first, dict) else None
    gene = space.get("method") if isinstance(space, dict) else None
    choices = gene.get("choices") if isinstance(gene, dict) else None
    method = given.get("method") or {}
    if isinstance(choices, (list, tuple)) and choices and isinstance(method, dict) and not method.get("name"):
        assert isinstance(gene, dict)
        given["method"] = {**method, "name": gene.get("start") or choices[0]}


def _kept(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy without empty sections, which count as missing; the rules report them."""
    kept = {name: value for name, value in given.items() if value or name not in ("models", "method", "evaluation")}
    return {name: _copied(value) for name, value in kept.items()}


def _config(keys: SearchKeys) -> SearchConfig | None:
    stages = keys.stage_configs()
    merges = any(stage.space.merges for stage in stages)
    if keys.models is None or keys.evaluation is None or (merges and keys.method is None):
        return None
    return SearchConfig(
        models=keys.models.build(),
        method=keys.method if merges else None,
        evaluation=keys.evaluation.model_copy(update={"tasks": shared(keys.evaluation.tasks)}),
        name=keys.name,
        seed=keys.seed,
        stages=stages,
        budget=keys.budget.build(),
        fitness=keys.fitness,
        execution=keys.execution,
        loggers=keys.loggers,
    )


def _with_stages(data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy in which each stage has the search's space, optimizer and strategy unless it says otherwise."""
    stages = data.get("stages")
    if not stages or not isinstance(stages, dict):
        return data
    space, optimizer = data.pop("space", None) or {}, data.pop("optimizer", None)
    strategy = data.pop("strategy", None)
    for name, stage in stages.items():
        stage = stages[name] = stage if stage is not None else {}
        if not isinstance(stage, dict):
            continue
        own = stage.get("space") or {}
        if isinstance(own, dict) and isinstance(space, dict):
            path, own_path = space.get("path") or {}, own.get("path") or {}
            if isinstance(path, dict) and isinstance(own_path, dict):
                own_path = {**path, **own_path}
            own = {**space, **own, "path": own_path}
        stage["space"] = _copied(own)
        stage["optimizer"] = _copied(stage.get("optimizer") or optimizer)
        stage["strategy"] = _copied(stage.get("strategy") or strategy)
    return data


def _merges(data: Mapping[str, Any]) -> bool:
    """Return whether a merge method takes part in some stage."""
    stages = data.get("stages") or {"search": data}
    found = (
        [stage.get("space") or {} for stage in stages.values() if isinstance(stage, dict)]
        if isinstance(stages, dict)
        else []
    )
    return any(not isinstance(space, dict) or space.get("name") != "dataflow" for space in found) or not found


def _read_keys(data: dict[str, Any]) -> tuple[SearchKeys, list[str]]:
    """Read the keys; wrong values are removed from `data` until the rest can be read."""
    problems: list[str] = []
    said: set[KeyPath] = set()
    while True:
        try:
            return SearchKeys.model_validate(data), problems
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
        for mistake in mistakes:
            place = _place(mistake["loc"])
            # A value that is missing because it was wrong has been reported.
            known = place in said or any(
                place == one[: len(place)] for one in said if mistake["type"] in (SAYS, "missing")
            )
            if not known:
                problems += _sentences(mistake, place)
            said.add(place)
            said.add(_take_out(data, place))


def _place(loc: Sequence[str | int]) -> KeyPath:
    """Return a place without the parts that pydantic adds for keys of mappings and members of unions."""
    steps = (str(step) if isinstance(step, bool) else step for step in loc)
    return tuple(step for step in steps if not (isinstance(step, str) and step.startswith(("[", "function-"))))


def _take_out(data: dict[str, Any], place: KeyPath) -> KeyPath:
    """Remove the value at a place, and return the place of what was removed.

    For an entry of a list, the whole list is removed, since without the entry it would be another list. Where there is
    no value, because it is missing or was a word for its section, the section around it is removed.
    """
    inner: Any = data
    for depth, step in enumerate(place):
        if isinstance(inner, list):
            entry = inner[step] if isinstance(step, int) and step < len(inner) else None
            if depth == len(place) - 1 or not isinstance(entry, dict):
                return _take_out(data, place[:depth])
            inner = entry
            continue
        named = [name for name in inner if str(name) == step]
        if not named:
            return _take_out(data, place[:depth]) if depth else place
        name = named[0]  # which may be None: YAML reads `null:` so
        if depth == len(place) - 1 or not isinstance(inner[name], (dict, list)):
            del inner[name]
            return place[: depth + 1]
        inner = inner[name]
    return place


def _sentences(mistake: Mapping[str, Any], place: KeyPath) -> list[str]:
    """Return a mistake that pydantic found, in our sentences."""
    where, key, came = _where(place), declared(place), mistake["input"]
    kind, context = mistake["type"], mistake.get("ctx", {})
    if isinstance(came, bool) and mistake["loc"][-1] == "[key]":
        return [f"a name in `{_where(place[:-1])}` must be a text, but came {came!r}; write it in quotes"]
    if kind == "extra_forbidden":
        hint = "; parameters of the method belong into `method.parameters`" if place[:-1] == ("method",) else ""
        return [unknown_key(place[:-1], str(place[-1])) + hint]
    if kind == UNKNOWN:
        return [unknown_name(where, str(came), context["known"])]
    if kind == SAYS:
        return [f"`{where}` {context['text']}"]
    if kind == "value_error" and isinstance(context["error"], ConfigError):
        return list(context["error"].problems)
    if kind == "missing":
        return [f"`{where}` is missing; {key.missing}" if key.missing else f"`{where}` must {key.must}, but is missing"]
    return [f"`{where}` must {key.must}, but came {came!r}"]


def _where(place: KeyPath) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def _copied(value: Any) -> Any:
    """Return a copy whose mappings and lists can be changed."""
    if isinstance(value, Mapping):
        return {name: _copied(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(one) for one in value]
    return value
