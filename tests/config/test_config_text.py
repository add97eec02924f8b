"""Where a configuration means text, a value is text as written; elsewhere numbers and flags are what they are."""

import pytest
import yaml

from evomerge.config.keys import takes_text
from evomerge.config.reader import read
from evomerge.errors import RecipeError
from evomerge.recipe import Recipe
from evomerge.system.yaml_text import read_yaml

TEXT = [
    "name", "run.dir", "models.base", "models.parents.math", "models.parents.no.path", "models.parents.1.revision",
    "models.tokenizer", "models.dtype", "models.parents.a.recipe", "models.parents.a.recipe.tokenizer",
    "models.base.recipe.parents.x", "models.base.recipe.parents.x.recipe.order.0", "method", "method.name",
    "space.path.parents.0", "space.roles.x.0", "stages.s.space.path.parents.1", "evaluation.tasks.0.name",
    "evaluation.tasks.3.objective", "evaluation.include_path", "evaluation.include_path.0", "optimizer",
]  # fmt: skip
OTHER = [
    "seed", "budget.candidates", "models.parents", "models.parents.a.trust_remote_code", "method.parameters.normalize",
    "space.blocks", "space.genes.weight.low", "space.genes.weight.log", "execution.share", "execution.cache",
    "evaluation.split.search", "optimizer.sigma", "models.parents.a.recipe.parameters.x", "nothing.of.this",
]  # fmt: skip


def place(name: str) -> tuple[str | int, ...]:
    return tuple(int(step) if step.isdigit() and step != "1" else step for step in name.split("."))


@pytest.mark.parametrize("name", TEXT)
def test_text_is_meant(name: str) -> None:
    steps = [0 if step == "1" and name.startswith("stages") else step for step in place(name)]
    assert takes_text(steps)


@pytest.mark.parametrize("name", OTHER)
def test_text_is_not_meant(name: str) -> None:
    assert not takes_text(place(name))


def test_a_configuration_keeps_names_as_written() -> None:
    text = """
models: {base: 1e3, parents: {no: 2024, 0x10: {path: on, revision: 0123}}, tokenizer: no}
space: {path: {parents: [no, 0x10, ~]}, genes: {on: {low: 1_0, log: yes}}}
evaluation: {tasks: [{name: 1e3, metric: yes, weight: 2, objective: off}], apply_chat_template: no}
"""
    assert read_yaml(text, text_at=takes_text, lenient=True) == {
        "models": {
            "base": "1e3",
            "parents": {"no": "2024", "0x10": {"path": "on", "revision": "0123"}},
            "tokenizer": "no",
        },
        "space": {"path": {"parents": ["no", "0x10", "~"]}, "genes": {"on": {"low": 10, "log": True}}},
        "evaluation": {
            "tasks": [{"name": "1e3", "metric": "yes", "weight": 2, "objective": "off"}],
            "apply_chat_template": False,
        },
    }  # fmt: skip


def test_a_name_that_another_reader_made_a_flag_is_refused_rather_than_renamed() -> None:
    data = yaml.safe_load("{models: {parents: {no: a, b: b}, tokenizer: off}, name: yes}")
    problems = " ".join(read(data)[1])
    for part in (
        "a name in `models.parents` must be a text, but came False; write it in quotes",
        "`name` must be a text",
    ):
        assert part in problems
    assert "`models.tokenizer` must be a parent's name, base, or a mapping" in problems
    for name in (False, 1e3, None):
        with pytest.raises(RecipeError, match="names of parents are text, but came"):
            Recipe.from_data({"method": "linear", "parents": {name: "a"}})
    assert Recipe.from_data({"method": "linear", "parents": {1: "a"}}).parents[0].name == "1"
