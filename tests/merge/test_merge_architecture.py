"""Roles and layers come from the module tree, for model families that the code does not know by name."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, llama, make, near, recipe, same_bytes, tensors_of
from transformers import AutoModelForCausalLM

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.architecture import Architecture, ArchitectureSummary
from evomerge.merge.live.model import LiveModel
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource

COMMON = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
GROUPED = {**COMMON, "intermediate_size": 20, "num_key_value_heads": 1}
HEADS = {**GROUPED, "head_dim": 8}
CONFIGS: dict[str, Any] = {
    "Llama": HEADS,
    "Mistral": HEADS,
    "Qwen2": GROUPED,
    "Qwen3": HEADS,
    "Gemma2": HEADS,
    "Gemma3Text": HEADS,
    "Phi3": GROUPED,
    "GPTNeoX": {**COMMON, "intermediate_size": 20},
    "GPT2": {"vocab_size": 24, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "bos_token_id": 1,
             "eos_token_id": 2},
    "OPT": {**COMMON, "ffn_dim": 20, "word_embed_proj_dim": 16},
    "Mixtral": {**HEADS, "num_local_experts": 4},
    "Qwen2Moe": {**GROUPED, "num_experts": 12, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8},
    "Falcon": COMMON,
    "Phi": {**COMMON, "intermediate_size": 20},
    "Olmo2": HEADS,
}  # fmt: skip
# Fragments of parameter names; read off each family's published model code.
EXPECTED = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "out_proj", "c_attn", "attn.c_proj",
                  "query_key_value", "attention.dense", "self_attn.dense"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "fc1", "fc2", "c_fc", "mlp", "expert"),
    "norm": ("norm", "ln_1", "ln_2", "ln_f"),
    "embedding": ("embed_tokens", "embed_in", "wte", "wpe", "embed_positions", "word_embeddings"),
    "head": ("lm_head", "embed_out"),
}  # fmt: skip


def expected_role(name: str) -> str:
    for role in ("norm", "attention", "mlp", "embedding", "head"):
        if any(fragment in name for fragment in EXPECTED[role]):
            return role
    raise AssertionError(name)


def config_of(family: str, **changes: Any) -> Any:
    return getattr(transformers, f"{family}Config")(**{**CONFIGS[family], **changes})


def save_random(config: Any, folder: Path, seed: int) -> Path:
    """A checkpoint as transformers itself writes it, with names as that family has them on disk."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(tensor.shape, generator=generator) * 0.1 for name, tensor in model.state_dict().items()
             if not (config.tie_word_embeddings and name == "lm_head.weight")}  # fmt: skip
    model = model.to_empty(device="cpu")
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_every_tensor_has_its_role_and_layer(family: str, tied: bool) -> None:
    architecture = Architecture(config_of(family, tie_word_embeddings=tied))
    assert architecture.n_layers == 2
    assert architecture.tied == tied
    for name, place in architecture.places.items():
        index = next((int(part) for part in name.split(".") if part.isdigit()), None)
        assert (place.role, place.layer) == (expected_role(name), index), name
    # Phi's head keeps a bias of its own when its matrix is tied.
    head = () if tied and family != "Phi" else ("head",)
    summary = architecture.summary
    assert summary == ArchitectureSummary(2, tied, ("attention", "mlp", "norm"), ("embedding", "norm", *head))
    assert summary.roles == ("embedding", "attention", "mlp", "norm", *head)


def test_a_layer_that_is_neither_attention_nor_mlp_is_other() -> None:
    config = transformers.MambaConfig(vocab_size=24, hidden_size=16, num_hidden_layers=2)
    assert Architecture(config).summary.layer_roles == ("norm", "other")


def test_what_training_moves_is_merged_even_if_it_is_a_buffer() -> None:
    config = transformers.DeepseekV3Config(
        **HEADS, n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2, first_k_dense_replace=1,
        moe_intermediate_size=8, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
    )  # fmt: skip
    places = Architecture(config).places
    (name,) = [name for name in places if name.endswith("e_score_correction_bias")]
    assert not places[name].buffer
    assert places[name].role == "mlp"


def test_the_model_is_built_without_drawing_random_numbers() -> None:
    before = torch.get_rng_state()
    Architecture(llama())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("family", CONFIGS)
def test_each_family_merges_to_the_same_bytes_live_and_on_disk(family: str, tmp_path: Path) -> None:
    config = config_of(family)
    base, a, b = (save_random(config, tmp_path / name, seed) for seed, name in enumerate(("base", "a", "b")))
    of = recipe("dare_ties", base, {"a": a, "b": b}, parameters={"density": 0.5})
    out = merge_to_disk(of, tmp_path / "out")
    live = LiveModel(ModelSource(str(base)))
    live.write(of)
    live.model.save_pretrained(tmp_path / "live")
    disk = tensors_of(out)
    assert disk.keys() == tensors_of(base).keys()
    assert same_bytes(tensors_of(tmp_path / "live"), disk)
    ids = torch.tensor([[1, 4, 5]])
    plain = AutoModelForCausalLM.from_pretrained(out).eval()
    assert torch.equal(plain(ids).logits, live.model(ids).logits)


def test_experts_are_counted_as_numbers_not_as_words(tmp_path: Path) -> None:
    # Twelve experts: sorted as words, 10 and 11 would come before 2 and the stack would be wrong.
    source = save_random(config_of("Qwen2Moe"), tmp_path / "moe", 0)
    live = LiveModel(ModelSource(str(source)))
    live.write(recipe("linear", None, {"moe": source}))
    stacked = dict(live.model.state_dict())["model.layers.0.mlp.experts.down_proj"]
    assert torch.equal(stacked[10], tensors_of(source)["model.layers.0.mlp.experts.10.down_proj.weight"])


def test_names_without_the_base_models_prefix_fit_names_with_it(tmp_path: Path) -> None:
    # GPT-2 on the Hub has "h.0.…", its fine-tunes "transformer.h.0.…", and old files carry masks.
    config = config_of("GPT2")
    base, tuned = (save_random(config, tmp_path / name, seed) for seed, name in enumerate(("base", "tuned")))
    bare = {name.removeprefix("transformer."): t for name, t in load_file(base / "model.safetensors").items()}
    masks = {"h.0.attn.bias": torch.ones(1, 1, 32, 32).bool(), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file({**bare, **masks}, base / "model.safetensors", metadata={"format": "pt"})
    of = recipe("task_arithmetic", base, {"tuned": tuned}, parameters={"weight": 1.0})
    out = merge_to_disk(of, tmp_path / "out")
    prefixed = {f"transformer.{name}": tensor for name, tensor in tensors_of(out).items()}
    assert same_bytes(prefixed, tensors_of(tuned))
    live = LiveModel(ModelSource(str(base)))
    live.write(of)
    ids = torch.tensor([[1, 4, 5]])
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tuned).eval()(ids).logits, live.model(ids).logits)


def test_a_second_copy_of_a_tied_tensor_is_merged_once(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0, tie_word_embeddings=True)
    a = near(tmp_path / "a", base, 1)
    tensors = load_file(a / "model.safetensors")
    both = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    save_file(both, a / "model.safetensors", metadata={"format": "pt"})
    out = tensors_of(merge_to_disk(recipe("ties", base, {"a": a}), tmp_path / "out"))
    assert "lm_head.weight" not in out
    both["lm_head.weight"][0, 0] += 1
    save_file(both, a / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"parent 'a': .* ties model.embed_tokens.weight and lm_head.weight, but"):
        merge_to_disk(recipe("ties", base, {"a": a}), tmp_path / "out2")


def test_a_checkpoint_that_does_not_hold_what_its_config_says_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    tensors = load_file(folder / "model.safetensors")
    tensors["v_head.weight"] = torch.ones(3)
    del tensors["model.norm.weight"]
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.ones(3, 16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        _ = Sources().open(ModelSource(str(folder))).naming
    text = str(caught.value)
    assert "v_head.weight: LlamaForCausalLM has no such tensor" in text
    assert "model.norm.weight is missing" in text
    assert "model.layers.1.mlp.up_proj.weight has shape (3, 16), but config.json asks for (20, 16)" in text


def test_custom_code_runs_only_where_it_is_trusted(custom_family: SimpleNamespace) -> None:
    with pytest.raises(CheckpointError, match="trust_remote_code: true"):
        Sources().open(ModelSource(str(custom_family.base)))
    model = Sources().open(ModelSource(str(custom_family.base), trust_remote_code=True))
    assert model.architecture.places["steps"].role == "other"


def test_a_folder_whose_type_is_another_models_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", 0)
    edit_config(folder, model_type="vit")
    with pytest.raises(CheckpointError, match="ViTModel has no such tensor"):
        _ = Sources().open(ModelSource(str(folder))).naming
