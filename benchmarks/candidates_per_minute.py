"""Candidates per minute: a resident worker against a resident process of mergekit and lm-eval, on the zoo.

python benchmarks/candidates_per_minute.py --mergekit PYTHON [--quick] [--json] [--pairs N] [--threads N]

PYTHON is the interpreter of an environment with mergekit and lm-eval (0.1.5 and 0.4.13), apart from ours. Both score
the same recipes (task arithmetic and TIES with random weights, in turn) on the same 100 items of `zoo_ja_math`,
greedily, each at its best batch size, and must give every item the same score. Ours is a job of the local executor:
weights written in place, then our engine. Theirs is `run_merge` into a folder, `from_pretrained` and `simple_evaluate`
(see `mergekit_peer.py`). Imports, starts and a first candidate are counted on neither side. The time is that of the
clock; a pair is theirs, ours, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from machine import machine

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.execution.base import StopSignal
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Job, Split, State
from evomerge.zoo import tasks_path, zoo_path

TASK, METRIC = "zoo_ja_math", "acc"
EXPERTS = ("math", "japanese")
BATCH_SIZES = (32, 64, 128)
LIMIT = 10.0


def recipes(seed: int) -> Iterator[Recipe]:
    """Random merges of both experts; every second one is TIES."""
    draw = random.Random(seed)
    parents = tuple(Parent(name, ModelSource(f"zoo:{name}")) for name in EXPERTS)
    base = Parent("base", ModelSource("zoo:base"))
    while True:
        for method in ("task_arithmetic", "ties"):
            parameters: dict[str, Any] = {"weight": {name: draw.uniform(0.3, 1.2) for name in EXPERTS}, "lambda": 1.0}
            if method == "ties":
                parameters["density"] = {name: draw.uniform(0.3, 1.0) for name in EXPERTS}
            yield Recipe(method, parents, base, parameters, dtype="float32")


def peer_recipe(recipe: Recipe) -> dict[str, Any]:
    """The same in mergekit's words."""
    given = recipe.parameters
    own = [name for name in ("weight", "density") if name in given]
    return {
        "merge_method": recipe.method,
        "base_model": str(zoo_path("base")),
        "models": [
            {"model": str(zoo_path(expert)), "parameters": {name: given[name][expert] for name in own}}  # type: ignore[index,call-overload]
            for expert in EXPERTS
        ],
        "parameters": {"lambda": given["lambda"]},
        "dtype": "float32",
    }


class Peer:
    """The other process."""

    def __init__(self, python: str, threads: int) -> None:
        root = Path(__file__).resolve().parents[1]  # the tasks are judged by functions of the zoo
        variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(root)}
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("mergekit_peer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            text=True,
        )
        self._items: tuple[int, ...] = ()

    def start(self, items: tuple[int, ...]) -> None:
        """Wait until it has imported what it needs; name the items that it is to score."""
        self._items = items
        self._read()

    def run(self, recipe: Recipe, batch_size: int) -> dict[str, Any]:
        """Merge and score one recipe."""
        told = {
            "merge": peer_recipe(recipe),
            "task": str(tasks_path() / f"{TASK}.yaml"),
            "items": list(self._items),
            "batch_size": batch_size,
            "metric": METRIC,
        }
        assert self._process.stdin is not None
        print(json.dumps(told), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise SystemExit(f"the process with mergekit and lm-eval ended:\n{errors[-3000:]}")
        return json.loads(line)


class Ours:
    """A worker as a search has it."""

    def __init__(self, threads: int) -> None:
        words = [f"experiment={TASK}", f"execution.threads={threads}"]
        self._prepared = prepare(compose(words))
        self._executor = make_executor(self._prepared, StopSignal())
        self.items = self._prepared.harness.split_items(Split.SEARCH)[TASK]

    def run(self, recipe: Recipe) -> dict[str, Any]:
        """Build and score one recipe."""
        cpu, start = time.process_time(), time.perf_counter()
        self._executor.submit(Job(0, recipe, Split.SEARCH))
        outcome = self._executor.collect()
        seconds = time.perf_counter() - start
        if outcome.state is not State.COMPLETE:
            raise SystemExit(f"our candidate: {outcome.error}")
        scores = [score.metrics[METRIC] for score in outcome.scores]
        return {"seconds": seconds, "cpu": time.process_time() - cpu, "scores": scores}


def measure(ours: Ours, peer: Peer, pairs: int, tries: int) -> tuple[int, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Return the peer's best batch size, and what each pair took."""
    order = recipes(seed=0)
    first = [next(order), next(order)]
    for recipe in first:
        ours.run(recipe)
    peer.run(first[0], BATCH_SIZES[-1])
    best = min(
        BATCH_SIZES, key=lambda size: sum(peer.run(recipe, size)["parts"]["evaluate"] for recipe in first[:tries])
    )
    rows = []
    for number in range(pairs):
        recipe = next(order)
        theirs, mine = peer.run(recipe, best), ours.run(recipe)
        if theirs["scores"] != mine["scores"]:
            differ = sum(a != b for a, b in zip(theirs["scores"], mine["scores"], strict=True))
            raise SystemExit(f"recipe {number} ({recipe.method}): {differ} items have another score")
        rows.append((theirs, mine))
    return best, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", metavar="PYTHON", help="interpreter that has mergekit and lm-eval")
    parser.add_argument("--pairs", type=int, default=12, help="candidates of each side")
    parser.add_argument("--threads", type=int, default=1, help="of both; more only wait for each other")
    parser.add_argument("--quick", action="store_true", help="two pairs; under 50 seconds")
    parser.add_argument("--json", action="store_true", help="one object: name, ratio")
    arguments = parser.parse_args()
    if not arguments.mergekit:
        parser.error("--mergekit PYTHON is missing: an interpreter that has mergekit and lm-eval to compare with")
    torch.set_num_threads(arguments.threads)
    pairs, tries = (2, 1) if arguments.quick else (arguments.pairs, 2)
    peer = Peer(arguments.mergekit, arguments.threads)  # imports while ours does
    try:
        ours = Ours(arguments.threads)
        peer.start(ours.items)
        batch_size, rows = measure(ours, peer, pairs, tries)
    finally:
        peer.close()

    def median(values: Iterator[float]) -> float:
        return statistics.median(values)

    ratios = {
        "candidates per minute, ours / mergekit and lm-eval": median(a["seconds"] / b["seconds"] for a, b in rows),
        "the same without the note on the environment": median(
            (a["seconds"] - a["parts"]["environment"]) / b["seconds"] for a, b in rows
        ),
        "CPU time, mergekit and lm-eval / ours": median(a["cpu"] / b["cpu"] for a, b in rows),
    }
    for number, method in enumerate(("task arithmetic", "TIES")):
        ratios[f"candidates per minute, {method}"] = median(a["seconds"] / b["seconds"] for a, b in rows[number::2])
    if arguments.json:
        print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))
        return
    per_minute = [60 / median(row[side]["seconds"] for row in rows) for side in (0, 1)]
    print(f"{machine()}; {arguments.threads} thread(s) each, {len(rows)} pairs, scores equal")
    print(
        f"ours {per_minute[1]:.0f} candidates a minute, mergekit and lm-eval {per_minute[0]:.1f} (batch {batch_size})"
    )
    for part in rows[0][0]["parts"]:
        print(f"  theirs, {part}: {1e3 * median(row[0]['parts'][part] for row in rows):.0f} ms")
    cpu = [1e3 * median(row[side]["cpu"] for row in rows) for side in (0, 1)]
    print(f"  CPU time: theirs {cpu[0]:.0f} ms, ours {cpu[1]:.0f} ms")
    print(f"  ours, all: {1e3 * median(row[1]['seconds'] for row in rows):.0f} ms")
    for name, value in ratios.items():
        print(f"{name}: {value:.2f}")
    if ratios["candidates per minute, ours / mergekit and lm-eval"] < LIMIT:
        print(f"missed: the target is {LIMIT:g}", file=sys.stderr)


if __name__ == "__main__":
    main()
