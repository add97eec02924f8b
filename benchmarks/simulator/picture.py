"""Draws docs/items.svg from results.json, the table of `run.py`: python benchmarks/simulator/picture.py."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main() -> None:
    """Draw what is found against the items spent."""
    matplotlib.rcParams["svg.hashsalt"] = "evomerge"
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for marker, row in zip("os^x", json.loads((HERE / "results.json").read_text(encoding="utf-8")), strict=True):
        axes.errorbar(row["items"], row["found"], row["error"], marker=marker, capsize=3, label=row["plan"])
    axes.axhline(82, color="grey", linewidth=0.8, linestyle=":")
    axes.text(700, 82.1, "top of the landscape", fontsize=8, color="grey")
    axes.set_xscale("log")
    axes.set_xlabel("evaluated items of all candidates")
    axes.set_ylabel("winner right on unseen items, %")
    axes.legend(fontsize=8, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(HERE.parents[1] / "docs" / "items.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
