"""Whether the interval and the p-value of a paired difference agree, and keep their level.

    python benchmarks/paired_tests.py [--quick] [--json] [--trials N]

Two models answer the same items; the truth is known, since the answers are drawn. Cases: one 0/1 task, one real-valued
one (quarters of a point with many ties; token counts with a long tail), three tasks of unequal sizes and weights whose
true differences cancel in the weighted mean, and two that gain and lose. For each: how often the interval holds the
truth (aim 95 %), how often p < 0.05 where the true difference is 0 (aim 5 %), and how often one says 0 and the other
not. The peers are what evomerge had before: McNemar's exact test, and sign flips over all items of all tasks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.analysis.comparison import compare

Answers = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Task:
    """One task: how many items, its weight, how a pair of answers is drawn, and their true mean difference."""

    n: int
    weight: float
    draw: Callable[[np.random.Generator, int], Answers]
    truth: float


def binary(n: int, p12: float, p21: float, weight: float = 1.0) -> Task:
    """0/1 answers: right by the first alone with p12, by the second alone with p21."""

    def draw(generator: np.random.Generator, n: int) -> Answers:
        u, both = generator.random(n), generator.random(n) < 0.5
        first, second = u < p12, (u >= p12) & (u < p12 + p21)
        neither = ~(first | second)
        return (first | (neither & both)).astype(float), (second | (neither & both)).astype(float)

    return Task(n, weight, draw, p12 - p21)


def quarters(n: int, share: float, weight: float = 1.0) -> Task:
    """Scores in quarters; on a share of items the two differ, in either direction alike."""

    def draw(generator: np.random.Generator, n: int) -> Answers:
        a = generator.integers(0, 5, n) / 4
        b = np.where(generator.random(n) < share, generator.integers(0, 5, n) / 4, a)
        return a, b

    return Task(n, weight, draw, 0.0)


def tokens(n: int, longer: float, weight: float = -1.0) -> Task:
    """Token counts with a long tail; the first model's are longer by a number on average."""

    def draw(generator: np.random.Generator, n: int) -> Answers:
        base = generator.lognormal(4.0, 0.6, n)
        return base + generator.exponential(20.0, n) + longer, base + generator.exponential(20.0, n)

    return Task(n, weight, draw, longer)


CASES: Mapping[str, list[Task]] = {
    **{f"0/1, n = {n}": [binary(n, 0.1, 0.1)] for n in (10, 30, 100)},
    **{f"0/1, n = {n}, 15 points": [binary(n, 0.25, 0.10)] for n in (10, 30, 100)},
    "0/1, n = 100, few differ": [binary(100, 0.02, 0.02)],
    **{f"quarters, n = {n}": [quarters(n, 0.3)] for n in (10, 30, 100)},
    **{f"tokens, n = {n}": [tokens(n, 0.0)] for n in (10, 30, 100)},
    "two tasks, gain and loss cancel": [binary(40, 0.3, 0.1, 0.5), binary(120, 0.1, 0.3, 0.5)],
    "three tasks, unequal, cancel": [
        binary(30, 0.35, 0.05, 0.5),
        binary(200, 0.05, 0.25, 0.6),
        binary(80, 0.04, 0.07, 1.0),
    ],
    "0/1 and quarters, n = 10 each": [binary(10, 0.15, 0.15, 0.5), quarters(10, 0.3, 0.5)],
    "three skills, +13 points": [
        binary(50, 0.50, 0.05, 1 / 3),
        binary(50, 0.45, 0.06, 1 / 3),
        binary(50, 0.10, 0.55, 1 / 3),
    ],
}


def exact_mcnemar(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy.stats import binomtest

    first, second = int(np.sum(a > b)), int(np.sum(a < b))
    return float(binomtest(first, first + second, 0.5).pvalue) if first + second else 1.0


def sign_flips(shares: NDArray[np.float64], generator: np.random.Generator, flips: int = 999) -> float:
    signs = generator.integers(0, 2, (flips, len(shares)), dtype=np.int8) * 2 - 1
    return float(1 + np.sum(np.abs(signs @ shares) >= abs(shares.sum()) - 1e-12)) / (flips + 1)


def simulate(tasks: list[Task], trials: int, seed: int = 0) -> dict[str, float | None]:
    """Return shares of the trials."""
    generator = np.random.default_rng(seed)
    truth = sum(task.weight * task.truth for task in tasks)
    weights = {str(i): task.weight for i, task in enumerate(tasks)}
    held = rejected = apart = peer_rejected = peer_apart = 0
    for _ in range(trials):
        pairs = {str(i): task.draw(generator, task.n) for i, task in enumerate(tasks)}
        found = compare(
            {name: a.tolist() for name, (a, _) in pairs.items()},
            {name: b.tolist() for name, (_, b) in pairs.items()},
            weights,
        )
        outside = found.low > 0.0 or found.high < 0.0
        held += found.low <= truth <= found.high
        rejected += found.p_value < 0.05
        apart += outside != (found.p_value < 0.05)
        a, b = pairs["0"]
        if len(tasks) == 1 and np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
            peer = exact_mcnemar(a, b)
        else:
            shares = [weights[name] * (a - b) / len(a) for name, (a, b) in pairs.items()]
            peer = sign_flips(np.concatenate(shares), generator)
        peer_rejected += peer < 0.05
        peer_apart += outside != (peer < 0.05)
    null = abs(truth) < 1e-12
    return {
        "coverage": held / trials,
        "type I": rejected / trials if null else None,
        "power": None if null else rejected / trials,
        "contradictions": apart / trials,
        "before: p < 0.05": peer_rejected / trials,
        "before: contradictions": peer_apart / trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 trials a case")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trials", type=int, default=2000)
    arguments = parser.parse_args()
    results = {name: simulate(tasks, 200 if arguments.quick else arguments.trials) for name, tasks in CASES.items()}
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    columns = list(next(iter(results.values())))
    print("| case | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for name, row in results.items():
        print(f"| {name} | " + " | ".join("" if v is None else f"{100 * v:.1f} %" for v in row.values()) + " |")


if __name__ == "__main__":
    main()
