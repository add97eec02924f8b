"""The writing half of the double, held against the unmodified client."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, errors

from hub_server import HubServer, use_hub

TOKEN = "hf_" + "annas0Token" * 2
WEIGHTS = bytes(range(256)) * 4096


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer().running() as server:
        use_hub(server, tmp_path / "home", monkeypatch)
        server.repositories.tokens |= {TOKEN: "anna", "hf_reads": "bert"}
        server.repositories.orgs[TOKEN] = {"org"}
        server.repositories.roles["hf_reads"] = "read"
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "sub" / "notes.txt").write_text("notes")
    (folder / "README.md").write_text("---\nlicense: mit\nbase_model: [org/a]\n---\n# card\n")
    return folder


@pytest.mark.parametrize("part_size", [1 << 30, 300_000])
def test_a_folder_that_is_uploaded_is_read_back(hub: HubServer, folder: Path, part_size: int, tmp_path: Path) -> None:
    hub.repositories.part_size = part_size
    api = HfApi(token=TOKEN)
    assert str(api.create_repo("org/new", private=True)) == f"{hub.url}/org/new"
    api.upload_folder(repo_id="org/new", folder_path=folder, commit_message="first")
    info = api.model_info("org/new")
    assert info.private and info.card_data["license"] == "mit"
    back = Path(api.snapshot_download("org/new", local_dir=tmp_path / "back"))
    for name in ("model.safetensors", "sub/notes.txt", "README.md"):
        assert (back / name).read_bytes() == (folder / name).read_bytes()
    puts = hub.log.of("/blob/", "PUT")
    assert len(puts) == -(-len(WEIGHTS) // part_size) and sum(one.received for one in puts) == len(WEIGHTS)
    repository = hub.repositories.found["model", "org/new"]
    assert [repository.messages[one] for one in repository.commits][-1] == "first"
    api.upload_folder(repo_id="org/new", folder_path=folder, commit_message="again")
    assert len(hub.log.of("/blob/", "PUT")) == len(puts) and "again" not in repository.messages.values()


def test_branches_pull_requests_and_conflicts(hub: HubServer, folder: Path) -> None:
    api = HfApi(token=TOKEN)
    api.create_repo("anna/new")
    first = api.model_info("anna/new").sha
    api.create_branch("anna/new", branch="candidate-3")
    api.upload_folder(repo_id="anna/new", folder_path=folder, revision="candidate-3")
    assert api.model_info("anna/new").sha == first != api.model_info("anna/new", revision="candidate-3").sha
    pull = api.upload_folder(repo_id="anna/new", folder_path=folder, create_pr=True, commit_message="please")
    assert pull.pr_url == f"{hub.url}/anna/new/discussions/1" and api.model_info("anna/new").sha == first
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="anna/new")
    with pytest.raises(errors.HfHubHTTPError, match="A commit has happened since"):
        api.upload_file(path_or_fileobj=b"y", path_in_repo="x.txt", repo_id="anna/new", parent_commit=first)


def test_who_may_write_what(hub: HubServer, folder: Path) -> None:
    api, reader = HfApi(token=TOKEN), HfApi(token="hf_reads")
    assert api.whoami()["orgs"][0]["name"] == "org" and reader.whoami()["auth"]["accessToken"]["role"] == "read"
    for who, name, message in ((api, "other/x", "rights"), (reader, "bert/x", "rights")):
        with pytest.raises(errors.HfHubHTTPError, match=message):
            who.create_repo(name)
    with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials"):
        HfApi(token="hf_wrong").create_repo("anna/x")
    api.create_repo("anna/x")
    with pytest.raises(errors.HfHubHTTPError, match="rights"):
        reader.upload_folder(repo_id="anna/x", folder_path=folder)
    (folder / "README.md").write_text("---\nlicense: [1]\nbase_model: a b\n---\n")
    with pytest.raises(ValueError, match=r'"base_model" with value "a b" is not valid'):
        api.create_commit("anna/x", [_add(folder / "README.md")], commit_message="m")
    hub.repositories.quota = 1000
    with pytest.raises(errors.HfHubHTTPError, match="storage limit"):
        api.create_commit("anna/x", [_add(folder / "model.safetensors")], commit_message="m")


def test_a_collection_holds_repositories(hub: HubServer) -> None:
    api = HfApi(token=TOKEN)
    for name in ("org/a", "org/b"):
        api.create_repo(name)
    made = api.create_collection("A front", namespace="org", private=True)
    for name in ("org/a", "org/b", "org/a"):
        api.add_collection_item(made.slug, name, "model", note=f"this is {name}", exists_ok=True)
    again = api.create_collection("A front", namespace="org", exists_ok=True)
    assert [(one.item_id, one.note) for one in again.items] == [("org/a", "this is org/a"), ("org/b", "this is org/b")]
    assert again.private


def _add(path: Path) -> CommitOperationAdd:
    return CommitOperationAdd(path.name, path)
