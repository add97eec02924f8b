"""The consensus: the mean of the best genomes, scored like a candidate and then a finalist.

Each of the best genomes owes its rank partly to luck; their mean does so less. Evolution strategies recombine for the
same reason (Beyer, Evolutionary Computation 3:81, 1995, calls it genetic repair).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from evomerge.fitness.scoring import Scoring
from evomerge.record import CONSENSUS, ItemAnswer, ItemScore, Job, Record, Split, State
from evomerge.search.budget import Budget
from evomerge.search.candidates import Candidates
from evomerge.search.journal import Journal
from evomerge.search.splits import SplitScorer
from evomerge.search.stage import Progress
from evomerge.search.verdicts import decided
from evomerge.strategies.base import WINNER, Strategy
from evomerge.system.stopwatch import summed

SHARE, LEAST = 0.1, 4
"""The best part of the scored candidates (and how many at least) whose mean genome becomes a finalist of its own."""

FROM = 20
"""How many candidates a stage must have for a consensus; the budget counts the consensus as one of them."""


def has_consensus(strategy: Strategy) -> bool:
    """Return whether a search with this strategy can have a consensus."""
    return strategy.has_mean and strategy.choice == WINNER


def less_one_candidate(budget: Budget, first: int, items: int) -> Budget:
    """Return what a stage may spend if the consensus is to be one of its candidates.

    Args:
        budget: the limits up to the end of the stage.
        first: number of the stage's first candidate.
        items: what a candidate costs.
    """
    if budget.candidates is not None and budget.candidates - first >= FROM:
        budget = replace(budget, candidates=budget.candidates - 1)
    if budget.items is not None and budget.items >= FROM * items:
        budget = replace(budget, items=budget.items - items)
    return budget


def enough_for_consensus(records: Iterable[Record], first: int) -> bool:
    """Return whether a stage has so many scored recipes that their best have a mean worth scoring.

    Args:
        records: of the run.
        first: number of the stage's first candidate.
    """
    scored = (
        record.fitness is not None and record.same_as is None and not record.is_consensus and record.number >= first
        for record in records
    )
    return sum(scored) >= FROM - 1


def score_consensus(
    ranked: Sequence[Record],
    *,
    strategy: Strategy,
    scoring: Scoring,
    candidates: Candidates,
    progress: Progress,
    budget: Budget,
    scorer: SplitScorer,
    journal: Journal,
    weights: Sequence[float],
) -> Record | None:
    """Score the mean of the best genomes of the present stage, unless an earlier session did.

    Args:
        ranked: the scored candidates, the best first.

    Returns:
        Its record. None if there are too few candidates, the budget is too small, it failed, or a candidate has the
        same recipe (and so is a finalist already, or was not good enough).
    """
    ranked = [record for record in ranked if record.number >= progress.first]
    if not has_consensus(strategy) or not enough_for_consensus(ranked, progress.first):
        return None
    n = max(LEAST, round(SHARE * len(ranked)))
    best = ranked[:n]
    proposal = strategy.mean([record.genome or () for record in best])
    assert proposal is not None, "the strategy has a mean"
    number = candidates.number_of(proposal.recipe.content_hash)
    if number is None:
        if not budget.allows(progress.spent, scoring.items_per_candidate):
            return None  # the search is too short to spend one of its candidates on this
        number = candidates.next_number
        record = Record(number, CONSENSUS, State.RUNNING, proposal.recipe, proposal.genome)
        record, answers, texts, parts = _score_alone(record, strategy, scoring, scorer, weights)
        candidates.know(record)
        progress.spent.candidates += 1
        progress.spent.items += len({(score.task, score.item) for score in answers})
        journal.add(record, answers, texts, parts=parts, parents=[one.number for one in best])
    record = scorer.record(number)
    return record if record.is_consensus and record.fitness is not None else None


def _score_alone(
    record: Record, strategy: Strategy, scoring: Scoring, scorer: SplitScorer, weights: Sequence[float]
) -> tuple[Record, Sequence[ItemScore], Sequence[ItemAnswer], Mapping[str, float]]:
    """Score a recipe that no strategy proposed, on as many search items as a candidate gets.

    Returns:
        Its record, its answers, the same in words, and what its time went into.
    """
    texts: list[ItemAnswer] = []
    parts: Mapping[str, float] = {}
    scoring.enter_alone(record.number, record.recipe, strategy.point(record.genome))
    while questions := scoring.next_questions():
        for number, items in questions:
            outcome = next(scorer.run([Job(number, record.recipe, Split.SEARCH, items)]))
            record = replace(record, seconds=record.seconds + outcome.seconds, device=outcome.device)
            parts = summed((parts, outcome.parts))
            if outcome.state != State.COMPLETE:
                scoring.withdraw()
                return replace(record, state=outcome.state, error=outcome.error), (), (), parts
            texts += outcome.answers
            scoring.answer(number, outcome.scores)
    verdict = scoring.verdicts()[0]
    return decided(record, verdict, weights), verdict.answers, texts, parts
