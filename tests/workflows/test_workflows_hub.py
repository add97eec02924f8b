"""Commands on models of the Hub: checked by headers, downloaded once with progress, at one commit from then on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Fault, HubServer, hub_variables, use_hub
from tiny_search import composed, tiny_model, write_tiny

from evomerge import api
from evomerge.assembly.hub_pins import any_on_hub, find_pins, pin_config, pin_recipe
from evomerge.assembly.inputs import checkpoints
from evomerge.assembly.start import start_recipe
from evomerge.cli.main import main
from evomerge.config.reader import from_data
from evomerge.errors import CheckpointError, ConfigError
from evomerge.merge.files import hub_headers
from evomerge.merge.files.hub import find
from evomerge.recipe import ModelSource, Recipe
from evomerge.system.advance import Advance
from evomerge.system.yaml_text import read_yaml

HEADER = 4096
NAMES = ("base", "a", "b")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(hub_headers, "_FIRST", HEADER)
    with HubServer().running() as server:
        for name in NAMES:
            server.repositories.create(f"org/{name}", card={"license": "mit"}).add_folder(tiny / "models" / name)
        use_hub(server, tmp_path / "home", monkeypatch)
        yield server


ON_HUB = ["models.base=org/base", "models.parents={a: org/a, b: org/b@main}"]


def _weights(tiny: Path) -> int:
    return sum((tiny / "models" / name / "model.safetensors").stat().st_size for name in NAMES)


@pytest.mark.slow
def test_a_search_names_one_commit_of_each_model(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    commits = {name: hub.repositories.found["model", f"org/{name}"].branches["main"] for name in NAMES}
    notes: list[str] = []
    run = api.search(composed(tiny / "tiny_search.yaml", *ON_HUB), run_dir=tmp_path / "run", note=notes.append)
    said = [note for note in notes if "to download" in note]
    assert len(said) == 3 and all("1 file of 0.1 MiB to download, float32, licence mit" in note for note in said)
    assert all(any(commits[name][:12] in note for note in said) for name in NAMES)
    assert any(isinstance(note, Advance) and "downloading 3 models: 0." in note for note in notes)
    assert any("each file checked by its hash" in note for note in notes)
    assert hub.log.served(".safetensors") == _weights(tiny)
    last_note = max(i for i, note in enumerate(notes) if "asking the Hub about" in note)
    assert last_note < notes.index(said[0])
    best = run.best()
    assert best is not None
    assert {source.path: source.revision for source in best.checkpoints()} == {f"org/{n}": commits[n] for n in NAMES}

    hub.log.clear()
    moved = hub.repositories.found["model", "org/a"]
    moved.commit({"model.safetensors": (tiny / "models" / "b" / "model.safetensors").read_bytes()})  # main is another
    api.resume(tmp_path / "run", budget={"candidates": 8})
    out = api.export(tmp_path / "run", tmp_path / "out")
    exported = Recipe.from_data(read_yaml((out / "recipe.yaml").read_text()))
    assert {source.path: source.revision for source in exported.checkpoints()} == {
        f"org/{n}": commits[n] for n in NAMES
    }
    assert hub.log.served(".safetensors") == 0


def test_a_branch_that_moves_changes_nothing(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    named = Recipe.from_data({"method": "linear", "parents": {"a": "org/a", "b": str(tiny / "models" / "b")}})
    repository = hub.repositories.found["model", "org/a"]
    commit = repository.branches["main"]
    pinned = pin_recipe(named, None)
    assert [one.revision for one in pinned.checkpoints()] == [commit, None]
    repository.commit({"model.safetensors": b"another"})
    known = {"a": next(pinned.checkpoints())}
    assert find_pins({"a": ModelSource("org/a")}, known=known) == {ModelSource("org/a"): known["a"]}
    assert find_pins({"b": ModelSource("org/a")}, known=known)[ModelSource("org/a")].revision != commit
    assert find_pins({"a": known["a"], "c": ModelSource("zoo:math")}) == {}
    assert find_pins({"no": ModelSource("org/no")}) == {ModelSource("org/no"): ModelSource("org/no")}


def test_the_model_that_an_adapter_names_is_pinned(hub: HubServer, tmp_path: Path) -> None:
    said = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    here = tmp_path / "here"
    for name, base in (("here", "org/base"), ("there", "org/base"), ("local", str(tmp_path))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({**said, "base_model_name_or_path": base}))
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"weights")
    of_hub = hub.repositories.create("org/there")
    of_hub.add_folder(tmp_path / "there")
    repository = hub.repositories.found["model", "org/base"]
    base, there = repository.branches["main"], of_hub.branches["main"]
    sources = {
        "here": ModelSource(str(here)),
        "branch": ModelSource("org/there"),
        "commit": ModelSource("org/there", there),
        "local": ModelSource(str(tmp_path / "local")),
    }
    assert any_on_hub([sources["here"]]) and not any_on_hub([sources["local"]])
    pins = find_pins(sources)
    of_branch = ModelSource("org/base", base, adapter="org/there", adapter_revision=there)
    assert pins == {
        sources["here"]: ModelSource("org/base", base, adapter=str(here)),
        sources["branch"]: of_branch,
        sources["commit"]: of_branch,
    }
    repository.commit({"README.md": b"another"})
    known = {name: pins.get(source, source) for name, source in sources.items()}
    assert find_pins(sources, known=known) == pins  # as a continued run does
    assert find_pins(known) == {}


def test_a_search_begins_with_a_recipe_that_names_branches(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.yaml"
    start.write_text("method: ties\nbase: org/base\nparents: {x: org/a@main, y: org/b}\n")
    commit = hub.repositories.found["model", "org/a"].branches["main"]
    words = ["models.base=org/base", "models.parents={a: org/a@BRANCH, b: org/b}", f"space.start={start}"]
    find(ModelSource("org/a"))  # so that the cache knows which commit the branch is
    for branch in (commit, "main"):
        config = from_data(composed(tiny / "tiny_search.yaml", *(word.replace("BRANCH", branch) for word in words)))
        pins = find_pins(checkpoints(config))
        recipe = start_recipe(pin_config(config, pins), pins)
        assert recipe is not None and [one.name for one in recipe.parents] == ["a", "b"]
        assert all(len(str(source.revision)) == 40 for source in recipe.checkpoints())
    hub.repositories.found["model", "org/a"].commit({"README.md": b"another"})
    find(ModelSource("org/a"))  # the cache knows the branch as another commit now
    assert start_recipe(pin_config(config, pins), pins) == recipe
    with pytest.raises(ConfigError, match="its parent x"):
        start_recipe(pin_config(config, pins))


def test_mistakes_are_found_before_weights_come(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    hub.repositories.create("org/deep").add_folder(_deep(tmp_path))
    words = [
        "models.base=org/base",
        "models.parents={a: org/a, deep: org/deep}",
        "evaluation.tasks=[{name: tinny, metric: acc}]",
    ]
    with pytest.raises(ConfigError, match=r"(?s)deep \(org/deep\).*tinny"):
        api.search(composed(tiny / "tiny_search.yaml", *words), run_dir=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"(?s)'org/no'.*tinny"):
        api.search(composed(tiny / "tiny_search.yaml", *words, "models.parents={a: org/a, b: org/no}"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("method: linear\nparents: {a: org/a, deep: org/deep}\n")
    with pytest.raises(CheckpointError, match=r"deep \(org/deep\)"):
        api.merge(recipe, tmp_path / "merged")
    assert hub.log.served(".safetensors") <= 3 * HEADER < _weights(tiny)


def _deep(folder: Path) -> Path:
    path = tiny_model(folder / "deep", 5)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    return path


def test_inspect_answers_from_headers(
    hub: HubServer, tiny: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["inspect", "org/a@main", "--base", "org/base", "--json"]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert "answered from headers" in shown.err and "org/a at commit" in shown.err
    assert hub.log.served(".safetensors") <= 2 * HEADER
    sizes = [(tiny / "models" / name / "model.safetensors").stat().st_size for name in ("a", "base")]
    assert found["to_download"] == sum(sizes) and found["pairs"] == []
    assert main(["inspect", "org/a", "--base", "org/base", "--json", "--download"]) == 0
    brought = json.loads(capsys.readouterr().out)
    local = api.inspect([tiny / "models" / "a"], base=tiny / "models" / "base")
    pass
    assert hub.log.served(".safetensors") == sum(sizes)
    for key in ("layers", "parameters", "vocabulary", "tied", "dtype", "tokenizer"):
        assert found["models"][0][key] == brought["models"][0][key] == local["models"][0][key]
    assert found["models"][0]["licence"] == brought["models"][0]["licence"]
    assert [pair["correlation"] for pair in brought["pairs"]] == [pair["correlation"] for pair in local["pairs"]]


@pytest.mark.slow
def test_commands_in_processes_of_their_own(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("method: linear\nparents: {a: org/a, b: org/b}\n")
    environment = {**os.environ, **hub_variables(hub, tmp_path / "other")}
    hub.faults.append(Fault("/blob/", seconds_each=0.1, chunk=4096, times=9))

    def evomerge(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "evomerge", *words]
        return subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, timeout=120)

    done = evomerge("merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "downloading 2 models: " in done.stderr and "\r" not in done.stderr
    again = evomerge("merge", str(tmp_path / "recipe.yaml"), str(tmp_path / "again"), HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "again" / "model.safetensors"
    ).read_bytes()
    hub.close()
    begin = time.monotonic()
    lost = evomerge("inspect", "org/nowhere")
    assert lost.returncode == 2 and "the Hub cannot be reached" in lost.stderr
    assert time.monotonic() - begin < 20  # most of it starts Python


def test_weights_that_changed_in_the_cache_come_again(hub: HubServer, tiny: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("method: linear\nparents: {a: org/a, b: org/b}\n")
    api.merge(recipe, tmp_path / "first")
    place = find(ModelSource("org/a")).folder / "model.safetensors"
    right = place.read_bytes()
    hub.log.clear()
    notes: list[str] = []
    api.merge(recipe, tmp_path / "second", note=notes.append)
    assert hub.log.served(".safetensors") == 0 and not any("damaged" in note for note in notes)
    place.resolve().chmod(0o644)
    place.resolve().write_bytes(right[:-9] + bytes(9))  # of the same size
    api.merge(recipe, tmp_path / "third", note=notes.append)
    assert any(note.startswith("warning: ") and "is damaged" in note for note in notes)
    assert place.read_bytes() == right and hub.log.served(".safetensors") == len(right)
    merged = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second", "third")]
    assert merged[0] == merged[1] == merged[2]
