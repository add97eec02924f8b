"""How many cores a process may use: of the machine, of its container, by the user's word."""

import os
from pathlib import Path

import pytest

from evomerge.system.cores import THREADS_VARIABLE, usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "sys/fs/cgroup" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_cores_that_the_process_may_run_on(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


@pytest.mark.parametrize(
    ("quota", "cores"), [("300000 100000", 3), ("250000 100000", 3), ("10000 100000", 1), ("max 100000", 8)]
)
def test_the_quota_of_a_container_counts(tmp_path: Path, quota: str, cores: int) -> None:
    write(tmp_path, "cpu.max", f"{quota}\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("200000", 2), ("-1", 8)])
def test_so_does_that_of_the_first_version_of_control_groups(tmp_path: Path, quota: str, cores: int) -> None:
    write(tmp_path, "cpu/cpu.cfs_quota_us", f"{quota}\n")
    write(tmp_path, "cpu/cpu.cfs_period_us", "100000\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("given", "cores"), [("2", 2), ("4,2", 4), ("64", 8), ("many", 8), ("0", 8)])
def test_the_variable_of_openmp_is_a_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, cores: int
) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, given)
    assert usable_cores(tmp_path) == cores
