"""What other code prints while a view is shown."""

import io
import sys

import pytest
from rich.console import Console

from evomerge.cli.live.above import Above, printed_above


def shown(*texts: str) -> list[str]:
    out = io.StringIO()
    stream = Above(Console(file=out, width=80, color_system=None, force_terminal=True), io.StringIO())
    for text in texts:
        assert stream.write(text) == len(text)
        stream.flush()
    stream.end()
    return out.getvalue().splitlines()


def test_lines_are_printed_whole_and_a_progress_bar_as_its_last_state() -> None:
    assert shown("a", "b\nc\n", "d") == ["ab", "c", "d"]
    assert shown("\rload 0 %", "\rload 50 %", "\rload 100 %\n", "next\n") == ["load 100 %", "next"]
    assert shown("\rload 0 %", "\rload 50 %\r") == ["load 50 %"]
    assert shown("one\r\ntwo\r\n") == ["one", "two"]
    assert shown("\x1b[2J\x1b[31mred\x1b[0m [bold]x\n")[0].endswith("red [bold]x")
    assert not any("\x1b[2J" in line for line in shown("\x1b[2Jx\n"))


def test_streams_come_back_and_a_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out, errors = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", errors)
    with printed_above(Console(width=80)):
        assert isinstance(sys.stdout, Above) and sys.stderr is errors
        print("half", end="")
        assert out.getvalue() == ""
    assert sys.stdout is out and out.getvalue().strip() == "half"
