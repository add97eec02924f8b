"""Whole searches in the simulator: what is found, for how many evaluated items, under which settings.

python benchmarks/simulator/run.py            # the table; --searches N a setting, --workers 2; --quick; --json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from world import Law, Settings, World, fit, load

from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.optimizers.cma_es import CMA
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Objective, Result, Score
from evomerge.search.consensus import LEAST, SHARE

PARENTS = 3


@dataclass(frozen=True)
class Plan:
    """How one search is run. `items` None: all."""

    name: str
    items: int | None
    candidates: int
    choose: str = "stratified"
    estimator: str = "model"
    race: str | None = None
    fresh: bool = True


ANY = Recipe("linear", (Parent("any", ModelSource("any")),), parameters={"weight": 1.0})
"""The recipe of every candidate: only the models are simulated, so nothing looks at it."""


class Accuracy:
    """The mean of the answers, as the real judge gives it."""

    objectives = (Objective("t", "maximize"),)
    references = ()

    def answers(self, scores, split=None):
        """Return the answers."""
        return {"t": {score.item: score.metrics["acc"] for score in scores}}

    def result(self, scores, split=None, recipe=None):
        """Return their mean."""
        return Result((self.score(scores).mean,))

    def result_of(self, means, recipe=None):
        """Return their mean, which is there already."""
        return Result((means[0],))

    def of_recipe(self, recipe):
        """Return 0: a recipe adds nothing."""
        return 0.0

    def score(self, scores, split=None):
        """Return it as a score."""
        return Score(float(np.mean([score.metrics["acc"] for score in scores])), 0.0, 1.0, len(scores))


def one_search(plan: Plan, law: Law, settings: Settings, parents: np.ndarray, seed: int) -> dict[str, float]:
    """Run one search with the package's own optimizer, scoring and race; only the models are simulated."""
    world = World(parents, law, settings, seed)
    n = world.n_items
    race = None if plan.race is None else Race(plan.race, block=max(1, (plan.items or n) // 3))
    table = ItemTable({"t": tuple(range(n))}, [Term("t", "t", 1.0)])
    scoring = Scoring(
        Accuracy(),
        table,
        items=plan.items,
        choose=plan.choose,
        fresh=plan.fresh,
        estimator=plan.estimator,
        race=race,
        seed=seed,
    )
    for number, row in enumerate(world.parents):
        scoring.observe(-1 - number, None, scores_of(row, range(n)))
    d = settings.genes
    optimizer = CMA(d, np.full(d, 0.5), seed)
    points, rows, fitness, proposals = {}, {}, {}, {}
    spent = 0
    for number in range(plan.candidates):
        proposal = optimizer.ask()
        proposals[number] = proposal.number
        points[number] = np.array(proposal.x)
        rows[number] = world.answers(points[number])
        scoring.enter(number, ANY, points[number], optimizer.population)
        if number == plan.candidates - 1:
            scoring.close_generation()
        while questions := scoring.next_questions():
            for who, items in questions:
                asked = range(n) if items is None else items["t"]
                spent += len(asked)
                scoring.answer(who, scores_of(rows[who], asked))
        for verdict in scoring.verdicts():
            fitness[verdict.number] = verdict.result.objectives[0]
            optimizer.tell(proposals[verdict.number], verdict.result)
            scoring.observe(verdict.number, points[verdict.number], verdict.answers)
    worth = fitness
    if scoring.learns:
        found = scoring.re_estimate(dict.fromkeys(fitness, ANY))
        worth = {number: result.objectives[0] for number, result in found.items()}
    ranked = sorted(worth, key=lambda number: -worth[number])
    # Eight finalists meet 200 validation items, as in a real search: the seven best, and the mean of the best tenth,
    # which wins unless another one is ahead by more than a standard error.
    best = ranked[: max(LEAST, round(SHARE * len(ranked)))]
    consensus = np.mean([points[number] for number in best], axis=0)
    spent += scoring.items_per_candidate
    finalists = [consensus, *(points[number] for number in ranked[:7])]
    answers = [world.validation(x, 200, seed) for x in finalists]
    winner = int(np.argmax([row.mean() for row in answers]))
    gap = answers[winner] - answers[0]
    if gap.mean() <= gap.std(ddof=1) / 200**0.5:
        winner = 0
    full = {number: float(rows[number].mean()) for number in fitness}
    errors = [abs(fitness[number] - full[number]) for number in fitness]
    return {
        "found": world.worth(finalists[winner]),
        "items": float(spent),
        "error": float(np.mean(errors)),
        "top": max(world.worth(world.top), 0.0),
        "start": world.worth(np.full(d, 0.5)),
    }


def scores_of(row: np.ndarray, items) -> list[ItemScore]:
    """Return item scores of a row."""
    return [ItemScore("t", item, {"acc": float(row[item])}) for item in items]


def parents_of(matrix: np.ndarray, models: list[str], merges: list[dict], seed: int) -> np.ndarray:
    """Return the rows of parents of real merges that answered every item."""
    names = sorted({name for merge in merges for name in merge["parents"]})
    row = {name: index for index, name in enumerate(models)}
    known = [row[name] for name in names if name in row and (matrix[row[name]] >= 0).all()]
    return matrix[np.random.default_rng([seed, 5]).choice(known, PARENTS, replace=False)]


def work(job: tuple[Plan, Law, Settings, np.ndarray, int]) -> dict[str, float]:
    """Run one job of the pool of processes."""
    return one_search(*job)


PLANS = [
    Plan("all items", None, 50),
    Plan("all items", None, 100),
    Plan("all items", None, 200),
    Plan("mean, stratified", 10, 200, estimator="mean"),
    Plan("mean, stratified", 30, 200, estimator="mean"),
    Plan("model, stratified", 5, 200),
    Plan("model, stratified", 10, 200),
    Plan("model, stratified", 30, 200),
    Plan("model, stratified, same items", 10, 200, fresh=False),
    Plan("model, uniform", 10, 200, choose="uniform"),
    Plan("model, information", 10, 200, choose="information"),
    Plan("model, stratified, posterior", 10, 200, race="posterior"),
    Plan("model, stratified, halving", 10, 200, race="halving"),
]


def data_folder() -> Path:
    """Return where the response matrices are."""
    return Path(os.environ.get("EVOMERGE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def main() -> None:
    """Run the plans and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=30, help="a plan")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="three plans, eight searches each")
    parser.add_argument("--json", action="store_true", help="print one object: name to ratio")
    arguments = parser.parse_args()
    folder = data_folder()
    if not (folder / "responses").is_dir():
        sys.exit(f"the response matrices are not at {folder}; set EVOMERGE_DATA to the folder that holds responses/")
    matrix, models, merges = load(folder)
    law = fit(matrix, models, merges)
    plans = PLANS
    if arguments.quick:
        plans = [p for p in PLANS if p.candidates == 200 and p.name in ("all items", "model, stratified")][:3]
        arguments.searches = min(arguments.searches, 4)
    results = {}
    begun = time.time()
    with ProcessPoolExecutor(arguments.workers) as pool:
        for plan in plans:
            jobs = [
                (plan, law, Settings(), parents_of(matrix, models, merges, seed), seed)
                for seed in range(arguments.searches)
            ]
            found = list(pool.map(work, jobs, chunksize=2))
            results[plan] = found
            score = np.array([one["found"] for one in found])
            items = np.mean([one["items"] for one in found])
            line = f"{plan.name:38} {plan.candidates:4} x {plan.items or 'all':>4} items {items:9.0f}  "
            line += f"found {100 * score.mean():5.1f} ± {100 * score.std(ddof=1) / len(score) ** 0.5:3.1f}  "
            line += f"error {100 * np.mean([one['error'] for one in found]):4.1f}"
            print(line, file=sys.stderr, flush=True)
    full = next(p for p in plans if p.items is None and p.candidates == 200)
    goal = np.mean([one["found"] for one in results[full]])
    spent = np.mean([one["items"] for one in results[full]])
    start, top = (100 * np.mean([one[key] for one in results[full]]) for key in ("start", "top"))
    print(f"{law}\nstart {start:.1f}, top {top:.1f}; {time.time() - begun:.0f} s", file=sys.stderr)
    ratios = {}
    for plan, found in results.items():
        if plan is full:
            continue
        gap = np.array([a["found"] - b["found"] for a, b in zip(found, results[full], strict=True)])
        key = f"{plan.name}, {plan.candidates} x {plan.items or 'all'}"
        ratios[f"fewer items: {key}"] = round(spent / float(np.mean([one["items"] for one in found])), 2)
        ratios[f"found / found by all items: {key}"] = round(float(np.mean([one["found"] for one in found]) / goal), 4)
        ratios[f"difference in points: {key}"] = round(100 * float(gap.mean()), 2)
        ratios[f"its standard error: {key}"] = round(100 * float(gap.std(ddof=1) / len(gap) ** 0.5), 2)
    if arguments.json:
        print(json.dumps(ratios, indent=2))


if __name__ == "__main__":
    main()
