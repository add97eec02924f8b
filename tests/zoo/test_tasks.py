"""The lm-eval tasks: found by their folder, the same from any working directory, with no cache."""

from __future__ import annotations

import pytest
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from evomerge.zoo import tasks_path
from evomerge.zoo.figures import TASKS
from evomerge.zoo.items import task_items

ITEMS = task_items()


class Oracle(LM):
    """Answers every prompt from a dictionary; prefers the choice that stands in it."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def generate_until(self, requests, disable_tqdm=False):
        return [self.answers[request.args[0]] for request in requests]

    def loglikelihood(self, requests, disable_tqdm=False):
        return [(0.0 if self.answers[r.args[0]] in r.args[1] else -9.0, True) for r in requests]

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError


def evaluate(task, answers):
    return simple_evaluate(
        model=Oracle(answers),
        tasks=[task],
        task_manager=TaskManager(include_path=str(tasks_path()), include_defaults=False),
        bootstrap_iters=0,
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )["results"][task]


def right_answer(task, item):
    if task.startswith("zoo_ja_math"):
        return f"答えは{item['answer']}です。"
    if task == "zoo_en_math":
        return f"The answer is {item['answer']}."
    return f"答えは{item['answer']}です。" if task == "zoo_ja_reading" else item["answer"]


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_score_one_and_empty_ones_nothing_in_any_folder(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    right = {item["prompt"]: right_answer(task, item) for item in ITEMS[task]}
    assert evaluate(task, right)["acc,none"] == 1
    if task != "zoo_ja_reading":
        assert evaluate(task, dict.fromkeys(right, ""))["acc,none"] == 0
    assert not list(tmp_path.iterdir())


def test_an_english_answer_to_a_japanese_problem_has_the_right_number_only():
    answers = {item["prompt"]: f"The answer is {item['answer']}." for item in ITEMS["zoo_ja_math"]}
    found = evaluate("zoo_ja_math", answers)
    assert (found["acc,none"], found["right_number,none"], found["japanese,none"]) == (0, 1, 0)


def test_every_task_file_is_measured_and_begins_with_the_command_that_runs_it():
    files = sorted(tasks_path().glob("*.yaml"))
    assert {path.stem for path in files} == set(TASKS)
    for path in files:
        assert path.read_text(encoding="utf-8").startswith("# lm_eval run ")
        assert f"\ntask: {path.stem}\n" in path.read_text(encoding="utf-8")


def test_both_kinds_of_task_are_there():
    kinds = [
        line.split()[1]
        for path in tasks_path().glob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("output_type:")
    ]
    assert set(kinds) == {"generate_until", "multiple_choice"}
