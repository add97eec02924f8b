"""What models are and how they are related: before a search, in its result, and by `evomerge inspect`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_search import composed, tiny_model, write_tiny

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import CheckpointError, ConfigError
from evomerge.record import Record
from evomerge.store.run_dir import RunDir

ZOO = ["zoo:math", "zoo:japanese"]


class Order(api.Listener):
    """Notes what happens, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)

    def recorded(self, record: Record, split: Any) -> None:
        self.told.append("a model is scored")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, api.Run, list[str]]:
    """A search whose parents are of other seeds than its base."""
    folder = tmp_path_factory.mktemp("tiny")
    file, notes = write_tiny(folder), []
    run = api.search(composed(file), run_dir=folder / "run", note=notes.append)
    return file, run, notes


def test_a_foreign_base_is_named_before_a_candidate_runs_and_with_the_result(
    foreign: tuple[Path, api.Run, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run, notes = foreign
    told = [note.startswith("warning: a was not fine-tuned from this base") for note in notes]
    assert any(told)
    assert told.index(True) < notes.index("loading the parents")
    status = run.status()
    kinds = [one["kind"] for one in status["warnings"]]
    assert kinds.count("ancestry") == 2
    text = next(one["text"] for one in status["warnings"] if one["kind"] == "ancestry")
    assert text.startswith("a was not fine-tuned from this base (correlation of weights ")
    with RunDir.open(run.path) as opened:
        log = opened.log_path.read_text()
    assert log.index("b was not fine-tuned from this base") < log.index("candidate 0")
    assert main(["status", str(run.path)]) == 0
    assert "a was not fine-tuned from this base" in capsys.readouterr().out


def test_a_foreign_pair_is_a_warning_in_a_search_of_layer_paths_too(foreign: tuple[Path, api.Run, list[str]]) -> None:
    from evomerge.assembly.prepare import prepare

    file, _, _ = foreign
    config = composed(file, "space.name=dataflow", "models.base=null", "method=null", "optimizer=mixed")
    config["space"] = {"name": "dataflow", "path": {"encoding": "segments"}}
    said = [one.text for one in prepare(config).cautions if one.kind == "ancestry"]
    assert [text.partition(" (")[0] for text in said] == [
        "a was not made from the same weights as the other parents",
        "b was not made from the same weights as the other parents",
    ]


def test_a_run_stands_for_its_parents_and_its_base(foreign: tuple[Path, api.Run, list[str]]) -> None:
    found = api.inspect([foreign[1].path])
    assert found["base"] == "base"
    assert [one["name"] for one in found["models"]] == ["a", "b", "base"]
    assert found["ancestry"] == {"a": "foreign", "b": "foreign"}


def test_the_zoo_is_of_one_base() -> None:
    found = api.inspect(ZOO, base="zoo:base")
    assert found["ancestry"] == {"math": "same", "japanese": "same"}
    assert found["warnings"] == []
    math = found["models"][0]
    assert math["architecture"] == "LlamaForCausalLM"
    assert (math["layers"], math["hidden_size"], math["vocabulary"], math["dtype"]) == (6, 128, 512, "float16")
    assert math["parameters"] == sum(p.numel() for p in _loaded("zoo:math").parameters())
    assert math["licence"] == "apache-2.0"
    assert math["chat_template"] is None
    assert len({one["tokenizer"] for one in found["models"]}) == 1
    pairs = {(one["a"], one["b"]): one for one in found["pairs"]}
    assert pairs.keys() == {("math", "japanese"), ("math", "base"), ("japanese", "base")}
    assert 0.05 < pairs[("math", "japanese")]["cosine"] < 0.2
    assert pairs[("math", "base")]["distance"] == pytest.approx(0.124, abs=0.01)
    json.dumps(found, allow_nan=False)


def _loaded(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    from evomerge.zoo import zoo_path

    return AutoModelForCausalLM.from_pretrained(zoo_path(name.removeprefix("zoo:")))


def test_the_command_prints_json_and_tables_of_100_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["inspect", *ZOO, "--base", "zoo:base", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"models", "pairs", "ancestry"} <= found.keys()
    documented = (Path(__file__).parents[2] / "docs" / "ancestry.md").read_text(encoding="utf-8")
    keys = [*found, *found["models"][0], *found["pairs"][0]]
    assert [key for key in keys if f"`{key}`" not in documented] == []
    assert main(["inspect", *ZOO, "--base", "zoo:base"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "LlamaForCausalLM" in out and "same" in out and "0.11" in out
    assert all(f"\n{name}: " in out for name in ("correlation", "moved by", "far out"))
    assert out.splitlines()[-1] == "math and japanese were fine-tuned from the base"
    assert main(["inspect", *ZOO]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "math and japanese were made from the same weights"


def test_a_foreign_model_is_told_by_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other, own = tiny_model(tmp_path / "other", 5), tiny_model(tmp_path / "own", 6)
    copy = shutil.copytree(own, tmp_path / "copy")
    assert main(["inspect", str(other), f"mine={copy}", "--base", f"base={own}"]) == 0
    out = capsys.readouterr().out
    assert "warning: other was not fine-tuned from this base" in out
    assert "warning: mine is this base itself, as far as was sampled" in out
    assert out.splitlines()[-1].startswith("warning: ")
    assert main(["inspect", f"mine={own}", str(other), "--base", str(own), "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["models"]] == ["other", "own"]
    assert main(["inspect", str(other), str(own)]) == 0
    assert "foreign" in capsys.readouterr().out


def test_names_tell_models_apart(tmp_path: Path) -> None:
    one, other = tiny_model(tmp_path / "x" / "model", 1), tiny_model(tmp_path / "y" / "model", 1)
    found = api.inspect([one, other, f"third={one}"])
    assert [each["name"] for each in found["models"]] == ["model", "model (2)", "third"]
    assert "model and model (2) are the same model, as far as was sampled" in str(found["warnings"])


def test_a_pickle_is_inspected_where_the_word_allows_it_as_a_recipe_does(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", 1)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=re.escape(f"write {{path: {folder}, allow_pickle: true}}")) as refused:
        api.inspect([folder])
    word = next(iter(re.findall(r"\{.*?\}", str(refused.value))))
    (one,) = api.inspect([f"old={word}"])["models"]
    assert (one["name"], one["storage"].startswith("pickle")) == ("old", True), one["storage"]


def test_a_template_and_another_vocabulary_show(tmp_path: Path) -> None:
    plain = tiny_model(tmp_path / "plain", 1)
    chat = shutil.copytree(plain, tmp_path / "chat")
    (chat / "chat_template.jinja").write_text("{{ messages }}")
    other = shutil.copytree(plain, tmp_path / "other")
    data = json.loads((other / "tokenizer.json").read_text())
    words = data["model"]["vocab"]
    first, second = [word for word in words if len(word) == 1][:2]
    words[first], words[second] = words[second], words[first]
    (other / "tokenizer.json").write_text(json.dumps(data))
    models = {one["name"]: one for one in api.inspect([plain, chat, other])["models"]}
    assert models["plain"]["tokenizer"] == models["chat"]["tokenizer"] != models["other"]["tokenizer"]
    assert models["plain"]["chat_template"] is None is not models["chat"]["chat_template"]


def test_a_recipe_is_a_model_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "half.yaml"
    file.write_text("method: task_arithmetic\nbase: zoo:base\nparents: {math: zoo:math}\nparameters: {weight: 0.5}\n")
    found = api.inspect([file, "zoo:math"], base="zoo:base")
    assert found["ancestry"] == {"half": "same", "math": "same"}
    (pair,) = [one for one in found["pairs"] if (one["a"], one["b"]) == ("half", "math")]
    assert pair["cosine"] == pytest.approx(1.0, abs=1e-4)


def test_what_cannot_be_inspected_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"(?s)nowhere: there is no folder .*neither: there is no folder"):
        api.inspect(["./nowhere", "./neither"])
    with pytest.raises(ConfigError, match="name at least one model"):
        api.inspect([])
