"""The front that is kept result by result is the front of all results."""

import random

import pytest

from evomerge.analysis.front_so_far import FrontSoFar
from evomerge.record import Result


def test_it_holds_what_no_other_result_dominates_however_they_come() -> None:
    draw = random.Random(0)
    results = [Result((draw.randint(0, 9) / 9, draw.randint(0, 9) / 9), violation=draw.choice([0.0, 0.0, 0.3]))
               for _ in range(80)]  # fmt: skip
    found = FrontSoFar()
    for result in results:
        found.add(result)
    best = {one.objectives for one in results if not any(other.dominates(one) for other in results)}
    assert set(found.points) == best and len(found) == len(best)


def test_the_hypervolume_is_that_of_the_front_beyond_the_reference() -> None:
    found = FrontSoFar()
    assert found.hypervolume(None) is None and found.hypervolume((0.0, 0.0)) == 0.0
    for point in ((0.5, 0.25), (0.25, 0.5), (0.1, 0.1)):
        found.add(Result(point))
    # two rectangles of 0.5 × 0.25 that share 0.25 × 0.25
    assert found.hypervolume((0.0, 0.0)) == pytest.approx(2 * 0.125 - 0.0625)
    assert found.hypervolume((0.25, 0.25)) == pytest.approx(0.0)
    found.add(Result((1.0, 1.0)))
    assert found.hypervolume((0.0, 0.0)) == pytest.approx(1.0) and len(found) == 1
