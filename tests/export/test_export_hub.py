import logging
import re
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from evomerge.errors import ExportError
from evomerge.export import HubFile, push

TOKEN = "hf_thisIsASecretToken"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub[1]").mkdir(parents=True)
    (folder / ".cache").mkdir()
    for name, size in (
        ("config.json", 10),
        ("model.safetensors", 1000),
        ("README.md", 5),
        ("sub[1]/a*b.txt", 1),
        (".cache/private.txt", 3),
        (".hidden", 2),
    ):
        (folder / name).write_bytes(b"x" * size)
    return folder


class FakeApi:
    """Stands in for `huggingface_hub.HfApi`; remembers what was asked of it."""

    def __init__(self, *, public=False, error=None):
        self.calls = []
        self.public = public
        self.error = error

    def __call__(self, token):
        self.token = token
        return self

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", repo_id, options))
        return SimpleNamespace(repo_id=repo_id if "/" in repo_id else f"me/{repo_id}")

    def repo_info(self, repo_id, **_):
        return SimpleNamespace(private=not self.public)

    def create_branch(self, repo_id, **options):
        self.calls.append(("create_branch", repo_id, options))

    def upload_folder(self, **options):
        self.calls.append(("upload_folder", options["repo_id"], options))
        if self.error is not None:
            raise self.error


@pytest.fixture
def hub(monkeypatch):
    def install(**options):
        api = FakeApi(**options)
        monkeypatch.setattr(huggingface_hub, "HfApi", api)
        return api

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    return install


def test_a_dry_run_lists_what_would_go_and_asks_neither_hub_nor_token(folder, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a dry run must not get here")

    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)
    monkeypatch.setattr(huggingface_hub, "get_token", refuse)
    assert push(folder, "org/name", dry_run=True) == [
        HubFile("README.md", 5),
        HubFile("config.json", 10),
        HubFile("model.safetensors", 1000),
        HubFile("sub[1]/a*b.txt", 1),
    ]


def test_a_push_makes_a_private_repository_and_uploads_exactly_what_the_dry_run_lists(folder, hub):
    from huggingface_hub.utils import filter_repo_objects

    api = hub()
    files = push(folder, "org/name")
    assert files == push(folder, "org/name", dry_run=True)
    (create, _, options), (upload, repo_id, sent) = api.calls
    assert (create, options["private"], options["exist_ok"]) == ("create_repo", True, True)
    assert (upload, repo_id, sent["folder_path"]) == ("upload_folder", "org/name", str(folder))
    assert api.token == TOKEN
    everything = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    chosen = filter_repo_objects(everything, allow_patterns=sent["allow_patterns"])
    assert sorted(chosen) == [file.path for file in files]


def test_public_branch_and_own_account_are_passed_on(folder, hub):
    api = hub(public=True)
    push(folder, "name", private=False, revision="v2", token="hf_other")
    assert api.token == "hf_other"
    assert api.calls[0][2]["private"] is False
    assert api.calls[1] == ("create_branch", "me/name", {"branch": "v2", "repo_type": "model", "exist_ok": True})
    assert (api.calls[2][1], api.calls[2][2]["revision"]) == ("me/name", "v2")


def test_a_private_push_never_goes_into_a_public_repository(folder, hub):
    api = hub(public=True)
    with pytest.raises(ExportError, match="org/name exists on the Hub and is public"):
        push(folder, "org/name")
    assert [call[0] for call in api.calls] == ["create_repo"]


def test_a_missing_token_says_where_to_get_one(folder, hub, monkeypatch):
    api = hub()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ExportError, match=r"`hf auth login`, or set HF_TOKEN"):
        push(folder, "org/name")
    assert api.calls == []


class HttpError(OSError):
    def __init__(self, status):
        super().__init__(f"{status} for a request with {TOKEN}")
        self.response = SimpleNamespace(status_code=status)


class ReadTimeout(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (HttpError(401), "does not accept the token: log in again"),
        (HttpError(403), "may not write org/name: .* write access"),
        (HttpError(404), "may not write org/name"),
        (HttpError(500), r"the upload to org/name failed .*can be repeated"),
        (OfflineModeIsEnabled("offline"), "unset HF_HUB_OFFLINE"),
        (ConnectionError(f"no route {TOKEN}"), "out of reach .* push it again"),
        (ReadTimeout("slow"), "out of reach"),
        (ValueError(f"odd {TOKEN}"), "ValueError: odd"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_failures_say_what_to_do_and_never_show_the_token(folder, hub, error, message, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    hub(error=error)
    with pytest.raises(ExportError, match=message) as caught:
        push(folder, "org/name")
    chain, seen = caught.value, []
    while chain is not None:
        seen.append(repr(chain))
        chain = chain.__cause__ or chain.__context__
    out, err = capsys.readouterr()
    assert TOKEN not in "".join([*seen, out, err, caplog.text])


@pytest.mark.parametrize("name", ["a/b/c", "org/", "/abs/x", "org/na me", "", "--x"])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(folder, hub, name):
    api = hub()
    for dry_run in (True, False):
        with pytest.raises(ExportError, match=f"{re.escape(repr(name))} is no name on the Hub; expected org/name"):
            push(folder, name, dry_run=dry_run)
    assert api.calls == []


def test_a_folder_that_is_no_model_is_refused(tmp_path, folder):
    with pytest.raises(ExportError, match=r"there is no folder .*evomerge export"):
        push(tmp_path / "nowhere", "org/name", dry_run=True)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"\*\.safetensors missing"):
        push(folder, "org/name", dry_run=True)
    (folder / "config.json").unlink()
    with pytest.raises(ExportError, match=r"config\.json and \*\.safetensors missing"):
        push(folder, "org/name", dry_run=True)


def test_the_client_still_has_what_push_calls():
    import inspect

    for name, arguments in {
        "create_repo": {"private", "repo_type", "exist_ok"},
        "repo_info": {"repo_type"},
        "create_branch": {"branch", "repo_type", "exist_ok"},
        "upload_folder": {"repo_id", "folder_path", "repo_type", "revision", "commit_message", "allow_patterns"},
    }.items():
        assert arguments <= set(inspect.signature(getattr(huggingface_hub.HfApi, name)).parameters)
