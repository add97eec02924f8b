"""Optimizers by name, and every mistake named at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers import check_optimizer, make_optimizer
from evomerge.optimizers.cma_es import CMA
from evomerge.optimizers.mixed_es import MixedES
from evomerge.optimizers.nevergrad_adapter import Nevergrad
from evomerge.optimizers.random_search import RandomSearch


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cma", CMA),
        ("mixed", MixedES),
        ("random", RandomSearch),
        ("nevergrad:DE", Nevergrad),
        ("nevergrad:PSO", Nevergrad),
    ],
)
def test_a_name_makes_its_optimizer(name: str, kind: type) -> None:
    optimizer = make_optimizer(name, n_dims=3, start=[0.5] * 3, seed=0)
    assert isinstance(optimizer, kind)
    assert optimizer.n_dims == 3


@pytest.mark.parametrize(
    ("name", "options", "messages"),
    [
        ("cam", {}, [r"unknown optimizer 'cam'; did you mean 'cma'"]),
        ("nevergrad", {}, [r"`nevergrad` needs the name .*nevergrad:DE"]),
        ("nevergrad:DEE", {}, [r"unknown nevergrad optimizer 'DEE'; did you mean 'DE'"]),
        ("random", {"sigma": 0.1}, [r"unknown option of the optimizer random 'sigma'"]),
        (
            "cma",
            {"sigmma": 0.1, "population": 3, "separable": "yes"},
            [r"'sigmma'; did you mean 'sigma'", r"`population` .* from 4.*not 3", r"auto, true or false, not 'yes'"],
        ),
        ("cma", {"sigma": 0.0}, [r"`sigma` .* above 0 .* not 0\.0"]),
        ("cma", {"sigma": True}, [r"`sigma` .* not True"]),
        ("cma", {"sigma": "wide"}, [r"`sigma` .* not 'wide'"]),
        ("cma", {"sigma": float("nan")}, [r"`sigma` .* not nan"]),
        ("cma", {"population": 9.5}, [r"`population` .* not 9\.5"]),
        (
            "mixed",
            {"sigma": 0, "population": 0, "separable": True},
            [
                r"option of the optimizer mixed 'separable'",
                r"`sigma` .* from 0\.0001 to 1 .* not 0",
                r"`population` .* not 0",
            ],
        ),
        ("mixed", {"sigma": float("nan"), "population": True}, [r"`sigma` .* not nan", r"`population` .* not True"]),
        ("nevergrad:DE", {"budget": 0, "workers": None}, [r"`budget` .* not 0", r"`workers` .* not None"]),
    ],
)
def test_all_mistakes_are_named_at_once(name: str, options: dict[str, object], messages: list[str]) -> None:
    problems = check_optimizer(name, options, 3)
    assert len(problems) == len(messages)
    with pytest.raises(ConfigError) as caught:
        make_optimizer(name, n_dims=3, start=[0.5] * 3, seed=0, **options)
    assert list(caught.value.problems) == problems
    for problem, message in zip(problems, messages, strict=True):
        with pytest.raises(ConfigError, match=message):
            raise ConfigError(problem)


def test_right_options_have_no_problems() -> None:
    assert check_optimizer("cma", {"sigma": 0.2, "population": None, "separable": "auto"}, 16) == []
    assert check_optimizer("cma", {"sigma": 1, "population": 20, "separable": True}, 16) == []
    assert check_optimizer("random", {}, 1) == []


@pytest.mark.parametrize("name", ["cma", "mixed", "random", "nevergrad:DE"])
def test_kinds_of_another_length_are_refused_where_they_are_used(name: str) -> None:
    with pytest.raises(ValueError, match="kinds must have 3 entries, one per dimension, but has 2"):
        check_optimizer(name, {}, 3, kinds=(0, 2))
    assert make_optimizer(name, n_dims=3, start=[0.5] * 3, seed=0, kinds=(0, 2, -3)).n_dims == 3
    if name == "mixed":
        with pytest.raises(ValueError, match=r"kinds must have the shape \(3,\), one per dimension, but has \(2,\)"):
            make_optimizer(name, n_dims=3, start=[0.5] * 3, seed=0, kinds=(0, 2))


@pytest.mark.parametrize("name", ["cma", "mixed", "random"])
def test_a_check_loads_only_the_library_that_it_is_about(name: str) -> None:
    code = f"""
import sys
from evomerge.optimizers import check_optimizer, make_optimizer
check_optimizer({name!r}, {{}}, 4)
assert "cma" not in sys.modules
make_optimizer({name!r}, n_dims=4, start=[.5] * 4, seed=0)
assert "nevergrad" not in sys.modules and ("cma" in sys.modules) == ({name!r} == "cma")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file of the user's with classes that do not work."""
    path = tmp_path / "own_optimizers.py"
    path.write_text(
        """
from evomerge.optimizers.base import Optimizer

class Unfinished(Optimizer):
    pass

class Refuses(Optimizer):
    def __init__(self, n_dims, start, seed):
        raise RuntimeError("no luck")
    ask = tell = dump_state = load_state = None

class Muddled(Refuses):
    @classmethod
    def problems(cls, options, n_dims):
        return [options["missing"]]
"""
    )
    return str(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Unfinished", r"cannot be made in 3 dimensions: TypeError"),
        ("Refuses", r"cannot be made in 3 dimensions: RuntimeError: no luck"),
        ("Muddled", r"cannot check its options: KeyError: 'missing'"),
    ],
)
def test_a_class_of_the_users_that_does_not_work_is_a_mistake_and_no_crash(own: str, name: str, message: str) -> None:
    (problem,) = check_optimizer(f"{own}:{name}", {}, 3)
    assert re.search(message, problem)


def test_a_file_that_ends_the_program_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys; sys.exit(3)")
    (problem,) = check_optimizer(f"{tmp_path}/program.py:Mine", {}, 3)
    assert "could not be imported: SystemExit: 3" in problem
