import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, make, same_bytes

from evomerge.errors import CheckpointError
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint, read_header
from evomerge.merge.files.locate import locate
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource


def shard(folder: Path) -> None:
    """Split a checkpoint into two files with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{i:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_headers_give_shapes_and_types_and_load_gives_the_bytes(family: SimpleNamespace) -> None:
    checkpoint, tensors = SafetensorsCheckpoint(family.base), load_file(family.base / "model.safetensors")
    assert checkpoint.infos.keys() == tensors.keys()
    for name, info in checkpoint.infos.items():
        assert (info.shape, info.dtype) == (tuple(tensors[name].shape), tensors[name].dtype)
        assert info.n_bytes == tensors[name].numel() * 4
    assert same_bytes({name: checkpoint.load(name) for name in tensors}, tensors)


def test_a_tensor_is_a_view_of_the_file_and_is_made_once(family: SimpleNamespace) -> None:
    checkpoint = SafetensorsCheckpoint(family.base)
    names = sorted(checkpoint.infos)
    first = [checkpoint.load(name) for name in names]
    assert [checkpoint.load(name).data_ptr() for name in names] == [tensor.data_ptr() for tensor in first]
    # All in one mapping, in the order and at the distances of the file: nothing was copied.
    header = read_header(family.base / "model.safetensors")
    origin = min(tensor.data_ptr() for tensor in first)
    offsets = {name: header[name]["data_offsets"][0] for name in names}
    assert {name: t.data_ptr() - origin for name, t in zip(names, first, strict=True)} == offsets


def test_shards_read_like_one_file(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    tensors = load_file(folder / "model.safetensors")
    shard(folder)
    checkpoint = SafetensorsCheckpoint(folder)
    assert same_bytes({name: checkpoint.load(name) for name in checkpoint.infos}, tensors)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00002.safetensors, which .* names"):
        SafetensorsCheckpoint(folder)


def test_a_tensor_missing_from_its_shard_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    shard(folder)
    save_file({"x": torch.ones(1)}, folder / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"00001-of-00002.safetensors lacks .* and \d+ more, which the index"):
        SafetensorsCheckpoint(folder)


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    shard(folder)
    (folder / "model.safetensors.index.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="is not an index of safetensors files"):
        SafetensorsCheckpoint(folder)


@pytest.mark.parametrize(
    ("keep", "message"),
    [(-10, "is cut short: its header promises"), (4, "is not a whole safetensors file"), (100, "not a whole")],
)
def test_an_unfinished_download_is_recognised(keep: int, message: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=message):
        SafetensorsCheckpoint(folder)


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    (folder / "model.safetensors").write_bytes((20).to_bytes(8, "little") + b"x" * 40)
    with pytest.raises(CheckpointError, match="its header is not JSON"):
        SafetensorsCheckpoint(folder)


def test_pickled_weights_are_refused_with_a_way_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin, a pickle.*save_pretrained\(new_folder\)"):
        SafetensorsCheckpoint(folder)


def test_a_folder_without_weights_says_what_it_has(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"has neither model.safetensors nor .*; it has other.safetensors"):
        SafetensorsCheckpoint(folder)


def test_a_folder_in_the_place_of_weights_is_said(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match=r"model\.safetensors there is a folder, or a link to nothing"):
        SafetensorsCheckpoint(folder)
    (folder / "model.safetensors").rmdir()
    (folder / "model.safetensors").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"a link to nothing"):
        SafetensorsCheckpoint(folder)


def test_eight_bit_floats_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    save_file({"w": torch.ones(2).to(torch.float8_e4m3fn)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="F8_E4M3, which cannot be merged: dequantise"):
        SafetensorsCheckpoint(folder)


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(CheckpointError, match=r"is quantised by GPTQ.*Merge the unquantised model"):
        Sources().open(ModelSource(str(folder)))


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot read .*config.json"):
        Sources().open(ModelSource(str(folder)))


def test_the_content_hash_changes_with_any_byte_and_not_with_the_place(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one", 0), make(tmp_path / "other", 0)
    first = SafetensorsCheckpoint(one).content_hash
    assert first == SafetensorsCheckpoint(other).content_hash
    raw = bytearray((other / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (other / "model.safetensors").write_bytes(raw)
    assert SafetensorsCheckpoint(other).content_hash != first
    edit_config(one, rms_norm_eps=1e-3)
    assert SafetensorsCheckpoint(one).content_hash != first


# ---- where models lie


def test_a_local_folder_is_its_own_place(family: SimpleNamespace) -> None:
    assert locate(ModelSource(str(family.base))) == family.base
    with pytest.raises(CheckpointError, match="is a local folder, so it has no revision 'main'"):
        locate(ModelSource(str(family.base), revision="main"))


@pytest.mark.parametrize("path", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_path_that_does_not_exist_is_no_hub_id(path: str) -> None:
    with pytest.raises(CheckpointError, match=f"there is no folder {path}"):
        locate(ModelSource(path))


def test_folders_that_are_no_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        locate(ModelSource(str(tmp_path / "empty")))
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is an adapter, not the whole model"):
        locate(ModelSource(str(tmp_path / "empty")))
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds a model and an adapter"):
        locate(ModelSource(str(tmp_path / "empty")))
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file; a model is a folder"):
        locate(ModelSource(str(tmp_path / "file")))


def test_an_unknown_zoo_model_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="no model 'maths'; it has base, math, japanese"):
        locate(ModelSource("zoo:maths"))


def test_inf_and_nan_are_told_apart(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    tensors = load_file(folder / "model.safetensors")
    for value, word in ((torch.inf, "Inf"), (torch.nan, "NaN")):
        tensors["lm_head.weight"][0, 0] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=f"tensor lm_head.weight of .* holds {word}"):
            Sources().open(ModelSource(str(folder))).load("lm_head.weight")
