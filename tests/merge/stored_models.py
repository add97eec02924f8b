"""Tiny models stored in other ways than safetensors of plain numbers: pickles, fp8, GGUF."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

SINGLE = "model.safetensors"
KINDS = gguf.GGMLQuantizationType

SIZES = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 128, "tie_word_embeddings": False,
}  # fmt: skip


def as_pickle(folder: Path, n_files: int = 1, **options: Any) -> Path:
    """Store a folder's weights as pytorch_model.bin, in one file or several with an index."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / SINGLE).items()}
    (folder / SINGLE).unlink()
    if n_files == 1:
        torch.save(tensors, folder / "pytorch_model.bin", **options)
        return folder
    names = sorted(tensors)
    shards = [names[i::n_files] for i in range(n_files)]
    files = [f"pytorch_model-{i + 1:05}-of-{n_files:05}.bin" for i in range(n_files)]
    for file, mine in zip(files, shards, strict=True):
        torch.save({name: tensors[name] for name in mine}, folder / file, **options)
    weight_map = {name: file for file, mine in zip(files, shards, strict=True) for name in mine}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def as_fp8(folder: Path, quantisation: dict[str, Any], scale_shape: Any, end: str, kind: Any = torch.float32) -> Path:
    """Store the matrices of a folder's layers as fp8 with random scales; the rest stays."""
    generator = torch.Generator().manual_seed(5)
    tensors = load_file(folder / SINGLE)
    for name in [name for name in tensors if "_proj.weight" in name]:
        tensor = tensors[name].float()
        tensors[name] = (tensor * 300).to(torch.float8_e4m3fn)
        scale = torch.rand(scale_shape(*tensor.shape), generator=generator) / 300 + 1e-4
        tensors[name + end] = (scale * 0 + 2.0**-8 if kind == torch.float8_e8m0fnu else scale).to(kind)
        tensors[name.replace(".weight", ".input_scale")] = torch.ones(1)
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantisation}))
    return folder


def fine_grained(*blocks: int) -> dict[str, Any]:
    return {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": list(blocks) or None}


def compressed(strategy: str, **scheme: Any) -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": strategy, **scheme}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }


def blockwise(rows: int, columns: int) -> Any:
    return lambda m, n: (-(-m // rows), -(-n // columns))


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp does to the rows of queries and keys of a Llama: of each head, halves become pairs."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    config: Any,
    architecture: str,
    tensors: dict[str, torch.Tensor],
    quantise: Callable[[str, np.ndarray], tuple[np.ndarray, Any]],
    *,
    only: Callable[[str], bool] = lambda name: True,
    **metadata: Any,
) -> Path:
    """Write a model as llama.cpp's converter does, by the table of names of the library `gguf`."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    convolutional = [kind == "conv" for kind in getattr(config, "layer_types", None) or []]
    writer.add_head_count_kv(
        [0 if one else config.num_key_value_heads for one in convolutional] if any(convolutional)
        else config.num_key_value_heads
    )  # fmt: skip
    if any(convolutional):
        writer.add_shortconv_l_cache(config.conv_L_cache)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(config.vocab_size)
    if hasattr(config, "num_experts"):
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    alphabet = [chr(i) for i in range(33, 33 + config.vocab_size - 3)] + ["ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "</s>", *alphabet])
    writer.add_token_types([3, 3, *[1] * len(alphabet)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages[0].content }}")
    for key, value in metadata.items():
        writer.add_string(key.replace("__", "."), value)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), config.num_hidden_layers)
    for name, tensor in converted(tensors, architecture, config).items():
        known = names.get_name(name.removesuffix(".weight").removesuffix(".bias"))
        ending = next((end for end in (".weight", ".bias") if name.endswith(end)), ".weight")
        if only(name):
            data, kind = quantise(name, np.ascontiguousarray(tensor))
            writer.add_tensor(known + ending, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def converted(tensors: dict[str, torch.Tensor], architecture: str, config: Any) -> dict[str, np.ndarray]:
    """Undo what makes transformers' tensors differ from llama.cpp's: rows of heads, norms around 1, stacked experts."""
    found: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        value = tensor.float().numpy()
        if architecture == "llama" and ".q_proj." in name:
            value = permuted(value, config.num_attention_heads)
        if architecture == "llama" and ".k_proj." in name:
            value = permuted(value, config.num_key_value_heads)
        if architecture.startswith("gemma") and "norm" in name:
            value = value + 1
        if name.endswith("experts.gate_up_proj"):
            half = value.shape[1] // 2
            found[name.replace("gate_up_proj", "gate_proj.weight")] = value[:, :half]
            found[name.replace("gate_up_proj", "up_proj.weight")] = value[:, half:]
        elif name.endswith("experts.down_proj"):
            found[f"{name}.weight"] = value
        else:
            found[name] = value
    return found


def as_kind(kind: str) -> Callable[[str, np.ndarray], tuple[np.ndarray, Any]]:
    """Matrices in a type that the library can write; the rest in float32, as converters do."""

    def quantise(name: str, values: np.ndarray) -> tuple[np.ndarray, Any]:
        chosen = KINDS.F32 if values.ndim == 1 or values.shape[-1] % 32 else KINDS[kind]
        return gguf.quantize(values, chosen), chosen

    return quantise
