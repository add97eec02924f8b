"""The contract of a logger: what sends the rows of one run to one place outside.

A logger lives in a process of its own (`child`), so it may block, print, catch signals and draw random numbers as its
library likes: nothing of it reaches the search. What was sent is noted in the run folder (`ledger`), so nothing is sent
twice, and what is missing is sent later.
"""

from __future__ import annotations

import importlib.util
import inspect
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from evomerge.errors import unknown_name
from evomerge.loggers.row import LogRow, RunFacts, Summary

_TYPES = {"str": "a text", "bool": "true or false"}


@dataclass(frozen=True)
class Begun:
    """What came of a beginning.

    Attributes:
        where: what a person opens to see the run: an address, a folder, a command.
        logged: the keys of the rows that the place holds already; None: it cannot tell, and the notes in the run folder
            count.
    """

    where: str
    logged: Collection[str] | None = None


class Logger(ABC):
    """Sends the rows of one run to one place; a subclass is made with its options, which are its keyword arguments.

    The methods are called in order by one thread: `begin`, then `candidate` for each row and `flush` after some of
    them, `finished` where the search has ended, and `close`. Whatever they raise is tried again a few times, and then
    the logger is left out. A row counts as sent when the `flush` after it returned.

    Attributes:
        LIBRARY: the module that it needs; None: none.
        EXTRA: the extra of evomerge that installs it; None: there is none.
    """

    LIBRARY: ClassVar[str | None] = None
    EXTRA: ClassVar[str | None] = None

    @classmethod
    def options(cls) -> dict[str, str]:
        """Return the names of its options with their types, as its constructor says them."""
        found = list(inspect.signature(cls).parameters.values())
        return {one.name: str(one.annotation) for one in found if one.kind is one.KEYWORD_ONLY}

    @classmethod
    def problems(cls, name: str, options: Mapping[str, Any]) -> list[str]:
        """Return the mistakes in options, one sentence each.

        Args:
            name: what the logger is called in the configuration.
            options: by name; null is the same as leaving one out.
        """
        found, known = [], cls.options()
        for option, value in options.items():
            if option not in known:
                found.append(unknown_name(f"option of the logger {name}", str(option), known))
                continue
            kinds = [kind for kind in _TYPES if kind in known[option]]
            fits = [isinstance(value, bool) if kind == "bool" else isinstance(value, str) for kind in kinds]
            if value is not None and kinds and (not any(fits) or value == ""):
                expected = " or ".join(_TYPES[kind] for kind in kinds)
                found.append(f"`{option}` of the logger {name} must be {expected}, but came {value!r}")
        return found

    @classmethod
    def missing(cls, name: str) -> str | None:
        """Return what to install, in a sentence; None: the library is there. Nothing is imported."""
        if cls.LIBRARY is None or importlib.util.find_spec(cls.LIBRARY) is not None:
            return None
        how = cls.LIBRARY if cls.EXTRA is None else f'"evomerge[{cls.EXTRA}]"'
        return f"the logger {name} needs {cls.LIBRARY}, which is not installed: pip install {how}"

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the rows go, in words; what was sent is noted for each place."""

    @abstractmethod
    def begin(self, facts: RunFacts, run: str, *, again: bool) -> Begun:
        """Begin the run outside, or continue it.

        Args:
            facts: what is known of the run.
            run: the run's own id at this place, the same in every session: letters and digits.
            again: whether it was begun before; it may be gone since then, or not have come into being.
        """

    @abstractmethod
    def candidate(self, row: LogRow) -> None:
        """Send a row."""

    def flush(self) -> None:  # noqa: B027 - where rows are safe at once there is nothing to do
        """Return when all rows have been handed over safely."""

    @abstractmethod
    def finished(self, summary: Summary) -> None:
        """Send how the search ended; it may go on later, and end again."""

    @abstractmethod
    def close(self) -> None:
        """Hand over what is left and end."""
