"""One optimizer of nevergrad, as it must be handled to be repeatable, to end with the process, and to fail by itself.

What nevergrad needs around each of its calls:

- Parts of it draw from the global generators of `numpy` and `random`. While its code runs, these hold a state of this
  object's own, and afterwards what they held before, so that nothing outside is read or changed.
- Many of its optimizers (Cobyla, Powell, SQP, and what NGOpt chooses for one worker) are functions that run in a
  background thread, which waits for the loss of its last point. The next point is asked for at once after each loss, so
  that the thread never runs beside other code. A thread is made a daemon by being made from one; nevergrad's would keep
  the process from ending.
- In one dimension every CMA of its kind asks for a library of its own, and so does, from then on and in any dimension,
  each other one of that name in the process. So they get a second coordinate there, which is left out of the points.
- Its warnings are about choices that are its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from evomerge.optimizers.ledger import own_generator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pycma, where matplotlib, with which nothing is drawn here, is not installed
    from cma.options_parameters import cma_default_options

SIDE = 6.0
"""The side of the cube for nevergrad: its first step is then 1/6 of the side, its own choice for bounded ranges."""

NEEDS = {
    "ax": ("AX", "AXP"),
    "bayes_optim": ("BayesOptimBO", "NGOptF", "PCABO", "PCABO80", "PCABO95DoE20"),
    "ConfigSpace": ("NGOptF3", "SMAC3"),
    "fcmaes": ("FCMA", "FCMAp13", "FCMAs03"),
    "nlopt": (
        *("NLOPT_GN_AGS", "NLOPT_GN_CRS2_LM", "NLOPT_GN_DIRECT", "NLOPT_GN_DIRECT_L", "NLOPT_GN_ESCH"),
        *("NLOPT_GN_ISRES", "NLOPT_LN_BOBYQA", "NLOPT_LN_COBYLA", "NLOPT_LN_NELDERMEAD", "NLOPT_LN_NEWUOA_BOUND"),
        *("NLOPT_LN_PRAXIS", "NLOPT_LN_SBPLX"),
    ),
    "pybobyqa": ("BOBYQA",),
    "pymoo": ("PymooBIPOP", "PymooCMAES", "PymooNSGA2"),
}
"""Modules that nevergrad does not bring, and the names that cannot do without."""

UNREPEATABLE = ("DS14", "DS9", "MultiDS")
"""Names in which several threads draw from one generator, in an order that the machine's load decides."""

T = TypeVar("T")


Globals = tuple[Any, Any]
"""The states of numpy's and Python's global generators."""


def registry() -> Any:
    """Return nevergrad's optimizers by name."""
    if "nevergrad" not in sys.modules:
        with _globals_as(_seeded(0)), warnings.catch_warnings():  # some are made at random when it is imported
            warnings.simplefilter("ignore")
            importlib.import_module("nevergrad")
    from nevergrad.optimization import metamodel, optimizerlib

    # It calls float() on an array of one value, which numpy refuses from 2.4 on; every model of the losses would fail.
    vars(metamodel).setdefault("float", _number)
    return optimizerlib.registry


def refused() -> dict[str, str]:
    """Return the names that cannot be used here, each with the reason (`benchmarks/nevergrad_names.py` tries all)."""
    found = {
        name: f"it needs the Python module {module}, which is not installed"
        for module, names in NEEDS.items()
        if importlib.util.find_spec(module) is None
        for name in names
    }
    why = "several of its threads draw from one random generator, so that a search with it could not be repeated"
    return found | dict.fromkeys(UNREPEATABLE, why)


def _number(value: Any) -> float:
    return float(np.asarray(value).item())


def _seeded(seed: int) -> Globals:
    return (
        own_generator(seed, "nevergrad: numpy's global generator").get_state(legacy=True),
        random.Random(f"nevergrad {seed}").getstate(),
    )


@contextmanager
def _globals_as(state: Globals) -> Iterator[list[Globals]]:
    """Give the global generators a state of one's own; the list then holds what became of it."""
    found: list[Globals] = []
    outer = np.random.get_state(legacy=True), random.getstate()  # noqa: NPY002 (to put it back)
    # Where pycma is called without a seed, it would take one from the clock; as it is, it draws from numpy's generator.
    seed = cma_default_options["seed"]
    try:
        np.random.set_state(state[0])  # noqa: NPY002
        random.setstate(state[1])
        cma_default_options["seed"] = math.nan
        yield found
    finally:
        found.append((np.random.get_state(legacy=True), random.getstate()))  # noqa: NPY002
        np.random.set_state(outer[0])  # noqa: NPY002
        random.setstate(outer[1])
        cma_default_options["seed"] = seed


class LibraryOptimizer:
    """An optimizer of nevergrad over the unit cube.

    Args:
        algorithm: name in nevergrad's registry.
        start: `(n_dims,)`; the centre of the first samples.
        seed: of all that it draws.
        budget: how many asks it plans for.
        workers: how many outstanding points it plans for; 1 for those that refuse more.

    Raises:
        Exception: whatever nevergrad raises.
    """

    def __init__(self, algorithm: str, start: ArrayLike, seed: int, *, budget: int, workers: int) -> None:
        self._n_dims = np.size(start)
        self._globals = _seeded(seed)
        self._kind = registry()[algorithm]
        self._next: Any = None  # a sequential optimizer's next point, asked for already
        self._optimizer = self._run(
            lambda: self._make([*np.ravel(start), *[0.5] * (self._n_dims == 1)], seed, budget, workers)
        )
        self.sequential = self._waits()

    def _make(self, start: list[float], seed: int, budget: int, workers: int) -> Any:
        import nevergrad

        # With `Array(lower=, upper=)` or `set_mutation`, nevergrad would draw from numpy's global generator before it
        # can be given another. Without them the step size is 1, which is why the cube has the side `SIDE`.
        cube = nevergrad.p.Array(init=SIDE * np.asarray(start))
        cube.random_state = own_generator(seed, "nevergrad")
        cube.set_bounds(0.0, SIDE)
        workers = 1 if self._kind.no_parallelization else workers
        return self._kind(parametrization=cube, budget=budget, num_workers=workers)

    def ask(self) -> Any:
        """Return the next point as nevergrad knows it; `value` gives its place in the unit cube.

        A `sequential` optimizer must be told the last one before.
        """
        candidate, self._next = self._next, None
        if candidate is None:
            candidate = self._run(self._optimizer.ask)
        # What it is made of may be chosen only now, or change on the way.
        self.sequential = self.sequential or self._waits()
        return candidate

    def tell(self, candidate: Any, loss: float) -> None:
        """Take the loss of a point."""

        def told() -> None:
            self._optimizer.tell(candidate, loss)
            if self.sequential:
                self._next = self._optimizer.ask()

        self._run(told)

    def value(self, candidate: Any) -> Any:
        """Return the `(n_dims,)` place of a point in the unit cube; rounding may leave it a little outside."""
        return candidate.value[: self._n_dims] / SIDE

    def _run(self, call: Callable[[], T]) -> T:
        """Run code of nevergrad."""
        found: list[T] = []
        failed: list[BaseException] = []

        def inside() -> None:
            try:
                found.append(call())
            except BaseException as error:  # handed on to the caller's thread
                failed.append(error)

        with _globals_as(self._globals) as after, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Threads are daemons if they are made by one.
            thread = threading.Thread(target=inside, name="nevergrad", daemon=True)
            thread.start()
            thread.join()
        self._globals = after[0]
        if failed:
            raise failed[0]
        return found[0]

    def _waits(self) -> bool:
        """Return whether this optimizer, or one that it is made of, must be told each point before the next."""
        from nevergrad.optimization.base import Optimizer

        seen: set[int] = set()
        waiting: list[Any] = [self._optimizer]
        while waiting:
            part = waiting.pop()
            if id(part) in seen or not isinstance(part, Optimizer):
                continue
            if part.recast or part.no_parallelization:
                return True
            seen.add(id(part))
            for value in vars(part).values():
                waiting.extend(value if isinstance(value, (list, tuple)) else [value])
        return False
