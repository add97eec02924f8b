"""Reads a configuration: a nested mapping in, the objects of a search out, with every mistake at once.

pydantic reads the declaration (`evomerge.config.schema`) and says what is wrong by place and type; here that becomes
our sentences. A wrong value is then taken out, so that its default stands in, and the rest is read again: mistakes of
every kind are reported together, those of `evomerge.config.rules` and of the parts above too.

What needs more than the mapping (do the parents fit each other? does the task exist?) is checked by
`evomerge.assembly.prepare`, still before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pydantic import ValidationError

from evomerge.config.keys import declared
from evomerge.config.rules import rule_problems
from evomerge.config.schema import SearchConfig, SearchKeys
from evomerge.config.values import SAYS, UNKNOWN
from evomerge.errors import ConfigError, unknown_name
from evomerge.evaluation.task import shared

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top."""


def from_data(data: Mapping[str, Any]) -> SearchConfig:
    """Read a composed configuration.

    Raises:
        ConfigError: with every mistake that the mapping alone shows.
    """
    config, problems = read(data)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def read(data: Mapping[str, Any]) -> tuple[SearchConfig | None, list[str]]:
    """Read a composed configuration as far as it can be read.

    Returns:
        The configuration (with defaults where a value is wrong; None where a whole section cannot be read), and every
        mistake that the mapping alone shows. So that mistakes of all kinds can be reported together.
    """
    given = _with_stages(_copied(data))
    if not _merges(given):
        given.pop("method", None)
    # What is empty is missing, which the rules say.
    kept = {name: value for name, value in given.items() if value or name not in ("models", "method", "evaluation")}
    keys, problems = _read_keys(_copied(kept))
    problems += rule_problems(keys, given)
    return _config(keys), problems


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
    )


def _with_stages(data: dict[str, Any]) -> dict[str, Any]:
    """Give each stage what it does not say itself: the search's space, key by key, and its optimizer."""
    stages = data.get("stages")
    if not stages or not isinstance(stages, dict):
        return data
    space, optimizer = data.pop("space", None) or {}, data.pop("optimizer", None)
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
    return data


def _merges(data: Mapping[str, Any]) -> bool:
    """Whether a merge method takes part in some stage."""
    stages = data.get("stages") or {"search": data}
    found = (
        [stage.get("space") or {} for stage in stages.values() if isinstance(stage, dict)]
        if isinstance(stages, dict)
        else []
    )
    return any(not isinstance(space, dict) or space.get("name") != "dataflow" for space in found) or not found


def _read_keys(data: dict[str, Any]) -> tuple[SearchKeys, list[str]]:
    """Read the keys; what is wrong is taken out of `data`, until the rest can be read."""
    problems: list[str] = []
    said: set[KeyPath] = set()
    while True:
        try:
            return SearchKeys.model_validate(data), problems
        except ValidationError as error:
            mistakes = error.errors(include_url=False)
        for mistake in mistakes:
            place = _place(mistake["loc"])
            # What is missing because it was wrong has been said.
            known = place in said or any(
                place == one[: len(place)] for one in said if mistake["type"] in (SAYS, "missing")
            )
            if not known:
                problems += _sentences(mistake, place)
            said.add(place)
            said.add(_take_out(data, place))


def _place(loc: Sequence[str | int]) -> KeyPath:
    """Return the place without what pydantic adds to it for keys of mappings and kinds of unions."""
    return tuple(step for step in loc if not (isinstance(step, str) and step.startswith(("[", "function-"))))


def _take_out(data: dict[str, Any], place: KeyPath) -> KeyPath:
    """Remove what stands at a place, and return what was removed.

    Of a list the whole list, which would be another one without an entry. Where nothing stands there, because it is
    missing or was a word for its section, the section around it.
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
    """Say what pydantic found in our words."""
    where, key, came = _where(place), declared(place), mistake["input"]
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind == "extra_forbidden":
        inside = _where(place[:-1]) or "the configuration"
        return [unknown_name(f"key in {inside}", str(place[-1]), declared(place[:-1]).keys)]
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
    """Copy mappings and lists, so that they can be changed."""
    if isinstance(value, Mapping):
        return {name: _copied(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(one) for one in value]
    return value
