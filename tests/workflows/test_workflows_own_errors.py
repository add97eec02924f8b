"""Anybody's code in a search: what it raises is a candidate's record, and exit status 0 means that it is done."""

import json
from pathlib import Path

import pytest
from tiny_search import own_metric

from evomerge import api
from evomerge.cli.main import main

# The three baselines answer 3 x (6 + 4) items before the first candidate; a candidate answers 6, or fails at its first.
LATER = "n = [0]\ndef f(doc, responses):\n    n[0] += 1\n    if n[0] > 42:\n        {what}\n    return 1.0\n"

KINDS = {
    "import sys; sys.exit(0)": "SystemExit: 0",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise Mine('own')": "Mine: own",
    "return kind(doc)": "RecursionError",
    "return 10 ** 400": "OverflowError",
    "return None": "it must return a number, but returned None",
    "raise ValueError('[/INST] \\ud800 ' + 'x' * 5_000_000)": "[/INST]",
    "return -1.7e308": "is -1.7e+308",  # the last, since what raises nothing is asked for the next item, too
}


def test_what_a_metric_raises_is_the_record_of_the_candidate(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    functions = [
        f"def kind{i}(kind):\n    {what.replace('kind(doc)', f'kind{i}(kind)')}\n" for i, what in enumerate(KINDS)
    ]
    code = "class Mine(BaseException): pass\n" + "".join(functions)
    code += f"KINDS = [{', '.join(f'kind{i}' for i in range(len(KINDS)))}]\n"
    code += LATER.format(what="if KINDS: return KINDS.pop(0)(None)")
    words = [own_metric(tmp_path, "metric", code), f"run.dir={run}", f"budget.candidates={len(KINDS) + 3}"]
    assert main(["search", str(tiny_file), *words]) == 0
    captured = capsys.readouterr()
    assert "Traceback" not in captured.out + captured.err and len(captured.out) < 100_000
    assert main(["records", str(run)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["state"] for record in records] == ["complete"] * 2 + ["failed"] * len(KINDS) + ["complete"]
    for record, said in zip(records[2:], KINDS.values(), strict=False):
        assert said in record["error"] and len(record["error"]) < 30_000
    assert (run / "run.log").stat().st_size < 200_000


def test_a_run_whose_winner_has_no_further_score_is_complete_and_its_json_is_json(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, metric = tmp_path / "run", own_metric(tmp_path, "metric", LATER.format(what="return float('nan')"))
    assert main(["search", str(tiny_file), metric, f"run.dir={run}"]) == 0
    capsys.readouterr()
    assert main(["status", str(run), "--json"]) == 0
    status = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # no NaN, no Infinity
    assert status["state"] == "complete" and status["best"]["test"] is None
    assert {row["split"] for row in status["unscored"]} == {"validation", "test"}


def test_a_metric_that_fails_for_every_model_is_said_before_the_first_candidate(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, broken = tmp_path / "run", own_metric(tmp_path, "metric", "def f(doc, responses): return 1 / 0\n")
    assert main(["search", str(tiny_file), broken, f"run.dir={run}"]) == 1
    assert "no baseline could be scored" in (err := capsys.readouterr().err) and "ZeroDivisionError" in err
    assert "start anew with another run.dir" in err and "continues it" not in err  # a mended metric is another one
    status = api.status(run)
    assert (status["state"], status["candidates"]) == ("failed", 0) and "ZeroDivisionError" in status["error"]


def test_that_the_first_candidates_all_fail_is_said_early(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    metric = own_metric(tmp_path, "metric", LATER.format(what="raise ValueError('no answer')").replace("42", "30"))
    assert main(["search", str(tiny_file), metric, f"run.dir={run}"]) == 1
    captured = capsys.readouterr()
    assert "warning: the first 5 candidates failed, the last with:" in captured.out
    assert captured.out.index("the first 5") < captured.out.index("candidate 5")
    assert "no candidate could be scored" in captured.err and "no answer (6 times)" in captured.err


def test_a_strategy_that_ends_the_process_does_not_look_like_success(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "quits.py").write_text(
        "import sys\nfrom evomerge.optimizers.random_search import RandomSearch\n"
        "class Quits(RandomSearch):\n    def tell(self, number, result): sys.exit(0)\n"
    )
    run = tmp_path / "run"
    code = main(
        ["search", str(tiny_file), "optimizer=random", f"optimizer.name={tmp_path}/quits.py:Quits", f"run.dir={run}"]
    )
    assert code == 2, capsys.readouterr()
    assert "sys.exit(0)" in capsys.readouterr().err
    assert api.status(run)["state"] == "failed"


def test_a_task_that_ends_the_process_while_it_is_loaded_is_a_mistake_in_the_task(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (tiny_file.parent / "tasks/tiny.yaml").read_text().replace("task: tiny", "task: quits")
    (tmp_path / "quits.yaml").write_text(text + "process_docs: !function own.process\n")
    (tmp_path / "own.py").write_text("import sys\nsys.exit(0)\n")
    words = [f"evaluation.include_path={tmp_path}", "evaluation.tasks=[{name:quits,metric:acc}]"]
    assert main(["search", str(tiny_file), *words, f"run.dir={tmp_path}/run"]) == 2
    assert "task 'quits'" in (err := capsys.readouterr().err) and "SystemExit: 0" in err


def test_a_listener_that_fails_does_not_end_the_search(tiny_file: Path, tmp_path: Path) -> None:
    from tiny_search import composed

    class Failing:
        calls = 0

        def phase(self, name: str, total: int | None, done: int) -> None:
            self.calls += 1

        def scored(self, *_: object) -> None:
            self.calls += 1
            raise ValueError("the window is closed")

    listener = Failing()
    run = api.search(composed(tiny_file), run_dir=tmp_path / "run", listener=listener)
    assert run.status()["state"] == "complete" and listener.calls == 2
    assert "the window is closed" in (tmp_path / "run/run.log").read_text()


def test_an_error_in_an_own_strategy_is_told_as_its_own(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fails.py").write_text(
        "from evomerge.optimizers.random_search import RandomSearch\n"
        "class Fails(RandomSearch):\n    def tell(self, number, result): raise KeyError('mine')\n"
    )
    words = ["optimizer=random", f"optimizer.name={tmp_path}/fails.py:Fails", f"run.dir={tmp_path}/run"]
    assert main(["search", str(tiny_file), *words]) == 1
    err = capsys.readouterr().err
    assert f"{tmp_path}/fails.py, line 3, raised this, which is no part of evomerge" in err and "KeyError" in err
    assert "this is a bug" not in err


def test_an_answer_as_long_as_a_models_context_is_refused_and_nothing_is_made(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, run = tmp_path / "tasks", tmp_path / "run"
    tasks.mkdir()
    (tasks / "docs.jsonl").write_text("".join(json.dumps({"q": f"{i} ="}) + "\n" for i in range(40)))
    (tasks / "long.yaml").write_text(
        f"task: long\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tasks}/docs.jsonl}}}}\n"
        "test_split: test\noutput_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '1'\n"
        "generation_kwargs: {max_gen_toks: 100000, zzz: 1}\nmetric_list: [{metric: exact_match}]\n"
    )
    words = [f"evaluation.include_path={tasks}", "evaluation.tasks=[{name: long, metric: exact_match}]"]
    assert main(["search", str(tiny_file), *words, f"run.dir={run}"]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "answers of up to 100000 tokens" in err and "in a, b, " in err and "'zzz'" in err
    assert not run.exists()
