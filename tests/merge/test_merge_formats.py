"""Weights however they are stored: each way of storing the same numbers gives the same merge, or says why not."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge import api
from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.contents import checkpoint_contents
from evomerge.merge.files.fingerprint import fingerprint
from evomerge.merge.files.formats import open_tensors
from evomerge.merge.files.formats.fp8 import dequantised
from evomerge.merge.files.model import open_checkpoint
from evomerge.recipe import ModelSource, Parent, Recipe
from tests.merge.stored_models import SINGLE, as_fp8, as_pickle, blockwise, compressed, fine_grained
from tests.merge.tiny_models import make, near, tensors_of


def half_and_half(*folders: Path, **source: Any) -> Recipe:
    return Recipe("linear", tuple(Parent(f"m{i}", ModelSource(str(one), **source)) for i, one in enumerate(folders)))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("n_files", [1, 2])
def test_a_permitted_pickle_merges_as_the_same_tensors_in_safetensors(tmp_path: Path, n_files: int, old: bool) -> None:
    first = make(tmp_path / "a", 1, dtype="bfloat16")
    second = near(tmp_path / "b", first, 2)
    wanted = tensors_of(merge_to_disk(half_and_half(first, second), tmp_path / "wanted"))
    as_pickle(first, n_files, _use_new_zipfile_serialization=not old)
    got = merge_to_disk(half_and_half(first, second, allow_pickle=True), tmp_path / "got")
    made = tensors_of(got)
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[name], wanted[name]) and made[name].dtype == wanted[name].dtype for name in wanted)
    assert "pytorch_model" not in " ".join(path.name for path in got.iterdir())
    assert all(
        "pytorch_model" in name for name, (part, _) in checkpoint_contents(first, {}).items() if part == "weights"
    )


def test_a_pickle_without_permission_is_refused_with_the_key_that_permits_it(tmp_path: Path) -> None:
    folder = as_pickle(make(tmp_path / "a", 1))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin, a pickle.*allow_pickle: true") as caught:
        open_checkpoint(ModelSource(str(folder)))
    assert "save_pretrained" in str(caught.value)
    with pytest.raises(CheckpointError, match="allow_pickle: true"):
        merge_to_disk(half_and_half(folder, folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class _Runs:
    """Runs a command when it is unpickled by anything that runs pickles."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 1)
    tensors: dict[str, Any] = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    tensors["model.norm.weight"] = _Runs(f"touch {tmp_path / 'ran'}")
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"asks for more than tensors.*nothing of it was run.*system") as caught:
        open_checkpoint(ModelSource(str(folder), allow_pickle=True))
    assert "weights_only" not in str(caught.value)  # no advice to run it anyway
    assert not (tmp_path / "ran").exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)  # the pickle is one that runs
    assert (tmp_path / "ran").exists()


def test_shared_storages_and_odd_strides_of_a_pickle_are_read_as_what_they_mean(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 3, tie_word_embeddings=True)
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    wanted = {name: tensor.clone() for name, tensor in tensors.items()}
    name = "model.layers.0.mlp.down_proj.weight"
    tensors[name] = tensors[name].t().contiguous().t()  # column by column
    big = torch.zeros(3, *tensors["model.layers.1.self_attn.q_proj.weight"].shape)
    big[1] = tensors["model.layers.1.self_attn.q_proj.weight"]
    tensors["model.layers.1.self_attn.q_proj.weight"] = big[1]  # a part of a larger storage
    tensors["model.norm.weight"] = torch.ones(()).expand(16)  # one number, repeated
    wanted["model.norm.weight"] = torch.ones(16)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]  # tied, stored once
    torch.save({key: torch.nn.Parameter(tensor) for key, tensor in tensors.items()}, folder / "pytorch_model.bin")
    opened = open_checkpoint(ModelSource(str(folder), allow_pickle=True))
    assert opened.naming.targets.keys() == wanted.keys()
    for key, tensor in wanted.items():
        got = opened.load(key)
        assert got.is_contiguous() and torch.equal(got, tensor), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {"state_dict": tensors, "epoch": 3}, "state_dict.*save that alone"),
        (lambda tensors: {**tensors, "step": 3}, r"step \(int\) beside tensors"),
        (lambda tensors: list(tensors.values()), "list in place of tensors by name"),
        (lambda tensors: {**tensors, "model.norm.weight": torch.ones(16, dtype=torch.complex64)}, "complex64"),
        (lambda tensors: {**tensors, "model.norm.weight": torch.ones(16).to_sparse()}, "sparse"),
        (lambda tensors: {**tensors, "model.norm.weight": torch.full((16,), math.nan)}, "holds NaN"),
        (lambda tensors: {k: v for k, v in tensors.items() if "norm" not in k}, "norm.weight is missing"),
    ],
)  # fmt: skip
def test_a_pickle_of_anything_but_a_models_tensors_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = make(tmp_path / "a", 1)
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    torch.save(change(tensors), folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=message):
        opened = open_checkpoint(ModelSource(str(folder), allow_pickle=True))
        for name in opened.naming.targets:
            opened.load(name)


def test_a_pickle_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    folder = as_pickle(make(tmp_path / "a", 1))
    whole = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is no pickle that torch can read"):
        open_checkpoint(ModelSource(str(folder), allow_pickle=True))


def test_safetensors_beside_a_pickle_are_what_is_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 1)
    torch.save({"model.norm.weight": torch.zeros(16)}, folder / "pytorch_model.bin")
    opened = open_checkpoint(ModelSource(str(folder), allow_pickle=True))
    assert torch.equal(opened.load("model.norm.weight"), load_file(folder / SINGLE)["model.norm.weight"])


LAYOUTS = {
    "blocks that divide": (fine_grained(4, 4), blockwise(4, 4), "_scale_inv"),
    "blocks that do not": (fine_grained(3, 7), blockwise(3, 7), "_scale_inv"),
    "blocks larger than a matrix": (fine_grained(128, 128), blockwise(128, 128), "_scale_inv"),
    "blocks, scales in powers of two": (fine_grained(4, 4), blockwise(4, 4), "_scale_inv", torch.float8_e8m0fnu),
    "one scale": (fine_grained(), lambda m, n: (), "_scale_inv"),
    "compressed, one scale": (compressed("tensor"), lambda m, n: (1,), "_scale", torch.bfloat16),
    "compressed, one each row": (compressed("channel"), lambda m, n: (m, 1), "_scale", torch.bfloat16),
    "compressed, blocks": (compressed("block", block_structure=[5, 3]), blockwise(5, 3), "_scale"),
    "fbgemm": ({"quant_method": "fbgemm_fp8"}, lambda m, n: (m, 1), "_scale"),
}


def by_hand(weight: torch.Tensor, scale: torch.Tensor, blocks: tuple[int, int]) -> torch.Tensor:
    """The definition, number by number, in Python's floats, rounded once to float32."""
    rows, columns = weight.shape
    value, factor = weight.double().tolist(), scale.double().reshape(-1).tolist()
    across = 1 if scale.numel() == 1 or (scale.dim() == 2 and scale.shape[1] == 1) else -(-columns // blocks[1])
    down = 0 if scale.numel() == 1 else 1
    return torch.tensor(
        [
            [value[i][j] * factor[down * (i // blocks[0]) * across + (j // blocks[1] if across > 1 else 0)]
             for j in range(columns)]
            for i in range(rows)
        ]
    )  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fp8_weights_are_read_as_weight_times_scale(tmp_path: Path, layout: str) -> None:
    quantisation, shape, end, *kind = LAYOUTS[layout]
    folder = as_fp8(make(tmp_path / "a", 1, dtype="bfloat16"), quantisation, shape, end, *kind)
    stored = load_file(folder / SINGLE)
    opened = open_checkpoint(ModelSource(str(folder)))
    assert str(opened.dtype) == "torch.bfloat16" and not hasattr(opened.config, "quantization_config")
    blocks = quantisation.get("weight_block_size") or {"compressed, blocks": (5, 3)}.get(layout, (1, 1))
    for name in opened.naming.targets:
        got, raw = opened.load(name), stored[name]
        if raw.dtype == torch.float8_e4m3fn:
            assert got.dtype == torch.float32
            assert torch.equal(got, by_hand(raw, stored[name + end], tuple(blocks))), name
        else:
            assert torch.equal(got, raw), name


def test_fp8_weights_equal_those_that_transformers_dequantises(tmp_path: Path) -> None:
    folder = as_fp8(make(tmp_path / "a", 1, dtype="float32"), fine_grained(4, 4), blockwise(4, 4), "_scale_inv")
    config = AutoConfig.from_pretrained(folder)
    config.quantization_config["dequantize"] = True
    theirs = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32).state_dict()
    opened = open_checkpoint(ModelSource(str(folder)))
    assert opened.naming.targets.keys() == theirs.keys()
    for name in theirs:
        assert torch.equal(opened.load(name).float(), theirs[name].float()), name


def test_a_merge_of_fp8_models_is_in_their_own_type_and_claims_no_quantisation(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain", 1, dtype="bfloat16")
    folder = as_fp8(near(tmp_path / "a", plain, 2), fine_grained(3, 7), blockwise(3, 7), "_scale_inv")
    out = merge_to_disk(half_and_half(folder, plain), tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"
    one, other = open_checkpoint(ModelSource(str(folder))), load_file(plain / SINGLE)
    made = AutoModelForCausalLM.from_pretrained(out, dtype="auto").state_dict()
    for name, tensor in made.items():
        exact = (one.load(name).double() + other[name].double()) / 2
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, exact.float().to(torch.bfloat16)), name


def test_stacked_experts_in_fp8_have_scales_of_their_own() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, 5, 8, generator=generator).to(torch.float8_e4m3fn)
    scale = torch.rand(3, 2, 2, generator=generator)
    got = dequantised(weight, scale, (4, 5))
    for i in range(3):
        assert torch.equal(got[i], by_hand(weight[i], scale[i], (4, 5)))


@pytest.mark.parametrize(
    ("quantisation", "message"),
    [
        ({"quant_method": "gptq", "bits": 4}, "GPTQ.*unquantised model that it was made from"),
        ({"quant_method": "awq"}, "AWQ"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"bitsandbytes.*dequantize\(\)"),
        ({"quant_method": "mxfp4"}, r"MXFP4.*Mxfp4Config\(dequantize=True\)"),
        ({"quant_method": "nvfp4"}, "NVFP4"),
        ({"quant_method": "torchao"}, "TorchAO"),
        ({"quant_method": "brand_new"}, "quantised by brand_new"),
        ({"bits": 3}, "a method that its config.json does not name"),
        (compressed("channel", type="int"), r"compressed-tensors \(8-bit int\)"),
        (compressed("group", num_bits=4), r"compressed-tensors \(4-bit float\)"),
        (compressed("tensor", symmetric=False), "asymmetric"),
        ({"quant_method": "fp8", "weight_block_size": [128, 0]}, r"weight_block_size: \[128, 0\]"),
        ({"quant_method": "fp8", "weight_block_size": [5, 5]}, "blocks of 5×5 does not fit"),
        ({"quant_method": "fp8", "expert_dtype": "fp4"}, "experts in fp4"),
    ],
)
def test_what_cannot_be_dequantised_is_refused_with_its_method_and_a_way_out(
    tmp_path: Path, quantisation: dict[str, Any], message: str
) -> None:
    folder = as_fp8(make(tmp_path / "a", 1), quantisation, blockwise(4, 4), "_scale_inv")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(ModelSource(str(folder)))


def test_fp8_without_scales_or_without_a_quantisation_is_refused(tmp_path: Path) -> None:
    folder = as_fp8(make(tmp_path / "a", 1), fine_grained(4, 4), blockwise(4, 4), "_scale_inv")
    tensors = load_file(folder / SINGLE)
    bare = {name: tensor for name, tensor in tensors.items() if "layers.1" not in name or "scale" not in name}
    save_file(bare, folder / SINGLE)
    with pytest.raises(CheckpointError, match=r"layers\.1.* without a scale"):
        open_checkpoint(ModelSource(str(folder)))
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"type F8_E4M3.*no quantization_config"):
        open_checkpoint(ModelSource(str(folder)))


def test_the_fingerprint_of_a_pickle_counts_its_bytes(tmp_path: Path) -> None:
    one, other = (as_pickle(make(tmp_path / name, seed)) for name, seed in (("a", 1), ("b", 2)))
    again = as_pickle(make(tmp_path / "c", 1))
    assert fingerprint(one) == fingerprint(again) != fingerprint(other)


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
def test_tensors_of_every_kind_and_size_are_read_as_they_are(tmp_path: Path, pickled: bool) -> None:
    folder = make(tmp_path / "a", 1)
    odd = {
        "number": torch.tensor(3.5, dtype=torch.float64), "none": torch.zeros(0, 4), "whole": torch.arange(3),
        "flags": torch.tensor([True, False]), "bytes": torch.tensor([[1], [200]], dtype=torch.uint8),
    }  # fmt: skip
    save_file(odd, folder / SINGLE, metadata={"format": "pt"})
    source = ModelSource(str(as_pickle(folder) if pickled else folder), allow_pickle=pickled)
    tensors = open_tensors(folder, source, AutoConfig.from_pretrained(folder))
    for name, wanted in odd.items():
        got = tensors.load(name)
        assert got.shape == wanted.shape == tensors.infos[name].shape and got.dtype == wanted.dtype
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_float64_is_merged_and_keeps_its_type_unless_the_recipe_says_another(tmp_path: Path, dtype: str | None) -> None:
    first = make(tmp_path / "a", 1)
    second = near(tmp_path / "b", first, 2)
    for folder in (first, second):
        wide = {name: tensor.double() for name, tensor in load_file(folder / SINGLE).items()}
        save_file(wide, folder / SINGLE, metadata={"format": "pt"})
    recipe = Recipe("linear", half_and_half(first, second).parents, dtype=dtype)
    one, other = load_file(first / SINGLE), load_file(second / SINGLE)
    for name, tensor in tensors_of(merge_to_disk(recipe, tmp_path / "out")).items():
        exact = (one[name] + other[name]) / 2
        assert str(tensor.dtype) == f"torch.{dtype or 'float64'}"
        assert torch.equal(tensor, exact.float().to(tensor.dtype)), name


def test_each_way_of_storing_says_what_it_is(tmp_path: Path) -> None:
    def said(folder: Path) -> str:
        return str(open_checkpoint(ModelSource(str(folder), allow_pickle=True)).tensors.storage)  # type: ignore[attr-defined]

    assert said(make(tmp_path / "a", 1)) == "safetensors"
    assert said(as_pickle(make(tmp_path / "b", 1), 2)) == "pickles in 2 files"
    scaled = as_fp8(make(tmp_path / "c", 1), fine_grained(3, 7), blockwise(3, 7), "_scale_inv")
    assert said(scaled) == "fp8 in blocks of 3×7, dequantised as it is read (safetensors)"
    found = api.inspect([f"m={scaled}"])["models"][0]
    assert found["storage"] == said(scaled) and found["dtype"] == "float32"
