"""What one fit of the model of a run costs (one a generation), against one solution of as many equations as candidates.

    python benchmarks/estimators/run_model.py      # --quick: up to 1,000 candidates; --json: name to number

Made-up candidates: 12 genes, 100 items, five answers each. Seconds of a core; and the bytes that a fit takes at most.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from evomerge.estimation.run_model import RunModel

SIZES = (300, 1000, 3000, 10_000)
N_ITEMS, ASKED, GENES = 100, 5, 12


def candidates(n: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return references, answers and points."""
    rng = np.random.default_rng(0)
    references = (rng.random((3, N_ITEMS)) < 0.5).astype(float)
    points = list(rng.random((n, GENES)))
    answers = np.full((n, N_ITEMS), np.nan)
    for row, point in zip(answers, points, strict=True):
        row[rng.choice(N_ITEMS, ASKED, replace=False)] = rng.random(ASKED) < 0.2 + 0.6 * point.mean()
    return references, answers, points


def fit_seconds(n: int) -> float:
    """Return the CPU time of a fit."""
    references, answers, points = candidates(n)
    model, start = RunModel(references), time.process_time()
    model.fit(answers, points)
    return time.process_time() - start


def fit_bytes(n: int) -> int:
    """Return the most memory that a fit holds at a time, besides its arguments."""
    references, answers, points = candidates(n)
    tracemalloc.start()
    RunModel(references).fit(answers, points)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def solve_seconds(n: int) -> float:
    """Return the CPU time of one solution of n equations, of which an exact process needs some two hundred."""
    matrix = np.eye(n) + np.random.default_rng(0).random((n, n)) / n
    start = time.process_time()
    np.linalg.solve(matrix, np.ones(n))
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {}
    fit_seconds(100)
    for n in SIZES[: 2 if arguments.quick else None]:
        seconds = min(fit_seconds(n) for _ in range(3))
        found[f"{n} | fit, s"] = round(seconds, 3)
        found[f"{n} | fit, MB"] = round(fit_bytes(n) / 1e6, 1)
        if n <= 3000:
            found[f"{n} | fit / one solution of {n} equations"] = round(seconds / solve_seconds(n), 1)
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(f"{k}: {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
