"""The memory of a process, as the system tells it."""

import os
from pathlib import Path

from evomerge.system.memory_of import process_bytes


def test_the_memory_of_a_process_is_what_its_status_says(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tpython\nVmPeak:\t  9 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n")
    assert process_bytes(7, tmp_path) == 2 * 2**20
    assert process_bytes(8, tmp_path) is None
    (tmp_path / "7" / "status").write_text("Name:\tkernel thread\n")
    assert process_bytes(7, tmp_path) is None
    own = process_bytes(os.getpid())
    assert own is None or own > 2**20
