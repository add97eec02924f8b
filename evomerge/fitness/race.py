"""Races among the candidates of a generation: who gets more items.

The candidates of a generation share a number of items. Each gets a first block; further blocks go to those of whom it
is not clear yet whether they belong to the best part of the generation. So a candidate that cannot reach the threshold
stops early, and its items go to the others. A race selects the best part because CMA-ES learns from that part alone
(Heidrich-Meisner and Igel, "Hoeffding and Bernstein races for selecting policies in evolutionary direct policy search",
ICML 2009); in place of their bounds stands the posterior of each candidate's score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from evomerge.errors import unknown_name

RULES = ("posterior", "halving")
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Race:
    """How a generation is raced.

    Attributes:
        rule: "posterior": a block for each candidate whose probability of belonging to the best part lies between
            `level` and 1 - `level`; "halving": only the best `1 / eta` go on, with `eta` times as many items (Jamieson
            and Talwalkar, "Non-stochastic best arm identification", AISTATS 2016).
        block: items of a block.
        level: posterior probability below which it is clear on which side of the threshold a candidate is.
        keep: the part of a generation that is selected.
        most: most items of one candidate; None: all items.
        eta: factor of successive halving.

    Raises:
        ValueError: if there is no such rule.
    """

    rule: str = "posterior"
    block: int = 10
    level: float = 0.1
    keep: float = 0.5
    most: int | None = None
    eta: int = 2

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(unknown_name("rule of a race", self.rule, RULES))


@dataclass(frozen=True)
class Contender:
    """A candidate in a race: its estimate with standard error, and how many items it has answered."""

    estimate: float
    error: float
    answered: int


def next_blocks(race: Race, contenders: Sequence[Contender], left: int, pool: int, turn: int) -> dict[int, int]:
    """Return how many further items contenders get, by their position in `contenders`; empty: the race is over.

    Args:
        race: the rules.
        contenders: all candidates of the generation that did not fail.
        left: items that the generation may still spend.
        pool: how many items there are.
        turn: how often blocks were given out before in this generation.
    """
    most = min(pool, race.most or pool)
    if not contenders or left < 1:
        return {}
    if len(contenders) == 1:  # there is no other to race with
        n = min(left, most - contenders[0].answered)
        return {0: n} if turn == 0 and n > 0 else {}
    if race.rule == "halving":
        wanted, size = _survivors(race, contenders, turn), race.block * race.eta**turn
    else:
        wanted, size = _contested(race, contenders), race.block
    given: dict[int, int] = {}
    for index in wanted:
        n = min(size, most - contenders[index].answered, left)
        if n > 0:
            given[index] = n
            left -= n
    return given


def reach(race: Race, contenders: Sequence[Contender]) -> list[float]:
    """Return for each contender the probability that its score lies above the selection threshold.

    The threshold lies halfway between the estimates of the last contender that would be selected and the first that
    would not.
    """
    ranked = sorted((one.estimate for one in contenders), reverse=True)
    selected = min(max(1, round(race.keep * len(ranked))), len(ranked) - 1)
    threshold = (ranked[selected - 1] + ranked[selected]) / 2.0
    found = []
    for one in contenders:
        if one.error > 0.0:
            found.append(_NORMAL.cdf((one.estimate - threshold) / one.error))
        else:
            found.append(0.5 if one.estimate == threshold else float(one.estimate > threshold))
    return found


def _contested(race: Race, contenders: Sequence[Contender]) -> list[int]:
    """Return the contenders whose selection is not clear yet, the most doubtful first."""
    chance = reach(race, contenders)
    doubtful = [index for index, p in enumerate(chance) if race.level < p < 1.0 - race.level]
    return sorted(doubtful, key=lambda index: (abs(chance[index] - 0.5), index))


def _survivors(race: Race, contenders: Sequence[Contender], turn: int) -> list[int]:
    """Return the best `1 / eta` of the contenders that got every block so far."""
    n = math.ceil(len(contenders) / race.eta ** (turn + 1))
    if n < 2 and turn > 0 and math.ceil(len(contenders) / race.eta**turn) < 2:
        return []
    ranked = sorted(range(len(contenders)), key=lambda i: (-contenders[i].answered, -contenders[i].estimate, i))
    return ranked[:n]
