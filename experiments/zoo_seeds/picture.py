"""Draw a finished run: every candidate's search score, and the test scores of parents, average and best merge.

.venv/bin/python experiments/zoo_seeds/picture.py RUN docs/demo.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from evomerge import api

plt.rcParams["svg.hashsalt"] = "evomerge"  # the same picture gives the same file
BLUE, GREY, ORANGE = "#2a6f97", "#9aa5b1", "#d95f02"


def draw(run: Path, out: Path) -> None:
    status = api.status(run)
    fitness = np.array([np.nan if r.fitness is None else r.fitness for r in api.records(run)])
    best = status["best"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1.6, 1), layout="constrained")
    left.plot(100 * fitness, ".", color=BLUE, alpha=0.55, label="candidate")
    left.plot(100 * np.fmax.accumulate(fitness), color=BLUE, label="best so far")
    average = next(b for b in status["baselines"] if b["name"] == "average")
    left.axhline(100 * average["search"]["mean"], color=GREY, linestyle="--", label="plain average")
    left.plot(best["id"], 100 * fitness[best["id"]], "o", color=ORANGE, fillstyle="none", markersize=9, label="winner")
    left.set(xlabel="candidate", ylabel=f"right on {best['search']['n']} search items, %", ylim=(-2, None))
    left.legend(frameon=False, loc="upper left", fontsize=8)
    rows = [*((b["name"], b["test"], GREY) for b in status["baselines"]), ("best merge", best["test"], ORANGE)]
    for place, (_, score, colour) in enumerate(reversed(rows)):
        mean, low, high = (100 * score[key] for key in ("mean", "low", "high"))
        right.barh(place, mean, color=colour, height=0.6)
        right.errorbar(mean, place, xerr=[[mean - low], [high - mean]], color="black", capsize=3, linewidth=1)
        right.text(high + 1.5, place, f"{mean:.0f} %", va="center", fontsize=9)
    right.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    right.set(xlabel=f"right on {best['test']['n']} test items, % (95 % interval)", xlim=(0, 100))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, **({"metadata": {"Date": None}} if out.suffix == ".svg" else {"dpi": 110}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
