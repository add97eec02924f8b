"""What is drawn of a search at one moment: every line fits, whatever the moment, the names and the terminal."""

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from terminal import Terminal

from evomerge.analysis.moment import Against, Goal, Limit, Moment, PhaseDone, TaskGain, Works
from evomerge.cli.live.lines import moment_line
from evomerge.cli.live.marks import ASCII, BLOCKS, marks_for
from evomerge.cli.live.picture import last_picture, picture
from evomerge.cli.live.rows import columns, cut, flow
from evomerge.cli.live.screen import Screen
from evomerge.record import Score, Split

HOSTILE = ["[red]x[/red]", "\x1b[2J\x1b[31mred", "日本語" * 40, "a\nb\rc", "x" * 300, "\u202eabc", ":smile:"]
GAIN = {"difference": 0.12, "low": 0.031, "high": 0.203, "p_value": 0.01, "n": 100, "share": True, "worst": False}


def task(name: str, *, lost: bool = False, share: bool = True, n: int = 50) -> TaskGain:
    difference = -0.25 if lost else 0.1
    skill: dict[str, Any] = {
        "task": name, "share": share, "n": n, "mean": 0.4, "parent_mean": 0.65 if lost else 0.3, "best_parent": "math",
        "difference": difference, "low": difference - 0.1, "high": difference + 0.1, "lost": lost, "kept": 0.62,
    }  # fmt: skip
    return TaskGain(name, skill, 0.2)


def moment(**more: Any) -> Moment:
    """A search in its middle."""
    made = Moment(
        name="my search",
        path="/runs/1",
        state="running",
        at=1_700_000_000.0,
        written=1_699_999_990.0,
        phase="search",
        parts=(PhaseDone("baselines", 3, 3), PhaseDone("search", 45, 100), PhaseDone("validation", 0, None),
               PhaseDone("test", 0, None)),
        limits=(Limit("candidates", 45, 100), Limit("items", 9000, 40000), Limit("seconds", 720.0, 1800.0)),
        candidates=45,
        failed=2,
        repeated=3,
        per_minute=12.34,
        seconds_left=300.0,
        best="candidate 37",
        fitness=0.53,
        score=Score(0.53, 0.481, 0.579, 120),
        against=(Against("best parent", "math", Score(0.41, 0.3, 0.5, 120), GAIN),
                 Against("average", "average", Score(0.48, 0.4, 0.55, 120), {**GAIN, "difference": 0.05})),
        course=(0.1, 0.2, 0.2, 0.5, 0.53),
        workers=(Works("here", "busy", "candidate 45", 12.3, "cpu", 2**30),),
    )  # fmt: skip
    return replace(made, **more)


def drawn(
    one: Moment, notes: tuple[str, ...] = (), width: int = 80, height: int = 24, marks: Any = BLOCKS
) -> list[str]:
    return [line.plain for line in picture(one, notes, width, height, marks)]


def test_a_search_in_its_middle_is_drawn_like_this() -> None:
    assert drawn(moment(), ("plan: soon done", "warning: it is late")) == [
        "my search  search",
        "candidates ━━━━━━━━━━━━━━━━━━━━━━━─────────────────────────────        45 of 100",
        "items      ━━━━━━━━━━━━────────────────────────────────────────  9,000 of 40,000",
        "time       ━━━━━━━━━━━━━━━━━━━━━─────────────────────────────── 12 min of 30 min",
        "5 min left · 12.3 a minute · 2 failed · 3 repeated",
        "baselines 3/3 ✓ · search 45/100 · validation – · test –",
        "best so far 53.0 % [48.1, 57.9]  candidate 37, 120 search items",
        "  +12.0 points [3.1, 20.3] over math, the best parent (41.0 %)",
        "  +5.0 points [3.1, 20.3] over average (48.0 %)",
        "  ▁▃▃██",
        "",
        "here  candidate 45 · 12 s · cpu · 1.0 GiB",
        "",
        "plan: soon done",
        "warning: it is late",
        "",
    ]


ODD = {
    "nothing yet": Moment(name="n", path="p", state="running", at=0.0),
    "no baselines": moment(against=(), best=None, score=None, course=(), fitness=None),
    "all failed": moment(failed=45, best=None, score=None, course=(), fitness=None),
    "no limit": moment(limits=(), seconds_left=None, per_minute=None),
    "a limit of nothing": moment(limits=(Limit("candidates", 0, 0),)),
    "beyond the limit": moment(limits=(Limit("seconds", 99.0, 30.0),)),
    "not a number": moment(score=Score(float("nan"), float("nan"), float("nan"), 4)),
    "no gain known": moment(against=(Against("best parent", "math", None, None),)),
    "breaks a limit": moment(limited=True),
    "worst": moment(worst=True, score=Score(0.93, 0.88, 0.97, 60),
                    against=(Against("best parent", "a", Score(0.9, 0.8, 1.0, 60), {**GAIN, "worst": True}),)),
    "tokens": moment(score=Score(-52.1, -60.0, -44.0, 60),
                     against=(Against("best parent", "a", Score(-80.0, -90.0, -70.0, 60), {**GAIN, "share": False}),)),
    "objectives": moment(goals=(Goal("accuracy", "maximize", 0.5, 0.25), Goal("tokens", "minimize", 31.5, None)),
                         front=7, hypervolume=0.123456),
    "12 tasks": moment(tasks=tuple(task(f"task {i}", lost=i == 9) for i in range(12))),
    "tasks before a candidate": moment(tasks=(TaskGain("a", None, None), TaskGain("b", None, 12.5))),
    "16 workers": moment(workers=tuple(Works(f"worker {i}", "idle" if i == 11 else "busy", f"candidate {i}",
                                             i, "cuda:0", None, i) for i in range(16))),
    "interrupted": moment(state="interrupted", doubt="its process is gone without a word", workers=()),
    "failed": moment(state="failed", error="[/x] \x1b[2J", workers=()),
    "complete": moment(state="complete", split=Split.TEST, workers=()),
    "silent for long": moment(written=1_699_900_000.0),
    "a stage": moment(phase="search: layers"),
    "all at once": moment(tasks=tuple(task(f"t{i}", lost=i % 3 == 0) for i in range(12)),
                          goals=tuple(Goal(f"g{i}", "maximize", 0.1, 0.1) for i in range(6)),
                          workers=tuple(Works(f"worker {i}", "busy", "candidate 1", 5, None, None) for i in range(16))),
    **{f"hostile {i}": moment(name=text, phase=f"search: {text}", best=text, doubt=text,
                              against=(Against("best parent", text, None, GAIN),), tasks=(task(text), task(text)),
                              goals=(Goal(text, "minimize", 1.0, 2.0), Goal(text, "maximize", None, None)),
                              workers=(Works(text, "busy", text, 1.0, text, 5),)) for i, text in enumerate(HOSTILE)},
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_every_line_fits_every_terminal_and_holds_no_control_character(name: str) -> None:
    for width in (1, 7, 20, 40, 61, 80, 200):
        for height in (1, 3, 10, 24, 60):
            for marks in (BLOCKS, ASCII):
                lines = drawn(ODD[name], tuple(HOSTILE), width, height, marks)
                assert len(lines) <= height and all(cell_len(line) <= width for line in lines)
                assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", "".join(lines))
                if marks is ASCII and "hostile" not in name:
                    own = drawn(ODD[name], (), width, height, marks)
                    assert "".join(own).isascii(), own
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", moment_line(ODD[name]))
    for line in last_picture(ODD[name], 40, BLOCKS):
        assert cell_len(line.plain) <= 40


def test_markup_and_escapes_in_names_are_shown_as_they_are_written() -> None:
    text = "\n".join(drawn(ODD["hostile 0"], ("[bold]note",), 100, 60))
    assert "[red]x[/red]" in text and "[bold]note" in text
    assert r"\x1b[2J" in "\n".join(drawn(ODD["hostile 1"], (), 100, 60))


def test_of_many_tasks_the_lost_ones_stay_and_the_rest_is_counted() -> None:
    lines = drawn(ODD["12 tasks"], height=22)
    assert any(line.startswith("task 9") and " worse" in line for line in lines)
    (rest,) = [line for line in lines if line.endswith("more tasks")]
    shown = sum(line.startswith("task ") for line in lines) - 1
    assert rest == f"… {12 - shown} more tasks" and 0 < shown < 12
    assert sum(line.startswith("task ") for line in drawn(ODD["12 tasks"], height=60)) == 13


def test_of_many_workers_those_that_do_something_else_stay() -> None:
    lines = drawn(ODD["16 workers"], height=20)
    assert any("worker 11  idle" in line for line in lines)
    (rest,) = [line for line in lines if "more workers: " in line]
    shown = sum(line.startswith("worker ") for line in lines)
    assert rest == f"… {16 - shown} more workers: {16 - shown} busy"


def test_the_height_stays_while_only_numbers_change() -> None:
    first = moment(best=None, score=None, against=(), course=(), failed=0, tasks=(TaskGain("a", None, None),) * 2)
    later = moment(failed=7, tasks=(task("a", lost=True), task("b")), seconds_left=86400.0 * 3)
    for width in (40, 80):
        assert len(drawn(first, (), width)) == len(drawn(later, ("one", "two"), width))


def test_where_the_end_is_far_it_is_said_by_the_clock() -> None:
    assert " left, ends about " not in drawn(moment(seconds_left=599.0))[4]
    assert re.match(r"3 h 00 min left, ends about (\w+ )?\d\d:\d\d ", drawn(moment(seconds_left=10800.0))[4])


def test_an_objective_to_minimize_is_shown_as_it_is_measured() -> None:
    text = "\n".join(drawn(ODD["objectives"]))
    assert "front of 7 merges, hypervolume 0.1235" in text
    assert re.search(r"tokens \(less is better\) +31.5 +–", text) and re.search(r"accuracy +50.0 % +25.0 %", text)


def test_a_line_without_a_terminal_stands_for_itself() -> None:
    assert moment_line(moment()) == (
        "search 45 of 100 (2 failed), 12.3 a minute, 5 min left; best candidate 37 53.0 % [48.1, 57.9], "
        "+12.0 points [3.1, 20.3] over math, the best parent"
    )


def test_rows_fit() -> None:
    from rich.text import Text

    assert cut("日本語", 4, BLOCKS) == "日…" and cut("abcdef", 5, ASCII) == "ab..." and cut("abc", 0, BLOCKS) == ""
    lines = flow([Text("one"), Text("two"), Text("three")], 9, BLOCKS, 2)
    assert [line.plain for line in lines] == ["one · two", "three"]
    table = columns(["name", "a", "b"], [[Text("x" * 20), Text("1"), Text("22")]], 16, BLOCKS)
    assert [line.plain for line in table] == ["name       a   b", "xxxxxxxxx…  1  22"[1:]]


def test_bars_and_sparklines() -> None:
    assert BLOCKS.bar(0.5, 4) == ("━━", "──") and BLOCKS.bar(0.999, 4) == ("━━━", "─")
    assert BLOCKS.bar(1.0, 4) == ("━━━━", "") and BLOCKS.bar(float("nan"), 2) == ("", "──")
    assert BLOCKS.spark([0.0, 1.0], 9) == "▁█" and BLOCKS.spark([3.0], 9) == "▄" and BLOCKS.spark([], 9) == ""
    assert ASCII.spark(list(range(16)), 8) == "_.:-=+*#" and len(BLOCKS.spark([0.1] * 500, 60)) == 60


@pytest.mark.parametrize(
    ("encoding", "environment", "marks"),
    [
        ("utf-8", {}, BLOCKS),
        ("utf-8", {"LC_ALL": "C"}, ASCII),
        ("utf-8", {"LANG": "POSIX"}, ASCII),
        ("utf-8", {"LANG": "de_DE.UTF-8"}, BLOCKS),
        ("utf-8", {"TERM": "vt100"}, ASCII),
        ("latin-1", {}, ASCII),
    ],
)
def test_signs_are_those_that_the_terminal_has(
    encoding: str, environment: dict[str, str], marks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert marks_for(Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))) is marks


class Written(io.StringIO):
    """A file that passes on what is written to a terminal."""

    encoding = "utf-8"

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def write(self, text: str) -> int:
        self.terminal.write(text.replace("\n", "\r\n"))  # as a terminal's driver does
        return len(text)


def test_the_screen_draws_in_place_and_what_is_printed_meanwhile_stands_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(60, 20)
    console = Console(file=Written(terminal), force_terminal=True, width=60, height=20, color_system=None)
    now = [moment(candidates=1), ["first"]]
    screen = Screen(console, lambda width, height: picture(now[0], now[1], width, height, BLOCKS))
    with screen._live:
        screen._once()
        before, height = terminal.text.splitlines(), len(screen._lines)
        assert before[0] == "my search  search" and "first" in before[-1]
        now[:] = [moment(best="candidate 44", workers=()), ["second"]]
        console.print("printed by a metric")
        screen._once()
        after = terminal.text.splitlines()
        assert after[0] == "printed by a metric" and after[1] == "my search  search" and "candidate 44" in terminal.text
        assert "first" not in terminal.text and len(screen._lines) == height and terminal.above == []
        drawn_before = terminal.redrawn
        screen._once()  # nothing has changed
        assert terminal.redrawn == drawn_before
    assert terminal.text == "printed by a metric"  # nothing of the view stays


def test_a_view_that_cannot_be_drawn_stays_as_it_was() -> None:
    terminal = Terminal(60, 20)
    console = Console(file=Written(terminal), force_terminal=True, width=60, height=20, color_system=None)
    calls: list[int] = []

    def draw(width: int, height: int) -> Any:
        calls.append(width)
        if len(calls) > 1:
            raise RuntimeError("the run is gone")
        return picture(moment(), [], width, height, BLOCKS)

    screen = Screen(console, draw)
    with screen._live:
        screen._once()
        before = terminal.text
        screen._once()
        assert terminal.text == before and isinstance(screen.failed, RuntimeError)
