"""The memory that a process of this machine has."""

from __future__ import annotations

import re
from pathlib import Path


def process_bytes(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return the resident memory of a process in bytes; None: it is gone, or the system does not tell.

    Args:
        pid: the process.
        proc: where the system tells it.
    """
    try:
        found = re.search(
            r"^VmRSS:\s+(\d+) kB$", (proc / str(pid) / "status").read_text(encoding="ascii", errors="replace"), re.M
        )
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])
