"""Pairs of tiny random models of many families, tied or not, in one file or several, of one type or mixed, merge."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from any_family import families, tiny_config, tiny_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import recipe, same_bytes, tensors_of

from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.model_class import auto_class
from evomerge.merge.live.model import LiveModel
from evomerge.recipe import ModelSource

TYPES = {
    "llama": "CAUSAL_LM", "gpt2": "CAUSAL_LM", "gpt_neox": "CAUSAL_LM", "gemma2": "CAUSAL_LM", "qwen3_moe": "CAUSAL_LM",
    "mixtral": "CAUSAL_LM", "mamba": "CAUSAL_LM", "jamba": "CAUSAL_LM", "qwen3_next": "CAUSAL_LM",
    "falcon_h1": "CAUSAL_LM", "bloom": "CAUSAL_LM", "t5": "SEQ_TO_SEQ_CAUSAL_LM", "bart": "SEQ_TO_SEQ_CAUSAL_LM",
    "bert": "MASKED_LM", "modernbert": "MASKED_LM", "deberta-v2": "MASKED_LM",
}  # fmt: skip
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROFILE = settings(deadline=None, derandomize=True, database=None,
                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])  # fmt: skip


@st.composite
def pairs(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "model_type": draw(st.sampled_from(sorted(TYPES))),
        "tied": draw(st.booleans()),
        "shards": draw(st.tuples(st.booleans(), st.booleans())),
        "dtype": draw(st.sampled_from([*DTYPES, "mixed"])),
        "seed": draw(st.integers(0, 99)),
    }


def check(model_type: str, tied: bool, shards: tuple[bool, bool], dtype: str, seed: int) -> None:
    """The mean of two models is the mean of their weights in fp32, rounded once, as the first has them on disk."""
    config = tiny_config(model_type)
    config.tie_word_embeddings = tied
    if model_type == "t5":  # whose class ties what it has; see below
        config.tie_word_embeddings = True
    config.architectures = [families(TYPES[model_type])[model_type]]
    types = ["fp32", "bf16"] if dtype == "mixed" else [dtype] * 2
    with tempfile.TemporaryDirectory() as folder:
        made = {name: Path(folder) / name for name in "ab"}
        for i, (one, many, of_type) in enumerate(zip(made.values(), shards, types, strict=True)):
            model = tiny_model(copy.deepcopy(config), seed + 100 * i, DTYPES[of_type])
            model.save_pretrained(one, max_shard_size="8KB" if many else "1GB")
            assert (one / "model.safetensors.index.json").exists() == many
        auto = auto_class(config)
        a, b = (auto.from_pretrained(one, dtype="auto").state_dict() for one in made.values())
        of = recipe("linear", None, made, parameters={"weight": {"a": 0.5, "b": 0.5}})
        out = merge_to_disk(of, Path(folder) / "out", shard_size=9_000)
        loaded, info = auto.from_pretrained(out, dtype="auto", output_loading_info=True)
        assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        for name, value in loaded.state_dict().items():
            if a[name].is_floating_point():
                # Rounded to what is stored; a class may load some of it (T5's wo) in another type.
                wanted = (a[name].float() * 0.5 + b[name].float() * 0.5).to(DTYPES[types[0]]).to(a[name].dtype)
                assert value.dtype == a[name].dtype
                assert torch.equal(value, wanted), name
        assert tensors_of(out).keys() == tensors_of(made["a"]).keys()
        live = LiveModel(ModelSource(str(made["a"])))
        live.write(of)
        live.model.save_pretrained(Path(folder) / "live")
        wide = tuple(live.model._keep_in_fp32_modules or ())  # what the class has in fp32 in any model of halves
        disk, saved = tensors_of(out), tensors_of(Path(folder) / "live")
        assert same_bytes(disk, {name: value.to(disk[name].dtype) if any(one in name for one in wide) else value
                                 for name, value in saved.items()})  # fmt: skip


@settings(PROFILE, max_examples=6)
@given(pairs())
def test_a_few_pairs_merge(pair: dict[str, Any]) -> None:
    check(**pair)


@pytest.mark.slow
@settings(PROFILE, max_examples=150)
@given(pairs())
def test_many_pairs_merge(pair: dict[str, Any]) -> None:
    check(**pair)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("model_type", TYPES)
def test_each_family_merges_tied_and_untied(model_type: str, tied: bool) -> None:
    check(model_type, tied, (False, True), "mixed" if tied else "bf16", 7)


def test_a_head_of_its_own_is_found_in_the_files_where_the_class_ties_it_anyway(tmp_path: Path) -> None:
    # T5 v1.1, Flan-T5 and mT5: whatever config.json says, the configuration says that the head is the embedding.
    config = tiny_config("t5", tie_word_embeddings=False)
    config.architectures = ["T5ForConditionalGeneration"]
    made = {name: tmp_path / name for name in "ab"}
    for seed, folder in enumerate(made.values()):
        model = tiny_model(copy.deepcopy(config), seed)
        generator = torch.Generator().manual_seed(seed)
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape, generator=generator))
        model.save_pretrained(folder)
    of = recipe("linear", None, made, parameters={"weight": {"a": 0.5, "b": 0.5}})
    a, b, mean = (auto_class(config).from_pretrained(one).state_dict()
                  for one in (*made.values(), merge_to_disk(of, tmp_path / "out")))  # fmt: skip
    assert not torch.equal(mean["lm_head.weight"], mean["shared.weight"])
    assert all(torch.equal(mean[name], a[name] * 0.5 + b[name] * 0.5) for name in mean)
    live = LiveModel(ModelSource(str(made["a"])))
    live.write(of)
    assert all(torch.equal(value, mean[name]) for name, value in live.model.state_dict().items())
