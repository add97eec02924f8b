"""Searches over the two skills in processes of their own: one in peace, one that is killed and resumed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, what it printed, its largest resident memory in GiB, and seconds."""

    status: int
    out: str
    gib: float
    seconds: float


class Command:
    """`evomerge WORDS` in a process of its own, whose memory is watched.

    Args:
        words: the command and its arguments.
        log: the file for what it says beside its output.
        threads: of torch.
    """

    def __init__(self, words: Sequence[str], log: Path, threads: int) -> None:
        paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        self._out = log.with_suffix(".out")
        self._began = time.perf_counter()
        with log.open("wb") as errors, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "evomerge", *words], stdout=out, stderr=errors, env=environment
            )

    def end(self) -> Ended:
        """Wait until it has ended."""
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        text = self._out.read_text(encoding="utf-8")
        seconds = time.perf_counter() - self._began
        return Ended(self.process.returncode, text, used.ru_maxrss / 2**20, seconds)

    def running(self) -> bool:
        """Return whether it has not ended yet; `end` still has to be called."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def run_command(words: Sequence[str], log: Path, threads: int) -> Ended:
    """Run a command to its end.

    Raises:
        RuntimeError: with the end of its log, if it fails.
    """
    ended = Command(words, log, threads).end()
    if ended.status != 0:
        raise RuntimeError(f"evomerge {words[0]} ended with {ended.status}: {log.read_text()[-2000:]}")
    return ended


def write_search(
    file: Path, base: str, parents: Mapping[str, Any], tasks: Path, skills: Sequence[str], sizes: Mapping[str, int]
) -> None:
    """Write the configuration of the search; `sizes`: candidates, search, validation, test, threads."""
    config = {
        "defaults": ["search", "_self_"],
        "name": "real_weights",
        "models": {"base": base, "parents": dict(parents)},
        "method": {"name": "task_arithmetic", "parameters": {"lambda": 1.0}},
        "space": {"blocks": 3, "genes": {"weight": {"low": 0.0, "high": 1.6, "start": 0.7}}},
        "budget": {"candidates": sizes["candidates"]},
        "evaluation": {
            "include_path": str(tasks),
            "tasks": [{"name": f"real_{skill}", "metric": "exact_match"} for skill in skills],
            "split": {split: sizes[split] for split in ("search", "validation", "test")},
            "finalists": min(4, sizes["candidates"]),
        },
        "execution": {"device": "cpu", "dtype": "float32", "threads": sizes["threads"]},
    }
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def kill_after(file: Path, run: Path, log: Path, threads: int, *, candidates: int) -> int:
    """Start a search and kill it with SIGKILL once so many candidates are recorded; return how many were."""
    from evomerge import api
    from evomerge.errors import EvomergeError

    command, found = Command(["search", str(file), f"run.dir={run}"], log, threads), 0
    while command.running() and found < candidates:
        time.sleep(0.2)
        with contextlib.suppress(EvomergeError, OSError):  # the run is not there yet
            found = len(api.records(run))
    os.kill(command.process.pid, signal.SIGKILL)  # not by Popen, which would take its status away from `end`
    command.end()
    return found


def trajectory(run: Path) -> list[dict[str, Any]]:
    """Return what the records say, but for what is of one machine's moment."""
    from evomerge import api

    return [record.to_data() for record in api.records(run, baselines=True)]


def skills_of(run: Path, split: str = "test") -> dict[str, dict[str, dict[str, float]]]:
    """Return model to task to mean, low and high of the test items."""
    from evomerge import api

    told = json.loads(json.dumps(api.status(run)))
    models = {one["name"]: one for one in told["baselines"]} | {"winner": told["best"]}
    return {
        name: {
            task: {key: round(scores[split][key], 4) for key in ("mean", "low", "high")}
            for task, scores in model["tasks"].items()
        }
        for name, model in models.items()
    }
