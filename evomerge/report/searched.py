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

    "64 merges of math and japanese by task_arithmetic were tried for better acc of zoo_ja_math".
    """
    status = run.status
    n, running = status["candidates"], status["state"] == RUNNING
    many = "No merge" if n == 0 else "1 merge" if n == 1 else f"{n:,} merges"
    are = ("has" if n < 2 else "have") + " been" if running or n == 0 else "was" if n == 1 else "were"
    when = " yet" if n == 0 else " so far" if running else ""
    return f"{many} of {named(_parent_names(run)) or 'no named parents'}{_ways(run)} {are} tried{when}{_goal(run)}"


def search_facts(run: RunData) -> Iterator[tuple[str, str]]:
    """Yield how it was searched, as names and values: base, genes, items, candidates, time."""
    base = (run.config.get("models") or {}).get("base")
    if isinstance(base, str):
        yield "base", named([base])
    moved = list(_genes(run))
    if moved:
        yield "search", "; then ".join(moved)
    limits = sum(spec.constraint is not None or spec.floor is not None for spec in _specs(run))
    if limits:
        yield "limits", f"{limits} (floors and constraints)"
    counts = run.n_items
    if Split.SEARCH in counts:
        rest = [f"{counts[split]:,} {split}" for split in (Split.VALIDATION, Split.TEST) if split in counts]
        unseen = f"; {' and '.join(rest)} items that the search never saw" if rest else ""
        yield "items", f"{counts[Split.SEARCH]:,} search items{unseen}"
    yield "candidates", _candidates(run)
    yield "time", f"{duration(run.status['seconds'])}, {run.status['items']:,} answers of candidates"


def named(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, each of a length that one can read."""
    short = [visible(name, most=_LONGEST) for name in names]
    return " and ".join(short) if len(short) < 3 else listed(short, _NAMED)


def _parent_names(run: RunData) -> list[str]:
    return list(parent_names(run.run)) or [record.name for record in run.baselines]


def methods_tried(run: RunData) -> list[str]:
    """Return the names of the merge methods among which a run could choose, in all stages; none for layer paths."""
    return list(dict.fromkeys(name for stage in _stages(run.config) for name in _methods(stage)))


def _methods(stage: Mapping[str, Any]) -> list[str]:
    """Return the methods of a stage; none where it searches layer paths, which have none of their own."""
    space = stage.get("space") or {}
    if space.get("name") == "dataflow":
        return []
    choices = (space.get("method") or {}).get("choices")
    own = (stage.get("method") or {}).get("name")
    return list(map(str, choices if isinstance(choices, list) else [own] if own else []))


def _ways(run: RunData) -> str:
    """Return by what parents were merged, stage by stage: " by ties or dare, then as layer paths"."""
    ways: list[str] = []
    for stage in _stages(run.config):
        if (stage.get("space") or {}).get("name") == "dataflow":
            ways.append("as layer paths")
        elif names := _methods(stage):
            ways.append("by " + (" or ".join(map(_short, names)) if len(names) < 3 else listed(names, _NAMED)))
    found = list(dict.fromkeys(ways))
    return f" {', then '.join(found)}" if found else ""


def _short(name: str) -> str:
    return visible(name, most=_LONGEST)


def _stages(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the configuration of each stage, over what holds for all; of a search without stages its own."""
    stages = [one for one in (config.get("stages") or {}).values() if isinstance(one, Mapping)]
    for one in stages or [{}]:
        yield {**config, **{key: value for key, value in one.items() if value is not None}}


def _genes(run: RunData) -> Iterator[str]:
    """Yield of each stage "24 genes, moved by cma, say how much of each parent goes where"."""
    stages = list(_stages(run.config))
    counts = Counter(gene.get("stage", 0) for gene in run.genes)
    numbers = [counts[stage] for stage in sorted(counts)]
    if not numbers:  # not noted: what the candidates have
        numbers = list(dict.fromkeys(len(record.genome) for record in run.records if record.genome))
    for place, stage in enumerate(stages):
        mover = (stage.get("optimizer") or {}).get("name") or (stage.get("strategy") or {}).get("name")
        space = str((stage.get("space") or {}).get("name") or "")
        n = f"{numbers[place]} " if len(numbers) == len(stages) else ""
        what = f" say {_SPACES[space]}" if space in _SPACES else ""
        if what or n:
            moved = f", moved by {mover}{',' * bool(what)}" if mover else ""
            yield f"{n}genes{moved}{what}"


def _specs(run: RunData) -> Sequence[TaskSpec]:
    return () if run.objectives is None else run.objectives.specs


def _goal(run: RunData) -> str:
    objectives = run.objectives
    if objectives is None:
        return ""
    counting = [measured(spec) for spec in objectives.specs if spec.weight > 0.0]
    what = "the worst of " if objectives.combination == WORST and len(counting) > 1 else ""
    several = f", {len(objectives.objectives)} objectives" if len(objectives.objectives) > 1 else ""
    goals = " and ".join(counting) if len(counting) < 3 else listed(counting, _NAMED)
    return f" for better {what}{goals}{several}"


def measured(spec: TaskSpec) -> str:
    """Return what an entry measures: "acc of zoo_ja_math", and whether less of it is better."""
    less = " (less is better)" if spec.direction == "minimize" else ""
    return f"{named([spec.metric])} of {named([spec.name])}{less}"


def _candidates(run: RunData) -> str:
    status = run.status
    n, limit = status["candidates"], status["budget"].get("candidates")
    of = f" of {limit:,}" if limit and status["state"] != COMPLETE and limit > n else ""
    odd = [(status["failed"], "failed"), (status["cache_hits"], "repeated an earlier recipe")]
    also = ", ".join(f"{n:,} {what}" for n, what in odd if n)
    return f"{n:,}{of}{f' ({also})' if also else ''}"
