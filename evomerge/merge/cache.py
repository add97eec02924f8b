"""The parent cache: what does not depend on a genome is found once per search, and kept within a memory budget."""

from __future__ import annotations

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from evomerge.errors import RecipeError
from evomerge.system.memory import GIB, free_memory

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

AUTO_SHARE = 0.25
"""The share of the free memory that `cache: auto` may use."""

SMALL = 1 << 16
"""Bytes up to which what was found of one tensor is kept even where it serves a single merge."""

KEPT = 64
"""How many entries a `Latest` keeps."""

_log = logging.getLogger(__name__)


def budget_bytes(cache: str | float) -> int:
    """Return the memory that a cache setting allows, in bytes.

    Args:
        cache: "none", "auto" (a quarter of the memory that is free now, within the limit of a container), or GiB.

    Raises:
        RecipeError: if the setting is none of these.
    """
    if cache == "none":
        return 0
    if cache == "auto":
        return int(AUTO_SHARE * free_memory())
    try:
        amount = float(cache)
    except ValueError:
        amount = -1.0
    if not 0.0 <= amount < float("inf"):
        raise RecipeError(f"cache must be none, auto or a size in GiB, but came {cache!r}")
    return int(amount * GIB)


class Latest(Generic[K, V]):
    """A mapping with at most `KEPT` entries; a further one replaces the entry that was used least recently."""

    def __init__(self) -> None:
        self._kept: OrderedDict[K, V] = OrderedDict()

    def find(self, key: K, make: Callable[[], V]) -> V:
        """Return the value of a key, which is made if there is none."""
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self.use(key)
        return self._kept[key]

    def use(self, key: K) -> None:
        """Note that an entry, if there is one, was used now."""
        if key in self._kept:
            self._kept.move_to_end(key)


class ParentCache:
    """A cache of results of passes over the parents' weights, for all later candidates.

    The results are small against the weights: three numbers for a pair of tensors (SLERP), some tens of kB for each
    tensor and parent (TIES). A result that does not fit is found again for every candidate, and the log says so.

    Attributes:
        budget: how many bytes may be kept.
        used: how many bytes are kept.
        one_merge: whether it serves a single merge to disk.
    """

    def __init__(self, cache: str | float = "auto", *, one_merge: bool = False) -> None:
        """Take a setting; see `budget_bytes`.

        Args:
            cache: the setting.
            one_merge: whether it serves a single merge to disk. What was found of one tensor alone is then not needed
                again, and all of it together may be larger than the model (decompositions are), so it is not kept
                unless it is small.
        """
        self.budget = budget_bytes(cache)
        self.one_merge = one_merge
        self.used = 0
        self._setting = cache
        self._kept: dict[tuple[Hashable, tuple[int, ...]], tuple[Any, int]] = {}
        self._recent: Latest[Hashable, Any] = Latest()
        self._told: set[str] = set()

    def get(
        self,
        key: Hashable,
        make: Callable[[], T],
        n_bytes: Callable[[T], int],
        *,
        what: str,
        models: tuple[int, ...] = (),
        of_tensor: bool = False,
    ) -> T:
        """Return what is kept under a key for some models; if nothing, make it and keep it if it fits.

        Args:
            key: what the value is called.
            make: makes the value.
            n_bytes: returns the size of a value.
            what: the value in plain words, for the log if it cannot be kept and is made again for every candidate.
            models: the serial numbers of the models on which the value depends.
            of_tensor: whether it is about one tensor alone.
        """
        place = key, models
        if place in self._kept:
            kept: T = self._kept[place][0]
            return kept
        made = make()
        size = n_bytes(made)
        if self.one_merge and of_tensor and size > SMALL:
            return made
        if self.used + size <= self.budget:
            self._kept[place] = made, size
            self.used += size
        elif what not in self._told:
            self._told.add(what)
            _log.warning(
                "cache: %s is too small to keep %s (%.1f MiB of %.1f MiB are taken); they are found again for every "
                "candidate, which is slower: give more GiB",
                self._setting, what, self.used / 2**20, self.budget / 2**20,
            )  # fmt: skip
        return made

    def _forget(self, model: int) -> None:
        for place in [place for place in self._kept if model in place[1]]:
            self.used -= self._kept.pop(place)[1]

    def forget_with(self, model: Any, serial: int) -> None:
        """Drop all values that depend on a model as soon as the model itself is gone."""
        weakref.finalize(model, self._forget, serial).atexit = False

    def recent(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return something small that the tensors of one candidate share; only the latest few are kept."""
        found: T = self._recent.find(key, make)
        return found
