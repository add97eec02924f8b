"""A candidate written into a live model, against plain copies of the same parents' bytes.

    python benchmarks/merge_in_place.py [--quick] [--json] [--models FOLDER] [--methods …] [--pairs N]
        [--device cuda]

Floor: every parent that the method reads (and the base) is copied into the output, one after the other, by torch's own
copy on all its threads. Candidate: one `LiveModel.write` of a recipe whose parameters, densities among them, are new
each time; what does not depend on them has been prepared by a first write, which is timed apart. Random bf16 models of
Qwen2-0.5B's shapes (494M parameters; with `--quick` 74M, still more than a cache holds): three fine-tunes of a base.
Floor and candidate alternate; the figures are medians of the ratios of neighbours, in CPU time with one thread
(`OMP_NUM_THREADS=1`), else in time of the clock. With `--device cuda`
model, parents and copies are the GPU's (EVOMERGE_KERNELS=torch: without the fused kernel), and times are the clock's.
What is measured is the package that Python finds, so set `PYTHONPATH=.` for the one beside this file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2Config

from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.registry import find_method
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe

LIMITS = {
    "linear": 2.0,
    "task_arithmetic": 2.0,
    "slerp": 2.5,
    "nuslerp": 2.5,
    "multislerp": 2.0,
    "karcher": 2.0,
    "geometric_median": 2.0,
    "model_stock": 2.0,
    "nearswap": 2.0,
    "nuslerp (scope: row)": None,
    "arcee_fusion": None,
    "dare_linear": 3.5,
    "ties": 3.5,
    "dare_ties": 3.5,
    "ties (scope: model)": 3.5,
    "breadcrumbs": 3.5,
    "breadcrumbs (scope: tensor)": 4.0,
    "breadcrumbs_ties": 3.5,
    "della": 7.0,
    "della_linear": 7.0,
    "della (rescale: l1)": None,
    "ram": 3.5,
    "ramplus_tl": 3.5,
    "sce": 3.5,
    "rebase": 2.0,
    "expo": 2.0,
    "layer_swap": 2.0,
    "consensus_ta": None,
    "compeft": None,
    "compeft (scope: model)": None,
    "pcb": None,
    "pcb (scope: model)": None,
    "git_rebasin": None,
}
"""What each method must stay under, in times of the floor; None: there is no fused kernel, so there is no limit."""


def shapes(quick: bool) -> Qwen2Config:
    """Qwen2-0.5B, or the same with fewer layers and words."""
    full = {"vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    small = {"vocab_size": 16000, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 4}
    return Qwen2Config(
        **(small if quick else full),
        num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip


def write_models(folder: Path, config: Qwen2Config, device: str = "cpu") -> dict[str, Path]:
    """Write a base and three fine-tunes of it, each entry moved by a few percent."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names = {name: parameter.shape for name, parameter in model.named_parameters()}
    base: dict[str, torch.Tensor] = {}
    folders = {}
    for seed, who in enumerate(("base", "a", "b", "c")):
        generator = torch.Generator(device).manual_seed(seed)
        tensors = {}
        for name, shape in names.items():
            noise = torch.randn(shape, generator=generator, device=device)
            moved = noise.mul_(0.02) if who == "base" else noise.mul_(0.001).add_(base[name])
            tensors[name] = moved.bfloat16()
        base = base or tensors
        config.dtype, config.architectures = torch.bfloat16, ["Qwen2ForCausalLM"]
        config.save_pretrained(folder / who)
        here = {name: tensor.cpu() for name, tensor in tensors.items()}
        save_file(here, folder / who / "model.safetensors", metadata={"format": "pt"})
        folders[who] = folder / who
    return folders


def candidate(method: str, folders: dict[str, Path], number: int) -> Recipe:
    """A recipe of a method whose every gene differs from the last one's."""
    step = 0.01 * (number % 20)
    name, _, words = method.partition(" ")
    spec = find_method(name).spec
    weights = {who: 0.3 + 0.1 * i + step for i, who in enumerate("abc")}
    densities = {who: 0.15 + 0.2 * i + step for i, who in enumerate("abc")}
    given = {"weight": weights, "density": densities, "lambda": 1.1, "t": 0.3 + step, "exponent": 1.0 + step,
             "iqr_factor": 1.5 + step, "mix": 0.3 + step, "alpha": 0.5 + step,
             "gamma": 0.01 + step / 10, "r": 0.1 + step}  # fmt: skip
    given |= {"nearswap": {"t": 1e-3 + 1e-4 * step}, "task_arithmetic": {"lambda": 0.8},
              "sce": {"select_topk": 1.0}}.get(name, {})  # fmt: skip
    if name.startswith("della"):
        given["epsilon"] = 0.05 + step / 4
    names = "abc"[: spec.n_parents[1]]
    values: dict[str, Any] = {}
    for key, value in given.items():
        parameter = spec.parameter(key)
        if parameter is not None and isinstance(value, dict):
            values[key] = {who: value[who] for who in names} if parameter.per_parent else value["a"]
        elif parameter is not None:
            values[key] = value
    if words:
        key, value = words.strip("()").split(": ")
        values[key] = value
    parents = tuple(Parent(who, ModelSource(str(folders[who]))) for who in names)
    base = Parent("base", ModelSource(str(folders["base"]))) if spec.needs_base else None
    return Recipe(name, parents, base, values)


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """CPU time of a call, so that what else the machine does counts less; with several threads or a GPU the clock's."""
    clock = time.process_time if torch.get_num_threads() == 1 and device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def copies(live: LiveModel, sources: Sources, recipe: Recipe) -> Callable[[], None]:
    """Return a call that copies every input of a recipe into the live model's parameters."""
    family = sources.family(recipe)
    naming = family.model(family.donor).naming
    parameters = live.model.state_dict(keep_vars=True)
    pairs = [
        (parameters[naming.targets[tensor.name]], family.near(live.device, index, tensor.name))
        for index in range(len(family.members))
        for tensor in family.tensors
    ]

    def run() -> None:
        with torch.no_grad():
            for out, source in pairs:
                out.copy_(source)

    return run


def measure(
    folders: dict[str, Path], pairs: int, methods: Sequence[str], device: str = "cpu"
) -> dict[str, dict[str, float]]:
    """Time every method against its floor."""
    sources = Sources()
    place = torch.device("cpu") if device == "cpu" else torch.device(device, 0)
    live = LiveModel(ModelSource(str(folders["base"])), sources=sources, device=place)
    if device != "cpu":
        for source in folders.values():
            live.keep(sources.open(ModelSource(str(source))))
    figures = {}
    for method in methods:
        first = seconds(lambda: live.write(candidate(method, folders, 0)), device)  # noqa: B023
        floor = copies(live, sources, candidate(method, folders, 0))
        floor()
        rows = []
        for number in range(1, pairs + 1):
            of = candidate(method, folders, number)
            live._writer.forget()  # the copies have changed the model behind its back
            rows.append((seconds(floor, device), seconds(lambda: live.write(of), device)))  # noqa: B023
        figures[method] = {
            "ratio": statistics.median(merge / copy for copy, merge in rows),
            "floor": statistics.median(copy for copy, _ in rows),
            "seconds": statistics.median(merge for _, merge in rows),
            "first": first,
            "prepared": sources.parent_cache.used / 2**20,
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a model of 74M parameters")
    parser.add_argument("--json", action="store_true", help="print one object: method to ratio")
    parser.add_argument("--models", type=Path, help="folder to write the models into, and to leave them in")
    parser.add_argument("--methods", help=f"of {', '.join(LIMITS)}; separated by commas")
    parser.add_argument("--pairs", type=int, default=5, help="timed pairs for each method")
    parser.add_argument("--device", default="cpu", help="where the live model and the parents are: cpu or cuda")
    arguments = parser.parse_args()
    folder = arguments.models or Path(tempfile.mkdtemp(prefix="merge_in_place-"))
    try:
        names = {who: folder / who for who in ("base", "a", "b", "c")}
        there = all((path / "model.safetensors").is_file() for path in names.values())
        folders = names if there else write_models(folder, shapes(arguments.quick), arguments.device)
        methods = arguments.methods.split(",") if arguments.methods else list(LIMITS)
        figures = measure(folders, arguments.pairs, methods, arguments.device)
    finally:
        if arguments.models is None:
            shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps({method: round(row["ratio"], 3) for method, row in figures.items()}))
        return
    where = f"{torch.get_num_threads()} threads" if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(f"{where}; medians of {arguments.pairs} pairs")
    print("| method | × floor | limit | floor (s) | candidate (s) | first (s) | prepared in all (MiB) |")
    print("|---|---|---|---|---|---|---|")
    for method, row in figures.items():
        limit = LIMITS[method] or "–"
        print(f"| {method} | {row['ratio']:.2f} | {limit} | {row['floor']:.3f} | {row['seconds']:.3f} | "
              f"{row['first']:.2f} | {row['prepared']:.1f} |")  # fmt: skip


if __name__ == "__main__":
    main()
