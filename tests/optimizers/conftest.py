from __future__ import annotations

import pytest
from optimizer_cases import CASES, Case

SAMPLED = ("DE", "NGOpt", "DiscreteOnePlusOne", "ScrHammersleySearch")
"""Of nevergrad's, which all pass through one class: a population, what chooses among them, a grid, a fixed design."""


def is_slow(case: Case) -> bool:
    """Whether a case is left to the slow tests."""
    return case.name.startswith("nevergrad:") and case.name.partition(":")[2] not in SAMPLED


@pytest.fixture(
    params=[pytest.param(one, marks=pytest.mark.slow if is_slow(one) else (), id=str(one)) for one in CASES]
)
def case(request: pytest.FixtureRequest) -> Case:
    """Each optimizer of the conformance suite in turn."""
    return request.param
