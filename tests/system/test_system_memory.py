"""What counts as free memory, on systems that are written down in a folder."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from evomerge.system.memory import GIB, free_memory, give_back, process_bytes, total_memory


def system(
    root: Path,
    *,
    available: int | None = None,
    limit: str | None = None,
    used: int = 0,
    files: tuple[int, int] = (0, 0),
) -> Path:
    """A folder with the files that Linux has; sizes in GiB."""
    (root / "proc").mkdir()
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    if available is not None:
        (root / "proc/meminfo").write_text(f"MemTotal: {99 << 20} kB\nMemAvailable: {available << 20} kB\n")
    if limit is not None:
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used * GIB}\n")
        active, inactive = files
        stat = f"anon 1\nfile {99 * GIB}\nactive_file {active * GIB}\ninactive_file {inactive * GIB}\n"
        (group / "memory.stat").write_text(stat)
    return root


def test_what_the_system_says_is_available_is_free(tmp_path: Path) -> None:
    assert free_memory(system(tmp_path, available=7)) == 7 * GIB


def test_a_container_without_a_limit_changes_nothing(tmp_path: Path) -> None:
    assert free_memory(system(tmp_path, available=7, limit="max", used=3)) == 7 * GIB


@pytest.mark.parametrize(
    ("used", "files", "free"),
    [
        (1, (0, 0), 3),
        (1, (0, 1), 4),  # all that is used are pages of files, which can be dropped
        (4, (1, 2), 3),
        (5, (0, 0), 0),
    ],
)
def test_a_containers_limit_counts_without_the_pages_of_files(
    tmp_path: Path, used: int, files: tuple[int, int], free: int
) -> None:
    assert free_memory(system(tmp_path, available=64, limit=str(4 * GIB), used=used, files=files)) == free * GIB


def test_a_system_that_says_nothing_has_half_of_its_memory_free(tmp_path: Path) -> None:
    assert free_memory(system(tmp_path)) > 0


def test_the_whole_memory_is_the_systems_or_the_containers(tmp_path: Path) -> None:
    assert total_memory(system(tmp_path, available=7, limit="max")) == 99 * GIB
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{12 * GIB}\n")
    assert total_memory(tmp_path) == 12 * GIB
    assert total_memory(tmp_path / "nowhere") > 0


def own_bytes() -> int:
    """What of this process lies in memory and in no file."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not say what a process takes")
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_memory_below_a_used_block_is_given_back() -> None:
    blocks = [bytearray(100_000) for _ in range(1000)]  # too small for a mapping of their own
    used = blocks[-1]
    del blocks
    before = own_bytes()
    give_back()
    assert before - own_bytes() > 50_000_000
    assert len(used) == 100_000


def test_the_memory_of_a_process_is_what_its_status_says(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tpython\nVmPeak:\t  9 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n")
    assert process_bytes(7, tmp_path) == 2 * 2**20
    assert process_bytes(8, tmp_path) is None
    (tmp_path / "7" / "status").write_text("Name:\tkernel thread\n")
    assert process_bytes(7, tmp_path) is None
    own = process_bytes(os.getpid())
    assert own is None or own > 2**20
