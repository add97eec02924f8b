"""Ctrl-C in a search, as signals that reach a process."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tiny_search import own_metric

from evomerge import api
from evomerge.cli import stopping
from evomerge.cli.main import main
from evomerge.cli.stopping import stop_on_signals

HANGS = """
import ctypes, pathlib, time
C, n, here = ctypes.CDLL(None), [0], pathlib.Path(__file__).parent
def f(doc, responses):
    n[0] += 1
    if n[0] > 42 and not any(here.glob("mended*")):
        (here / "hangs").touch()
        {how}()
    return 1.0
def in_python():
    while True:
        time.sleep(0.01)
def in_c():  # a lock that its own thread waits for: signals end no such call, and it never comes back to Python
    lock = ctypes.create_string_buffer(64)
    C.pthread_mutex_lock(lock)
    C.pthread_mutex_lock(lock)
def deaf():
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""


def press(times: int) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)


def test_the_first_signal_is_a_request_and_the_second_interrupts_whatever_runs() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)  # a process in the background ignores it
    with contextlib.suppress(KeyboardInterrupt), stop_on_signals(said.append, lambda: "") as stop:
        press(1)
        assert stop.takes_signals and stop.draining and not stop.now()
        assert said == ["stopping after the running candidate; press Ctrl-C again to stop at once"]
        press(1)
        pytest.fail("it goes on")  # pragma: no cover
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_is_a_request_too_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(lambda text: None, lambda: "") as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)
        assert stop.draining
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("how", "presses", "patience"), [("in_python", 2, 60.0), ("in_c", 2, 0.3), ("in_c", 3, 60.0), ("deaf", 3, 60.0)]
)
def test_a_metric_that_hangs_is_stopped_and_the_run_goes_on_from_there(
    how: str, presses: int, patience: float, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "PATIENCE", patience)
    run, output = tmp_path / "run", tmp_path / "output"
    words = ["search", str(tiny_file), own_metric(tmp_path, "metric", HANGS.format(how=how)), f"run.dir={run}"]
    child = os.fork()  # a new process would import for seconds what is here already
    if child == 0:  # pragma: no cover
        with output.open("w") as file:
            sys.stdout = sys.stderr = file
            status = main(words)
            file.flush()
        os._exit(status)
    end, ended = time.monotonic() + 60, 0
    while not (tmp_path / "hangs").exists() and time.monotonic() < end:
        time.sleep(0.02)
    for _ in range(presses):
        time.sleep(0.1)
        os.kill(child, signal.SIGINT)
    while not ended and time.monotonic() < end:
        time.sleep(0.02)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended and os.waitstatus_to_exitcode(status) == stopping.STOPPED
    assert f"`evomerge resume {run}` continues it" in (said := output.read_text()) and "Traceback" not in said
    found = api.status(run)
    # What took hardly any time waits for a transaction that others share, and is lost with the process.
    assert found["state"] == "interrupted" and found["candidates"] in ((2,) if how == "in_python" else (1, 2))
    if (how, presses) == ("in_c", 2):  # the metric is mended
        (tmp_path / "mended").touch()
        assert api.resume(run).status()["state"] == "complete"
