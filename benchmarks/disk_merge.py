"""A merge from folders to a folder, against mergekit on the same folders, and against cat and cp of the same bytes.

    python benchmarks/disk_merge.py --mergekit PATH_TO_mergekit-yaml [--quick] [--json] [--models FOLDER] [--pairs N]

Both run as commands of their own, with the same number of threads, so interpreter, imports and plans count; `fixed` is
the same command on a model of 0.2M parameters, and `without fixed` are the ratios after taking that away. Random bf16
models of Qwen2-0.5B's shapes (494M parameters; with `--quick` 44M), read once before the first run. A pair is floor,
mergekit, evomerge, one after the other; the figures are medians of the ratios of neighbours. mergekit must be installed
apart (0.1.5 starts with pydantic 2.14).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from merge_in_place import shapes, write_models

LIMITS = {"linear": 4.0, "slerp": 5.0, "dare_ties": 8.0, "ties": 15.0}
"""How many times faster each method must be."""

WEIGHTS = {"a": 0.3, "b": 0.4, "c": 0.3}
DENSITIES = {"a": 0.3, "b": 0.4, "c": 0.5}


@dataclass(frozen=True)
class Cost:
    """Of a command: seconds of the clock and of all cores, and the most memory in bytes."""

    wall: float
    cpu: float
    memory: int


def run(command: Sequence[str], threads: int) -> Cost:
    """Run a command and wait for it.

    Raises:
        SystemExit: with what it printed, if it fails.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # both keep what Python compiles, as they do for their users
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')[-3000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def recipe(method: str, folders: dict[str, Path]) -> dict[str, object]:
    """The recipe of a method as evomerge reads it."""
    parents = "ab" if method == "slerp" else "abc"
    data: dict[str, object] = {"method": method, "parents": {who: {"path": str(folders[who])} for who in parents}}
    if method == "slerp":
        return {**data, "parameters": {"t": 0.4}}
    if method == "linear":
        return {**data, "parameters": {"weight": WEIGHTS}}
    return {**data, "base": {"path": str(folders["base"])}, "parameters": {"weight": WEIGHTS, "density": DENSITIES}}


def peer_recipe(method: str, folders: dict[str, Path]) -> dict[str, object]:
    """The same for mergekit."""
    parents = "ab" if method == "slerp" else "abc"
    models = [{"model": str(folders[who])} for who in parents]
    if method == "slerp":
        return {"merge_method": method, "base_model": str(folders["a"]), "models": models, "dtype": "bfloat16",
                "parameters": {"t": 0.4}}  # fmt: skip
    names = ("weight",) if method == "linear" else ("weight", "density")
    for who, model in zip(parents, models, strict=True):
        model["parameters"] = {name: {"weight": WEIGHTS, "density": DENSITIES}[name][who] for name in names}  # type: ignore[assignment]
    data: dict[str, object] = {"merge_method": method, "models": models, "dtype": "bfloat16"}
    return data if method == "linear" else {**data, "base_model": str(folders["base"])}


class Bench:
    """Commands on one family of models."""

    def __init__(self, folder: Path, folders: dict[str, Path], mergekit: str, threads: int) -> None:
        self.folder, self.folders, self.mergekit, self.threads = folder, folders, mergekit, threads

    def floor(self, method: str) -> Cost:
        """Read what the method reads, and write as much as it writes."""
        who = ["a", "b"] if method == "slerp" else ["a", "b", "c"] if method == "linear" else ["base", "a", "b", "c"]
        files = [str(self.folders[each] / "model.safetensors") for each in who]
        out = self.folder / "floor.safetensors"
        try:
            return run(["sh", "-c", 'out=$1; shift; cat "$@" > /dev/null; cp "$1" "$out"', "sh", str(out), *files], 1)
        finally:
            out.unlink(missing_ok=True)

    def peer(self, method: str) -> Cost:
        """Merge with mergekit."""
        return self._merge(method, peer_recipe(method, self.folders), [self.mergekit])

    def ours(self, method: str) -> Cost:
        """Merge with evomerge."""
        return self._merge(method, recipe(method, self.folders), [sys.executable, "-m", "evomerge", "merge"])

    def _merge(self, method: str, data: dict[str, object], command: list[str]) -> Cost:
        path, out = self.folder / f"{method}.yaml", self.folder / "out"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        try:
            return run([*command, str(path), str(out)], self.threads)
        finally:
            shutil.rmtree(out, ignore_errors=True)


def measure(bench: Bench, fixed: Bench, methods: Sequence[str], pairs: int, quick: bool) -> dict[str, dict[str, float]]:
    """Time every method against mergekit and its floor; if `quick`, without what mergekit's start takes."""
    figures = {}
    if not quick:
        fixed.peer(methods[0])  # compiles what is not yet compiled on this machine
    nothing = Cost(math.nan, math.nan, 0)
    peer_idle = nothing if quick else fixed.peer(methods[0])  # imports, whatever the method
    for method in methods:
        fixed.ours(method)
        idle = peer_idle, nothing if quick else fixed.ours(method)
        rows = [(bench.floor(method), bench.peer(method), bench.ours(method)) for _ in range(pairs)]
        median = statistics.median
        figures[method] = {
            "times faster": median(peer.wall / ours.wall for _, peer, ours in rows),
            "times less CPU": median(peer.cpu / ours.cpu for _, peer, ours in rows),
            "without fixed": median(
                (peer.wall - idle[0].wall) / max(1e-3, ours.wall - idle[1].wall) for _, peer, ours in rows
            ),
            "without fixed, CPU": median(
                (peer.cpu - idle[0].cpu) / max(1e-3, ours.cpu - idle[1].cpu) for _, peer, ours in rows
            ),
            "times the floor": median(ours.wall / floor.wall for floor, _, ours in rows),
            "mergekit times the floor": median(peer.wall / floor.wall for floor, peer, _ in rows),
            "memory / mergekit's": median(ours.memory / peer.memory for _, peer, ours in rows),
            "memory (GB)": median(ours.memory for *_, ours in rows) / 1e9,
            "mergekit's memory (GB)": median(peer.memory for _, peer, _ in rows) / 1e9,
            "seconds": median(ours.wall for *_, ours in rows),
            "CPU seconds": median(ours.cpu for *_, ours in rows),
            "mergekit's CPU seconds": median(peer.cpu for _, peer, _ in rows),
            "fixed CPU seconds": idle[1].cpu,
            "mergekit's fixed CPU seconds": idle[0].cpu,
        }
        print(method, json.dumps({name: round(value, 3) for name, value in figures[method].items()}), file=sys.stderr)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mergekit", required=True, help="the mergekit-yaml to compare with")
    parser.add_argument("--quick", action="store_true", help="a model of 44M parameters, linear and ties, one pair")
    parser.add_argument("--json", action="store_true", help="print one object: method to times faster")
    parser.add_argument("--models", type=Path, help="folder to write the models into, and to leave them in")
    parser.add_argument("--methods", help=f"of {', '.join(LIMITS)}; separated by commas")
    parser.add_argument("--pairs", type=int, default=3, help="timed pairs for each method")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both (all cores)")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",") if arguments.methods else list(LIMITS)
    pairs = arguments.pairs
    if arguments.quick:
        methods, pairs = ["linear", "ties"], 1
    work = Path(tempfile.mkdtemp(prefix="disk_merge-", dir=arguments.models))
    try:
        models = arguments.models or work / "models"
        names = {who: models / who for who in ("base", "a", "b", "c")}
        there = all((path / "model.safetensors").is_file() for path in names.values())
        shape = shapes(arguments.quick)
        if arguments.quick:
            shape.num_hidden_layers, shape.layer_types, shape.max_window_layers = 2, ["full_attention"] * 2, 2
        folders = names if there else write_models(models, shape)
        tiny = shapes(quick=True)
        tiny.vocab_size, tiny.hidden_size, tiny.intermediate_size, tiny.num_hidden_layers = 512, 56, 128, 2
        tiny.layer_types, tiny.max_window_layers = ["full_attention"] * 2, 2
        (work / "fixed").mkdir()
        fixed = Bench(
            work / "fixed", write_models(work / "fixed" / "models", tiny), arguments.mergekit, arguments.threads
        )
        figures = measure(
            Bench(work, folders, arguments.mergekit, arguments.threads), fixed, methods, pairs, arguments.quick
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if arguments.json:
        print(json.dumps({method: round(row["times faster"], 2) for method, row in figures.items()}))
        return
    print(f"{arguments.threads} threads; medians of {pairs} pairs")
    heads = list(next(iter(figures.values())))
    print(f"| method | at least | {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) + 1)}")
    for method, row in figures.items():
        print(f"| {method} | {LIMITS[method]:g} | {' | '.join(f'{row[head]:.2f}' for head in heads)} |")


if __name__ == "__main__":
    main()
