"""Any optimizer of nevergrad by name (Rapin and Teytaud, https://facebookresearch.github.io/nevergrad/).

A state is the history of asks and tells, not nevergrad's objects: these hold a copy of every told point (half a
megabyte after 300), some cannot be pickled, and unpickling would run any code in the file. Loading replays the history
on a new optimizer with the same seed, and compares the points with a digest of the earlier ones. So an optimizer that
does not repeat itself is found out. A resume therefore costs nevergrad's own time again (about a millisecond for each
candidate), and may be refused on another kind of processor, where the last bits of a sum differ; `cma`, whose state is
complete, has neither limit.

Optimizers that nevergrad runs in a background thread (Cobyla, Powell, NelderMead, SQP, …) are refused, since they wait
forever when a second point is asked for before the first was told.
"""

from __future__ import annotations

import hashlib
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evomerge.errors import EvomergeError, unknown_name
from evomerge.optimizers.base import Optimizer, Point
from evomerge.optimizers.ledger import Ledger, checked_start, own_generator, usable
from evomerge.optimizers.state import damaged, flatten, pack, restore, unpack
from evomerge.record import Result

DEFAULT_BUDGET = 1000

FAILED_LOSS = 1e20
"""The loss of a failed candidate. It is finite, since some optimizers compute with losses, and as large as the number
that nevergrad itself puts in place of an infinite loss (5e20)."""

SIDE = 6.0
"""The side of the cube for nevergrad: its first step is then 1/6 of the side, its own choice for bounded ranges."""

REHEARSAL_SECONDS = 3.0


def name_problems(algorithm: str) -> list[str]:
    """Return the mistakes in the name of a nevergrad optimizer, one sentence each."""
    known = _registry()
    return [] if algorithm in known else [unknown_name("nevergrad optimizer", algorithm, known)]


class Nevergrad(Optimizer):
    """An optimizer of nevergrad over the unit cube; larger fitness is better.

    Args:
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)`; the centre of the optimizer's first samples.
        seed: from 0; of this object's own generator.
        algorithm: name in nevergrad's registry.
        budget: how many asks the optimizer plans for, by which many of nevergrad's choose what they do. It does not end
            the search. None: `DEFAULT_BUDGET`.
        workers: how many outstanding proposals the optimizer expects. With 1, NGOpt and its like choose optimizers that
            cannot have more (see the module docstring).
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
        workers: int = 2,
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
        self._candidates: dict[int, Any] = {}  # outstanding, as nevergrad knows them
        self._history: list[int] = []  # -1: an ask; from 0: that proposal was told
        self._told: list[float] = []  # fitness of each tell in `_history`; NaN: it failed
        self._digest = hashlib.sha256()  # of all points handed out
        with self._library("be built"):
            import nevergrad

            # With `Array(lower=, upper=)` or `set_mutation`, nevergrad would draw from numpy's global generator before
            # it can be given another. Without them the step size is 1, which is why the cube has the side `SIDE`.
            cube = nevergrad.p.Array(init=SIDE * self._start)
            cube.random_state = own_generator(seed, "nevergrad")
            cube.set_bounds(0.0, SIDE)
            self._optimizer = _registry()[algorithm](parametrization=cube, budget=self._budget, num_workers=workers)

    def ask(self) -> Point:
        """Return the next point to score.

        Raises:
            EvomergeError: if the library fails, or starts a background thread.
        """
        # Checked before the ask, too, since with an outstanding point it would wait for the thread forever.
        self._refuse_threads()
        with self._library(f"give point {self._ledger.n_asked}"):
            candidate = self._optimizer.ask()
            proposal = self._ledger.open(candidate.value / SIDE)
        self._refuse_threads()
        self._candidates[proposal.number] = candidate
        self._history.append(-1)
        self._digest.update(proposal.x.tobytes())
        return proposal

    def tell(self, number: int, result: Result | None) -> None:
        """Take the fitness of proposal `number`; larger is better, None or not finite: it failed.

        Raises:
            RuntimeError: if that number was never asked or is told twice.
            EvomergeError: if the library fails.
        """
        self._ledger.close(number)
        fitness = usable(result)
        self._history.append(number)
        self._told.append(np.nan if fitness is None else fitness)
        with self._library(f"take the fitness of point {number}"):
            self._optimizer.tell(self._candidates.pop(number), FAILED_LOSS if fitness is None else -fitness)

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

    def _refuse_threads(self) -> None:
        if _runs_a_thread(self._optimizer):
            raise EvomergeError(
                f"{self._label} uses an optimizer that runs in a background thread, which can neither be resumed nor "
                "have several candidates running; choose another, for example cma or nevergrad:DE"
            )

    @contextmanager
    def _library(self, doing: str) -> Iterator[None]:
        """Run code of nevergrad, without its warnings and with its exceptions put into words."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except Exception as error:  # whatever it raises, nothing of it can be repaired here
            raise EvomergeError(
                f"{self._label} could not {doing}: {type(error).__name__}: {error}. "
                "Choose another optimizer, for example cma or nevergrad:DE"
            ) from error


def rehearse(algorithm: str, n_dims: int, *, budget: int | None = None, workers: int = 2) -> list[str]:
    """Run an optimizer on a test function and return what would break a search, one sentence each.

    It is asked as often as the budget says, within `REHEARSAL_SECONDS`, with three outstanding proposals that are told
    in reverse order.
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
                points = [optimizer.ask() for _ in range(min(3, asks - done))]
                for point in reversed(points):
                    optimizer.tell(point.number, Result((-float(np.sum((point.x - peak) ** 2)),)))
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


def _registry() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nevergrad

    return nevergrad.optimizers.registry


def _runs_a_thread(optimizer: Any) -> bool:
    """Return whether an optimizer, or one that it is made of, is nevergrad's wrapper around a background thread."""
    from nevergrad.optimization.base import Optimizer
    from nevergrad.optimization.recaster import RecastOptimizer

    seen: set[int] = set()
    waiting = [optimizer]
    while waiting:
        part = waiting.pop()
        if isinstance(part, RecastOptimizer):
            return True
        if id(part) in seen or not isinstance(part, Optimizer):
            continue
        seen.add(id(part))
        for value in vars(part).values():
            waiting.extend(value if isinstance(value, (list, tuple)) else [value])
    return False
