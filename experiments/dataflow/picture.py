"""Draw results.json: test accuracy with its 95 % interval, by arm and seed.

.venv/bin/python experiments/dataflow/picture.py
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
COLOURS = ("#2a6f97", "#d95f02", "#7570b3")
plt.rcParams["svg.hashsalt"] = "evomerge"  # the same results give the same file


def main() -> None:
    results = json.loads((HERE / "results.json").read_text())
    arms = list(dict.fromkeys(one["arm"] for one in results))
    figure, axes = plt.subplots(figsize=(8, 0.62 * len(arms) + 1.3), layout="constrained")
    for one in results:
        score = one["best"]["test"]
        place = arms.index(one["arm"]) + 0.2 * (one["seed"] - 1)
        mean, low, high = (100 * score[key] for key in ("mean", "low", "high"))
        axes.errorbar(
            mean,
            place,
            xerr=[[mean - low], [high - mean]],
            fmt="o",
            color=COLOURS[one["seed"] % 3],
            capsize=3,
            label=f"seed {one['seed']}" if one["arm"] == arms[0] else None,
        )
    best = max(
        (b for one in results for b in one["baselines"] if b["name"] != "average"), key=lambda b: b["test"]["mean"]
    )
    axes.axvline(100 * best["test"]["mean"], color="#9aa5b1", linestyle="--", label=f"best parent ({best['name']})")
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set(xlabel=f"right on {best['test']['n']} test items, % (95 % interval)", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(HERE / "results.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
