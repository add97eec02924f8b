"""Every merge method on the zoo: as it comes, and searched at an equal number of items; and the method as a gene.

    .venv/bin/python experiments/methods/run.py                 # all methods, five seeds; about an hour of an idle core
    .venv/bin/python experiments/methods/run.py --quick         # 4 candidates, the first seed; nothing is kept
    .venv/bin/python experiments/methods/table.py               # the table of README.md, from results.jsonl

An English-arithmetic expert and a Japanese expert are merged into a model that answers Japanese word problems, which
neither can. "Untuned" is the method with its declared defaults, as one would run it from a recipe; "searched" is the
best of a search over all that the method declares as genes, in three blocks of layers. All searches have the same
number of candidates, search and validation items; winners and untuned merges answer the same test items.

Appends a line for each merge to results.jsonl here.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from evomerge import api
from evomerge.errors import EvomergeError
from evomerge.recipe import ModelSource, Parent, Recipe

HERE = Path(__file__).parent
PARENTS = ("math", "japanese")
TEST = {"zoo_ja_math_test": 300, "zoo_en_math": 100, "zoo_ja_reading": 100}
"""Tasks on which merges are tested, with the number of items."""

NOT_HERE = {
    "passthrough": "mixes no weights",
    "expo": "takes one parent, trained on from the base",
    "laser": "takes one parent",
    "rebase": "moves task vectors to another base",
    "git_rebasin": "is for parents that were not trained from one base",
    "nearswap": "takes one parent",
    "arcee_fusion": "takes one parent",
}
"""Methods that have nothing to do with two experts of one base, and why."""

GENE = "method as a gene"
CHOICES = ("task_arithmetic", "ties", "dare_linear", "slerp", "breadcrumbs", "della", "sce", "iso_c")
SLOTS = "pipeline"


def methods() -> list[str]:
    """Return the methods of the study, in the order of listings."""
    return [
        row["name"]
        for row in api.methods()
        if row["name"] not in NOT_HERE and row["n_parents"][0] <= 2 and row["n_parents"][1] in (None, 2)
    ]


def configuration(arm: str, seed: int, candidates: int) -> dict[str, Any]:
    """Return the configuration of a search."""
    space: dict[str, Any] = {"blocks": 3}
    method: dict[str, Any] = {"name": arm}
    if arm == GENE:
        space["method"] = {"choices": list(CHOICES)}
        method = {}
    return {
        "name": f"methods {arm}",
        "seed": seed,
        "models": {"base": "zoo:base", "parents": {name: f"zoo:{name}" for name in PARENTS}, "dtype": "float32"},
        **({"method": method} if method else {}),
        "space": space,
        "budget": {"candidates": candidates},
        "evaluation": {
            "include_path": "zoo:tasks",
            "tasks": [{"name": "zoo_ja_math", "metric": "acc", "test": "zoo_ja_math_test"}],
            "split": {"search": 60, "validation": 100, "test": 40},
            "finalists": 4,
            "batch_size": 128,
        },
        "execution": {"threads": 1},
    }


def untuned(method: str, seed: int) -> Recipe:
    """Return the merge of the two experts by a method with its defaults."""
    parents = tuple(Parent(name, ModelSource(f"zoo:{name}")) for name in PARENTS)
    return Recipe(method, parents, Parent("base", ModelSource("zoo:base")), dtype="float32", seed=seed)


def tested(model: str | Recipe) -> dict[str, list[float]]:
    """Return the share of right answers in each test task, with its 95 % interval."""
    found = {}
    for task, n in TEST.items():
        scores = api.evaluate(model, tasks=[task], include_path=["zoo:tasks"], limit=n, seed=0, batch_size=128)
        score = next(score for name, score in scores[task].items() if name.startswith("acc"))
        found[task] = [round(x, 4) for x in (score.mean, score.low, score.high)]
    return found


def as_it_is(model: str | Recipe) -> dict[str, Any]:
    """Test a model or a merge without a search."""
    return {"test": tested(model)}


def searched(arm: str, seed: int, candidates: int, folder: Path) -> dict[str, Any]:
    """Run a search and test its winner."""
    start = time.process_time()
    result = api.search(configuration(arm, seed, candidates), run_dir=folder)
    status = result.status()
    recipe = Recipe.from_data(status["best"]["recipe"])
    return {
        "genes": len(api.space(configuration(arm, seed, candidates))),
        "seconds": round(time.process_time() - start, 1),
        "failed": status.get("failed"),
        "recipe": recipe.to_data(),
        "test": tested(recipe),
    }


def main() -> None:
    """Run what results.jsonl does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", help="methods, or 'method as a gene'; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="the first seed, 4 candidates; nothing is kept")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    seeds, candidates, out = arguments.seeds, arguments.candidates, arguments.out
    if arguments.quick:
        seeds, candidates, out = seeds[:1], 4, Path(os.devnull)
    done = {(row["arm"], row["tuned"], row["seed"]) for row in map(json.loads, out.open())} if out.is_file() else set()
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            arms = arguments.arms or [*methods(), GENE]
            jobs: list[tuple[str, bool, Callable[[], dict[str, Any]]]] = []
            if seed == 0:
                jobs += [(name, False, partial(as_it_is, f"zoo:{name}")) for name in PARENTS]
            for arm in arms:
                place = Path(folder) / f"{arm} {seed}".replace(" ", "_")
                jobs.append((arm, True, partial(searched, arm, seed, candidates, place)))
                if arm != GENE:
                    jobs.append((arm, False, partial(as_it_is, untuned(arm, seed))))
            for arm, tuned, make in jobs:
                if (arm, tuned, seed) in done:
                    continue
                try:
                    found = make()
                except EvomergeError as error:
                    found = {"error": str(error)}
                with out.open("a") as lines:
                    lines.write(json.dumps({"arm": arm, "tuned": tuned, "seed": seed, **found}) + "\n")
                said = found.get("error") or ", ".join(f"{k} {100 * v[0]:.0f} %" for k, v in found["test"].items())
                print(f"seed {seed} {arm} {'searched' if tuned else 'untuned'}: {said}", flush=True)


if __name__ == "__main__":
    main()
