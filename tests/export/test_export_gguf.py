"""GGUF files by a llama.cpp of the user; here a script in its place, which writes the format by the library `gguf`."""

import shutil
import stat
import sys
from pathlib import Path

import gguf
import pytest

from evomerge import api
from evomerge.errors import ExportError
from evomerge.export.gguf import CONVERTER, QUANTISER, VARIABLE

SCRIPT = """
import os, sys, json, torch, gguf
from safetensors.torch import load_file
folder, out, kind = sys.argv[1], sys.argv[sys.argv.index("--outfile") + 1], sys.argv[sys.argv.index("--outtype") + 1]
assert "HF_TOKEN" not in os.environ
mode = os.environ.get("FAKE", "")
print("loading", folder)
if mode == "fail":
    sys.exit("this model is not supported: LlamaForCausalLM")
config = json.load(open(folder + "/config.json"))
writer = gguf.GGUFWriter(out, "llama")
writer.add_block_count(config["num_hidden_layers"])
table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
types = {one: gguf.GGMLQuantizationType[one.upper()] for one in ("f32", "q8_0", "bf16")}
for name, tensor in load_file(folder + "/model.safetensors").items():
    made = table.get_name(name, try_suffixes=(".weight",))
    if mode == "lose" and "ffn_down" in made:
        continue
    values = tensor.float().numpy()
    if mode == "other" and "ffn_down" in made:
        values = values[::-1].copy()
    want = types[kind] if values.ndim == 2 and values.shape[-1] % 32 == 0 else types["f32"]
    writer.add_tensor(made, gguf.quants.quantize(values, want), raw_dtype=want)
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
"""
QUANTISE = """#!/bin/sh
[ "$3" = Q4_0 ] || exit 3
FAKE=q8 exec cp "$1" "$2"
"""


@pytest.fixture
def llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "llama.cpp"
    folder.mkdir()
    (folder / CONVERTER).write_text(SCRIPT)
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=48, **sizes, num_key_value_heads=1, bos_token_id=1, eos_token_id=2)
    folder = tmp_path_factory.mktemp("gguf") / "merge"
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_file_is_read_back_and_called_what_it_is(llama_cpp: Path, model: Path, tmp_path: Path) -> None:
    said: list[str] = []
    made = api.to_gguf(model, "q8_0", tmp_path / "out", llama_cpp=llama_cpp, note=said.append)
    assert made == tmp_path / "out" / "merge-Q8_0.gguf" and said == [f"{CONVERTER} writes merge-Q8_0.gguf"]
    assert len(gguf.GGUFReader(str(made)).tensors) == 21
    card = (tmp_path / "out" / "README.md").read_text()
    assert "This is a quantised copy of merge, not the model itself" in card and "read back with 21 tensors" in card
    exact = api.to_gguf(model, "F32", tmp_path / "exact", llama_cpp=llama_cpp, name="mine")
    assert exact.name == "mine-f32.gguf" and "quantised" not in (exact.parent / "README.md").read_text()


def test_types_that_the_converter_does_not_write_need_a_second_program(
    llama_cpp: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(llama_cpp))
    with pytest.raises(ExportError, match=r"q4_0 is written by llama.cpp's llama-quantize, .* f32, f16, bf16, q8_0"):
        api.to_gguf(model, "q4_0", tmp_path / "out")
    program = llama_cpp / "build" / "bin" / QUANTISER
    program.parent.mkdir(parents=True)
    program.write_text(QUANTISE)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    made = api.to_gguf(model, "q4_0", tmp_path / "out")
    assert [path.name for path in sorted(made.parent.iterdir())] == ["README.md", "merge-Q4_0.gguf"]


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fail", r"exit status 1, so nothing was written. It said:\n  loading .*\n  this model is not supported"),
        ("lose", r"lacks 2 of the model's 21 tensors: blk.0.ffn_down.weight"),
        ("other", r"other values than the model in blk.0.ffn_down.weight \(model.layers.0.mlp.down_proj.weight\)"),
    ],
)
def test_what_goes_wrong_is_told_and_leaves_nothing(
    mode: str, said: str, llama_cpp: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", mode)
    with pytest.raises(ExportError, match=said):
        api.to_gguf(model, "q8_0", tmp_path / "out", llama_cpp=llama_cpp)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_without_llama_cpp_it_is_said_how_to_get_it(
    llama_cpp: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match=r"not on the PATH, and LLAMA_CPP names no folder. Get it with `git clone"):
        api.to_gguf(model, "f16", tmp_path / "out")
    with pytest.raises(ExportError, match=r"which is not in /nowhere"):
        api.to_gguf(model, "f16", tmp_path / "out", llama_cpp="/nowhere")
    shutil.copy(llama_cpp / CONVERTER, tmp_path / CONVERTER)
    (tmp_path / CONVERTER).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.executable).parent}")
    assert api.to_gguf(model, "f32", tmp_path / "out").is_file()
