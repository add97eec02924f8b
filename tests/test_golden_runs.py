"""Golden runs: what searches gave before the trunk was redrawn, and give after it. No row of theirs may ever change.

Each search below is seeded and its models are made up, but optimizers, spaces, scoring and the database are the real
ones. What a user can measure of it (every record, the order of the tells, what was spent, the winner and its scores) is
compared with `golden_runs.json`. Where constructor arguments change, adapt `make_search` alone; writing the file anew
(`python tests/test_golden_runs.py --write [SETUP ...]`) is right only if a change of results is meant.

The rows are compared to the bit, and yet are those of any processor:

- Answers come from whole numbers and CRC-32, and are multiples of 1/4096, whose sums are exact in any order.
- Genomes are rounded to few digits before they become recipes, so the last bits of an `exp` are gone.
- CMA-ES is separable. The full one multiplies by eigenvectors, whose signs are LAPACK's choice; so no tolerance would
  help after its first generation.
- Within a generation of CMA-ES no two fitnesses are equal (a test says so): pycma sorts with numpy's `argsort`, which
  may order equal ones differently with AVX-512. So at most one candidate of each fails, and repeats are left to the
  other optimizers, which break ties by number.
- The race estimates by the mean; the model of the run solves linear systems.

The fakes are this module's own, so that nobody changes rows by a change to another test.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machines
import numpy as np
import pytest
from accuracy import Accuracy
from machines import Killed, Told

from evomerge.evaluation.objective import RecipeTerm
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.space import Gene, GeneSpace
from evomerge.optimizers.cma_es import CMA
from evomerge.optimizers.mixed_es import MixedES
from evomerge.optimizers.random_search import RandomSearch
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.recipe.method import MethodSpec, Parameter
from evomerge.record import ItemScore, Job, Outcome, Split, State
from evomerge.search.budget import Budget
from evomerge.search.session import Search
from evomerge.search.stage import Stage
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status
from evomerge.strategies.vector import VectorStrategy

GOLDEN = Path(__file__).with_name("golden_runs.json")

PARENTS = (Parent("a", ModelSource("a")), Parent("b", ModelSource("b")))
TASKS = {"easy": tuple(range(0, 24, 2)), "hard": tuple(range(16))}
METHOD = MethodSpec("linear", "", "", (Parameter("weight", 0.5, high=1.5, per_parent=True),), needs_base=False)


# --- spaces and models that are made up ----------------------------------------------------------------------------


class Layered(ParameterSpace):
    """The real parameter space, of six genes: two parents, one block of layers, embedding, head. Rounded."""

    def __init__(self) -> None:
        super().__init__(METHOD, PARENTS, n_layers=2, blocks=1)

    def genome(self, x: Sequence[float] | np.ndarray) -> tuple[float, ...]:
        return rounded(super().genome(x), 3)


class Plane(GeneSpace):
    """A weight for each of two parents, rounded; in a later stage around those of the recipe that it begins with."""

    def __init__(self, digits: int, around: Recipe | None = None) -> None:
        self._digits = digits
        a, b = (1.0, 1.0) if around is None else weights(around)
        reach = 1.0 if around is None else 0.25
        self._genes = (Gene("a", a - reach, a + reach, a), Gene("b", b - reach, b + reach, b))

    def genome(self, x: Sequence[float] | np.ndarray) -> tuple[float, ...]:
        return rounded(super().genome(x), self._digits)

    def decode(self, genome: Sequence[float]) -> Recipe:
        return linear(*genome)


class Kinds(GeneSpace):
    """A float, an integer, and a choice, which allow no consensus."""

    def __init__(self) -> None:
        self._genes = (
            Gene("a", 0.0, 2.0, 0.2),
            Gene.integer("b", 0, 20, 3),
            Gene.choice("sign", ("plus", "minus"), "minus"),
        )

    def genome(self, x: Sequence[float] | np.ndarray) -> tuple[float, ...]:
        return rounded(super().genome(x), 1)

    def decode(self, genome: Sequence[float]) -> Recipe:
        a, b, sign = genome
        return linear(a if sign == 0.0 else round(1.0 - a, 1), b / 10.0)


def rounded(genome: Sequence[float], digits: int) -> tuple[float, ...]:
    return tuple(round(value, digits) for value in genome)


def linear(a: float, b: float) -> Recipe:
    return Recipe("linear", PARENTS, parameters={"weight": {"a": a, "b": b}})


def weights(recipe: Recipe) -> list[float]:
    """All weights that a recipe names: of the whole model, then of each group."""
    found = [part["weight"] for part in (recipe.parameters, *(group.parameters for group in recipe.groups)) if part]
    return [float(one[name]) for one in found for name in ("a", "b")]  # type: ignore[index, arg-type]


def answer(recipe: Recipe, split: Split, task: str, item: int) -> float:
    """Larger the nearer all weights are to 0.8, with the luck of this model on this item."""
    thousandths = [round(1000 * weight) for weight in weights(recipe)]
    far = sum((one - 800) ** 2 for one in thousandths) // (300 * len(thousandths))
    luck = zlib.crc32(f"{thousandths} {split.value} {task} {item}".encode()) % 1024
    return max(3072 - far + luck - 64 * (item % 8) - (400 if task == "hard" else 0), 0) / 4096


@dataclass
class Machine(machines.Machine):
    """Answers its oldest, middle and youngest job in turn; some recipes cannot be built or scored."""

    fails: Callable[[Recipe], State | None] = lambda recipe: None

    def pick(self) -> int:
        return (0, len(self.jobs) // 2, len(self.jobs) - 1)[len(self.ran) % 3]

    def answer(self, job: Job) -> Outcome:
        state = self.fails(job.recipe) if job.candidate >= 0 and job.split == Split.SEARCH else None
        if state is not None:
            return Outcome(job, state, (), 0.1, "cpu", "it broke")
        asked = TASKS if job.items is None else job.items
        scores = [
            ItemScore(task, item, {"acc": answer(job.recipe, job.split, task, item)})
            for task in TASKS
            for item in asked.get(task, ())
        ]
        return Outcome(job, State.COMPLETE, tuple(scores), 0.1, "cpu")


def breaks(every: int) -> Callable[[Recipe], State | None]:
    """About so many recipes fail for one that does, and as many are invalid."""

    def fails(recipe: Recipe) -> State | None:
        code = zlib.crc32(repr(weights(recipe)).encode()) % (2 * every)
        return {0: State.FAILED, every: State.INVALID}.get(code)

    return fails


# --- the searches --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setup:
    """What is searched, and how candidates are scored."""

    stages: Sequence[Stage]
    budget: Budget
    scoring: Mapping[str, Any] = field(default_factory=dict)
    fails: Callable[[Recipe], State | None] = lambda recipe: None
    consensus: bool = False
    cost: Callable[[Recipe], float] = lambda recipe: 0.0


def cma(space: GeneSpace, seed: int) -> VectorStrategy:
    return VectorStrategy(space, CMA(space.n_dims, space.start, seed, population=6, separable=True))


def mixed(space: GeneSpace, seed: int) -> VectorStrategy:
    return VectorStrategy(space, MixedES(space.n_dims, space.start, seed, kinds=space.kinds))


def random(space: GeneSpace, start: Sequence[float], seed: int) -> VectorStrategy:
    return VectorStrategy(space, RandomSearch(2, start, seed))


def one_stage(begin: Callable[[], VectorStrategy]) -> list[Stage]:
    return [Stage("search", 1.0, lambda best: begin())]


TWO_STAGES = [
    Stage("wide", 0.4, lambda best: cma(Plane(2), 3)),
    Stage("near", 1.0, lambda best: mixed(Plane(3, best), 4)),
]
TWO_RANDOM_STAGES = [
    Stage("wide", 0.5, lambda best: random(Plane(1), [0.1, 0.2], 8)),
    Stage("near", 1.0, lambda best: random(Plane(1, best), [0.5, 0.5], 9)),
]

SETUPS = {
    # CMA-ES on a real parameter space: generations, failures in them, and the consensus as the last candidate.
    "whole": Setup(one_stage(lambda: cma(Layered(), 9)), Budget(candidates=43), {}, breaks(8), consensus=True),
    # Few recipes, so many repeats of what was scored, failed, or is running.
    "repeats": Setup(one_stage(lambda: random(Plane(1), [0.1, 0.2], 3)), Budget(candidates=70), {}, breaks(6), True),
    # Optimizers that learn from each tell, on genes of all kinds.
    "kinds": Setup(one_stage(lambda: mixed(Kinds(), 5)), Budget(candidates=40), {}, breaks(6), consensus=True),
    # Few items, which a race gives to contenders; what is known at the end ranks the finalists.
    "race": Setup(
        one_stage(lambda: cma(Plane(3), 2)),
        Budget(candidates=38),
        {"items": 14, "race": Race("posterior", block=4), "estimator": "mean"},
        breaks(8),
        consensus=True,
    ),
    # The other race, over two stages, with repeats in generations and a budget in items that ends one early.
    "halving": Setup(
        TWO_RANDOM_STAGES,
        Budget(items=300),
        {"items": 10, "race": Race("halving", block=4), "estimator": "mean", "fresh": False},
        breaks(8),
    ),
    # Few items without a race, other ones for each generation; the first stage ends in the middle of one.
    "few": Setup(TWO_RANDOM_STAGES, Budget(candidates=42), {"items": 10, "estimator": "mean"}, breaks(8)),
    # A budget in items over two stages, and recipes that cost something.
    "stages": Setup(
        TWO_STAGES,
        Budget(items=40 * sum(map(len, TASKS.values())) + 5),
        {},
        breaks(8),
        consensus=True,
        cost=lambda recipe: 0.125 if weights(recipe)[0] > 0.75 else 0.0,
    ),
}


def make_search(setup: Setup, run: RunDir, machine: Machine, told: Told, *, deterministic: bool) -> Search:
    """The only place that knows how a search is put together."""
    terms_of = [Term(task, task, 1.0 / len(TASKS)) for task in TASKS]
    terms = [RecipeTerm("cost", -1.0, setup.cost)]
    return Search(
        run_dir=run,
        stages=setup.stages,
        executor=machine,
        scoring=Scoring(Accuracy(terms), ItemTable(TASKS, terms_of), seed=5, **setup.scoring),
        baselines={"a": linear(1.0, 0.0), "average": linear(0.5, 0.5)},
        budget=setup.budget,
        finalists=4,
        consensus=setup.consensus,
        listener=told,
        deterministic=deterministic,
    )


@dataclass(frozen=True)
class Way:
    """How a search runs: with how many workers, in order or as they come, killed after how many answers."""

    workers: int = 1
    deterministic: bool = False
    killed: int | None = None


ONE = Way()
IN_ORDER = {
    "one worker": ONE,
    "three workers in order": Way(3, deterministic=True),
    "one worker, killed": Way(killed=3),
    "three workers in order, killed": Way(3, deterministic=True, killed=3),
}
"""Ways that give the same rows."""

CASES = [
    *((setup, way) for setup in SETUPS for way in ("one worker", "three workers in order")),
    *((setup, way) for setup in SETUPS for way in ("one worker, killed", "three workers in order, killed")),
]

AS_THEY_COME = Way(3)


def result(setup: Setup, way: Way, path: Path) -> dict[str, Any]:
    """Run a search, again and again if it is killed, and return what a user can measure of it."""
    RunDir.create(path, config={"name": "golden", "budget": {}}).close()
    told = Told()
    for _ in range(1000):
        with RunDir.open(path, write=True) as run:
            machine = Machine(way.workers, way.killed, fails=setup.fails)
            try:
                winner = make_search(setup, run, machine, told, deterministic=way.deterministic).run()
            except Killed:
                continue
            status = run_status(run)
            return {
                "rows": [row(record) for record in run.database.records(baselines=True)],
                "told": told.numbers,
                "spent": {name: status[name] for name in ("candidates", "items", "cache_hits", "failed")},
                "winner": winner.number,
                "scores": means(winner),
            }
    raise AssertionError("it never ends")


def row(record: Any) -> list[Any]:
    """Number, state, genome, fitness, recipe, same as, mean of the search items."""
    genome = None if record.genome is None else list(record.genome)
    mean = means(record).get("search")
    return [record.number, record.state.value, genome, record.fitness, record.recipe.content_hash, record.same_as, mean]


def means(record: Any) -> dict[str, float]:
    return {split.value: score.mean for split, score in (record.scores or {}).items()}


def zoo_result(path: Path) -> dict[str, Any]:
    """The same of a search of the built-in zoo, through the public API."""
    from evomerge import api
    from evomerge.cli.compose import compose

    overrides = ["experiment=zoo_ja_math", "seed=7", "budget.candidates=6", "execution.device=cpu"]
    found = api.search(compose(overrides), run_dir=path)
    records, best = found.records(baselines=True), found.status()["best"]
    winner = next(record for record in records if record.number == best["id"])
    return {"rows": [row(record) for record in records], "winner": winner.number, "scores": means(winner)}


# --- the tests -----------------------------------------------------------------------------------------------------


def golden(name: str) -> dict[str, Any]:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))[name]


@pytest.mark.usefixtures("lazy_disk")
@pytest.mark.parametrize(("setup", "way"), CASES)
def test_workers_and_kills_give_the_golden_rows(tmp_path: Path, setup: str, way: str) -> None:
    found, expected = result(SETUPS[setup], IN_ORDER[way], tmp_path / "run"), golden(setup)
    if IN_ORDER[way].deterministic:
        # A search that need not be deterministic tells a failure before the others of its race, also with one worker.
        assert found["told"] == sorted(expected["told"])
        del found["told"], expected["told"]
    assert found == expected


@pytest.mark.usefixtures("lazy_disk")
@pytest.mark.parametrize("setup", SETUPS)
def test_three_workers_as_they_come_give_golden_rows_of_their_own(tmp_path: Path, setup: str) -> None:
    assert result(SETUPS[setup], AS_THEY_COME, tmp_path / "run") == golden(f"{setup}, as they come")


@pytest.mark.slow
def test_a_search_of_the_zoo_gives_the_golden_rows(tmp_path: Path) -> None:
    """Genomes within 1e-9, since the library of each machine draws them; recipes where genomes are equal to the bit.

    Scores are counts of right answers, whose words were the same with kernels for AVX-512 and for SSE 4.2 alone.
    """
    found, expected = zoo_result(tmp_path / "run"), golden("zoo")
    assert expected["scores"]["test"] == 0.18
    assert (found["winner"], found["scores"]) == (expected["winner"], expected["scores"])
    for one, other in zip(found["rows"], expected["rows"], strict=True):
        genome, recipe = one.pop(2), one.pop(3)
        golden_genome, golden_recipe = other.pop(2), other.pop(3)
        assert one == other
        assert genome == (None if golden_genome is None else pytest.approx(golden_genome, rel=0.0, abs=1e-9))
        assert recipe == golden_recipe or genome != golden_genome


def test_the_golden_runs_have_what_they_are_there_for() -> None:
    for name in SETUPS:
        for found in (golden(name), golden(f"{name}, as they come")):
            rows = [one for one in found["rows"] if one[0] >= 0]
            assert {one[1] for one in rows} == {"complete", "failed", "invalid"}
            assert found["spent"]["candidates"] == len(rows)
            assert any(one[5] is not None for one in rows) == (name not in ("whole", "race"))
            consensus = {one[0] for one in rows} - set(found["told"])
            assert len(consensus) == (name not in ("kinds", "halving", "few"))
        assert found["told"] != sorted(found["told"])
        # Random search is moved by no order, and a race is told whole generations.
        assert (found["rows"] == golden(name)["rows"]) == (name in ("repeats", "race", "halving", "few"))
    assert golden("stages")["winner"] == golden("stages")["rows"][-1][0]  # the consensus


@pytest.mark.parametrize("name", ["whole", "race", "stages"])
@pytest.mark.parametrize("way", ["", ", as they come"])
def test_no_generation_of_cma_es_has_ties(name: str, way: str) -> None:
    found = golden(name + way)
    fitness = {one[0]: one[3] for one in found["rows"]}
    told = found["told"] if name != "stages" else [number for number in found["told"] if number < 17]
    for start in range(0, len(told), 6):
        generation = [fitness[number] for number in told[start : start + 6]]
        assert len(set(generation)) == len(generation), generation


# --- writing the file ----------------------------------------------------------------------------------------------


def lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """JSON with a line for each row, so that a difference can be read."""
    for i, (name, one) in enumerate(found.items()):
        yield ("{" if i == 0 else ",") + f"\n{json.dumps(name)}: {{"
        yield '"rows": [\n' + ",\n".join(json.dumps(part) for part in one["rows"]) + "]"
        yield from (f",\n{json.dumps(key)}: {json.dumps(part)}" for key, part in one.items() if key != "rows")
        yield "}"
    yield "\n}\n"


def write(names: Sequence[str]) -> None:
    found = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names or (*SETUPS, "zoo"):
            path = Path(folder) / name
            if name == "zoo":
                found[name] = zoo_result(path)
                continue
            found[name] = result(SETUPS[name], ONE, path)
            found[f"{name}, as they come"] = result(SETUPS[name], AS_THEY_COME, Path(f"{path} as they come"))
    GOLDEN.write_text("".join(lines(found)), encoding="utf-8")


if __name__ == "__main__":
    assert sys.argv[1:2] == ["--write"], "python tests/test_golden_runs.py --write [SETUP ...]"
    write(sys.argv[2:])
