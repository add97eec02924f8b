"""Errors that say the same, but for numbers, are one reason."""

from pathlib import Path

from evomerge.analysis.failures import FAILED, INVALID, REPEATED, SCORED, outcome, reasons
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, State

RECIPE = Recipe("linear", (Parent("p", ModelSource(str(Path("org") / "p"))),), parameters={"weight": 1.0})


def failed(number: int, error: str | None, state: State = State.FAILED) -> Record:
    return Record(number, f"candidate {number}", state, RECIPE, error=error)


def test_reasons_are_grouped_and_counted() -> None:
    records = [
        failed(1, "needs 2.5 GiB, 1e-3 are free at 0xff01"),
        failed(2, "scale -0.2 must be above 0", State.INVALID),
        failed(4, "needs 13 GiB, 0.5 are free at 0xab"),
        failed(5, None),
        Record(6, "candidate 6", State.COMPLETE, RECIPE),
        failed(7, "scale -0.2 must be above 0"),
    ]
    found = [(one.outcome, one.text, one.numbers) for one in reasons(records)]
    assert found == [
        (FAILED, "needs 2.5 GiB, 1e-3 are free at 0xff01", (1, 4)),
        (INVALID, "scale -0.2 must be above 0", (2,)),
        (FAILED, "no reason was recorded", (5,)),
        (FAILED, "scale -0.2 must be above 0", (7,)),
    ]


def test_outcomes() -> None:
    twin = Record(6, "candidate 6", State.COMPLETE, RECIPE, same_as=2)
    assert [outcome(one) for one in (failed(0, "x"), failed(0, "x", State.INVALID), twin)] == [
        FAILED,
        INVALID,
        REPEATED,
    ]
    assert outcome(Record(6, "candidate 6", State.COMPLETE, RECIPE)) == SCORED
