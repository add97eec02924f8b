"""How much memory the system, the container, a device or a process has, how much is free, and giving it back."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GIB = 1 << 30


def free_bytes(device: torch.device) -> int:
    """Return the bytes that are free on a device; for a CPU, those that the system or the container has left."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        # Memory that torch's allocator holds without using it is free, too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory()


def total_bytes(device: torch.device) -> int:
    """Return the bytes that a device has in all; for a CPU, those that the system or the container may use."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[1]
    return total_memory()


def free_memory(system: Path = Path("/")) -> int:
    """Return the bytes that can be used without swapping, within the limit of a container.

    Pages of files (parents are memory-mapped) are dropped when memory is short, so they count as free. If the system
    does not say what is free, half of its memory counts.

    Args:
        system: the folder that holds /proc and /sys.
    """
    free = _amounts(system / "proc/meminfo", "MemAvailable")
    group = system / "sys/fs/cgroup"
    limit, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        stat = dict(line.split() for line in _read(group / "memory.stat").splitlines() if len(line.split()) == 2)
        files = int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
        free.append(int(limit) - max(0, int(used) - files))
    if not free:
        free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    return max(0, min(free))


def total_memory(system: Path = Path("/")) -> int:
    """Return the bytes that the system has, or the container may use.

    Args:
        system: the folder that holds /proc and /sys.
    """
    sizes = _amounts(system / "proc/meminfo", "MemTotal")
    limit = _read(system / "sys/fs/cgroup/memory.max").strip()
    if limit.isdigit():
        sizes.append(int(limit))
    return min(sizes, default=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def process_bytes(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return the resident memory of a process in bytes; None: it is gone, or the system does not tell.

    Args:
        pid: the process.
        proc: where the system tells it.
    """
    return next(iter(_amounts(proc / str(pid) / "status", "VmRSS")), None)


def give_back() -> None:
    """Give freed memory, which the C library keeps, back to the system; takes about a millisecond.

    glibc keeps freed memory below a block that is still used, for later use: some tens of MiB in each process after a
    model was loaded or a batch scored. With other C libraries this does nothing.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library of that name
        return
    trim(0)


def _amounts(path: Path, name: str) -> list[int]:
    """Return what a file of /proc has under a name, in bytes, as a list; empty if it has nothing."""
    lines = _read(path).splitlines()
    return [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")  # a process may be called anything
    except OSError:  # another system, or no container
        return ""
