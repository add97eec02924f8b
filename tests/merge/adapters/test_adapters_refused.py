"""Adapters that are no change of their base's weights, or do not fit it: all reasons at once, from headers."""

import json
from pathlib import Path
from typing import Any

import peft_adapters
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.contents import model_contents, model_fingerprint, source_fingerprint
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource

A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    base = tiny_models.make(tmp_path / "base", 0)
    return peft_adapters.adapt(base, tmp_path / "adapter", 1, target_modules=["q_proj", "v_proj"])


def edit(adapter: Path, **changes: Any) -> ModelSource:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return ModelSource(str(adapter))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "of the type IA3"),
        ({"layer_replication": [[0, 2]]}, "it repeats layers"),
        ({"alora_invocation_tokens": [1, 2]}, "only behind certain tokens"),
        ({"init_lora_weights": "pissa_niter_4"}, r"init_lora_weights: pissa_niter_4.*path_initial_model_for_weight"),
        ({"use_other_lora": True}, "sets use_other_lora, of which evomerge does not know"),
        ({"r": 0, "lora_alpha": "x"}, "r must be a whole number above 0, but is 0; lora_alpha must be a number"),
        ({"r": 4}, r"(?s)q_proj.*rank 3, but the configuration says 4.*v_proj.*rank 3, but the configuration says 4"),
        ({"use_dora": True}, "has no lora_magnitude_vector, but use_dora is true"),
        (
            {"rank_pattern": {"(": 3}, "modules_to_save": "lm_head", "use_rslora": "false", "lora_alpha": 10**400},
            "(?s)rank_pattern must be.*use_rslora must be.*modules_to_save must be a list.*lora_alpha must be a number",
        ),
        ({"base_model_name_or_path": "a" * 5000}, "there is no folder aaaa"),
        ({"base_model_name_or_path": None}, r"does not say of which model; write \{path: MODEL, adapter: "),
        ({"base_model_name_or_path": "./base"}, "a folder that is not here but where it was trained"),
        ({"base_model_name_or_path": "/nowhere/base"}, "is an adapter of /nowhere/base, which is not here"),
    ],
)
def test_the_configuration_says_why(changes: dict[str, Any], said: str, adapter: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        Sources().open(edit(adapter, **changes))


def test_a_base_that_is_named_from_where_it_was_trained_is_found_from_there(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(adapter.parent)
    for name in ("base", "./base"):
        opened = Sources().open(edit(adapter, base_model_name_or_path=name))
        assert opened.folder.samefile(adapter.parent / "base")


def test_tensors_that_do_not_fit_are_named_together(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    del tensors[A]
    tensors["base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.zeros(3, 16)
    tensors["base_model.model.model.layers.7.self_attn.q_proj.lora_B.weight"] = torch.zeros(16, 3)
    tensors["base_model.model.score.weight"] = torch.zeros(2, 16)
    tensors[A.replace("layers.0", "layers.1")] = torch.zeros(3, 9)
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        Sources().open(ModelSource(str(adapter)))
    text = str(caught.value)
    for said in ("layers.0.self_attn.q_proj has no lora_A", "has no model.layers.7", "has no score.weight", "9 inputs"):
        assert said in text


def test_values_that_are_no_numbers_are_found_when_they_are_read(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors[A][1, 2] = torch.nan
    save_file(tensors, adapter / "adapter_model.safetensors")
    opened = Sources().open(ModelSource(str(adapter)))
    with pytest.raises(CheckpointError, match=r"lora_A.weight of .* holds NaN"):
        opened.load("model.layers.0.self_attn.q_proj.weight")


def test_a_pickle_needs_permission(adapter: Path) -> None:
    expected = Sources().open(ModelSource(str(adapter)))
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    name = "model.layers.0.self_attn.q_proj.weight"
    values = expected.load(name).clone()
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="allow_pickle: true"):
        Sources().open(ModelSource(str(adapter)))
    assert torch.equal(Sources().open(ModelSource(str(adapter), allow_pickle=True)).load(name), values)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({A: torch.zeros(3, 16, dtype=torch.int8)}, "no floating-point numbers of 16 bits or more"),
        ([torch.zeros(3)], "holds list in place of tensors by name"),
        ({"a": Path("b")}, "asks for more than tensors, so it was not read"),
    ],
)
def test_a_pickle_of_anything_else_is_refused(data: Any, said: str, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(data, adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=said):
        Sources().open(ModelSource(str(adapter), allow_pickle=True))


def test_two_adapters_in_one_file_are_not_mixed(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    both = {name.replace(".weight", f".{mine}.weight"): one for name, one in tensors.items() for mine in ("one", "two")}
    save_file({name: one.clone() for name, one in both.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"lora_A.one.weight and .*lora_A.two.weight mean the same"):
        Sources().open(ModelSource(str(adapter)))


def test_a_tied_head_that_was_trained_apart_is_refused(tmp_path: Path) -> None:
    base = tiny_models.make(tmp_path / "base", 0, tie_word_embeddings=True)
    adapter = peft_adapters.adapt(base, tmp_path / "adapter", 1, target_modules=["q_proj"], modules_to_save=["lm_head"])
    with pytest.raises(CheckpointError, match="was trained apart from what the base ties to it"):
        Sources().open(ModelSource(str(adapter)))


def test_a_folder_with_both_says_what_to_write(tmp_path: Path, adapter: Path) -> None:
    for path in (tmp_path / "base").iterdir():
        (adapter / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="holds a model and an adapter"):
        Sources().open(ModelSource(str(adapter)))
    on_top = Sources().open(ModelSource(str(adapter), adapter=str(adapter)))
    assert len(on_top.tensors.changes) == 4  # type: ignore[attr-defined]


def test_another_adapter_has_other_contents(tmp_path: Path, adapter: Path) -> None:
    alone, named = ModelSource(str(adapter)), ModelSource(str(tmp_path / "base"), adapter=str(adapter))
    before, files = model_fingerprint(Sources().open(named)), model_contents(named, {})
    assert before == source_fingerprint(alone) != source_fingerprint(ModelSource(str(tmp_path / "base")))
    assert {"adapter/adapter_config.json", "adapter/adapter_model.safetensors", "model.safetensors"} <= files.keys()
    peft_adapters.adapt(tmp_path / "base", adapter, 2, target_modules=["q_proj", "v_proj"])
    assert source_fingerprint(named) != before


def test_one_base_under_two_names_is_opened_once(
    tmp_path: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = Sources()
    base, below = sources.open(ModelSource("./base")), sources.open(ModelSource(str(adapter))).tensors.base
    assert base is below  # type: ignore[attr-defined]
    text = sources.open(ModelSource(str(adapter))).tensors.storage  # type: ignore[attr-defined]
    assert "LoRA on" in text
    assert "rank 3, scale 2.66667, 4 of 21 tensors (q_proj, v_proj)" in text
