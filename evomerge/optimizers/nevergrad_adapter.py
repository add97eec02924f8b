"""Any optimizer of nevergrad by name (Rapin and Teytaud, https://facebookresearch.github.io/nevergrad/).

**Outstanding points.** Many of nevergrad's optimizers, and what NGOpt and its like choose for small budgets, take one
point at a time: they wait for its loss before they say where the next one lies. They are the better ones where a search
scores one candidate after the other, so they are what one gets by default (`workers: 1`), and while their point is
outstanding, further points come from a companion, evomerge's own CMA-ES. One that can have several outstanding is asked
for all points. So no optimizer is told out of turn, and the search is the same whatever is outstanding elsewhere.

**Failures of the library.** If an optimizer of nevergrad raises in the middle of a search (its budget is spent, say, or
it meets numbers that it did not expect), the companion goes on alone from the best point so far, and the log says so.
What would fail on any search is found by `rehearse` before it begins.

**State.** A state is the history of asks and tells, not nevergrad's objects: these hold a copy of every told point
(half a megabyte after 300), some cannot be pickled, and unpickling would run any code in the file. Loading replays the
history on a new optimizer with the same seed, and compares the points with a digest of the earlier ones. So an
optimizer that does not repeat itself is found out. A resume therefore costs nevergrad's own time again (about a
millisecond for each candidate), and may be refused on another kind of processor, where the last bits of a sum differ;
`cma`, whose state is complete, has neither limit.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evomerge.errors import EvomergeError, unknown_name
from evomerge.optimizers.base import GENERATION, Optimizer, Point
from evomerge.optimizers.cma_es import CMA
from evomerge.optimizers.ledger import Ledger, checked_start, own_generator, usable
from evomerge.optimizers.nevergrad_library import LibraryOptimizer, refused, registry
from evomerge.optimizers.state import damaged, flatten, pack, restore, unpack
from evomerge.record import INFEASIBLE, Result

log = logging.getLogger(__name__)

DEFAULT_BUDGET = 1000

FAILED_LOSS = 1e20
"""The loss of a failed candidate. It is finite, since some optimizers compute with losses, and as large as the number
that nevergrad itself puts in place of an infinite loss (5e20)."""

COMPANION = "NGOpt"
"""The optimizer that proposes further points while another waits for the loss of its own, planned for `GENERATION`
outstanding points."""

REHEARSAL_SECONDS = 3.0


def name_problems(algorithm: str) -> list[str]:
    """Return the mistakes in the name of a nevergrad optimizer, one sentence each."""
    known = registry()
    if algorithm in refused():
        return [f"nevergrad:{algorithm} cannot be used: {refused()[algorithm]}; choose another, for example cma"]
    return [] if algorithm in known else [unknown_name("nevergrad optimizer", algorithm, known)]


class Nevergrad(Optimizer):
    """An optimizer of nevergrad over the unit cube; larger fitness is better.

    Args:
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)`; the centre of the optimizer's first samples.
        seed: from 0; of this object's own generators.
        algorithm: name in nevergrad's registry.
        budget: how many asks the optimizer plans for, from 1, by which many of nevergrad's choose what they do. It does
            not end the search. None: 1000.
        workers: how many outstanding proposals the optimizer plans for, from 1, by which NGOpt and its like choose. Any
            number may be outstanding all the same (see the module's docstring).

    Raises:
        EvomergeError: if nevergrad cannot make the optimizer.
    """

    OPTIONS = ("budget", "workers")

    @classmethod
    def problems(cls, options: Mapping[str, Any], n_dims: int) -> list[str]:
        """Return what is wrong with the options, one sentence each."""
        del n_dims
        found = []
        for key, null in (("budget", f" or null for {DEFAULT_BUDGET}"), ("workers", "")):
            value = options.get(key, 1)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not whole and not (null and value is None):
                found.append(f"`{key}` of a nevergrad optimizer must be a whole number from 1{null}, not {value!r}")
        return found

    def __init__(
        self,
        n_dims: int,
        start: ArrayLike,
        seed: int,
        *,
        algorithm: str,
        budget: int | None = None,
        workers: int = 1,
    ) -> None:
        self.n_dims = n_dims
        self._start = checked_start(start, n_dims)
        self._seed, self._algorithm, self._workers = seed, algorithm, workers
        self._budget = DEFAULT_BUDGET if budget is None else budget
        self._label = f"nevergrad:{algorithm} (n_dims {n_dims}, budget {self._budget}, workers {workers})"
        self._header = {
            "optimizer": f"nevergrad:{algorithm}",
            "library": f"nevergrad {version('nevergrad')}",
            "n_dims": n_dims,
            "seed": seed,
            "start": self._start.tolist(),
            "budget": self._budget,
            "workers": workers,
        }
        self._ledger = Ledger()
        self._history: list[int] = []  # -1: an ask; from 0: that proposal was told
        self._told: list[float] = []  # fitness of each tell in `_history`; NaN: it failed
        self._digest = hashlib.sha256()  # of all points handed out
        self._library: LibraryOptimizer | None = None  # None: it failed, and the companion goes on
        self._asked: dict[int, Any] = {}  # outstanding points of the library, as nevergrad knows them
        self._companion: LibraryOptimizer | CMA | None = None  # made when it is needed
        self._companions: dict[int, Any] = {}  # outstanding points of the companion, as it knows them
        self._losses = _Losses()
        self._best: tuple[float, NDArray[np.float64]] | None = None  # fitness and point
        self.failure: str | None = None
        """Why the library was given up; None: it was not."""
        try:
            self._library = LibraryOptimizer(algorithm, self._start, seed, budget=self._budget, workers=workers)
        except Exception as error:  # whatever it raises, nothing of it can be repaired here
            raise EvomergeError(
                f"{self._label} could not be built: {_said(error)}. Choose another optimizer, for example cma or "
                "nevergrad:DE"
            ) from error

    @property
    def sequential(self) -> bool:
        """Whether nevergrad's optimizer takes one point at a time."""
        return self._library is not None and self._library.sequential

    def ask(self) -> Point:
        """Return the next point to score, of the library if it can give one now, else of the companion."""
        number = self._ledger.n_asked
        x = None
        if self._library is not None and not (self._library.sequential and self._asked):
            try:
                self._asked[number] = self._library.ask()
                x = _value(self._library, self._asked[number])
            except Exception as error:  # of a library: anything
                self._give_up(f"could not give point {number}", error)
        if x is None:
            x = self._ask_companion(number)
        proposal = self._ledger.open(x)
        self._history.append(-1)
        self._digest.update(proposal.x.tobytes())
        return proposal

    def tell(self, number: int, result: Result | None) -> None:
        """Take the fitness of proposal `number`; larger is better, None or not finite: it failed.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
        """
        fitness = usable(result)
        x = self._ledger.close(number)
        self._history.append(number)
        self._told.append(np.nan if fitness is None else fitness)
        if fitness is not None and (self._best is None or fitness > self._best[0]):
            self._best = (fitness, x)
        loss = self._losses.of(fitness, gentle=self.sequential)
        if number in self._asked and self._library is not None:
            try:
                self._library.tell(self._asked.pop(number), loss)
            except Exception as error:  # of a library: anything
                self._give_up(f"could not take the fitness of point {number}", error)
        self._tell_companion(number, fitness)

    def dump_state(self) -> bytes:
        """Return everything that the next `ask` depends on."""
        history, told = np.array(self._history, dtype=np.int32), np.array(self._told, dtype=np.float64)
        return pack(self._header, flatten({"history": history, "told": told, "digest": self._digest.hexdigest()}))

    def load_state(self, state: bytes) -> None:
        """Continue from `dump_state` by replaying it.

        Raises:
            ValueError: if the state is not one of this optimizer, these arguments and this version of nevergrad, or if
                the optimizer does not propose the same points again.
        """
        payload = unpack(state, self._header)
        twin = Nevergrad(
            self.n_dims,
            self._start,
            self._seed,
            algorithm=self._algorithm,
            budget=self._budget,
            workers=self._workers,
        )
        with damaged():
            data = restore(payload)
            told = iter(data["told"].tolist())
            for event in data["history"].tolist():
                if event < 0:
                    twin.ask()
                else:
                    twin.tell(event, Result((next(told),)))
            digest = data["digest"]
        if twin._digest.hexdigest() != digest:
            raise ValueError(
                f"nevergrad:{self._algorithm} did not propose the same points again when its {twin._ledger.n_asked} "
                "asks were replayed, so the search cannot be continued: either this optimizer cannot be resumed, or "
                "another processor or version of numpy rounds differently; `cma` resumes anywhere"
            )
        self.__dict__.update(twin.__dict__)

    def _ask_companion(self, number: int) -> NDArray[np.float64]:
        if self._companion is None and self._library is not None:
            self._companion = _for_many(self._start if self._best is None else self._best[1], self._seed, self._budget)
        if isinstance(self._companion, LibraryOptimizer):
            try:
                self._companions[number] = self._companion.ask()
                return _value(self._companion, self._companions[number])
            except Exception as error:  # of a library: anything
                self._lose_companion(error)
        if not isinstance(self._companion, CMA):
            self._companion = CMA(self.n_dims, self._start if self._best is None else self._best[1], self._seed)
        point = self._companion.ask()
        self._companions[number] = point.number
        return point.x

    def _tell_companion(self, number: int, fitness: float | None) -> None:
        if number not in self._companions:
            return
        mine = self._companions.pop(number)
        if isinstance(self._companion, CMA):
            self._companion.tell(mine, None if fitness is None else Result((fitness,)))
        elif self._companion is not None:
            try:
                self._companion.tell(mine, self._losses.of(fitness, gentle=False))
            except Exception as error:  # of a library: anything
                self._lose_companion(error)

    def _give_up(self, doing: str, error: Exception) -> None:
        """Go on without the library, which may be in any state after an error."""
        self._library = None
        self._asked.clear()
        self.failure = f"{self._label} {doing}: {_said(error)}"
        log.warning("%s; the search goes on without it, from its best point", self.failure)

    def _lose_companion(self, error: Exception) -> None:
        self._companion = None
        self._companions.clear()
        log.warning("%s: its companion %s failed (%s); cma takes its place", self._label, COMPANION, _said(error))


def _for_many(start: ArrayLike, seed: int, budget: int) -> LibraryOptimizer | None:
    """Return what nevergrad advises for several outstanding points; None if it cannot be had."""
    try:
        made = LibraryOptimizer(COMPANION, start, seed, budget=budget, workers=GENERATION)
    except Exception:  # of a library: anything
        return None
    return None if made.sequential else made


def _value(library: LibraryOptimizer, candidate: Any) -> NDArray[np.float64]:
    x: NDArray[np.float64] = np.asarray(library.value(candidate), dtype=np.float64)
    if not np.all(np.isfinite(x)):
        raise ValueError(f"it proposed {x.tolist()}")
    return x


class _Losses:
    """What nevergrad is told: minus the fitness, and a loss for failed candidates.

    The optimizers that take one point at a time mostly model the losses, by planes or parabolas, which one loss of 1e20
    would ruin. To them, what failed or breaks a limit is a little worse than the worst so far.
    """

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf  # of all candidates that kept the limits

    def of(self, fitness: float | None, *, gentle: bool) -> float:
        """Return the loss of a fitness; None: the candidate failed."""
        feasible = fitness is not None and fitness > -INFEASIBLE
        if fitness is not None and feasible:
            self._low, self._high = min(self._low, -fitness), max(self._high, -fitness)
        if feasible or not gentle or self._high < self._low:
            return FAILED_LOSS if fitness is None else -fitness
        beyond = 1.0 if fitness is None else 1.0 - 1.0 / (1.0 + max(0.0, -fitness - INFEASIBLE))
        spread = (self._high - self._low) or max(1.0, abs(self._high))
        return self._high + spread * (0.5 + 0.5 * beyond)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def rehearse(algorithm: str, n_dims: int, *, budget: int | None = None, workers: int = 1) -> list[str]:
    """Run an optimizer on a test function and return what would break a search, one sentence each.

    It is asked as often as the budget says, within `REHEARSAL_SECONDS`, with three outstanding proposals that are told
    in reverse order, or one where the optimizer takes one at a time.
    """
    rng, before = own_generator(0, "rehearsal"), _global_state()
    peak = rng.random_sample(n_dims)
    deadline = time.monotonic() + REHEARSAL_SECONDS
    try:
        first = Nevergrad(n_dims, np.full(n_dims, 0.5), 0, algorithm=algorithm, budget=budget, workers=workers)
        second = Nevergrad(n_dims, np.full(n_dims, 0.5), 0, algorithm=algorithm, budget=budget, workers=workers)
        asks = min(budget or DEFAULT_BUDGET, DEFAULT_BUDGET)
        resumed_at = None
        while first._ledger.n_asked < asks and (resumed_at is None or time.monotonic() < deadline):
            done = first._ledger.n_asked
            # After half of the asks, or of the time, a second optimizer resumes from the first, and must agree with it.
            if resumed_at is None and (done >= asks // 2 or time.monotonic() > deadline - REHEARSAL_SECONDS / 2):
                second.load_state(first.dump_state())
                resumed_at = done
            for optimizer in (first,) if resumed_at is None else (first, second):
                together = 1 if optimizer.sequential else 3
                points = [optimizer.ask() for _ in range(min(together, asks - done))]
                for point in reversed(points):
                    optimizer.tell(point.number, Result((-float(np.sum((point.x - peak) ** 2)),)))
            if first.failure is not None:
                return [f"{first.failure}. Choose another optimizer, for example cma or nevergrad:DE"]
    except (EvomergeError, ValueError) as error:
        return [str(error)]
    if resumed_at is not None and second._digest.digest() != first._digest.digest():
        return [f"nevergrad:{algorithm} does not continue identically after a resume; choose another, for example cma"]
    if _global_state() != before:
        return [
            f"nevergrad:{algorithm} draws from the global random generators, so its searches cannot be repeated; "
            "choose another, for example cma or nevergrad:DE"
        ]
    return []


def _global_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (to see that nobody draws from it)
    return kind, np.asarray(keys).tobytes(), tuple(rest), random.getstate()
