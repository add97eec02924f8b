"""Small made-up runs, written through the store as a search writes them, for whatever shows runs.

    path = made_run(tmp_path / "run")                                     # 16 candidates, three parents, two tasks
    path = made_run(tmp_path / "run", MadeRun(candidates=0, finished=False))  # a run that has just begun

Candidates improve, since their genomes are drawn around a point that moves. What each answers follows from its genome
and the difficulty of the item, so that parents are good at one task each, and merges at several.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.analysis.verdict import COMBINATION, OBJECTIVE
from evomerge.errors import EvaluationError
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import SUM, TaskSpec
from evomerge.recipe import Group, ModelSource, Parent, Recipe, Step
from evomerge.record import (
    CONSENSUS,
    Choice,
    EarlyEstimate,
    Finalist,
    ItemAnswer,
    ItemPrompt,
    ItemScore,
    Record,
    Result,
    Score,
    Split,
    State,
)
from evomerge.store import RunDir
from evomerge.store.traces import Trace

HOSTILE = '<script>alert("evil")</script><img src=x onerror=alert(1)>&amp;${7*7}{{7*7}}\u202e'
"""A name that a page must show as it is."""

ADD = TaskSpec("add", "acc", filter="none", direction="maximize")
REVERSE = TaskSpec("reverse", "exact_match", filter="none", direction="maximize")
TOKENS = TaskSpec("add", "generated_tokens", filter="none", direction="minimize", weight=0.0)
PERPLEXITY = TaskSpec("wiki", "word_perplexity", filter="none", direction="minimize")

TWO_OBJECTIVES = (
    TaskSpec("add", "acc", filter="none", direction="maximize", objective="sums"),
    TaskSpec("reverse", "exact_match", filter="none", direction="maximize", objective="words"),
)
THREE_OBJECTIVES = (
    *TWO_OBJECTIVES,
    TaskSpec("add", "generated_tokens", filter="none", direction="minimize", weight=0.01, objective="tokens"),
)
"""The third one is to be small."""

_PLACES = {Split.SEARCH: 0, Split.VALIDATION: 10_000, Split.TEST: 20_000}


@dataclass(frozen=True)
class MadeRun:
    """What a made-up run is like; everything has a default.

    Attributes:
        name: of its configuration.
        seed: of its configuration, and of what is made up.
        specs: what is measured. Metrics: those of shares are 0 or 1, "generated_tokens" and perplexities are numbers.
        combination: "sum" or "worst".
        parents: their names, each best at the task of the same place (modulo the number of tasks).
        candidates: how many proposals are recorded.
        failed: numbers of candidates that failed; `invalid`: whose recipe could not be built.
        twins: number to the earlier candidate with the same recipe.
        unjudged: numbers of candidates whose items of the first task have no score (NaN), so that they have no result.
        infeasible: number to violation.
        items: how many each task has on each split; 0: the split has none.
        baselines: whether parents and average were scored.
        average: whether the plain average is among them.
        consensus: whether the last candidate is the consensus.
        choice: "winner", "front", "archive", or None: the search did not end.
        finalists: how many candidates have validation scores.
        state: recorded state; None: "complete" with a choice, else "running" (which reads as "interrupted").
        error: of a run that failed.
        stages: how many; genomes of each have genes of their own.
        dataflow: whether recipes are layer paths.
        layers: of the parents, in blocks of two.
        genes, kinship, traces, course: whether they were noted.
        estimates: of baselines and candidates by number: what was made of some items, as `(n, mean, error)` each.
        answers: whether texts are kept, of baselines and the best.
        words: how many more words each question and answer has.
        measures: further measures of each result: name to the numbers of the candidates, in turn.
        budget: `candidates`, `items`, `seconds`.
        config: what else the configuration says, or says otherwise.
        meta: further values of the database by key.
        hostile: whether parents, tasks, answers and errors have names that a page could mistake for its own.
    """

    name: str = "made up"
    seed: int = 0
    specs: Sequence[TaskSpec] = (ADD, REVERSE)
    combination: str = SUM
    parents: Sequence[str] = ("math", "words", "code")
    candidates: int = 16
    failed: Sequence[int] = (3,)
    invalid: Sequence[int] = ()
    twins: Mapping[int, int] = field(default_factory=lambda: {6: 2})
    unjudged: Sequence[int] = ()
    infeasible: Mapping[int, float] = field(default_factory=dict)
    items: Mapping[Split, int] = field(default_factory=lambda: {Split.SEARCH: 20, Split.VALIDATION: 20, Split.TEST: 40})
    baselines: bool = True
    average: bool = True
    consensus: bool = True
    choice: str | None = "winner"
    finalists: int = 4
    state: str | None = None
    error: str | None = None
    stages: int = 1
    dataflow: bool = False
    layers: int = 6
    genes: bool = True
    kinship: bool = True
    traces: bool = True
    course: bool = True
    estimates: Mapping[int, Sequence[tuple[int, float, float]]] = field(default_factory=dict)
    answers: bool = False
    words: int = 0
    measures: Mapping[str, Sequence[float]] = field(default_factory=dict)
    budget: Mapping[str, float | None] = field(default_factory=lambda: {"candidates": 16})
    config: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    hostile: bool = False


def made_run(folder: Path, made: MadeRun | None = None, **changes: Any) -> Path:
    """Write a run and return its folder.

    Args:
        folder: where; it must be new.
        made: what it is like; None: the defaults.
        changes: fields of `MadeRun` in place of the defaults, where `made` is None.
    """
    made = MadeRun(**changes) if made is None else made
    run = RunDir.create(folder, config=_config(made), splits=_splits(made))
    try:
        with run.database.together():
            _Writer(run, made).write()
    finally:
        run.close()
    return folder


def big_run(folder: Path, *, candidates: int = 1000, items: int = 250, words: int = 300) -> Path:
    """Make a run with two tasks of so many items on each split, five parents and long answers."""
    return made_run(
        folder,
        candidates=candidates,
        items=dict.fromkeys(Split, items),
        parents=("math", "words", "code", "law", "poems"),
        layers=32,
        answers=True,
        words=words,
        finalists=8,
        budget={"candidates": candidates},
    )


def _config(made: MadeRun) -> dict[str, Any]:
    return {
        "name": made.name,
        "seed": made.seed,
        "models": {"base": "org/base", "parents": {name: f"org/{i}" for i, name in enumerate(_parents(made))}},
        "method": {"name": "task_arithmetic"},
        "space": {"name": "dataflow" if made.dataflow else "parameter"},
        "optimizer": {"name": "cma"},
        "evaluation": {
            "tasks": [{"name": spec.name, "metric": spec.metric} for spec in _specs(made)],
            "split": {str(split): n for split, n in made.items.items()},
        },
        "budget": dict(made.budget),
        **({"stages": {f"stage{i}": {} for i in range(made.stages)}} if made.stages > 1 else {}),
        **made.config,
    }


def _splits(made: MadeRun) -> dict[str, Any]:
    def one(task: str, split: Split) -> dict[str, Any]:
        items = range(_PLACES[split], _PLACES[split] + made.items[split])
        return {"task": task, "n_docs": 30_000, "items": list(items)}

    return {spec.name: {str(split): one(spec.name, split) for split in Split} for spec in _specs(made)}


def _parents(made: MadeRun) -> list[str]:
    return [f"{name} {HOSTILE}{i}{'n' * 300}" if made.hostile else name for i, name in enumerate(made.parents)]


def _specs(made: MadeRun) -> tuple[TaskSpec, ...]:
    return tuple(replace(spec, name=f"{spec.name} {HOSTILE}") if made.hostile else spec for spec in made.specs)


class _Writer:
    """Writes one made-up run."""

    def __init__(self, run: RunDir, made: MadeRun) -> None:
        self.db, self.made = run.database, made
        self.parents, self.specs = _parents(made), _specs(made)
        self.objectives = Objectives(self.specs, parents=self.parents, combination=made.combination)
        self.tasks = list(dict.fromkeys(spec.name for spec in self.specs))
        self.draw = np.random.default_rng([made.seed, 1])
        self.genes = [
            {"name": f"weight.{parent}.{group}", "low": 0.0, "high": 1.6, "start": 0.7}
            for group in self.groups()
            for parent in self.parents
        ]
        # What the genes are worth for each task: parents matter where they are best, and the first groups most.
        self.worth = np.array(
            [
                [
                    (1.0 if p % len(self.tasks) == t else 0.15) / (1.0 + 0.5 * g)
                    for g in range(len(self.groups()))
                    for p in range(len(self.parents))
                ]
                for t in range(len(self.tasks))
            ]
        )
        self.written: dict[int, dict[Split, list[ItemScore]]] = {}

    def groups(self) -> list[str]:
        return [f"layers{low}-{low + 1}" for low in range(0, self.made.layers, 2)]

    def write(self) -> None:
        made, db = self.made, self.db
        for key, value in {
            OBJECTIVE: [spec.to_data() for spec in self.specs],
            COMBINATION: made.combination,
            "state": made.state or ("complete" if made.choice else "running"),
            "error": made.error,
            **made.meta,
        }.items():
            db.set_meta(key, value)
        if made.genes:
            more = {"log": False, "doc": "a weight", "kind": "float", "choices": []}
            noted = [
                {**gene, **more, "stage": f"stage{number}" if made.stages > 1 else "search", "stage_number": number}
                for number in range(made.stages)
                for gene in self.genes
            ]
            db.set_meta("genes", noted)
        if made.kinship and len(self.parents) > 1:
            pairs = [
                {"a": a, "b": b, "verdict": "same", "cosine": round(0.9 - 0.3 * (i + j), 3), "distance": 0.2}
                for i, a in enumerate(self.parents)
                for j, b in enumerate(self.parents)
                if i < j
            ]
            pairs += [{"a": a, "b": "base", "verdict": "same", "cosine": None, "distance": 0.1} for a in self.parents]
            models = [
                {"name": name, "verdict": "same", "reason": "correlation of weights 0.99", "likelier_base": None}
                for name in self.parents
            ]
            kinship = {"parents": self.parents, "base": "base", "models": models, "pairs": pairs}
            db.set_meta("kinship", kinship)
        if made.baselines:
            for place, parent in enumerate(self.parents):
                genome = np.tile(np.eye(len(self.parents))[place], len(self.groups()))
                self.add(-1 - place, parent, genome, tuple(Split), baseline=True)
            if made.average:
                number = -1 - len(self.parents)
                genome = np.full(len(self.genes), 1.0 / len(self.parents))
                self.add(number, "average", genome, tuple(Split), baseline=True)
        self.candidates()
        for number, found in made.estimates.items():
            trace = db.traces.get(number) or Trace()
            db.traces.put(number, replace(trace, estimates=tuple(EarlyEstimate(*one) for one in found)))
        scored = self.scored()
        finalists = scored[: made.finalists] if made.choice else []
        for number in finalists:
            self.score(number, Split.VALIDATION)
        if made.choice and finalists:
            self.choose(finalists)
        if made.answers:
            self.answers([*(-1 - i for i in range(len(self.parents) + made.average)), *scored[:3]])
        n = made.candidates
        db.update_progress(
            {
                "spent": {
                    "candidates": n,
                    "items": n * made.items[Split.SEARCH] * len(self.tasks),
                    "seconds": 2.0 * n,
                    "hits": len([t for t in made.twins if t < n]),
                }
            }
        )

    def candidates(self) -> None:
        made = self.made
        genomes: dict[int, np.ndarray[Any, Any]] = {}
        for number in range(made.candidates):
            towards = np.full(len(self.genes), 0.4 + 0.5 * number / max(1, made.candidates - 1))
            genomes[number] = np.clip(towards + self.draw.normal(0.0, 0.25, len(self.genes)), 0.0, 1.6)
            twin = made.twins.get(number)
            if twin is not None:
                genomes[number] = genomes[twin]
            last = made.consensus and number == made.candidates - 1
            self.add(number, CONSENSUS if last else f"candidate {number}", genomes[number], (Split.SEARCH,), twin=twin)
            stage = self.stage(number)
            if made.traces:
                bred = tuple(n for n in (number - 4, number - 3) if n >= 0 and self.stage(n) == stage)
                parts = {"merge": 0.3, "prefill": 0.5, "decode": 1.0, "scoring": 0.1, "wait": 0.05}
                spent = (number + 1) * made.items[Split.SEARCH] * len(self.tasks)
                self.db.traces.put(
                    number, Trace(2.0 * (number + 1), spent, 1.7e9 + 2.0 * number, stage, bred, {} if twin else parts)
                )
            if made.course and number % 4 == 3:
                self.db.traces.put_course(
                    number + 1,
                    {
                        "stage": stage,
                        "step_size": round(0.2 * 0.9**number, 6),
                        "axes": [round(0.3 * 0.9**i, 6) for i in range(min(6, len(self.genes)))],
                        "generation": number // 4,
                        "restarts": 0,
                    },
                )

    def stage(self, number: int) -> int:
        return number * self.made.stages // max(1, self.made.candidates)

    def add(
        self,
        number: int,
        name: str,
        genome: np.ndarray[Any, Any],
        splits: Sequence[Split],
        *,
        baseline: bool = False,
        twin: int | None = None,
    ) -> None:
        made = self.made
        recipe, seconds = self.recipe(genome, number if twin is None else twin), 0.1 if twin is not None else 1.9
        genes = None if baseline else tuple(round(float(gene), 4) for gene in genome)
        record = Record(number, name, State.COMPLETE, recipe, genes, seconds=seconds, device="cpu", same_as=twin)
        for state, numbers in ((State.FAILED, made.failed), (State.INVALID, made.invalid)):
            if number in numbers:
                error = f"out of memory in {HOSTILE if made.hostile else 'layer 3'}: 2.0 GiB were asked for"
                self.db.add(replace(record, state=state, error=error))
                return
        scores: dict[Split, list[ItemScore]] = {}
        for split in splits:
            if made.items[split]:
                scores[split] = self.items(genome, number, split)
        if twin is not None:
            scores = {split: self.written[twin][split] for split in scores if split in self.written.get(twin, {})}
        self.written[number] = scores
        if baseline:
            for split, items in scores.items():
                self.objectives.note_baseline(name, split, items)
        result = self.result(number, scores.get(Split.SEARCH, []), recipe)
        fitness = None if result is None else result.scalar([one.weight for one in self.objectives.objectives])
        means = {split: score for split, items in scores.items() if (score := self.mean(items, split)) is not None}
        if result is None:
            record = replace(record, state=State.FAILED, error="add: no item has a score")
        self.db.add(
            replace(record, fitness=fitness, result=result, scores=means), scores={} if twin is not None else scores
        )

    def result(self, number: int, items: Sequence[ItemScore], recipe: Recipe) -> Result | None:
        try:
            found = self.objectives.result(items, Split.SEARCH, recipe)
        except EvaluationError:
            return None
        more = {name: float(values[number % len(values)]) for name, values in self.made.measures.items()}
        violation = self.made.infeasible.get(number, found.violation)
        return Result(found.objectives, violation, {**found.measures, **more})

    def mean(self, items: Sequence[ItemScore], split: Split) -> Score | None:
        try:
            return self.objectives.score(items, split)
        except EvaluationError:
            return None

    def score(self, number: int, split: Split) -> None:
        """Add the scores of a candidate on a further split."""
        record = self.db.record(number)
        if record is None or not self.made.items[split]:
            return
        items = self.items(np.array(record.genome), number, split)
        score = self.mean(items, split)
        if score is not None:
            self.db.add_scores(number, split, score, items)

    def scored(self) -> list[int]:
        """Return the candidates with a result that are no twins, the best first."""
        found = [one for one in self.db.records() if one.fitness is not None and one.same_as is None]
        return [one.number for one in sorted(found, key=lambda one: (-(one.fitness or 0.0), one.number))]

    def choose(self, finalists: Sequence[int]) -> None:
        records = [one for number in finalists if (one := self.db.record(number)) is not None]
        self.db.set_finalists([Finalist(one.number, one.fitness or 0.0) for one in records])
        validated = [(one, (one.scores or {}).get(Split.VALIDATION)) for one in records]
        by_score = [one for one, score in sorted(validated, key=lambda pair: -pair[1].mean if pair[1] else 0.0)]
        kept = by_score[:1] if self.made.choice == "winner" else by_score
        for one in kept:
            self.score(one.number, Split.TEST)
        self.db.set_choice(Choice(str(self.made.choice), tuple(one.number for one in kept)))

    def recipe(self, genome: np.ndarray[Any, Any], number: int) -> Recipe:
        parents = tuple(Parent(name, ModelSource(f"org/{place}")) for place, name in enumerate(self.parents))
        weights = genome.reshape(len(self.groups()), len(self.parents))
        if self.made.dataflow:
            order = np.random.default_rng([self.made.seed, number + 1000])
            path = [
                Step(
                    self.parents[int(row.argmax())], 2 * place + half, 1.0 if half else round(float(row.max()) + 0.1, 3)
                )
                for place, row in enumerate(weights)
                for half in (0, 1)
                for _ in range(1 + int(order.random() < 0.3))
            ]
            return Recipe("passthrough", parents, path=tuple(path), seed=number + 100)
        return Recipe(
            "task_arithmetic",
            parents,
            base=Parent("base", ModelSource("org/base")),
            parameters={"lambda": 1.0},
            groups=tuple(
                Group(
                    {"weight": {name: round(float(w), 4) for name, w in zip(self.parents, row, strict=True)}},
                    layers=(2 * place, 2 * place + 2),
                    name=group,
                )
                for place, (group, row) in enumerate(zip(self.groups(), weights, strict=True))
            ),
        )

    @functools.cached_property
    def difficulty(self) -> dict[tuple[str, Split], np.ndarray[Any, Any]]:
        draw = np.random.default_rng([self.made.seed, 2])
        return {(task, split): draw.uniform(0.0, 1.0, self.made.items[split]) for task in self.tasks for split in Split}

    def skill(self, genome: np.ndarray[Any, Any], task: int) -> float:
        """Return how good a genome is at a task, between 0 and 1: best where the weights of its parents are near 1."""
        worth = self.worth[task] / self.worth[task].sum()
        return float(np.clip(1.0 - (worth * np.abs(np.asarray(genome) - 0.9)).sum() * 1.1, 0.02, 0.98))

    def items(self, genome: np.ndarray[Any, Any], number: int, split: Split) -> list[ItemScore]:
        noise = np.random.default_rng([self.made.seed, 3, number + 1000, list(Split).index(split)])
        found = []
        for place, task in enumerate(self.tasks):
            skill = self.skill(genome, place)
            hard = self.difficulty[task, split]
            right = hard + noise.normal(0.0, 0.08, len(hard)) < skill
            for i, correct in enumerate(right):
                metrics = {"cut_answers": 0.0, "empty_answers": 0.0, "repetitive_answers": float(skill < 0.2)}
                metrics["generated_tokens"] = float(round(8 + 12 * (1.0 - skill) + 4 * hard[i]))
                for spec in self.specs:
                    if spec.name == task and "perplexity" in spec.metric:
                        metrics[spec.metric] = round(5.0 + 40.0 * (1.0 - skill) + 5.0 * float(hard[i]), 4)
                    elif spec.name == task and spec.metric not in metrics:
                        unjudged = number in self.made.unjudged and place == 0
                        metrics[spec.metric] = float("nan") if unjudged else float(correct)
                found.append(ItemScore(task, _PLACES[split] + i, metrics))
        return found

    def answers(self, numbers: Sequence[int]) -> None:
        """Keep what models answered, on each split for which they have item scores."""
        for split in Split:
            prompts = [
                ItemPrompt(
                    task,
                    _PLACES[split] + i,
                    [[self.said(f"Question {i} of {task}?"), {"max_gen_toks": 24, "until": ["\n"]}]],
                    target=str(i),
                    document={"question": self.said(f"Question {i} of {task}?"), "answer": str(i)},
                )
                for task in self.tasks
                for i in range(self.made.items[split])
            ]
            self.db.answers.put_prompts("plain", split, prompts)
            for number in numbers:
                items = self.db.item_scores(number, split)
                self.db.answers.put(number, split, [self.answer(one, split) for one in items], variant="plain")

    def answer(self, item: ItemScore, split: Split) -> ItemAnswer:
        spec = next(spec for spec in self.specs if spec.name == item.task)
        value = item.metrics[spec.metric]
        i = item.item - _PLACES[split]
        text = self.said(f"The answer is {i if value else i + 1}.")
        return ItemAnswer(item.task, item.item, [text], {"none": [text]}, {"none": {spec.metric: value}})

    def said(self, text: str) -> str:
        start = sum(map(ord, text))
        more = "".join(f" word{(start + 7 * i) % 997}" for i in range(self.made.words))
        return f"{text}{more} {HOSTILE}" if self.made.hostile else text + more
