"""Where the time of a candidate goes: forward passes and everything else, on the zoo with 100 items.

python benchmarks/candidate_time.py [--quick] [--json] [--rounds N]

A candidate is merged in memory and scored, each time with other weights, through both engines in turn. Time inside the
model's `forward` is the forward passes; "everything else" is the merge, what surrounds the passes (masks, picking
tokens, looking for stop texts, rows that leave), the text of the answers, filters and metrics. The process's CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from machine import machine
from transformers import AutoTokenizer

from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.merge.live.model import LiveModel
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Split
from evomerge.zoo import tasks_path, zoo_path

PARENTS = tuple(Parent(name, ModelSource(f"zoo:{name}")) for name in ("math", "japanese"))
BASE = Parent("base", ModelSource("zoo:base"))


@contextmanager
def inside_forward(model: Any) -> Iterator[list[float]]:
    """Note the CPU seconds of each forward pass, in a list."""
    seconds: list[float] = []
    started: list[float] = []
    hooks = [
        model.register_forward_pre_hook(lambda *_: started.append(time.process_time())),
        model.register_forward_hook(lambda *_: seconds.append(time.process_time() - started.pop())),
    ]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="candidates")
    parser.add_argument("--quick", action="store_true", help="five candidates; under 50 seconds")
    parser.add_argument("--json", action="store_true", help="one object: name, ratio")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    live = LiveModel(BASE.source, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(zoo_path("base"))
    harnesses = {
        engine: LmHarness(
            [TaskSpec("zoo_ja_math", "acc", test="zoo_ja_math_test")],
            sizes=SplitSizes(search=100, validation=200, test=400),
            include_path=[tasks_path()],
            batch_size=128,
            engine=engine,
        )
        for engine in ("lm-eval", "hf")
    }
    times: dict[str, list[dict[str, float]]] = {engine: [] for engine in harnesses}
    rounds = 5 if arguments.quick else arguments.rounds
    for i in range(rounds + 1):  # the first one builds the requests
        weight = 0.5 + 0.5 * i / rounds
        scores = []
        for engine, harness in harnesses.items():
            # Another candidate, untimed: what is in the model already would not be written again.
            live.write(Recipe("task_arithmetic", PARENTS, BASE, {"weight": 0.1, "lambda": 1.0}, dtype="float32"))
            start = time.process_time()
            live.write(Recipe("task_arithmetic", PARENTS, BASE, {"weight": weight, "lambda": 1.0}, dtype="float32"))
            merged = time.process_time()
            with inside_forward(live.model) as passes:
                scores.append(harness.score(live.model, tokenizer, Split.SEARCH))
            end = time.process_time()
            if i:
                times[engine].append(
                    {"all": end - start, "merge": merged - start, "forward": sum(passes), "passes": len(passes)}
                )
        if scores[0] != scores[1]:
            raise SystemExit(f"weight {weight}: the two engines give different scores")

    def median(engine: str, part: str) -> float:
        return statistics.median(one[part] for one in times[engine])

    ratios = {
        "candidate, lm-eval / ours": statistics.median(
            old["all"] / new["all"] for old, new in zip(times["lm-eval"], times["hf"], strict=True)
        ),
        "everything but forward passes / candidate": statistics.median(
            1 - one["forward"] / one["all"] for one in times["hf"]
        ),
        "everything but forward passes and merge / candidate": statistics.median(
            1 - (one["forward"] + one["merge"]) / one["all"] for one in times["hf"]
        ),
    }
    if arguments.json:
        print(json.dumps(ratios))
        return
    print(f"{machine()}, float32, {rounds} candidates")
    print("engine     candidate ms   merge   forward   the rest   passes")
    for engine in harnesses:
        whole, merge, forward = (1e3 * median(engine, part) for part in ("all", "merge", "forward"))
        rest = whole - merge - forward
        print(
            f"{engine:<10} {whole:>12.0f} {merge:>7.0f} {forward:>9.0f} {rest:>10.0f} {median(engine, 'passes'):>8.0f}"
        )
    for key, value in ratios.items():
        print(f"{key}: {value:.3f}")


if __name__ == "__main__":
    main()
