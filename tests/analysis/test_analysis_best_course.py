"""The course of the best score has as many points as a line has room for."""

import pytest

from evomerge.analysis.best_course import BestCourse


@pytest.mark.parametrize("n", [0, 1, 6, 7, 12, 13, 1000])
def test_the_course_stays_short_and_holds_the_best_so_far_at_the_end_of_equal_stretches(n: int) -> None:
    values = [(i * 37 % 101) / 100 for i in range(n)]
    course = BestCourse(most=6)
    for value in values:
        course.add(value)
    each = 1
    while n > 6 * each:
        each *= 2
    assert course.values == tuple(max(values[: i + each]) for i in range(0, n, each))
    assert len(course.values) <= 6
