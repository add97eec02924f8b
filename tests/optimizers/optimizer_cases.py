"""The optimizers that the conformance suite runs, and the landscape they climb."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers import Optimizer, Point, make_optimizer
from evomerge.record import Result


@dataclass(frozen=True)
class Case:
    """One optimizer of the suite."""

    name: str
    n_dims: int = 5
    options: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[int, ...] | None = None

    def make(self, seed: int = 7) -> Optimizer:
        start = np.linspace(0.2, 0.8, self.n_dims)
        return make_optimizer(self.name, n_dims=self.n_dims, start=start, seed=seed, kinds=self.kinds, **self.options)

    def __str__(self) -> str:
        options = self.options if self.kinds is None else {**self.options, "kinds": self.kinds}
        return "-".join([self.name, str(self.n_dims), *(f"{key}={value}" for key, value in options.items())])


CASES = (
    Case("cma"),
    Case("cma", 1),
    Case("cma", 2),
    Case("cma", 5, {"separable": True}),
    Case("cma", 7, {"population": 4}),
    Case("mixed"),
    Case("mixed", 1),
    Case("mixed", 5, {"population": 1}, (0, 9, -4, 0, 2)),
    Case("mixed", 4, {}, (20, -20, 7, -3)),
    Case("random"),
    Case("nsga2"),
    Case("nsga2", 1),
    Case("nsga2", 7, {"population": 4}),
    *(
        Case(f"nevergrad:{name}")
        for name in ("CMA", "DE", "PSO", "OnePlusOne", "TBPSA", "NGOpt", "DiscreteOnePlusOne", "ScrHammersleySearch")
    ),
    # One point at a time, in a background thread: by name, by choice, and with a clock for a seed.
    Case("nevergrad:Cobyla", 3),
    Case("nevergrad:NGOpt", 10, {"budget": 300}),
    Case("nevergrad:CmaFmin2", 1),
)


def told(fitness: float | None) -> Result | None:
    """What an optimizer of one number is told."""
    return None if fitness is None else Result((fitness,))


def sphere(x: NDArray[np.float64]) -> float:
    """Largest (0) at 0.35 in each dimension."""
    return -float(np.sum((x - 0.35) ** 2))


def fitness_of(proposal: Point) -> float | None:
    """The sphere, on which every seventh candidate fails in one way or another."""
    failures = {3: None, 10: float("nan"), 17: float("-inf")}
    return failures.get(proposal.number % 21, sphere(proposal.x))


def drive(optimizer: Optimizer, n_asks: int, outstanding: int = 1) -> list[NDArray[np.float64]]:
    """Ask and tell with so many proposals outstanding; the newest is told first, one in eleven never."""
    points: list[NDArray[np.float64]] = []
    waiting: list[Point] = []
    while len(points) < n_asks:
        waiting.append(optimizer.ask())
        points.append(waiting[-1].x)
        if len(waiting) >= outstanding:
            proposal = waiting.pop() if len(points) % 2 else waiting.pop(0)
            if proposal.number % 11 != 10:
                optimizer.tell(proposal.number, told(fitness_of(proposal)))
    return points


def assert_equal_points(one: list[NDArray[np.float64]], other: list[NDArray[np.float64]]) -> None:
    """Bit for bit."""
    assert [x.tobytes() for x in one] == [x.tobytes() for x in other]
