"""Mistakes in filters, metric arguments and generation settings are found on a made-up answer, before a model."""

from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import GENERATION, questions, write_task
from test_evaluation_harness import ALL, harness

from evomerge.errors import ConfigError
from evomerge.evaluation.task import TaskSpec

SETTINGS = GENERATION["generation_kwargs"]
DOCS = {"test": [{"question": q, "answer": "a", "choices": ["a", "b"]} for q in questions(4, seed=2)]}


def prepared(folder: Path, **settings: Any) -> Any:
    write_task(folder, "tried", DOCS, **{**GENERATION, **settings})
    made = harness(folder, TaskSpec("tried", "exact_match"), sizes=ALL)
    made.prepare()
    return made


def filters(*functions: dict[str, Any]) -> dict[str, Any]:
    return {"filter_list": [{"name": "f", "filter": [*functions, {"function": "take_first"}]}]}


def exact_match(**arguments: Any) -> dict[str, Any]:
    return {"metric_list": [{**GENERATION["metric_list"][0], **arguments}]}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (filters({"function": "regex", "regex_pattern": "("}), "filter 'f' cannot be made: .*unterminated"),
        (filters({"function": "regex", "pattern": "a"}), "filter 'f' cannot be made: .*'pattern'"),
        (filters({"function": "regex", "group_select": "first"}), "group_select must be a whole number"),
        (filters({"function": "map", "mapping_dict": ["a"]}), "filter 'f' cannot be made: .*not a dictionary"),
        (filters({"function": "take_first_k", "k": 3}), "filter 'f' fails: .*at least 3"),
        (filters({"function": "multi_choice_regex", "regexes_to_ignore": ["["]}), "filter 'f' fails: .*unterminated"),
        (exact_match(regexes_to_ignore=["("]), "metric 'exact_match' fails: .*unterminated"),
        (exact_match(ignore_cases=True), "metric 'exact_match' fails: .*'ignore_cases'"),
        ({"generation_kwargs": {**SETTINGS, "until": 5}}, "until must be a text or a list of texts, but came 5"),
        ({"generation_kwargs": {**SETTINGS, "until": ["a", None]}}, "until must be"),
        ({"generation_kwargs": {**SETTINGS, "max_gen_toks": "many"}}, "max_gen_toks must be .*'many'"),
        ({"generation_kwargs": {"max_new_tokens": -3}}, "max_new_tokens must be .*-3"),
    ],
)
def test_what_fails_for_any_answer_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"task 'tried': .*{said}"):
        prepared(tmp_path, **settings)


def test_all_mistakes_of_a_task_are_said_together(tmp_path: Path) -> None:
    wrong = {"generation_kwargs": {"until": 5, "max_gen_toks": 0}}
    with pytest.raises(ConfigError) as caught:
        prepared(tmp_path, **wrong, **exact_match(zzz=1), **filters({"function": "regex", "regex_pattern": "("}))
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    "settings",
    [
        filters({"function": "regex", "regex_pattern": "(.)", "group_select": -1}),
        {**filters({"function": "take_first_k", "k": 2}, {"function": "majority_vote"}), "repeats": 2},
        filters({"function": "multi_choice_regex", "ignore_case": True, "regexes_to_ignore": ["[.]"]}),
        exact_match(ignore_case=True, regexes_to_ignore=[",", "\\$"]),
        {"metric_list": [*GENERATION["metric_list"], {"metric": "bleu", "smooth": True}]},  # lm-eval ignores it
        {"generation_kwargs": {"until": "\n", "max_gen_toks": "16", "temperature": 0, "top_p": 0.9, "num_beams": 2}},
        {"generation_kwargs": {"until": None, "max_tokens": 16, "repetition_penalty": 1.1}},
    ],
)
def test_what_lm_eval_takes_is_taken(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert prepared(tmp_path, **settings).generation_problems([("m", 512)]) == []


def test_a_filter_or_metric_of_ones_own_that_a_letter_does_not_suit_is_taken(tmp_path: Path) -> None:
    own = "def last(responses, docs):\n    return [[one.split()[3] for one in each] for each in responses]\n"
    own += "def mine(references, predictions, power=1):\n    raise TypeError('no number')\n"
    (tmp_path / "own.py").write_text(own)
    path = write_task(tmp_path, "tried", DOCS, **{**GENERATION, **filters({"function": "custom", "filter_fn": "LAST"})})
    path.write_text(path.read_text().replace("LAST", "!function own.last"))
    harness(tmp_path, TaskSpec("tried", "exact_match"), sizes=ALL).prepare()
    own_metric = "- {metric: !function own.mine, aggregation: mean, higher_is_better: true, ARGUMENT: 2}\n"
    plain = path.read_text().replace("metric_list:\n", "metric_list:\n" + own_metric)
    path.write_text(plain.replace("ARGUMENT", "power"))
    harness(tmp_path, TaskSpec("tried", "exact_match"), sizes=ALL).prepare()
    path.write_text(plain.replace("ARGUMENT", "powr"))
    with pytest.raises(ConfigError, match="metric 'mine' takes no argument 'powr'"):
        harness(tmp_path, TaskSpec("tried", "exact_match"), sizes=ALL).prepare()


def test_an_answer_must_leave_room_for_a_prompt_in_each_model(tmp_path: Path) -> None:
    made = prepared(tmp_path, generation_kwargs={"until": ["\n"]})  # lm-eval's 256
    assert made.generation_problems([("long", 257)]) == []
    [problem] = made.generation_problems([("long", 257), ("short", 256)])
    assert "task 'tried' asks for answers of up to 256 tokens" in problem and "in short (" in problem


@pytest.mark.parametrize(("name", "value"), [("repetition_penalti", 1.1), ("repetition_penalty", -1.0)])
def test_what_transformers_refuses_is_refused(tmp_path: Path, name: str, value: float) -> None:
    [problem] = prepared(tmp_path, generation_kwargs={**SETTINGS, name: value}).generation_problems([("m", 512)])
    assert "task 'tried': transformers refuses its generation_kwargs" in problem
