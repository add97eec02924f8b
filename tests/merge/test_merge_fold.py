"""A layer path as a stock checkpoint: it computes what the live path computes, or says why it cannot."""

import os
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from path_families import FAMILIES, VOCABULARY, make_family
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, make, recipe, same_bytes, tensors_of, write_checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Exaone4Config,
    GPT2Config,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
)

from evomerge.errors import CheckpointError, ExportError, RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.models import LiveModels
from evomerge.merge.paths.fold import find_fold
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe, Step

# Families beside those of the live path, whose carriers of scale are called otherwise.
CARRIERS = {
    "llama": {"self_attn.o_proj.weight": 0.0, "self_attn.o_proj.bias": 0.0,
              "mlp.down_proj.weight": 0.0, "mlp.down_proj.bias": 0.0},
    "phi3": {"self_attn.o_proj.weight": 0.0, "mlp.down_proj.weight": 0.0},
    "gemma2": {"post_attention_layernorm.weight": 1.0, "post_feedforward_layernorm.weight": 1.0},
    "gemma3": {"post_attention_layernorm.weight": 1.0, "post_feedforward_layernorm.weight": 1.0},
    "gpt_neox": {"attention.dense.weight": 0.0, "attention.dense.bias": 0.0,
                 "mlp.dense_4h_to_h.weight": 0.0, "mlp.dense_4h_to_h.bias": 0.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Parents of a family, made once."""
    root, known = tmp_path_factory.mktemp("families"), {}

    def parents(name: str) -> dict[str, Path]:
        if name not in known:
            # The fold is exact up to the norms' epsilon; with the usual 1e-5 that is what one would measure here.
            epsilon = {"layer_norm_eps" if "neox" in name else "rms_norm_eps": 1e-8}
            known[name] = dict(zip(("first", "second"), make_family(root, name, **epsilon), strict=True))
        return known[name]

    return parents


def random_path(seed: int, *, scaled: bool = True, length: int = 6) -> tuple[Step, ...]:
    """A path over both parents with repeats, and scales whose logarithm is uniform from 0.3 to 3."""
    draw = random.Random(seed)
    layers = [("first", 0), ("first", 1), ("second", 0), ("second", 1), ("second", 2)]
    steps = [draw.choice(layers) for _ in range(length - 2)]
    steps[1] = steps[0]
    chosen = [("first", 0), *steps, ("first", 1)]
    return tuple(Step(*step, 0.3 * 10 ** draw.random() if scaled else 1.0) for step in chosen)


def passthrough(parents: dict[str, Any], path: Sequence[Step], **fields: Any) -> Recipe:
    return recipe("passthrough", None, parents, path=tuple(path), **fields)


def prompts(seed: int, n: int = 50, length: int = 10) -> torch.Tensor:
    return torch.randint(VOCABULARY, (n, length), generator=torch.Generator().manual_seed(seed))


def greedy(model: Any, tokens: torch.Tensor, n_new: int = 6) -> torch.Tensor:
    """Greedy tokens, generated with cache."""
    made, past = tokens, None
    with torch.no_grad():
        for _ in range(n_new):
            output = model(tokens, past_key_values=past, use_cache=True)
            past, tokens = output.past_key_values, output.logits[:, -1:].argmax(-1)
            made = torch.cat([made, tokens], 1)
    return made


def logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens).logits


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_checkpoint_computes_what_the_live_path_does(name: str, made: Any, tmp_path: Path) -> None:
    live = LiveModels(dtype="float32")
    for seed in range(2):
        one = passthrough(made(name), random_path(seed))
        folder = merge_to_disk(one, tmp_path / str(seed), sources=live.sources)
        stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        live.write(one)
        tokens = prompts(seed)
        assert relative(logits(live.model, tokens), logits(stock, tokens)) < 1e-4
        assert torch.equal(greedy(live.model, tokens), greedy(stock, tokens))
        unscaled = tuple(replace(step, scale=1.0) for step in one.path)
        live.write(replace(one, path=unscaled))
        assert relative(logits(live.model, tokens), logits(stock, tokens)) > 1e-2  # scales do something here
        # The file says it all: class of the parents, no code of anybody's.
        assert type(stock) is type(AutoModelForCausalLM.from_pretrained(made(name)["first"]))
        assert not list(folder.glob("*.py"))


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_the_carriers_of_scale_are_found_by_what_the_forward_pass_does(name: str, made: Any) -> None:
    fold = find_fold(Sources().open(ModelSource(str(made(name)["second"]))))
    assert list(fold.layers) == [CARRIERS[name]] * 3


def test_a_carrier_may_have_any_name_and_layout(tmp_path: Path) -> None:
    """GPT-2: matrices the other way round, learned positions, files without the prefix."""
    config = GPT2Config(vocab_size=24, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    folders = {}
    for seed, who in enumerate(("first", "second")):
        generator = torch.Generator().manual_seed(seed)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        tensors = {
            key.removeprefix("transformer."): torch.randn(value.shape, generator=generator) * 0.3
            for key, value in model.named_parameters()
        }
        folders[who] = write_checkpoint(tmp_path / who, tensors, GPT2Config.from_dict(config.to_dict()))
    path = (Step("first", 0, 0.5), Step("second", 1, 2.0), Step("second", 1), Step("first", 1, 1.5))
    one = passthrough(folders, path)
    out = merge_to_disk(one, tmp_path / "out")
    mine, parent = tensors_of(out), load_file(folders["second"] / "model.safetensors")
    assert "h.3.attn.c_proj.weight" in mine and AutoConfig.from_pretrained(out).n_layer == 4
    for inside in ("attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"):
        torch.testing.assert_close(mine[f"h.0.{inside}"], load_file(folders["first"] / "model.safetensors")
                                   [f"h.0.{inside}"] / 0.5)  # fmt: skip
    assert torch.equal(mine["h.2.mlp.c_fc.weight"], parent["h.1.mlp.c_fc.weight"])
    live = LiveModels(dtype="float32")
    live.write(one)
    tokens = prompts(0, n=5) % 24
    assert relative(logits(live.model, tokens), logits(AutoModelForCausalLM.from_pretrained(out), tokens)) < 1e-3


def test_it_equals_a_loop_over_the_parents_layers_written_by_hand(tmp_path: Path, made: Any) -> None:
    """Without our live code: the parents' own modules, one after the other, each input scaled."""
    path = random_path(7)
    out = merge_to_disk(passthrough(made("llama"), path), tmp_path / "out")
    models = {name: AutoModelForCausalLM.from_pretrained(folder) for name, folder in made("llama").items()}
    stock = AutoModelForCausalLM.from_pretrained(out)
    tokens = prompts(7, n=8)
    base = models["first"].model
    with torch.no_grad():
        hidden = base.embed_tokens(tokens)
        positions = torch.arange(tokens.shape[1])[None]
        rotary = base.rotary_emb(hidden, positions)
        mask = torch.full((tokens.shape[1],) * 2, float("-inf")).triu(1)[None, None]
        for step in path:
            layer = models[step.parent].model.layers[step.layer]
            hidden = layer(step.scale * hidden, attention_mask=mask, position_embeddings=rotary, position_ids=positions)
        expected = models["first"].lm_head(base.norm(hidden))
    assert relative(expected, logits(stock, tokens)) < 1e-4


def test_layers_are_divided_once_and_everything_else_is_copied_bit_for_bit(tmp_path: Path, made: Any) -> None:
    parents = made("llama")
    path = (Step("first", 0), Step("second", 2, 0.5), Step("second", 2), Step("first", 1, 3.0))
    mine = tensors_of(merge_to_disk(passthrough(parents, path), tmp_path / "out"))
    first, second = (load_file(folder / "model.safetensors") for folder in parents.values())
    source = [(first, 0, 1.0), (second, 2, 0.5), (second, 2, 0.5), (first, 1, 1.5)]
    expected = {name: tensor for name, tensor in first.items() if ".layers." not in name}
    for t, (tensors, layer, c) in enumerate(source):
        for name, tensor in tensors.items():
            if name.startswith(f"model.layers.{layer}."):
                inside = name.removeprefix(f"model.layers.{layer}.")
                expected[f"model.layers.{t}.{inside}"] = tensor / c if inside in CARRIERS["llama"] else tensor
    assert same_bytes(mine, expected)


def test_the_types_of_layers_follow_them_into_config_json(tmp_path: Path, made: Any) -> None:
    path = (Step("first", 0), Step("second", 1), Step("second", 1), Step("second", 2), Step("first", 1))
    out = merge_to_disk(passthrough(made("gemma2"), path), tmp_path / "out")
    s, f = "sliding_attention", "full_attention"
    assert AutoConfig.from_pretrained(out).layer_types == [s, f, f, s, f]
    assert AutoConfig.from_pretrained(out).num_hidden_layers == 5


def test_a_config_that_derived_the_types_gets_them_written(tmp_path: Path, made: Any) -> None:
    import json

    parents = dict(zip(("first", "second"), make_family(tmp_path, "gemma2"), strict=True))
    for folder in parents.values():
        data = json.loads((folder / "config.json").read_text())
        del data["layer_types"]
        (folder / "config.json").write_text(json.dumps(data))
    kinds = {name: AutoConfig.from_pretrained(folder).layer_types for name, folder in parents.items()}
    path = (Step("first", 0), Step("second", 0), Step("second", 2), Step("first", 1))
    out = merge_to_disk(passthrough(parents, path), tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["layer_types"] == [kinds[s.parent][s.layer] for s in path]


def test_a_path_may_use_a_merge_and_be_a_parent_itself(tmp_path: Path, family: SimpleNamespace) -> None:
    merged = recipe("linear", None, {"math": family.math, "code": family.code})
    path = (Step("merged", 0), Step("math", 1, 2.0), Step("merged", 1))
    stacked = passthrough({"merged": merged, "math": family.math}, path)
    folder = merge_to_disk(merged, tmp_path / "merged")
    plain = passthrough({"merged": folder, "math": family.math}, path)
    out = merge_to_disk(stacked, tmp_path / "stacked")
    assert same_bytes(tensors_of(out), tensors_of(merge_to_disk(plain, tmp_path / "plain")))
    again = recipe("linear", None, {"a": stacked, "b": passthrough({"merged": merged, "math": family.math}, path)})
    deep = merge_to_disk(again, tmp_path / "again")
    assert same_bytes(tensors_of(deep), tensors_of(out))
    assert AutoModelForCausalLM.from_pretrained(deep).config.num_hidden_layers == 3


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Olmo2Config, "in layer 0, mlp: `silu` reads the residual stream before any norm"),
        (Exaone4Config, "`silu` reads the residual stream before any norm"),
        (lambda **s: OPTConfig(do_layer_norm_before=False, word_embed_proj_dim=16, ffn_dim=20, **s), "self_attn: "),
        # Which of the two, the version of transformers decides.
        (MixtralConfig, "no tensor of its own scales|its forward pass cannot be followed without values"),
    ],
)
def test_a_family_that_cannot_be_folded_says_why_and_saves_paths_without_scales(
    config: Any, reason: str, tmp_path: Path
) -> None:
    settings = {"vocab_size": 24, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "max_position_embeddings": 32, "pad_token_id": 0}  # fmt: skip
    made_config = config(**settings, intermediate_size=20, **({"num_key_value_heads": 1} if config is not OPTConfig
                                                              else {}))  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made_config)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in model.named_parameters()}
    parent = {"first": write_checkpoint(tmp_path / "parent", tensors, made_config)}
    path = (Step("first", 0), Step("first", 1, 0.5), Step("first", 1))
    with pytest.raises(CheckpointError, match="cannot be folded into the weights of") as caught:
        merge_to_disk(passthrough(parent, path), tmp_path / "out")
    assert re.search(reason, str(caught.value)) and "whose scales are all 1 can be saved" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parent"]
    if config in (Olmo2Config, Exaone4Config):
        whole = tuple(replace(step, scale=1.0) for step in path)
        assert AutoModelForCausalLM.from_pretrained(
            merge_to_disk(passthrough(parent, whole), tmp_path / "out")
        ).config.num_hidden_layers == 3  # fmt: skip


def test_what_a_path_cannot_have_is_said_before_anything_is_written(tmp_path: Path, family: SimpleNamespace) -> None:
    parents = {"math": family.math, "code": family.code}
    for scale in (0.0, -0.5):
        with pytest.raises(RecipeError, match="must be above 0"):
            Step("math", 0, scale)
    with pytest.raises(CheckpointError, match="math has 2 layers, so none with index 7"):
        merge_to_disk(passthrough(parents, (Step("math", 7),)), tmp_path / "out")
    with pytest.raises(RecipeError, match=r"multiply to 0.*use scales nearer to 1|multiply to .*e-"):
        merge_to_disk(passthrough(parents, [Step("math", 0, 1e-20)] * 3), tmp_path / "out")
    with pytest.raises(CheckpointError, match="parent 'gone': there is no folder"):
        merge_to_disk(passthrough({**parents, "gone": tmp_path / "gone"}, (Step("math", 0),)), tmp_path / "out")
    with pytest.raises(RecipeError, match=r"_proj.weight of math divided by 1e-09.* does not fit float16"):
        tiny = passthrough(parents, (Step("math", 0, 1e-9), Step("math", 1)), dtype="float16")
        merge_to_disk(tiny, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_repeated_layers_are_counted_and_the_format_cannot_share_them(tmp_path: Path, made: Any) -> None:
    one = passthrough(made("llama"), (Step("first", 0), Step("first", 0), Step("second", 0, 0.5), Step("second", 0)))
    plan = Sources().path_plan(one)
    layer = sum(
        tensor.nbytes
        for name, tensor in load_file(made("llama")["first"] / "model.safetensors").items()
        if name.startswith("model.layers.0.")
    )
    report = plan.repeated_layers()
    assert (report.layers, report.duplicate_bytes) == (2, 2 * layer)
    again = replace(one, path=(Step("first", 0), Step("first", 0, 0.5)))
    assert 0 < Sources().path_plan(again).repeated_layers().duplicate_bytes < layer  # what is divided differs
    # Two names for the same bytes, which would store a layer once, are refused by the format's own reader.
    save_file({"a": torch.zeros(2)}, tmp_path / "one.safetensors")
    data = (tmp_path / "one.safetensors").read_bytes()
    entry = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    header = b"{" + entry + b"," + entry.replace(b'"a"', b'"b"') + b"}"
    header += b" " * (-len(header) % 8)
    (tmp_path / "two.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[-8:])
    with pytest.raises(SafetensorError, match=r"(?i)invalid.?offset"):
        safe_open(tmp_path / "two.safetensors", "pt")


def test_a_failed_write_of_a_path_leaves_nothing(
    tmp_path: Path, family: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ExportError, match=r"the disk is full: .*; nothing was left there"):
        merge_to_disk(passthrough({"math": family.math}, (Step("math", 1), Step("math", 0))), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_parents_of_another_type_become_the_first_parents(tmp_path: Path) -> None:
    parents = {"first": make(tmp_path / "a", 0), "second": make(tmp_path / "b", 1, dtype="bfloat16")}
    path = (Step("first", 0), Step("second", 1))
    mine = tensors_of(merge_to_disk(passthrough(parents, path), tmp_path / "out"))
    assert {tensor.dtype for tensor in mine.values()} == {torch.float32}
    edit_config(parents["second"], rms_norm_eps=0.5)
    with pytest.raises(CheckpointError, match=r"second .*rms_norm_eps is 0.5 instead of"):
        merge_to_disk(passthrough(parents, path), tmp_path / "other")
