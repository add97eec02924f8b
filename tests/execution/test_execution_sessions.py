"""Session folders of Ray clusters that were started here: those of drivers that are gone are removed, no others."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from evomerge.execution.pool import sessions


def session(folder: Path, name: str) -> Path:
    (folder / name / "logs").mkdir(parents=True)
    (folder / name / "logs" / "raylet.out").write_text("…")
    return folder / name


def test_only_folders_of_our_own_dead_drivers_go(tmp_path: Path) -> None:
    foreign, living, dead, busy = (
        session(tmp_path, f"session_{name}") for name in ("foreign", "living", "dead", "busy")
    )
    (tmp_path / "session_latest").symlink_to(dead)
    handle = sessions.keep(living)
    ready, say = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        sessions.keep(dead), sessions.keep(busy)
        os.write(say, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    assert sessions.clear_dead(tmp_path) == [], "both drivers live"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    code = "import time; print(flush=True); time.sleep(60)"
    raylet = subprocess.Popen([sys.executable, "-c", code, f"--session={busy.name}"], stdout=subprocess.PIPE)
    try:
        assert raylet.stdout is not None and raylet.stdout.readline() == b"\n"
        assert sessions.clear_dead(tmp_path) == [dead], "a process of the other one is alive"
        assert not dead.exists() and not (tmp_path / "session_latest").is_symlink()
    finally:
        raylet.kill()
        raylet.wait()
    assert sessions.clear_dead(tmp_path) == [busy]
    assert foreign.exists() and living.exists()
    sessions.release(handle)
    assert sessions.clear_dead(tmp_path) == [living] and [path.name for path in tmp_path.iterdir()] == [foreign.name]
