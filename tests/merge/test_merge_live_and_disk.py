"""In memory and on disk: the same bytes, and a folder that plain transformers loads."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from method_case import ARITHMETIC
from safetensors.torch import load_file
from tiny_models import llama, make, near, random_tensors, recipe, same_bytes, tensors_of, write_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.registry import find_method
from evomerge.recipe import PASSTHROUGH, Group, ModelSource, Recipe


def mixed(method: str, family: SimpleNamespace, dtype: str | None = None) -> Recipe:
    known = {p.name for p in find_method(method).spec.parameters}
    parameters = {"weight": {"math": 0.8, "japanese": 0.5}, "density": 0.5, "t": 0.3}
    inner = {"weight": 1.1, "t": 0.9}
    copies = method == PASSTHROUGH  # without a path: one parent, and nothing to measure from
    return recipe(
        method,
        None if copies else family.base,
        {"math": family.math} if copies else {"math": family.math, "japanese": family.japanese},
        parameters={k: v for k, v in parameters.items() if k in known},
        groups=(Group({k: v for k, v in inner.items() if k in known}, layers=(0, 1), roles=("attention", "mlp")),),
        dtype=dtype,
        seed=5,
    )


def test_live_bytes_equal_disk_bytes_and_transformers_loads_them(typed_family: SimpleNamespace, tmp_path: Path) -> None:
    live = LiveModel(ModelSource(str(typed_family.base)))
    model = live.model
    for method in (*ARITHMETIC, "passthrough"):
        of = mixed(method, typed_family)
        live.write(of)
        assert live.model is model
        assert live.recipe == of
        live.model.save_pretrained(tmp_path / method / "live")
        out = merge_to_disk(of, tmp_path / method / "disk")
        disk = tensors_of(out)
        assert same_bytes(tensors_of(tmp_path / method / "live"), disk)
        loaded = AutoModelForCausalLM.from_pretrained(out)
        assert loaded.dtype == getattr(torch, typed_family.dtype)
        assert loaded.config.tie_word_embeddings == typed_family.tied
        assert ("lm_head.weight" in disk) != typed_family.tied
        shared = loaded.lm_head.weight is loaded.model.embed_tokens.weight
        assert shared == typed_family.tied
        ids = torch.tensor([[1, 4, 5]])
        assert torch.equal(loaded.eval()(ids).logits, live.model(ids).logits)


@pytest.mark.parametrize("output", ["bfloat16", "float16", "float32"])
def test_a_live_value_is_the_recipes_value_converted(
    output: str, typed_family: SimpleNamespace, tmp_path: Path
) -> None:
    of = mixed("ties", typed_family, dtype=output)
    live = LiveModel(ModelSource(str(typed_family.base)), dtype="float32")
    live.write(of)
    disk = tensors_of(merge_to_disk(of, tmp_path / "disk"))
    state = live.model.state_dict()
    assert {tensor.dtype for tensor in disk.values()} == {getattr(torch, output)}
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in disk.items())


def test_the_model_starts_as_the_source_and_loads_like_transformers(typed_family: SimpleNamespace) -> None:
    live = LiveModel(ModelSource(str(typed_family.math)))
    plain = AutoModelForCausalLM.from_pretrained(typed_family.math).eval()
    assert not live.model.training
    assert live.recipe is None
    ids = torch.tensor([[1, 4, 5, 6]])
    assert torch.equal(live.model(ids).logits, plain(ids).logits)


def test_writing_does_not_touch_the_parents_files(family: SimpleNamespace) -> None:
    before = (family.base / "model.safetensors").read_bytes()
    live = LiveModel(ModelSource(str(family.base)))
    live.write(recipe("linear", None, {"base": family.base, "math": family.math}))
    live.write(recipe("linear", None, {"base": family.base}))
    assert same_bytes(dict(live.model.state_dict()), load_file(family.base / "model.safetensors"))
    assert (family.base / "model.safetensors").read_bytes() == before


def test_loading_and_writing_leave_the_global_generator_alone(family: SimpleNamespace) -> None:
    before = torch.get_rng_state()
    live = LiveModel(ModelSource(str(family.base)))
    live.write(mixed("dare_ties", family))
    assert torch.equal(before, torch.get_rng_state())


def test_a_refused_recipe_leaves_the_live_model_as_it_was(family: SimpleNamespace, tmp_path: Path) -> None:
    live = LiveModel(ModelSource(str(family.base)))
    good = mixed("ties", family)
    live.write(good)
    before = {name: tensor.clone() for name, tensor in live.model.state_dict().items()}
    other = make(tmp_path / "wide", 3, intermediate_size=28)
    for bad in (
        recipe("ties", family.base, {"math": family.math}, parameters={"weight": -1.0}),
        recipe("ties", family.base, {"math": tmp_path / "missing"}),
        recipe("linear", None, {"wide": other}),
    ):
        with pytest.raises((RecipeError, CheckpointError)):
            live.write(bad)
        assert same_bytes(dict(live.model.state_dict()), before)
        assert live.recipe == good


def test_a_recipe_of_another_architecture_does_not_fit_the_live_model(family: SimpleNamespace, tmp_path: Path) -> None:
    live = LiveModel(ModelSource(str(family.base)))
    other = make(tmp_path / "other", 3, rms_norm_eps=0.5)
    with pytest.raises(CheckpointError, match=r"does not fit the live model.*rms_norm_eps is 0.5 instead of 1e-06"):
        live.write(recipe("linear", None, {"other": other}))


def test_a_write_that_fails_half_way_is_repaired_by_the_next(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    broken = write_checkpoint(tmp_path / "broken", tensors, llama())
    live = LiveModel(ModelSource(str(base)))
    with pytest.raises(
        CheckpointError, match=r"parent 'bad': tensor model.layers.1.mlp.up_proj.weight of .* holds NaN"
    ):
        live.write(recipe("linear", None, {"good": base, "bad": broken}))
    assert live.recipe is None
    good = near(tmp_path / "good", base, 4)
    live.write(recipe("linear", None, {"good": good}))
    assert same_bytes(dict(live.model.state_dict()), tensors_of(good))


def test_a_result_beyond_the_range_of_its_dtype_is_refused(tmp_path: Path) -> None:
    config = llama()
    for name, fill in (("base", 0.0), ("big", 40_000.0)):
        tensors = {k: torch.full_like(v, fill) for k, v in random_tensors(config, 0).items()}
        write_checkpoint(tmp_path / name, tensors, config)
    of = recipe("task_arithmetic", tmp_path / "base", {"big": tmp_path / "big"},
                parameters={"weight": 1.5, "lambda": 2.0}, dtype="float16")  # fmt: skip
    live = LiveModel(ModelSource(str(tmp_path / "base")))
    with pytest.raises(RecipeError, match=r"the merged .* does not fit float16: .*largest finite value 120000"):
        live.write(of)


def test_the_live_tokenizer_is_the_recipes(family: SimpleNamespace) -> None:
    live = LiveModel(ModelSource(str(family.base)))
    assert "a" in live.tokenizer.get_vocab()
    parents = {"math": family.math, "japanese": family.japanese}
    live.write(recipe("linear", None, parents, tokenizer="japanese"))
    assert "あ" in live.tokenizer.get_vocab()
    live.write(recipe("linear", family.base, parents))
    assert "あ" not in live.tokenizer.get_vocab()


def test_the_folder_carries_the_chosen_tokenizer_the_config_and_the_recipe(
    family: SimpleNamespace, tmp_path: Path
) -> None:
    (family.base / "generation_config.json").write_text('{"max_new_tokens": 7}')
    lenders = {"tokenizer": "japanese", "generation_config": "base"}
    of = recipe("ties", family.base, {"japanese": family.japanese}, dtype="bfloat16", **lenders)
    out = merge_to_disk(of, tmp_path / "new" / "out")
    assert "あ" in AutoTokenizer.from_pretrained(out).get_vocab()
    assert Recipe.load(out / "recipe.yaml") == of
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.bfloat16
    assert model.generation_config.max_new_tokens == 7
    assert LiveModel(ModelSource(str(out))).model.generation_config.max_new_tokens == 7
    (family.base / "generation_config.json").unlink()


def test_mixed_dtypes_are_kept_where_the_recipe_states_none(tmp_path: Path) -> None:
    folders = {}
    for seed, name in enumerate(("base", "a")):
        tensors = random_tensors(llama(), seed, "bfloat16")
        tensors = {k: v.float() if "norm" in k else v for k, v in tensors.items()}
        folders[name] = write_checkpoint(tmp_path / name, dict(sorted(tensors.items())), llama())
    out = tensors_of(merge_to_disk(recipe("ties", folders["base"], {"a": folders["a"]}), tmp_path / "out"))
    assert {k: v.dtype for k, v in out.items()} == {k: v.dtype for k, v in tensors_of(folders["base"]).items()}
