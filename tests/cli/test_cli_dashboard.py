"""`evomerge dashboard` as a process: what it prints, and how it ends."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from evomerge.cli.main import main


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_it_prints_its_address_and_ends_quietly(tmp_path: Path, stop: int, status: int) -> None:
    command = [sys.executable, "-m", "evomerge", "dashboard", str(tmp_path), "--port", "0", "--token", "auto"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = server.stdout.readline()
    url = said.rpartition(" ")[2].strip()
    assert said.startswith(f"the runs in {tmp_path} are at http://127.0.0.1:")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert b"Go on to the dashboard" in opener.open(url, timeout=60).read()
    server.send_signal(stop)
    out, err = server.communicate(timeout=60)
    assert (server.returncode, out, err) == (status, "", "")


def test_mistakes_are_said_before_anything_is_served(tmp_path: Path, capsys) -> None:
    assert main(["dashboard", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "add --token auto" in capsys.readouterr().err
    assert main(["dashboard", str(tmp_path / "none")]) == 2
    assert "name the one in which your runs are" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["dashboard", "--port", "99999"])
    assert "a port is a number from" in capsys.readouterr().err


def test_the_folder_is_outputs_where_none_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dashboard"]) == 2
    assert "there is no folder outputs: name the one" in capsys.readouterr().err
