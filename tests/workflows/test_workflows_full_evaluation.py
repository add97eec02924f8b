"""All items of a search's tasks: the same prompts and scores as in the search, kept in a file model by model."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import ConfigError, RunError
from evomerge.estimation import Responses
from evomerge.evaluation.harness import LmHarness
from evomerge.record import Split

N_DOCS = {"sums": 14, "held_out": 6}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks whose few-shot examples come from the documents that they are evaluated on."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, n in N_DOCS.items():
        rng = random.Random(name)
        lines = [
            {"question": f"{a} + {b} =", "choices": [str(a + b), str(a + b + 1), str(a)], "gold": 0}
            for a, b in ((rng.randrange(9), rng.randrange(9)) for _ in range(n))
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(folder / f"{name}.jsonl")},
                "cache_dir": str(folder / "cache"),
            },
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{gold}}",
            "metric_list": [{"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False}],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def config(tasks: Path) -> dict[str, Any]:
    return {
        "models": {"base": "zoo:base", "parents": {"math": "zoo:math", "japanese": "zoo:japanese"}},
        "method": "task_arithmetic",
        "space": {"blocks": 1},
        "budget": {"candidates": 3},
        "evaluation": {
            "tasks": [{"name": "sums", "metric": "brier_score", "test": "held_out", "num_fewshot": 1}],
            "include_path": [str(tasks)],
            "split": {"search": 5, "validation": 4, "test": 3},
            "finalists": 2,
        },
        "execution": {"device": "cpu", "threads": 1},
    }


@pytest.fixture(scope="module")
def run(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.search(config, run_dir=tmp_path_factory.mktemp("runs") / "run").path


@pytest.fixture(scope="module")
def full(run: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("full") / "r.npz"
    return api.evaluate_full(run, winner=True, parents=True, out=out), out


def winner_of(run: Path) -> str:
    return f"candidate {api.status(run)['best']['id']}"


def test_every_item_is_scored_as_in_the_search(run: Path, full) -> None:
    result, _ = full
    assert list(result.scores) == ["math", "japanese", "average", "base", winner_of(run)]
    expected_items = [f"{name}/{i}" for name, n in N_DOCS.items() for i in range(n)]
    assert list(result.responses.items) == expected_items
    assert np.isfinite(result.responses.R).all()
    recorded = api.responses(run)
    # Few-shot examples are part of the prompt, and the score is a probability: another prompt would show.
    for name in ("math", "japanese", "average", winner_of(run)):
        row, mine = recorded.row(name), result.responses.row(name)
        known = np.flatnonzero(~np.isnan(row))
        assert len(known) == 12
        places = [expected_items.index(recorded.items[i]) for i in known]
        np.testing.assert_allclose(mine[places], row[known], atol=1e-4)
        assert [result.responses.split[i] for i in places] == [recorded.split[i] for i in known]


def test_unseen_items_are_those_that_neither_searched_nor_chose(run: Path, full) -> None:
    result, _ = full
    data = result.to_data()
    tasks = [{key: value for key, value in one.items() if key != "against_best_parent"} for one in data["tasks"]]
    assert tasks[0] == {
        "task": "sums",
        "metric": "brier_score",
        "items": 14,
        "search_items": 5,
        "validation_items": 4,
        "test_items": 0,
    }
    sums, held_out = result.scores["math"]
    assert (sums.everything.n, sums.unseen.n) == (14, 5)
    assert (held_out.everything.n, held_out.unseen.n) == (6, 6)
    row = result.responses.row("math")[:14]
    unseen = [value for value, split in zip(row, result.responses.split, strict=False) if split in ("", "test")]
    assert sums.unseen.mean == pytest.approx(np.mean(unseen))
    assert sums.everything.mean == pytest.approx(row.mean())


def test_the_winner_is_compared_with_the_best_parent_on_the_unseen_items(run: Path, full) -> None:
    result, _ = full
    parents = ("math", "japanese")
    rows = {name: result.responses.row(name) for name in (*parents, winner_of(run))}
    splits = np.array(result.responses.split[:14])
    chose = {name: rows[name][:14][splits == "validation"].mean() for name in parents}
    best = min(parents, key=lambda name: chose[name])  # a Brier score: less is better
    for i, (start, stop) in enumerate(((0, 14), (14, 20))):
        one = result.skills[i]
        assert (one["best_parent"], one["best_parent_by"], one["split"]) == (best, "validation", "unseen")
        unseen = np.array([split in ("", "test") for split in result.responses.split[start:stop]])
        differences = (rows[best] - rows[winner_of(run)])[start:stop][unseen]
        assert one["n"] == unseen.sum() and one["difference"] == pytest.approx(differences.mean())
        assert one["low"] < one["difference"] < one["high"]
    data = result.to_data()["tasks"]
    assert [one["against_best_parent"]["n"] for one in data] == [5, 6]
    assert api.evaluate_full(run, parents=True, out=full[1]).skills == ()


def test_models_that_the_file_holds_are_not_scored_again(run: Path, full, tmp_path: Path, monkeypatch) -> None:
    result, out = full
    Responses.load(out).save(tmp_path / "r.npz")
    scored: list[Split] = []
    score = LmHarness.score
    monkeypatch.setattr(LmHarness, "score", lambda self, m, t, split: scored.append(split) or score(self, m, t, split))
    again = api.evaluate_full(run, parents=True, winner=True, out=tmp_path / "r.npz")
    assert scored == [] and again.scores == result.scores
    whole = Responses.load(out)
    whole.of_models(name for name in whole.models if name != "average").save(tmp_path / "r.npz")
    continued = api.evaluate_full(run, parents=True, out=tmp_path / "r.npz")
    assert len(scored) == 4  # three splits and the rest, of the average
    np.testing.assert_array_equal(continued.responses.row("average"), result.responses.row("average"))
    assert set(Responses.load(tmp_path / "r.npz").models) == set(whole.models)
    api.evaluate_full(run, winner=True, out=tmp_path / "r.npz", force=True)
    assert len(scored) == 8


def test_an_interrupted_run_keeps_the_models_that_were_finished(run: Path, tmp_path: Path, monkeypatch) -> None:
    from evomerge.merge.live.models import LiveModels

    write = LiveModels.write

    def failing(self: LiveModels, recipe: Any) -> None:
        if len(recipe.parents) > 1:
            raise KeyboardInterrupt
        write(self, recipe)

    monkeypatch.setattr(LiveModels, "write", failing)
    with pytest.raises(KeyboardInterrupt):
        api.evaluate_full(run, parents=True, out=tmp_path / "r.npz")
    assert Responses.load(tmp_path / "r.npz").models == ("math", "japanese")


def test_a_configuration_needs_no_run(config: dict[str, Any], full, tmp_path: Path) -> None:
    # The same seed draws the same items for few-shot examples, so that the rows are those of the run.
    result = api.evaluate_full(config, parents=True, out=tmp_path / "r.npz")
    assert list(result.scores) == ["math", "japanese", "average", "base"]
    np.testing.assert_allclose(result.responses.R, full[0].responses.R[:4], atol=1e-6)
    assert result.scores["math"][0].unseen is None and not result.searched


def test_a_file_of_other_items_or_models_is_not_touched(
    config: dict[str, Any], run: Path, full, tmp_path: Path
) -> None:
    whole = Responses.load(full[1])
    other = tmp_path / "r.npz"
    whole.of_items(whole.items[:-1]).save(other)
    before = other.read_bytes()
    with pytest.raises(ConfigError, match="holds 19 items that are not the 20"):
        api.evaluate_full(run, parents=True, out=other)
    replace(whole, recipes=("x", *whole.recipes[1:])).save(other)
    with pytest.raises(ConfigError, match="other models under the names math"):
        api.evaluate_full(run, parents=True, out=other)
    assert other.read_bytes() != before
    other.write_bytes(b"no matrix")
    with pytest.raises(RunError, match=r"is no response matrix.* name another file with --out"):
        api.evaluate_full(run, parents=True, out=other)
    with pytest.raises(ConfigError, match="its folder does not exist"):
        api.evaluate_full(run, parents=True, out=tmp_path / "no" / "r.npz")
    with pytest.raises(ConfigError, match="--full"):
        api.evaluate_full(config, winner=True)
    with pytest.raises(ConfigError, match="nothing to score"):
        api.evaluate_full(run)
    with pytest.raises(RunError, match="no folder"):
        api.evaluate_full(tmp_path / "nowhere", parents=True)


def test_the_command_prints_shares_and_writes_the_matrix(run: Path, full, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Responses.load(full[1]).save("responses.npz")
    assert main(["evaluate", str(run), "--full", "--all-parents"]) == 0
    out = capsys.readouterr().out
    assert "searched on 5 of 14 items (36 %), the winner chosen on 4 (29 %), 5 unseen" in out
    assert "unseen items" in out and winner_of(run) in out and "responses: responses.npz" in out
    assert "the best parent by its validation items: " in out and " on 5 unseen items (paired, p " in out
    assert main(["evaluate", "--all-parents", str(run), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["models"]) == {"math", "japanese", "average", "base"}
    assert main(["records", str(run), "--responses", "run.npz"]) == 0
    assert "run.npz: 6 models, 12 items" in capsys.readouterr().out
    assert Responses.load("run.npz").models[:3] == ("math", "japanese", "average")


def test_the_command_takes_a_configuration_as_search_does(tasks: Path, full, tmp_path: Path, capsys) -> None:
    Responses.load(full[1]).save(tmp_path / "r.npz")
    overrides = [
        "models.dtype=null",  # the recipes of the run: its rows are taken
        "evaluation.tasks=[{name: sums, metric: brier_score, test: held_out, num_fewshot: 1}]",
        f"evaluation.include_path=[{tasks}]",
        "evaluation.split={search: 5, validation: 4, test: 3}",
    ]
    words = ["--all-parents", "experiment=zoo_ja_math", *overrides, "--out", str(tmp_path / "r.npz")]
    assert main(["evaluate", *words]) == 0
    captured = capsys.readouterr()
    assert "already in" in captured.err and "math, japanese, average, base" in captured.err
    assert "sums, brier_score: 14 items" in captured.out and "unseen" not in captured.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "x", "y=1", "--full"], "one run folder"),
        (["evaluate", "nowhere", "--full"], "there is no folder nowhere"),
        (["evaluate", "zoo_ja_mat", "--all-parents"], "did you mean 'zoo_ja_math'"),
    ],
)
def test_bad_input_says_what_to_do(words: list[str], message: str, capsys) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--full", "--task", "t"], ["--out", "x.npz"], ["more"]])
def test_options_that_do_not_go_together_are_refused(words: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "run", *words])
    assert ended.value.code == 2


def test_every_metric_of_a_task_is_a_column_and_flips_are_the_metric_that_they_compare(
    config: dict[str, Any], tmp_path: Path
) -> None:
    shared = {"name": "sums", "test": "held_out", "num_fewshot": 1}
    tasks = [
        {**shared, "metric": "brier_score"},
        {**shared, "metric": "entropy", "constraint": {"min": 0.0}},
        {**shared, "metric": "negative_flips", "of": "acc", "reference": "math", "constraint": {"max": 0.9}},
    ]
    lines = (Path(config["evaluation"]["include_path"][0])).glob("*.yaml")
    for path in lines:  # the same tasks, which report whether an answer is right as well
        task = yaml.safe_load(path.read_text())
        task["metric_list"].append({"metric": "acc", "aggregation": "mean", "higher_is_better": True})
        (tmp_path / path.name).write_text(yaml.safe_dump(task))
    evaluation = {**config["evaluation"], "tasks": tasks, "include_path": [str(tmp_path)]}
    run = api.search({**config, "evaluation": evaluation}, run_dir=tmp_path / "run").path
    result = api.evaluate_full(run, winner=True, parents=False)
    assert [(c.source, c.metric) for c in result.columns] == [
        (source, metric) for metric in ("brier_score", "entropy", "acc") for source in ("sums", "held_out")
    ]
    row = result.responses.row(winner_of(run))
    assert np.isfinite(row).all()
    brier, entropy, acc = np.split(row, 3)
    assert set(acc) <= {0.0, 1.0}
    assert ((entropy >= 0.0) & (entropy <= np.log(3) + 1e-6)).all()
    assert not np.allclose(brier, entropy)


def test_a_file_is_not_continued_after_labels_changed(
    config: dict[str, Any], tasks: Path, full, tmp_path: Path
) -> None:
    out = tmp_path / "r.npz"
    Responses.load(full[1]).save(out)
    assert api.evaluate_full(config, parents=True, out=out).responses.models
    path, before = tasks / "held_out.jsonl", out.read_bytes()
    text = path.read_text()
    try:
        path.write_text(text.replace('"gold": 0', '"gold": 1', 1))
        with pytest.raises(ConfigError, match=r"answers of math, japanese, average, base from before .* changed"):
            api.evaluate_full(config, parents=True, out=out)
    finally:
        path.write_text(text)
    assert out.read_bytes() == before
