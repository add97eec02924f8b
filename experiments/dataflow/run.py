"""What do layer paths add to weights, at an equal number of evaluated items? And the scales W?

    .venv/bin/python experiments/dataflow/run.py                            # all arms, seeds 0, 1, 2
    .venv/bin/python experiments/dataflow/run.py --arms PS joint --seeds 0 --jobs 1

Every search gets the same budget of item evaluations (proposals that repeat an earlier path cost none), the same
search, validation and test items per seed, and the same finalists. Results are added to results.json here as they come.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).parent
ITEMS = 9_600
SEGMENTS_WITHOUT_SCALES = "{encoding:segments,segments:4,max_layers:12,scales:none}"
SEGMENTS_WITHOUT_SCALES = "{encoding:segments,segments:4,max_layers:12,scales:none}"
INDICATORS = "space.path={encoding:indicators,segments:null,offset:0.2,max_layers:12}"
ARMS = {
    "PS": ["zoo_ja_math"],
    "DFS": ["zoo_dataflow"],
    "DFS, W = 1": ["zoo_dataflow", f"space.path={SEGMENTS_WITHOUT_SCALES}"],
    "PS then DFS": ["zoo_ps_then_dfs"],
    "joint": ["zoo_joint"],
    "PS then DFS, W = 1": ["zoo_ps_then_dfs", "+stages.layers.space.path.scales=none"],
    "DFS, indicators": ["zoo_dataflow", INDICATORS, "optimizer=cma"],
}


def search(arm: str, seed: int, items: int) -> dict:
    from evomerge import api
    from evomerge.cli.compose import compose

    words = [*ARMS[arm], f"seed={seed}", "budget.candidates=null", f"budget.items={items}"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = api.search(compose(words), run_dir=Path(folder) / "run")
        status, recipe = run.status(), run.best()
        records = run.records()
    assert recipe is not None
    return {
        "arm": arm,
        "seed": seed,
        "seconds": round(time.perf_counter() - start, 1),
        "items": status["items"],
        "candidates": status["candidates"],
        "repeated": status["cache_hits"],
        "failed": status["failed"],
        "best": status["best"],
        "baselines": status["baselines"],
        "first_half": max((r.fitness or 0.0 for r in records[: len(records) // 2]), default=0.0),
        "recipe": recipe.to_data(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    done = json.loads(arguments.out.read_text()) if arguments.out.is_file() else []
    todo = [(arm, seed) for seed in arguments.seeds for arm in arguments.arms]
    todo = [key for key in todo if key not in {(one["arm"], one["seed"]) for one in done}]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        for future in as_completed([pool.submit(search, arm, seed, arguments.items) for arm, seed in todo]):
            result = future.result()
            done.append(result)
            done.sort(key=lambda one: (list(ARMS).index(one["arm"]), one["seed"]))
            arguments.out.write_text(json.dumps(done, indent=1) + "\n")
            print(line(result), flush=True)
    return 0


def line(result: dict) -> str:
    def percent(score: dict) -> str:
        return f"{100 * score['mean']:.1f} [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"

    best = result["best"]
    return (
        f"{result['arm']:<18} seed {result['seed']}: search {100 * best['search']['mean']:.1f}, "
        f"test {percent(best['test'])}, {result['items']} items, {result['seconds']} s"
    )


if __name__ == "__main__":
    sys.exit(main())
