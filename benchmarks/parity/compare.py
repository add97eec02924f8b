"""The same recipes merged by mergekit and by evomerge, compared entry by entry.

    python benchmarks/parity/compare.py [--methods ties,…] [--families llama,…] [--environment FOLDER]
        [--quick] [--json]

An environment with mergekit is made in FOLDER (`outputs/mergekit`, if none is given) from the package index, unless it
stands there already. Random Llama, Qwen2 (tied) and Mistral checkpoints of three layers are written in float32 and
bfloat16, in one file and in several, and every recipe of `recipes.py` is merged with both. In bfloat16 mergekit is told
to compute in float32, as evomerge always does.

A row says how many entries differ, and the largest difference in units in the last place: of the largest of the result
and its inputs, and of the result alone, which says little where a sum cancels. Methods that draw at random are compared
by the share of entries that left the base, the mean and the norm of what was added to it, as evomerge / mergekit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from models import DTYPES, FAMILIES, N_LAYERS, write_family
from recipes import CASES, Case
from safetensors.torch import load_file

from evomerge import api
from evomerge.errors import EvomergeError

VERSION = "0.1.5"
MANTISSA = {torch.float32: 23, torch.bfloat16: 7}
NEAR = 3.0
"""Up to how many units of the inputs a difference comes from the order of roundings alone."""

TINIEST = 1e-30
"""Below this, a unit in the last place is not that of a normal number."""


class Mergekit:
    """mergekit in a process of its own."""

    def __init__(self, environment: Path) -> None:
        python = environment / "bin" / "python"
        if not python.exists():
            venv.create(environment, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "-q", f"mergekit=={VERSION}"], check=True)
        peer = Path(__file__).with_name("peer.py")
        self._process = subprocess.Popen(
            [python, peer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def merge(self, recipe: Mapping[str, Any], out: Path, seed: int) -> str | None:
        """Merge into a folder; return what went wrong, if anything."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"recipe": recipe, "out": str(out), "seed": seed}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        error: str | None = json.loads(answer)["error"] if answer else "mergekit's process ended"
        return error

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint."""
    return {name: x for path in sorted(folder.glob("*.safetensors")) for name, x in load_file(path).items()}


def units(size: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the distance of neighbouring numbers of a type at some magnitudes, in float64."""
    exponent = torch.frexp(size.double().clamp_min(TINIEST)).exponent - 1
    return torch.ldexp(torch.ones_like(size, dtype=torch.float64), exponent - MANTISSA[dtype])


def differences(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor],
                inputs: Mapping[str, torch.Tensor]) -> dict[str, float]:  # fmt: skip
    """Return how two results differ, with the largest magnitude of the inputs at each entry."""
    n, unequal, far, worst, worst_of_inputs = 0, 0, 0, 0.0, 0.0
    for name, mine in ours.items():
        other = theirs[name]
        gap = (mine.double() - other.double()).abs()
        size = torch.maximum(mine.double().abs(), other.double().abs())
        n, unequal = n + gap.numel(), unequal + int((gap > 0).sum())
        worst = max(worst, float((gap / units(size, mine.dtype)).max()))
        if name in inputs:
            size = torch.maximum(size, inputs[name])
        apart = gap / units(size, mine.dtype)
        far += int((apart > NEAR).sum())
        worst_of_inputs = max(worst_of_inputs, float(apart.max()))
    return {"unequal": unequal / n, "far": far / n, "ulps": worst, "ulps of inputs": worst_of_inputs}


def moments(out: Mapping[str, torch.Tensor], base: Mapping[str, torch.Tensor]) -> tuple[float, float, float]:
    """Return the share of entries that left the base, and the mean size and the norm of what was added."""
    added = torch.cat([(x.double() - base[name].double()).flatten() for name, x in out.items()])
    return float((added != 0).double().mean()), float(added.abs().mean()), float(added.norm())


def largest(folders: Mapping[str, Path], names: str) -> dict[str, torch.Tensor]:
    """Return the largest magnitude among the inputs at each entry."""
    models = [tensors_of(folders[who]) for who in ("base", *names)]
    return {name: torch.stack([each[name].double().abs() for each in models]).amax(0) for name in models[0]}


def compare(case: Case, folders: Mapping[str, Path], dtype: str, peer: Mergekit, seed: int) -> dict[str, Any]:
    """Merge one recipe with both, and return the figures or what went wrong."""
    recipe = case.recipe(folders, N_LAYERS)
    recipe |= {"dtype": "float32", "out_dtype": dtype} if dtype != "float32" else {"dtype": "float32"}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        error = peer.merge(recipe, place / "theirs", seed)
        if error is not None:
            return {"mergekit": error}
        (place / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        try:
            api.merge(place / "recipe.yaml", place / "ours")
        except EvomergeError as caught:
            return {"evomerge": str(caught)}
        ours, theirs = tensors_of(place / "ours"), tensors_of(place / "theirs")
    if set(ours) - set(theirs):
        return {"mergekit": f"lacks {sorted(set(ours) - set(theirs))}"}
    if case.random:
        pairs = zip(*(moments(x, tensors_of(folders["base"])) for x in (ours, theirs)), strict=True)
        return dict(zip(("kept", "mean", "norm"), (mine / other for mine, other in pairs), strict=True))
    return differences(ours, theirs, largest(folders, case.models) if case.method != "passthrough" else {})


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="of the rows of recipes.py, by mergekit's names; separated by commas")
    parser.add_argument("--families", help=f"separated by commas; all of {','.join(FAMILIES)} unless told otherwise")
    parser.add_argument("--environment", type=Path, default=Path("outputs/mergekit"), help="where mergekit is")
    parser.add_argument("--quick", action="store_true", help="the first family alone, in one file")
    parser.add_argument("--json", action="store_true", help="print one object: row, then dtype, to figures")
    arguments = parser.parse_args()
    wanted = arguments.methods.split(",") if arguments.methods else sorted({case.method for case in CASES.values()})
    cases = {name: case for name, case in CASES.items() if case.method in wanted}
    families = arguments.families.split(",") if arguments.families else list(FAMILIES)[: 1 if arguments.quick else None]
    peer = Mergekit(arguments.environment)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {dtype: [] for dtype in DTYPES} for name in cases}
    torch.set_num_threads(1)
    try:
        for family in families:
            for dtype in DTYPES:
                for sharded in (False,) if arguments.quick else (False, True):
                    with tempfile.TemporaryDirectory() as scratch:
                        folders = write_family(Path(scratch), family, dtype, sharded=sharded)
                        for name, case in cases.items():
                            found[name][dtype].append(compare(case, folders, dtype, peer, seed=len(found)))
                    print(f"{family} {dtype}{' sharded' if sharded else ''}", file=sys.stderr)
    finally:
        peer.close()
    rows = {name: {dtype: summary(each) for dtype, each in by.items()} for name, by in found.items()}
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print(table(rows))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the worst of some runs, of ratios the one that is farthest from 1, with the first error of either."""
    errors = {who: each[who] for each in reversed(runs) for who in ("mergekit", "evomerge") if who in each}
    done = [each for each in runs if not errors.keys() & each.keys()]
    worst = {
        key: max((each[key] for each in done), key=lambda x: abs(x - 1.0) if key in ("kept", "mean", "norm") else x)
        for key in (done[0] if done else {})
    }
    return worst | errors


def table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the rows as Markdown."""
    exact = [
        f"| recipe | dtype | entries that differ | by more than {NEAR:g} ulps of the inputs "
        "| largest, ulps of the inputs | of the result |",
        "|---|---|---:|---:|---:|---:|",
    ]
    drawn = ["| recipe | dtype | kept share | mean size | norm |", "|---|---|---:|---:|---:|"]
    failed = ["| recipe | dtype | what went wrong |", "|---|---|---|"]
    for name, by in rows.items():
        for dtype, figures in by.items():
            if "ulps" in figures:
                shares = " | ".join(f"{100 * figures[key]:.3g} %" for key in ("unequal", "far"))
                sizes = " | ".join(f"{figures[key]:.3g}" for key in ("ulps of inputs", "ulps"))
                exact.append(f"| {name} | {dtype} | {shares} | {sizes} |")
            elif "kept" in figures:
                ratios = " | ".join(f"{figures[key]:.4f}" for key in ("kept", "mean", "norm"))
                drawn.append(f"| {name} | {dtype} | {ratios} |")
            for who in ("mergekit", "evomerge"):
                if who in figures:
                    failed.append(f"| {name} | {dtype} | {who}: {' '.join(figures[who].split())[:200]} |")
    return "\n\n".join("\n".join(part) for part in (exact, drawn, failed) if len(part) > 2)


if __name__ == "__main__":
    main()
