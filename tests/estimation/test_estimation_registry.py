import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evomerge.errors import ConfigError, EstimationError
from evomerge.estimation import ESTIMATORS, Estimate, Responses, make_estimator
from evomerge.estimation.run_estimators import RUN_ESTIMATORS, CalibratedEstimator, ModelEstimator, make_run_estimator
from evomerge.estimation.simple import Mean
from evomerge.system import registry

OWN = """
import numpy as np
from evomerge.estimation import Estimate

class Half:
    def fit(self, calibration, *, seed=0):
        self.seed = seed

    def estimate(self, seen, *, pool=None, parents=None, weights=None):
        half = np.full(len(seen), 0.5)
        return Estimate(half, half * 0, half * 0, half * 2)
"""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that offers the estimator "fancy"."""
    point = importlib.metadata.EntryPoint("fancy", "evomerge.estimation.simple:Mean", "evomerge.estimators")
    monkeypatch.setattr(
        registry.importlib.metadata, "entry_points", lambda group: [point] if group == point.group else []
    )
    registry._entry_points.cache_clear()
    yield
    registry._entry_points.cache_clear()


def test_an_estimator_of_an_installed_package_has_its_name(installed: None) -> None:
    assert "fancy" in ESTIMATORS and "fancy" in RUN_ESTIMATORS
    assert isinstance(make_estimator("fancy"), Mean)
    assert isinstance(make_run_estimator("fancy"), CalibratedEstimator)


@pytest.mark.parametrize("name", ["own_estimators:Half", "own_estimators.py:Half"])
def test_an_estimator_of_a_users_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "own_estimators.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    assert name in ESTIMATORS and name in RUN_ESTIMATORS
    made = make_estimator(name)
    made.fit(Responses(("m",), ("i",), np.array([[1.0]])), seed=3)
    assert isinstance(found := made.estimate(np.array([[np.nan]])), Estimate) and found.mean.tolist() == [0.5]
    run = make_run_estimator(name, seed=3)
    run.fit(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1.0, np.nan]]), [None])
    assert run.estimate(None, np.array([1.0, np.nan])).mean == 0.5


def test_a_search_has_an_estimator_of_its_own_for_the_mean() -> None:
    assert set(RUN_ESTIMATORS.names) >= {*ESTIMATORS.names, "model"}
    assert isinstance(make_run_estimator("model"), ModelEstimator)
    guess = make_run_estimator("mean")
    guess.fit(np.ones((1, 3)), np.zeros((0, 3)), [])
    assert guess.estimate(None, np.array([1.0, np.nan, np.nan])).error > 0.0


def test_an_unknown_estimator_is_told_with_the_nearest_name() -> None:
    with pytest.raises(EstimationError, match="unknown estimator 'rigde'; did you mean 'ridge'"):
        make_estimator("rigde")
    with pytest.raises(ConfigError, match=r"fitness\.estimator: unknown estimator 'modle'; did you mean 'model'"):
        make_run_estimator("modle")
    with pytest.raises(EstimationError, match="could not be imported: ModuleNotFoundError"):
        make_estimator("no_such_module:Thing")
