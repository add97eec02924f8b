"""Processes that run evomerge with its libraries loaded already: importing them would take longer than these searches.

A server that has imported them forks for each, so that a process is a process: it has its own id and can be killed.
"""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

from evomerge.cli.main import main

LIBRARIES = ["evomerge.assembly.prepare", "transformers.models.llama.modeling_llama", "lm_eval.tasks", "cma", __name__]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(LIBRARIES)


class Warm:
    """`evomerge WORDS` in a process of its own; what it prints goes into a file.

    Args:
        words: the command and its arguments.
        log: the file.
        cwd: where; None: here.
    """

    def __init__(self, *words: str, log: Path, cwd: Path | None = None) -> None:
        self._log = log
        self._process = CONTEXT.Process(target=_run, args=(words, log, cwd or Path.cwd()))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def end(self, timeout: float = 300.0) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was printed."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout:g} s: {self.printed()}"
        return self._process.exitcode, self.printed()

    def printed(self) -> str:
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process.exitcode is None:
            os.kill(self.pid, signal.SIGKILL)
        self._process.join()


def _run(words: tuple[str, ...], log: Path, cwd: Path) -> None:
    os.chdir(cwd)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for standard in (1, 2):
        os.dup2(file, standard)
    sys.exit(main(list(words)))
