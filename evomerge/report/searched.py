"""In one sentence: what a run searched. Who has never seen the run knows then what was merged, how, and on what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.analysis.choice import parent_names
from evomerge.analysis.lost_skills import listed
from evomerge.evaluation.task import WORST, TaskSpec
from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.store.status import COMPLETE, RUNNING
from evomerge.system.text import duration, visible

_SPACES = {
    "parameter": "how much of each parent goes where",
    "dataflow": "which layer comes next",
    "joint": "how much of each parent goes where, and which layer comes next",
}
_NAMED, _LONGEST = 5, 60


def searched(run: RunData) -> str:
    """Return what was searched, without a full stop.

    "Merges of math and japanese (base: zoo:base) by task_arithmetic were searched for: 24 genes, moved by cma, say how
    much of each parent goes where. They were measured by …, in 96 candidates and 46 s".
    """
    are = "are being" if run.status["state"] == RUNNING else "were"
    return f"Merges of {_parents(run)}{_methods(run)} {are} searched for{_genes(run)}{_goal(run)}. {_spent(run)}"


def named(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, each of a length that one can read."""
    short = [visible(name, most=_LONGEST) for name in names]
    return " and ".join(short) if len(short) < 3 else listed(short, _NAMED)


def _parents(run: RunData) -> str:
    names = parent_names(run.run) or [record.name for record in run.baselines]
    base = (run.config.get("models") or {}).get("base")
    return (named(names) or "no named parents") + (f" (base: {named([base])})" if isinstance(base, str) else "")


def methods_tried(run: RunData) -> list[str]:
    """Return the names of the merge methods among which a run could choose, in all stages; none for layer paths."""
    names: list[str] = []
    for stage in _stages(run.config):
        space = stage.get("space") or {}
        if space.get("name") == "dataflow":
            continue  # a path has no method of its own
        choices = (space.get("method") or {}).get("choices")
        own = (stage.get("method") or {}).get("name")
        names += map(str, choices if isinstance(choices, list) else [own] if own else [])
    return list(dict.fromkeys(names))


def _methods(run: RunData) -> str:
    names = methods_tried(run)
    return f" by {named(names)}" if names else ""


def _stages(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the configuration of each stage, over what holds for all; of a search without stages its own."""
    stages = [one for one in (config.get("stages") or {}).values() if isinstance(one, Mapping)]
    for one in stages or [{}]:
        yield {**config, **{key: value for key, value in one.items() if value is not None}}


def _genes(run: RunData) -> str:
    """Return ": 24 genes, moved by cma, say …", stage by stage."""
    stages = list(_stages(run.config))
    counts = Counter(gene.get("stage", 0) for gene in run.genes)
    numbers = [counts[stage] for stage in sorted(counts)]
    if not numbers:  # not noted: what the candidates have
        numbers = list(dict.fromkeys(len(record.genome) for record in run.records if record.genome))
    parts = []
    for place, stage in enumerate(stages):
        mover = (stage.get("optimizer") or {}).get("name") or (stage.get("strategy") or {}).get("name")
        space = str((stage.get("space") or {}).get("name") or "")
        n = f"{numbers[place]} " if len(numbers) == len(stages) else ""
        what = f" say {_SPACES[space]}" if space in _SPACES else ""
        if what or n:
            parts.append(f"{n}genes{f', moved by {mover},' if mover else ''}{what}")
    first, then = "first " if len(parts) > 1 else "", ", then "
    return f": {first}{then.join(parts)}" if parts else ""


def _goal(run: RunData) -> str:
    objectives = run.objectives
    if objectives is None:
        return ""
    counting = [measured(spec) for spec in objectives.specs if spec.weight > 0.0]
    what = "the worst of " if objectives.combination == WORST and len(counting) > 1 else ""
    several = f" as {len(objectives.objectives)} objectives" if len(objectives.objectives) > 1 else ""
    limits = sum(spec.constraint is not None or spec.floor is not None for spec in objectives.specs)
    limited = f" within {limits} limit{'s' * (limits != 1)}" if limits else ""
    goals = " and ".join(counting) if len(counting) < 3 else listed(counting, _NAMED)
    return f". They were to improve {what}{goals}{several}{limited}{_items(run.n_items)}"


def measured(spec: TaskSpec) -> str:
    """Return what an entry measures: "acc of zoo_ja_math", and whether less of it is better."""
    less = " (less is better)" if spec.direction == "minimize" else ""
    return f"{named([spec.metric])} of {named([spec.name])}{less}"


def _items(counts: Mapping[Split, int]) -> str:
    if Split.SEARCH not in counts:
        return ""
    rest = [f"{counts[split]:,} {split}" for split in (Split.VALIDATION, Split.TEST) if split in counts]
    more = f", judged by {' and '.join(rest)} items that it never saw" if rest else ""
    return f" on {counts[Split.SEARCH]:,} search items{more}"


def _spent(run: RunData) -> str:
    status = run.status
    odd = [(status["failed"], "failed"), (status["cache_hits"], "repeated an earlier one")]
    also = ", ".join(f"{n} {what}" for n, what in odd if n)
    n, limit = status["candidates"], status["budget"].get("candidates")
    of = f" of {limit:,}" if limit and status["state"] != COMPLETE and limit > n else ""
    took = "So far it took" if status["state"] == RUNNING else "It took"
    return f"{took} {n:,}{of} candidate{'s' * (n != 1)}{f' ({also})' if also else ''} and {duration(status['seconds'])}"
