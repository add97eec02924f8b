"""A merge to disk never needs the whole model in memory: its peak, as the kernel counts it, is below the bound."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is reset through /proc")
def test_the_peak_of_merges_stays_below_the_bound(tmp_path: Path) -> None:
    kinds = "linear,dare_ties,layer path,recipe as a parent,consensus_ta,adapters,fp8"
    command = [sys.executable, str(ROOT / "benchmarks" / "disk_memory.py"), "--quick", "--linked", "--json"]
    command += ["--kinds", kinds, "--models", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "benchmarks", env=_environment())
    assert done.returncode == 0, done.stderr[-2000:]
    shares = json.loads(done.stdout.splitlines()[-1])
    assert shares.keys() == set(kinds.split(","))
    # Beside the tensors there are the plan, the vocabulary and what allocators keep: some MB, whatever the size.
    assert all(share < 1.1 for share in shares.values()), shares


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
