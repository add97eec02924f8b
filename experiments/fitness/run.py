"""The same search on the zoo with all items for each candidate, and with a tenth of them; several seeds.

.venv/bin/python experiments/fitness/run.py --arm all --seeds 0 1 2 3 4
.venv/bin/python experiments/fitness/run.py --arm ten --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from evomerge import api
from evomerge.cli.compose import compose

ARMS = {
    "all": [],
    "all, no consensus": ["fitness.consensus=false"],
    "ten": ["fitness.items=10"],
    "ten, race": ["fitness.items=10", "fitness.race=posterior"],
    "ten, mean": ["fitness.items=10", "fitness.estimator=mean"],
}
HERE = Path(__file__).parent


def main() -> None:
    """Run one arm on some seeds and append what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arm", choices=ARMS, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("outputs/fitness"))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        path = arguments.out / f"{arguments.arm}_{seed}".replace(", ", "_").replace(" ", "_")
        config = compose(["experiment=zoo_ja_math", f"seed={seed}", *ARMS[arguments.arm]])
        config.pop("run", None)
        found = api.search(config, run_dir=path).status()
        best = found["best"]
        line = {
            "arm": arguments.arm,
            "seed": seed,
            "items": found["items"],
            "winner": best["name"],
            **{split: best[split]["mean"] for split in ("search", "validation", "test")},
        }
        print(line, flush=True)
        with (HERE / "results.jsonl").open("a") as out:
            out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
