"""What a row holds, and that the same rows come whenever a run is sent."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from logged import Sent, SentRun, keys, told
from made_runs import HOSTILE, MadeRun, made_run

from evomerge import api
from evomerge.errors import ConfigError, RunError
from evomerge.loggers.row import LONGEST, LogRow, flat
from evomerge.record import Score, Split
from evomerge.store import RunDir

METRICS = {"add": "acc", "reverse": "exact_match"}


def test_each_model_has_a_row_on_each_split_once_and_in_order(sent_run: SentRun) -> None:
    found = keys(sent_run.file)
    with RunDir.open(sent_run.run) as opened:
        records = list(opened.database.records(baselines=True))
    expected = {f"search {one.number}" for one in records} | {
        f"{split} {one.number}" for one in records for split in one.scores or {}
    }
    assert set(found) == expected and len(found) == len(expected) == sent_run.done["rows"] == sent_run.done["sent"]
    numbers = [int(key.split()[1]) for key in found if key.startswith("search")]
    assert numbers == sorted(numbers, key=lambda n: (n >= 0, abs(n)))


def test_the_facts_of_a_run_come_first(sent_run: SentRun) -> None:
    (begun,) = told(sent_run.file, "begin")
    assert begun["name"] == "a run" and begun["group"] == "runs" and begun["project"] == "made up"
    assert begun["seed"] == 0 and begun["parents"] == ["math", "words", "code"] and begun["tasks"] == ["add", "reverse"]
    assert begun["objectives"] == {"score": "maximize"} and begun["again"] is False


def test_a_row_says_what_the_record_says(sent_run: SentRun) -> None:
    rows = [LogRow.from_data(row) for row in told(sent_run.file, "row")]
    best = -math.inf
    failed = 0
    with RunDir.open(sent_run.run) as opened:
        traces, parents = opened.database.traces.all(), opened.database.baselines()
        highest = max(one.scores[Split.SEARCH].mean for one in parents if one.name in ("math", "words", "code"))
        for row in (one for one in rows if one.split == "search"):
            record = opened.database.record(row.number)
            assert record is not None and row.name == record.name and row.state == record.state
            assert (row.score, row.fitness) == ((record.scores or {}).get(Split.SEARCH), record.fitness)
            if row.is_baseline:
                continue
            best, failed = max(best, row.fitness or -math.inf), failed + (row.error is not None)
            assert (row.best, row.failed, row.best_parent) == (best, failed, highest)
            trace = traces[row.number]
            assert (row.clock, row.items, row.seconds) == (trace.seconds, trace.items, record.seconds)
            assert list(row.genes.values()) == list(record.genome or ())[: len(row.genes)] and row.genes
            items = opened.database.item_scores(row.number, Split.SEARCH)
            for task, score in row.tasks.items():
                own = [one.metrics[METRICS[task]] for one in items if one.task == task]
                assert score.mean == pytest.approx(sum(own) / len(own)) and score.low <= score.mean <= score.high
    assert failed == 1 and any(row.error for row in rows)


def test_the_end_says_the_verdict_the_scores_and_the_file(sent_run: SentRun) -> None:
    (end,) = told(sent_run.file, "finished")
    status = api.status(sent_run.run)
    assert end["state"] == "complete" and end["verdict"] == status["verdict"]["text"]
    assert end["scores"]["test"] == status["best"]["test"]["mean"] and end["best"] == status["best"]["name"]
    assert end["scores"]["test/add"] == status["best"]["tasks"]["add"]["test"]["mean"]
    assert set(end["files"]) == ({"best.yaml"} if (sent_run.run / "best.yaml").exists() else set())


KINDS: dict[str, dict[str, Any]] = {
    "begun": {"candidates": 0, "baselines": False, "choice": None, "genes": False, "kinship": False},
    "baselines alone": {"candidates": 0, "choice": None},
    "all failed": {"candidates": 5, "failed": range(5), "choice": None, "twins": {}},
    "no traces": {"traces": False, "genes": False},
    "hostile": {"hostile": True},
    "stages": {"stages": 2},
    "paths": {"dataflow": True},
    "unjudged": {"unjudged": (0, 5)},
    "infeasible": {"infeasible": {0: 1.0, 4: 2.0}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_run_makes_rows_whose_numbers_are_finite(kind: str, tmp_path: Path) -> None:
    from evomerge.workflows.loggers import LogRows, facts_of, summary_of

    with RunDir.open(made_run(tmp_path / kind, **KINDS[kind])) as opened:
        maker = LogRows(opened)
        rows = list(maker.all())
        summary = summary_of(opened)
        assert facts_of(opened, maker.objectives).parents
    assert len(rows) == len({row.key for row in rows})
    for row in rows:
        assert LogRow.from_data(row.to_data()) == row or kind == "unjudged"  # NaN is not itself
        numbers = row.numbers()
        assert all(map(math.isfinite, numbers.values()))
        assert all(name.count("/") == 1 and name.isprintable() for name in numbers)
        assert all(abs(value) < 1e9 for name, value in numbers.items() if name.startswith(("best/", "candidate/")))
    if kind == "infeasible":
        assert [row.fitness for row in rows if row.key in ("search 0", "search 4")] == [None, None]
    if kind == "all failed":
        assert max(row.failed for row in rows) == 5 and summary.best is None


def texts_in(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for one in data.values():
            yield from texts_in(one)
    elif isinstance(data, Sequence):
        for one in data:
            yield from texts_in(one)


def test_nothing_of_what_was_asked_or_answered_is_sent(sent_run: SentRun) -> None:
    own: dict[str, set[str]] = {"answers": set(), "prompts": set()}
    with RunDir.open(sent_run.run) as opened:
        answers = opened.database.answers
        kept = answers.kept()
        assert any(number < 0 for number, _ in kept) and {split for _, split in kept} == set(Split)
        for number, split in kept:
            own["answers"].update(texts_in([(one.responses, one.filtered) for one in answers.of(number, split)]))
            asked = answers.prompts(number, split).values()
            # The right answer may be a number like 3, which stands in any row.
            own["prompts"].update(
                text for one in asked for text in texts_in([one.requests, one.document]) if len(text) > 5
            )
    assert min(map(len, own.values())) > 20 and min(map(len, own["answers"])) > 10
    sent = set(texts_in([json.loads(line) for line in sent_run.file.read_text().splitlines()]))
    assert "candidate 3" in sent  # what is sent is found this way
    everything = "\0".join(sent)
    for texts in own.values():
        assert [text for text in texts if text in everything] == []


def test_secrets_are_not_sent(tmp_path: Path, send: Sent) -> None:
    token = "hf_" + "aB3" * 12
    config = {"models": {"parents": {"math": token, "words": "w"}}, "api_key": "verysecret1", "ref": "${oc.env:HOME}"}
    send(made_run(tmp_path / "run", MadeRun(config=config)))
    (begun,) = told(tmp_path / "told.jsonl", "begin")
    text = (tmp_path / "told.jsonl").read_text()
    assert token not in text and "verysecret1" not in text and begun["config"]["ref"] == "${oc.env:HOME}"


def test_names_of_users_make_no_groups_and_stay_apart() -> None:
    long = "x" * 300
    tasks = {name: Score(0.5, 0.4, 0.6, 10) for name in (HOSTILE, "a/b", "a_b", long, f"{long}y", "\n", "日本")}
    numbers = LogRow(1, "candidate 1", "search", "complete", tasks=tasks).numbers()
    own = [name for name in numbers if name.startswith("candidate_tasks/")]
    assert len(own) == len(tasks) and all(len(name) <= LONGEST + 16 for name in own)
    assert {"candidate_tasks/a_b", "candidate_tasks/日本"} < set(own)


def test_what_is_not_finite_is_left_out() -> None:
    row = LogRow(
        1, "c", "search", "complete", score=Score(math.nan, -math.inf, math.inf, 3), fitness=0.5, best=math.inf
    )
    assert row.numbers() == {"candidate/fitness": 0.5, "cost/candidate_seconds": 0.0, "cost/failed": 0.0}


def test_a_configuration_becomes_places_with_values() -> None:
    data = {"a": {"b": [{"c": 1}, {"c": 2}], "d": [1, 2]}, "e": {}}
    assert dict(flat(data)) == {"a.b.0.c": 1, "a.b.1.c": 2, "a.d": [1, 2], "e": {}}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, send: Sent) -> None:
    with pytest.raises(RunError, match="is not a run"):
        send(tmp_path)


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("tensorbord", {}, "unknown logger 'tensorbord'; did you mean 'tensorboard'"),
        ("wandb", {"projct": "x"}, "unknown option of the logger wandb 'projct'; did you mean 'project'"),
        ("wandb", {"mode": "of"}, "`mode` of the logger wandb must be online or offline, but came 'of'"),
        ("mlflow", {"files": "yes"}, "`files` of the logger mlflow must be true or false, but came 'yes'"),
        ("tensorboard", {"dir": 3}, "`dir` of the logger tensorboard must be a text, but came 3"),
    ],
)
def test_what_is_wrong_with_a_logger_is_said(run: Path, to: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        api.log_run(run, to, options)
    assert any(message in problem for problem in error.value.problems), error.value.problems
