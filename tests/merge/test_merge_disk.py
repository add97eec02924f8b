import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, recipe, same_bytes, tensors_of
from transformers import AutoModelForCausalLM

from evomerge.errors import CheckpointError, ExportError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.recipe import Recipe


@pytest.fixture
def of(family: SimpleNamespace) -> Recipe:
    return recipe("ties", family.base, {"math": family.math, "japanese": family.japanese})


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_shards_hold_the_same_bytes_as_one_file_and_load(of: Recipe, tmp_path: Path) -> None:
    whole = merge_to_disk(of, tmp_path / "whole")
    parts = merge_to_disk(of, tmp_path / "parts", shard_size=3000)
    assert same_bytes(tensors_of(parts), tensors_of(whole))
    assert not (parts / "model.safetensors").exists()
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * 4 for t in tensors_of(whole).values())
    files = sorted(parts.glob("*.safetensors"))
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    for file in files:
        tensors = load_file(file)
        assert all(index["weight_map"][name] == file.name for name in tensors)
        assert len(tensors) == 1 or sum(t.numel() * 4 for t in tensors.values()) <= 3000
    loaded, plain = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (parts, whole))
    assert same_bytes(dict(loaded), dict(plain))


def test_progress_counts_every_tensor(of: Recipe, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    merge_to_disk(of, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    n = len(tensors_of(tmp_path / "out"))
    assert seen == [(i, n) for i in range(1, n + 1)]


def test_a_folder_that_holds_something_is_refused_and_kept(of: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(ExportError, match="already holds something; choose another folder"):
        merge_to_disk(of, out)
    assert leftovers(out) == ["mine.txt"]
    with pytest.raises(ExportError, match="is a file, not a folder"):
        merge_to_disk(of, out / "mine.txt")


def test_an_empty_folder_may_be_filled(of: Recipe, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (merge_to_disk(of, tmp_path / "out") / "config.json").is_file()
    assert leftovers(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate", "fsync"])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "cannot write .*: the disk is full: .*; nothing was left there",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
    ],
    ids=str,
)
def test_a_full_or_read_only_disk_leaves_nothing(
    error: OSError, message: str, call: str, of: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = getattr(os, call)

    def failing(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) > 3:
            raise error
        return real(*arguments)

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(ExportError, match=message):
        merge_to_disk(of, tmp_path / "out", shard_size=3000)
    assert leftovers(tmp_path) == []
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("evomerge-read", "evomerge-write"))
    ]


def test_a_place_that_cannot_hold_folders_is_explained(of: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"cannot use .*file/out.*in the way"):
        merge_to_disk(of, tmp_path / "file" / "out")
    with pytest.raises(ExportError, match="the shard size must be a positive number of bytes, but came 0"):
        merge_to_disk(of, tmp_path / "out", shard_size=0)


def test_a_parent_that_breaks_on_the_way_leaves_nothing(of: Recipe, tmp_path: Path, family: SimpleNamespace) -> None:
    def broken(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_to_disk(of, tmp_path / "out", progress=broken)
    tensors = load_file(family.math / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_bytes((family.math / "config.json").read_bytes())
    save_file(tensors, bad / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"parent 'bad': tensor model.norm.weight of .* holds NaN"):
        merge_to_disk(recipe("ties", family.base, {"bad": bad}), tmp_path / "out")
    assert leftovers(tmp_path) == ["bad"]


def test_a_killed_process_leaves_nothing_under_the_name(of: Recipe, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(of.to_yaml())
    code = """
import sys, time
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.recipe import Recipe
def stall(done, total):
    if done == total:
        print("nearly", flush=True)
        time.sleep(60)
merge_to_disk(Recipe.load(sys.argv[1]), sys.argv[2], shard_size=3000, progress=stall)
"""
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "recipe.yaml", out], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"nearly\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not out.exists()
    assert (merge_to_disk(of, out) / "config.json").is_file()


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_the_config_states_the_dtype_under_the_word_it_used(key: str, tmp_path: Path, family: SimpleNamespace) -> None:
    source = merge_to_disk(recipe("linear", None, {"m": family.math}), tmp_path / "source")
    data = json.loads((source / "config.json").read_text())
    data.pop("dtype")
    (source / "config.json").write_text(json.dumps({**data, key: "float32"}))
    edit_config(source, _name_or_path="/home/someone")
    out = merge_to_disk(recipe("linear", None, {"m": source}, dtype="bfloat16"), tmp_path / "out")
    written = json.loads((out / "config.json").read_text())
    assert written[key] == "bfloat16"
    assert not {"dtype", "torch_dtype", "_name_or_path"} - {key} & written.keys()


def test_custom_code_travels_with_the_model(custom_family: SimpleNamespace, tmp_path: Path) -> None:
    data = {"method": "linear", "parents": {"a": {"path": str(custom_family.a), "trust_remote_code": True}}}
    out = merge_to_disk(Recipe.from_data(data), tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True).steps.tolist() == [1, 1, 1]


def test_every_file_of_a_merge_may_be_read_by_whom_the_config_may(of: Recipe, tmp_path: Path) -> None:
    out = merge_to_disk(of, tmp_path / "out")
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {(out / "config.json").stat().st_mode & 0o777}
