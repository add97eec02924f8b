"""The stopwatch: each instant belongs to the innermost section, and what is not timed costs nothing."""

from types import SimpleNamespace

import pytest

from evomerge.system.stopwatch import UNTIMED, Stopwatch, summed


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_section_does_not_count_the_sections_within_it(clock: Clock) -> None:
    stopwatch = Stopwatch(clock=clock)
    clock.work(1)
    with stopwatch.section("outer"):
        clock.work(2)
        with stopwatch.section("inner"):
            clock.work(4)
        clock.work(8)
    clock.work(16)
    interval = stopwatch.interval()
    assert (interval.total, dict(interval.seconds), interval.rest) == (31, {"outer": 10, "inner": 4}, 17)


def test_an_interval_begins_anew_also_within_a_section(clock: Clock) -> None:
    stopwatch = Stopwatch(clock=clock)
    with stopwatch.section("work"):
        clock.work(1)
        assert stopwatch.interval().seconds == {"work": 1}
        clock.work(2)
    second = stopwatch.interval()
    assert (second.total, dict(second.seconds)) == (2, {"work": 2})
    assert stopwatch.interval().total == 0


def test_a_section_ends_with_an_error(clock: Clock) -> None:
    stopwatch = Stopwatch(clock=clock)
    with pytest.raises(ValueError, match="wrong"), stopwatch.section("work"):
        clock.work(1)
        raise ValueError("wrong")
    clock.work(2)
    interval = stopwatch.interval()
    assert (dict(interval.seconds), interval.rest) == ({"work": 1}, 2)


def test_a_device_is_waited_for_before_the_clock_is_read(clock: Clock) -> None:
    stopwatch = Stopwatch(clock=clock, synchronize=lambda: clock.work(1))
    with stopwatch.section("work"):
        pass
    assert stopwatch.interval().seconds == {"work": 1}


def test_an_object_is_timed_from_outside(clock: Clock) -> None:
    stopwatch = Stopwatch(clock=clock)
    inner = SimpleNamespace(size=3, fast=lambda: clock.work(1), slow=lambda by, *, times: clock.work(by * times))
    timed, some = stopwatch.timed(inner, "all"), stopwatch.timed(inner, "slow ones", "slow")
    timed.fast()
    some.fast()
    some.slow(2, times=5)
    timed.size += 1
    assert (timed.size, inner.size) == (4, 4)
    interval = stopwatch.interval()
    assert (dict(interval.seconds), interval.rest) == ({"all": 1, "slow ones": 10}, 1)


def test_passes_of_a_model_are_told_apart_and_counted(clock: Clock) -> None:
    import torch
    from torch import nn

    class Model(nn.Module):
        def forward(self, input_ids: torch.Tensor, past_key_values: object = None) -> torch.Tensor:
            clock.work(input_ids.shape[1])
            if int(input_ids[0, 0]) == 9:
                raise RuntimeError("out of memory")
            return input_ids

    model, stopwatch = Model(), Stopwatch(clock=clock)
    full, empty = (SimpleNamespace(get_seq_length=lambda n=n: n) for n in (7, 0))
    one = torch.zeros(4, 1, dtype=torch.long)
    with stopwatch.section("engine"), stopwatch.passes(model):
        model(torch.zeros(4, 7, dtype=torch.long))
        model(input_ids=one, past_key_values=full)
        model(input_ids=one, past_key_values=full)
        model(input_ids=one, past_key_values=empty)  # a prompt of one token
        model(input_ids=one)
        with pytest.raises(RuntimeError, match="out of memory"):
            model(torch.full((4, 3), 9))
        clock.work(100)
    model(one)  # nobody listens any more
    interval = stopwatch.interval()
    assert dict(interval.seconds) == {"prefill": 7 + 1 + 1 + 3, "decode": 2, "engine": 100}
    assert interval.counts == {
        "prefill passes": 4,
        "prefill tokens": 28 + 4 + 4 + 12,
        "decode passes": 2,
        "decode tokens": 8,
    }
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_what_is_not_timed_keeps_nothing() -> None:
    with UNTIMED.section("a"), UNTIMED.passes(None), UNTIMED.section("a"):
        pass
    assert UNTIMED.section("a") is UNTIMED.section("b")  # no object is made


class Device:
    """Works behind the clock: what it is given waits until it was reached."""

    def __init__(self) -> None:
        self.busy_until = self.reached = 0.0

    def work(self, seconds: float) -> None:
        self.busy_until += seconds

    def mark(self) -> SimpleNamespace:
        made = SimpleNamespace(at=None)
        made.record = lambda: setattr(made, "at", self.busy_until)
        made.query = lambda: made.at <= self.reached
        made.elapsed_time = lambda end: 1e3 * (end.at - made.at)
        return made


def test_passes_on_a_device_that_works_behind_the_clock_are_timed_there(clock: Clock) -> None:
    import torch
    from torch import nn

    device = Device()

    class Model(nn.Module):
        def forward(self, input_ids: torch.Tensor, past_key_values: object = None) -> torch.Tensor:
            clock.work(1)  # launching
            device.work(10 * input_ids.shape[1])
            return input_ids

    model, stopwatch = Model(), Stopwatch(clock=clock, marks=device.mark)
    cache, one = SimpleNamespace(get_seq_length=lambda: 7), torch.zeros(4, 1, dtype=torch.long)
    with stopwatch.section("engine"), stopwatch.passes(model):
        model(torch.zeros(4, 7, dtype=torch.long))
        model(input_ids=one, past_key_values=cache)
        clock.work(98)  # reading the answers, which waits
        device.reached = device.busy_until
        model(one)  # nobody waits for this one
    assert stopwatch.seconds == {"prefill": 70, "decode": 10, "engine": 101 - 80}
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_what_was_taken_so_far_is_read_without_an_end(clock: Clock) -> None:
    stopwatch = Stopwatch(clock=clock)
    with stopwatch.section("work"):
        clock.work(1)
    before = stopwatch.seconds
    with stopwatch.section("work"):
        clock.work(2)
    assert (before, stopwatch.seconds, stopwatch.interval().seconds) == ({"work": 1}, {"work": 3}, {"work": 3})


def test_mappings_are_added_up_name_by_name() -> None:
    assert summed([{"a": 1.0}, {}, {"b": 2.0, "a": 0.5}]) == {"a": 1.5, "b": 2.0}
    assert summed([]) == {}
