"""Which settings count: those with which the same weights give another output for the same input."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import edit_config, make, recipe
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.code_words import code_words, other_code
from evomerge.merge.files.settings import setting_differences
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {"vocab_size": 40, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8}
ROPE = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
TYPES = ["full_attention"] * 3


def of(kind: str, **settings: Any) -> dict[str, Any]:
    return {"model_type": kind, **(GPT2 if kind == "gpt2" else SIZES), **settings}


EQUAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "rope in the older spelling": (
        of("llama", rope_parameters=ROPE),
        of("llama", rope_theta=10000, rope_scaling={"type": "linear", "factor": 2}),
    ),
    "rope under both words": (
        of("llama", rope_parameters=ROPE),
        of("llama", rope_scaling={"type": "linear", "rope_type": "linear", "factor": 2}),
    ),
    "llama3 rope in both spellings": (
        of("llama", rope_parameters={**LLAMA3, "rope_theta": 5e5}),
        of("llama", rope_theta=500000, rope_scaling={**LLAMA3, "factor": 8, "low_freq_factor": 1}),
    ),
    "a rope that is scaled by one": (of("llama", rope_parameters={**ROPE, "factor": 1.0}), of("llama")),
    "yarn with its own default written out": (
        of("llama", rope_parameters=YARN),
        of("llama", rope_parameters={**YARN, "beta_fast": 32.0, "beta_slow": 1}),
    ),
    "a default written out": (of("llama", rms_norm_eps=1e-6, head_dim=8), of("llama", head_dim=None)),
    "an epsilon rounded to single precision": (
        of("llama", rms_norm_eps=1e-5),
        of("llama", rms_norm_eps=9.999999747378752e-06),
    ),
    "two names of one activation": (of("llama", hidden_act="silu"), of("llama", hidden_act="swish")),
    "two ways to the same curve": (
        of("gpt2", activation_function="gelu_new"),
        of("gpt2", activation_function="gelu_pytorch_tanh"),
    ),
    "aliases": (of("gpt2"), {**of("gpt2"), "hidden_size": 32, "num_attention_heads": 4}),
    "more positions where none is learned": (of("llama"), of("llama", max_position_embeddings=4096)),
    "a window that no layer uses": (of("qwen2", sliding_window=16, use_sliding_window=False), of("qwen2")),
    "windows beyond the last layer": (
        of("qwen2", sliding_window=16, use_sliding_window=True, max_window_layers=3),
        of("qwen2", layer_types=TYPES),
    ),
    "a pattern or the types of layers": (
        of("gemma3_text", head_dim=8, sliding_window=16, sliding_window_pattern=3),
        of("gemma3_text", head_dim=8, sliding_window=16,
           layer_types=["sliding_attention", "sliding_attention", "full_attention"]),
    ),
    "a window that is said to be none": (of("llama", sliding_window=None), of("llama")),
    "settings that nothing reads": (
        of("llama", dtype="bfloat16", eos_token_id=7, attention_dropout=0.3, initializer_range=0.5, use_cache=False),
        of("llama", torch_dtype="float32", my_note="x", unsloth_version="1", quantised_from={"bits": 4}),
    ),
}  # fmt: skip

DIFFERENT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "epsilon": (of("llama"), of("llama", rms_norm_eps=1e-3), "rms_norm_eps is 1e-06 instead of 0.001"),
    "activation": (of("llama"), of("llama", hidden_act="gelu"), "hidden_act is 'silu' instead of 'gelu'"),
    "rope's factor": (
        of("llama", rope_parameters=ROPE),
        of("llama", rope_scaling={"type": "linear", "factor": 4}),
        "rope_parameters.factor is 2.0 instead of 4",
    ),
    "rope's base": (of("llama", rope_theta=500000.0), of("llama"), "rope_theta is 500000.0 instead of 10000.0"),
    "rope's kind": (of("llama", rope_parameters=YARN), of("llama"), "rope_type is 'yarn' instead of 'default'"),
    "where yarn starts": (
        of("llama", rope_parameters=YARN),
        of("llama", rope_parameters={**YARN, "original_max_position_embeddings": 4096}),
        "original_max_position_embeddings is 32 instead of 4096",
    ),
    "how much of a head turns": (
        of("glm", head_dim=8, partial_rotary_factor=0.5),
        of("glm", head_dim=8, partial_rotary_factor=1.0),
        "partial_rotary_factor is 0.5 instead of 1.0",
    ),
    "a window": (
        of("mistral", sliding_window=16),
        of("mistral", sliding_window=None),
        "sliding_window is 16 instead of not set",
    ),
    "types of layers": (
        of("gemma2", head_dim=8, sliding_window=16),
        of("gemma2", head_dim=8, sliding_window=16, layer_types=TYPES),
        "layer_types is",
    ),
    "a soft cap of scores": (
        of("gemma2", head_dim=8, attn_implementation="eager"),
        of("gemma2", head_dim=8, attn_logit_softcapping=0.1, attn_implementation="eager"),
        "attn_logit_softcapping is 50.0 instead of 0.1",
    ),
    "a soft cap of logits": (
        of("gemma2", head_dim=8),
        of("gemma2", head_dim=8, final_logit_softcapping=1.0),
        "final_logit_softcapping is 30.0 instead of 1.0",
    ),
    "the scale of queries": (
        of("gemma2", head_dim=8, query_pre_attn_scalar=8),
        of("gemma2", head_dim=8, query_pre_attn_scalar=32),
        "query_pre_attn_scalar is 8 instead of 32",
    ),
    "multipliers": (
        of("granite", embedding_multiplier=12.0, logits_scaling=8.0),
        of("granite", residual_multiplier=0.2, attention_multiplier=0.5),
        "embedding_multiplier is 12.0 instead of 1.0",
    ),
    "experts of a token": (
        of("qwen3_moe", **MOE),
        of("qwen3_moe", **{**MOE, "num_experts_per_tok": 3}),
        "num_experts_per_tok is 2 instead of 3",
    ),
    "weights of experts": (
        of("qwen3_moe", **MOE),
        of("qwen3_moe", **MOE, norm_topk_prob=True),
        "norm_topk_prob is False instead of True",
    ),
    "a flag that is on where it is not set": (
        of("llama", is_causal=False),
        of("llama"),
        "is_causal is False instead of not set",
    ),
    "scores by depth": (
        of("gpt2"),
        of("gpt2", scale_attn_by_inverse_layer_idx=True),
        "scale_attn_by_inverse_layer_idx is False instead of True",
    ),
}  # fmt: skip


def opened(settings: dict[str, Any], folder: Path) -> Any:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        names = AutoModelForCausalLM.from_config(config).state_dict()
    save_file({name: torch.zeros(1) for name in names}, folder / "model.safetensors")
    return Sources().open(ModelSource(str(folder)))


def logits(model: Any) -> torch.Tensor:
    """What a model with these settings answers; its weights depend on their names alone."""
    built = AutoModelForCausalLM.from_config(model.config).float().eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            generator = torch.Generator().manual_seed(sum(name.encode()))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1.0 if "norm" in name else 0.4))
        tokens = torch.randint(3, 40, (2, 48), generator=torch.Generator().manual_seed(0))
        found: torch.Tensor = built(tokens, use_cache=False).logits
    return found


@pytest.mark.parametrize("case", EQUAL)
def test_settings_with_the_same_output_do_not_count(case: str, tmp_path: Path) -> None:
    one, other = (opened(settings, tmp_path / str(i)) for i, settings in enumerate(EQUAL[case]))
    assert torch.allclose(logits(one), logits(other), atol=1e-5, rtol=1e-5)
    assert setting_differences(one, other) == {}
    assert setting_differences(other, one) == {}


@pytest.mark.parametrize("case", DIFFERENT)
def test_settings_with_another_output_are_named_with_both_values(case: str, tmp_path: Path) -> None:
    *both, sentence = DIFFERENT[case]
    one, other = (opened(settings, tmp_path / str(i)) for i, settings in enumerate(both))
    assert not torch.allclose(logits(one), logits(other), atol=1e-4, rtol=1e-4)
    assert sentence in "\n".join(setting_differences(one, other).values())
    assert setting_differences(one, other).keys() == setting_differences(other, one).keys()


def test_numbers_of_positions_count_where_angles_follow_the_length(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    one = opened(of("llama", rope_parameters=rope), tmp_path / "one")
    other = opened(of("llama", rope_parameters=rope, max_position_embeddings=32), tmp_path / "other")
    assert not torch.allclose(logits(one), logits(other), atol=1e-4)
    assert list(setting_differences(one, other)) == ["max_position_embeddings"]


def test_code_that_cannot_be_read_leaves_every_setting_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = opened(of("llama"), tmp_path / "one"), opened(of("llama", my_note="x"), tmp_path / "other")
    assert setting_differences(one, other) == {}
    monkeypatch.setattr("evomerge.merge.files.settings.code_words", lambda model: None)
    assert setting_differences(one, other) == {"my_note": "my_note is not set instead of 'x'"}


def test_words_are_attributes_and_quoted_names(tmp_path: Path) -> None:
    words = code_words(opened(of("llama"), tmp_path / "m").architecture.model)
    assert words is not None
    assert {"attention_bias", "sliding_window", "rms_norm_eps", "head_dim"} <= words
    assert "my_note" not in words


def test_equal_models_in_other_words_merge_and_the_message_names_both_models(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one", 0, rope_parameters=ROPE), make(tmp_path / "two", 1)
    config = json.loads((two / "config.json").read_text())
    del config["rope_parameters"]
    (two / "config.json").write_text(json.dumps({**config, "rope_scaling": {"type": "linear", "factor": 2}}))
    merge_to_disk(recipe("linear", None, {"one": one, "two": two}), tmp_path / "out")
    edit_config(two, rope_scaling={"type": "linear", "factor": 3}, rms_norm_eps=0.5)
    with pytest.raises(CheckpointError) as caught:
        merge_to_disk(recipe("linear", None, {"one": one, "two": two}), tmp_path / "again")
    text = str(caught.value)
    assert f"do not fit one ({one})" in text
    assert f"two ({two}): rms_norm_eps is 0.5 instead of 1e-06" in text
    assert f"two ({two}): rope_parameters.factor is 3 instead of 2.0" in text


CUSTOM: dict[str, Callable[[str], str]] = {
    "read": lambda code: code.replace("super().__init__(config)", "super().__init__(config); self.k = config.my_scale"),
    "not read": lambda code: code,
}


@pytest.mark.parametrize("case", CUSTOM)
def test_settings_of_custom_code_count_if_it_reads_them(case: str, custom_family: SimpleNamespace) -> None:
    for i, name in enumerate(("base", "a", "b")):
        folder = getattr(custom_family, name)
        code = folder / "modeling_custom.py"
        code.write_text(CUSTOM[case](code.read_text()))
        edit_config(folder, my_scale=1.0 + (i == 2))
    models = [
        Sources().open(ModelSource(str(getattr(custom_family, name)), trust_remote_code=True)) for name in ("a", "b")
    ]
    found = setting_differences(*models)
    assert all(other_code(model.architecture.model, models[0].architecture.model) == [] for model in models)
    assert found == ({} if case == "not read" else {"my_scale": "my_scale is 1.0 instead of 2.0"})


def test_other_code_under_the_same_name_is_said(custom_family: SimpleNamespace, tmp_path: Path) -> None:
    code = custom_family.b / "modeling_custom.py"
    code.write_text(code.read_text() + "\n# another version\n")
    parents = {name: {"path": str(getattr(custom_family, name)), "trust_remote_code": True} for name in "ab"}
    sources = Sources()
    merge_to_disk(Recipe.from_data({"method": "linear", "parents": parents}), tmp_path / "out", sources=sources)
    assert list(sources.warnings) == ["b and a come with different code (modeling_custom.py); the result has a's"]


def test_objects_in_a_configuration_are_compared_by_what_they_hold() -> None:
    def model(value: int, nan: float = float("nan")) -> Any:
        data = {"inner": SimpleNamespace(size=value, type=torch.float32), "limit": nan, "names": ("a", "b")}
        return SimpleNamespace(config=SimpleNamespace(to_dict=lambda: {"model_type": f"own{value}", **data}))

    assert setting_differences(model(1), model(1)) == {}
    assert list(setting_differences(model(1), model(2))) == ["inner.size", "model_type"]
