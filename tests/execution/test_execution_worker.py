from types import SimpleNamespace

import pytest
from torch.nn import Linear

from evomerge.errors import (
    CheckpointError,
    ConfigError,
    EvaluationError,
    ExecutionError,
    Fault,
    Interrupted,
    RecipeError,
)
from evomerge.evaluation.engines.units import UnitRange
from evomerge.execution.base import PartialAnswers, StopSignal, Worker
from evomerge.execution.local import LocalExecutor
from evomerge.execution.worker import LiveWorker, _stopwatch
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Job, Outcome, Split, State

RECIPE = Recipe("linear", (Parent("a", ModelSource("a")),))
SCORES = (ItemScore("t", 0, {"acc": 1.0}),)


class Harness:
    def __init__(self, result=SCORES) -> None:
        self.result = result
        self.calls: list[tuple] = []

    def answers(self, model, tokenizer, split, items, units, *, should_stop=None):
        self.calls.append((model, tokenizer, split, items, should_stop))
        units.open(4)
        units.take(0, 4)
        if isinstance(self.result, BaseException):
            raise self.result
        return [dict.fromkeys(range(units.first, units.end), 0.5)]

    def scores(self, model, tokenizer, split, items, answers, texts=None):
        found = sorted(i for (some,) in answers for i in some)
        if found != list(range(4)):
            raise EvaluationError(f"{found} came")
        return self.result


class Live(SimpleNamespace):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(model="model", tokenizer="tokenizer", device="cpu", devices=("cpu",), error=error, written=[])

    def write(self, recipe: Recipe) -> None:
        self.written.append(recipe)
        if self.error is not None:
            raise self.error


def job(number: int = 0) -> Job:
    return Job(number, RECIPE, Split.SEARCH, {"t": (0,)})


def test_a_candidate_is_written_into_the_live_model_and_scored_there() -> None:
    live, harness, stop = Live(), Harness(), StopSignal()
    outcome = LiveWorker(live, harness, stop=stop).run(job())
    assert (outcome.state, outcome.scores, outcome.device, outcome.error) == (State.COMPLETE, SCORES, "cpu", None)
    assert live.written == [RECIPE]
    assert harness.calls == [("model", "tokenizer", Split.SEARCH, {"t": (0,)}, stop.now)]
    assert outcome.seconds >= 0


@pytest.mark.parametrize("error", [RecipeError("weights sum to 0"), CheckpointError("math holds NaN")])
def test_a_recipe_that_cannot_be_built_is_invalid_and_not_scored(error: Exception) -> None:
    harness = Harness()
    outcome = LiveWorker(Live(error), harness, stop=StopSignal()).run(job())
    assert (outcome.state, outcome.error, outcome.scores) == (State.INVALID, str(error), ())
    assert harness.calls == []


@pytest.mark.parametrize(
    "error", [EvaluationError("logits are not finite"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_a_candidate_that_cannot_be_scored_has_failed_with_the_reason(error: Exception) -> None:
    outcome = LiveWorker(Live(), Harness(error), stop=StopSignal()).run(job())
    assert outcome.state == State.FAILED
    assert str(error) in (outcome.error or "")


@pytest.mark.parametrize("error", [ConfigError("no model of this kind"), Interrupted("stop"), KeyboardInterrupt()])
def test_what_no_candidate_can_help_is_raised(error: BaseException) -> None:
    stop = StopSignal()
    stop.request(), stop.request()
    with pytest.raises(type(error)):
        LiveWorker(Live(), Harness(error), stop=stop).run(job())


class Finishing(Harness):
    """A harness that answers, and then fails to score the answers."""

    def scores(self, model, tokenizer, split, items, answers, texts=None):
        raise self.result


class Own(BaseException):
    """What nobody expects: no `Exception`, and no text."""

    def __str__(self) -> str:
        raise RuntimeError("it has no text")


@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), SystemExit(0), GeneratorExit(), StopIteration(3), RecursionError("deep"), Own(),
     AssertionError(), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), ValueError("x" * 5_000_000),
     Interrupted("nobody asked"), ValueError("\ud800")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("where", ["build", "answer", "finish"])
def test_whatever_else_is_raised_is_the_outcome_of_the_candidate(error: BaseException, where: str) -> None:
    live = Live(error if where == "build" else None)
    live.recipe = RECIPE
    harness = Harness(error if where == "answer" else SCORES)
    if where == "finish":
        harness = Finishing(error)
    worker = LiveWorker(live, harness, stop=StopSignal())
    outcome = worker.finish(job(), []) if where == "finish" else worker.run(job())
    assert (outcome.state, outcome.scores) == (State.FAILED, ())
    assert outcome.error is not None
    assert (str(error) if isinstance(error, Interrupted) else type(error).__name__) in outcome.error
    assert len(outcome.error) < 30_000 and outcome.error.encode()


def test_ctrl_c_that_nobody_pressed_is_the_fault_of_the_candidate() -> None:
    stop = StopSignal()
    stop.takes_signals = True
    worker = LiveWorker(Live(), Harness(KeyboardInterrupt()), stop=stop)
    assert worker.run(job()).state == State.FAILED
    stop.request()
    with pytest.raises(KeyboardInterrupt):
        worker.run(job())


def test_memory_and_devices_are_no_fault_of_the_candidate_and_a_broken_device_ends_the_session() -> None:
    assert LiveWorker(Live(), Harness(MemoryError()), stop=StopSignal()).run(job()).fault == Fault.MEMORY
    broken = RuntimeError("CUDA error: device-side assert triggered")
    executor = LocalExecutor(LiveWorker(Live(broken), Harness(), stop=StopSignal()))
    executor.submit(job(3))
    executor.submit(job(4))
    outcome = executor.collect()  # it is recorded, so that a new process does not meet it again
    assert (outcome.job.candidate, outcome.state, outcome.fault) == (3, State.FAILED, Fault.DEVICE)
    with pytest.raises(ExecutionError, match="device-side assert"):
        executor.collect()


def test_the_traceback_of_an_unexpected_error_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="evomerge")
    worker = LiveWorker(Live(), Harness(ZeroDivisionError("of the metric")), stop=StopSignal())
    for number in range(3):
        worker.run(job(number))
    assert caplog.text.count("Traceback") == 1 and "of the metric" in caplog.text


def test_a_part_is_answered_and_all_parts_are_scored() -> None:
    live = Live()
    live.recipe = None
    worker = LiveWorker(live, Harness(), stop=StopSignal())
    assert isinstance(worker, Worker)
    parts = [worker.run_units(job(), UnitRange(first, end)) for first, end in ((0, 1), (1, None))]
    assert [(part.first, part.end, part.n_units) for part in parts] == [(0, 1, 4), (1, 4, 4)]
    assert [part.answers for part in parts] == [[{0: 0.5}], [{1: 0.5, 2: 0.5, 3: 0.5}]]
    live.recipe = RECIPE
    outcome = worker.finish(job(), [part.answers for part in parts])
    assert (outcome.state, outcome.scores, outcome.device) == (State.COMPLETE, SCORES, "cpu")
    assert len(live.written) == 2  # it is there still
    live.recipe = None
    failed = worker.finish(job(), [parts[0].answers])
    assert (failed.state, failed.error) == (State.FAILED, "[0] came")
    assert len(live.written) == 3
    assert isinstance(worker.run_units(job(), UnitRange()), Outcome)


def test_the_local_executor_runs_jobs_in_order_when_they_are_collected() -> None:
    live = Live()
    executor = LocalExecutor(LiveWorker(live, Harness(), stop=StopSignal()))
    for number in range(3):
        executor.submit(job(number))
    assert live.written == []
    assert [executor.collect().job.candidate for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="no job is outstanding"):
        executor.collect()
    executor.submit(job())
    executor.close()
    executor.close()


def test_a_stop_signal_drains_first_and_stops_second() -> None:
    stop = StopSignal()
    assert not stop.draining and not stop.now()
    assert stop.request() == 1
    assert stop.draining and not stop.now()
    stop.request()
    assert stop.now()


def test_a_deadline_stops_the_running_candidate() -> None:
    clock = [0.0]
    stop = StopSignal(clock=lambda: clock[0])
    stop.deadline = 5.0
    assert not stop.now() and not stop.overdue
    clock[0] = 5.0
    assert stop.now() and stop.overdue and not stop.draining


class Timed(Harness):
    """Takes time, as a harness does that has a timer."""

    def answers(self, *args, **options):
        with self.timer.section("engine"), self.timer.section("prefill"):
            return super().answers(*args, **options)

    def scores(self, *args, **options):
        with self.timer.section("scoring"):
            return super().scores(*args, **options)


def test_what_a_candidates_time_went_into_comes_with_its_outcome() -> None:
    worker = LiveWorker(Live(), Timed(), stop=StopSignal())
    first, second = worker.run(job()), worker.run(job(1))
    for outcome in (first, second):
        assert set(outcome.parts) == {"merge", "engine", "prefill", "scoring"}
        assert 0.0 < sum(outcome.parts.values()) <= outcome.seconds
    failed = LiveWorker(Live(), Timed(ValueError("a bug")), stop=StopSignal()).run(job())
    assert failed.state == State.FAILED and set(failed.parts) == {"merge", "engine", "prefill"}


def test_each_part_of_a_divided_candidate_says_what_its_time_went_into() -> None:
    live, harness = Live(), Timed()
    live.recipe = None
    worker = LiveWorker(live, harness, stop=StopSignal())
    partial = worker.run_units(job(), UnitRange(0, 2))
    assert isinstance(partial, PartialAnswers) and set(partial.parts) == {"merge", "engine", "prefill"}
    live.recipe = RECIPE
    done = worker.finish(job(), [partial.answers, [dict.fromkeys((2, 3), 0.5)]])
    assert done.state == State.COMPLETE and "merge" in done.parts and done.parts["merge"] < 0.1
    assert done.parts["scoring"] > 0.0


@pytest.mark.parametrize(
    ("kinds", "expected"), [(("cuda",), True), (("cuda", "cuda"), False), (("mps",), False), (("cpu",), None)]
)
def test_passes_are_told_apart_where_nothing_has_to_wait_for_that(
    kinds: tuple[str, ...], expected: bool | None
) -> None:
    stopwatch = _stopwatch([SimpleNamespace(type=kind) for kind in kinds])
    assert (stopwatch._marks is not None) == bool(expected)
    with stopwatch.section("engine"), stopwatch.passes(model := Linear(2, 2)):
        assert bool(model._forward_hooks) == (expected is not False)
