"""How often 90 % intervals of `evomerge estimate` hold the truth, for models with and without kin among the known ones.

    python benchmarks/estimators/coverage.py      # --quick: fewer groups and models; --json: name to number

Matrices: GSM8K (552 items) and ARC (317 items) of Open LLM Leaderboard models; ZeroEval's GSM8K (1319 items, 43 models)
and MMLU-Pro (12032 items, 29 models), which are too small to leave families out; and, since the shared data holds no
matrix with thousands of items and models, made-up families (1200 items, see `family_world`).

- **kin**: targets of authors that are not among the calibration models; other authors' relatives are.
- **no kin**: all models whose names say one base (`BASES`), and their authors, are left out of the calibration.
- **far**: of the targets with kin, the third that agrees least with its nearest calibration model.
- **parents**: real merges whose parents are given.

Items are chosen adaptively. Data: $EVOMERGE_DATA, or ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from leaderboard import responses_folder, sample, with_parents

from evomerge.estimation import Mixture, Responses, ask_adaptively, read_responses

BASES = {
    "yi": "yi-|yi_|-34b",
    "mistral": "mistral|zephyr|hermes-2|openhermes|neural",
    "phi": "phi",
    "70b": "70b",
    "solar": "solar|10\\.7b",
    "code": "code",
}
"""Parts of names that say from which base a model was made; groups large enough to be targets."""
NUMBERS = (10, 30, 100)
MOST = 40
"""Targets of a group."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two bases, 10 and 30 items")
    parser.add_argument("--calibration", type=int, nargs="+", default=[450, 50], help="numbers of calibration models")
    parser.add_argument("--matrices", nargs="+", default=["arc", "gsm8k", "zeroeval", "mmlu-pro", "families"])
    parser.add_argument("--numbers", type=int, nargs="+", default=NUMBERS, help="of items asked")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    data = responses_folder()
    if data is None:
        return 2
    numbers = tuple(arguments.numbers)[: 2 if arguments.quick else None]
    bases = list(BASES)[: 2 if arguments.quick else None]
    table: dict[str, list[tuple[float, float, float]]] = {}
    for matrix in arguments.matrices:
        if matrix in ("arc", "gsm8k"):
            everything = read_responses(data / "leaderboard_gsm8k_arc.npz")
            responses = everything.of_items(name for name in everything.items if name.startswith(matrix))
            for m in arguments.calibration:
                for base in bases:
                    by_base(table, f"{matrix}, {m} models", responses, base, m, numbers)
                rows = json.loads((data / "merges_with_parents.json").read_text(encoding="utf-8"))
                known, merges, parents = with_parents(responses, rows)
                for seed in range(1 if arguments.quick else 2):
                    few = sample(known, m, seed)
                    measure(table, f"{matrix}, {m} models", {"parents": merges}, few, numbers, parents)
        elif matrix == "families":
            for seed in range(1 if arguments.quick else 3):
                calibration, kin, no_kin = family_world(seed)
                measure(table, matrix, {"kin": kin, "no kin": no_kin}, calibration, numbers)
        else:
            name = {"zeroeval": "zeroeval_gsm.npz", "mmlu-pro": "mmlu_pro_29x12032.npz"}[matrix]
            responses = read_responses(data / name)
            for seed in range(1 if arguments.quick else 3):
                order = np.random.default_rng(seed).permutation(responses.models)
                n = len(order) * 3 // 4
                targets = responses.of_models(order[n:])
                measure(table, matrix, {"kin": targets}, responses.of_models(order[:n]), numbers)
    show(table, arguments.json)
    return 0


def by_base(
    table: dict[str, list[tuple[float, float, float]]],
    what: str,
    responses: Responses,
    base: str,
    m: int,
    numbers: tuple[int, ...],
) -> None:
    """Estimate models of a base that is left out, and others, from the same calibration models."""
    rng = np.random.default_rng(1)
    names = np.array(responses.models)
    author = np.array([name.split("/")[0] for name in names])
    of_base = np.array([bool(re.search(BASES[base], name.lower())) for name in names])
    whole = (~np.isnan(responses.R)).mean(1) > 0.8

    def draw(these: np.ndarray, n: int) -> np.ndarray:
        return rng.permutation(np.flatnonzero(these))[:n]

    no_kin = draw(of_base & whole, MOST)
    kin = draw(~of_base & whole & ~np.isin(author, author[no_kin]), MOST)
    rest = ~of_base & ~np.isin(author, author[np.concatenate([no_kin, kin])])
    calibration = responses.of_models(names[draw(rest, m)])
    targets = {"kin": responses.of_models(names[kin]), "no kin": responses.of_models(names[no_kin])}
    measure(table, what, targets, calibration, numbers)


def measure(
    table: dict[str, list[tuple[float, float, float]]],
    what: str,
    groups: dict[str, Responses],
    calibration: Responses,
    numbers: tuple[int, ...],
    parents: list[Responses | None] | None = None,
) -> None:
    """Add for each target whether its interval holds the truth, the interval's width and the error, in points."""
    start = time.process_time()
    mixture = Mixture()
    mixture.fit(calibration)
    for name, targets in groups.items():
        truth, pool, rows = targets.accuracy(), ~np.isnan(targets.R), np.arange(targets.n_models)
        known = targets.of_items(calibration.items).R

        def answer(items: np.ndarray, known: np.ndarray = known, rows: np.ndarray = rows) -> np.ndarray:
            return np.where(items >= 0, known[rows, items], np.nan)

        for n in numbers:
            seen = ask_adaptively(mixture, answer, n, pool, parents)
            found = mixture.estimate(seen, pool=pool, parents=parents)
            low, high = found.interval(0.9)
            lines = np.column_stack([100.0 * ((low <= truth) & (truth <= high)), 100.0 * (high - low)])
            off = 100.0 * np.abs(found.mean - truth)[:, None]
            every = [tuple(line) for line in np.column_stack([lines, off]).tolist()]
            table.setdefault(f"{what} | {name} | {n}", []).extend(every)
            if name == "kin" and calibration.n_models >= 100:
                near = agreement(known, calibration.R)
                far = near <= np.quantile(near, 1 / 3)
                table.setdefault(f"{what} | far | {n}", []).extend(np.array(every)[far].tolist())
    print(f"{what} {', '.join(groups)}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)


def agreement(targets: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """Return the largest share of equal answers that each target has with a calibration model."""
    right, wrong = np.nan_to_num(targets), np.nan_to_num(1.0 - targets)
    both = (~np.isnan(targets)).astype(float) @ (~np.isnan(calibration)).astype(float).T
    same = right @ np.nan_to_num(calibration).T + wrong @ np.nan_to_num(1.0 - calibration).T
    return (same / np.maximum(both, 1.0)).max(axis=1)


def family_world(seed: int, n_items: int = 1200, models: int = 450) -> tuple[Responses, Responses, Responses]:
    """Return made-up calibration models of twenty bases, targets of these bases, and targets of ten other bases.

    Models of one base are alike in ability, and solve and fail items that their ability does not explain.
    """
    rng = np.random.default_rng(seed)
    slope = np.abs(rng.normal(0.0, 0.5, (n_items, 5))) * (rng.random((n_items, 5)) < 0.5) + 0.15
    easiness, sizes = rng.normal(0.5, 1.5, n_items), rng.zipf(1.6, 20).clip(1, 60) + 2
    ability, own = rng.normal(0.0, 0.9, (30, 5)), 0.9 * rng.normal(size=(30, n_items))

    def models_of(bases: np.ndarray, word: str) -> Responses:
        theta = ability[bases] + 0.3 * rng.normal(size=(len(bases), 5))
        logit = theta @ slope.T + easiness + own[bases] + 0.5 * rng.normal(size=(len(bases), n_items))
        R = (logit + 0.3 * rng.logistic(size=logit.shape) > 0).astype(float)
        names = tuple(f"{word}{row // 3}/model{row}" for row in range(len(bases)))
        return Responses(names, tuple(f"t/{item}" for item in range(n_items)), R)

    known, kin, no_kin = (rng.choice(20, n, p=sizes / sizes.sum()) for n in (models, MOST, 1))
    no_kin = rng.integers(20, 30, MOST)
    return models_of(known, "known"), models_of(kin, "kin"), models_of(no_kin, "other")


def show(table: dict[str, list[tuple[float, float, float]]], as_json: bool) -> None:
    if as_json:
        found = {}
        for name, values in table.items():
            for key, value in zip(("coverage", "width", "error"), np.mean(values, axis=0), strict=True):
                found[f"{name} | {key}"] = round(float(value), 2)
        print(json.dumps(found, indent=2))
        return
    print("| matrix | targets | n | models | 90 % intervals hold | width | error |\n|---|---|---:|---:|---:|---:|---:|")
    for name, values in table.items():
        hold, width, error = np.mean(values, axis=0)
        print(f"| {name} | {len(values)} | {hold:.0f} % | {width:.1f} | {error:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
