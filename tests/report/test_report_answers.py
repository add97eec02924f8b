"""Answers side by side: what is on the page, in which order, and that it stays within bounds."""

import itertools
import json
import math

from made_runs import HOSTILE, TWO_OBJECTIVES
from markupsafe import Markup

from evomerge.analysis.answers import AnsweredItem, ModelAnswer
from evomerge.record import ItemAnswer, ItemPrompt, Split
from evomerge.report.answer_rows import (
    ANSWER,
    answer_rows,
    as_many_as_fit,
    kind_beside,
    probabilities,
    without_beginning,
)
from evomerge.report.data import RunData
from evomerge.report.figures.answers import draw


def answered(
    question: str,
    responses: list,
    *,
    item: int = 0,
    score: float | None = 1.0,
    requests: list | None = None,
    target: object = None,
    filtered: dict | None = None,
    direction: str = "maximize",
) -> AnsweredItem:
    answer = ItemAnswer("t", item, responses, filtered or {})
    right = None if score is None else score == 1.0
    return AnsweredItem(
        "t",
        item,
        Split.TEST,
        ItemPrompt("t", item, requests or [[question, {}]], target),
        {"7": ModelAnswer(answer, {}, score, right), "parent:p": ModelAnswer(answer, {}, 0.0, False)},
        "right",
        ("acc", None),
        direction,
    )


def test_lost_items_come_first_and_the_lead_counts_them(open_made) -> None:
    run: RunData = open_made(answers=True)
    figure = draw([run])
    assert figure is not None
    data = json.loads(figure.data["json"])
    assert data["splits"] == ["test", "validation", "search"]
    assert [one["name"] for one in data["models"]] == ["best merge", "math", "words", "code", "average"]
    assert [task["name"] for task in data["tasks"]] == ["add", "reverse"]
    test = [row for row in data["rows"] if row["s"] == 0]
    assert len(test) == 80
    better = {(1, 0): "gained", (0, 1): "lost", (0, 0): "wrong", (1, 1): "right"}
    kinds = [better[row["a"]["0"]["r"], row["a"][str(data["tasks"][row["t"]]["best"])]["r"]] for row in test]
    assert kinds == sorted(kinds, key=["lost", "gained", "wrong", "right"].index)
    assert f"Of 80 test items the best merge gained {kinds.count('gained')}" in figure.lead
    assert f"lost {kinds.count('lost')} that it has right" in figure.lead
    assert len(figure.data["first"]) == 4 and figure.data["first"][0]["kind"] == kinds[0]


def test_a_front_has_its_merges_to_choose_from(open_made) -> None:
    figure = draw([open_made(specs=TWO_OBJECTIVES, choice="front", answers=True)])
    assert figure is not None
    merges = [one["name"] for one in figure.data["models"] if one["merge"]]
    assert len(merges) > 1 and merges[0].startswith("best merge (candidate ")


def test_every_kind_of_run_has_a_figure_or_none(any_run: RunData) -> None:
    figure = draw([any_run])
    assert (figure is None) == (not any_run.run.database.answers.kept())


def test_parents_alone_are_shown_while_no_merge_has_answered(open_made) -> None:
    figure = draw([open_made(candidates=0, choice=None, answers=True)])
    assert figure is not None and figure.lead.startswith("Math answered 80 test items")


def test_what_anybody_wrote_stays_text(open_made) -> None:
    figure = draw([open_made(hostile=True, answers=True)])
    assert figure is not None
    held = figure.data["json"]
    assert isinstance(held, Markup) and "<" not in held and "\u202e" not in held
    texts = [answer["x"] for row in json.loads(held)["rows"] for answer in row["a"].values()]
    assert HOSTILE.replace("\u202e", "\\u202e") in texts[0]


def test_several_runs_have_none(open_made) -> None:
    assert draw([open_made(answers=True), open_made(answers=True)]) is None


def test_examples_before_the_question_stand_once() -> None:
    examples = "".join(f"Q: {i} + {i}?\nA: {2 * i}\n\n" for i in range(30))
    shared, rests = without_beginning([f"{examples}Q: {i}?\nA:" for i in (7, 8)])
    assert shared == [["", examples.strip()]]
    assert rests == [{"q": "Q: 7?\nA:"}, {"q": "Q: 8?\nA:"}]
    assert without_beginning(["Q: 7?", "Q: 8?"]) == ([], [{"q": "Q: 7?"}, {"q": "Q: 8?"}])
    assert without_beginning([]) == ([], [])


def test_turns_of_a_chat_are_told_apart() -> None:
    system = "<|im_start|>system\n" + "Be brief. " * 30 + "<|im_end|>\n"
    prompts = [f"{system}<|im_start|>user\n{i}?<|im_end|>\n<|im_start|>assistant\n" for i in (7, 8)]
    shared, rests = without_beginning(prompts)
    assert [who for who, _ in shared] == ["system"] and rests == [{"q": "7?"}, {"q": "8?"}]
    _, alone = without_beginning(prompts[:1])
    assert alone[0]["q"] == "7?" and alone[0]["w"][0][0] == "system"


def test_options_have_probabilities_and_the_chosen_one() -> None:
    requests = [["Which?", " red"], ["Which?", " blue"]]
    item = answered("", [[math.log(0.3), False], [math.log(0.1), False]], requests=requests, target=1)
    rows, _ = answer_rows([item], {"7": 0}, ["t"], ["test"])
    assert rows[0]["o"] == ["red", "blue"] and rows[0]["g"] == "blue"
    assert rows[0]["a"][0] == {"v": 1.0, "r": 1, "p": [0.75, 0.25], "c": 0}
    assert probabilities(ModelAnswer(ItemAnswer("t", 0, [-math.inf, -math.inf]), {}), 2) is None


def test_long_and_filtered_answers() -> None:
    item = answered("Q", ["x" * 5000 + "\x1b[31m 9"], filtered={"": ["9"]}, score=0.5)
    rows, _ = answer_rows([item], {"7": 0}, ["t"], ["test"])
    answer = rows[0]["a"][0]
    assert (
        len(answer["x"]) < ANSWER + 40 and "(3,407 characters)" in answer["x"] and answer["x"].endswith("\\x1b[31m 9")
    )
    assert answer["f"] == "9" and answer["v"] == 0.5 and answer["r"] == 0


def test_a_small_score_is_better_where_less_is() -> None:
    item = answered("Q", ["a"], direction="minimize")
    assert kind_beside(item, "7", "parent:p") == "lost"
    assert kind_beside(answered("Q", ["a"]), "7", "parent:p") == "gained"
    assert kind_beside(answered("Q", ["a"]), "7", None) == "right"
    assert kind_beside(answered("Q", ["a"]), "8", None) == "not judged"


def test_what_does_not_fit_is_an_even_sample_of_the_rest() -> None:
    rows = [{"q": "x" * 90} for _ in range(100)]  # 100 bytes each
    ranks = [0 if place < 10 else 2 for place in range(100)]
    kept = as_many_as_fit(rows, ranks, 4000)
    assert kept[:10] == list(range(10)) and 38 <= len(kept) <= 40
    gaps = [b - a for a, b in itertools.pairwise(kept[10:])]
    assert set(gaps) <= {3, 4}
    assert as_many_as_fit(rows, ranks, 10**6) == list(range(100))
    few = as_many_as_fit(rows, [1] * 100, 500)
    assert 4 <= len(few) <= 5 and few[0] > 0
    # Those that come first leave a fifth to the others.
    many = as_many_as_fit(rows, [0] * 80 + [1] * 20, 2000)
    assert len([place for place in many if place < 80]) == 16 and len(many) >= 19
