"""A stopwatch, which measures where the time of a candidate goes.

Code names the section that takes time (`with timer.section("scoring")`), but nothing is measured unless its timer is a
`Stopwatch`. Code without a timer is timed from outside: `timed` wraps any object, `passes` hooks into a model.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Timer(Protocol):
    """Takes the time of named sections of code, or does nothing."""

    def section(self, name: str) -> AbstractContextManager[None]:
        """Take the time of a block, without the sections inside it."""
        ...

    def passes(self, model: Any) -> AbstractContextManager[None]:
        """Take the time of the forward passes of a model within a block."""
        ...


class _Untimed:
    """Measures nothing."""

    _NOTHING: AbstractContextManager[None] = contextlib.nullcontext()

    def section(self, name: str) -> AbstractContextManager[None]:
        return self._NOTHING

    def passes(self, model: Any) -> AbstractContextManager[None]:
        return self._NOTHING


UNTIMED: Timer = _Untimed()
"""Measures nothing, and costs nothing."""


@dataclass(frozen=True)
class TimedInterval:
    """What a stopwatch measured between two readings.

    Attributes:
        total: seconds in all.
        seconds: section to its own seconds, which sum to `total` together with `rest`.
        counts: "prefill passes", "decode passes"; "prefill tokens", "decode tokens": how many positions the model
            computed, padding included.
    """

    total: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def rest(self) -> float:
        """Seconds that no section took."""
        return self.total - sum(self.seconds.values())


class Mark(Protocol):
    """An instant on a device that works asynchronously, such as a CUDA event."""

    def record(self) -> None:
        """Set the mark behind the work that the device was given so far."""
        ...

    def query(self) -> bool:
        """Return whether the device has passed the mark."""
        ...

    def elapsed_time(self, end: Any) -> float:
        """Return the milliseconds from this mark to another one; both were passed."""
        ...


class Stopwatch:
    """Takes the time of nested sections; each instant belongs to the innermost one. Not for several threads.

    Args:
        synchronize: called before the clock is read, to wait for a device that works asynchronously.
        marks: makes a mark on such a device, by which passes are timed there without waiting for it: what they took is
            taken from the section around them once that ends, by when their answers were read. Marks that the device
            did not pass by then are left out. None: passes are timed by the clock.
        clock: returns seconds.
    """

    def __init__(
        self,
        *,
        synchronize: Callable[[], None] = lambda: None,
        marks: Callable[[], Mark] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._synchronize = synchronize
        self._marks = marks
        self._clock = clock
        self._open: list[str] = []
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._began = self._last = clock()

    @contextlib.contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Take the time of a block, without the sections inside it."""
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def passes(self, model: Any) -> Iterator[None]:
        """Take the time of the forward passes of a model within a block, as sections "prefill" and "decode".

        A pass that reads one token per row behind those in a cache is decoding; every other one is prefill.

        Args:
            model: a transformers model.
        """
        marked: list[tuple[str, Mark, Mark]] = []
        open_marks: list[tuple[str, Mark]] = []

        def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]  # (rows, tokens)
            cache = kwargs.get("past_key_values")
            kind = "decode" if ids.shape[1] == 1 and cache is not None and cache.get_seq_length() > 0 else "prefill"
            self._counts[f"{kind} passes"] += 1
            self._counts[f"{kind} tokens"] += ids.numel()
            if self._marks is None:
                self._enter(kind)
            else:
                open_marks.append((kind, self._set_mark(self._marks)))

        def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self._marks is None:
                self._leave()
            elif open_marks:
                kind, begun = open_marks.pop()
                marked.append((kind, begun, self._set_mark(self._marks)))

        handles = [
            model.register_forward_pre_hook(before, with_kwargs=True),
            model.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._read_marks(marked)

    @staticmethod
    def _set_mark(make: Callable[[], Mark]) -> Mark:
        mark = make()
        mark.record()
        return mark

    def _read_marks(self, marked: Iterable[tuple[str, Mark, Mark]]) -> None:
        """Give the time between marks to their sections, and take it from the innermost one that is open."""
        for kind, begun, ended in marked:
            if ended.query():
                seconds = begun.elapsed_time(ended) / 1e3
                self._seconds[kind] += seconds
                if self._open:
                    self._seconds[self._open[-1]] -= seconds

    def timed(self, inner: Any, name: str, *only: str) -> Any:
        """Return an object that behaves like another, but whose methods are timed as a section.

        Args:
            inner: any object; what its methods return is passed on unchanged.
            name: the section.
            only: the methods to time; none: all.
        """
        return _Timed(self, inner, name, only)

    def interval(self) -> TimedInterval:
        """Return what was measured since the last call, and begin the next interval; sections may be open."""
        now = self._tick()
        interval = TimedInterval(now - self._began, dict(self._seconds), dict(self._counts))
        self._seconds, self._counts, self._began = defaultdict(float), defaultdict(int), now
        return interval

    @property
    def seconds(self) -> dict[str, float]:
        """Return section to its seconds since the last interval began; those of open sections up to their last tick."""
        return dict(self._seconds)

    def _enter(self, name: str) -> None:
        self._tick()
        self._open.append(name)

    def _leave(self) -> None:
        self._tick()
        self._open.pop()

    def _tick(self) -> float:
        """Give the time since the last tick to the innermost section."""
        self._synchronize()
        now = self._clock()
        if self._open:
            self._seconds[self._open[-1]] += now - self._last
        self._last = now
        return now


def summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of mappings of numbers, name by name."""
    found: defaultdict[str, float] = defaultdict(float)
    for one in parts:
        for name, value in one.items():
            found[name] += value
    return dict(found)


class _Timed:
    def __init__(self, stopwatch: Stopwatch, inner: Any, name: str, only: tuple[str, ...]) -> None:
        self.__dict__.update(_stopwatch=stopwatch, _inner=inner, _name=name, _only=only)

    def __getattr__(self, key: str) -> Any:
        value = getattr(self._inner, key)
        if not callable(value) or (self._only and key not in self._only):
            return value

        def method(*args: Any, **kwargs: Any) -> Any:
            with self._stopwatch.section(self._name):
                return value(*args, **kwargs)

        return method

    def __setattr__(self, key: str, value: Any) -> None:
        setattr(self._inner, key, value)
