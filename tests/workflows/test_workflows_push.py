"""Merges of a run on their way to a double of the Hub."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Fault, HubServer, use_hub
from huggingface_hub import ModelCard

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import ExportError
from evomerge.merge.files.locate import locate
from evomerge.recipe import ModelSource, Recipe
from evomerge.record import Choice
from evomerge.store import RunDir
from evomerge.workflows import push as workflow

TOKEN = "hf_" + "thisIsA1Secret2Token3" * 2


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer().running() as server:
        use_hub(server, tmp_path / "home", monkeypatch, token=TOKEN)
        server.repositories.tokens[TOKEN] = "anna"
        server.repositories.orgs[TOKEN] = {"org"}
        yield server


@pytest.fixture
def front(zoo_run: Path, tmp_path: Path) -> Path:
    """A run that ended with three merges."""
    run = tmp_path / "front"
    shutil.copytree(zoo_run, run)
    with contextlib.closing(sqlite3.connect(run / "run.sqlite")) as database, database:
        choice = json.dumps({"kind": "front", "records": [3, 1, 2]})
        database.execute("UPDATE meta SET value = ? WHERE key = 'choice'", (choice,))
    with RunDir.open(run, frozen=True) as opened:
        assert opened.database.choice() == Choice("front", (3, 1, 2))
    return run


def held(hub: HubServer, name: str, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories.found["model", name]
    files = repository.commits[repository.branches[branch]]
    return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def writes(hub: HubServer) -> list[str]:
    return [f"{one.method} {one.path}" for one in hub.log.requests if one.method not in ("GET", "HEAD")]


def unbuilt(*_: object, **__: object) -> None:
    raise AssertionError("nothing may be built here")


def test_the_best_merge_of_a_run_arrives_and_its_dry_run_said_what_would(hub, zoo_run, capsys) -> None:
    assert main(["push", str(zoo_run), "org/merge", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "would push to org/merge (private; it is not there yet and would be made):" in said
    assert writes(hub) == [] and "about" in next(line for line in said.splitlines() if line.endswith("README.md"))
    assert main(["push", str(zoo_run), "org/merge"]) == 0
    printed = capsys.readouterr()
    assert "pushed to org/merge (private): " in printed.out and TOKEN not in printed.out + printed.err
    files = held(hub, "org/merge")
    for name, content in files.items():
        assert name == "README.md" or f"{len(content):,} bytes  {name}\n" in said, "the dry run knew sizes and names"
    assert len(files) == said.count(" bytes  ")
    data = ModelCard(files["README.md"].decode(), ignore_metadata_errors=False).data
    assert data.model_name == "org/merge" and {"merge", "evomerge"} <= set(data.tags)
    assert (locate(ModelSource("org/merge")) / "model.safetensors").read_bytes() == files["model.safetensors"]
    hub.log.clear()
    assert main(["push", str(zoo_run), "org/merge"]) == 0
    assert "holds just these" in capsys.readouterr().out and writes(hub) == []


def test_whatever_is_wrong_with_token_or_place_is_told_before_a_merge_is_built(hub, zoo_run, monkeypatch) -> None:
    monkeypatch.setattr("evomerge.workflows.export.export", unbuilt)
    hub.repositories.create("org/full", private=True, readers={TOKEN}).commit({"README.md": b"mine"})
    for name, message in (
        ("other/merge", "may not write to 'other'"),
        ("org/full", "org/full holds other files already"),
        ("no name", "is no name on the Hub"),
    ):
        with pytest.raises(ExportError, match=message):
            api.push(zoo_run, name)
    assert writes(hub) == []
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong0Token" * 4)
    with pytest.raises(ExportError, match="does not accept the token"):
        api.push(zoo_run, "org/merge")
    for options, message in (
        ({"front": True, "candidates": [1]}, "--candidates names others"),
        ({"candidates": [1, -1]}, "is no merge of the search"),
        ({"candidates": [1, 2], "branch": "x"}, "for one merge"),
        ({"candidates": [99]}, "no candidate 99"),
        ({"several": "folders"}, "as branches or as a collection"),
    ):
        with pytest.raises(ExportError, match=message):
            api.push(zoo_run, "org/merge", **options)


def recipe_of(files: dict[str, bytes], folder: Path) -> str:
    (folder / "recipe.yaml").write_bytes(files["recipe.yaml"])
    return Recipe.load(folder / "recipe.yaml").content_hash


@pytest.mark.slow
def test_a_push_sends_what_an_export_writes_byte_by_byte(hub, zoo_run, tmp_path) -> None:
    exported = api.export(zoo_run, tmp_path / "merge", title="org/merge")
    api.push(zoo_run, "org/merge")
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == held(hub, "org/merge")


@pytest.mark.slow
def test_a_front_goes_as_branches_and_goes_on_after_an_interruption(hub, front, tmp_path, monkeypatch, capsys) -> None:
    hashes = {one.number: one.recipe.content_hash for one in api.records(front)}
    planned = api.push(front, "org/front", front=True, dry_run=True)
    assert [one.place.name for one in planned] == [
        "org/front", "org/front (branch candidate-1)", "org/front (branch candidate-2)"
    ]  # fmt: skip
    assert writes(hub) == []
    # The second merge that is sent, candidate 1, is lost on the way.
    hub.faults.append(Fault("/commit/candidate-1", method="POST", status=403))
    with pytest.raises(ExportError, match="may not write org/front"):
        api.push(front, "org/front", front=True)
    assert held(hub, "org/front") == {} and held(hub, "org/front", "candidate-1") == {}
    complete = held(hub, "org/front", "candidate-2")
    hub.log.clear()
    assert main(["push", str(front), "org/front", "--front"]) == 0
    assert "org/front (branch candidate-2) has candidate 2 already" in capsys.readouterr().out
    assert not hub.log.of("/commit/candidate-2"), "it is there"
    assert len(hub.log.of("/blob/", "PUT")) == 1, "the weights of candidate 1 had arrived"
    assert held(hub, "org/front", "candidate-2") == complete
    branches = {"main": 3, "candidate-1": 1, "candidate-2": 2}
    for branch, number in branches.items():
        files = held(hub, "org/front", branch)
        assert recipe_of(files, tmp_path) == hashes[number]
        card = files["README.md"].decode()
        others = card.split("## The other merges")[1].split("\n## ")[0]
        assert f"**candidate {number}** (this one)" in others and others.count("https://huggingface.co/org/front") == 2
        if branch != "main":
            assert f'from_pretrained("org/front", revision="{branch}")' in card
    hub.log.clear()
    assert not any(one.done for one in api.push(front, "org/front", front=True)) and writes(hub) == []


@pytest.mark.slow
def test_candidates_go_as_a_collection_of_repositories(hub, zoo_run, tmp_path) -> None:
    hashes = {one.number: one.recipe.content_hash for one in api.records(zoo_run)}
    with RunDir.open(zoo_run, frozen=True) as run:
        best = run.database.choice().best
    others = [number for number in (1, 2, 4) if number != best][:1]
    said: list[str] = []
    api.push(zoo_run, "org/set", candidates=[*others, best], several="collection", say=said.append)
    (collection,) = hub.repositories.collections.values()
    assert collection["private"] and collection["title"] == "set"
    names = [one["id"] for one in collection["items"]]
    assert (
        names[0] == "org/set" and names[1].startswith("org/set-") and "chosen" in collection["items"][0]["note"]["text"]
    )
    for name, number in zip(names, [best, *others], strict=True):
        assert recipe_of(held(hub, name), tmp_path) == hashes[number]
        assert hub.repositories.found["model", name].private
    assert f"https://huggingface.co/{names[1]}" in held(hub, names[0])["README.md"].decode()
    assert said[-1] == f"collection: {hub.url}/collections/{collection['slug']}"


def test_a_model_folder_is_one_model(hub, tmp_path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="is a model folder, which is one model"):
        workflow.push(tmp_path, "org/name", front=True)
