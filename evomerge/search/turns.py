"""Whose turn it is: when a further candidate may be asked for, and in which order outcomes are taken and told.

`AsTheyCome` keeps every worker busy. `InOrder` gives the records of a search with one worker, bit for bit: it asks only
for proposals that nothing running can change, and takes and tells outcomes in order.
"""

from __future__ import annotations

from typing import Protocol

from evomerge.fitness.scoring import Scoring
from evomerge.search.candidates import Candidate, Candidates, Life
from evomerge.strategies.base import Strategy

AHEAD = 4
"""So many jobs per worker may run ahead of the oldest one, so that one that hangs does not hold up all outcomes."""


class Turns(Protocol):
    """A policy of turns; it holds no state."""

    def may_ask(self, candidates: Candidates, strategy: Strategy, scoring: Scoring, capacity: int) -> bool:
        """Return whether the order of turns allows another proposal to be asked for now."""
        ...

    def to_take(self, candidates: Candidates) -> list[Candidate]:
        """Return the candidates whose held outcomes are taken now, in order."""
        ...

    def to_tell(self, candidates: Candidates) -> list[Candidate]:
        """Return the candidates that are told now, in order."""
        ...

    def possible_repeats(self, candidates: Candidates) -> int:
        """Return how many outstanding candidates may turn out to be repetitions of earlier recipes."""
        ...


class AsTheyCome:
    """The policy by which no worker waits for another one."""

    def may_ask(self, candidates: Candidates, strategy: Strategy, scoring: Scoring, capacity: int) -> bool:
        """Return True: nothing needs to wait."""
        del candidates, strategy, scoring, capacity
        return True

    def to_take(self, candidates: Candidates) -> list[Candidate]:
        """Return all candidates with an outcome, in the order of arrival."""
        return candidates.arrived

    def to_tell(self, candidates: Candidates) -> list[Candidate]:
        """Return all decided candidates."""
        return candidates.decided

    def possible_repeats(self, candidates: Candidates) -> int:
        """Return 0: repeats are told at once."""
        del candidates
        return 0


class InOrder:
    """The policy that gives the records of a search with one worker; workers may have to wait."""

    def may_ask(self, candidates: Candidates, strategy: Strategy, scoring: Scoring, capacity: int) -> bool:
        """Return whether a search with one worker would get the same next proposal, now or later."""
        if not candidates.n_submitted and not candidates.n_queued:
            return True
        if scoring.learns and scoring.generation_full and candidates.outstanding:
            return False  # the next generation's estimators learn from this one's answers
        return strategy.sure_asks > 0 and candidates.n_submitted < AHEAD * capacity

    def to_take(self, candidates: Candidates) -> list[Candidate]:
        """Return the candidates before which none is running."""
        found = []
        for candidate in candidates.submitted_in_order:
            if candidate.life != Life.HELD:
                break
            found.append(candidate)
        return found

    def to_tell(self, candidates: Candidates) -> list[Candidate]:
        """Return the candidates before which none is undecided, by number."""
        if not candidates.decided:
            return []
        found = []
        for candidate in candidates.outstanding:
            if candidate.life != Life.DECIDED:
                break
            found.append(candidate)
        return found

    def possible_repeats(self, candidates: Candidates) -> int:
        """Return the number of outstanding candidates."""
        return len(candidates.outstanding)
