"""What was asked of the double: one line a request, with the bytes that were served."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request.

    Attributes:
        method: HTTP method.
        path: path with query; of a large file, that of the file in its repository.
        file: name of the file whose bytes were asked for; None: something else than a file.
        range: the header `Range`; None: the whole.
        status: HTTP status of the answer.
        served: bytes of the file that were sent.
        received: bytes of a large file that came.
        authorized: whether a token came along.
    """

    method: str
    path: str
    file: str | None = None
    range: str | None = None
    status: int = 0
    served: int = 0
    received: int = 0
    authorized: bool = False


@dataclass
class RequestLog:
    """Every request in order; filled by several threads."""

    requests: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, request: Request) -> None:
        """Write down a request, before it is answered: what is served is added to it as it goes."""
        with self._lock:
            self.requests.append(request)

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self.requests.clear()

    def of(self, part: str, method: str | None = None) -> list[Request]:
        """Return the requests whose path contains a text."""
        return [one for one in self.requests if part in one.path and method in (None, one.method)]

    def served(self, ending: str) -> int:
        """Return how many bytes of files whose names end so were sent."""
        return sum(one.served for one in self.requests if one.file is not None and one.file.endswith(ending))
