"""`evomerge top`: a run that another process searches, seen from here."""

import contextlib
import os
import pty
import select
import shutil
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal
from tiny_search import own_metric

from evomerge import api
from evomerge.cli.live.marks import BLOCKS
from evomerge.cli.live.running import RunningRuns, running_lines, running_picture
from evomerge.cli.main import main
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Score, Split, State
from evomerge.store import RunDir

SLOW = """
import pathlib, time
n, here = [0], pathlib.Path(__file__).parent
def f(doc, responses):
    n[0] += 1
    if n[0] == 3:
        print("printed by a metric")
    while n[0] > 45 and not (here / "on").exists():
        (here / "waits").touch()
        time.sleep(0.01)
    return float(responses[0][0] > responses[1][0])
"""


def wait_for(true: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def fork(words: list[str], output: Path) -> int:
    """Run evomerge in a process whose libraries are loaded already, with an output that is no terminal."""
    child = os.fork()
    if child == 0:  # pragma: no cover
        with output.open("w") as file:
            sys.stdout = sys.stderr = file
            status = main(words)
            file.flush()
        os._exit(status)
    return child


def end(child: int, number: int = 0) -> int:
    if number:
        os.kill(child, number)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunDir]:
    """A run that this process writes."""
    with RunDir.create(tmp_path / "runs" / "made", config={"name": "made", "budget": {"candidates": 9}}) as run:
        run.database.set_meta("state", "running")
        run.database.add(record(-1, "math", 0.25))
        run.database.add(record(0, "candidate 0", 0.5))
        yield run


def record(number: int, name: str, fitness: float) -> Record:
    recipe = Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": number})
    score = Score(fitness, fitness - 0.1, fitness + 0.1, 10)
    return Record(number, name, State.COMPLETE, recipe, (0.5,), fitness, {Split.SEARCH: score})


@pytest.fixture
def searching(tiny_file: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A search in another process, which waits in one of its first candidates; its run and its process."""
    run = tmp_path / "runs" / "tiny"
    words = ["search", str(tiny_file), own_metric(tmp_path, "metric", SLOW), f"run.dir={run}", "budget.candidates=4"]
    child = fork(words, tmp_path / "search.txt")
    try:
        wait_for(lambda: (run / "run.sqlite").exists() and api.status(run)["candidates"] >= 1)
        yield run, child
    finally:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            end(child, signal.SIGKILL)


@pytest.mark.slow
def test_a_running_search_is_seen_until_its_process_is_killed(
    searching: tuple[Path, int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run, child = searching
    with api.watch(run) as eyes:
        moment = eyes.look()
        assert moment.state == "running" and moment.phase == "search" and moment.candidates >= 1
        assert [one.role for one in moment.against] == ["best parent", "average"]
        (worker,) = moment.workers
        assert worker.candidate == f"candidate {moment.candidates}" and worker.memory
        output = tmp_path / "top.txt"
        watcher = fork(["top", str(run)], output)
        wait_for(lambda: output.exists() and output.stat().st_size)
        assert api.status(run)["state"] == "running"  # whoever watches takes no lock
        assert end(child, signal.SIGKILL) == -signal.SIGKILL
        assert eyes.look().state == "interrupted" and "gone without a word" in str(eyes.look().doubt)
    assert end(watcher) == 0
    said = output.read_text()
    assert " of 4" in said and "its process is gone without a word (process " in said
    assert f"`evomerge resume {run}` continues it" in said
    assert main(["status", str(run)]) == 0
    assert "gone without a word" in capsys.readouterr().out


@pytest.mark.slow
def test_top_says_how_a_search_ends_and_a_folder_lists_those_that_run(
    running: RunDir, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "top.txt"
    watcher = fork(["status", "--watch", str(running.path)], output)
    wait_for(lambda: output.exists() and output.stat().st_size)
    runs = RunningRuns(running.path.parent)
    with contextlib.closing(runs):
        runs.look()
        (line,) = running_lines(runs)
        assert f"{running.path}: search 1 of 9; best candidate 0 50.0 % [40.0, 60.0]" in line
        shown = "\n".join(one.plain for one in running_picture(runs, 80, 24, BLOCKS))
        assert shown.startswith("1 running in ") and "\nmade " in shown and "not running: none" in shown
        running.database.set_meta("state", "complete")
        runs.look()
        assert not runs.running and dict(runs.ended) == {"complete": 1}
    assert end(watcher) == 0
    assert f"the search is complete: evomerge status {running.path}" in output.read_text()
    assert main(["top", str(running.path.parent)]) == 0
    assert "no search runs in" in capsys.readouterr().out
    assert main(["top", str(tmp_path / "nowhere")]) == 2 and main(["top", str(Path(__file__).parent)]) == 2
    assert "there is no run in" in capsys.readouterr().err


def test_a_folder_that_is_removed_is_said(running: RunDir, tmp_path: Path) -> None:
    output = tmp_path / "top.txt"
    watcher = fork(["top", str(running.path)], output)
    wait_for(lambda: output.exists() and output.stat().st_size)
    shutil.rmtree(running.path)
    assert end(watcher) == 2
    assert "is gone: its folder or database was removed" in output.read_text()


def test_a_run_of_another_machine_whose_lock_is_not_seen(running: RunDir) -> None:
    path = running.path
    running.close()
    (path / "run.lock").write_text('{"pid": 7, "host": "another", "since": "2026-01-01T00:00:00"}')
    with api.watch(path) as eyes:
        moment = eyes.look()
        assert moment.state == "running"  # it was written a moment ago
        assert "process 7 on another since 2026" in str(moment.doubt) and moment.workers[0].memory is None
        os.utime(path / "run.sqlite", (time.time() - 3600, time.time() - 3600))
        assert eyes.look().state == "interrupted" and "1 h 00 min ago" in str(eyes.look().doubt)


def test_the_log_is_read_on_from_where_it_was(running: RunDir) -> None:
    log = running.log_path
    log.write_text(
        "2026-01-01 00:00:00,000 WARNING evomerge: one\n2026-01-01 00:00:00,000 INFO evomerge: a, search: 1\n"
    )
    with api.watch(running.path) as eyes:
        assert eyes.notes() == ["warning: one"]
        with log.open("a") as file:
            file.write(
                "2026-01-01 00:00:00,000 INFO evomerge: plan: soon\n  more\n2026-01-01 00:00:00,000 ERROR x: half"
            )
        assert eyes.notes() == ["warning: one", "plan: soon"]
        with log.open("a") as file:
            file.write(" and half\n")
        assert eyes.notes() == ["warning: one", "plan: soon", "warning: half and half"]


def test_a_pipe_in_the_place_of_the_log_is_not_waited_for(running: RunDir) -> None:
    running.log_path.unlink(missing_ok=True)
    os.mkfifo(running.log_path)
    with api.watch(running.path) as eyes:
        assert eyes.notes() == []


def test_a_run_that_is_replaced_by_another_one_is_read_anew(running: RunDir) -> None:
    with api.watch(running.path) as eyes:
        assert eyes.look().candidates == 1
        running.close()
        shutil.rmtree(running.path)
        with RunDir.create(running.path, config={"name": "other"}):
            found = eyes.look()
            assert (found.name, found.candidates, found.best) == ("other", 0, None)


def on_terminal(words: list[str], width: int, height: int) -> tuple[int, int]:
    """Run evomerge on a terminal of its own; return its process and the other end."""
    child, handle = pty.fork()
    if child == 0:  # pragma: no cover
        os.environ.update(TERM="xterm", LANG="C.UTF-8")
        for name in ("COLUMNS", "LINES", "LC_ALL"):
            os.environ.pop(name, None)
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which tests that run in the background ignore
        status = main(words)
        sys.stdout.flush()
        os._exit(status)
    return child, handle


def read_until(handle: int, terminal: Terminal, sign: str, seconds: float = 60.0) -> None:
    """Pass on what comes until a sign stands on the terminal; "" waits for the end."""
    limit = time.monotonic() + seconds
    while not sign or sign not in terminal.everything:
        assert time.monotonic() < limit, terminal.everything
        if not select.select([handle], [], [], 0.1)[0]:
            continue
        try:
            came = os.read(handle, 65536)
        except OSError:  # the other end is closed
            came = b""
        if not came:
            assert not sign, terminal.everything
            return
        terminal.write(came.decode("utf-8", "replace"))


def test_top_on_a_terminal_is_left_with_q_and_the_search_goes_on(running: RunDir) -> None:
    terminal = Terminal(80, 24)
    child, handle = on_terminal(["top", str(running.path)], 80, 24)
    read_until(handle, terminal, "q leaves; the search goes on")
    assert terminal.alternate and "best so far 50.0 %" in terminal.text and len(terminal.text.splitlines()) <= 24
    running.database.add(record(1, "candidate 1", 0.75))
    read_until(handle, terminal, "75.0 %")
    os.write(handle, b"xq")
    read_until(handle, terminal, "")
    assert end(child) == 0 and not terminal.alternate and "best so far 75.0 %" in terminal.text
    child, handle = on_terminal(["top", str(running.path.parent)], 40, 10)
    terminal = Terminal(40, 10)
    read_until(handle, terminal, "1 running in")
    os.write(handle, b"\x03")  # Ctrl-C
    read_until(handle, terminal, "")
    assert end(child) == 0
    assert api.status(running.path)["state"] == "running"


@pytest.mark.slow
def test_a_search_on_a_terminal_stops_with_ctrl_c_and_leaves_a_few_lines(tiny_file: Path, tmp_path: Path) -> None:
    run, width = tmp_path / "run", 60
    terminal = Terminal(width, 24)
    words = ["search", str(tiny_file), own_metric(tmp_path, "metric", SLOW), f"run.dir={run}", "budget.candidates=90"]
    child, handle = on_terminal(words, width, 24)
    read_until(handle, terminal, "best so far")
    wait_for((tmp_path / "waits").exists)
    assert "search" in terminal.text and "printed by a metric" in terminal.everything
    os.write(handle, b"\x03")
    read_until(handle, terminal, "stopping after the running candidate")
    (tmp_path / "on").touch()
    read_until(handle, terminal, "")
    assert end(child) == 130
    assert "candidates" in terminal.text and "0 failed" in terminal.text and "continues it" in terminal.everything
    assert "━" not in terminal.text and terminal.everything.count("best so far") == 1


def test_a_quiet_search_says_its_verdict_and_the_next_command(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["search", str(tiny_file), "-q", "budget.candidates=2", f"run.dir={run}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.startswith(("note: ", "verdict: ", "next: "))] == []
    assert sum(line.startswith("verdict: ") for line in said) == 1 and said[-1].startswith("next: ")
    assert main(["resume", str(run), "--quiet", "budget.candidates=1.5"]) == 2
    assert "must be a number" in capsys.readouterr().err
    assert main(["evaluate", str(run), "-q"]) == 0
    assert "acc" in capsys.readouterr().out
    assert main(["status", str(run)]) == 0 and "verdict: " in capsys.readouterr().out
