"""The answers in a model card: a few of each task, the same ones each time, and nothing but text."""

from pathlib import Path

import pytest

from evomerge.analysis.verdict import OBJECTIVE
from evomerge.evaluation.task import TaskSpec
from evomerge.export.card_answers import EACH, MOST_TASKS, card_answers
from evomerge.export.from_run import run_card
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Choice, ItemAnswer, ItemPrompt, ItemScore, Record, Result, Score, Split, State
from evomerge.store.run_dir import RunDir

pytestmark = pytest.mark.usefixtures("lazy_disk")

CONFIG = {"name": "c", "models": {"parents": {"a": "x"}}, "evaluation": {"tasks": []}}
N = 20


def make(path: Path, tasks: int = 1, said: str = "4|`x`\n<b>") -> RunDir:
    """A parent and a winner: item 0 is gained, 1 is lost, 2 to 9 are right, the others wrong."""
    run = RunDir.create(path, config=CONFIG)
    names = [f"t{i}" for i in range(tasks)]
    run.database.set_meta(OBJECTIVE, [TaskSpec(name, "acc", direction="maximize").to_data() for name in names])
    right = {-1: {*range(1, 10)}, 0: {0, *range(2, 10)}}
    for number, name in ((-1, "a"), (0, "candidate 0")):
        recipe = Recipe("linear", (Parent("p", ModelSource(f"zoo:p{number}")),))
        score = Score(0.5, 0.4, 0.6, N)
        scored = dict.fromkeys(Split, score)
        run.database.add(
            Record(number, name, State.COMPLETE, recipe, None, 0.5, scored, result=Result((0.5,))),
            scores={
                split: [ItemScore(task, i, {"acc": float(i in right[number])}) for task in names for i in range(N)]
                for split in (Split.SEARCH, Split.VALIDATION, Split.TEST)
            },
        )
        texts = [ItemAnswer(task, i, [f"{said} of {name} {i}"], {"none": ["y"]}) for task in names for i in range(N)]
        run.database.answers.put(number, Split.TEST, texts, variant="")
        run.database.answers.put(number, Split.VALIDATION, texts, variant="")
    prompts = [ItemPrompt(task, i, [[f"question {i} " + "x" * 1000, {}]], "t", {}) for task in names for i in range(N)]
    for split in (Split.TEST, Split.VALIDATION):
        run.database.answers.put_prompts("", split, prompts)
    run.database.set_choice(Choice("winner", (0,)))
    return run


def rows(card: str) -> list[str]:
    return [
        line for line in card.splitlines() if line.startswith(("| ", "|")) and line.split(":")[0].strip("| ").isdigit()
    ]


def test_one_gained_one_lost_and_one_that_both_have_wrong_are_shown_each_time(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        record = run.database.record(0)
        section = card_answers(run, record)
        assert section == card_answers(run, record) and section.startswith("## Answers")
        found = rows(section)
        assert [line.split("|")[1].strip() for line in found[:2]] == ["0: gained", "1: lost"]
        assert len(found) == EACH and found[2].split("|")[1].strip().endswith(": wrong")
        assert "On test items, beside those of the parent that is best at the task" in section
        assert "| item | asked | right answer | this model | a |" in section
        assert "right: " in found[0] and "wrong: " in found[0]
        card = run_card(run, record, config=CONFIG, title="mine")
        assert section in card and card.index("## Scores") < card.index("## Answers") < card.index("## Parents")
        assert "## Answers" not in run_card(run, record, config=CONFIG, title="mine", answers=False)


def test_foreign_text_means_nothing_in_the_card_and_long_text_is_shortened(tmp_path: Path) -> None:
    with make(tmp_path / "run", said="a|b ``` <img src=x> \x1b[2J \u202e [l](http://x)" + "z" * 5000) as run:
        section = card_answers(run, run.database.record(0))
        from markdown_it import MarkdownIt

        html = MarkdownIt("commonmark").enable("table").render(section)
        assert html.count("<tr>") == 1 + EACH
        assert "<img" not in html and "<a " not in html and "\x1b" not in section and "\u202e" not in section
        assert html.count("<td>") == 5 * EACH
        assert len(section) < 6000


@pytest.mark.parametrize("said", ["hf_" + "Ab1" * 12, "-----BEGIN PRIVATE KEY-----"])
def test_what_looks_like_a_secret_is_left_out(tmp_path: Path, said: str) -> None:
    with make(tmp_path / "run", said=said) as run:
        section = card_answers(run, run.database.record(0))
        assert said not in section and section.count("left out: it looks like a secret") == 2 * EACH


def test_a_suite_of_many_tasks_does_not_fill_the_card(tmp_path: Path) -> None:
    with make(tmp_path / "run", tasks=MOST_TASKS + 3) as run:
        section = card_answers(run, run.database.record(0))
        assert len(rows(section)) == MOST_TASKS * EACH and "Likewise for 3 further tasks" in section


def test_without_test_items_validation_items_are_shown_and_search_items_never(tmp_path: Path) -> None:
    with make(tmp_path / "run") as run:
        record = run.database.record(0)
        run.database.answers.drop(-1, Split.TEST)
        assert "| this model |\n" in card_answers(run, record)  # the parent's are not kept
        run.database.answers.drop(0, Split.TEST)
        assert "On validation items" in card_answers(run, record)
        for number in (-1, 0):
            run.database.answers.put(
                number, Split.SEARCH, run.database.answers.of(number, Split.VALIDATION), variant=""
            )
            run.database.answers.drop(number, Split.VALIDATION)
        assert card_answers(run, record) == ""
        assert card_answers(run, run.database.record(-1)) == ""
