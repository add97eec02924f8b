"""No figure says more than is known: nothing is rounded to a limit that it does not reach."""

from __future__ import annotations

import math

import pytest

from evomerge.system.figures import fixed, gain, p_number, p_text, percentage


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.9996, "99.96"), (1.0, "100.0"), (0.99999999, "99.99999"), (0.0004, "0.04"), (0.0, "0.0"), (-0.0, "0.0"),
        (-0.0003, "-0.03"), (-1.0, "-100.0"), (-0.9997, "-99.97"), (0.512, "51.2"), (0.9994, "99.9"),
        (1.0001, "100.01"),
    ],
)  # fmt: skip
def test_shares_are_all_or_nothing_only_where_they_are(share: float, shown: str) -> None:
    assert percentage(share) == shown


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (1.0, "p = 1.0000"),
        (0.046, "p = 0.0460"),
        (0.04998, "p = 0.04998"),
        (0.05002, "p = 0.05002"),
        (0.0001, "p = 0.0001"),
        (0.00009, "p < 0.0001"),
        (1e-300, "p < 0.0001"),
    ],
)
def test_p_values_are_never_0_and_on_their_side_of_5_percent(p: float, shown: str) -> None:
    assert p_text(p) == shown
    assert p_number(p) == shown.removeprefix("p = ").removeprefix("p ")


def test_signs_and_infinities() -> None:
    assert [fixed(x, 1, signed=True) for x in (0.04, 1.26, 0.0, -0.0)] == ["+0.04", "+1.3", "+0.0", "+0.0"]
    assert [fixed(x, 1) for x in (1e-9, -1e-9, 1e-15, math.inf)] == ["0.00001", "-0.00001", "0.0", "inf"]


def test_a_gain_is_in_points_only_where_scores_are_in_percent() -> None:
    of_shares = {"difference": 0.139, "low": 0.069, "high": 0.203, "share": True}
    assert gain(of_shares) == "+13.9 points [6.9, 20.3]"
    assert gain({"difference": -12.25, "low": -20.5, "high": 1.0, "share": False}) == "-12.25 [-20.5, 1]"
