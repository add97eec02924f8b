"""Where the time of a search goes: a few candidates of a configuration, timed.

The search's own loop runs them, with its own optimizer, worker and database, in a folder that is removed afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.assembly.prepare import Prepared, prepare
from evomerge.assembly.workers import own_threads
from evomerge.errors import CheckpointError, ConfigError, EvaluationError, Interrupted, RecipeError
from evomerge.execution.base import StopSignal
from evomerge.execution.local import LocalExecutor
from evomerge.execution.worker import LiveWorker
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Space
from evomerge.merge.live.models import LiveModels
from evomerge.merge.live.writer import Written
from evomerge.recipe import Recipe, Step
from evomerge.record import ItemScore, Record, Score, Split, State
from evomerge.search.budget import Budget
from evomerge.search.plan import Cost, Plan
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.strategies.vector import VectorStrategy
from evomerge.system.leftovers import scratch_folder
from evomerge.system.memory import free_memory
from evomerge.system.stopwatch import Stopwatch, TimedInterval
from evomerge.workflows import Note, Progress, tell
from evomerge.workflows.probe import plan_of

PARTS = ("decode_genome", "merge", "prefill", "decode", "engine", "scoring", "database", "optimizer", "rest")
"""What the time is divided into; each instant belongs to one part.

decode_genome: from a point to a recipe; merge: writing it into the live model; prefill, decode: the model's forward
passes over prompts, and over one more token per row; engine: everything around the passes (batches, masks, decoded
texts, stop rules; with vLLM its passes too); scoring: filters and metrics; database: the transaction of a record;
optimizer: ask, tell and its state; rest: the time of none of them.
"""

_TRIES = 10
"""How many proposals a profile tries for each candidate that it times; some may fail or repeat earlier recipes."""

_COPIED = 256 << 20
"""Size of the copy that measures the memory's speed, if that much is free, in bytes."""

_COPIES = 5


@own_threads()
def profile(
    data: Mapping[str, Any], *, candidates: int, progress: Progress | None, note: Note | None
) -> dict[str, Any]:
    """Run a few candidates of each stage and return where their time goes; see `evomerge.api.profile`."""
    if isinstance(candidates, bool) or not isinstance(candidates, int) or candidates < 1:
        raise ConfigError(f"a profile takes at least 1 candidate, but came {candidates!r}")
    prepared = prepare(data, note=note)
    tell([one.text for one in prepared.cautions], note)
    config = prepared.config
    live = prepared.live_models()
    settled = prepared.settle(live)
    for sentence in settled.said:
        if note is not None:
            note(sentence)
    tell(settled.doubts, note)
    synchronize = _synchronizer(live)
    answers = _baseline_answers(prepared, live)
    stages, elite = [], None
    steps = _Plan(candidates, len(config.stages), progress)
    folder = _place((data.get("run") or {}).get("dir"))
    for stage, settings in zip(prepared.stages(), config.stages, strict=True):
        scoring = prepared.scoring(races=False)  # a race decides many at once, and each shall be timed alone
        for i, scores in enumerate(answers):
            scoring.observe(-1 - i, None, scores)
        stopwatch = Stopwatch(synchronize=synchronize)
        taken, elite = _run_stage(prepared, live, scoring, stage, elite, stopwatch, steps, folder)
        stages.append((settings, taken))
    bandwidth = memory_bandwidth(live.device, synchronize)
    reports = [_report(taken, bandwidth) for _, taken in stages]
    plan = _plan(prepared, reports)
    return {
        "name": config.name,
        "device": " + ".join(map(str, live.devices)),
        "dtype": str(live.model.dtype).removeprefix("torch."),
        "threads": _threads(),
        "engine": config.evaluation.engine,
        "cache": config.execution.cache,
        "cache_bytes": live.sources.parent_cache.used,
        "items": prepared.items_per_candidate,
        "memory_bandwidth": bandwidth,
        "stages": [
            {"name": settings.name, "space": settings.space.name, **report}
            for (settings, _), report in zip(stages, reports, strict=True)
        ],
        "plan": {**plan.to_data(), "text": plan.sentence()},
    }


def _baseline_answers(prepared: Prepared, live: LiveModels) -> list[list[ItemScore]]:
    """Return the baselines' answers to the search items where candidates need them; else nothing is asked.

    The objectives may compare with them, and a candidate that answers some items only is estimated by them.
    """
    if not prepared.objectives.compares and not prepared.scoring().learns:
        return []
    found = []
    for name, recipe in prepared.baselines.items():
        live.write(recipe)
        scores = prepared.harness.score(live.model, live.tokenizer, Split.SEARCH)
        prepared.objectives.note_baseline(name, Split.SEARCH, scores)
        found.append(list(scores))
    return found


def _plan(prepared: Prepared, reports: Sequence[Mapping[str, Any]]) -> Plan:
    """Return how long the search will take, from what a candidate of each stage took here."""
    config, items = prepared.config, prepared.items_per_candidate
    shares = [stage.share for stage in config.stages]

    def mean(part: str) -> float:
        return sum(share * report["seconds"][part] for share, report in zip(shares, reports, strict=True))

    build, batch_size = mean("merge"), config.evaluation.batch_size
    cost = Cost(build, 0.0, max(0.0, mean("total") - build) / items, batch_size)
    workers = config.execution.workers if config.execution.name == "ray" else 1
    return plan_of(prepared, cost, workers=workers or 1)


def memory_bandwidth(device: Any, synchronize: Callable[[], None] = lambda: None) -> float:
    """Measure how fast all of torch's threads together copy a device's memory.

    Returns:
        Bytes per second, both those read and those written; the best of a few copies, since others may use the machine.
    """
    import torch

    size = _COPIED if torch.device(device).type != "cpu" else min(_COPIED, free_memory() // 8)
    source = torch.ones(max(size, 1 << 20), dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)  # its pages are touched now, so that none is fetched while the time runs
    best = math.inf
    for _ in range(_COPIES):
        synchronize()
        began = time.perf_counter()
        target.copy_(source)
        synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * source.numel() / best


@dataclass
class _Taken:
    """What was measured in one stage."""

    warm_up: TimedInterval | None = None
    intervals: list[TimedInterval] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)
    states: Counter[State] = field(default_factory=Counter)
    n_proposals: int = 0
    n_hits: int = 0
    recipes: list[str] = field(default_factory=list)  # the hash of each recipe that was evaluated


@dataclass
class _Plan:
    """How many candidates there will be in all, and how many are done."""

    candidates: int
    n_stages: int
    progress: Progress | None
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, (self.candidates + 1) * self.n_stages)


class _Listener:
    """Reads the stopwatch after each candidate, and stops the search once there are enough."""

    def __init__(self, stopwatch: Stopwatch, live: LiveModels, taken: _Taken, plan: _Plan, stop: StopSignal) -> None:
        self._stopwatch, self._live, self._taken, self._plan, self._stop = stopwatch, live, taken, plan, stop

    def phase(self, name: str, total: int | None, done: int) -> None:
        """Reset the stopwatch."""
        self._stopwatch.interval()

    def scored(self, record: Record, split: Split, score: Score | None) -> None:
        """Note the time of a candidate; the time of one that failed or was scored before is dropped."""
        taken = self._taken
        interval = self._stopwatch.interval()
        if len(taken.intervals) == self._plan.candidates:
            return  # the search had begun this one before it was stopped
        taken.n_proposals += 1
        if record.same_as is not None:
            taken.n_hits += 1
            return
        taken.recipes.append(record.recipe.content_hash)
        taken.states[record.state] += 1
        if record.state != State.COMPLETE:
            return
        if taken.warm_up is None:
            taken.warm_up = interval
        else:
            taken.intervals.append(interval)
            taken.written.append(self._live.written)
        self._plan.step()
        if len(taken.intervals) == self._plan.candidates:
            self._stop.request()


def _run_stage(
    prepared: Prepared,
    live: LiveModels,
    scoring: Scoring,
    stage: Stage,
    elite: Recipe | None,
    stopwatch: Stopwatch,
    plan: _Plan,
    folder: Path | None,
) -> tuple[_Taken, Recipe | None]:
    """Run the candidates of one stage; return what was measured, and the best recipe for the next stage."""
    taken, stop = _Taken(), StopSignal()

    def begin(_: Recipe | None) -> Any:
        strategy = stage.begin(elite)
        if not isinstance(strategy, VectorStrategy):  # what others do besides asking and telling is their own affair
            return stopwatch.timed(strategy, "optimizer", "ask", "tell", "dump_state")
        _load_parents(live, strategy.space)
        strategy.space = stopwatch.timed(strategy.space, "decode_genome", "genome", "decode")
        strategy.optimizer = stopwatch.timed(strategy.optimizer, "optimizer")
        return strategy

    worker = LiveWorker(live, prepared.harness, stop=stop, stopwatch=stopwatch)
    with _temporary(folder) as path, RunDir.create(path / "run", config={}) as run:
        run.database = stopwatch.timed(run.database, "database")
        search = Search(
            run_dir=stopwatch.timed(run, "database", "write_best"),
            stages=[Stage(stage.name, 1.0, begin)],
            executor=LocalExecutor(worker),
            scoring=scoring,
            baselines={},
            budget=Budget(candidates=_TRIES * (plan.candidates + 1)),
            splits=(Split.SEARCH,),
            stop=stop,
            listener=_Listener(stopwatch, live, taken, plan, stop),
        )
        with contextlib.suppress(Interrupted):  # by the listener
            search.run()
        if not taken.intervals:
            reasons = {record.error for record in run.database.records()} - {None}
            raise EvaluationError(
                f"a profile takes one candidate to warm up and one more, but of {taken.n_proposals} proposals of stage "
                f"{stage.name!r} {taken.n_hits} were scored before and {taken.states[State.COMPLETE]} could be scored; "
                f"{'; '.join(map(str, reasons)) or 'its space is too small'}"
            )
        return taken, run.best()


def _load_parents(live: LiveModels, space: Space) -> None:
    """Load every parent of a space's paths; otherwise the first candidate that uses one would pay for loading it."""
    draw = np.random.default_rng(0)
    for _ in range(_TRIES):
        recipe = space.decode(space.genome(draw.random(space.n_dims)))
        if recipe.path:  # a path over one whole model has become that model's recipe, without a path
            everyone = tuple(Step(parent.name, 0) for parent in recipe.parents)
            with contextlib.suppress(RecipeError, CheckpointError):  # the candidates' records will say what is wrong
                live.write(replace(recipe, path=everyone))
            return


@contextlib.contextmanager
def _temporary(folder: Path | None) -> Iterator[Path]:
    with scratch_folder(".evomerge-profile-", folder) as path:
        yield path


def _place(run_dir: str | None) -> Path | None:
    """Return a folder on the disk of the run, since transactions wait for that disk."""
    if run_dir is None:
        return None
    nearest = next((folder for folder in Path(run_dir).absolute().parents if folder.is_dir()), None)
    try:
        if nearest is not None:
            with scratch_folder(".evomerge-profile-", nearest):
                return nearest
    except OSError:
        logging.getLogger("evomerge").info("%s cannot be written; the database is timed elsewhere", nearest)
    return None


def _synchronizer(live: LiveModels) -> Callable[[], None]:
    import torch

    if live.device.type == "cpu":
        return lambda: None

    def synchronize() -> None:
        for device in live.devices:
            torch.accelerator.synchronize(device)

    return synchronize


def _threads() -> int:
    import torch

    return torch.get_num_threads()


# --- the numbers --------------------------------------------------------------------------------------------------


def _report(taken: _Taken, bandwidth: float) -> dict[str, Any]:
    assert taken.warm_up is not None  # it comes before all timed candidates
    n = len(taken.intervals)
    each = [_seconds(interval) for interval in taken.intervals]
    total = sum(interval.total for interval in taken.intervals) / n
    seconds = {part: sum(one[part] for one in each) / n for part in PARTS}
    n_bytes = sum(one.n_bytes for one in taken.written) / n
    rate = n_bytes / seconds["merge"] if n_bytes else None
    passes = seconds["prefill"] + seconds["decode"]
    return {
        "candidates": n,
        "proposals": taken.n_proposals,
        "cache_hits": taken.n_hits,
        "failed": sum(count for state, count in taken.states.items() if state != State.COMPLETE),
        "evaluated": len(taken.recipes),
        "evaluated_recipes": len(set(taken.recipes)),
        "seconds": {**seconds, "total": total},
        "share": {part: value / total for part, value in seconds.items()},
        # The passes of an engine with a model of its own (vLLM) cannot be timed.
        "share_outside_passes": 1.0 - passes / total if passes else None,
        "candidates_per_minute": 60.0 / total,
        "merge": {
            "tensors_written": sum(one.tensors for one in taken.written) / n,
            "tensors": sum(one.of for one in taken.written) / n,
            "bytes": n_bytes,
            "bytes_per_second": rate,
            "share_of_memory_bandwidth": None if rate is None else rate / bandwidth,
        },
        **{kind: _passes(taken.intervals, kind) for kind in ("prefill", "decode")},
        "warm_up": {**_seconds(taken.warm_up), "total": taken.warm_up.total},
        "each": [{**one, "total": interval.total} for one, interval in zip(each, taken.intervals, strict=True)],
    }


def _seconds(interval: TimedInterval) -> dict[str, float]:
    return {part: interval.rest if part == "rest" else interval.seconds.get(part, 0.0) for part in PARTS}


def _passes(intervals: list[TimedInterval], kind: str) -> dict[str, float | None]:
    seconds, tokens = (
        sum(interval.seconds.get(kind, 0.0) for interval in intervals),
        sum(interval.counts.get(f"{kind} tokens", 0) for interval in intervals),
    )
    return {
        "passes": sum(interval.counts.get(f"{kind} passes", 0) for interval in intervals) / len(intervals),
        "tokens": tokens / len(intervals),
        "tokens_per_second": tokens / seconds if tokens else None,
    }
