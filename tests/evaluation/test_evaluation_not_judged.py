"""Items without a value (lm-eval's `nanmean`, metrics that a task leaves out): the mean is that of the others."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_helpers import GENERATION, Tiny, fitness, questions, write_task
from test_evaluation_harness import ALL, harness

from evomerge import api
from evomerge.analysis.comparison import compare
from evomerge.analysis.winners_curse import adjusted_for_selection
from evomerge.errors import EvaluationError
from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import TaskSpec
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.scoring import Scoring
from evomerge.record import ItemScore, Split
from evomerge.store.run_dir import RunDir

N = 24
JUDGES = """
import math
import numpy as np

def judge(doc, results):
    n = int(doc["answer"])
    value = float(len(results[0]) % 2)
    found = {"nan": math.nan if n % 4 == 0 else value, "own": math.nan if n % 3 == 0 else value, "all": value}
    found["wrong"] = math.nan if n == 5 else value
    return found | ({"some": value} if n % 5 else {})

def mine(values):
    return float(np.nanmean(values))
"""
METRICS = """metric_list:
- {metric: nan, aggregation: nanmean, higher_is_better: true}
- {metric: own, aggregation: !function judges.mine, higher_is_better: true}
- {metric: some, aggregation: mean, higher_is_better: true}
- {metric: all, aggregation: mean, higher_is_better: true}
- {metric: wrong, aggregation: mean, higher_is_better: true}
process_results: !function judges.judge
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    docs = {"test": [{"question": q, "answer": str(i)} for i, q in enumerate(questions(N, seed=2))]}
    settings = {key: value for key, value in GENERATION.items() if key != "metric_list"}
    path = write_task(folder, "gaps", docs, **settings)
    path.write_text(path.read_text() + METRICS)
    only = write_task(folder, "only_nan", docs, **settings)
    only.write_text(only.read_text() + METRICS.replace("judges.judge", "judges.only"))
    (folder / "judges.py").write_text(
        JUDGES + "\ndef only(doc, results):\n    return {'nan': judge(doc, results)['nan']}\n"
    )
    return folder


def test_means_are_lm_evals_whatever_leaves_items_out(folder: Path, tiny: Tiny) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from evomerge.evaluation.quiet import lm_eval_randomness, quiet

    specs = [TaskSpec("gaps", name) for name in ("nan", "own", "some", "all")]
    made = harness(folder, *specs, sizes=ALL)
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    with quiet(), lm_eval_randomness():
        theirs = lm_eval.simple_evaluate(
            HFLM(pretrained=tiny.model, tokenizer=copy.deepcopy(tiny.tokenizer), batch_size=8),
            tasks=["gaps"],
            task_manager=TaskManager(include_defaults=False, include_path=str(folder)),
            bootstrap_iters=0,
        )["results"]["gaps"]
    result = Objectives(made.specs).result(scores)
    assert result.measures == pytest.approx({spec.label: theirs[f"{spec.metric},none"] for spec in made.specs})
    answered = Objectives(made.specs).answers(scores)
    assert [len(found) for found in answered.values()] == [18, 16, 19, 24]
    assert len(set(result.measures.values())) > 1


def test_nan_with_a_plain_mean_stays_an_error(folder: Path, tiny: Tiny) -> None:
    made = harness(folder, TaskSpec("gaps", "wrong"), sizes=ALL)
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    with pytest.raises(EvaluationError, match="item 5: metric 'wrong' is nan"):
        Objectives(made.specs).result(scores)


def rows(*values: float | None, metric: str = "acc", **more: list[float | None]) -> list[ItemScore]:
    columns: dict[str, Any] = {metric: values, **more}
    return [
        ItemScore("t", i, {name: column[i] for name, column in columns.items() if column[i] is not None})
        for i in range(len(values))
    ]


UP = TaskSpec("t", "acc", direction="maximize")


def test_a_mean_and_its_interval_are_those_of_the_judged_items() -> None:
    objective, scores = Objectives([UP]), rows(1.0, None, 0.0, 1.0, None)
    assert fitness(objective, scores) == pytest.approx(2 / 3)
    assert objective.score(scores) == mean_score([1.0, 0.0, 1.0])
    assert objective.answers(scores) == {"t, acc": {0: 1.0, 2: 0.0, 3: 1.0}}
    with pytest.raises(EvaluationError, match="none of 2 items has a value of 'acc'"):
        objective.score(rows(None, None))


def test_a_sum_of_metrics_with_gaps_has_the_error_that_redrawn_items_show() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=400), generator.normal(size=400)
    y += 0.5 * x
    x[generator.random(400) < 0.3] = y[generator.random(400) < 0.5] = np.nan
    clean = [[None if math.isnan(v) else float(v) for v in column] for column in (x, y)]
    scores = rows(*clean[0], size=clean[1])
    objective = Objectives([UP, TaskSpec("t", "size", weight=3.0, direction="minimize")])
    score = objective.score(scores)
    assert score.mean == pytest.approx(0.25 * np.nanmean(x) - 0.75 * np.nanmean(y))
    assert fitness(objective, scores) == pytest.approx(score.mean)
    drawn = generator.integers(0, 400, (4000, 400))
    error = (0.25 * np.nanmean(x[drawn], axis=1) - 0.75 * np.nanmean(y[drawn], axis=1)).std()
    assert (score.high - score.low) / 2 / 1.96 == pytest.approx(error, rel=0.05)


def test_flips_are_counted_where_both_models_are_judged() -> None:
    spec = TaskSpec("t", "negative_flips", of="acc", reference="a", direction="minimize")
    objective = Objectives([spec])
    objective.note_baseline("a", Split.SEARCH, rows(1.0, 1.0, None, 1.0, 0.0))
    assert fitness(objective, rows(0.0, None, 0.0, 1.0, 1.0)) == pytest.approx(-1 / 3)


def test_models_are_compared_on_the_items_that_both_have() -> None:
    nan = math.nan
    found = compare({"t": [1, 1, nan, 0, 1, nan]}, {"t": [0, nan, 1, 0, 1, nan]}, {"t": 1.0})
    assert found == compare({"t": [1, 0, 1]}, {"t": [0, 0, 1]}, {"t": 1.0}) and found.n == 3
    several = np.array([[1.0, nan, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    kept, plain = (adjusted_for_selection({"t": rows}, {"t": 1.0}) for rows in (several, several[:, [0, 2, 3]]))
    assert kept.n == plain.n == 3 and kept.mean == pytest.approx(plain.mean, abs=0.05)  # the draws are other ones


@pytest.mark.parametrize("estimator", ["mean", "model"])
def test_a_few_answers_of_which_some_are_not_judged_still_tell(estimator: str) -> None:
    generator = np.random.default_rng(1)
    easy = generator.random(40)

    def model(level: float) -> list[ItemScore]:
        right = (generator.random(40) < np.clip(easy + level, 0.05, 0.95)).astype(float)
        # Items 0 to 4 are judged for nobody, others for some.
        return rows(*(None if i < 5 or generator.random() < 0.2 else float(v) for i, v in enumerate(right)))

    table = ItemTable({"t": range(40)}, [Term("t, acc", "t", 1.0)])
    scoring = Scoring(Objectives([UP]), table, items=30, estimator=estimator)
    for number, level in ((-1, 0.0), (-2, 0.1)):
        scoring.observe(number, None, model(level))
    good, bad, unknown = model(0.4), model(-0.4), rows(*[None] * 40)
    recipe: Any = None
    for number in range(3):
        scoring.enter(number, recipe, np.array([0.5]), 3)
    results = {}
    for number, items in scoring.next_questions():
        assert items is not None and len(items["t"]) == 30
        scores = (good, bad, unknown)[number]
        scoring.answer(number, [scores[i] for i in items["t"]])
    for verdict in scoring.verdicts():
        assert verdict.result is not None and verdict.score is not None
        results[verdict.number] = verdict.result.measures["t, acc"]
        assert verdict.score.n == 30
    assert results[0] > results[2] > results[1]  # nothing is known of the last one but what the references are like
    truth = {number: fitness(Objectives([UP]), scores) for number, scores in ((0, good), (1, bad))}
    assert all(abs(results[number] - truth[number]) < 0.15 for number in truth)


def test_a_search_with_few_items_goes_on_after_a_stop_as_if_there_had_been_none(folder: Path, tmp_path: Path) -> None:
    def config(candidates: int) -> dict[str, Any]:
        return {
            "models": {"base": "zoo:base", "parents": {"math": "zoo:math", "japanese": "zoo:japanese"}},
            "method": "task_arithmetic",
            "space": {"blocks": 1},
            "optimizer": {"name": "random"},
            "budget": {"candidates": candidates},
            "fitness": {"items": 5, "consensus": False},
            "evaluation": {
                "tasks": [{"name": "only_nan", "metric": "nan"}],
                "include_path": [str(folder)],
                "split": {"search": 9, "validation": 8, "test": 7},
                "finalists": 2,
            },
            "execution": {"device": "cpu", "threads": 1},
        }

    whole = api.search(config(4), run_dir=tmp_path / "whole")
    api.search(config(2), run_dir=tmp_path / "part")
    resumed = api.resume(tmp_path / "part", budget={"candidates": 4})
    told = [[(r.state, r.fitness, r.scores and r.scores.get(Split.SEARCH)) for r in run.records()]
            for run in (whole, resumed)]  # fmt: skip
    assert told[0] == told[1] and len(told[0]) == 4
    with RunDir.open(whole.path) as run:
        items = run.database.splits()["only_nan"]["test"]["items"]
    status = whole.status()
    judged = sum(item % 4 != 0 for item in items)
    assert status["best"]["test"]["n"] == judged < len(items) == 7
    assert [one["n"] for one in status["comparisons"]] == [judged] * 3


VALUES = """
from decimal import Decimal
import numpy as np
import torch

WRONG = {wrong}

def judge(doc, results):
    return {{"acc": {right} if int(doc["answer"]) % 2 else WRONG, "own": 1.0 if int(doc["answer"]) % 2 else WRONG}}

def own(values):
    values = {own}
    return sum(values) / len(values)
"""


def _scored(folder: Path, tiny: Tiny, metric: str, aggregation: str, **values: str) -> tuple[Any, Any]:
    """Return our mean and lm-eval's where half of the items have another value; an error where it comes."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from evomerge.evaluation.quiet import lm_eval_randomness, quiet

    settings = {key: value for key, value in GENERATION.items() if key != "metric_list"}
    docs = {"test": [{"question": q, "answer": str(i)} for i, q in enumerate(questions(6, seed=2))]}
    path = write_task(folder, "values", docs, **settings)
    listed = f"metric_list:\n- {{metric: {metric}, aggregation: {aggregation}, higher_is_better: true}}\n"
    path.write_text(path.read_text() + listed + "process_results: !function judging.judge\n")
    values = {"right": "1.0", "own": "values", **values}
    text = VALUES.format(**values)
    if metric == "acc":
        text = text.replace(', "own": 1.0 if int(doc["answer"]) % 2 else WRONG', "")
    else:
        text = text.replace(f'"acc": {values["right"]} if int(doc["answer"]) % 2 else WRONG, ', "")
    (folder / "judging.py").write_text(text)
    found: list[Any] = []

    def ours() -> float:
        made = harness(folder, TaskSpec("values", metric), sizes=ALL)
        result = Objectives(made.specs).result(made.score(tiny.model, tiny.tokenizer, Split.SEARCH))
        return next(iter(result.measures.values()))

    def theirs() -> Any:
        with quiet(), lm_eval_randomness():
            return np.asarray(  # an array of one number is what their report shows; several are no score
                lm_eval.simple_evaluate(
                    HFLM(pretrained=tiny.model, tokenizer=copy.deepcopy(tiny.tokenizer), batch_size=8),
                    tasks=["values"],
                    task_manager=TaskManager(include_defaults=False, include_path=str(folder)),
                    bootstrap_iters=0,
                )["results"]["values"][f"{metric},none"]
            ).item()

    for score in (ours, theirs):
        try:
            found.append(score())
        except Exception as error:
            found.append(error)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("np.array([0.0])", "1.0"),
        ("torch.tensor([[0.0]])", "torch.tensor(True)"),
        ("False", "np.True_"),
        ("Decimal(0)", "Decimal(1)"),
    ],
)
def test_a_value_of_one_number_is_that_number(tmp_path: Path, tiny: Tiny, wrong: str, right: str) -> None:
    mine, theirs = _scored(tmp_path, tiny, "acc", "mean", wrong=wrong, right=right)
    assert mine == theirs == 0.5


@pytest.mark.parametrize("wrong", ["None", "'0'", "[0.0]", "(0.0, 1.0)", "np.array([0.0, 0.0])", "np.array('0')"])
def test_a_value_that_is_no_number_fails_as_in_lm_eval(tmp_path: Path, tiny: Tiny, wrong: str) -> None:
    mine, theirs = _scored(tmp_path, tiny, "acc", "mean", wrong=wrong)
    assert isinstance(theirs, Exception)
    assert isinstance(mine, EvaluationError)
    assert "task 'values', item 0: metric 'acc' is " in str(mine) and str(mine).endswith(", not a number")


@pytest.mark.parametrize(
    ("own", "wrong", "mean"),
    [
        ("[one for one in values if one is not None]", "None", 1.0),  # left out
        ("[one or 0.0 for one in values]", "None", 0.5),  # counted as wrong
        ("[float(one) for one in values]", "'0.5'", 0.75),
    ],
)
def test_an_own_mean_says_what_its_values_are_worth(
    tmp_path: Path, tiny: Tiny, own: str, wrong: str, mean: float
) -> None:
    assert _scored(tmp_path, tiny, "own", "!function judging.own", own=own, wrong=wrong) == (mean, mean)
