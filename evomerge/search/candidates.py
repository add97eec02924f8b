"""The candidates of a search, from the proposal to the disk: each has one life, and one container holds them all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

from evomerge.record import EarlyEstimate, ItemAnswer, ItemScore, Job, Outcome, Record, Split
from evomerge.system.stopwatch import summed

Items = Mapping[str, tuple[int, ...]]
ItemKey = tuple[str, int]
"""A task, and the index of one of its items."""


class Life(IntEnum):
    """Where a candidate stands. The states follow each other, but further questions lead from HELD back to QUEUED."""

    ASKED = 0  # the strategy proposed it; it has no open questions (its twin is running, or a race goes on)
    QUEUED = 1  # it has questions that were not submitted yet
    RUNNING = 2  # its questions were submitted to the executor
    HELD = 3  # the outcome has arrived, and waits for its turn
    DECIDED = 4  # its result is known
    TOLD = 5  # the strategy was told the result
    WRITTEN = 6  # the record is on the disk


@dataclass(eq=False)  # two candidates are the same only if they are one
class Candidate:
    """One candidate of a search.

    Attributes:
        number: its number in the run.
        ask: the strategy's own number for it.
        record: recipe, genome, and what is known so far.
        questions: the items that it is to answer, while it is QUEUED; None: all search items.
        outcome: what a worker answered, while it is HELD.
        answers: what it answered in earlier sessions, while it is not decided.
        scores: all answers from which the result was made, once it is DECIDED.
        texts: what it answered so far in words, as far as that is known, for people.
        twin: the earlier candidate with the same recipe, whose result it gets.
        items: how many item evaluations it has cost so far.
        parents: numbers of the candidates from which it was bred.
        parts: what the time of its workers went into, in this session.
        asked_at: when it was asked for in this session, on the search's clock.
        estimates: of one that answered every search item, what was made of some of them before.
    """

    number: int
    ask: int
    record: Record
    life: Life = Life.ASKED
    questions: Items | None = None
    outcome: Outcome | None = None
    answers: dict[ItemKey, ItemScore] = field(default_factory=dict)
    scores: Sequence[ItemScore] = ()
    texts: dict[ItemKey, ItemAnswer] = field(default_factory=dict)
    twin: int | None = None
    items: int = 0
    parents: tuple[int, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    asked_at: float = 0.0
    estimates: tuple[EarlyEstimate, ...] = ()

    @property
    def is_decided(self) -> bool:
        """Whether its result is known."""
        return self.life >= Life.DECIDED

    def known(self, all_items: Sequence[ItemKey]) -> list[ItemScore] | None:
        """Return the answers to its questions, if it gave all of them in earlier sessions; else None."""
        if not self.answers:
            return None
        wanted = all_items
        if self.questions is not None:
            wanted = [(task, item) for task, items in self.questions.items() for item in items]
        return [self.answers[key] for key in wanted] if all(key in self.answers for key in wanted) else None

    @property
    def all_texts(self) -> dict[ItemKey, ItemAnswer]:
        """What it answered so far in words, with the outcome that is held."""
        held = () if self.outcome is None else self.outcome.answers
        return {**self.texts, **{(answer.task, answer.item): answer for answer in held}}

    @property
    def job(self) -> Job:
        """Return its questions as a job for the executor."""
        return Job(self.number, self.record.recipe, Split.SEARCH, self.questions)

    def copy_result(self, earlier: Record) -> None:
        """Take the result of the earlier candidate with the same recipe."""
        self.record = replace(
            self.record,
            state=earlier.state,
            result=earlier.result,
            fitness=earlier.fitness,
            scores={split: score for split, score in (earlier.scores or {}).items() if split == Split.SEARCH},
            error=earlier.error,
            same_as=earlier.number if earlier.same_as is None else earlier.same_as,
        )


class Candidates:
    """All candidates that are not on the disk yet, and for each recipe the number of the candidate that has it.

    Attributes:
        next_number: the number that the next candidate gets.
    """

    def __init__(self) -> None:
        self.next_number = 0
        self._live: dict[int, Candidate] = {}
        self._numbers: dict[str, int] = {}  # recipe hash -> number of the candidate that is (or was) scored with it
        self._queue: deque[Candidate] = deque()
        self._submitted: dict[int, Candidate] = {}  # RUNNING or HELD, in the order in which they were submitted
        self._arrived: deque[Candidate] = deque()  # HELD, in the order in which they came
        self._decided: deque[Candidate] = deque()  # DECIDED by their own answers, in that order
        self._twins: deque[Candidate] = deque()  # DECIDED by the result of their twin, in that order
        self._followers: dict[int, list[Candidate]] = {}  # live number -> later ones with its recipe

    # --- what the loop does -------------------------------------------------------------------------------------

    def know(self, record: Record) -> None:
        """Note a candidate or baseline that is on the disk already."""
        self._numbers.setdefault(record.recipe.content_hash, record.number)
        self.next_number = max(self.next_number, record.number + 1)

    def add(self, candidate: Candidate) -> None:
        """Add a new candidate, or one that was outstanding when an earlier session ended; find its twin."""
        self._live[candidate.number] = candidate
        self.next_number = max(self.next_number, candidate.number + 1)
        earlier = self._numbers.setdefault(candidate.record.recipe.content_hash, candidate.number)
        if earlier != candidate.number:
            candidate.twin = earlier
            if earlier in self._live:
                self._followers.setdefault(earlier, []).append(candidate)

    def queue(self, number: int, questions: Items | None) -> None:
        """Give a candidate questions; None: all search items."""
        candidate = self._live[number]
        candidate.questions, candidate.life = questions, Life.QUEUED
        self._queue.append(candidate)

    def take_queued(self) -> Candidate:
        """Return the candidate that has waited longest for a worker."""
        candidate = self._queue.popleft()
        candidate.life = Life.ASKED
        return candidate

    def submitted(self, candidate: Candidate) -> None:
        """Note that a candidate's questions were submitted to the executor."""
        candidate.life = Life.RUNNING
        self._submitted[candidate.number] = candidate

    def hold(self, outcome: Outcome) -> Candidate:
        """Keep an outcome until its turn comes; return its candidate."""
        candidate = self._submitted[outcome.job.candidate]
        candidate.outcome, candidate.life = outcome, Life.HELD
        self._arrived.append(candidate)
        return candidate

    def take_held(self, candidate: Candidate) -> Outcome:
        """Return the outcome of a candidate whose turn has come, and note time and device in its record."""
        outcome = candidate.outcome
        assert outcome is not None, "only a held candidate has one"
        candidate.texts = candidate.all_texts
        candidate.outcome, candidate.life = None, Life.ASKED
        candidate.parts = summed((candidate.parts, outcome.parts))
        del self._submitted[candidate.number]
        self._arrived.remove(candidate)
        before = candidate.record
        candidate.record = replace(before, seconds=before.seconds + outcome.seconds, device=outcome.device)
        return outcome

    def decide(self, candidate: Candidate, record: Record, scores: Sequence[ItemScore]) -> None:
        """Note a candidate's result, and give it to the candidates with the same recipe."""
        candidate.record, candidate.scores = record, scores
        candidate.life, candidate.answers = Life.DECIDED, {}
        self._decided.append(candidate)
        # Looked up, for the many that wait for a transaction are live, too.
        for other in self._followers.get(candidate.number, ()):
            if other.life == Life.ASKED:
                self.decide_twin(other, record)

    def decide_twin(self, candidate: Candidate, earlier: Record) -> None:
        """Give a candidate the result of its twin."""
        candidate.copy_result(earlier)
        candidate.life = Life.DECIDED
        self._twins.append(candidate)

    def told(self, candidate: Candidate) -> None:
        """Note that the strategy was told a candidate's result."""
        candidate.life = Life.TOLD
        for waiting in (self._decided, self._twins):
            if candidate in waiting:
                waiting.remove(candidate)

    def written(self, candidate: Candidate) -> None:
        """Forget a candidate that is on the disk now; only its recipe is kept."""
        candidate.life = Life.WRITTEN
        self._live.pop(candidate.number, None)
        self._followers.pop(candidate.number, None)

    def drop(self) -> None:
        """Forget all running work, because the time is up. Candidates that were not told stay outstanding."""
        for waiting in (self._queue, self._submitted, self._arrived, self._decided, self._twins):
            waiting.clear()
        for candidate in self._live.values():
            if candidate.life < Life.TOLD:
                candidate.texts = candidate.all_texts
                candidate.life, candidate.outcome, candidate.scores = Life.ASKED, None, ()

    # --- what the loop asks -------------------------------------------------------------------------------------

    def __getitem__(self, number: int) -> Candidate:
        return self._live[number]

    def number_of(self, recipe_hash: str) -> int | None:
        """Return the number of the candidate or baseline that has a recipe; None: none was proposed."""
        return self._numbers.get(recipe_hash)

    def live(self, number: int) -> Candidate | None:
        """Return a candidate that is not on the disk yet."""
        return self._live.get(number)

    @property
    def outstanding(self) -> list[Candidate]:
        """The candidates that were asked and not told, by number."""
        found = (one for one in self._live.values() if one.life < Life.TOLD)
        return sorted(found, key=lambda one: one.number)

    @property
    def any_undecided(self) -> bool:
        """Whether any candidate is being scored itself, not by a twin."""
        return any(one.life < Life.DECIDED and one.twin is None for one in self._live.values())

    @property
    def n_queued(self) -> int:
        """How many candidates wait for a worker."""
        return len(self._queue)

    @property
    def n_running(self) -> int:
        """How many candidates the executor is working on."""
        return len(self._submitted) - len(self._arrived)

    @property
    def submitted_in_order(self) -> Iterator[Candidate]:
        """Yield the candidates that were submitted and whose outcome was not taken yet, in the order of submission."""
        return iter(list(self._submitted.values()))

    @property
    def n_submitted(self) -> int:
        """How many candidates were submitted and have an outcome that was not taken yet."""
        return len(self._submitted)

    @property
    def arrived(self) -> list[Candidate]:
        """The candidates whose outcome is held, in the order of arrival."""
        return list(self._arrived)

    @property
    def decided(self) -> list[Candidate]:
        """The candidates that can be told: first those with answers of their own, then twins, in order of decision."""
        return [*self._decided, *self._twins]
