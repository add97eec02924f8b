"""Code that a model writes runs where it was allowed, and nowhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import GENERATION, Tiny, questions, write_task
from test_evaluation_harness import ALL, harness, reference

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import ConfigError
from evomerge.evaluation.catalog import check
from evomerge.evaluation.task import TaskSpec
from evomerge.evaluation.unsafe_code import GUARD, code_execution
from evomerge.record import Split

# In the manner of HumanEval: a guarded runner, a metric under another name than its function's, an answer put together
# by a filter. The runner writes down what it ran instead of running it.
RUNNER = """
import os
from pathlib import Path

def run(program):
    if os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
        raise ValueError("set HF_ALLOW_CODE_EVAL=1 to run programs")
    with Path(__file__).with_name("ran.txt").open("a") as file:
        file.write(repr(program) + "\\n")
    return float(len(program) % 2)
"""
CODE = """
from runner import run as _run

def pass_at_k(references, predictions, k=None):
    return {f"pass@{n}": _run(predictions[0][0] + references[0]) for n in k}

def build(resps, docs):
    return [[doc["question"] + one for one in group] for group, doc in zip(resps, docs)]

def judge(doc, results):
    return {"passed": _run(results[0])}
"""
SETTINGS: dict[str, Any] = {key: value for key, value in GENERATION.items() if key != "metric_list"}
METRIC = "metric_list:\n- {metric: !function code.pass_at_k, aggregation: mean, higher_is_better: true, k: [1, 2]}\n"
FILTER = "filter_list:\n- {name: create_test, filter: [{function: custom, filter_fn: !function code.build}]}\n"
JUDGED = (
    "process_results: !function code.judge\n"
    "metric_list:\n- {metric: passed, aggregation: mean, higher_is_better: true}\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tasks that run code; the user's shell allows it, which must not be enough."""
    monkeypatch.setenv(GUARD, "1")
    docs = {"test": [{"question": q, "answer": "x"} for q in questions(16, seed=2)]}
    for name, text, more in (
        ("marked", METRIC + FILTER, {"unsafe_code": True}),
        ("unmarked", METRIC + FILTER, {}),
        ("judged", JUDGED, {}),
        ("declared", "metric_list:\n- {metric: code_eval, hf_evaluate: true}\n", {}),
    ):
        path = write_task(tmp_path, name, docs, **SETTINGS, **more)
        path.write_text(path.read_text() + text)
    (tmp_path / "code.py").write_text(CODE)
    (tmp_path / "runner.py").write_text(RUNNER)
    (tmp_path / "told.py").write_text("# needs code_eval\n" + CODE)
    told = tmp_path / "unmarked.yaml"
    (tmp_path / "by_its_file.yaml").write_text(
        told.read_text().replace("!function code.", "!function told.").replace("task: unmarked", "task: by_its_file")
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "runner", raising=False)
    return tmp_path


def ran(folder: Path) -> list[str]:
    file = folder / "ran.txt"
    return file.read_text().splitlines() if file.exists() else []


def test_allowed_code_gives_lm_evals_scores_under_the_names_that_it_reports(folder: Path, tiny: Tiny) -> None:
    spec = TaskSpec("marked", "pass@1")
    made = harness(folder, spec, sizes=ALL, allow_unsafe_code=True)
    theirs = reference(tiny, folder, {"marked": tuple(range(16))}, confirm_run_unsafe_code=True)["marked"]
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    assert [s.metrics["pass@1"] for s in scores] == [theirs[i, "create_test"]["pass@1"] for i in range(16)]
    assert [s.metrics["pass@2"] for s in scores] == [s.metrics["pass@1"] for s in scores]
    assert {s.metrics["pass@1"] for s in scores} == {0.0, 1.0}
    assert (made.specs[0].filter, made.specs[0].direction) == ("create_test", "maximize")
    assert made.code_tasks == ["marked"]


def test_a_wrong_name_is_told_with_those_that_the_functions_report(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown metric of task 'marked': 'pass_at_k'; did you mean 'pass@"):
        harness(folder, TaskSpec("marked", "pass_at_k"), allow_unsafe_code=True).prepare()


@pytest.mark.parametrize("name", ["marked", "declared", "by_its_file"])
def test_tasks_that_say_so_are_refused_from_their_files_with_the_key(folder: Path, name: str) -> None:
    (problem,) = check([TaskSpec(name, "pass@1")], [folder], every_metric=True)
    assert f"task {name!r} runs code that the models write" in problem
    assert "`evaluation.allow_unsafe_code: true`" in problem and "--allow-unsafe-code" in problem
    assert check([TaskSpec("marked", "pass@1")], [folder], allow_unsafe_code=True) == []


def test_a_task_that_does_not_say_so_runs_nothing_either(folder: Path, tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"'unmarked' runs code .* set `evaluation\.allow_unsafe_code"):
        harness(folder, TaskSpec("unmarked", "pass@1")).prepare()
    judged = harness(folder, TaskSpec("judged", "passed"))
    with pytest.raises(ConfigError, match=r"'judged' runs code .* set `evaluation\.allow_unsafe_code"):
        judged.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    assert ran(folder) == []
    harness(folder, TaskSpec("judged", "passed"), allow_unsafe_code=True).score(
        tiny.model, tiny.tokenizer, Split.SEARCH
    )
    assert len(ran(folder)) == 10


def test_the_guard_is_as_it_was_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in ("1", "0", None):
        monkeypatch.delenv(GUARD, raising=False)
        if before is not None:
            monkeypatch.setenv(GUARD, before)
        for allowed in (True, False):
            with pytest.raises(RuntimeError), code_execution(allowed):
                assert os.environ[GUARD] == str(int(allowed))
                raise RuntimeError
            assert os.environ.get(GUARD) == before


def test_a_search_says_it_first_in_its_log_in_its_status_and_on_its_card(folder: Path, tmp_path: Path) -> None:
    config = {
        "models": {"base": "zoo:base", "parents": {"math": "zoo:math", "japanese": "zoo:japanese"}},
        "method": "task_arithmetic",
        "space": {"blocks": 1},
        "budget": {"candidates": 2},
        "evaluation": {
            "tasks": [{"name": "marked", "metric": "pass@1"}],
            "include_path": [str(folder)],
            "split": {"search": 5, "validation": 4, "test": 3},
            "finalists": 2,
        },
        "execution": {"device": "cpu", "threads": 1},
    }
    with pytest.raises(ConfigError, match=r"set `evaluation\.allow_unsafe_code: true`"):
        api.search(config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists() and ran(folder) == []
    config["evaluation"]["allow_unsafe_code"] = True  # type: ignore[index]
    said: list[str] = []
    run = api.search(config, run_dir=tmp_path / "run", note=said.append)
    told = "code that the models write in answers of the tasks marked is run on this machine with your rights"
    assert [told in one for one in said].index(True) < said.index("loading the parents")
    assert told in (run.path / "run.log").read_text()
    assert run.status()["code_tasks"] == ["marked"] and any(told in one for one in run.warnings())
    assert told in (api.export(run.path, tmp_path / "out") / "README.md").read_text()


def test_evaluate_has_a_flag_for_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "zoo:base", "--task", "marked", "--include-path", str(folder), "--limit", "4", "--device=cpu"]
    assert main(words) == 2
    assert "--allow-unsafe-code" in capsys.readouterr().err and ran(folder) == []
    assert main([*words, "--allow-unsafe-code"]) == 0
    out, err = capsys.readouterr()
    assert "pass@1" in out and "warning: code that the models write" in err
