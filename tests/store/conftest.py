"""Databases and processes for the tests of the store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evomerge.store import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.create(tmp_path / "run.sqlite") as database:
        yield database


@pytest.fixture
def run_unprivileged() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Run Python code in a process that permission bits apply to, also where the tests themselves run as root."""

    def run(code: str) -> subprocess.CompletedProcess[str]:
        here = Path(__file__).parent
        drop = "import os\nif os.geteuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        return subprocess.run(
            # Imports come first: the environment itself may be readable by root only.
            [
                sys.executable,
                "-c",
                f"from store_samples import make_record\nfrom evomerge.store import Database, RunDir\n{drop}{code}",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parents[1])))},
        )

    return run


@pytest.fixture
def open_tmp() -> Iterator[Path]:
    """A temporary folder that other users may enter (pytest's own are private)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for found in folder.rglob("*"):
        if found.is_dir():
            found.chmod(0o755)
    shutil.rmtree(folder)
