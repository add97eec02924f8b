"""Paths over hybrids: which kind of layer stands at which depth follows the path, in the class, in files, in caches."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from any_family import families, tiny_config, tiny_model
from tiny_models import recipe
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live import places
from evomerge.merge.live.models import LiveModels
from evomerge.merge.paths import placed
from evomerge.merge.paths.pattern import pattern_of
from evomerge.merge.paths.placed import path_problems, problems_of_path
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Step

IDS = torch.tensor([[5, 7, 11, 13, 17, 19, 23, 29]])
HYBRIDS = ["bamba", "falcon_h1", "granitemoehybrid", "lfm2", "nemotron_h", "qwen3_next", "mamba2"]


def parents(model_type: str, folder: Path) -> dict[str, Path]:
    config = tiny_config(model_type)
    config.architectures = [families("CAUSAL_LM")[model_type]]
    for seed, name in enumerate("ab"):
        tiny_model(copy.deepcopy(config), seed).save_pretrained(folder / name)
    return {name: folder / name for name in "ab"}


@pytest.mark.parametrize("model_type", [pytest.param(one, marks=() if one in ("bamba", "qwen3_next", "lfm2") else
                                                     pytest.mark.slow) for one in HYBRIDS])  # fmt: skip
def test_a_path_of_a_hybrid_keeps_the_kind_of_each_layer(model_type: str, tmp_path: Path) -> None:
    made = parents(model_type, tmp_path)
    opened = Sources().open(ModelSource(str(made["a"])))
    assert path_problems(opened) == []
    n = opened.architecture.n_layers
    order = [*range(n), n - 1, 0, n - 1]  # layers come again: each visit needs a state of its own
    path = tuple(Step("ab"[i % 2], layer) for i, layer in enumerate(order))
    of = recipe("passthrough", None, made, path=path)
    saved: Any = AutoModelForCausalLM.from_pretrained(merge_to_disk(of, tmp_path / "out")).eval()
    kinds = [pattern_of(opened.config, n).kind(layer) for layer in order]
    pattern = pattern_of(AutoConfig.from_pretrained(tmp_path / "out"), len(order))
    assert [pattern.kind(t) for t in range(len(order))] == kinds
    whole = {name: AutoModelForCausalLM.from_pretrained(folder).state_dict() for name, folder in made.items()}
    prefix = opened.architecture.layers_name
    for t, step in enumerate(path):
        theirs = {key.removeprefix(f"{prefix}.{step.layer}."): value for key, value in whole[step.parent].items()
                  if key.startswith(f"{prefix}.{step.layer}.")}  # fmt: skip
        assert theirs
        assert all(torch.equal(saved.state_dict()[f"{prefix}.{t}.{key}"], value) for key, value in theirs.items())

    live = LiveModels()
    live.write(of)
    with torch.no_grad():
        torch.testing.assert_close(live.model(IDS).logits, saved(IDS).logits, rtol=1e-4, atol=1e-5)
        options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
        answers = [model.generate(IDS, **options) for model in (live.model, saved)]
        anew = saved.generate(IDS, use_cache=False, **options)
    assert torch.equal(answers[0], anew)
    assert torch.equal(answers[1], anew)


def test_a_pattern_that_the_configuration_computes_is_kept_or_refused(tmp_path: Path) -> None:
    made = parents("jamba", tmp_path)  # every second layer is one of attention, said by a period
    keeps = recipe("passthrough", None, made, path=tuple(Step("ab"[i % 2], i % 4) for i in (0, 1, 2, 3, 2, 3)))
    loaded: Any = AutoModelForCausalLM.from_pretrained(merge_to_disk(keeps, tmp_path / "kept"))
    assert loaded.config.num_hidden_layers == 6
    breaks = recipe("passthrough", None, made, path=(Step("a", 0), Step("b", 0), Step("a", 1)))
    with pytest.raises(CheckpointError, match="a path must keep its pattern"):
        merge_to_disk(breaks, tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    (problem,) = path_problems(Sources().open(ModelSource(str(made["a"]))))
    assert "not the same at every place" in problem


def test_layers_that_share_a_block_stand_in_no_path(tmp_path: Path) -> None:
    made = parents("zamba", tmp_path)
    with pytest.raises(CheckpointError, match="its layers 1 and 3 share tensors"):
        merge_to_disk(recipe("passthrough", None, made, path=(Step("a", 0), Step("b", 1))), tmp_path / "out")


def test_a_path_that_would_compute_something_else_in_memory_is_refused_there(tmp_path: Path) -> None:
    made = parents("rwkv", tmp_path)  # its layers keep their states under a number that does not follow
    live = LiveModels()
    in_place = recipe("passthrough", None, made, path=(Step("a", 0), Step("b", 1)))
    live.write(in_place)
    saved: Any = AutoModelForCausalLM.from_pretrained(merge_to_disk(in_place, tmp_path / "in_place")).eval()
    with torch.no_grad():
        assert torch.equal(live.model(IDS).logits, saved(IDS).logits)
    repeated = recipe("passthrough", None, made, path=(Step("a", 0), Step("b", 1), Step("b", 1)))
    with pytest.raises(CheckpointError, match=r"cannot run in memory.*\n.*slot in the KV cache(.|\n)*evomerge merge"):
        live.write(repeated)
    assert live.recipe is None
    assert AutoModelForCausalLM.from_pretrained(merge_to_disk(repeated, tmp_path / "out")).config.num_hidden_layers == 3


def test_candidates_do_not_pay_for_knowing_that_layers_may_stand_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = parents("llama", tmp_path), []

    def counted(*args: Any) -> list[str]:
        asked.append(args)
        return problems_of_path(*args)

    monkeypatch.setattr(placed, "problems_of_path", counted)
    monkeypatch.setattr(places, "problems_of_path", counted)
    live = LiveModels()
    for order in ((0, 1), (1, 0), (0, 0, 1), (1, 1, 1, 0)):
        live.write(recipe("passthrough", None, made, path=tuple(Step("ab"[i % 2], i) for i in order)))
    assert len(asked) == 2  # once for each parent


def test_a_folder_whose_layers_compute_something_else_comes_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = parents("diffllama", tmp_path)  # how much attention is taken off depends on the depth of a layer
    merge_to_disk(recipe("passthrough", None, made, path=(Step("a", 0), Step("b", 1))), tmp_path / "same")
    assert "decides by place" not in caplog.text
    merge_to_disk(recipe("passthrough", None, made, path=(Step("b", 1), Step("a", 0))), tmp_path / "other")
    assert "what its class decides by place: its layers are not the same at every place: layer 1" in caplog.text
    assert "self_attn.lambda_init" in caplog.text
