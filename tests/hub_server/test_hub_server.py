"""The double of the Hub, held against the unmodified client: what it reads, and how it fails."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi, errors
from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from hub_server import Fault, HubServer, use_hub

WEIGHTS = bytes(range(256)) * 4096


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer().running() as server:
        use_hub(server, tmp_path / "home", monkeypatch)
        yield server


def _model(hub: HubServer, name: str = "org/model", **settings: object) -> str:
    made = hub.repositories.create(name, **settings)
    return made.commit({"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/notes.txt": b"notes"})


def test_a_snapshot_is_what_the_repository_holds(hub: HubServer) -> None:
    commit = _model(hub, card={"license": "mit"})
    folder = Path(huggingface_hub.snapshot_download("org/model"))
    assert folder.name == commit
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder / "sub" / "notes.txt").read_bytes() == b"notes"
    assert (folder / "model.safetensors").resolve().name == hashlib.sha256(WEIGHTS).hexdigest()
    assert hub.log.served(".safetensors") == len(WEIGHTS)
    info = HfApi().model_info("org/model", files_metadata=True)
    sizes = {one.rfilename: one.size for one in info.siblings or ()}
    assert sizes["model.safetensors"] == len(WEIGHTS) and info.card_data["license"] == "mit"
    entries = {one.path: one for one in HfApi().list_repo_tree("org/model", recursive=True)}
    assert entries["model.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_revisions_have_names_with_slashes_and_tags(hub: HubServer) -> None:
    first = _model(hub)
    repository = hub.repositories.found["model", "org/model"]
    repository.tags["v1"] = first
    second = repository.commit({"config.json": b'{"x": 1}'}, branch="feature/x")
    api = HfApi()
    assert [api.model_info("org/model", revision=one).sha for one in ("v1", "feature/x")] == [first, second]
    config = huggingface_hub.hf_hub_download("org/model", "config.json", revision="feature/x")
    assert Path(config).read_text() == '{"x": 1}'
    assert {one.name for one in api.list_repo_refs("org/model").branches} == {"main", "feature/x"}
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/model", revision="v2")


def test_who_may_read_what(hub: HubServer) -> None:
    hub.repositories.tokens |= {"hf_in": "anna", "hf_out": "bert"}
    _model(hub, "org/gated", gated=True, readers={"hf_in"})
    _model(hub, "org/private", private=True, readers={"hf_in"})
    assert HfApi().model_info("org/gated").gated == "auto"
    for token in (False, "hf_out"):
        with pytest.raises(GatedRepoError):
            huggingface_hub.hf_hub_download("org/gated", "config.json", token=token)
        with pytest.raises(RepositoryNotFoundError):
            HfApi().model_info("org/private", token=token)
    with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials"):
        HfApi().model_info("org/gated", token="hf_wrong")
    assert HfApi().model_info("org/private", token="hf_in").private
    folder = huggingface_hub.snapshot_download("org/gated", token="hf_in")
    assert Path(folder, "model.safetensors").read_bytes() == WEIGHTS
    assert not [one for one in hub.log.of("/blob/") if one.authorized]  # the token stays at the Hub


def test_ranges_and_faults(hub: HubServer) -> None:
    from huggingface_hub.utils import get_session

    _model(hub)
    url = huggingface_hub.hf_hub_url("org/model", "model.safetensors")
    part = get_session().get(url, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == WEIGHTS[10:20] and hub.log.served(".safetensors") == 10
    hub.faults += [Fault("/blob/model.safetensors", cut_after=5000), Fault("/blob/model.safetensors", status=500)]
    cut = huggingface_hub.hf_hub_download  # the client goes on where it was cut; a status is an error
    with pytest.raises(errors.HfHubHTTPError):
        cut("org/model", "model.safetensors")
    assert Path(cut("org/model", "model.safetensors")).read_bytes() == WEIGHTS
    hub.faults.append(Fault("/blob/model.safetensors", flip=3))
    assert get_session().get(url, headers={"Range": "bytes=3-3"}).content != WEIGHTS[3:4]


def test_a_moved_repository_is_found_by_its_old_name(hub: HubServer) -> None:
    commit = _model(hub)
    hub.repositories.moved["old"] = "org/model"
    assert HfApi().model_info("old").sha == commit
    assert Path(huggingface_hub.hf_hub_download("old", "config.json")).read_text() == "{}"
