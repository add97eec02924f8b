"""How many threads models get on a CPU, measured before the first one where nobody said it; and what a dtype costs.

More threads are not always faster: passes of a small model mostly wait for each other, and on a machine that others use
two threads took ten times as long as one. So a few passes are timed with each number of threads, in turns.

The type in which candidates compute is measured, too, but only said: it decides scores, and no score may depend on how
busy a machine was for a second. The number of threads decides at most the last bits of a logit (MKL adds up products of
few rows in another order). It is recorded, so that a search that is continued goes on with the same number.

Measuring may take a small share of the time that all candidates will take (`SHARE`): numbers of threads are measured
once in any case, and as often as that allows; the dtype is compared only where it allows that.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from evomerge.assembly.comparing import FEWEST, Clock, fewest_worth, in_turns, ratio
from evomerge.assembly.timed_passes import Load, TimedPasses, load_of
from evomerge.assembly.workers import set_threads
from evomerge.config.schema import ExecutionConfig
from evomerge.errors import CheckpointError, RecipeError
from evomerge.evaluation.harness import LmHarness
from evomerge.merge.live.models import LiveModels
from evomerge.recipe import Recipe
from evomerge.store.database import Database
from evomerge.system.cores import usable_cores
from evomerge.system.memory import free_memory

log = logging.getLogger(__name__)

SETTLED = "threads"
"""The key in a run's database of the number of threads that was chosen when it began; None: the user's."""

CHEAP = 0.5
"""Seconds of a candidate's passes below which one thread is taken unmeasured: passes so short gain nothing by more."""

SHARE, LEAST = 0.01, 1.0
"""Part of the time that all candidates will take that measuring may, and seconds that it always may: beyond that, what
it finds is not worth it."""

CLEARLY = 1.5
"""From how many times the time of another dtype on a dtype is said to be slow."""


@dataclass(frozen=True)
class Expected:
    """How much work is to come.

    Attributes:
        candidates: how many models are scored; None: nobody knows.
        seconds: the longest that it may take; None: as long as it takes.
    """

    candidates: float | None = None
    seconds: float | None = None

    def allowed(self, each: float) -> float:
        """Return for how many seconds it is worth measuring, if a candidate takes `each` seconds."""
        whole = math.inf if self.candidates is None else self.candidates * each
        return max(LEAST, SHARE * min(whole, math.inf if self.seconds is None else self.seconds))


@dataclass(frozen=True)
class Settled:
    """What was settled before the first candidate.

    Attributes:
        threads: how many threads were chosen; None: as many as the user or the library says.
        said: what it was decided by, one sentence each.
        doubts: what the user should change, one sentence each.
    """

    threads: int | None = None
    said: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def settle(
    live: LiveModels,
    harness: LmHarness,
    execution: ExecutionConfig,
    recipe: Recipe,
    *,
    items: int,
    batch_size: int,
    engine: str,
    before: Settled | None = None,
    expected: Expected | None = None,
    clock: Clock = time.perf_counter,
) -> Settled:
    """Set the number of torch's threads, and find out what the dtype costs; on a CPU only.

    Args:
        live: the live models; the recipe is written there.
        harness: the tasks.
        execution: the settings; threads that it names are taken.
        recipe: of a model to measure with.
        items: how many items a candidate answers.
        batch_size: most rows of a pass.
        engine: the name of the engine; vLLM has threads of its own.
        before: what an earlier session settled, which holds on where there are as many cores.
        expected: how many candidates there will be; None: nobody knows.
        clock: seconds since some instant.
    """
    expected = expected or Expected()
    set_threads(execution.threads)
    if not _measurable(live, engine):
        return Settled()
    if before is not None and execution.threads is not None:
        return Settled(before.threads)
    if before is not None and before.threads is None:
        return Settled()
    again = _again(before)
    if again is not None:
        return again
    try:
        live.write(recipe)
    except (CheckpointError, RecipeError):  # the baselines will say so
        return Settled()
    lender = recipe.donor.source if recipe.path else recipe
    own = recipe.dtype or str(live.sources.like(lender).dtype).removeprefix("torch.")

    def measured(load: Load) -> Settled:
        cores = usable_cores()
        began = clock()
        passes = TimedPasses(live.model, load, clock=clock)
        found = Settled()
        if execution.threads is None:
            found = _measured_threads(passes, cores, expected, clock)
        slow = _measured_dtype(live.model, passes, execution.dtype, own, expected, (clock, began))
        return Settled(found.threads, (*found.said, *slow.said), slow.doubts)

    return _timed(live, harness, measured, items=items, batch_size=batch_size, otherwise=execution.threads)


def settle_threads(
    live: LiveModels,
    harness: LmHarness,
    threads: int | None,
    *,
    items: int,
    batch_size: int,
    engine: str,
    before: Settled | None = None,
) -> int | None:
    """Set the number of torch's threads for models that are scored outside of a search; on a CPU only.

    Args:
        live: the live models; the first model is written already.
        harness: the tasks.
        threads: how many the user says; None: that is measured.
        items: how many items a model answers.
        batch_size: most rows of a pass.
        engine: the name of the engine; vLLM has threads of its own.
        before: what the run settled whose items they are, since the last bits of a logit go with the number of threads.

    Returns:
        The number; None: as many as the library says.
    """
    set_threads(threads)
    if threads is not None or not _measurable(live, engine):
        return threads
    found = _again(before)
    if found is None:

        def measured(load: Load) -> Settled:
            return _measured_threads(TimedPasses(live.model, load), usable_cores(), Expected(1.0), time.perf_counter)

        found = _timed(live, harness, measured, items=items, batch_size=batch_size, otherwise=None)
    for text in found.said:
        log.info("%s", text)
    return found.threads


def _measurable(live: LiveModels, engine: str) -> bool:
    return live.device.type == "cpu" and engine in ("hf", "lm-eval")


def _again(before: Settled | None) -> Settled | None:
    """Take the number of threads of an earlier session; None: there is none, or there are fewer cores than that."""
    if before is None or before.threads is None or before.threads > usable_cores():
        return None
    set_threads(before.threads)
    return Settled(before.threads, (f"{_threads(before.threads)}, as when the run began",))


def _timed(
    live: LiveModels,
    harness: LmHarness,
    measure: Callable[[Load], Settled],
    *,
    items: int,
    batch_size: int,
    otherwise: int | None,
) -> Settled:
    """Return what passes of the live model say; where none can be timed, all cores or `otherwise` threads are used."""
    load = load_of(harness, live.model, live.tokenizer, items=items, batch_size=batch_size)
    if load is None:
        return Settled()
    try:
        return measure(load)
    except Exception as error:  # a model's own code may raise anything; the first score will say what
        log.info("passes could not be timed: %s: %s", type(error).__name__, error)
        set_threads(otherwise or usable_cores())
        return Settled()


def settled_of(database: Database) -> Settled | None:
    """Return what the first session of a run settled; None: there was none."""
    absent = "no session"
    threads = database.get_meta(SETTLED, absent)
    return None if threads == absent else Settled(threads)


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return the numbers of threads that are tried: powers of two, half of the cores, and all of them; ascending."""
    powers = {1 << i for i in range(cores.bit_length()) if 1 << i <= cores}
    return tuple(sorted(powers | {max(1, cores // 2), cores}))


def _measured_threads(passes: TimedPasses, cores: int, expected: Expected, clock: Clock) -> Settled:
    set_threads(1)
    alone = passes.seconds()
    if cores == 1 or alone < CHEAP:
        why = (
            "there is one core"
            if cores == 1
            else f"passes of a candidate take about {_seconds(alone)}, too short for more"
        )
        return Settled(1, (f"{_threads(1)}: {why}; execution.threads says otherwise",))

    def measure(threads: int) -> float:
        set_threads(threads)
        return passes.seconds()

    found = in_turns(measure, thread_counts(cores), allowed=expected.allowed(alone), clock=clock)
    chosen = fewest_worth(found)
    set_threads(chosen)
    times = ", ".join(f"{threads}: {_seconds(median(took))}" for threads, took in found.items())
    return Settled(
        chosen,
        (f"{_threads(chosen)}: measured passes of a candidate by number of threads: {times}; "
         "execution.threads says otherwise",),
    )  # fmt: skip


def _measured_dtype(
    model: Any, passes: TimedPasses, given: str | None, own: str, expected: Expected, since: tuple[Clock, float]
) -> Settled:
    """Compare the dtype in which candidates run with the other one that is likely; nothing is changed.

    A user who says float32 has decided, and what others would take is no news. One who names another type is warned if
    it is slow here, since that costs hours.

    Args:
        model: the live model.
        passes: its passes.
        given: what the user says; None: nothing.
        own: the type that the merge has on the disk.
        expected: how much work is to come.
        since: a clock, and when measuring began.
    """
    import torch

    running = str(model.dtype).removeprefix("torch.")
    other = "float32" if running != "float32" else own
    if other == running or given == "float32":
        return Settled()
    clock, began = since
    before = clock()
    alone = passes.seconds()
    left = expected.allowed(alone) - (clock() - began)
    if alone < CHEAP or 2 * FEWEST * (clock() - before) > left:
        return Settled()
    size = getattr(torch, other).itemsize
    if 2 * size * sum(parameter.numel() for parameter in model.parameters()) > free_memory():
        return Settled(said=(f"{running}: there is no room for a second model to compare its speed with {other}",))
    second = TimedPasses(copy.deepcopy(model).to(getattr(torch, other)), passes.load, like=passes, clock=clock)
    left = expected.allowed(alone) - (clock() - began)
    found = in_turns(lambda which: (second if which else passes).seconds(), (0, 1), allowed=left, clock=clock)
    slower = ratio(found[0], found[1])  # how many times as long as in the other
    measured = f"a candidate's passes take {_times(slower)} as in {other} on this processor (measured)"
    if running != "float32" and slower >= CLEARLY:
        doubt = f"execution.dtype is {given}, in which {measured}; leave it out to compute in float32"
        return Settled(doubts=(doubt,))
    if running == "float32" and slower >= CLEARLY:
        return Settled(
            said=(
                f"float32: {measured}; execution.dtype={other} would be quicker. It is not chosen by itself, since "
                "scores would then depend on the machine",
            )
        )
    return Settled(said=(f"{running}: {measured}",))


def _threads(n: int) -> str:
    return f"{n} thread{'s' * (n != 1)}"


def _seconds(seconds: float) -> str:
    return (
        f"{1000 * seconds:.0f} ms" if seconds < 1.0 else f"{seconds:.1f} s" if seconds < 100.0 else f"{seconds:.0f} s"
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times as long"
