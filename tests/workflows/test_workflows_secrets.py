"""Secrets in a configuration: a reference is text wherever it is kept; a token that was written out is not exported."""

from pathlib import Path

import pytest
from tiny_search import composed, own_metric

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import ConfigError, ExportError
from evomerge.system import secrets

SECRET = "s3cret-of-mine"
TOKEN = "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZaBcDeFgH"
TELLS = (
    "import os\nn = [0]\ndef f(doc, responses):\n    n[0] += 1\n"
    "    if n[0] == 37: raise ValueError('403 for ' + os.environ['MY_TOKEN'])\n    return 1.0\n"
)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_values", {})


def holding(folder: Path, text: str) -> list[str]:
    """Return the files below a folder that hold a text."""
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_reference_stays_text_in_run_export_and_messages_and_is_resolved_at_resume(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    monkeypatch.setenv("MY_TOKEN", SECRET)
    monkeypatch.setenv("CANDIDATES", "4")
    words = [
        own_metric(tmp_path, "metric", TELLS), "name='tiny ${oc.env:MY_TOKEN}'", f"run.dir={run}",
        "budget.candidates='${oc.decode:${oc.env:CANDIDATES}}'",
    ]  # fmt: skip
    assert main(["search", str(tiny_file), *words]) == 0
    assert (
        "${oc.env:MY_TOKEN}" in (run / "config.yaml").read_text() and "CANDIDATES" in (run / "config.yaml").read_text()
    )
    [failed] = [record for record in api.records(run) if record.error]
    assert "403 for ${oc.env:MY_TOKEN}" in failed.error
    assert main(["status", str(run), "--json"]) == 0 and main(["status", str(run)]) == 0
    assert main(["records", str(run)]) == 0
    assert main(["export", str(run), "--out", str(out), "--no-verify"]) == 0
    assert main(["push", str(out), "org/name", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err and '"candidates": 4' in printed.out
    assert holding(tmp_path, SECRET) == []
    assert holding(out, "${oc.env:MY_TOKEN}") == ["evomerge.yaml"]
    assert holding(out, str(tiny_file.parent)) == [] and holding(out, str(tmp_path)) == [], "no folder of this machine"
    monkeypatch.delenv("MY_TOKEN")
    with pytest.raises(ConfigError, match=r"name: \$\{oc\.env:MY_TOKEN\} has no value.*MY_TOKEN is not set here"):
        api.resume(run, budget={"candidates": 5})
    monkeypatch.setenv("MY_TOKEN", "another")
    assert api.resume(run, budget={"candidates": 5}).status()["candidates"] == 5
    assert main(["status", str(run)]) == 0  # the limit is a reference, and a number


def test_a_token_that_was_written_out_is_warned_of_and_not_exported_or_pushed(tiny_file: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    config = {**composed(tiny_file, "budget.candidates=2"), "name": f"for {TOKEN}"}
    run = api.search(config, run_dir=tmp_path / "run", note=notes.append)
    [warning] = [note for note in notes if note.startswith("warning:") and "secret" in note]
    assert "name holds what looks like a secret (a Hugging Face token)" in warning and TOKEN not in warning
    with pytest.raises(ExportError, match=r"config\.yaml holds what looks like a secret.*\n  - name: a Hugging Face"):
        api.export(run.path, tmp_path / "out", verify=False)
    assert not (tmp_path / "out").exists()
    text = run.path.joinpath("config.yaml").read_text()
    run.path.joinpath("config.yaml").write_text(text.replace(TOKEN, "${oc.env:MY_TOKEN}"))  # as the message says
    out = api.export(run.path, tmp_path / "out", verify=False)
    (out / "notes.md").write_text(f"# How\n\nexport HF_TOKEN={TOKEN}\n")
    with pytest.raises(ExportError, match=r"notes\.md, line 3: a Hugging Face token") as refused:
        api.push(out, "org/name", dry_run=True)
    assert TOKEN not in str(refused.value)
    (out / "notes.md").unlink()
    assert {name for name, _ in api.push(out, "org/name", dry_run=True)[0].files} >= {
        "README.md",
        "recipe.yaml",
        "evomerge.yaml",
    }
