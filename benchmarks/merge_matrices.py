"""What a merge method on singular values costs for one matrix: found once per search, and for each candidate.

    PYTHONPATH=. python benchmarks/merge_matrices.py [--quick] [--json] [--sides 512 1024] [--rounds N]

Three fine-tunes of a square matrix in bfloat16 (one for LASER, which takes one) and their base. The first candidate
pays for the decompositions; each later one has other parameters of those that a search evolves. Ratios are to a
candidate of `linear` of the same parents, a fused pass. CPU time of one thread, medians. "LoRA": task vectors of rank
16, in fp32, where KnOTS keeps and multiplies little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, cast

import torch
from machine import show

from evomerge.merge.kernels.engine import KernelEngine, engine_for
from evomerge.merge.methods.base import Inputs
from evomerge.merge.methods.registry import find_method
from evomerge.merge.methods.tensor_at import TensorAt

CPU = torch.device("cpu")


class Cache:
    """What a preparation may use, for one tensor; see `evomerge.merge.methods.base.ParentTensors`."""

    name = "x"

    def __init__(self) -> None:
        self.engine: KernelEngine = engine_for(CPU)
        self._kept: dict[Hashable, Any] = {}

    def once(self, key: Hashable, find: Callable[[], Any], n_bytes: Any, **_: Any) -> Any:
        """Return what is kept under a key, or find and keep it."""
        if key not in self._kept:
            self._kept[key] = find()
        return self._kept[key]


def parents_of(side: int, *, lora: bool) -> list[torch.Tensor]:
    """A base and three fine-tunes."""
    generator = torch.Generator().manual_seed(side)
    base = 0.02 * torch.randn(side, side, generator=generator)
    if lora:
        down, up = (torch.randn(3, *shape, generator=generator) for shape in ((side, 16), (16, side)))
        return [torch.zeros_like(base), *(0.001 * down @ up)]
    made = [base, *(base + 0.001 * torch.randn(side, side, generator=generator) for _ in range(3))]
    return [each.bfloat16() for each in made]


def candidates(method: str) -> Iterator[dict[str, Any]]:
    """Values that a search would move, ever new ones."""
    step = 0.0
    while True:
        step += 0.01
        weight = (0.3 + step, 0.6 + step, 0.9 - step)
        yield {
            "linear": {"weight": weight},
            "task_arithmetic": {"weight": weight},
            "iso_c": {"alpha": 1.0 + step, "beta": 0.5 + step},
            "iso_cts": {"alpha": 1.0 + step, "beta": 0.5 + step},
            "tsv_m": {"weight": weight},
            "laser": {"rank": 0.3 + step},
            "knots": {"weight": weight, "density": (0.2 + step,) * 3},
            "twin": {"weight": weight, "rank": 0.1 + step},
        }[method]


def measure(method: str, tensors: Sequence[torch.Tensor], rounds: int) -> tuple[float, float]:
    """Return the seconds of the first candidate, and of a later one."""
    found = find_method(method)
    base, *parents = tensors
    parents = parents[: found.spec.n_parents[1]]
    at, cache, out = TensorAt("x", "mlp", 0, 1, tuple(base.shape)), Cache(), torch.empty(base.shape, dtype=base.dtype)
    seconds = []
    for values, _ in zip(candidates(method), range(rounds + 1), strict=False):
        full = {p.name: (p.default,) * len(parents) if p.per_parent else p.default for p in found.spec.parameters}
        full |= values
        start = time.process_time()
        here = full if found.values_at is None else found.values_at(full, at)
        inputs = Inputs(base if found.uses_base(here) else None, parents, here, at=at)
        if found.prepare is not None:
            inputs = Inputs(inputs.base, parents, here, prepared=found.prepare(inputs, cast(Any, cache)), at=at)
        program = None if found.program is None else found.program(inputs)
        if program is not None:
            cache.engine.run(program, inputs.base, parents, out)
        else:
            wide = Inputs(base.float(), [each.float() for each in parents], here, prepared=inputs.prepared, at=at)
            out.copy_(found.merge(wide))
        seconds.append(time.process_time() - start)
    return seconds[0], statistics.median(seconds[1:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="matrices of 128 × 128")
    parser.add_argument("--json", action="store_true", help="figures by name")
    parser.add_argument("--sides", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    for side in [128] if arguments.quick else arguments.sides:
        measure("linear", parents_of(side, lora=False), 1)  # compiles the kernels
        for kind in ("", " (LoRA)"):
            tensors = parents_of(side, lora=bool(kind))
            linear = measure("linear", tensors, 4 * arguments.rounds)[1]
            figures[f"{side} linear{kind}, ms"] = 1e3 * linear
            for method in ("iso_c", "iso_cts", "tsv_m", "laser", "knots", "twin"):
                first, later = measure(method, tensors, arguments.rounds)
                name = f"{side} {method}{kind}"
                figures |= {f"{name}, first, s": first, f"{name}, ms": 1e3 * later, f"{name}, × linear": later / linear}
    show(figures, as_json=arguments.json)


if __name__ == "__main__":
    main()
