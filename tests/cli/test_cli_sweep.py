"""`evomerge search -m`: checked as a whole before it begins, and summed up over its seeds at the end."""

import json
from pathlib import Path
from typing import Any

import pytest

from evomerge import api
from evomerge.analysis.over_seeds import over_seeds
from evomerge.cli.main import main
from evomerge.cli.sweep_display import show_sweep
from evomerge.record import Split
from evomerge.store.run_dir import RunDir


def test_a_sweep_ends_with_each_search_and_what_they_say_over_seeds(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tasks = "evaluation.tasks=[{name: tiny, metric: acc}, {name: tiny, metric: entropy, weight: 0}]"
    words = [str(tiny_file), "-m", "seed=0,1", tasks, "budget.candidates=2", "hydra.sweep.dir=日本 (1)"]
    assert main(["search", *words]) == 0
    out = capsys.readouterr().out
    runs = [(("seed=0",), Path("日本 (1)/0")), (("seed=1",), Path("日本 (1)/1"))]
    summary = api.sweep_summary(runs)
    json.dumps(summary, allow_nan=False)
    statuses = [api.status(path) for _, path in runs]
    assert [one["path"] for one in summary["searches"]] == [str(path) for _, path in runs]
    assert [one["test"] for one in summary["searches"]] == [status["best"]["test"] for status in statuses]
    (group,) = summary["groups"]
    assert (group["setting"], group["searches"], group["complete"]) == ([], 2, 2)
    best = next(model for model in group["models"] if model["name"] == "best merge")
    means = [status["best"]["test"]["mean"] for status in statuses]
    assert best["test"]["mean"] == pytest.approx(sum(means) / 2) and best["test"]["n"] == 2
    assert set(best["tasks"]) == {"tiny acc", "tiny entropy"}
    with RunDir.open(runs[0][1]) as run:
        scores = run.database.item_scores(-1, Split.TEST)
    a = next(model for model in group["models"] if model["name"] == "a")
    assert a["tasks"]["tiny acc"]["n"] == 2 and len(scores) == 4
    gains = [
        next(one["difference"] for one in status["comparisons"] if one["against"] == status["best_parent"])
        for status in statuses
    ]
    assert group["gain"]["mean"] == pytest.approx(sum(gains) / 2)
    assert group["gain"]["above"] == sum(gain > 0 for gain in gains)
    for part in (
        "search 2 of 2: seed=1",
        "2 searches",
        "over seeds",
        "tiny entropy",
        "gain over the best parent",
        "an interval from 2 seeds says little; use 5 or more",
        "日本 (1)/1",
    ):
        assert part in out


def group_of(gain: dict[str, Any], test: dict[str, Any]) -> dict[str, Any]:
    model = {"name": "average", "test": test, "tasks": {}}
    return {"setting": [], "searches": gain["n"], "complete": gain["n"], "models": [model], "gain": gain}


def test_seeds_that_agree_are_no_certainty(capsys: pytest.CaptureFixture[str]) -> None:
    same = over_seeds([1 / 3] * 2)
    differ = over_seeds([-0.25, -0.125])
    assert same is not None and differ is not None
    for gain in (same, differ):
        group = group_of({**gain.to_data(), "above": 0, "share": True}, same.to_data())
        show_sweep({"searches": [], "groups": [group]})
    out = capsys.readouterr().out
    assert "33.3 ± 0.0 % │" in out
    assert "gain over the best parent: +33.3 points with each of 2 seeds" in out
    assert "above zero in 0 of 2" in out


def test_searches_of_several_settings_are_summed_up_apart_and_failures_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    runs = [(("optimizer=cma", "seed=0"), tmp_path / "none"), (("optimizer=random", "seed=0"), tmp_path / "broken")]
    summary = api.sweep_summary(runs)
    assert [one["state"] for one in summary["searches"]] == ["not begun", "unreadable"]
    assert [group["setting"] for group in summary["groups"]] == [["optimizer=cma"], ["optimizer=random"]]
    assert all(group["complete"] == 0 and group["gain"] is None for group in summary["groups"])


def test_a_sweep_is_checked_as_a_whole_before_it_begins(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", str(tiny_file), "-m", "seed=0,-1,2", "budget.candidates=3,0"]) == 2
    err = capsys.readouterr().err
    assert "`seed` must be a whole number from 0, but came -1" in err
    assert "`budget.candidates` must be a whole number from 1, but came 0" in err
    assert list(tmp_path.iterdir()) == []
