import pytest

from evomerge.config.keys import ROOT, all_keys, declared
from evomerge.config.names import REGISTRIES


def test_every_key_has_one_line_of_help() -> None:
    for name, key in all_keys().items():
        assert key.help and "\n" not in key.help and len(key.help) <= 120, name
        assert key.type in ("any", "object") or set(key.type.split("|")) <= {
            *("integer", "number", "boolean", "string", "array", "object")
        }


@pytest.mark.parametrize(
    ("name", "low", "high", "default"),
    [
        ("seed", 0, None, 0),
        ("budget.candidates", 1, None, None),
        ("fitness.race.level", 0, 0.5, 0.1),
        ("execution.gpus_per_worker", 0, 8, None),
        ("execution.cache", 0, None, "auto"),
        ("evaluation.batch_size", 1, None, 64),
    ],
)
def test_ranges_and_defaults_are_those_of_the_declaration(name: str, low: float, high: float, default: object) -> None:
    key = all_keys()[name]
    assert (key.low, key.high, key.default) == (low, high, default)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ((), ROOT),
        (("evaluation", "tasks", 2, "constraint", "max"), "evaluation.tasks[].constraint.max"),
        (("stages", "mine", "share"), "stages.NAME.share"),
        (("stages", "mine", "space", "path", "scales"), "space.path.scales"),
        (("space", "genes", "weight", "low"), "space.genes"),
        (("nothing",), ROOT),
    ],
)
def test_a_place_has_the_key_that_it_is_in(place: tuple[str | int, ...], name: str) -> None:
    assert declared(place).name == name


@pytest.mark.parametrize("registry", REGISTRIES)
def test_names_come_from_their_registries_with_a_line_each(registry: str) -> None:
    (key,) = [one for one in all_keys().values() if one.registry == registry]
    assert set(key.choices) >= set(REGISTRIES[registry]().built_in)
    assert all(key.choices[name] for name in REGISTRIES[registry]().built_in)
