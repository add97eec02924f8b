"""Whose turn it is: when a further candidate may be asked for, and in which order outcomes are taken and told.

`AsTheyCome` keeps every worker busy. `InOrder` gives the records of a search with one worker, bit for bit: no proposal
is asked for that could still change by what is running, and outcomes are taken, and told, in order.
"""

from __future__ import annotations

from typing import Protocol

from evomerge.fitness.scoring import Scoring
from evomerge.search.candidates import Candidate, Candidates, Life
from evomerge.strategies.base import Strategy

AHEAD = 4
"""So many jobs a worker may be submitted before the oldest one is taken: one that hangs must not hold all answers."""


class Turns(Protocol):
    """A policy; it holds no state."""

    def may_ask(self, candidates: Candidates, strategy: Strategy, scoring: Scoring, capacity: int) -> bool:
        """Return whether another proposal may be asked for now, as far as order is concerned."""
        ...

    def to_take(self, candidates: Candidates) -> list[Candidate]:
        """Return whose held outcomes are taken now, in order."""
        ...

    def to_tell(self, candidates: Candidates) -> list[Candidate]:
        """Return who is told now, in order."""
        ...

    def possible_repeats(self, candidates: Candidates) -> int:
        """Return how many outstanding candidates may yet turn out to have been scored before."""
        ...


class AsTheyCome:
    """No worker waits for another one."""

    def may_ask(self, candidates: Candidates, strategy: Strategy, scoring: Scoring, capacity: int) -> bool:
        """Return True."""
        del candidates, strategy, scoring, capacity
        return True

    def to_take(self, candidates: Candidates) -> list[Candidate]:
        """Return all that came, in that order."""
        return candidates.arrived

    def to_tell(self, candidates: Candidates) -> list[Candidate]:
        """Return all that are decided."""
        return candidates.decided

    def possible_repeats(self, candidates: Candidates) -> int:
        """Return 0: repeats are told at once."""
        del candidates
        return 0


class InOrder:
    """The records of a search with one worker, at the price of workers that wait."""

    def may_ask(self, candidates: Candidates, strategy: Strategy, scoring: Scoring, capacity: int) -> bool:
        """Return whether a search with one worker would now, or later, ask for the same next proposal."""
        if not candidates.n_submitted and not candidates.n_queued:
            return True
        if scoring.learns and scoring.generation_full and candidates.outstanding:
            return False  # the next generation's estimators learn from this one's answers
        return strategy.sure_asks > 0 and candidates.n_submitted < AHEAD * capacity

    def to_take(self, candidates: Candidates) -> list[Candidate]:
        """Return those before which nothing is running."""
        found = []
        for candidate in candidates.submitted_in_order:
            if candidate.life != Life.HELD:
                break
            found.append(candidate)
        return found

    def to_tell(self, candidates: Candidates) -> list[Candidate]:
        """Return those before which nothing is undecided, by number."""
        if not candidates.decided:
            return []
        found = []
        for candidate in candidates.outstanding:
            if candidate.life != Life.DECIDED:
                break
            found.append(candidate)
        return found

    def possible_repeats(self, candidates: Candidates) -> int:
        """Return how many are outstanding."""
        return len(candidates.outstanding)
