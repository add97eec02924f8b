"""What the estimator makes of a baseline that it does not know."""

import numpy as np
import pytest
from accuracy import Accuracy

from evomerge.errors import EvaluationError
from evomerge.fitness.choose import uniform_order
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.left_out import left_out
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore

RECIPE = Recipe("linear", (Parent("p", ModelSource("p")),), parameters={"weight": 1.0})
N = 40
ANSWERS = (np.random.default_rng(0).random((9, N)) < np.linspace(0.2, 0.8, 9)[:, None]).astype(float)
NUMBER, ASKED = 6, 10


def scores(row: np.ndarray) -> list[ItemScore]:
    return [ItemScore("t", item, {"acc": value}) for item, value in enumerate(row.tolist()) if not np.isnan(value)]


def scoring(left: np.ndarray = ANSWERS[0], others: np.ndarray | None = None, **options) -> Scoring:
    """Three baselines, the first of which is `left`, and six candidates, each of which answered a third."""
    table = ItemTable({"t": range(N)}, [Term("t", "t", 1.0)])
    found = Scoring(Accuracy(), table, **{"items": ASKED, "choose": "uniform", "seed": 3} | options)
    if others is not None:
        found.observe_others({"t": others})
    for number, row in ((-1, left), (-2, ANSWERS[1]), (-3, ANSWERS[2])):
        found.observe(number, None, scores(row))
    for number in range(NUMBER):
        row = np.where(np.arange(N) % 3 == number % 3, ANSWERS[3 + number], np.nan)
        found.observe(number, np.array([number / 6.0]), scores(row))
    return found


def test_the_mean_is_that_of_the_items_that_the_next_candidate_is_asked() -> None:
    (found,) = left_out(scoring(estimator="mean"), -1, RECIPE, scores(ANSWERS[0]), NUMBER)
    asked = uniform_order(N, (3, 1, NUMBER))[:ASKED]
    assert found.n == ASKED and found.mean == pytest.approx(ANSWERS[0][asked].mean())


@pytest.mark.parametrize("estimator", ["mean", "model", "ridge", "gp-irt"])
def test_nothing_of_the_other_answers_is_known(estimator: str) -> None:
    asked = uniform_order(N, (3, 1, NUMBER))[:ASKED]
    other = 1.0 - ANSWERS[0]
    other[asked] = ANSWERS[0][asked]
    found = [
        left_out(scoring(row, estimator=estimator), -1, RECIPE, scores(row), NUMBER) for row in (ANSWERS[0], other)
    ]
    assert found[0] and found[0] == found[1]


def test_the_same_model_among_those_of_other_runs_is_left_out_too() -> None:
    rows = ANSWERS[3:6]
    with_it = np.vstack([rows[:1], ANSWERS[:1], rows[1:]])
    found = [
        left_out(scoring(others=others), -1, RECIPE, scores(ANSWERS[0]), NUMBER) for others in (rows, with_it, rows[:2])
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("choose", ["stratified", "information"])
def test_the_search_goes_on_as_if_nothing_had_been_asked(choose: str) -> None:
    questions = []
    for asks in (False, True):
        one = scoring(choose=choose)
        if asks:
            assert left_out(one, -1, RECIPE, scores(ANSWERS[0]), NUMBER)
        one.enter(NUMBER, RECIPE, np.array([0.5]), 1)
        questions.append(one.next_questions())
        one.answer(NUMBER, [ItemScore("t", item, {"acc": 1.0}) for item in questions[-1][0][1]["t"]])
        questions.append(one.verdicts())
    assert questions[:2] == questions[2:]


def test_in_a_race_it_is_estimated_from_its_first_block_and_at_the_end() -> None:
    found = left_out(scoring(race=Race(block=4)), -1, RECIPE, scores(ANSWERS[0]), NUMBER)
    assert [one.n for one in found] == [4, ASKED]
    whole = left_out(scoring(items=N, race=Race(block=4)), -1, RECIPE, scores(ANSWERS[0]), NUMBER)
    assert whole == found[:1]


def test_it_needs_others_that_answered_everything() -> None:
    one = Scoring(Accuracy(), ItemTable({"t": range(N)}, [Term("t", "t", 1.0)]), items=ASKED)
    one.observe(-1, None, scores(ANSWERS[0]))
    with pytest.raises(EvaluationError, match="no baseline"):
        left_out(one, -1, RECIPE, scores(ANSWERS[0]), 0)
    assert left_out(scoring(items=None), -1, RECIPE, scores(ANSWERS[0]), NUMBER) == ()
