"""LoRA adapters as parents, against dense parents: the memory of ten, and the time of a candidate.

    OMP_NUM_THREADS=1 python benchmarks/lora_parents.py [--quick] [--json] [--rank R] [--targets all] [--pairs N]

Memory: the proportional set size of a process of its own, after a candidate was written into a live model: once from
the base alone, once from ten adapters on it; the difference counts in shares of the base's bytes, beside that of the
adapters' own files. Time: task arithmetic with new weights each time, of two dense parents and of two adapters in turns
(ABAB); then the same of ten adapters. Every tensor that a dense parent has is written for it; what adapters leave alone
is written once. The figures are medians of ratios of neighbours, in CPU time. Random bf16 models of Qwen2-0.5B's shapes
(494M parameters; with `--quick` 74M); the adapters are fp32, as peft writes them.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import show
from merge_in_place import shapes, write_models
from safetensors.torch import load_file, save_file

from evomerge.merge.live.model import LiveModel
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe

TARGETS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
N_ADAPTERS = 10


def write_adapters(base: Path, folder: Path, rank: int, targets: tuple[str, ...]) -> list[Path]:
    """Write ten random adapters."""
    found = []
    names = {name: tensor.shape for name, tensor in load_file(base / "model.safetensors").items()}
    for number in range(N_ADAPTERS):
        generator = torch.Generator().manual_seed(number)
        tensors = {}
        for name, shape in names.items():
            module = name.removesuffix(".weight")
            if len(shape) == 2 and module.endswith(targets):
                a = torch.randn(rank, shape[1], generator=generator) / math.sqrt(shape[1])
                tensors[f"base_model.model.{module}.lora_A.weight"] = a
                tensors[f"base_model.model.{module}.lora_B.weight"] = 0.01 * torch.randn(
                    shape[0], rank, generator=generator
                )
        place = folder / f"adapter-{number}"
        place.mkdir()
        save_file(tensors, place / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets)}
        (place / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))
        found.append(place)
    return found


def candidate(base: Path, parents: list[Path], number: int) -> Recipe:
    """A recipe whose every weight differs from the last one's."""
    weights = {f"p{i}": 0.3 + 0.01 * ((number + i) % 20) for i in range(len(parents))}
    members = tuple(Parent(f"p{i}", ModelSource(str(path))) for i, path in enumerate(parents))
    return Recipe("task_arithmetic", members, Parent("base", ModelSource(str(base))), {"weight": weights})


def memory_of(base: Path, parents: list[Path]) -> int:
    """Return the proportional set size, in bytes, of a process after it has written a candidate of these parents."""
    words = [sys.executable, __file__, "--memory", str(base), *map(str, parents)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def _measure_memory(base: Path, parents: list[Path]) -> int:
    live = LiveModel(ModelSource(str(base)), sources=Sources())
    live.write(candidate(base, parents or [base], 0))
    # The base's own pages are in memory in either case.
    opened = live.sources.open(ModelSource(str(base)))
    for name in opened.tensors.infos:
        opened.load(name).float().sum()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is no memory of the models
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def times(base: Path, sides: dict[str, list[Path]], pairs: int) -> dict[str, list[float]]:
    """Return the CPU seconds of candidates of each side, in turns."""
    lives = {side: LiveModel(ModelSource(str(base)), sources=Sources()) for side in sides}
    found: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(pairs + 1):
        for side, parents in sides.items():
            recipe = candidate(base, parents, number)
            before = time.process_time()
            lives[side].write(recipe)
            if number:  # the first compiles kernels and reads the files
                found[side].append(time.process_time() - before)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", choices=TARGETS, default="attention")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--memory", nargs="+", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(_measure_memory(arguments.memory[0], arguments.memory[1:]))
        return
    with tempfile.TemporaryDirectory(prefix="lora-parents-") as name:
        folder = Path(name)
        dense = write_models(folder, shapes(arguments.quick))
        base = dense["base"]
        adapters = write_adapters(base, folder, arguments.rank, TARGETS[arguments.targets])
        size = (base / "model.safetensors").stat().st_size
        files = sum((path / "adapter_model.safetensors").stat().st_size for path in adapters)
        extra = memory_of(base, adapters) - memory_of(base, [])
        sides = {"dense": [dense["a"], dense["b"]], "two": adapters[:2], "ten": adapters}
        found = times(base, sides, arguments.pairs)

    def ratio(side: str) -> float:
        return statistics.median(a / b for a, b in zip(found[side], found["dense"], strict=True))

    show(
        {
            "memory of ten adapters / base": extra / size,
            "files of ten adapters / base": files / size,
            "two adapters / two dense": ratio("two"),
            "ten adapters / two dense": ratio("ten"),
        },
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
