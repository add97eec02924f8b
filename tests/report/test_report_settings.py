"""Configurations, shown: what differs from the defaults and between runs, and no secrets."""

from evomerge.report.settings import between, differing, flat, without_secrets
from evomerge.system.config_files import configs_path
from evomerge.system.yaml_text import read_yaml


def defaults() -> dict:
    found = read_yaml((configs_path() / "search.yaml").read_bytes(), lenient=True)
    for section, name in (("optimizer", "cma"), ("execution", "local")):
        found[section] = read_yaml((configs_path() / section / f"{name}.yaml").read_bytes(), lenient=True)
    return {key: value for key, value in found.items() if key not in ("defaults", "hydra")}


def test_the_defaults_differ_in_nothing() -> None:
    assert differing(defaults()) == {}


def test_what_differs_keeps_its_place() -> None:
    config = defaults()
    config["seed"] = 7
    config["evaluation"] = {**config["evaluation"], "tasks": [{"name": "t", "metric": "acc"}], "finalists": 3}
    config["optimizer"] = {**config["optimizer"], "sigma": 0.5}
    assert differing(config) == {
        "seed": 7,
        "evaluation": {"tasks": [{"name": "t", "metric": "acc"}], "finalists": 3},
        "optimizer": {"name": "cma", "sigma": 0.5},
    }


def test_an_optimizer_of_ones_own_has_no_defaults() -> None:
    config = {**defaults(), "optimizer": {"name": "../../../etc/own.py:Mine", "sigma": 0.2, "other": None}}
    assert differing(config) == {"optimizer": {"name": "../../../etc/own.py:Mine", "sigma": 0.2}}


def test_secrets_are_not_shown() -> None:
    token = "hf_" + "AbCdEfGh12" * 3
    config = {"a": [{"password": "correcthorse", "x": f"see {token}"}], "b": {"HF_TOKEN": "${oc.env:HF_TOKEN}"}}
    shown = without_secrets(config)
    assert shown["b"] == config["b"]
    texts = [value for _, value in flat({"a": shown["a"][0]})]
    assert token not in str(shown) and "correcthorse" not in str(shown) and all("not shown" in text for text in texts)


def test_what_differs_between_runs() -> None:
    one, other = (
        {"name": "a", "b": {"c": 1, "d": 2}},
        {"name": "a", "b": {"c": 3, "d": 2}, "e": [1], "run": {"dir": "x"}},
    )
    assert between([one, other]) == {"b.c": [1, 3], "e": [None, [1]]}
    assert between([one, one]) == {}
