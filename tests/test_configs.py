"""Every YAML file under configs/ is composed, bound and checked."""

from pathlib import Path

import pytest

from evomerge.cli.compose import compose
from evomerge.cli.words import experiments, read_words
from evomerge.config.reader import from_data
from evomerge.errors import ConfigError
from evomerge.system.config_files import configs_path

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
        from_data(compose(words))


def test_an_own_file_without_defaults_is_composed_over_the_built_in_ones(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("name: mine\n")
    data = compose([str(own)])
    assert (data["name"], data["optimizer"]["name"], data["evaluation"]["finalists"]) == ("mine", "cma", 8)


def test_flags_may_stand_anywhere() -> None:
    asked = read_words(["zoo_ja_math", "a=1", "-m", "seed=0,1"])
    assert asked.sweep and asked.overrides == ("experiment=zoo_ja_math", "a=1", "seed=0,1")
    asked = read_words(["a=1", "--cfg", "job", "b=2"])
    assert asked.show == "job" and asked.overrides == ("a=1", "b=2")
