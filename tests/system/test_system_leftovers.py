"""Hidden files and folders of work in progress: what a killed process left is cleared, what another one uses is not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evomerge.system.files import write_atomically
from evomerge.system.leftovers import hidden_file, hidden_folder, scratch_folder

Make = Callable[[Path], object]


def folder(target: Path) -> object:
    return hidden_folder(target)


def scratch(target: Path) -> object:
    return scratch_folder(f"{target.name}-", target.parent)


def file(target: Path) -> object:
    return hidden_file(target)


def in_a_child(make: Make, target: Path) -> int:
    """Begin to make something in a process of its own, and return its id once it has begun."""
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        with make(target) as made:  # type: ignore[attr-defined]
            if isinstance(made, Path):
                (made / "half").write_text("x")
            os.write(say, b"!")
            time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(say)
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize("make", [folder, scratch, file])
@pytest.mark.parametrize("name", ["model", "日本語のモデル" * 10, "a.b"])
def test_what_a_killed_process_left_goes_and_what_a_living_one_makes_stays(
    make: Make, name: str, tmp_path: Path
) -> None:
    target = tmp_path / name
    child = in_a_child(make, target)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    try:
        with make(target):  # type: ignore[attr-defined]
            assert len(list(tmp_path.iterdir())) == 2, "the other process is alive"
        assert list(tmp_path.iterdir()) == left
    finally:
        kill(child)
    assert list(tmp_path.iterdir()) == left
    with make(tmp_path / "another"):  # type: ignore[attr-defined]
        assert left[0].exists(), "made for something else"
    with make(target):  # type: ignore[attr-defined]
        assert not left[0].exists()
    assert list(tmp_path.iterdir()) == []


def test_only_what_bears_such_a_name_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".model.12345.partial").mkdir()  # of a process that wrote no lock
    keep = [
        ".model.partial",
        ".model.UPPER.partial",
        "model.abc.partial",
        ".models.abc.partial",
        ".model.abc.partial.bak",
    ]
    for name in keep:
        (tmp_path / name).mkdir()
    (tmp_path / ".model.abcdefgh.partial").symlink_to(tmp_path / keep[0], target_is_directory=True)
    (tmp_path / ".model.file.partial").write_text("a file")
    with hidden_folder(tmp_path / "model"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*keep, ".model.abcdefgh.partial", ".model.file.partial"}


def test_a_file_is_written_where_its_name_is_as_long_as_a_name_may_be(tmp_path: Path) -> None:
    for name in ("x" * 250, "あ" * 84):
        write_atomically(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
        with hidden_folder(tmp_path / f"{name[:-1]}-"):
            pass
    assert len(list(tmp_path.iterdir())) == 2


def test_the_next_write_clears_what_a_killed_write_left(tmp_path: Path) -> None:
    kill(in_a_child(file, tmp_path / "best.yaml"))
    assert len(list(tmp_path.iterdir())) == 1
    write_atomically(tmp_path / "best.yaml", "a: 1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["best.yaml"]
    assert (tmp_path / "best.yaml").stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
