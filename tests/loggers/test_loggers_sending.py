"""The process of a logger: what is sent once, what is tried again, and what never reaches who gives the rows."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from logged import FAKE, Sent, fake, keys, told
from made_runs import made_run

from evomerge.errors import RunError
from evomerge.loggers.child import TOO_LATE, serve
from evomerge.loggers.delivery import Delivery
from evomerge.loggers.ledger import SentNotes, ledger_path, rows_sent
from evomerge.loggers.registry import LOGGERS
from evomerge.loggers.row import LogRow, RunFacts

FACTS = RunFacts("r", "g", "p", "f")


def row(number: int) -> LogRow:
    return LogRow(number, f"candidate {number}", "search", "complete", fitness=0.1 * number)


def served(folder: Path, mood: str, numbers: range, **begin: Any) -> list[dict[str, Any]]:
    """Serve rows in this process, without pauses; return what was told."""
    options = {"file": str(folder / "told.jsonl"), "mood": mood}
    asked = {
        "facts": FACTS.to_data(),
        "logger": FAKE,
        "options": options,
        "anew": False,
        "turn": 0.0,
        "run": str(folder),
        **begin,
    }
    lines = [{"begin": asked}, *({"row": row(n).to_data()} for n in numbers)]
    found: list[dict[str, Any]] = []
    serve(map(json.dumps, lines), lambda what: found.append(dict(what)), lambda: True, pauses=(0.0, 0.0))
    return found


def test_calls_come_in_order(tmp_path: Path) -> None:
    served(tmp_path, "calm", range(70))
    words = [next(iter(json.loads(line))) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert words == ["begin", *["row"] * 64, "flush", *["row"] * 6, "flush", "close"]


def test_what_fails_once_is_tried_again(tmp_path: Path) -> None:
    assert served(tmp_path, "shaky", range(6))[-1] == {"closed": True}
    assert keys(tmp_path / "told.jsonl") == [f"search {n}" for n in range(6)]


def test_what_fails_again_and_again_is_a_problem_in_words(tmp_path: Path) -> None:
    assert "No space left on device" in served(tmp_path, "breaks", range(6))[-1]["problem"]
    assert rows_sent(tmp_path, FAKE) == set()  # none of them was handed over safely
    assert "the network is gone" in served(tmp_path / "other", "no begin", range(3))[-1]["problem"]
    assert "it does not want to be made" in served(tmp_path / "third", "unmade", range(3))[-1]["problem"]


def test_nothing_is_sent_twice_and_the_run_outside_is_continued(tmp_path: Path) -> None:
    served(tmp_path, "calm", range(3))
    served(tmp_path, "calm", range(5))
    assert keys(tmp_path / "told.jsonl") == [f"search {n}" for n in range(5)]
    first, second = told(tmp_path / "told.jsonl", "begin")
    assert first["run"] == second["run"] and (first["again"], second["again"]) == (False, True)
    served(tmp_path, "calm", range(2), anew=True)
    *_, third = told(tmp_path / "told.jsonl", "begin")
    assert third["run"] != first["run"] and keys(tmp_path / "told.jsonl")[5:] == ["search 0", "search 1"]


def test_the_place_itself_knows_best_what_it_holds(tmp_path: Path) -> None:
    served(tmp_path, "calm", range(4))
    path = tmp_path / "told.jsonl"
    kept = [line for line in path.read_text().splitlines() if '"search"' not in line or '"number": 2' in line]
    path.write_text("\n".join(kept) + "\n")
    served(tmp_path, "knows", range(4))
    assert sorted(keys(path)) == [f"search {n}" for n in range(4)] and keys(path)[0] == "search 2"


def test_a_torn_or_damaged_note_counts_for_nothing(tmp_path: Path) -> None:
    path = ledger_path(tmp_path, "x", "there")
    one = SentNotes(path, "there")
    one.add(["search 0", "search 1"])
    one.close()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'{"row": "search 0"}', b'{"row": \x00search 0"}') + b'{"row": "search 7')
    again = SentNotes(path, "there")
    assert again.run == one.run and "search 1" in again
    assert "search 0" not in again and "search 7" not in again
    again.add(["search 0"])
    again.close()
    assert rows_sent(tmp_path, "x") == {"search 0", "search 1"}


def test_two_processes_do_not_send_to_one_place(tmp_path: Path) -> None:
    path = ledger_path(tmp_path, "x", "there")
    first = SentNotes(path, "there")
    with pytest.raises(RunError, match="another process is sending this run to the same place"):
        SentNotes(path, "there", wait=0.0)
    first.close()
    SentNotes(path, "there", wait=0.0).close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    made: list[Delivery] = []

    def start(mood: str = "calm", **more: Any) -> tuple[Delivery, list[str]]:
        said: list[str] = []
        entry = fake(tmp_path / "told.jsonl", mood)
        options = {key: value for key, value in entry.items() if key != "name"}
        made.append(Delivery(FAKE, options, FACTS, tmp_path, said.append, doubt=said.append, **more))
        return made[-1], said

    yield start
    for one in made:
        one.wait(0.0)


def test_rows_are_sent_by_another_process_and_all_of_them(tmp_path: Path, started: Any) -> None:
    delivery, said = started()
    for n in range(200):
        delivery.send(row(n))
    delivery.end()
    delivery.wait(30.0)
    assert (delivery.lost, delivery.sent, delivery.problem) == (0, 200, None)
    assert keys(tmp_path / "told.jsonl") == [f"search {n}" for n in range(200)]
    assert len(said) == 1 and "see" in said[0]


def test_a_noisy_library_reaches_neither_streams_nor_signals_nor_the_random_state(
    tmp_path: Path, started: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    state, handlers = random.getstate(), [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    delivery, _ = started("noisy")
    delivery.send(row(0))
    delivery.end()
    delivery.wait(30.0)
    assert delivery.sent == 1 and "SHOUTING" not in "".join(capfd.readouterr())
    assert random.getstate() == state
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert next((tmp_path / "loggers").glob("*.log")).read_text().count("SHOUTING") == 2


def test_a_logger_that_hangs_takes_no_time_of_who_gives_rows(tmp_path: Path, started: Any) -> None:
    delivery, said = started("hangs noisy", most=100)
    for n in range(300):
        delivery.send(row(n))  # more than fit: the rest is found in the run later
    delivery.end()
    hurried = []
    delivery.wait(60.0, lambda: bool(hurried.append(1)) or len(hurried) > 3)
    assert len(hurried) == 4 and delivery.lost == 300 and said == []


def test_a_process_that_dies_is_left_out_and_said_once(tmp_path: Path, started: Any) -> None:
    delivery, said = started("dies")
    for n in range(5):
        delivery.send(row(n))
    for _ in range(600):
        if delivery.problem:
            break
        time.sleep(0.05)
    assert delivery.problem is not None and "ended with status -9" in delivery.problem
    delivery.send(row(6))
    assert len([text for text in said if "left out" in text]) == 1


def test_who_gives_rows_may_be_killed_and_what_was_given_still_arrives(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from evomerge.loggers.delivery import Delivery
from evomerge.loggers.row import LogRow, RunFacts
FAKE, FACTS = {FAKE!r}, RunFacts("r", "g", "p", "f")
def row(n):
    return LogRow(n, "candidate", "search", "complete")
one = Delivery(FAKE, {{"file": {str(tmp_path / "told.jsonl")!r}}}, FACTS, Path({str(tmp_path)!r}), print)
for n in range(20):
    one.send(row(n))
while one.sent < 20:
    pass
for n in range(20, 25):
    one.send(row(n))
while not one._queue.empty():
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for _ in range(600):
        if told(tmp_path / "told.jsonl", "close"):
            break
        time.sleep(0.05)
    found = keys(tmp_path / "told.jsonl")
    assert found[:20] == [f"search {n}" for n in range(20)] and len(found) in (24, 25)
    assert rows_sent(tmp_path, FAKE) == set(found)


def test_a_process_that_hangs_ends_when_nobody_is_left_who_could_end_it(started: Any) -> None:
    delivery, _ = started("hangs", patience=0.1)
    delivery.send(row(0))
    delivery.end()
    delivery.wait(60.0)
    assert delivery.lost == 1 and f"ended with status {TOO_LATE}" in str(delivery.problem)


def test_a_search_that_is_continued_waits_for_the_logger_of_a_killed_one(tmp_path: Path, started: Any) -> None:
    first, _ = started("slow")
    for n in range(5):
        first.send(row(n))
    first.end()
    while not told(tmp_path / "told.jsonl", "begin"):
        time.sleep(0.02)
    second, said = started()
    for n in range(8):
        second.send(row(n))
    second.end()
    second.wait(60.0)
    assert (first.problem, second.problem, second.lost) == (None, None, 0), said
    assert keys(tmp_path / "told.jsonl") == [f"search {n}" for n in range(8)]
    begun, again = told(tmp_path / "told.jsonl", "begin")
    assert begun["run"] == again["run"] and again["again"] is True


def test_sending_again_sends_what_is_missing(tmp_path: Path, send: Sent) -> None:
    run = made_run(tmp_path / "run")
    first = send(run)
    assert send(run) == {"rows": first["rows"], "sent": 0}
    assert len(told(tmp_path / "told.jsonl", "finished")) == 1
    path = next((run / "loggers").glob("*.jsonl"))
    path.write_text("".join(line for line in path.read_text().splitlines(True) if '"search 3"' not in line))
    assert send(run)["sent"] == 1
    assert send(run, again=True)["sent"] == first["rows"]


def test_a_failure_is_an_error_that_says_what_to_do(tmp_path: Path, send: Sent) -> None:
    with pytest.raises(RunError, match=r"not all rows were sent to .*its process ended with status -9"):
        send(made_run(tmp_path / "run"), "dies")
    assert send(tmp_path / "run")["sent"] > 0


def test_built_in_loggers_are_named_without_their_libraries(tmp_path: Path) -> None:
    code = "from evomerge.loggers.registry import LOGGERS; LOGGERS.all_built_in(); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorboard", "trackio", "wandb", "mlflow"} & set(done.stdout.split())
    assert LOGGERS.built_in == ("tensorboard", "trackio", "wandb", "mlflow")
