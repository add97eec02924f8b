"""Who lends embeddings and head of a layer path, and tensors that are multiplied by a number: in memory as on disk."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from path_families import VOCABULARY, make_family
from tiny_models import make, recipe, same_bytes, tensors_of
from transformers import AutoModelForCausalLM, GPT2Config, MixtralConfig, OPTConfig

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.model import OpenModel
from evomerge.merge.live.models import LiveModels
from evomerge.merge.paths.ends import tensors_before_layers
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, Group, ModelSource, Recipe, Step
from evomerge.recipe.lineage import flatten

PATH = (Step("a", 0), Step("b", 2), Step("a", 1), Step("b", 2), Step("b", 0))
SCALES = (
    Group({"scale": 0.5}, layers=(1, 3), tensors=("o_proj", "down_proj")),
    Group({"scale": 0.0}, layers=(4, 5), roles=("mlp",)),
    Group({"scale": 1.5}, roles=("embedding",)),
    Group({"scale": -2.0}, roles=("head",)),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns two parents of a family, made when they are first asked for."""
    kept: dict[str, dict[str, Path]] = {}

    def parents(name: str) -> dict[str, Path]:
        if name not in kept:
            kept[name] = dict(zip("ab", make_family(tmp_path_factory.mktemp("ends"), name), strict=True))
        return kept[name]

    return parents


def stack(parents: dict[str, Any], **fields: Any) -> Recipe:
    return recipe(PASSTHROUGH, None, parents, path=PATH, **fields)


def logits(model: Any) -> torch.Tensor:
    tokens = torch.randint(3, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(tokens).logits


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize(("embeddings", "head"), [("a", "b"), ("b", "a"), ("b", "b")])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "gpt_neox", "gpt_neox-sequential"])
def test_each_end_is_its_lenders_in_memory_as_on_disk(
    name: str, embeddings: str, head: str, made: Any, tmp_path: Path
) -> None:
    parents = made(name)
    one = stack(parents, embeddings=embeddings, head=head)
    live = LiveModels()
    folder = merge_to_disk(one, tmp_path / "out", sources=live.sources)
    result = loaded(folder)
    plain = {who: loaded(parents[who]) for who in parents}
    tied = name in ("llama-tied", "gpt_neox-sequential")
    assert result.config.tie_word_embeddings is (tied and embeddings == head)
    assert torch.equal(result.get_input_embeddings().weight, plain[embeddings].get_input_embeddings().weight)
    assert torch.equal(result.get_output_embeddings().weight, plain[head].get_output_embeddings().weight)
    norm = "model.norm.weight" if name.startswith("llama") else "gpt_neox.final_layer_norm.weight"
    assert torch.equal(result.get_parameter(norm), plain[head].get_parameter(norm))
    live.write(stack(parents))  # a path before, whose ends must not stay
    before = logits(live.model)
    live.write(one)
    live.model.tie_weights()  # as lm-eval does when it wraps a model
    assert torch.equal(logits(live.model), logits(result))
    assert live.model.config.tie_word_embeddings is result.config.tie_word_embeddings
    live.write(stack(parents))
    live.model.tie_weights()
    assert torch.equal(logits(live.model), before)
    assert not torch.equal(before, logits(result))


def test_the_first_parent_by_its_name_is_the_default(made: Any, tmp_path: Path) -> None:
    plain = merge_to_disk(stack(made("llama")), tmp_path / "plain")
    named = merge_to_disk(stack(made("llama"), embeddings="a", head="a"), tmp_path / "named")
    assert (plain / "model.safetensors").read_bytes() == (named / "model.safetensors").read_bytes()


def test_a_path_with_ends_of_its_own_can_be_a_parent_and_stays_in_a_lineage(made: Any, tmp_path: Path) -> None:
    inner = stack(made("llama-tied"), embeddings="b", head="a")
    outer = recipe(PASSTHROUGH, None, {"inner": inner}, path=tuple(Step("inner", layer) for layer in range(5)))
    assert same_bytes(
        tensors_of(merge_to_disk(outer, tmp_path / "outer")), tensors_of(merge_to_disk(inner, tmp_path / "inner"))
    )
    assert flatten(outer).parents[0].source == inner
    a = recipe("linear", None, {"x": made("llama")["a"]})
    merged = recipe(PASSTHROUGH, None, {"a": a, "b": made("llama")["b"]}, path=PATH, head="b")
    assert (flatten(merged).embeddings, flatten(merged).head) == (None, "b")


def opened(config: Any) -> OpenModel:
    nowhere = Path()
    return OpenModel(
        label=config.model_type, config=config, tensors=SimpleNamespace(infos={}),  # type: ignore[arg-type]
        folder=nowhere, tokenizer_folder=nowhere, generation_folder=nowhere, trust_remote_code=False,
    )  # fmt: skip


def test_the_forward_pass_tells_what_stands_before_the_layers() -> None:
    """OPT lists its final norm before its layers, and projects what goes in and what comes out."""
    opt = OPTConfig(vocab_size=24, hidden_size=16, ffn_dim=16, num_hidden_layers=2, num_attention_heads=2,
                    max_position_embeddings=16, word_embed_proj_dim=8)  # fmt: skip
    parts = {name.removeprefix("model.decoder.") for name in tensors_before_layers(opened(opt))}
    assert parts == {"embed_tokens.weight", "embed_positions.weight", "project_in.weight"}
    gpt2 = GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    assert tensors_before_layers(opened(gpt2)) == {"transformer.wte.weight", "transformer.wpe.weight"}


def test_lenders_must_have_the_tokens_of_the_tokenizer(tmp_path: Path) -> None:
    parents = {"a": make(tmp_path / "a", 0), "b": make(tmp_path / "b", 1, tokens="cba")}
    path = (Step("a", 0), Step("b", 1))
    merge_to_disk(recipe(PASSTHROUGH, None, parents, path=path), tmp_path / "out")
    for lender in ("embeddings", "head"):
        for build in (lambda one: merge_to_disk(one, tmp_path / "other"), LiveModels().write):
            with pytest.raises(CheckpointError, match="give 2 of their tokens other numbers"):
                build(recipe(PASSTHROUGH, None, parents, path=path, **{lender: "b"}))


@pytest.mark.parametrize("name", ["llama", "llama-tied"])
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_scaled_tensors_have_the_same_bytes_in_memory_and_on_disk(
    name: str, dtype: str | None, made: Any, tmp_path: Path
) -> None:
    parents = made(name)
    one = stack(parents, groups=SCALES, dtype=dtype, head="b")
    live = LiveModels(dtype=dtype)
    live.write(replace(one, groups=()))
    before = logits(live.model)
    live.write(one)
    written = tensors_of(merge_to_disk(one, tmp_path / "out"))
    held = live.model.state_dict()
    assert all(torch.equal(tensor, held[tensor_name]) for tensor_name, tensor in written.items())
    assert torch.equal(logits(live.model), logits(loaded(tmp_path / "out")))
    kind = torch.float32 if dtype is None else torch.bfloat16
    a, b = (tensors_of(parents[who]) for who in "ab")
    lent = {
        "model.embed_tokens.weight": 1.5 * a["model.embed_tokens.weight"],
        "lm_head.weight": -2.0 * b["lm_head.weight" if name == "llama" else "model.embed_tokens.weight"],
        "model.norm.weight": b["model.norm.weight"],
        "model.layers.0.self_attn.o_proj.weight": a["model.layers.0.self_attn.o_proj.weight"],
        "model.layers.1.self_attn.o_proj.weight": 0.5 * b["model.layers.2.self_attn.o_proj.weight"],
        "model.layers.2.mlp.down_proj.weight": 0.5 * a["model.layers.1.mlp.down_proj.weight"],
        "model.layers.3.self_attn.o_proj.weight": b["model.layers.2.self_attn.o_proj.weight"],
        "model.layers.4.mlp.up_proj.weight": 0.0 * b["model.layers.0.mlp.up_proj.weight"],
    }
    assert all(torch.equal(written[tensor_name], tensor.to(kind)) for tensor_name, tensor in lent.items())
    live.write(replace(one, groups=()))
    assert torch.equal(logits(live.model), before)


def test_scales_of_tensors_and_of_inputs_go_together(made: Any, tmp_path: Path) -> None:
    path = tuple(replace(step, scale=scale) for step, scale in zip(PATH, (0.8, 1.0, 1.7, 0.5, 1.2), strict=True))
    one = replace(stack(made("gemma2"), groups=(Group({"scale": 0.25}, layers=(1, 4), tensors=("norm",)),)), path=path)
    live = LiveModels()
    live.write(one)
    there = logits(loaded(merge_to_disk(one, tmp_path / "out")))
    assert torch.allclose(logits(live.model), there, rtol=1e-4, atol=1e-4 * float(there.abs().max()))
    live.write(replace(one, groups=()))
    assert not torch.allclose(logits(live.model), there, rtol=1e-2, atol=1e-2)


def test_one_of_many_experts_is_scaled_in_the_stacked_parameter(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3, num_experts_per_tok=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "moe")
    groups = (Group({"scale": 3.0}, layers=(0, 1), tensors=("experts.1.w2",)),)
    path = (Step("a", 1), Step("a", 0))
    one = recipe(PASSTHROUGH, None, {"a": tmp_path / "moe"}, path=path, groups=groups)
    live = LiveModels()
    live.write(one)
    scaled = logits(live.model)
    assert torch.equal(scaled, logits(loaded(merge_to_disk(one, tmp_path / "out"))))
    live.write(replace(one, groups=()))
    assert not torch.equal(logits(live.model), scaled)


def test_one_model_is_scaled_without_a_path(made: Any, tmp_path: Path) -> None:
    source = made("llama")["a"]
    groups = (Group({"scale": 0.5}, tensors=("o_proj",)), Group({}, roles=("norm",)))
    one = recipe(PASSTHROUGH, None, {"a": source}, parameters={"scale": 2.0}, groups=(groups[0], groups[1]))
    written, own = tensors_of(merge_to_disk(one, tmp_path / "out")), tensors_of(source)
    assert torch.equal(written["model.layers.1.self_attn.o_proj.weight"],
                       0.5 * own["model.layers.1.self_attn.o_proj.weight"])  # fmt: skip
    assert torch.equal(written["model.norm.weight"], 2.0 * own["model.norm.weight"])
    live = LiveModels()
    live.write(one)
    assert all(torch.equal(tensor, live.model.state_dict()[name]) for name, tensor in written.items())
    plain = recipe(PASSTHROUGH, None, {"a": source}, parameters={"scale": 1.0})
    assert same_bytes(tensors_of(merge_to_disk(plain, tmp_path / "plain")), own)


def test_wrong_groups_of_a_path_are_named_before_anything_is_written(made: Any, tmp_path: Path) -> None:
    wrong = stack(
        made("llama"), groups=(Group({"scale": 2.0}, layers=(4, 6)), Group({"scale": 2.0}, tensors=("o_prok",)))
    )
    for build in (lambda one: merge_to_disk(one, tmp_path / "out"), LiveModels().write):
        with pytest.raises(RecipeError, match=r"2 mistakes(.|\n)*\[4, 6\] reach beyond the 5 layers(.|\n)*'o_prok'"):
            build(wrong)
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="can scale tensors, but not merge them with linear"):
        stack(made("llama"), groups=(Group({}, method="linear"),))


def test_numbers_that_do_not_fit_are_said(made: Any, tmp_path: Path) -> None:
    large = stack(made("llama"), parameters={"scale": 1e30}, dtype="float16")
    with pytest.raises(RecipeError, match=r"times 1e\+30\) does not fit float16"):
        merge_to_disk(large, tmp_path / "out")
    with pytest.raises(RecipeError, match=r"times 1e\+30\) does not fit float16"):
        LiveModels().write(large)


def test_sources_plan_without_folding_for_a_live_path(made: Any) -> None:
    one = replace(stack(made("llama")), path=tuple(replace(step, scale=0.5) for step in PATH))
    assert Sources().path_plan(one).folded
    assert not Sources().path_plan(one, fold=False).folded
    assert ModelSource(str(made("llama")["a"])) == one.parents[0].source
