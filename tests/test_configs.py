"""Every YAML file under configs/ is composed, bound and checked."""

from pathlib import Path

import pytest

from evomerge.cli.compose import compose, experiments, hydra_arguments
from evomerge.cli.paths import configs_path
from evomerge.config.reader import from_data
from evomerge.errors import ConfigError

FILES = sorted(configs_path().rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(configs_path())))
def test_a_file_starts_with_the_command_that_uses_it(path: Path) -> None:
    head = path.read_text(encoding="utf-8").splitlines()[:2]
    assert any(line.startswith("# evomerge ") for line in head), head


@pytest.mark.parametrize("name", experiments())
def test_an_experiment_can_be_bound(name: str) -> None:
    assert from_data(compose([f"experiment={name}"])).name == name


@pytest.mark.parametrize("group", ["optimizer", "execution"])
def test_each_choice_of_a_group_goes_with_an_experiment(group: str) -> None:
    for path in sorted((configs_path() / group).glob("*.yaml")):
        config = from_data(compose([f"{group}={path.stem}", "experiment=zoo_ja_math"]))
        chosen = config.stages[0].optimizer if group == "optimizer" else config.execution
        assert chosen.name.startswith(path.stem)


def test_an_own_file_is_composed_over_the_defaults(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("defaults: [search, _self_]\nname: mine\noptimizer: {sigma: 0.1}\n")
    data = compose([str(own), "seed=5"])
    assert (data["name"], data["seed"], data["optimizer"]["name"], data["optimizer"]["sigma"]) == (
        "mine",
        5,
        "cma",
        0.1,
    )


def test_an_experiment_can_be_named_without_a_key() -> None:
    assert compose(["zoo_ja_math"])["name"] == "zoo_ja_math"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["zoo_ja_mth"], r"unknown experiment or YAML file 'zoo_ja_mth'; did you mean 'zoo_ja_math'"),
        (["none.yaml"], r"there is no file none.yaml"),
        (["zoo_ja_math", "budgt.items=3"], r"budgt"),
        (["experiment=nothing"], r"nothing"),
    ],
)
def test_what_cannot_be_composed_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(words)


def test_an_own_file_without_defaults_is_told_how_to_begin(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("name: mine\n")
    with pytest.raises(ConfigError, match=r"must start with `defaults: \[search, _self_\]`"):
        hydra_arguments([str(own)])


def test_flags_may_stand_anywhere() -> None:
    assert hydra_arguments(["zoo_ja_math", "a=1", "-m", "seed=0,1"]) == [
        "-m",
        "experiment=zoo_ja_math",
        "a=1",
        "seed=0,1",
    ]
    assert hydra_arguments(["a=1", "--cfg", "job", "b=2"]) == ["--cfg", "job", "a=1", "b=2"]
