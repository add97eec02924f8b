"""Does evolution find a merge that solves what no parent can, for more than one lucky seed?

    .venv/bin/python experiments/zoo_seeds/run.py                # CMA-ES and random search, seeds 0, 1, 2
    .venv/bin/python experiments/zoo_seeds/run.py --optimizers cma --seeds 0

Runs `experiment=zoo_ja_math` as the demo does, writes results.json here, and exits with 1 unless each CMA-ES
winner's 95 % interval on the test items lies above the interval of every parent and of the average.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent


def search(optimizer: str, seed: int, folder: Path) -> dict:
    from evomerge import api
    from evomerge.cli.compose import compose

    start = time.perf_counter()
    run = api.search(compose(["zoo_ja_math", f"optimizer={optimizer}", f"seed={seed}"]), run_dir=folder)
    status = run.status()
    best = status["best"]
    above = all(best["test"]["low"] > baseline["test"]["high"] for baseline in status["baselines"])
    return {
        "optimizer": optimizer,
        "seed": seed,
        "seconds": round(time.perf_counter() - start, 1),
        "candidates": status["candidates"],
        "best": best,
        "baselines": status["baselines"],
        "above_every_baseline": above,
    }


def line(result: dict) -> str:
    def percent(score: dict) -> str:
        return f"{100 * score['mean']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"

    best = result["best"]
    baselines = ", ".join(f"{b['name']} {percent(b['test'])}" for b in result["baselines"])
    return (
        f"{result['optimizer']:<7} seed {result['seed']}: search {100 * best['search']['mean']:.1f}, "
        f"validation {percent(best['validation'])}, test {percent(best['test'])}   ({baselines}; {result['seconds']} s)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=["cma", "random"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            for optimizer in arguments.optimizers:
                results.append(search(optimizer, seed, Path(folder) / f"{optimizer}{seed}"))
                print(line(results[-1]), flush=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(r["above_every_baseline"] for r in results if r["optimizer"] == "cma") else 1


if __name__ == "__main__":
    sys.exit(main())
