"""Whether a search had converged, by what its optimizer says of itself."""

from __future__ import annotations

import math

import pytest

from evomerge.analysis.converging import CLOSING_IN, CONVERGED, HARDLY, converging
from evomerge.analysis.next_steps import next_steps


def course(*steps: float, stage: int = 0) -> list[dict[str, object]]:
    return [{"candidates": 8 * n, "stage": stage, "step_size": step} for n, step in enumerate(steps)]


@pytest.mark.parametrize(
    ("steps", "how"),
    [
        ((0.2, 0.11), HARDLY),
        ((0.2, 0.3), HARDLY),
        ((0.2, 0.1), CLOSING_IN),
        ((0.2, 0.03), CLOSING_IN),
        ((0.2, 0.019), CONVERGED),
        ((0.2,), None),
    ],
)
def test_the_last_width_is_held_against_the_first(steps: tuple[float, ...], how: str | None) -> None:
    found = converging(course(*steps))
    assert found is not None and found.how == how
    assert (found.width, found.first, found.last) == ("step size", steps[0], steps[-1])


def test_the_last_stage_alone_counts() -> None:
    found = converging([*course(1.0, 0.01), *course(0.2, 0.15, stage=1)])
    assert found is not None and found.how == HARDLY and len(found.standings) == 2


def test_what_is_no_width_is_none() -> None:
    odd = [{"candidates": 1, "step_size": one} for one in (math.nan, math.inf, -1.0, 0.0, True, "wide", None)]
    assert converging(odd) is None and converging([]) is None


@pytest.mark.parametrize(("steps", "said"), [((0.2, 0.18), True), ((0.2, 0.01), False), ((), False)])
def test_a_search_that_had_hardly_converged_may_go_on(steps: tuple[float, ...], said: bool) -> None:
    status = {
        "path": "outputs/a",
        "state": "complete",
        "best": {"id": 0, "name": "candidate 0"},
        "choice": {"kind": "winner", "records": [{"id": 0}]},
        "verdict": {"use": True},
        "warnings": [],
        "skills": [],
        "budget": {"candidates": 96, "items": None},
    }
    found = next_steps(status, [], course(*steps))
    assert found[0].command.startswith("evomerge export")
    assert [one.command for one in found[1:]] == (["evomerge resume outputs/a budget.candidates=192"] if said else [])
