"""Pushes of model folders, against a double of the Hub that the unmodified client talks to."""

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from hub_server import Fault, HubServer, hub_variables, use_hub
from huggingface_hub.errors import OfflineModeIsEnabled
from safetensors.numpy import save

from evomerge.errors import ExportError
from evomerge.export import HubFile, push
from evomerge.export.hub import list_files
from evomerge.export.hub_errors import explained
from evomerge.export.hub_place import HubPlace, full_name
from evomerge.merge.files.locate import locate
from evomerge.recipe import ModelSource

TOKEN = "hf_" + "thisIsA1Secret2Token3" * 2
READS = "hf_" + "thisOneMay4Only5Read6" * 2
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WEIGHTS = {
    SHARDS[0]: save({"a": np.arange(17_500, dtype=np.float32)}, {"format": "pt"}),
    SHARDS[1]: save({"b": np.ones(12_500, np.float32)}, {"format": "pt"}),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer().running() as server:
        use_hub(server, tmp_path / "home", monkeypatch, token=TOKEN)
        server.repositories.tokens |= {TOKEN: "anna", READS: "bert"}
        server.repositories.orgs[TOKEN] = {"org"}
        server.repositories.roles[READS] = "read"
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub[1]").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name, content in {
        **WEIGHTS,
        "config.json": b'{"model_type": "llama"}',
        "model.safetensors.index.json": json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}).encode(),
        "README.md": b"---\nlicense: mit\nbase_model: [org/a, org/b]\nbase_model_relation: merge\n---\n# card\n",
        "sub[1]/a*b.txt": b"1",
        ".cache/private.txt": b"333",
        ".hidden": b"22",
    }.items():
        (folder / name).write_bytes(content)
    return folder


def pushed_files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and "/." not in str(path.relative_to(folder.parent))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def held(hub: HubServer, name: str, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories.found["model", name]
    files = repository.commits[repository.branches[branch]]
    return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def titles(hub: HubServer, name: str, branch: str = "main") -> list[str]:
    """Return the titles of a branch's commits, the latest first."""
    repository = hub.repositories.found["model", name]
    commit, found = repository.branches[branch], []
    while commit:
        found.append(repository.messages[commit])
        commit = repository.parents[commit]
    return found


def writes(hub: HubServer) -> list[str]:
    return [f"{one.method} {one.path}" for one in hub.log.requests if one.method not in ("GET", "HEAD")]


@pytest.mark.parametrize("part_size", [1 << 30, 30_000])
def test_a_folder_is_one_commit_of_a_private_repository_and_loads_from_there(hub, folder, part_size) -> None:
    hub.repositories.part_size = part_size
    found = push(folder, "org/name")
    assert held(hub, "org/name") == pushed_files(folder)
    assert not {".hidden", ".cache/private.txt"} & held(hub, "org/name").keys()
    assert titles(hub, "org/name") == ["Upload a merge made with evomerge", "initial commit", "initial commit"]
    assert hub.repositories.found["model", "org/name"].private and found.private and found.done
    assert found.commit == hub.repositories.found["model", "org/name"].branches["main"]
    assert [file.path for file in found.files] == sorted(pushed_files(folder))
    place = locate(ModelSource("org/name", found.commit))
    assert {name: (place / name).read_bytes() for name in WEIGHTS} == WEIGHTS
    assert hub.repositories.found["model", "org/name"].card["base_model_relation"] == "merge"


def test_a_push_that_was_interrupted_sends_what_is_missing_and_is_one_commit(hub, folder) -> None:
    lost = hashlib.sha256(WEIGHTS["model-00002-of-00002.safetensors"]).hexdigest()
    hub.faults.append(Fault(f"/blob/{lost}", method="PUT", status=403))
    with pytest.raises(ExportError, match="the token may not write org/name"):
        push(folder, "org/name")
    assert held(hub, "org/name") == {}, "half of a model is no commit"
    hub.log.clear()
    assert push(folder, "org/name").done
    assert [lost in one.path for one in hub.log.of("/blob/", "PUT")] == [True]
    assert held(hub, "org/name") == pushed_files(folder)
    assert titles(hub, "org/name")[0] == "Upload a merge made with evomerge" and len(titles(hub, "org/name")) == 3
    hub.log.clear()
    again = push(folder, "org/name")
    assert not again.done and again.commit is None and writes(hub) == [], "everything is there"


def test_a_killed_process_leaves_nothing_but_what_it_sent(hub, folder, tmp_path) -> None:
    slow = hashlib.sha256(WEIGHTS["model-00001-of-00002.safetensors"]).hexdigest()
    hub.faults.append(Fault(f"/blob/{slow}", method="PUT", seconds_each=60.0))
    process = subprocess.Popen(
        [sys.executable, "-m", "evomerge", "push", str(folder), "org/name"],
        env={**os.environ, **hub_variables(hub, tmp_path / "other", TOKEN)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + 60
        while not (hub.repositories.stored and hub.log.of(f"/blob/{slow}", "PUT")):
            assert time.monotonic() < deadline and process.poll() is None, process.communicate()[0].decode()
            time.sleep(0.02)
    finally:
        process.kill()
        printed = process.communicate()[0].decode()
    assert TOKEN not in printed
    assert held(hub, "org/name") == {}
    hub.log.clear()
    push(folder, "org/name")
    assert [slow in one.path for one in hub.log.of("/blob/", "PUT")] == [True]
    assert held(hub, "org/name") == pushed_files(folder)


def test_a_dry_run_lists_what_would_go_asks_and_writes_nothing(hub, folder, monkeypatch) -> None:
    found = push(folder, "org/name", dry_run=True)
    assert found.files == tuple(HubFile(name, len(content)) for name, content in sorted(pushed_files(folder).items()))
    assert found.place == HubPlace("org/name", exists=False) and not found.done and writes(hub) == []
    push(folder, "name", private=False)
    hub.log.clear()
    (folder / "sub[1]" / "a*b.txt").unlink()
    found = push(folder, "anna/name", private=False, dry_run=True)
    assert found.place.exists and found.removed == ("sub[1]/a*b.txt",) and writes(hub) == []
    # Without a token and without the Hub, it lists all the same.
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert push(folder, "anna/name", private=False, dry_run=True).place.exists
    hub.close()
    found = push(folder, "anna/name", dry_run=True)
    assert found.place.exists is None and "the Hub is out of reach" in found.place.unknown and len(found.files) == 5


def test_other_files_are_replaced_or_proposed_only_where_that_is_asked_for(hub, folder) -> None:
    push(folder, "org/name")
    first = held(hub, "org/name")
    (folder / "config.json").write_text('{"x": 1}')
    (folder / "sub[1]" / "a*b.txt").unlink()
    hub.log.clear()
    with pytest.raises(ExportError, match=r"org/name holds other files already \(6: README.md, .*--replace .*--pr"):
        push(folder, "org/name")
    assert writes(hub) == [] and held(hub, "org/name") == first
    proposed = push(folder, "org/name", pull_request=True)
    assert proposed.pull_request == f"{hub.url}/org/name/discussions/1" and held(hub, "org/name") == first
    assert held(hub, "org/name", "refs/pr/1") == pushed_files(folder)
    assert push(folder, "org/name", overwrite=True).removed == ("sub[1]/a*b.txt",)
    assert held(hub, "org/name") == pushed_files(folder) and len(titles(hub, "org/name")) == 4
    assert not hub.log.of("/blob/", "PUT"), "the weights were there"
    beside = push(folder, "org/name", branch="v2")
    assert beside.place.branch == "v2" and titles(hub, "org/name", "v2")[1:] == ["initial commit"]
    assert held(hub, "org/name", "v2") == pushed_files(folder)


def test_a_change_by_somebody_else_meanwhile_is_kept(hub, folder, monkeypatch) -> None:
    push(folder, "org/name")
    (folder / "config.json").write_text('{"x": 1}')
    commit = huggingface_hub.HfApi.create_commit

    def late(self, *arguments, **options):
        hub.repositories.found["model", "org/name"].commit({"new.txt": b"by somebody"}, message="theirs")
        return commit(self, *arguments, **options)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", late)
    with pytest.raises(ExportError, match="somebody else changed org/name"):
        push(folder, "org/name", overwrite=True)
    assert titles(hub, "org/name")[0] == "theirs"


def test_private_and_public_are_never_mixed_up(hub, folder) -> None:
    assert push(folder, "org/open", private=False).private is False
    assert not hub.repositories.found["model", "org/open"].private
    push(folder, "org/closed")
    for name, private, message in (
        ("org/open", True, "org/open exists on the Hub and is public, but a private upload was asked for"),
        ("org/closed", False, "org/closed exists on the Hub and is private, but a public upload was asked for"),
    ):
        hub.log.clear()
        with pytest.raises(ExportError, match=message):
            push(folder, name, private=private)
        assert writes(hub) == []


def secrets_seen(error: BaseException, capsys, caplog) -> str:
    seen: list[str] = []
    one: BaseException | None = error
    while one is not None:
        seen.append(repr(one))
        one = one.__cause__ or one.__context__
    out, err = capsys.readouterr()
    return "".join([*seen, out, err, caplog.text])


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("hf_" + "wrong0Token" * 4, "org/name", "the Hub does not accept the token: log in again"),
        (READS, "bert/name", "the token of bert may only read: make one with write access"),
        (TOKEN, "other/name", "may not write to 'other': it belongs to anna, org"),
    ],
)
def test_a_token_that_may_not_is_told_before_anything_is_sent(
    hub, folder, token, name, message, capsys, caplog, monkeypatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ExportError, match=message) as caught:
        push(folder, name)
    assert writes(hub) == [] and token not in secrets_seen(caught.value, capsys, caplog)


def test_a_full_account_is_told_and_no_log_has_the_token(hub, folder, capsys, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    hub.repositories.quota = 100_000
    with pytest.raises(ExportError, match=r"the Hub has no room for org/name: make room .*storage limit") as caught:
        push(folder, "org/name")
    assert held(hub, "org/name") == {} and TOKEN not in secrets_seen(caught.value, capsys, caplog)
    hub.repositories.quota = None
    push(folder, "org/name")
    assert TOKEN not in "".join([*capsys.readouterr(), caplog.text])


def test_a_missing_token_says_where_to_get_one(hub, folder, monkeypatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ExportError, match=r"`hf auth login`, or set HF_TOKEN"):
        push(folder, "org/name")
    assert hub.log.requests == []


def account(**changes: object) -> dict[str, object]:
    access = {"role": "fineGrained", "fineGrained": {"global": [], "scoped": []}, **changes}
    return {"name": "anna", "orgs": [{"name": "org", "roleInOrg": "read"}], "auth": {"accessToken": access}}


def test_rights_of_fine_grained_tokens_and_of_members() -> None:
    scoped = [{"entity": {"type": "user", "name": "anna"}, "permissions": ["repo.content.read", "repo.write"]}]
    assert full_name(account(fineGrained={"scoped": scoped}), "name") == "anna/name"
    with pytest.raises(ExportError, match="fine-grained token of anna has no right to write to anna/name"):
        full_name(account(), "anna/name")
    with pytest.raises(ExportError, match="anna may only read in org"):
        full_name(account(role="write"), "org/name")
    assert full_name({"name": "anna"}, "anna/name") == "anna/name", "a kind of token that is not known"


class HttpError(OSError):
    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(f"{status} {text} for a request with {TOKEN}")
        self.response = SimpleNamespace(status_code=status)


class ReadTimeout(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HttpError(401), "does not accept the token: log in again"),
        (HttpError(403), "may not write org/name: .* write access"),
        (HttpError(403, "Private repository storage limit reached"), "no room for org/name"),
        (HttpError(404), "may not write org/name"),
        (HttpError(429), "asks for a pause"),
        (HttpError(500), r"the upload to org/name failed .*can be repeated"),
        (OfflineModeIsEnabled("offline"), "unset HF_HUB_OFFLINE"),
        (ConnectionError(f"no route {TOKEN}"), "out of reach .* Push again"),
        (ReadTimeout("slow"), "out of reach"),
        (ValueError(f"odd {TOKEN}"), "ValueError: odd"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
@pytest.mark.parametrize("wrap", [False, True])
def test_failures_say_what_to_do_and_never_show_the_token(error: Exception, message: str, wrap: bool) -> None:
    if wrap:  # as the client does with what goes wrong in its threads
        outer = RuntimeError("Error while uploading")
        outer.__cause__ = error
        message = message.replace("ValueError: odd", "RuntimeError: odd")
        error = outer
    found = explained(error, "org/name", TOKEN)
    assert re.search(message, str(found)) and TOKEN not in str(found) and found.__cause__ is None


@pytest.mark.parametrize("name", ["a/b/c", "org/", "/abs/x", "org/na me", "", "--x"])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(folder, hub, name) -> None:
    for dry_run in (True, False):
        with pytest.raises(ExportError, match=f"{re.escape(repr(name))} is no name on the Hub; expected org/name"):
            push(folder, name, dry_run=dry_run)
    assert hub.log.requests == []


def test_adapters_and_gguf_files_are_folders_too(tmp_path) -> None:
    for folder, names in (("lora", ("adapter_config.json", "adapter_model.safetensors")), ("gguf", ("m-q8_0.gguf",))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"{}")
        assert [file.path for file in list_files(tmp_path / folder)] == list(names)


def test_a_folder_that_is_no_model_is_refused(tmp_path, folder) -> None:
    with pytest.raises(ExportError, match=r"there is no folder .*evomerge export"):
        push(tmp_path / "nowhere", "org/name", dry_run=True)
    for name in WEIGHTS:
        (folder / name).unlink()
    with pytest.raises(ExportError, match=r"\*\.safetensors missing"):
        push(folder, "org/name", dry_run=True)
    (folder / "config.json").unlink()
    with pytest.raises(ExportError, match=r"config\.json and \*\.safetensors missing"):
        push(folder, "org/name", dry_run=True)
