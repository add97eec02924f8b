"""What it costs to go from one layer path to the next, against the evaluation of that candidate.

python benchmarks/path_switch.py [--quick] [--json] [--candidates N]

Each candidate is switched to and scored in turn, so both times of a ratio are of the same candidate and the same
minute. The paths are drawn as the paper's search draws them: all layers of both parents, twice over, each position
taken or left out, with scales. What a switch allocates is counted in passes of their own, since counting slows it down:

- tensors: the bytes of every storage that any torch operation makes during a switch, also for a moment;
- weights: the bytes of parameters and buffers of the model after a switch that are not those of its parents;
- Python objects: what tracemalloc sees during a switch, at its peak and left over; and the growth of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
from machine import machine
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe, Step
from evomerge.record import Split
from evomerge.zoo import tasks_path

MATH, JAPANESE = Parent("math", ModelSource("zoo:math")), Parent("japanese", ModelSource("zoo:japanese"))
MERGED = Parent("merged", Recipe("linear", (MATH, JAPANESE), dtype="float32"))
POOLS = {"two experts": (MATH, JAPANESE), "expert and merge": (MATH, MERGED)}
WARM_UP = 2
"""Candidates before the first that counts: they build the requests, and the first occurrences of most layers."""


def draw_paths(parents: tuple[Parent, ...], n_layers: int, n: int, seed: int) -> Iterator[Recipe]:
    """Paths of the paper's space: layers of all parents in sequence, twice; the first parent's layers are likely."""
    generator = np.random.default_rng(seed)
    first = parents[0].name
    for _ in range(n):
        path = [Step(first, 0)]
        for repeat in range(2):
            for parent in parents:
                likely = 0.9 if repeat == 0 and parent.name == first else 0.2
                for layer in range(n_layers):
                    if generator.random() < likely:
                        path.append(Step(parent.name, layer, float(np.exp(0.2 * generator.standard_normal()))))
        path.append(Step(first, n_layers - 1))
        yield Recipe("passthrough", parents, path=tuple(path), dtype="float32")


def every_layer(parents: tuple[Parent, ...], n_layers: int) -> tuple[Step, ...]:
    return tuple(Step(parent.name, layer) for parent in parents for layer in range(n_layers))


class CountedTensors(TorchDispatchMode):
    """Adds up the bytes of each storage that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage(tensor) for tensor in tree_leaves((args, kwargs or {})) if isinstance(tensor, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        made = {storage(tensor) for tensor in tree_leaves(out) if isinstance(tensor, torch.Tensor)}
        self.n_bytes += sum(n_bytes for _, n_bytes in made - given)
        return out


def storage(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()


def weights(model: Any) -> dict[int, int]:
    """Address to bytes of every parameter and buffer."""
    return dict(storage(tensor) for tensor in [*model.parameters(), *model.buffers()])


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_times(live: LiveModels, harness: Any, recipes: list[Recipe]) -> dict[str, Any]:
    switches, evaluations = [], []
    for recipe in recipes:
        start = time.perf_counter()
        live.write(recipe)
        switched = time.perf_counter()
        harness.score(live.model, live.tokenizer, Split.SEARCH)
        switches.append(switched - start)
        evaluations.append(time.perf_counter() - switched)
    pairs = list(zip(switches, evaluations, strict=True))[WARM_UP:]
    return {
        "switch_ms": 1e3 * statistics.median(switch for switch, _ in pairs),
        "evaluation_ms": 1e3 * statistics.median(evaluation for _, evaluation in pairs),
        "median": statistics.median(switch / evaluation for switch, evaluation in pairs),
        "worst": max(switch / evaluation for switch, evaluation in pairs),
    }


def measure_bytes(live: LiveModels, recipes: list[Recipe]) -> dict[str, Any]:
    """Bytes of the worst switch, of each kind; the recipes have not been live before."""
    new_weights, tensors, peaks, left = [], [], [], []
    third = len(recipes) // 3
    live.write(replace(recipes[0], path=every_layer(recipes[0].parents, recipes[0].path[-1].layer + 1)))
    held = weights(live.model)
    for recipe in recipes[:third]:
        with CountedTensors() as counted:
            live.write(recipe)
        new_weights.append(sum(n for address, n in weights(live.model).items() if address not in held))
        tensors.append(counted.n_bytes)
    tracemalloc.start()
    for recipe in recipes[third : 2 * third]:
        tracemalloc.reset_peak()
        before_bytes, _ = tracemalloc.get_traced_memory()
        live.write(recipe)
        now, peak = tracemalloc.get_traced_memory()
        peaks.append(peak - before_bytes)
        left.append(now - before_bytes)
    tracemalloc.stop()
    before_rss = resident()
    for recipe in recipes[2 * third :]:
        live.write(recipe)
    return {
        "model_bytes": sum(weights(live.model).values()),
        "new_weight_bytes": max(new_weights),
        "tensor_bytes": max(tensors),
        "python_peak_bytes": max(peaks),
        "python_left_bytes": statistics.median(left),
        "process_growth_bytes": (resident() - before_rss) / (len(recipes) - 2 * third),
    }


def measure_disk(live: LiveModels, recipes: list[Recipe], folder: Path) -> float:
    """Median ratio of a switch to what it replaces: building the candidate on disk and loading it."""
    from transformers import AutoModelForCausalLM

    ratios = []
    for i, recipe in enumerate(recipes):
        start = time.perf_counter()
        live.write(recipe)
        switched = time.perf_counter()
        AutoModelForCausalLM.from_pretrained(merge_to_disk(recipe, folder / str(i), sources=live.sources))
        ratios.append((switched - start) / (time.perf_counter() - switched))
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=30, help="timed candidates for each pool of parents")
    parser.add_argument("--quick", action="store_true", help="four candidates; under 50 seconds")
    parser.add_argument("--json", action="store_true", help="one object: name, ratio")
    arguments = parser.parse_args()
    n = 4 if arguments.quick else arguments.candidates
    torch.set_num_threads(1)
    sources = Sources()
    n_layers = sources.open(MATH.source).architecture.n_layers
    harness = LmHarness(
        [TaskSpec("zoo_ja_math", "acc", test="zoo_ja_math_test")],
        sizes=SplitSizes(search=100, validation=200, test=400),
        include_path=[tasks_path()],
        batch_size=128,
    )
    ratios: dict[str, float] = {}
    lines = [machine()]
    for name, parents in POOLS.items():
        live = LiveModels(dtype="float32", device="cpu", sources=sources)
        timed = measure_times(live, harness, list(draw_paths(parents, n_layers, n + WARM_UP, seed=0)))
        found = measure_bytes(live, list(draw_paths(parents, n_layers, 30, seed=1)))
        with tempfile.TemporaryDirectory() as folder:
            disk = measure_disk(live, list(draw_paths(parents, n_layers, 5, seed=2)), Path(folder))
        ratios |= {
            f"{name}: switch / evaluation, median": timed["median"],
            f"{name}: switch / evaluation, worst": timed["worst"],
            f"{name}: switch / build on disk and load, median": disk,
            f"{name}: new weight bytes / model bytes, worst": found["new_weight_bytes"] / found["model_bytes"],
            f"{name}: tensor bytes made / model bytes, worst": found["tensor_bytes"] / found["model_bytes"],
            f"{name}: Python bytes at the peak / model bytes, worst": found["python_peak_bytes"] / found["model_bytes"],
            f"{name}: process growth / model bytes, per switch": found["process_growth_bytes"] / found["model_bytes"],
        }
        lines.append(
            f"{name}: switch {timed['switch_ms']:.2f} ms, evaluation {timed['evaluation_ms']:.0f} ms (medians of {n}); "
            f"model {found['model_bytes']:,} bytes; a switch makes {found['new_weight_bytes']:,} bytes of weights, "
            f"{found['tensor_bytes']:,} of tensors; Python: {found['python_peak_bytes']:,} at the peak, "
            f"{found['python_left_bytes']:,.0f} left; process: {found['process_growth_bytes']:,.0f} more a switch"
        )
    if arguments.json:
        print(json.dumps(ratios, indent=2))
        return
    print("\n".join(lines), end="\n\n")
    for name, ratio in ratios.items():
        print(f"{ratio:10.5f}  {name}")


if __name__ == "__main__":
    main()
