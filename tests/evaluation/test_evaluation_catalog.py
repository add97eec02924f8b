"""Names of tasks, metrics and filters are checked from the YAML files alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from evomerge.evaluation.catalog import TaskCatalog, check, public_sources
from evomerge.evaluation.index import load
from evomerge.evaluation.task import TaskSpec

METRICS = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]


def write(folder: Path, name: str, **config: Any) -> Path:
    path = folder / f"{name}.yaml"
    data = {"task": name, "dataset_path": "nowhere/at_all", "output_type": "generate_until", **config}
    path.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    return path


def one(folder: Path, spec: TaskSpec, **options: Any) -> str:
    problems = check([spec], [folder], **options)
    assert len(problems) == 1, problems
    return problems[0]


def test_good_specs_pass_without_opening_their_dataset(tmp_path: Path) -> None:
    write(tmp_path, "mine", metric_list=METRICS)
    specs = [TaskSpec("mine", "exact_match"), TaskSpec("gsm8k", "exact_match", filter="strict-match")]
    assert check(specs, [tmp_path]) == []


def test_local_names_are_found_in_nested_folders_and_through_includes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "base.template").write_text("output_type: generate_until\nmetric_list: [{metric: exact_match}]\n")
    (tmp_path / "deep" / "x.yaml").write_text('include: ../base.template\n"task": "quoted"  # a comment\n')
    assert check([TaskSpec("quoted", "exact_match")], [tmp_path]) == []
    assert load(tmp_path / "deep" / "x.yaml")["output_type"] == "generate_until"


def test_a_local_task_takes_precedence_over_lm_evals_own(tmp_path: Path) -> None:
    path = write(tmp_path, "gsm8k", metric_list=METRICS)
    entry = TaskCatalog([tmp_path]).find("gsm8k")
    assert entry is not None and entry.path == path


def test_an_unknown_task_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "my_arithmetic")
    assert "unknown lm-eval task 'my_aritmetic'; did you mean 'my_arithmetic'" in one(
        tmp_path, TaskSpec("my_aritmetic", "acc")
    )
    assert "'gsm8k'" in one(tmp_path, TaskSpec("gsm8kk", "acc"))


def test_a_broken_local_file_is_named_where_a_task_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("task: [unclosed\n")
    assert "bad.yaml is not valid YAML" in one(tmp_path, TaskSpec("not_there_xyz", "acc"))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    problems = check([TaskSpec("gsm8k", "exact_match", filter="strict-match")], [tmp_path / "gone"])
    assert problems == [f"include_path: there is no folder or file '{tmp_path / 'gone'}'"]


def test_tasks_that_may_be_in_a_missing_folder_are_not_called_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    problems = check([TaskSpec("my_ja", "acc"), TaskSpec("my_en", "acc"), TaskSpec("gsm8k", "nonsense")], ["tasks"])
    assert problems[0] == (
        f"include_path: there is no folder or file 'tasks' (paths start from the current folder, {tmp_path})"
    )
    assert not any("unknown lm-eval task" in one for one in problems)
    assert "nonsense" in problems[-1]  # what is known without the folder is said all the same


@pytest.mark.parametrize(("every_metric", "option"), [(True, "--include-path"), (False, "evaluation.include_path")])
def test_without_a_folder_an_unknown_task_is_told_what_takes_one(every_metric: bool, option: str) -> None:
    spec = TaskSpec("my_own_thing", "" if every_metric else "acc", direction="maximize")
    (said,) = check([spec], every_metric=every_metric)
    assert f"a task of your own needs its folder: {option} (" in said


def test_groups_and_tags_name_their_members(tmp_path: Path) -> None:
    write(tmp_path, "first", metric_list=METRICS)
    write(tmp_path, "second", metric_list=METRICS)
    (tmp_path / "g.yaml").write_text("group: both\ntask:\n  - first\n  - task: second\n    num_fewshot: 0\n")
    assert one(tmp_path, TaskSpec("both", "acc")) == (
        "'both' is a group of 2 tasks, not a task; list the tasks that should count: first, second; "
        "as a group it also changes settings of its tasks, which the names alone do not"
    )
    write(tmp_path, "third", tag=["some_tag"], metric_list=METRICS)
    assert "'some_tag' is a tag of 1 tasks, not a task; list the tasks that should count: third" in one(
        tmp_path, TaskSpec("some_tag", "acc")
    )


def test_an_unknown_metric_lists_what_the_task_reports(tmp_path: Path) -> None:
    write(tmp_path, "mine", metric_list=METRICS)
    assert one(tmp_path, TaskSpec("mine", "exakt_match")) == (
        "unknown metric of task 'mine': 'exakt_match'; did you mean 'exact_match'? Known: cut_answers, "
        "cut_prompts, empty_answers, exact_match, foreign_script, generated_tokens, negative_flips, "
        "repetitive_answers; or python:MODULE:FUNCTION, a function of yours"
    )


def test_metrics_that_are_left_out_are_lm_evals_defaults(tmp_path: Path) -> None:
    write(tmp_path, "mine", output_type="multiple_choice")
    assert check([TaskSpec("mine", "acc_norm")], [tmp_path]) == []
    assert "Known: acc, acc_norm" in one(tmp_path, TaskSpec("mine", "f1"))


def test_corpus_metrics_and_perplexities_say_why_they_cannot_be_an_objective(tmp_path: Path) -> None:
    write(tmp_path, "translate", metric_list=[{"metric": "bleu"}])
    assert "'bleu': bleu is one number for all answers together; use 'sentence_bleu'" in one(
        tmp_path, TaskSpec("translate", "bleu")
    )
    write(tmp_path, "lambada_like", output_type="loglikelihood")
    assert "use 'log_perplexity'" in one(tmp_path, TaskSpec("lambada_like", "perplexity"))
    assert check([TaskSpec("lambada_like", "log_perplexity")], [tmp_path]) == []


def test_an_unknown_or_ambiguous_filter_lists_the_filters(tmp_path: Path) -> None:
    assert "task 'gsm8k' has 2 filters, so `filter` must name the one" in one(
        tmp_path, TaskSpec("gsm8k", "exact_match")
    )
    problem = one(tmp_path, TaskSpec("gsm8k", "exact_match", filter="strict"))
    assert problem.startswith("unknown filter of task 'gsm8k': 'strict'; did you mean 'strict-match'? Known: flexible-")


def test_the_tasks_of_other_splits_are_checked_too(tmp_path: Path) -> None:
    write(tmp_path, "mine", metric_list=METRICS)
    write(tmp_path, "held_out", output_type="multiple_choice")
    assert "unknown metric of task 'held_out'" in one(tmp_path, TaskSpec("mine", "exact_match", test="held_out"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"output_type": "interpretive_dance"}, "has output_type 'interpretive_dance'; supported are generate_until"),
        ({"unsafe_code": True}, "runs code that the models write"),
        ({"doc_to_audio": "sound"}, "only text and images are supported"),
        ({"generation_kwargs": {"do_sample": True}}, "samples its answers"),
        ({"generation_kwargs": {"temperature": 0.7}}, "samples its answers"),
        ({"generation_kwargs": {"temperature": 0.7, "do_sample": None}}, "samples its answers"),
        ({"generation_kwargs": {"temperature": "hot"}}, "is not what lm-eval takes for a task (ValueError: could not"),
        ({"generation_kwargs": ["x"]}, "is not what lm-eval takes for a task"),
        ({"metric_list": "acc"}, "is not what lm-eval takes for a task"),
        ({"metric_list": [{"aggregation": "mean"}]}, "is not what lm-eval takes for a task (KeyError: 'metric')"),
        ({"filter_list": [{"filter": []}]}, "is not what lm-eval takes for a task"),
    ],
)
def test_tasks_that_cannot_be_run_are_refused_with_the_reason(tmp_path: Path, config: Any, message: str) -> None:
    write(tmp_path, "mine", **{"metric_list": METRICS, **config})
    assert message in one(tmp_path, TaskSpec("mine", "exact_match"))


def test_greedy_settings_and_allowed_code_pass(tmp_path: Path) -> None:
    settings = {"do_sample": False, "temperature": 0.7}
    write(tmp_path, "mine", metric_list=METRICS, unsafe_code=True, generation_kwargs=settings)
    assert check([TaskSpec("mine", "exact_match")], [tmp_path], allow_unsafe_code=True) == []


def test_a_fixed_number_of_examples_cannot_be_changed(tmp_path: Path) -> None:
    write(tmp_path, "mine", metric_list=METRICS, num_fewshot=0)
    assert "fixes num_fewshot to 0" in one(tmp_path, TaskSpec("mine", "exact_match", num_fewshot=5))


def test_a_direction_that_nobody_knows_must_be_given(tmp_path: Path) -> None:
    write(tmp_path, "mine", metric_list=[{"metric": "own_score", "aggregation": "mean"}])
    assert "does not say whether a larger 'own_score' is better" in one(tmp_path, TaskSpec("mine", "own_score"))
    assert check([TaskSpec("mine", "own_score", direction="maximize")], [tmp_path]) == []


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "mine", metric_list=METRICS)
    problems = check([TaskSpec("mine", "nope", filter="nope", weight=-1), TaskSpec("not_there_xyz", "acc")], [tmp_path])
    assert len(problems) == 4


def test_no_function_of_a_task_is_imported_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "boom_utils.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "t.yaml").write_text(
        "task: t\nprocess_results: !function boom_utils.f\n"
        "metric_list: [{metric: own, aggregation: !function boom_utils.agg, higher_is_better: true}]\n"
    )
    assert check([TaskSpec("t", "own")], [tmp_path]) == []
    assert "boom_utils" not in sys.modules


def test_lm_evals_own_tasks_are_public_and_local_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: mine\n")
    (tmp_path / "copy.yaml").write_text("task: gsm8k\n")
    specs = [TaskSpec("arc_easy", "acc", test="mine"), TaskSpec("mine", "acc", test="arc_easy")]
    assert public_sources(specs, [tmp_path]) == ["arc_easy"]  # of `mine`, the search items are the user's own
    assert public_sources([TaskSpec("gsm8k", "exact_match")]) == ["gsm8k"]
    assert public_sources([TaskSpec("gsm8k", "exact_match")], [tmp_path]) == []
