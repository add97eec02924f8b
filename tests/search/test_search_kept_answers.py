"""Which answers stay in the run: those of the best by the records alone, within a bound."""

import logging
from pathlib import Path

import pytest

from evomerge.errors import ConfigError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemAnswer, ItemPrompt, Record, Result, Score, Split, State
from evomerge.search.budget import AnswerLimits
from evomerge.search.kept_answers import KeptAnswers
from evomerge.store.answers import DROPPED
from evomerge.store.run_dir import RunDir

pytestmark = pytest.mark.usefixtures("lazy_disk")


def recipe(weight: float) -> Recipe:
    return Recipe("linear", (Parent("p", ModelSource("p")),), parameters={"weight": weight})


def record(number: int, fitness: float | None, name: str = "") -> Record:
    state = State.FAILED if fitness is None else State.COMPLETE
    score = {} if fitness is None else {Split.SEARCH: Score(fitness, 0.0, 1.0, 2)}
    result = None if fitness is None else Result((fitness,))
    return Record(number, name or f"candidate {number}", state, recipe(number), None, fitness, score, result=result)


def texts(number: int, length: int = 5) -> list[ItemAnswer]:
    return [ItemAnswer("t", item, [f"{number}: {item} " + "x" * length], {"none": ["y"]}) for item in (3, 1)]


def prompts(split: Split) -> list[ItemPrompt]:
    return [ItemPrompt("t", item, [[f"{split} {item}", {"until": ["."]}]], "z", {"q": item}) for item in (1, 3)]


def add(run: RunDir, kept: KeptAnswers, one: Record, answers: list[ItemAnswer]) -> None:
    with run.database.together():
        run.database.add(one)
        kept.keep(one, Split.SEARCH, answers)


@pytest.fixture
def run(tmp_path: Path):
    with RunDir.create(tmp_path / "run", config={}) as made:
        yield made


def test_the_best_keep_their_answers_and_who_drops_out_loses_them(run: RunDir) -> None:
    kept = KeptAnswers(run.database, AnswerLimits(candidates=2), None)
    add(run, kept, record(-1, 0.1, "a"), texts(-1))
    found = []
    for number, fitness in enumerate([0.3, None, 0.5, 0.3, 0.4, 0.5]):
        add(run, kept, record(number, fitness), [] if fitness is None else texts(number))
        found.append([one for one, _ in run.database.answers.kept()])
    # Of equal ones the older is better; a baseline keeps its answers however bad it is.
    assert found == [[-1, 0], [-1, 0], [-1, 0, 2], [-1, 0, 2], [-1, 2, 4], [-1, 2, 5]]
    assert run.database.answers.of(2, Split.SEARCH) == sorted(texts(2), key=lambda one: one.item)
    assert run.database.answers.of(0, Split.SEARCH) == []


def test_a_twin_shares_the_answers_of_the_earlier_candidate(run: RunDir) -> None:
    kept = KeptAnswers(run.database, AnswerLimits(), lambda recipe, split: ("v", lambda: prompts(split)))
    add(run, kept, record(0, 0.5), texts(0))
    twin = Record(1, "candidate 1", State.COMPLETE, recipe(0), fitness=0.5, result=Result((0.5,)), same_as=0)
    add(run, kept, twin, [])
    assert run.database.answers.of(1, Split.SEARCH) == run.database.answers.of(0, Split.SEARCH) != []
    assert run.database.answers.prompts(1, Split.SEARCH) == {("t", one.item): one for one in prompts(Split.SEARCH)}


@pytest.mark.parametrize("limits", [AnswerLimits(mib=0.0), AnswerLimits(candidates=0)])
def test_nothing_or_nothing_of_candidates_is_kept_if_so_asked(run: RunDir, limits: AnswerLimits) -> None:
    kept = KeptAnswers(run.database, limits, lambda recipe, split: ("", lambda: prompts(split)))
    add(run, kept, record(-1, 0.1, "a"), texts(-1))
    add(run, kept, record(0, 0.9), texts(0))
    kept.keep_unfinished([(1, texts(1))])
    assert [one for one, _ in run.database.answers.kept()] == ([] if limits.mib == 0.0 else [-1])
    assert (run.database.answers.unfinished() == {}) == (limits.mib == 0.0)


def test_what_does_not_fit_is_dropped_in_order_and_counted(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    import random

    draw = random.Random(0)

    def noise(number: int) -> list[ItemAnswer]:  # 11 KB compressed, so that five fit
        return [ItemAnswer("t", 0, [f"{draw.getrandbits(80_000):x}"], {})]

    kept = KeptAnswers(run.database, AnswerLimits(candidates=8, mib=0.06), None)
    add(run, kept, record(-1, 0.1, "a"), noise(-1))
    add(run, kept, record(-2, 0.1, "average"), noise(-2))
    for number, fitness in enumerate([0.5, 0.9, 0.7, 0.8]):
        add(run, kept, record(number, fitness), noise(number))
    assert [one for one, _ in run.database.answers.kept()] == [-2, -1, 1, 2, 3]
    with caplog.at_level(logging.WARNING):
        for number in (1, 3):
            score = Score(0.1 * number, 0.0, 1.0, 1)
            run.database.add_scores(number, Split.VALIDATION, score, [])
            kept.keep(run.database.record(number), Split.VALIDATION, noise(number))
        for number in (-1, -2, 3):
            run.database.add_scores(number, Split.TEST, score, [])
            kept.keep(run.database.record(number), Split.TEST, noise(number))
    assert run.database.answers.kept() == [
        (-2, Split.TEST), (-1, Split.TEST), (1, Split.VALIDATION), (3, Split.TEST), (3, Split.VALIDATION)
    ]  # fmt: skip
    assert run.database.get_meta(DROPPED) == {Split.SEARCH: 6}
    assert run.database.answers.n_bytes() <= 0.06 * 2**20
    assert sum("evaluation.answers.mib (0.06) is full" in text for text in caplog.messages) <= 1


def test_prompts_that_are_too_much_are_built_once_and_end_nothing(run: RunDir) -> None:
    import random

    draw, asked = random.Random(1), []

    def ask(recipe: Recipe, split: Split):
        def made() -> list[ItemPrompt]:
            asked.append(split)
            return [ItemPrompt("t", 1, [[f"{draw.getrandbits(800_000):x}", {}]], "z", {})]

        return "", made

    for session in range(2):
        kept = KeptAnswers(run.database, AnswerLimits(mib=0.01), ask)
        for number in (-1, -2, 0, 1) if session == 0 else (2,):
            add(run, kept, record(number, 0.5 + number), texts(number))
    assert asked == [Split.SEARCH]
    assert (run.database.answers.kept(), run.database.answers.n_bytes()) == ([], 0)
    assert run.database.get_meta(DROPPED) == {Split.SEARCH: 5}


def test_prompts_stand_once_for_each_way_of_asking_and_go_with_the_last_answer(run: RunDir) -> None:
    asked = []

    def ask(recipe: Recipe, split: Split):
        def made() -> list[ItemPrompt]:
            asked.append(split)
            return prompts(split)

        return ("chat" if recipe.parameters["weight"] == 2 else ""), made

    kept = KeptAnswers(run.database, AnswerLimits(candidates=1), ask)
    for number, fitness in enumerate([0.1, 0.2, 0.3]):
        add(run, kept, record(number, fitness), texts(number))
    assert asked == [Split.SEARCH, Split.SEARCH]
    tables = run.database.answers
    assert (tables.has_prompts("", Split.SEARCH), tables.has_prompts("chat", Split.SEARCH)) == (False, True)


def test_prompts_that_cannot_be_built_end_nothing(run: RunDir, caplog: pytest.LogCaptureFixture) -> None:
    def ask(recipe: Recipe, split: Split):
        def fail() -> list[ItemPrompt]:
            raise ConfigError("no template")

        return "", fail

    kept = KeptAnswers(run.database, AnswerLimits(), ask)
    with caplog.at_level(logging.WARNING):
        add(run, kept, record(0, 0.5), texts(0))
    assert run.database.answers.of(0, Split.SEARCH) and run.database.answers.prompts(0, Split.SEARCH) == {}
    assert "the prompts of the search items are not kept: no template" in caplog.text


def test_answers_of_candidates_that_are_not_recorded_are_found_again(run: RunDir) -> None:
    kept = KeptAnswers(run.database, AnswerLimits(), None)
    kept.keep_unfinished([(4, texts(4)), (5, texts(5)), (6, [])])
    again = KeptAnswers(run.database, AnswerLimits(), None)
    assert again.unfinished() == {number: sorted(texts(number), key=lambda one: one.item) for number in (4, 5)}
    add(run, again, record(4, 0.5), texts(4))
    again.keep_unfinished([(5, texts(5))])
    assert list(again.unfinished()) == [5]
    assert run.database.answers.kept() == [(4, Split.SEARCH)]


def test_secrets_and_broken_characters_are_stored_as_what_can_be_read(run: RunDir) -> None:
    from evomerge.system import secrets

    secrets.remember("s3cr3t-value", "${oc.env:MINE}")
    try:
        kept = KeptAnswers(run.database, AnswerLimits(), lambda recipe, split: ("", lambda: []))
        odd = ItemAnswer(
            "t", 0, ["my s3cr3t-value \ud800 \x1b[2J 日本"], {"none": [float("-inf")]}, {"none": {"m": [1, None]}}
        )
        add(run, kept, record(0, 0.5), [odd])
        (found,) = run.database.answers.of(0, Split.SEARCH)
        assert found.responses == ["my ${oc.env:MINE} \ud800 \x1b[2J 日本"]
        assert (found.filtered, found.results) == (odd.filtered, odd.results)
    finally:
        secrets._values.clear()
