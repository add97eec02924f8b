"""GGUF files as parents: every tensor is that of transformers, and a merge is that of the numbers in them."""

import json
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    Lfm2Config,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from evomerge.errors import CheckpointError
from evomerge.export.licences import read_model_file
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.contents import checkpoint_contents
from evomerge.merge.files.fingerprint import fingerprint
from evomerge.merge.files.formats.gguf_tensors import GgufCheckpoint
from evomerge.merge.files.locate import locate
from evomerge.merge.files.model import open_checkpoint
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe
from tests.merge.stored_models import KINDS, SIZES, as_kind, write_gguf
from tests.merge.tiny_models import random_tensors, tensors_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Not by XDG_CACHE_HOME, where compiled kernels are, too.
    monkeypatch.setattr("evomerge.merge.files.formats.gguf_folder.cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "gguf"


FAMILIES = {
    "llama": ("llama", LlamaConfig(**SIZES)),
    "llama, tied": ("llama", LlamaConfig(**{**SIZES, "tie_word_embeddings": True})),
    "qwen2": ("qwen2", Qwen2Config(**{**SIZES, "head_dim": 16})),
    "qwen3": ("qwen3", Qwen3Config(**{**SIZES, "head_dim": 128})),
    "gemma2": ("gemma2", Gemma2Config(**{**SIZES, "tie_word_embeddings": True})),
    "gemma3": ("gemma3", Gemma3TextConfig(**{**SIZES, "tie_word_embeddings": True})),
    "qwen3_moe": (
        "qwen3moe",
        Qwen3MoeConfig(
            **{**SIZES, "head_dim": 128},
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=768,
            decoder_sparse_step=1,
        ),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_every_tensor_is_that_of_transformers(tmp_path: Path, family: str, kind: str) -> None:
    architecture, config = FAMILIES[family]
    tensors = random_tensors(config, 3)
    path = write_gguf(tmp_path / f"tiny.{kind}.gguf", config, architecture, tensors, as_kind(kind))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    opened = open_checkpoint(ModelSource(str(path)))
    assert type(opened.architecture.model) is type(theirs)
    state = theirs.state_dict()
    wanted = {name for name in state if opened.architecture.canonical[name] == name}
    assert opened.naming.targets.keys() == wanted
    for name in wanted:
        got = opened.load(name)
        assert got.dtype == torch.float32 and torch.equal(got, state[name]), name
        if kind == "F32":  # and they are the numbers that were written, but for the 1 that was added to norms
            exact = torch.allclose(got, tensors[name], atol=1e-6) if "norm" in name else torch.equal(got, tensors[name])
            assert exact, name


@pytest.mark.parametrize("family", ["qwen3", "qwen3_moe"])
def test_sizes_that_transformers_leaves_out_are_read(tmp_path: Path, family: str) -> None:
    architecture, config = FAMILIES[family]
    config = type(config)(**{**config.to_dict(), "head_dim": 32, "moe_intermediate_size": 32})  # not the defaults
    tensors = random_tensors(config, 5)
    path = write_gguf(tmp_path / "a.gguf", config, architecture, tensors, as_kind("F32"))
    opened = open_checkpoint(ModelSource(str(path)))
    assert opened.config.head_dim == 32
    assert opened.naming.targets.keys() == tensors.keys()
    assert all(torch.equal(opened.load(name), tensors[name]) for name in tensors)


def write_lfm2(path: Path) -> Path:
    """Write a tiny LFM2, whose settings are some of its own."""
    config = Lfm2Config(**{**SIZES, "num_hidden_layers": 3, "tie_word_embeddings": True, "layer_types":
                           ["conv", "full_attention", "conv"]}, block_auto_adjust_ff_dim=False)  # fmt: skip
    config.head_dim = config.hidden_size // config.num_attention_heads
    tensors = {
        name: tensor.squeeze(1) if tensor.dim() == 3 else tensor for name, tensor in random_tensors(config, 4).items()
    }
    return write_gguf(path, config, "lfm2", tensors, as_kind("Q8_0"))


def test_an_architecture_with_a_table_of_conversions_is_read_by_it(tmp_path: Path) -> None:
    path = write_lfm2(tmp_path / "tiny.gguf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32).state_dict()
    opened = open_checkpoint(ModelSource(str(path)))
    assert any("conv" in name for name in opened.naming.targets)
    for name in opened.naming.targets:
        assert torch.equal(opened.load(name), theirs[name]), name


def q4_k(data: np.ndarray) -> np.ndarray:
    """Blocks of 256 numbers in 144 bytes: two float16 factors, 12 bytes of scales and minima, 4 bits each number."""
    data[:, :4] = np.frombuffer(np.array([0.01, 0.02], np.float16).tobytes(), np.uint8)
    return data


def q6_k(data: np.ndarray) -> np.ndarray:
    """Blocks of 256 numbers in 210 bytes, the factor at the end."""
    data[:, -2:] = np.frombuffer(np.array([0.003], np.float16).tobytes(), np.uint8)
    return data


def by_definition(kind: str, block: bytes) -> np.ndarray:
    """The numbers of a block, as ggml defines them, one at a time."""
    factor = float(np.frombuffer(block[:2], np.float16)[0])
    if kind == "Q8_0":
        return np.array([factor * one for one in np.frombuffer(block[2:], np.int8).tolist()], np.float32)
    low = float(np.frombuffer(block[2:4], np.float16)[0]) if kind == "Q4_1" else -8 * factor
    packed = block[4:] if kind == "Q4_1" else block[2:]
    nibbles = [one & 15 for one in packed] + [one >> 4 for one in packed]
    return np.array([factor * one + low for one in nibbles], np.float32)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q4_K", "Q6_K", "IQ4_XS"])
def test_each_type_is_dequantised_as_it_is_defined(tmp_path: Path, kind: str) -> None:
    config = LlamaConfig(**{**SIZES, "hidden_size": 256, "intermediate_size": 768})
    name = "model.layers.1.mlp.down_proj.weight"
    rng = np.random.default_rng(7)
    written: dict[str, np.ndarray] = {}
    block, size = gguf.GGML_QUANT_SIZES[KINDS[kind]]

    def quantise(own: str, values: np.ndarray) -> tuple[np.ndarray, Any]:
        if own != name:
            return values, KINDS.F32
        if kind in ("Q4_K", "Q6_K", "IQ4_XS"):  # the library reads these, but does not write them
            blocks = rng.integers(0, 256, (values.size // block, size), dtype=np.uint8)
            {"Q4_K": q4_k, "Q6_K": q6_k, "IQ4_XS": q4_k}[kind](blocks)
            written[own] = blocks.reshape(values.shape[0], -1)
        else:
            written[own] = gguf.quantize(values, KINDS[kind])
        return written[own], KINDS[kind]

    path = write_gguf(tmp_path / "a.gguf", config, "llama", random_tensors(config, 6), quantise)
    opened = open_checkpoint(ModelSource(str(path)))
    got = opened.load(name)
    data = np.ascontiguousarray(written[name]).view(np.uint8)
    if kind in ("Q8_0", "Q4_0", "Q4_1"):
        blocks = data.reshape(-1, size)
        wanted = np.concatenate([by_definition(kind, one.tobytes()) for one in blocks]).reshape(256, 768)
        assert np.allclose(got.numpy(), wanted, rtol=1e-6, atol=1e-9)  # ggml itself adds and multiplies in float32
    elif kind in ("F32", "F16", "BF16"):
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
        assert torch.equal(got, torch.from_numpy(data.copy()).view(dtype).float())
    elif kind != "Q5_0":  # transformers has another implementation, with torch
        dequant = pytest.importorskip("transformers.integrations.gguf.dequant")
        theirs = dequant.dequantize(torch.from_numpy(data.copy()), int(KINDS[kind]))
        assert torch.allclose(got, theirs.reshape(256, 768), rtol=1e-5, atol=1e-7)
    assert torch.equal(got, torch.from_numpy(gguf.dequantize(written[name], KINDS[kind])).reshape(256, 768))
    assert str(opened.dtype) == {"F16": "torch.float32", "BF16": "torch.float32", "F32": "torch.float32"}.get(
        kind, "torch.bfloat16"
    )


def test_a_gguf_file_merges_with_the_folder_that_it_was_converted_from(tmp_path: Path) -> None:
    config = LlamaConfig(**SIZES, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1)
    tensors = random_tensors(config, 9)
    path = write_gguf(tmp_path / "a.gguf", config, "llama", tensors, as_kind("Q8_0"))
    original = AutoModelForCausalLM.from_config(config)
    original.load_state_dict(tensors)
    original.save_pretrained(tmp_path / "original")
    source = ModelSource(str(path))
    assert open_checkpoint(source).config.rms_norm_eps == 1e-5  # which float32 cannot hold
    AutoTokenizer.from_pretrained(locate(source)).save_pretrained(tmp_path / "original")
    out = merge_to_disk(half_and_half(ModelSource(str(tmp_path / "original")), source), tmp_path / "out")
    made = tensors_of(out)
    assert all((made[name] - tensors[name]).abs().max() < 0.01 for name in tensors)  # half of what 8 bits take


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two models of one family, one in 4 bits and one in float16."""
    architecture, config = FAMILIES["llama"]
    (tmp_path / "b").mkdir()
    return (
        write_gguf(tmp_path / "one.Q4_0.gguf", config, architecture, random_tensors(config, 1), as_kind("Q4_0"),
                   general__license="apache-2.0"),
        write_gguf(tmp_path / "b" / "other.F16.gguf", config, architecture, random_tensors(config, 2), as_kind("F16")),
    )  # fmt: skip


def half_and_half(*sources: ModelSource, **settings: Any) -> Recipe:
    return Recipe("linear", tuple(Parent(f"m{i}", source) for i, source in enumerate(sources)), **settings)


@pytest.mark.parametrize(("first", "dtype"), [(0, "bfloat16"), (1, "float16")])
def test_a_merge_of_gguf_files_is_a_folder_that_transformers_loads(
    tmp_path: Path, pair: tuple[Path, Path], first: int, dtype: str
) -> None:
    sources = (ModelSource(str(pair[0])), ModelSource(str(pair[1].parent), file=pair[1].name))
    ordered = sources if first == 0 else sources[::-1]
    out = merge_to_disk(half_and_half(*ordered), tmp_path / "out")
    assert not list(out.glob("*gguf*"))
    one, other = (open_checkpoint(source) for source in ordered)
    for name, tensor in tensors_of(out).items():
        exact = (one.load(name).double() + other.load(name).double()) / 2
        assert str(tensor.dtype) == f"torch.{dtype}"
        assert torch.equal(tensor, exact.float().to(tensor.dtype)), name
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == dtype and config["architectures"] == ["LlamaForCausalLM"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    answer = model.generate(**tokenizer("abc", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > len(tokenizer("abc").input_ids)
    assert len(tokenizer) == config["vocab_size"] == 96  # no token of another model's
    assert tokenizer.chat_template == "{{ messages[0].content }}" and model.generation_config.eos_token_id == 1
    # A merge that names the type gives that.
    named = merge_to_disk(half_and_half(*ordered, dtype="float32"), tmp_path / "named")
    assert {str(tensor.dtype) for tensor in tensors_of(named).values()} == {"torch.float32"}


def test_a_gguf_file_merges_with_the_safetensors_of_its_family(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    folder = merge_to_disk(Recipe("passthrough", (Parent("a", ModelSource(str(pair[1]))),)), tmp_path / "plain")
    out = merge_to_disk(half_and_half(ModelSource(str(folder)), ModelSource(str(pair[0]))), tmp_path / "out")
    one, other = load_file(folder / "model.safetensors"), open_checkpoint(ModelSource(str(pair[0])))
    for name, tensor in tensors_of(out).items():
        exact = (one[name].double() + other.load(name).double()) / 2
        assert tensor.dtype == torch.float16 and torch.equal(tensor, exact.float().to(torch.float16)), name


def test_a_split_model_is_read_from_all_of_its_files(tmp_path: Path) -> None:
    architecture, config = FAMILIES["llama"]
    tensors = random_tensors(config, 8)
    late = ("lm_head.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight")
    names = [tmp_path / f"m.Q8_0-0000{i}-of-00002.gguf" for i in (1, 2)]
    write_gguf(names[0], config, architecture, tensors, as_kind("Q8_0"), only=lambda name: name not in late)
    write_gguf(names[1], config, architecture, tensors, as_kind("Q8_0"), only=lambda name: name in late)
    whole = write_gguf(tmp_path / "whole.gguf", config, architecture, tensors, as_kind("Q8_0"))
    wanted = open_checkpoint(ModelSource(str(whole)))
    for name in names:  # whichever is named
        opened = open_checkpoint(ModelSource(str(tmp_path), file=name.name))
        assert not opened.config.tie_word_embeddings  # though the head is not in the first file
        assert opened.naming.targets == wanted.naming.targets
        assert all(torch.equal(opened.load(one), wanted.load(one)) for one in wanted.naming.targets)
    names[1].unlink()
    with pytest.raises(CheckpointError, match=r"lacks m\.Q8_0-00002-of-00002.gguf beside"):
        open_checkpoint(ModelSource(str(names[0])))


def test_the_bytes_of_the_file_count_and_the_folder_is_made_once(
    pair: tuple[Path, Path], cache: Path, tmp_path: Path
) -> None:
    source = ModelSource(str(pair[0]))
    folder = locate(source)
    made = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert locate(source) == folder and {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == made
    assert [path.name for path in cache.iterdir()] == [folder.name]  # nothing half-made stays
    before, print_before = checkpoint_contents(folder, {}), fingerprint(folder, whole=True)
    assert before[pair[0].name][0] == "weights" and "tokenizer.json" in before
    assert read_model_file(source, "README.md") == (folder / "README.md").read_text()
    assert 'license: "apache-2.0"' in (folder / "README.md").read_text()
    copy = tmp_path / "elsewhere" / pair[0].name
    copy.parent.mkdir()
    copy.write_bytes(pair[0].read_bytes())
    assert fingerprint(locate(ModelSource(str(copy))), whole=True) == print_before  # whatever its place
    data = bytearray(pair[0].read_bytes())
    data[-7] ^= 1
    pair[0].write_bytes(data)
    os.utime(pair[0], ns=(1, 1))
    after = locate(source)
    assert after != folder  # a folder says of which file it was made
    assert fingerprint(after, whole=True) != print_before


def test_what_is_wrong_with_a_gguf_file_is_said(tmp_path: Path, pair: tuple[Path, Path], cache: Path) -> None:
    def refused(match: str, path: str | Path = pair[0], **source: Any) -> None:
        with pytest.raises(CheckpointError, match=match):
            open_checkpoint(ModelSource(str(path), **source))

    refused("has no file x.gguf; it has one.Q4_0.gguf", tmp_path, file="x.gguf")
    refused("`file` names the GGUF file", tmp_path, file="model.safetensors")
    refused("there is no file", tmp_path / "nowhere.gguf")
    (tmp_path / "config.json").write_text(json.dumps(LlamaConfig(**SIZES).to_dict()))
    refused(r"one.Q4_0.gguf; to read one of them, write \{path: …, file: one.Q4_0.gguf\}", tmp_path)
    data = pair[0].read_bytes()
    for cut in (len(data) // 2, 200, 10):
        pair[0].write_bytes(data[:cut])
        refused("no whole GGUF file.*download it again")
    pair[0].write_bytes(b"x" * 1000)
    refused("no whole GGUF file")
    assert not list(cache.iterdir())  # nothing that looks whole


def test_a_damaged_folder_of_the_cache_is_named(pair: tuple[Path, Path]) -> None:
    source = ModelSource(str(pair[0]))
    table = locate(source) / "gguf_tensors.json"
    table.write_text(table.read_text()[:100])
    with pytest.raises(CheckpointError, match=r"gguf_tensors\.json is damaged .* made again"):
        open_checkpoint(source)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint_contents(table.parent, {})


def test_an_architecture_that_transformers_does_not_know_is_refused(tmp_path: Path) -> None:
    _, config = FAMILIES["llama"]
    tensors = random_tensors(config, 1)
    path = write_gguf(tmp_path / "a.gguf", config, "minicpm", tensors, as_kind("F16"))
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/[^ ]*\.gguf \(architecture minicpm.*merge the safetensors"):
        open_checkpoint(ModelSource(str(path)))


def test_without_the_library_the_line_that_installs_it_is_said(pair: tuple[Path, Path], monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(CheckpointError, match=r"pip install 'evomerge\[gguf\]'"):
        open_checkpoint(ModelSource(str(pair[0])))


def test_a_scaled_rope_that_transformers_leaves_out_is_told(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    architecture, config = FAMILIES["llama"]
    add = gguf.GGUFWriter.write_header_to_file

    def with_rope(self: Any, *arguments: Any) -> None:
        self.add_tensor("rope_freqs.weight", np.ones(16, np.float32))
        add(self, *arguments)

    monkeypatch.setattr(gguf.GGUFWriter, "write_header_to_file", with_rope)
    path = write_gguf(tmp_path / "a.gguf", config, architecture, random_tensors(config, 1), as_kind("F16"))
    open_checkpoint(ModelSource(str(path)))
    assert "its rope is scaled (rope_freqs.weight)" in caplog.text


def test_a_file_without_a_vocabulary_has_no_tokenizer(
    tmp_path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    architecture, config = FAMILIES["llama"]
    monkeypatch.setattr(gguf.GGUFWriter, "add_tokenizer_model", lambda self, name: None)
    path = write_gguf(tmp_path / "a.gguf", config, architecture, random_tensors(config, 1), as_kind("F16"))
    opened = open_checkpoint(ModelSource(str(path)))
    assert not (opened.folder / "tokenizer.json").exists()
    assert "cannot rebuild its tokenizer" in caplog.text and "let another model lend one" in caplog.text


def test_a_search_keeps_dequantised_tensors_within_its_budget(pair: tuple[Path, Path], monkeypatch: Any) -> None:
    loaded: list[str] = []
    load = GgufCheckpoint.load
    monkeypatch.setattr(GgufCheckpoint, "load", lambda self, name: (loaded.append(name), load(self, name))[1])
    sources = Sources(cache=1.0, keep=True)
    opened = sources.open(ModelSource(str(pair[0])))
    names = sorted(opened.tensors.infos)
    first = [opened.load(name) for name in names]
    n = len(loaded)
    assert all(opened.load(name) is tensor for name, tensor in zip(names, first, strict=True)) and len(loaded) == n
    loaded.clear()
    largest = max(info.n_bytes for info in opened.tensors.infos.values())
    small = Sources(cache=largest * 1.5 / 2**30, keep=True).open(ModelSource(str(pair[0])))
    for _ in range(2):
        for name, tensor in zip(names, first, strict=True):
            assert torch.equal(small.load(name), tensor)
    kept = 2 * len(names) - len(loaded)
    assert 0 < kept < len(names)
    loaded.clear()
    once = Sources(cache=1.0).open(ModelSource(str(pair[0])))  # a merge to disk reads each tensor once, and keeps none
    assert all(once.load(names[0]) is not first[0] for _ in range(2)) and len(loaded) == 2
