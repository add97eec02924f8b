"""What a run's database says about its result, on records made for the purpose."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from evomerge.analysis.cautions import cautions
from evomerge.analysis.comparison import mcnemar, tango
from evomerge.analysis.verdict import OBJECTIVE, PUBLIC_TASKS, with_verdict
from evomerge.analysis.winners_curse import adjusted_for_selection
from evomerge.cli.tables import verdict_lines
from evomerge.errors import EvaluationError
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import TaskSpec
from evomerge.export.from_run import run_card
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Choice, Finalist, ItemScore, Record, Split, State
from evomerge.store import RunDir
from evomerge.store.inputs import RunInputs
from evomerge.store.status import run_status
from evomerge.workflows.search import carry_out

SPEC = TaskSpec("t", "acc", filter="none", direction="maximize")
CONFIG = {"name": "x", "models": {"parents": {"a": "org/a", "b": "org/b"}}}
N = 60


def texts_of(status: dict[str, Any]) -> list[str]:
    return [one.text for one in cautions(status)]


def answers(*rates: float, seed: int = 0, n: int = N) -> list[np.ndarray]:
    """0/1 answers of models to the same items: the easier items are the same for all."""
    difficulty = np.random.default_rng(seed).random(n)
    return [(difficulty < rate).astype(float) for rate in rates]


def item_scores(values: np.ndarray, first: int = 0) -> list[ItemScore]:
    return [ItemScore("t", first + i, {"acc": float(value), "other": 0.5}) for i, value in enumerate(values)]


def add(run: RunDir, number: int, name: str, splits: dict[Split, np.ndarray], fitness: float | None = None) -> None:
    objective = Objectives([SPEC])
    places = {Split.SEARCH: 0, Split.VALIDATION: 1000, Split.TEST: 2000}
    scores = {split: item_scores(values, places[split]) for split, values in splits.items()}
    search = objective.result(scores[Split.SEARCH]).objectives[0]
    recipe = Recipe(
        "linear", (Parent(name.replace(" ", ""), ModelSource("org/a")),), parameters={"weight": number + 9.0}
    )
    record = Record(
        number,
        name,
        State.COMPLETE,
        recipe,
        fitness=search if fitness is None else fitness,
        scores={split: objective.score(items) for split, items in scores.items()},
    )
    run.database.add(record, scores=scores)


def splits(search: float, validation: float | None = None, test: float | None = None) -> dict[Split, np.ndarray]:
    rates = {Split.SEARCH: search, Split.VALIDATION: validation, Split.TEST: test}
    return {split: answers(rate, seed=i)[0] for i, (split, rate) in enumerate(rates.items()) if rate is not None}


@pytest.fixture
def run(tmp_path: Path):
    with RunDir.create(tmp_path / "run", config=CONFIG) as made:
        made.database.set_meta(OBJECTIVE, [SPEC.to_data()])
        yield made


def finish(run: RunDir, winner: float = 0.8, others: tuple[float, ...] = (0.3, 0.2)) -> dict:
    add(run, -1, "a", splits(0.5, 0.3, 0.6))
    add(run, -2, "b", splits(0.2, 0.5, 0.1))
    add(run, -3, "average", splits(0.2, 0.7, 0.4))
    add(run, 0, "candidate 0", splits(0.7, winner, winner))
    for number, rate in enumerate(others, 1):
        add(run, number, f"candidate {number}", splits(0.9, rate))
    run.database.set_choice(Choice("winner", (0,)))
    return with_verdict(run, run_status(run))


def test_the_winner_is_compared_with_each_baseline_on_the_test_items(run: RunDir) -> None:
    status = finish(run)
    assert [one["against"] for one in status["comparisons"]] == ["a", "b", "average"]
    winner, a = answers(0.8, 0.6, seed=2)
    only_winner, only_a = int((winner > a).sum()), int((winner < a).sum())
    one = status["comparisons"][0]
    assert (one["low"], one["high"]) == tango(only_winner, only_a, N)
    assert one["p_value"] == mcnemar(only_winner, only_a)
    assert (one["difference"], one["n"]) == (pytest.approx(winner.mean() - a.mean()), N)


def test_the_best_parent_is_named_by_validation_and_is_no_average(run: RunDir) -> None:
    assert finish(run)["best_parent"] == "b"  # a is better on search and test items, the average on validation


def test_without_validation_items_the_best_parent_is_named_by_the_search_items(run: RunDir) -> None:
    add(run, -1, "a", splits(0.5, test=0.1))
    add(run, -2, "b", splits(0.2, test=0.6))
    status = with_verdict(run, run_status(run))
    assert status["best_parent"] == "a"
    assert (status["comparisons"], status["best"]) == ([], None)


def test_the_winners_validation_score_is_adjusted_for_the_choice(run: RunDir) -> None:
    status = finish(run, winner=0.55, others=(0.5, 0.45))
    # The order of equals is that of the search: by fitness, then age.
    rows = np.array(answers(0.5, 0.45, 0.55, seed=1))
    expected = adjusted_for_selection({"t": rows}, {"t": 1.0})
    adjusted = status["best"]["adjusted"]
    assert (adjusted["mean"], adjusted["low"], adjusted["high"]) == (expected.mean, expected.low, expected.high)
    assert adjusted["low"] <= adjusted["mean"] <= adjusted["high"]
    assert [one["id"] for one in status["finalists"]] == [1, 2]


def test_one_finalist_was_not_chosen_among_several(run: RunDir) -> None:
    status = finish(run, others=())
    assert (status["best"]["adjusted"], status["finalists"]) == (None, [])


def test_a_search_that_goes_on_has_nothing_to_compare(run: RunDir) -> None:
    add(run, -1, "a", splits(0.5, 0.3))
    add(run, 0, "candidate 0", splits(0.7))
    status = with_verdict(run, run_status(run))
    assert (status["comparisons"], status["finalists"], status["best"]["adjusted"]) == ([], [], None)
    assert texts_of(status) == []


def test_a_run_that_did_not_record_its_objective_is_shown_without_comparisons(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "old", config=CONFIG) as run:
        status = finish(run)
        assert status["comparisons"] == [] and status["best"]["test"] is not None
        assert run_status(run).items() <= {**status, "best": run_status(run)["best"]}.items()


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.95, []), (0.62, ["the gain over a is within the noise"]), (0.3, ["worse than a", "worse than average"])],
)
def test_a_gain_within_the_noise_is_a_warning_and_a_clear_gain_is_none(run: RunDir, rate: float, words: list) -> None:
    found = [
        line for line in texts_of(finish(run, winner=rate, others=(0.1, 0.1))) if "gain over" in line or "worse" in line
    ]
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.55, ["the best merge is behind a: ", " on the 60 test items (paired), which may be noise"]),
        (0.6, ["no difference from a on the 60 test items (paired)"]),
    ],
)
def test_a_loss_or_a_draw_is_called_no_gain(run: RunDir, rate: float, words: list[str]) -> None:
    found = [
        line for line in texts_of(finish(run, winner=rate, others=(0.1, 0.1))) if " a: " in line or " a on" in line
    ]
    assert len(found) == 1 and all(word in found[0] for word in words) and "gain" not in found[0]


@pytest.mark.parametrize(("rate", "beats"), [(0.45, False), (0.5, False), (0.55, True)])
def test_a_winner_that_is_not_ahead_of_the_best_parent_is_told(run: RunDir, rate: float, beats: bool) -> None:
    status = finish(run, winner=rate, others=(0.1, 0.1))
    assert status["beats_parent"] is beats
    found = [line for line in texts_of(status) if "is not ahead of b, the best parent, on the validation" in line]
    assert bool(found) is not beats


@pytest.mark.parametrize(("added", "over"), [(0.0, 1), (-0.5, None)])
def test_what_the_consensus_was_chosen_over_is_told(run: RunDir, added: float, over: int | None) -> None:
    add(run, 0, "consensus", splits(0.7, 0.5, 0.5))
    add(run, 1, "candidate 1", splits(0.7, 0.55))
    add(run, 2, "candidate 2", splits(0.7, 0.4))
    run.database.set_finalists([Finalist(0, 0.7), Finalist(1, 0.7, added=added), Finalist(2, 0.7)])
    run.database.set_choice(Choice("winner", (0,)))
    status = with_verdict(run, run_status(run))
    assert (status["passed_over"] or {"id": None})["id"] == over
    said = [line for line in verdict_lines(status) if "the consensus was chosen over candidate 1 (" in line]
    assert len(said) == (over is not None)


@pytest.mark.parametrize(("others", "warned"), [((0.79, 0.78), True), ((0.79, 0.1), False)])
def test_finalists_that_cannot_be_told_apart_are_a_warning(run: RunDir, others: tuple, warned: bool) -> None:
    found = [line for line in texts_of(finish(run, others=others)) if "order of the 3 finalists is noise" in line]
    assert bool(found) == warned


def test_a_search_score_above_the_test_interval_is_a_warning(run: RunDir) -> None:
    found = texts_of(finish(run, winner=0.2))
    assert any("the search score lies above the test interval" in line for line in found)


def test_search_items_of_a_public_benchmark_are_a_warning_from_the_start(run: RunDir) -> None:
    run.database.set_meta(PUBLIC_TASKS, ["gsm8k"])
    (line,) = texts_of(with_verdict(run, run_status(run)))
    assert "public test set of gsm8k: do not report" in line and "`validation:`/`test:`" in line


def test_the_model_card_has_the_paired_differences_and_says_what_not_to_report(run: RunDir) -> None:
    run.database.set_meta(PUBLIC_TASKS, ["gsm8k"])
    status = finish(run)
    record = run.database.record(0)
    assert record is not None
    card = run_card(run, record, config=CONFIG, title="mine")
    one = status["comparisons"][1]
    assert f"| b (best parent) | {one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] |" in card
    assert "best of 3 finalists" in card and "public test set of gsm8k" in card
    assert "named by its validation score, not by the test" in card
    other = run.database.record(1)
    assert other is not None
    card = run_card(run, other, config=CONFIG, title="other")
    assert "Paired difference" not in card and "public test set of gsm8k" in card


def test_a_layer_cost_counts_in_the_repeated_choice(run: RunDir) -> None:
    add(run, 0, "candidate 0", splits(0.7, 0.8))
    add(run, 1, "candidate 1", splits(0.7, 0.3))
    run.database.set_finalists([Finalist(0, 0.7, added=-5.0), Finalist(1, 0.7)])  # the first is a very long path
    run.database.set_choice(Choice("winner", (1,)))
    status = with_verdict(run, run_status(run))
    assert status["best"]["adjusted"]["mean"] == pytest.approx(answers(0.3, seed=1)[0].mean(), abs=0.02)


def test_a_card_without_a_test_reports_the_validation_score_without_luck(run: RunDir) -> None:
    """The Hub shows the number of the metadata alone, without a word about the choice."""
    equal = (np.random.default_rng(4).random((5, N)) < 0.5).astype(float)
    for number, rows in enumerate(equal):
        add(run, number, f"candidate {number}", {**splits(0.7), Split.VALIDATION: rows})
    winner = int(np.argmax(equal.mean(axis=1)))
    run.database.set_choice(Choice("winner", (winner,)))
    record = run.database.record(winner)
    assert record is not None and record.scores is not None
    adjusted = with_verdict(run, run_status(run))["best"]["adjusted"]
    (result,) = ModelCard(run_card(run, record, config=CONFIG, title="mine")).data.eval_results
    assert result.metric_value == adjusted["mean"] < record.scores[Split.VALIDATION].mean


def test_test_items_that_were_seen_or_are_asked_twice_are_told(run: RunDir) -> None:
    def asked(*prompts: str) -> dict[str, str]:
        hashes = "".join(f"{prompt:0>16}" for prompt in prompts)
        return {"source": "t", "prompt": hashes, "options": "0" * len(hashes), "target": "0" * len(hashes)}

    items = {
        "t": {"search": asked("a", "b"), "validation": asked("c"), "test": asked("a", "c", "d", "d", "d", "e")},
        "clean": {"search": asked("a", "a"), "validation": asked("b"), "test": asked("d", "e")},
    }
    run.database.set_meta("inputs", RunInputs(keys={}, models={}, items=items).to_data())
    status = finish(run)
    assert status["repeated_items"] == {"t": {"n": 6, "repeated": 2, "seen": 2}}
    (line,) = [line for line in texts_of(status) if "same prompt" in line]
    assert "2 of the 6 test items are search or validation items" in line and "2 of the 6 test items repeat" in line
    record = run.database.record(0)
    assert record is not None and "repeat another one" in run_card(run, record, config=CONFIG, title="mine")


def test_a_choice_that_cannot_be_repeated_is_not_adjusted(run: RunDir) -> None:
    add(run, 0, "candidate 0", splits(0.7, 0.8))
    add(run, 1, "candidate 1", splits(0.7, 0.3))
    run.database.set_choice(Choice("winner", (1,)))  # by hand
    assert with_verdict(run, run_status(run))["best"]["adjusted"] is None


def test_equal_finalists_are_put_in_order_by_what_the_run_knew_at_its_end(run: RunDir) -> None:
    """Estimates of the search scores are revised until the end, so records do not tell which of two equals won."""
    for number in (0, 1):
        add(run, number, f"candidate {number}", splits(0.9 - 0.4 * number, 0.6))
    run.database.set_finalists([Finalist(0, 0.5), Finalist(1, 0.55)])
    run.database.set_choice(Choice("winner", (1,)))
    adjusted = with_verdict(run, run_status(run))["best"]["adjusted"]
    assert adjusted["mean"] == pytest.approx(answers(0.6, seed=1)[0].mean(), abs=0.01)


def test_a_search_records_its_objective_and_says_at_its_start_what_not_to_report(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.database.set_meta(OBJECTIVE, None)
    told: list[str] = []

    def no_executor(prepared: object, stop: object, **_: object) -> None:
        raise EvaluationError("the models could not be loaded")

    monkeypatch.setattr("evomerge.workflows.search.make_executor", no_executor)
    prepared: Any = SimpleNamespace(
        objectives=Objectives([SPEC]), public_tasks=["gsm8k"], code_tasks=None, cautions=[], left_out=[],
        harness=SimpleNamespace(datasets=dict), genes=[], kinship=None, config=SimpleNamespace(loggers=()),
    )  # fmt: skip
    with pytest.raises(EvaluationError):
        carry_out(run, prepared, listener=None, stop=None, note=told.append)
    assert told[0].startswith("warning: search items come from the public test set of gsm8k")
    assert run.database.get_meta(OBJECTIVE) == [SPEC.to_data()]
    assert run.database.get_meta(PUBLIC_TASKS) == ["gsm8k"]
    assert "public test set of gsm8k" in run.log_path.read_text()
