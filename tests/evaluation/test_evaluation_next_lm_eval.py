"""How our reading of tasks does with a pre-release of lm-eval's next version, where one is installed."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from evaluation_helpers import Tiny
from test_evaluation_harness import ALL, harness, reference

from evomerge.evaluation import index
from evomerge.evaluation.catalog import TaskCatalog, check
from evomerge.evaluation.task import TaskSpec
from evomerge.record import Split

VERSION = importlib.metadata.version("lm_eval")
NEW = tuple(map(int, VERSION.split(".")[:2])) >= (0, 5)
installed = pytest.mark.skipif(not NEW, reason=f"lm-eval {VERSION} is installed; see CONTRIBUTING.md")
different = pytest.mark.xfail(strict=True, reason="scorers stand in for filters, process_results and metrics")


@pytest.mark.next_lm_eval
@installed
def test_names_are_found_as_before() -> None:
    catalog = TaskCatalog()
    kinds = {}
    for name in ("gsm8k", "mmlu", "mgsm_direct"):
        entry = catalog.find(name)
        assert entry is not None and (entry.kind == "task" or catalog.members(entry))
        kinds[name] = entry.kind
    assert kinds == {"gsm8k": "task", "mmlu": "group", "mgsm_direct": "tag"}


@pytest.mark.next_lm_eval
@installed
@different
@pytest.mark.parametrize(("task", "metric"), [("copy", "exact_match"), ("choice_shots", "acc")])
def test_scores_are_lm_evals(task: str, metric: str, tiny: Tiny, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "TOO_NEW", (9, 9))
    made = harness(tasks, TaskSpec(task, metric), sizes=ALL)
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    theirs = reference(tiny, tasks, {task: tuple(score.item for score in scores)})[task]
    assert [score.metrics[metric] for score in scores] == [theirs[score.item, "none"][metric] for score in scores]


@pytest.mark.parametrize(("version", "said"), [("0.5.0.dev1", "lm-eval 0.5.0.dev1 has another API"), ("1.0", "1.0")])
def test_a_newer_version_is_refused_with_what_to_do(
    version: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    (problem,) = check([TaskSpec("gsm8k", "exact_match")], [tmp_path])
    assert said in problem and "pip install 'lm-eval<0.5'" in problem
