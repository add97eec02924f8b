from __future__ import annotations

import pytest
from optimizer_cases import CASES, Case


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """Each optimizer of the conformance suite in turn."""
    return request.param
