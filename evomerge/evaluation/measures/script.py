"""Answers in another script than the parents': a merge that answers in Chinese what was asked, and used to be answered,
in Japanese.

What is measured of one answer is its script alone (see `evaluation.scripts`), kept as a note. Whether it is foreign is
told by the parents' answers to the same item (`Objectives`, `analysis.degeneration`), so there is no value without
parents.
"""

from __future__ import annotations

from evomerge.evaluation.measures.base import Answered, Measure
from evomerge.evaluation.scripts import script_number
from evomerge.evaluation.task import FOREIGN_SCRIPT as NAME
from evomerge.evaluation.task import SCRIPT


def answer_script(item: Answered) -> dict[str, float]:
    """Return the number of the answer's script, as a note."""
    return {SCRIPT: script_number(item.text)}


FOREIGN_SCRIPT = Measure(NAME, "minimize", ("generate_until",), answer_script)
