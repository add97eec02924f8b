"""Models of the Hub as parents: decided from headers, then downloaded once, checked, and continued where it stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import Fault, HubServer, Repository, hub_variables, use_hub
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny_models import make, recipe, same_bytes, tensors_of

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files import hub_transfer
from evomerge.merge.files.hub import bring, find
from evomerge.merge.files.hub_transfer import partial
from evomerge.merge.files.locate import locate
from evomerge.merge.files.model import open_checkpoint
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe

HEADER = 1 << 16
"""What is read of a file at most, to know its header."""

SIZES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4}
"""Of models whose weights are much longer than their headers."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(hub_transfer, "pause", lambda tried, error: 0.01)
    with HubServer().running() as server:
        use_hub(server, tmp_path / "home", monkeypatch)
        yield server


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models that fit together, the second in two shards, and one of another width."""
    root = tmp_path_factory.mktemp("models")
    made = {name: make(root / name, seed, **SIZES) for seed, name in enumerate(("one", "two"))}
    made["wide"] = make(root / "wide", 3, **{**SIZES, "hidden_size": 48})
    _shard(made["two"])
    return made


def _shard(folder: Path) -> None:
    tensors = sorted(load_file(folder / "model.safetensors").items())
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, part in zip(names, (tensors[::2], tensors[1::2]), strict=True):
        save_file(dict(part), folder / name, metadata={"format": "pt"})
    weight_map = {tensor: names[i % 2] for i, (tensor, _) in enumerate(tensors)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def _publish(hub: HubServer, folder: Path, name: str, **settings: object) -> Repository:
    made = hub.repositories.create(name, card={"license": "apache-2.0"}, **settings)
    made.add_folder(folder)
    return made


def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_models_that_do_not_fit_cost_no_weights(hub: HubServer, folders: dict[str, Path]) -> None:
    for name in ("one", "two", "wide"):
        _publish(hub, folders[name], f"org/{name}")
    size = (folders["one"] / "model.safetensors").stat().st_size
    sources = Sources()
    with pytest.raises(CheckpointError, match=r"parent 'no': (.|\n)*parent 'gone': "):
        sources.plan(recipe("linear", None, {"one": "org/one", "no": "org/no-such", "gone": "org/gone"}))
    with pytest.raises(CheckpointError, match=r"wide \(org/wide\): (.|\n)*48"):
        sources.plan(recipe("linear", None, {"one": "org/one", "wide": "org/wide"}))
    sources.plan(recipe("linear", None, {"one": "org/one", "two": "org/two"}))
    assert hub.log.served("safetensors") <= 4 * HEADER < size
    assert all(one.range for one in hub.log.of("/blob/"))
    opened, here = sources.open(ModelSource("org/two")), open_checkpoint(ModelSource(str(folders["two"])))
    assert dict(opened.tensors.infos) == dict(here.tensors.infos)
    assert opened.tensors.mapped and opened.dtype == here.dtype
    assert not list(Path(constants.HF_HUB_CACHE).rglob("snapshots/*/*.safetensors"))  # nothing looks whole


def test_weights_come_once_and_are_those_of_the_folder(
    hub: HubServer, folders: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        _publish(hub, folders[name], f"org/{name}").commit(
            {"pytorch_model.bin": b"x", "consolidated.safetensors": b"x", "tf_model.h5": b"x", "modeling_x.py": b"x"}
        )
    asked = recipe("linear", None, {"one": "org/one", "two": "org/two"})
    Sources().plan(asked)
    merge_to_disk(asked, tmp_path / "merge")
    same = recipe("linear", None, {name: folders[name] for name in ("one", "two")})
    merge_to_disk(same, tmp_path / "expected")
    assert same_bytes(tensors_of(tmp_path / "merge"), tensors_of(tmp_path / "expected"))
    whole = sum(path.stat().st_size for name in ("one", "two") for path in folders[name].glob("*.safetensors"))
    assert hub.log.served(".safetensors") == whole  # the headers are the beginning of the download
    assert {one.file for one in hub.log.of("/blob/")} == {
        "model.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    }  # fmt: skip
    folder = locate(ModelSource("org/one"))
    assert not (folder / "modeling_x.py").exists() and (folder / "tokenizer.json").is_file()
    assert locate(ModelSource("org/one", trust_remote_code=True)) == folder and (folder / "modeling_x.py").is_file()
    assert hub.log.served(".safetensors") == whole
    assert not list(folder.parent.parent.rglob("*.incomplete"))


def test_a_cut_connection_is_taken_up_again(hub: HubServer, folders: dict[str, Path]) -> None:
    _publish(hub, folders["one"], "org/one")
    size = (folders["one"] / "model.safetensors").stat().st_size
    hub.faults += [
        Fault("/blob/model.safetensors", cut_after=70_000),
        Fault("/blob/model.safetensors", status=503),
        Fault("/blob/model.safetensors", status=429, retry_after=0),
        Fault("/api/models/org/one", status=500),
    ]
    folder = locate(ModelSource("org/one"))
    assert (folder / "model.safetensors").read_bytes() == (folders["one"] / "model.safetensors").read_bytes()
    assert hub.log.served(".safetensors") == size


def test_a_connection_that_keeps_breaking_leaves_what_came(hub: HubServer, folders: dict[str, Path]) -> None:
    _publish(hub, folders["one"], "org/one")
    hub.faults += [Fault("/blob/model.safetensors", cut_after=70_000), Fault("/blob/", cut_after=0, times=5)]
    with pytest.raises(
        CheckpointError, match=r"the connection broke while model.safetensors of org/one.*goes on where"
    ):
        locate(ModelSource("org/one"))
    found = find(ModelSource("org/one"))
    assert partial(found.listing, found.missing[0]).stat().st_size == 70_000
    bring([found])
    size = (folders["one"] / "model.safetensors").stat().st_size
    assert (found.folder / "model.safetensors").stat().st_size == size == hub.log.served(".safetensors")


def test_a_killed_download_goes_on(hub: HubServer, folders: dict[str, Path], tmp_path: Path) -> None:
    _publish(hub, folders["one"], "org/one")
    hub.faults.append(Fault("/blob/", seconds_each=0.05, chunk=1 << 15, times=1))
    code = (
        "from evomerge.merge.files.hub import bring, find; from evomerge.recipe import ModelSource;"
        "bring([find(ModelSource('org/one'))])"
    )
    environment = {**os.environ, **hub_variables(hub, tmp_path / "home")}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        deadline = time.monotonic() + 60
        while hub.log.served(".safetensors") < 200_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    size = (folders["one"] / "model.safetensors").stat().st_size
    found = find(ModelSource("org/one"))
    assert found.missing
    there = partial(found.listing, found.missing[0]).stat().st_size
    assert 0 < there < size
    hub.log.clear()
    bring([found])
    assert (found.folder / "model.safetensors").read_bytes() == (folders["one"] / "model.safetensors").read_bytes()
    assert hub.log.served(".safetensors") == size - there


@pytest.mark.parametrize("part", ["/api/models", "/blob/"])
def test_a_page_in_place_of_an_answer_is_said_and_leaves_nothing(
    part: str, hub: HubServer, folders: dict[str, Path], tmp_path: Path
) -> None:
    _publish(hub, folders["one"], "org/one")
    hub.faults.append(Fault(part, times=99, page=True))
    with pytest.raises(CheckpointError, match="does not answer as the Hub does"):
        locate(ModelSource("org/one"))
    assert not any(path.stat().st_size for path in (tmp_path / "home").rglob("*.evomerge.incomplete"))
    hub.faults.clear()
    assert same_bytes(tensors_of(locate(ModelSource("org/one"))), tensors_of(folders["one"]))


def test_damage_is_noticed(hub: HubServer, folders: dict[str, Path]) -> None:
    _publish(hub, folders["one"], "org/one")
    hub.faults.append(Fault("/blob/model.safetensors", flip=200_000))
    folder = locate(ModelSource("org/one"))  # on its way: once more
    right = (folders["one"] / "model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == right
    place = (folder / "model.safetensors").resolve()
    place.chmod(0o644)
    place.write_bytes(right[:-1])  # in the cache, cut short
    assert (locate(ModelSource("org/one")) / "model.safetensors").read_bytes() == right
    hub.faults.append(Fault("/blob/model.safetensors", flip=200_000, times=9))
    shutil.rmtree(folder.parent.parent)
    with pytest.raises(CheckpointError, match=r"model.safetensors of org/one came damaged twice"):
        locate(ModelSource("org/one"))


def test_two_models_come_at_once(hub: HubServer, folders: dict[str, Path]) -> None:
    for name in ("one", "two"):
        _publish(hub, folders[name], f"org/{name}")
    hub.faults.append(Fault("/blob/", seconds_each=0.02, chunk=1 << 15, times=9))
    found = [find(ModelSource(f"org/{name}")) for name in ("one", "two")]
    told: list[tuple[int, int]] = []
    bring(found, lambda done, total: told.append((done, total)))
    whole = sum(path.stat().st_size for name in ("one", "two") for path in folders[name].glob("*.safetensors"))
    assert told[-1] == (whole, whole) and [done for done, _ in told] == sorted(done for done, _ in told)
    order = [one.file for one in hub.log.of("/blob/")]
    assert len(order) == 3  # all were asked for before one was done, which takes half a second
    for name, one in zip(("one", "two"), found, strict=True):
        for path in folders[name].glob("*.safetensors"):
            assert (one.folder / path.name).read_bytes() == path.read_bytes()


def test_a_full_disk_is_known_before(hub: HubServer, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _publish(hub, folders["one"], "org/one")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(CheckpointError, match=r"need 0.0 GiB more in the cache.*free.*HF_HOME"):
        locate(ModelSource("org/one"))
    assert hub.log.served(".safetensors") == 0


def test_a_disk_that_fills_up_is_said(
    hub: HubServer, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(hub, folders["one"], "org/one")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_transfer, "_stream", full)
    with pytest.raises(CheckpointError, match=r"cannot write to the cache of the Hub, .*: No space left.*HF_HOME"):
        locate(ModelSource("org/one"))


def test_a_branch_is_one_commit(hub: HubServer, folders: dict[str, Path]) -> None:
    repository = _publish(hub, folders["one"], "org/one")
    first = repository.branches["main"]
    repository.tags["v1"] = first
    second = repository.commit({"config.json": b"{}"})
    assert find(ModelSource("org/one")).listing.commit == second
    for revision in ("v1", first, first[:9]):
        assert find(ModelSource("org/one", revision)).listing.commit == first
    with pytest.raises(CheckpointError, match=r"org/one on the Hub: unknown revision 'v2'; did you mean 'v1'"):
        find(ModelSource("org/one", "v2"))


def test_what_is_in_the_cache_needs_no_hub(
    hub: HubServer, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = _publish(hub, folders["one"], "org/one").branches["main"]
    _publish(hub, folders["two"], "org/two")
    folder = locate(ModelSource("org/one"))
    find(ModelSource("org/two"))  # its small files alone
    hub.log.clear()
    assert locate(ModelSource("org/one", commit)) == folder and not hub.log.requests
    hub.close()
    begin = time.monotonic()
    assert locate(ModelSource("org/one")) == folder
    with pytest.raises(CheckpointError, match=r"org/two is in the cache, but not whole .*the Hub cannot be reached"):
        locate(ModelSource("org/two"))
    with pytest.raises(CheckpointError, match=r"nor in the cache, and the Hub cannot be reached.*hf download org/no"):
        locate(ModelSource("org/no"))
    _offline(monkeypatch)
    assert locate(ModelSource("org/one")) == folder
    with pytest.raises(CheckpointError, match="nor in the cache, and HF_HUB_OFFLINE forbids"):
        locate(ModelSource("org/no"))
    assert time.monotonic() - begin < 5


def test_who_may_not_have_a_model_is_told_what_to_do(
    hub: HubServer, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.repositories.tokens |= {"hf_secret_in": "anna", "hf_secret_out": "bert"}
    _publish(hub, folders["one"], "org/gated", gated=True, readers={"hf_secret_in"})
    _publish(hub, folders["one"], "org/private", private=True, readers={"hf_secret_in"})
    hub.repositories.create("org/data", kind="dataset")
    said = []
    for token, path, message in (
        (None, "org/gated", rf"gated: accept its terms at {hub.url}/org/gated, then run `hf auth login`.*nobody is"),
        ("hf_secret_out", "org/gated", "gated: accept its terms"),
        (None, "org/private", "neither a folder nor a Hub model 'org/private'.*nobody is logged in"),
        ("hf_secret_out", "org/private", "neither a folder nor a Hub model 'org/private'"),
        ("hf_secret_wrong", "org/private", "the Hub refuses the token of this machine.*hf auth login"),
        (None, "org/data", "org/data is a dataset on the Hub, not a model"),
        (None, "no such name", "neither a folder nor a Hub model"),
    ):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(CheckpointError, match=message) as error:
            locate(ModelSource(path))
        said.append(str(error.value))
    monkeypatch.setenv("HF_TOKEN", "hf_secret_in")
    for path in ("org/gated", "org/private"):
        assert (locate(ModelSource(path)) / "model.safetensors").is_file()
    assert "hf_secret" not in "".join(said) + caplog.text
    assert not [one for one in hub.log.of("/blob/") if one.authorized]


def test_repositories_that_are_no_whole_models(hub: HubServer, folders: dict[str, Path]) -> None:
    config = (folders["one"] / "config.json").read_bytes()
    shards = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    for name, files, message in (
        ("lost", {"model.safetensors.index.json": json.dumps(shards).encode(), "model-1.safetensors": b"x"},
         r"lacks model-2.safetensors, which its model.safetensors.index.json names: the upload was not finished"),
        ("pickle", {"pytorch_model.bin": b"x"}, r"a pickle, which.*\{path: org/pickle, allow_pickle: true\}"),
        ("gguf", {"m-q8.gguf": b"x"}, r"GGUF alone: name a file, \{path: org/gguf, file: m-q8.gguf\}"),
        ("none", {"LICENSE": b"x"}, "no weights that can be read"),
    ):  # fmt: skip
        hub.repositories.create(f"org/{name}").commit({"config.json": config, **files})
        with pytest.raises(CheckpointError, match=message):
            locate(ModelSource(f"org/{name}"))
    hub.repositories.create("org/only").commit({"m-q8.gguf": b"x"})
    with pytest.raises(CheckpointError, match=r"has no config.json; it has GGUF files: name one"):
        locate(ModelSource("org/only"))
    assert find(ModelSource("org/pickle", allow_pickle=True)).missing[0].name == "pytorch_model.bin"
    assert [one.name for one in find(ModelSource("org/gguf", file="m-q8.gguf")).missing] == ["m-q8.gguf"]
    with pytest.raises(CheckpointError, match=r"org/gguf on the Hub has no m-q4.gguf; it has m-q8.gguf"):
        find(ModelSource("org/gguf", file="m-q4.gguf"))
    adapter = hub.repositories.create("org/lora")
    adapter.commit({"adapter_config.json": b"{}", "adapter_model.bin": b"x"})
    with pytest.raises(CheckpointError, match="weights are a pickle"):
        find(ModelSource("org/lora"))
    adapter.commit({"adapter_model.safetensors": b"x"})
    assert [one.name for one in find(ModelSource("org/lora")).missing] == ["adapter_model.safetensors"]


def test_an_adapter_of_the_hub_brings_its_base_once_both_fit(
    hub: HubServer, folders: dict[str, Path], tmp_path: Path
) -> None:
    _publish(hub, folders["one"], "org/one")
    _publish(hub, folders["wide"], "org/wide")
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    rows = load_file(folders["one"] / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"].shape
    draw = torch.Generator().manual_seed(0)
    factors = {
        f"{name}.lora_A.weight": torch.randn(2, rows[1], generator=draw),
        f"{name}.lora_B.weight": torch.randn(rows[0], 2, generator=draw),
    }
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    for base in ("one", "wide"):
        folder = tmp_path / f"lora-{base}"
        folder.mkdir()
        save_file(factors, folder / "adapter_model.safetensors")
        text = json.dumps({**settings, "base_model_name_or_path": f"org/{base}"})
        (folder / "adapter_config.json").write_text(text)
        _publish(hub, folder, f"org/lora-{base}")
    with pytest.raises(CheckpointError):
        Sources().plan(recipe("linear", None, {"lora": "org/lora-wide", "one": "org/one"}))
    asked = recipe("linear", None, {"lora": "org/lora-one", "one": "org/one"})
    sources = Sources()
    sources.plan(asked)
    assert [model.listing.path for model, _ in sources.arriving] == ["org/one"]
    size = (folders["one"] / "model.safetensors").stat().st_size
    assert hub.log.served("model.safetensors") < size  # headers, and the small weights of adapters
    merge_to_disk(asked, tmp_path / "merged")
    local = {"lora": ModelSource(str(folders["one"]), adapter=str(tmp_path / "lora-one")), "one": folders["one"]}
    expected = Recipe(
        "linear", tuple(Parent(n, s if isinstance(s, ModelSource) else ModelSource(str(s))) for n, s in local.items())
    )
    merge_to_disk(expected, tmp_path / "expected")
    assert same_bytes(tensors_of(tmp_path / "merged"), tensors_of(tmp_path / "expected"))
