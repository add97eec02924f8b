import json
from pathlib import Path

import numpy as np
import pytest

from evomerge.cli.main import main
from evomerge.estimation import Responses
from evomerge.estimation.irt import sigmoid


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    p = sigmoid(np.outer(rng.normal(size=60), np.ones(40)) - rng.normal(size=40))
    names = tuple(f"a{row % 20}/m{row}" for row in range(60))
    items = tuple(f"t/{i}" for i in range(40))
    Responses(names, items, (rng.random(p.shape) < p).astype(float)).save(tmp_path / "r.npz")
    (tmp_path / "c.txt").write_text("# calibration\n" + "\n".join(names[:55]) + "\n")
    (tmp_path / "t.txt").write_text("\n".join(names[55:]))
    (tmp_path / "p.json").write_text(json.dumps({names[55]: [names[0], "gone/model"], "other/target": [names[1]]}))
    words = ["estimate", "--responses", "r.npz", "--calibration", "c.txt", "--targets", "t.txt"]
    return [str(tmp_path / word) if "." in word else word for word in words]


def test_estimates_are_printed_as_json(files: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*files, "--items", "6", "--seed", "3", "--json"]) == 0
    first = capsys.readouterr().out
    data = json.loads(first)
    assert data["estimator"] == "mixture"
    assert list(data["targets"]) == [f"a{row % 20}/m{row}" for row in range(55, 60)]
    for found in data["targets"].values():
        low, high = found["interval"]
        assert 0 <= low < found["estimate"] < high <= 1
        assert found["standard_error"] > 0
        assert len(found["items"]) == 6
    assert main([*files, "--items", "6", "--seed", "3", "--json"]) == 0
    assert capsys.readouterr().out == first


def test_all_items_give_the_truth(files: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*files, "--items", "40", "--json", "--select", "anchors", "--estimator", "ridge"]) == 0
    with np.load(Path(files[2])) as stored:
        truth = stored["R"][55:].mean(1)
    found = json.loads(capsys.readouterr().out)["targets"].values()
    assert [entry["estimate"] for entry in found] == pytest.approx(truth.tolist())
    assert all(entry["interval"][0] == pytest.approx(entry["interval"][1]) for entry in found)


def test_parents_without_responses_are_left_out_and_named(files: list[str], capsys: pytest.CaptureFixture) -> None:
    parents = str(Path(files[2]).parent / "p.json")
    assert main([*files, "--items", "3", "--parents", parents]) == 0
    out, err = capsys.readouterr()
    assert "parent 'gone/model' of 'a15/m55' has no responses" in err
    assert "a15/m55" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--items", "41"], "between 1 and the 40"),
        (["--items", "3", "--level", "90"], "--level lies between 0 and 1"),
        (["--items", "3", "--estimator", "rigde"], "did you mean 'ridge'"),
        (["--items", "3", "--task", "gsm8k"], "no item is named gsm8k/"),
        (["--items", "3", "--parents", "nowhere.json"], "cannot read the parents"),
        (["--items", "3", "--targets", "nowhere.txt"], "cannot read the model names"),
    ],
)
def test_mistakes_exit_with_2(words: list[str], message: str, files: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*files, *words]) == 2
    assert message in capsys.readouterr().err


def with_wrong_keys(files: list[str]) -> None:
    path = Path(files[2])
    known = Responses.load(path)
    R = known.R.copy()
    R[:, :2] = 1.0 - (R.mean(1) > np.median(R.mean(1)))[:, None]
    Responses(known.models, known.items, R).save(path)


def test_items_that_better_models_fail_are_listed(files: list[str], capsys: pytest.CaptureFixture) -> None:
    with_wrong_keys(files)
    assert main([*files, "--items", "6", "--estimator", "mean", "--select", "uniform", "--json"]) == 0
    negative = json.loads(capsys.readouterr().out)["negative_items"]
    assert negative["tested"] == 40
    assert negative["below_zero"] >= 2
    assert [one["item"] for one in negative["items"]][:2] == ["t/0", "t/1"]
    one = negative["items"][0]
    assert one["discrimination"] < -0.5
    assert one["q"] <= 0.05
    assert one["models"] == 55, "only the calibration models are looked at"
    assert main([*files, "--items", "6", "--estimator", "mean", "--select", "uniform"]) == 0
    out = capsys.readouterr().out
    share = f"{len(negative['items'])} of 40 items ({2.5 * len(negative['items']):.1f} %)"
    assert f"better calibration models fail {share} more often than worse ones" in out
    assert "likely a wrong key" in out
    assert "t/1" in out


def test_nothing_is_said_of_items_where_none_is_negative(files: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main([*files, "--items", "6", "--estimator", "mean", "--select", "uniform"]) == 0
    assert "wrong key" not in capsys.readouterr().out
