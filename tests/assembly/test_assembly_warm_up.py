"""The number of threads is measured, and no noisy moment decides it; the dtype is measured and said."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge import api
from evomerge.assembly import comparing, warm_up
from evomerge.assembly.comparing import fewest_worth, in_turns
from evomerge.assembly.prepare import Prepared, prepare
from evomerge.assembly.timed_passes import Load, TimedPasses, load_of
from evomerge.assembly.warm_up import Settled, thread_counts
from evomerge.cli.compose import compose
from evomerge.record import Split
from evomerge.store.run_dir import RunDir
from tests.tiny_search import composed, write_tiny

ZOO = ["experiment=zoo_ja_math", "evaluation.split={search:12,validation:4,test:4}", "execution.device=cpu"]


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure however cheap a candidate is."""
    monkeypatch.setattr(warm_up, "CHEAP", 0.0)


def costs(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int, str], float], cores: int = 4) -> list[int]:
    """Let passes take what a function of threads and dtype says; return the threads of each measurement."""
    asked: list[int] = []
    now = [1]

    def passes(self: TimedPasses) -> float:
        asked.append(now[0])
        return seconds(now[0], str(self._model.dtype))

    def set_threads(threads: int | None) -> None:
        now[0] = threads or now[0]

    monkeypatch.setattr(TimedPasses, "seconds", passes)
    monkeypatch.setattr(warm_up, "set_threads", set_threads)
    monkeypatch.setattr(warm_up, "usable_cores", lambda: cores)
    return asked


def settled(*words: str, before: Settled | None = None) -> Settled:
    prepared = prepare(compose([*ZOO, *words]))
    return prepared.settle(prepared.live_models(), before)


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 3, 4, 6)), (24, (1, 2, 4, 8, 12, 16, 24))]
)
def test_powers_of_two_half_and_all_cores_are_tried(cores: int, counts: tuple[int, ...]) -> None:
    assert thread_counts(cores) == counts


def test_more_threads_are_taken_where_they_are_clearly_faster_only() -> None:
    assert fewest_worth({1: [1.0, 1.0, 1.0], 2: [0.6, 0.6, 0.6], 4: [0.58, 0.58, 0.58]}) == 2
    assert fewest_worth({1: [1.0, 1.0, 1.0], 2: [0.95, 0.95, 0.95], 4: [0.8, 0.8, 0.8]}) == 4
    assert fewest_worth({1: [1.0, 1.0, 1.0], 2: [10.0, 10.0]}) == 1


def test_one_noisy_measurement_decides_nothing() -> None:
    for noisy in range(3):
        slow, fast = [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]
        slow[noisy], fast[noisy] = 20.0, 20.0
        assert fewest_worth({1: [1.0, 1.0, 1.0], 2: slow}) == 2
        assert fewest_worth({1: fast, 2: [1.5, 1.5, 1.5]}) == 1


def test_choices_are_measured_in_turns_until_the_time_is_up() -> None:
    order: list[int] = []
    clock = itertools.count(step=10)

    def measure(choice: int) -> float:
        order.append(choice)
        return 1.0

    found = in_turns(measure, [1, 2], clock=lambda: float(next(clock)))
    assert order == [1, 2, 2, 1, 1, 2]  # three rounds, however long they take
    assert found == {1: [1.0] * 3, 2: [1.0] * 3}
    assert len(in_turns(measure, [1, 2], clock=lambda: 0.0)[1]) == comparing.MOST


def test_what_is_hopelessly_slow_is_given_up() -> None:
    found = in_turns(lambda choice: {1: 1.0, 2: 2.0, 4: 50.0}[choice], [1, 2, 4], clock=lambda: 0.0)
    assert {choice: len(took) for choice, took in found.items()} == {1: 2, 2: 2, 4: 1}
    assert fewest_worth(found) == 1


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 8.0, 2: 4.5, 4: 2.5}, 4),
        ({1: 8.0, 2: 80.9, 4: 200.0}, 1),
        ({1: 8.0, 2: 5.0, 4: 4.9}, 2),
    ],
)
def test_the_fastest_number_of_threads_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], chosen: int
) -> None:
    costs(monkeypatch, lambda threads, _: seconds[threads])
    found = settled("execution.threads=null")
    assert found.threads == chosen
    (said,) = found.said
    assert said.startswith(
        f"{chosen} thread{'s' * (chosen > 1)}: measured passes of a candidate by number of threads: "
    )
    assert f"1: {seconds[1]:.1f} s" in said and "execution.threads" in said


def test_threads_that_are_given_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = costs(monkeypatch, lambda *_: 8.0)
    assert settled("execution.threads=3") == Settled()
    assert not asked


def test_a_cheap_candidate_gets_one_thread_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = costs(monkeypatch, lambda *_: 0.1)
    found = settled("execution.threads=null")
    assert found.threads == 1 and len(asked) == 1
    assert "about 100 ms" in found.said[0]


def test_a_continued_search_goes_on_with_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = costs(monkeypatch, lambda *_: 8.0)
    found = settled("execution.threads=null", before=Settled(2))
    assert found == Settled(2, ("2 threads, as when the run began",)) and not asked
    assert settled("execution.threads=null", before=Settled(16)).threads == 1  # there are no 16 cores here
    assert asked


@pytest.mark.usefixtures("quick")
def test_a_given_dtype_that_is_slow_here_is_told_with_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    costs(monkeypatch, lambda _, dtype: 29.6 if dtype == "torch.bfloat16" else 8.0)
    found = settled("execution.threads=1", "execution.dtype=bfloat16")
    assert found.doubts == (
        "execution.dtype is bfloat16, in which a candidate's passes take 3.7 times as long as in float32 on this "
        "processor (measured); leave it out to compute in float32",
    )


@pytest.mark.usefixtures("quick")
def test_a_faster_dtype_is_told_and_float32_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    costs(monkeypatch, lambda _, dtype: 2.0 if dtype == "torch.bfloat16" else 8.0)
    prepared = prepare(compose([*ZOO, "execution.threads=1", "models.dtype=bfloat16"]))
    live = prepared.live_models()
    found = prepared.settle(live)
    assert "execution.dtype=bfloat16 would be quicker" in found.said[0] and not found.doubts
    assert live.model.dtype == torch.float32
    assert settled("execution.threads=1", "execution.dtype=bfloat16").doubts == ()


def test_a_dtype_is_not_compared_where_there_is_no_room_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    costs(monkeypatch, lambda *_: 8.0)
    monkeypatch.setattr(warm_up, "free_memory", lambda: 1000)
    found = settled("execution.threads=1", "execution.dtype=bfloat16")
    assert "no room" in found.said[0] and not found.doubts


@pytest.mark.parametrize("name", ["zoo_ja_math", "zoo_dataflow"])
def test_passes_are_timed_on_real_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "CHEAP", 0.0)
    monkeypatch.setattr(warm_up, "usable_cores", lambda: 2)
    prepared = prepare(compose([f"experiment={name}", *ZOO[1:], "execution.threads=null"]))
    live = prepared.live_models()
    assert prepared.settle(live).threads in (1, 2)
    load = load_of(prepared.harness, live.model, live.tokenizer, items=12, batch_size=8)
    assert load is not None and load.requests == 12 and load.rows == 8 and load.tokens > 4 and load.steps > 0
    assert TimedPasses(live.model, load).seconds() > 0.0


def test_the_time_is_that_of_all_passes_of_a_candidate() -> None:
    prepared = prepare(compose([*ZOO, "execution.threads=1"]))
    live = prepared.live_models()
    live.write(next(iter(prepared.baselines.values())))
    ticks = itertools.count()  # each look at the clock is a second later

    passes = TimedPasses(live.model, Load(100, 10, 8, 5), clock=lambda: float(next(ticks)))
    assert passes.sizes == (8, 1, 1)  # a token takes long, so as few as possible
    assert passes.seconds() == pytest.approx(100 * 5 * 1 + 100 * 1)
    ticks = itertools.count(step=0.01)
    assert TimedPasses(live.model, Load(100, 1, 8, 5), clock=lambda: float(next(ticks))).seconds() == pytest.approx(
        100 * 5 * 0.01 / 2 + 100 * 0.01  # two steps in one measurement
    )


@pytest.mark.parametrize(
    ("budget", "rounds", "compared"), [({"candidates": 4}, 1, False), ({"candidates": 5000}, 3, True),
                                       ({"candidates": 5000, "seconds": 60}, 1, False), ({"items": 48}, 1, False)]
)  # fmt: skip
def test_measuring_takes_a_small_share_of_what_is_to_come(
    budget: dict[str, int], rounds: int, compared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, measured = [0.0], []

    def passes(self: TimedPasses) -> float:
        now[0] += 3.0  # a slow model, of which few passes take long
        measured.append(str(self._model.dtype))
        return 8.0

    monkeypatch.setattr(TimedPasses, "seconds", passes)
    monkeypatch.setattr(warm_up, "set_threads", lambda threads: None)
    monkeypatch.setattr(warm_up, "usable_cores", lambda: 2)
    given = [f"budget.{key}={value}" for key, value in {"candidates": "null", **budget}.items()]
    prepared = prepare(compose([*ZOO, "execution.threads=null", "models.dtype=bfloat16", *given]))
    prepared.settle(prepared.live_models(), clock=lambda: now[0])
    assert measured.count("torch.float32") == 1 + 2 * rounds + 1 + 3 * compared
    assert measured.count("torch.bfloat16") == 3 * compared


@pytest.mark.usefixtures("quick")
def test_a_user_who_says_float32_is_told_of_no_other_type(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = costs(monkeypatch, lambda *_: 8.0)
    assert settled("execution.threads=1", "models.dtype=bfloat16", "execution.dtype=float32") == Settled()
    assert not asked


def scores_with(threads: int, prepared: Prepared) -> Any:
    torch.set_num_threads(threads)
    live = prepared.live_models()
    torch.set_num_threads(threads)
    found = []
    for recipe in (prepared.baselines["average"],):
        live.write(recipe)
        weights = {name: one.detach().clone() for name, one in live.model.named_parameters()}
        found.append((weights, prepared.harness.score(live.model, live.tokenizer, Split.SEARCH)))
    return found


@pytest.mark.parametrize("what", ["zoo", "tiny"])
def test_scores_and_merges_do_not_depend_on_the_number_of_threads(what: str, tmp_path: Path) -> None:
    words = [*ZOO, "execution.threads=null"]
    data = compose(words) if what == "zoo" else composed(write_tiny(tmp_path), "execution.threads=null")
    prepared = prepare(data)
    for (weights, scores), (other_weights, other_scores) in zip(
        scores_with(1, prepared), scores_with(2, prepared), strict=True
    ):
        assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
        assert len(scores) == len(other_scores) > 0
        for one, other in zip(scores, other_scores, strict=True):
            assert (one.task, one.item, one.metrics.keys()) == (other.task, other.item, other.metrics.keys())
            assert dict(one.metrics) == pytest.approx(dict(other.metrics), rel=1e-5, abs=1e-5)


def test_a_run_records_its_threads_and_gives_them_back(tmp_path: Path) -> None:
    data = composed(write_tiny(tmp_path), "execution.threads=null", "budget.candidates=2", "execution.device=cpu")
    torch.set_num_threads(2)
    notes: list[str] = []
    run = api.search(data, run_dir=tmp_path / "run", note=notes.append)
    assert torch.get_num_threads() == 2
    assert any(note.startswith("1 thread: ") for note in notes)
    with RunDir.open(run.path) as opened:
        assert opened.database.get_meta("threads") == 1
    assert "1 thread: " in (run.path / "run.log").read_text()
    notes.clear()
    api.resume(run.path, budget={"candidates": 3}, note=notes.append)
    assert "1 thread, as when the run began" in notes


def test_evaluate_takes_the_threads_of_a_run_else_measures_and_gives_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two threads are the quickest here, and a run may have been begun with one.
    costs(monkeypatch, lambda threads, _: 8.0 / threads, cores=2)
    told, inner = [], warm_up.set_threads

    def set_threads(threads: int | None) -> None:
        told.extend([] if threads is None else [threads])
        inner(threads)

    monkeypatch.setattr(warm_up, "set_threads", set_threads)
    data = composed(write_tiny(tmp_path), "execution.threads=null", "budget.candidates=1", "execution.device=cpu")
    run = api.search(data, run_dir=tmp_path / "run")
    with RunDir.open(run.path, write=True) as opened:
        opened.database.set_meta("threads", 1)
    told.clear()
    api.evaluate_run(run.path, device="cpu")
    assert told == [1]
    told.clear()
    api.evaluate_full(run.path, parents=True)
    assert told == [1]
    with RunDir.open(run.path, write=True) as opened:
        opened.database.set_meta("threads", 64)  # of a larger machine
    told.clear()
    api.evaluate_run(run.path, device="cpu")
    assert set(told) == {1, 2} and told[-1] == 2


def test_a_model_is_evaluated_with_as_many_threads_as_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = []
    monkeypatch.setattr(TimedPasses, "seconds", lambda self: now.append(torch.get_num_threads()) or 8.0)
    monkeypatch.setattr(warm_up, "usable_cores", lambda: 2)
    torch.set_num_threads(2)
    api.evaluate("zoo:math", tasks=["zoo_ja_math"], include_path=["zoo:tasks"], limit=4, device="cpu")
    assert set(now) == {1, 2}
    assert torch.get_num_threads() == 2  # given back, although one was taken
