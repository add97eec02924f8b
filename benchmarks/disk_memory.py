"""The peak memory of merges from folders to a folder, against the bound: largest tensor × (models + 2) + one shard.

    python benchmarks/disk_memory.py [--quick] [--json] [--models FOLDER] [--kinds …] [--shard-mb N]

Each merge runs in a process of its own, which merges a tiny model of the same kind first: imports, compiled kernels and
what libraries keep for themselves are then there, and only what grows with the model is measured, as the kernel sees it
(VmHWM, reset before the merge): the memory of the process and the pages of files that it has mapped. Random bf16
models of Qwen2.5-1.5B's shapes with a head of its own, sharded (1.78 billion parameters, three parents and a base; with
`--quick` 1/20 of that). Methods that decompose matrices get few layers, since memory does not grow with them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS: dict[str, dict[str, Any]] = {
    "linear": {"method": "linear", "parents": "abc"},
    "slerp": {"method": "slerp", "parents": "ab", "parameters": {"t": 0.4}},
    "dare_ties": {"method": "dare_ties", "parents": "abc", "base": True, "parameters": {"density": 0.5}},
    "consensus_ta": {"method": "consensus_ta", "parents": "abc", "base": True},
    "compeft": {"method": "compeft", "parents": "abc", "base": True},
    "adapters": {"method": "linear", "parents": "xyz", "made": "adapter"},
    "adapters by dare_ties": {"method": "dare_ties", "parents": "xyz", "made": "adapter", "base": True},
    "fp8": {"method": "linear", "parents": "fgh", "made": "fp8", "wide": True},
    "GGUF": {"method": "linear", "parents": "pq", "made": "gguf", "wide": True},
    "tsv_m": {"method": "tsv_m", "parents": "abc", "base": True, "few": True},
    "knots": {"method": "knots", "parents": "abc", "base": True, "few": True},
    "iso_c": {"method": "iso_c", "parents": "abc", "base": True, "few": True},
    "opcm with state": {"method": "opcm", "parents": "abc", "base": True, "few": True, "state": True},
    "layer path": {"method": "passthrough", "parents": "ab", "path": True},
    "recipe as a parent": {"method": "linear", "parents": "abc", "nested": True},
    "union of vocabularies": {"method": "linear", "parents": "au", "union": True},
}
SIZES = {
    False: {"vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "heads": 12},
    True: {"vocab_size": 20480, "hidden_size": 768, "intermediate_size": 1024, "num_hidden_layers": 20, "heads": 12},
}
TINY = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "heads": 4}
FEW = 2


def write_models(
    folder: Path, sizes: dict[str, int], layers: int, shard_bytes: int, made: set[str], *, linked: bool = False
) -> int:
    """Write base, a, b and c, sharded, one tensor at a time; return the bytes of the largest tensor.

    Args:
        made: which variants of them to write: "adapter", "fp8", "gguf".
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = Qwen2Config(
        **{key: value for key, value in sizes.items() if key != "heads"} | {"num_hidden_layers": layers},
        num_attention_heads=sizes["heads"], num_key_value_heads=2, tie_word_embeddings=False, dtype="bfloat16",
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(one.shape) for name, one in model.named_parameters()}
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    for k, who in enumerate(("base", "a", "b", "c")):
        out = folder / who
        if linked and k:  # pages of one file count for each model that has mapped it
            shutil.copytree(folder / "base", out, copy_function=os.link)
            continue
        out.mkdir(parents=True)
        config.save_pretrained(out)
        write_tokenizer(out, sizes["vocab_size"], "w")
        places, shard, size, n = {}, {}, 0, 0
        for i, (name, shape) in enumerate([*shapes.items(), ("", (0,))]):
            n_bytes = 2 * int(torch.tensor(shape).prod())
            if shard and (not name or size + n_bytes > shard_bytes):
                n += 1
                save_file(shard, out / f"part-{n}.safetensors", metadata={"format": "pt"})
                places |= dict.fromkeys(shard, f"part-{n}.safetensors")
                shard, size = {}, 0
            if name:
                count, start = n_bytes // 2, 977 * (7 * i + k)
                rolled = noise.roll(start)
                shard[name] = rolled.repeat(-(-count // len(noise)))[:count].reshape(shape).clone()
                size += n_bytes
        index = {"metadata": {}, "weight_map": places}
        (out / "model.safetensors.index.json").write_text(json.dumps(index))
    shutil.copytree(folder / "b", folder / "u", copy_function=os.link)
    for path in (folder / "u").glob("token*"):
        path.unlink()
    write_tokenizer(folder / "u", sizes["vocab_size"], "own")
    if "adapter" in made:
        write_adapters(folder, shapes)
    if "fp8" in made:
        write_fp8(folder, shapes)
    if "gguf" in made:
        write_gguf(folder / "p.gguf", shapes, config)
        os.link(folder / "p.gguf", folder / "q.gguf")
    return max(2 * int(torch.tensor(shape).prod()) for shape in shapes.values())


def write_adapters(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write adapters x, y, z on the base."""
    import torch
    from safetensors.torch import save_file

    small = torch.Generator().manual_seed(1)
    for who in "xyz":
        out, rank, prefix = folder / who, 8, "base_model.model."
        out.mkdir()
        factors = {}
        for name, (rows, *columns) in shapes.items():
            if name.endswith(("q_proj.weight", "v_proj.weight")):
                module = prefix + name.removesuffix(".weight")
                factors[f"{module}.lora_A.weight"] = torch.randn(rank, *columns, generator=small)
                factors[f"{module}.lora_B.weight"] = torch.randn(rows, rank, generator=small) * 0.01
        save_file(factors, out / "adapter_model.safetensors", metadata={"format": "pt"})
        settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
        base = {"base_model_name_or_path": str((folder / "base").resolve()), "bias": "none", "task_type": "CAUSAL_LM"}
        (out / "adapter_config.json").write_text(json.dumps(settings | base))


def write_fp8(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write models f, g, h in fp8 with a scale for each row."""
    import torch
    from safetensors.torch import save_file

    small = torch.Generator().manual_seed(2)
    tensors: dict[str, Any] = {}
    for name, shape in shapes.items():
        values = torch.randn(64, *shape[1:], generator=small).repeat(-(-shape[0] // 64), *[1] * (len(shape) - 1))
        values = values[: shape[0]]
        if len(shape) == 2:  # embedding and head, too, which are the largest
            tensors[name] = values.clamp_(-4, 4).to(torch.float8_e4m3fn)
            tensors[f"{name}_scale"] = torch.full((shape[0], 1), 0.02)
        else:
            tensors[name] = values.bfloat16()
    (folder / "f").mkdir()
    save_file(tensors, folder / "f" / "model.safetensors", metadata={"format": "pt"})
    shutil.copytree(folder / "base", folder / "f", ignore=shutil.ignore_patterns("part-*", "*.index.json"),
                    dirs_exist_ok=True)  # fmt: skip
    scheme = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
    quantisation = {
        "quant_method": "compressed-tensors", "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme}},
    }  # fmt: skip
    said = json.loads((folder / "f" / "config.json").read_text())
    (folder / "f" / "config.json").write_text(json.dumps({**said, "quantization_config": quantisation}))
    for who in "gh":
        shutil.copytree(folder / "f", folder / who, copy_function=os.link)


def write_gguf(path: Path, shapes: dict[str, tuple[int, ...]], config: Any) -> None:
    """Write a file of 8-bit weights (Q8_0), as llama.cpp's converter names them."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "</s>", *(chr(33 + i) for i in range(config.vocab_size - 3)), '!"'])
    writer.add_token_types([3, 3, *[1] * (config.vocab_size - 2)])
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, shape in shapes.items():
        stem, _, end = name.rpartition(".")
        if len(shape) == 1:
            writer.add_tensor(f"{names.get_name(stem)}.{end}", np.ones(shape, np.float32))
        else:
            block = gguf.quantize(np.random.default_rng(2).standard_normal((1, shape[1]), np.float32) * 0.02, kind)
            writer.add_tensor(f"{names.get_name(stem)}.{end}", block.repeat(shape[0], 0), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer(folder: Path, n: int, last: str) -> None:
    """Write a tokenizer of words, of which the last eight have names of the model's own."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    words = {end if i == 2 else f"{last if i >= n - 8 else 'w'}{i}": i for i in range(n)}
    made = Tokenizer(WordLevel(words, unk_token="w0"))
    made.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, unk_token="w0").save_pretrained(folder)


def recipe(kind: str, folder: Path, layers: int) -> dict[str, Any]:
    """Return the recipe of a kind of merge."""
    asked = KINDS[kind]
    parents: dict[str, Any] = {who: {"path": str(folder / (f"{who}.gguf" if asked.get("made") == "gguf" else who))}
                               for who in asked["parents"]}  # fmt: skip
    data: dict[str, Any] = {"method": asked["method"], "parents": parents}
    if asked.get("base"):
        data["base"] = {"path": str(folder / "base")}
    if "parameters" in asked:
        data["parameters"] = asked["parameters"]
    if asked.get("path"):
        data["path"] = [{"parent": "ab"[i % 2], "layers": [i, i + 1]} for i in range(layers)]
        data["path"][1]["scale"] = 0.7
    if asked.get("nested"):
        inner = {"method": "linear", "parents": {who: parents[who] for who in "bc"}}
        data["parents"] = {"a": parents["a"], "inner": {"recipe": inner}}
    if asked.get("union"):
        data["tokenizer"] = {"source": "union"}
    return data


def measured(kind: str, folder: Path, warm: Path, layers: int, shard: int) -> dict[str, float]:
    """Merge in this process, and return how much its memory grew at most, in bytes."""
    from evomerge import api
    from evomerge.merge.files.formats import gguf_folder
    from evomerge.recipe import Recipe

    # Beside the models, and not by XDG_CACHE_HOME, where compiled kernels are, too.
    gguf_folder.cache_folder = lambda: folder / "cache"  # type: ignore[assignment]

    def merge(models: Path, out: Path, n_layers: int) -> None:
        state = out.with_name(f"{out.name}-state") if KINDS[kind].get("state") else None
        api.merge(Recipe.from_data(recipe(kind, models, n_layers)), out, shard_size=shard, save_state=state)

    merge(warm, warm / "out", TINY["num_hidden_layers"])
    before = _memory("VmRSS"), _memory("RssAnon")
    Path("/proc/self/clear_refs").write_text("5")
    merge(folder, folder / "out", layers)
    return {"peak": _memory("VmHWM") - before[0], "before": before[0]}


def _memory(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="models of 1/20 of the size")
    parser.add_argument("--json", action="store_true", help="print one object: kind to peak / bound")
    parser.add_argument("--models", type=Path, help="where to write the models (removed at the end)")
    parser.add_argument(
        "--linked", action="store_true", help="the models are one, under several names: a quarter of the disk"
    )
    parser.add_argument("--kinds", help=f"of {', '.join(KINDS)}; separated by commas")
    parser.add_argument("--shard-mb", type=int, help="largest weight file (default: 1 GB; with --quick 8 MB)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    shard = (arguments.shard_mb or (8 if arguments.quick else 1000)) * 1_000_000
    if arguments.child:
        kind, folder, warm, layers = arguments.child
        print(json.dumps(measured(kind, Path(folder), Path(warm), int(layers), shard)))
        return
    sizes = SIZES[arguments.quick]
    kinds = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    rows = {}
    with tempfile.TemporaryDirectory(prefix="disk_memory-", dir=arguments.models) as name:
        work = Path(name)
        wanted = {KINDS[kind].get("made", "") for kind in kinds}
        write_models(work / "tiny", TINY, TINY["num_hidden_layers"], 20_000, wanted)
        for few in sorted({bool(KINDS[kind].get("few")) for kind in kinds}):
            layers = FEW if few else sizes["num_hidden_layers"]
            largest = write_models(work / "models", sizes, layers, shard, wanted, linked=arguments.linked)
            total = sum(path.stat().st_size for path in (work / "models" / "a").glob("*.safetensors"))
            for kind in (one for one in kinds if bool(KINDS[one].get("few")) == few):
                for place in ("models", "tiny"):
                    for made in (work / place).glob("out*"):
                        shutil.rmtree(made)
                words = [str(work / "models"), str(work / "tiny"), str(layers), "--shard-mb", str(shard // 1_000_000)]
                command = [sys.executable, __file__, "--child", kind, *words]
                done = subprocess.run(
                    command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"}
                )
                if done.returncode:
                    raise SystemExit(f"{kind} failed:\n{done.stderr[-3000:]}")
                found = json.loads(done.stdout.splitlines()[-1])
                n_models = len(KINDS[kind]["parents"]) + bool(KINDS[kind].get("base"))
                # What is stored in fewer bits is read in fp32. A tensor larger than a shard is a shard of its own.
                bound = largest * (1 + bool(KINDS[kind].get("wide"))) * (n_models + 2) + max(shard, largest)
                rows[kind] = {
                    "largest tensor (MB)": largest / 1e6,
                    "model (MB)": total / 1e6,
                    "models": n_models,
                    "peak (MB)": found["peak"] / 1e6,
                    "bound (MB)": bound / 1e6,
                    "peak / bound": found["peak"] / bound,
                    "layers": layers,
                }
                print(kind, json.dumps({key: round(value, 3) for key, value in rows[kind].items()}), file=sys.stderr)
            shutil.rmtree(work / "models")
    if arguments.json:
        print(json.dumps({kind: round(row["peak / bound"], 3) for kind, row in rows.items()}))
        return
    heads = list(next(iter(rows.values())))
    print(f"| | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for kind, row in rows.items():
        cells = [f"{row[head]:.0f}" if row[head] >= 10 else f"{row[head]:.2f}" for head in heads]
        print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
