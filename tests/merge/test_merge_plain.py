import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, llama, near, random_tensors, recipe, tensors_of, write_checkpoint
from transformers import MistralConfig, Qwen2Config, Qwen3Config

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.disk.layouts import find_layout
from evomerge.merge.disk.plain import plain_merge
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
from evomerge.merge.files.naming import find_naming
from evomerge.merge.kernels.engine import VARIABLE
from evomerge.merge.methods.registry import find_method
from evomerge.merge.sources import Sources
from evomerge.recipe import Group, ModelSource, Parent, Recipe

SIZES: dict[str, Any] = {
    "vocab_size": 24, "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 11, "num_attention_heads": 4,
    "num_key_value_heads": 2, "hidden_act": "silu",
}  # fmt: skip
CONFIGS = {
    "llama": lambda: llama(num_hidden_layers=11),
    "llama with biases": lambda: llama(attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "mistral": lambda: MistralConfig(**SIZES, head_dim=4, sliding_window=None),
    "qwen2": lambda: Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen2 untied": lambda: Qwen2Config(**SIZES, tie_word_embeddings=False),
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True),
    "qwen3 with biases": lambda: Qwen3Config(**SIZES, head_dim=8, attention_bias=True),
}


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def both_ways(of: Recipe, folder: Path, **options: Any) -> None:
    assert plain_merge(of) is not None
    plain, general = folder / "plain", folder / "general"
    merge_to_disk(of, plain, **options)
    merge_to_disk(of, general, sources=Sources(), **options)
    assert written(plain) == written(general)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_layout_is_what_the_class_has(kind: str, tmp_path: Path) -> None:
    config = CONFIGS[kind]()
    folder = write_checkpoint(tmp_path / "model", random_tensors(config, 0), config)
    layout = find_layout(json.loads((folder / "config.json").read_text()))
    assert layout is not None
    architecture = Architecture(config)
    naming = find_naming(SafetensorsCheckpoint(folder).infos, architecture)
    assert list(layout.shapes) == list(naming.targets)
    assert dict(layout.places) == {name: architecture.places[target] for name, target in naming.targets.items()}
    assert dict(layout.shapes) == {name: architecture.shapes[target] for name, target in naming.targets.items()}
    assert layout.n_layers == architecture.n_layers
    assert not naming.copies
    assert not naming.parts


@pytest.mark.parametrize("kind", CONFIGS)
def test_each_layout_merges_to_the_bytes_of_the_general_way(kind: str, tmp_path: Path) -> None:
    config = CONFIGS[kind]()
    folders = {
        who: write_checkpoint(tmp_path / who, random_tensors(config, seed, "bfloat16"), config)
        for seed, who in enumerate("abc")
    }
    both_ways(recipe("ties", folders["c"], {"a": folders["a"], "b": folders["b"]}), tmp_path, shard_size=5000)


FUSED = ["linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "nuslerp", "multislerp", "karcher",
         "model_stock", "geometric_median", "nearswap"]  # fmt: skip


@pytest.mark.parametrize("method", FUSED)
def test_every_method_writes_the_bytes_of_the_general_way(
    method: str, tmp_path: Path, typed_family: SimpleNamespace
) -> None:
    parents = {"math": typed_family.math, "japanese": typed_family.japanese}
    if method == "nearswap":
        parents.pop("japanese")
    base = typed_family.base if find_method(method).spec.needs_base else None
    both_ways(recipe(method, base, parents), tmp_path)


def test_rows_that_the_kernels_do_not_compute_go_the_general_way(tmp_path: Path, family: SimpleNamespace) -> None:
    parents = {"math": family.math, "japanese": family.japanese}
    by_row = {"groups": (Group({"scope": "row", "weight": {"math": 0.2, "japanese": 0.5}}, roles=("mlp",)),)}
    of = recipe("nuslerp", None, parents, **by_row)
    assert plain_merge(of) is None
    merge_to_disk(of, tmp_path / "rows")
    out, whole = tensors_of(tmp_path / "rows"), tmp_path / "whole"
    merge_to_disk(recipe("nuslerp", None, parents), whole)
    differ = {name for name, tensor in tensors_of(whole).items() if not torch.equal(tensor, out[name])}
    assert differ and all(".mlp." in name for name in differ)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_groups_types_copies_and_tokenizers_too(dtype: str, tmp_path: Path, family: SimpleNamespace) -> None:
    of = recipe("ties", family.base, {"math": family.math, "japanese": family.japanese}, dtype=dtype).to_data()
    of["tokenizer"] = "japanese"
    of["parameters"] = {"weight": 0.7, "scope": "model"}
    of["groups"] = [
        {"layers": [0, 1], "roles": ["mlp", "norm"], "parameters": {"weight": 0.0}},
        {"roles": ["head", "embedding"], "parameters": {"weight": {"math": 1.0, "japanese": 0.0}, "density": 1.0}},
    ]
    both_ways(Recipe.from_data(of), tmp_path)


def test_large_tensors_are_cut_by_tables(tmp_path: Path) -> None:
    config = Qwen2Config(**{**SIZES, "vocab_size": 2500, "num_hidden_layers": 1})
    base = write_checkpoint(tmp_path / "base", random_tensors(config, 0, "bfloat16"), config)
    folders = {}
    for seed, who in enumerate("ab", 1):
        tensors = {name: each * 1.01 + 0.001 * seed for name, each in load_file(base / "model.safetensors").items()}
        folders[who] = write_checkpoint(tmp_path / who, tensors, config)
    both_ways(recipe("ties", base, folders), tmp_path)


UNUSUAL: dict[str, dict[str, Any]] = {
    "another type": {"model_type": "gemma"},
    "an unknown setting": {"something_new": 1},
    "a scaled rope": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "quantised": {"quantization_config": {"quant_method": "gptq"}},
    "another activation": {"hidden_act": "gelu"},
    "no word about the head": {"tie_word_embeddings": None},
    "another shape": {"intermediate_size": 21},
    "one layer more": {"num_hidden_layers": 3},
    "heads that do not divide": {"num_key_value_heads": 3},
    "sizes that are no numbers": {"hidden_size": "16"},
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_is_unusual_goes_the_general_way(what: str, tmp_path: Path, family: SimpleNamespace) -> None:
    changed = near(tmp_path / "changed", family.base, 5)
    of = recipe("linear", None, {"a": changed, "b": family.math})
    assert plain_merge(of) is not None
    edit_config(changed, **UNUSUAL[what])
    assert plain_merge(of) is None


def test_other_tensors_go_the_general_way(tmp_path: Path, family: SimpleNamespace) -> None:
    changed = near(tmp_path / "changed", family.base, 5)
    tensors = load_file(changed / "model.safetensors")
    of = recipe("linear", None, {"a": changed, "b": family.math})
    missing = dict(list(tensors.items())[1:])
    for other in ({**tensors, "more": torch.zeros(2)}, missing, {n: t.double() for n, t in tensors.items()}):
        save_file(other, changed / "model.safetensors", metadata={"format": "pt"})
        assert plain_merge(of) is None


def test_other_sources_and_engines_go_the_general_way(family: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    of = recipe("linear", None, {"a": family.base, "b": family.math})
    nested = Recipe("linear", (Parent("inner", of), Parent("c", ModelSource(str(family.math)))))
    trusted = Recipe("linear", (Parent("a", ModelSource(str(family.base), trust_remote_code=True)),))
    assert plain_merge(nested) is None
    assert plain_merge(trusted) is None
    assert plain_merge(recipe("linear", None, {"gone": family.base / "gone"})) is None
    monkeypatch.setenv(VARIABLE, "torch")
    assert plain_merge(of) is None


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties", "dare_ties"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_general_way_says_which_tensor_is_not_finite(
    method: str, bad: float, tmp_path: Path, family: SimpleNamespace
) -> None:
    folder = near(tmp_path / "bad", family.base, 5)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = bad
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    base = None if method in ("linear", "slerp") else family.base
    of = recipe(method, base, {"bad": folder, "math": family.math})
    assert plain_merge(of) is not None
    with pytest.raises(CheckpointError, match=r"parent 'bad'.*layers\.1\.mlp\.up_proj.*(NaN|Inf)"):
        merge_to_disk(of, tmp_path / "out")
    copied = Recipe.from_data({**recipe("linear", None, {"bad": folder}).to_data()})
    with pytest.raises(CheckpointError, match=r"NaN|Inf"):
        merge_to_disk(copied, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_result_that_does_not_fit_its_type_is_said(tmp_path: Path, family: SimpleNamespace) -> None:
    of = recipe("linear", None, {"a": family.base, "b": family.math}, dtype="float16").to_data()
    of["parameters"] = {"weight": 1e7, "normalize": False}
    with pytest.raises(RecipeError, match="does not fit float16"):
        merge_to_disk(Recipe.from_data(of), tmp_path / "out")


def test_a_plain_merge_loads_neither_torch_nor_transformers(tmp_path: Path, family: SimpleNamespace) -> None:
    of = recipe("ties", family.base, {"a": family.math, "b": family.japanese})
    (tmp_path / "recipe.yaml").write_text(of.to_yaml())
    code = (
        "import sys; from evomerge.cli.main import main; status = main(['merge', *sys.argv[1:]]); "
        "sys.exit(status or ' '.join(sys.modules.keys() & {'torch', 'transformers', 'rich', 'hydra'}) or 0)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    general = tensors_of(merge_to_disk(of, tmp_path / "general", sources=Sources()))
    assert all(torch.equal(each, general[name]) for name, each in tensors_of(tmp_path / "out").items())
