"""Draw results.jsonl: the non-dominated merges of each search on the validation items, a field for each seed.

.venv/bin/python experiments/two_skills/picture.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from evomerge.record import Result

HERE = Path(__file__).parent
LOOKS = {"nsga2": ("#d95f02", "o", "NSGA-II"), "cma": ("#2a6f97", "s", "CMA-ES"), "random": ("#7570b3", "^", "random")}
plt.rcParams["svg.hashsalt"] = "evomerge"  # the same results give the same file


def not_dominated(points: list[list[float]]) -> np.ndarray:
    """Return `(n, 2)` the points that no other one dominates, from left to right."""
    results = [Result(tuple(point)) for point in points]
    kept = [one.objectives for one in results if not any(other.dominates(one) for other in results)]
    return np.array(sorted(set(kept)))


def main() -> None:
    """Draw the picture."""
    lines = [json.loads(line) for line in (HERE / "results.jsonl").read_text().splitlines()]
    seeds = sorted({line["seed"] for line in lines})
    figure, fields = plt.subplots(1, len(seeds), figsize=(3.4 * len(seeds), 3.4), sharey=True, layout="constrained")
    for axes, seed in zip(np.atleast_1d(fields), seeds, strict=True):
        for line in (one for one in lines if one["seed"] == seed):
            colour, marker, name = LOOKS[line["arm"]]
            axes.plot(*(100 * np.array(line["validation"])).T, marker, color=colour, alpha=0.3, markersize=4)
            front = 100 * not_dominated(line["validation"])
            # The part of the plane that the front covers: its area is the hypervolume.
            corners = [(0.0, front[0, 1]), *front.tolist(), (front[-1, 0], 0.0)]
            label = f"{name} ({line['hypervolume']['validation']:.2f})"
            axes.step(*np.array(corners).T, where="pre", color=colour, label=label)
        for name, point in next(one for one in lines if one["seed"] == seed)["baselines"].items():
            axes.plot(*(100 * np.array(point)), "x", color="black", markersize=5)
            axes.annotate(name, 100 * np.array(point), xytext=(4, 3), textcoords="offset points", fontsize=7)
        axes.set(title=f"seed {seed}", xlabel="right on Japanese problems, %", xlim=(-2, 60), ylim=(-3, 105))
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(0.02, 0.3), title="hypervolume")
        axes.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(fields)[0].set_ylabel("right on English arithmetic, %")
    figure.savefig(HERE / "results.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
