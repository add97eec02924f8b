"""Estimates of models that are better than every known one: calibrated on the lower 70 % of models, for the upper 30 %.

    python benchmarks/estimators/extrapolation.py      # --quick: fewer draws and models; --json: name to number

Every response matrix of the shared data, models divided by their score. Each draw has its own calibration models (at
most 450 of the lower ones, four in five where there are few), targets (at most 100 of the upper ones), and random
items. Errors are mean absolute errors in points; beside them, in pairs over the draws, the difference to the plain
mean of as many random items, with its standard error. Below 0: better than the mean.

"search": the estimators of a search, the package's own scoring in generations of eight. Three models of the upper half
of the known ones are the parents, 48 better ones the candidates; genomes say nothing, and all of a generation get the
same items.
Data: $EVOMERGE_DATA, or ../shared/data beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from leaderboard import responses_folder

from evomerge.estimation import Estimate, Mixture, Responses, ask_adaptively, choose, make_estimator, read_responses
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.scoring import Scoring

ROOT = Path(__file__).parents[2]
FILES = {
    "gsm8k": "leaderboard_gsm8k_arc.npz",
    "arc": "leaderboard_gsm8k_arc.npz",
    "zeroeval": "zeroeval_gsm.npz",
    "mmlu-pro": "mmlu_pro_29x12032.npz",
}
UNIFORM = ("mean", "stratified", "calibrated-mean", "ridge", "p-irt", "gp-irt", "mixture", "aipw", "aipw-ridge")
LOWER, CALIBRATION, TARGETS = 0.7, 450, 100
CANDIDATES, GENERATION, PARENTS = 48, 8, 3

Table = dict[str, list[tuple[float, ...]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two draws, 40 targets, 10 and 30 items, no search")
    parser.add_argument("--matrices", nargs="+", default=list(FILES), choices=FILES)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=["estimate", "search"], choices=["estimate", "search"])
    parser.add_argument("--numbers", type=int, nargs="+", default=[10, 30, 100], help="of items asked")
    parser.add_argument("--intervals", action="store_true", help="measure how wide those of mixture must be; slow")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    data = responses_folder()
    if data is None:
        return 2
    numbers = arguments.numbers[:2] if arguments.quick else arguments.numbers
    table: Table = {}
    for matrix in arguments.matrices:
        responses = read_responses(data / FILES[matrix])
        if matrix in ("gsm8k", "arc"):
            responses = responses.of_items(name for name in responses.items if name.startswith(matrix))
        for seed in range(2 if arguments.quick else arguments.draws):
            start = time.process_time()
            known, better = divided(responses, seed, 40 if arguments.quick else TARGETS)
            if "estimate" in arguments.parts:
                estimate(table, matrix, known, better, numbers, seed, arguments.intervals)
            if "search" in arguments.parts and not arguments.quick:
                search(table, matrix, known, better, numbers, seed)
            print(f"{matrix} {seed}: {time.process_time() - start:.0f} s", file=sys.stderr, flush=True)
    show(table, arguments.json)
    return 0


def divided(responses: Responses, seed: int, targets: int) -> tuple[Responses, Responses]:
    """Known models, and targets that are better than every one of them."""
    rng = np.random.default_rng(seed)
    score, whole = responses.accuracy(), (~np.isnan(responses.R)).mean(1) > 0.8
    cut = np.quantile(score[whole], LOWER)
    low, high = np.flatnonzero(score <= cut), np.flatnonzero((score > cut) & whole)
    names = np.array(responses.models)
    low = rng.permutation(low)[: min(CALIBRATION, len(low) * 4 // 5 + 1)]
    return responses.of_models(names[low]), responses.of_models(names[rng.permutation(high)[:targets]])


def estimate(
    table: Table, matrix: str, known: Responses, better: Responses, numbers: list[int], seed: int, intervals: bool
) -> None:
    """Add the errors of the estimators of `evomerge estimate`."""
    truth, pool, rows = better.accuracy(), ~np.isnan(better.R), np.arange(better.n_models)
    fitted = {}
    for name in UNIFORM:
        fitted[name] = Mixture(calibrate=intervals) if name == "mixture" else make_estimator(name)
        fitted[name].fit(known, seed=seed)
    guide = fitted["mixture"]
    assert isinstance(guide, Mixture)
    for n in numbers:
        choice = choose("uniform", known, n, seed=seed)
        seen = np.full(better.R.shape, np.nan)
        seen[:, choice.items] = better.R[:, choice.items]
        plain = 0.0
        for name in UNIFORM:
            found = fitted[name].estimate(seen, pool=pool)
            line = measured(found, truth)
            plain = line[0] if name == "mean" else plain
            table.setdefault(f"{matrix} | uniform | {name} | {n}", []).append((*line, line[0] - plain))
        seen = ask_adaptively(guide, lambda items: np.where(items >= 0, better.R[rows, items], np.nan), n, pool)
        line = measured(guide.estimate(seen, pool=pool), truth)
        table.setdefault(f"{matrix} | adaptive | mixture | {n}", []).append((*line, line[0] - plain))


def measured(found: Estimate, truth: np.ndarray) -> tuple[float, float, float]:
    """Mean absolute error and bias in points, and the share of intervals of 90 % that hold the truth, in percent."""
    low, high = found.interval(0.9)
    off = 100 * (found.mean - truth)
    hold = 100 * ((low <= truth) & (truth <= high)).mean()
    return float(np.abs(off).mean()), float(off.mean()), float(hold)


def search(table: Table, matrix: str, known: Responses, better: Responses, numbers: list[int], seed: int) -> None:
    """Add the errors of the estimators of a search, whose candidates are better than all of its parents."""
    rng = np.random.default_rng(seed)
    whole = ~np.isnan(better.R).any(0) & ~np.isnan(known.R).all(0)
    score = known.accuracy()
    complete = np.flatnonzero((~np.isnan(known.R[:, whole])).all(1) & (score >= np.median(score)))
    parents = known.R[rng.permutation(complete)[:PARENTS]][:, whole]
    candidates = better.R[:, whole][rng.permutation(better.n_models)[:CANDIDATES]]
    points = rng.random((len(candidates), 4))
    for n in numbers:
        plain = np.zeros(3)
        for name, policy in (
            ("mean", "uniform"),
            ("mean", "stratified"),
            ("model", "uniform"),
            ("model", "stratified"),
        ):
            off, hold = one_search(parents, candidates, points, name, policy, n, seed)
            line = np.array([np.abs(off).mean(), off.mean(), hold])
            plain = line if (name, policy) == ("mean", "uniform") else plain
            key = f"{matrix} | search, {policy} | {name} | {n}"
            table.setdefault(key, []).append((*line.tolist(), float(line[0] - plain[0])))


def one_search(
    parents: np.ndarray, candidates: np.ndarray, points: np.ndarray, estimator: str, policy: str, n: int, seed: int
) -> tuple[np.ndarray, float]:
    """Return the candidates' errors in points, and the share of intervals of 95 % that hold the score, in percent."""
    sys.path.insert(0, str(ROOT / "benchmarks" / "simulator"))
    from run import ANY, Accuracy, scores_of

    n_items = parents.shape[1]
    table = ItemTable({"t": tuple(range(n_items))}, [Term("t", "t", 1.0)])
    scoring = Scoring(Accuracy(), table, items=n, choose=policy, estimator=estimator, seed=seed)
    for number, row in enumerate(parents):
        scoring.observe(-1 - number, None, scores_of(row, range(n_items)))
    off, hold = [], []
    for number in range(len(candidates)):
        scoring.enter(number, ANY, points[number], GENERATION)
        if number == len(candidates) - 1:
            scoring.close_generation()
        while questions := scoring.next_questions():
            for who, items in questions:
                scoring.answer(who, scores_of(candidates[who], items["t"]))
        for verdict in scoring.verdicts():
            truth = candidates[verdict.number].mean()
            off.append(100 * (verdict.result.objectives[0] - truth))
            hold.append(verdict.score.low <= truth <= verdict.score.high)
            scoring.observe(verdict.number, points[verdict.number], verdict.answers)
    return np.array(off), 100 * float(np.mean(hold))


def show(table: Table, as_json: bool) -> None:
    found = {}
    for name, lines in table.items():
        values = np.array(lines)
        of = dict(zip(("error", "bias", "coverage", "difference"), values.mean(0).tolist(), strict=True))
        of["standard error"] = float(values[:, 3].std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0
        found.update({f"{name} | {key}": round(value, 2) for key, value in of.items()})
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print("| models | items by | estimator | n | error | bias | error beyond the mean's | intervals hold |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for name in table:
        error, bias, gap, se, hold = (
            found[f"{name} | {key}"] for key in ("error", "bias", "difference", "standard error", "coverage")
        )
        print(f"| {name} | {error:.2f} | {bias:+.1f} | {gap:+.2f} ± {se:.2f} | {hold:.0f} % |")


if __name__ == "__main__":
    sys.exit(main())
