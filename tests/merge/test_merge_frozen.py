"""Parents with frozen layers: fewer genes, and the same merges as with all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import llama, make, random_tensors, same_bytes, write_checkpoint

from evomerge.assembly import spaces
from evomerge.assembly.prepare import prepare_spaces
from evomerge.config.reader import from_data
from evomerge.config.schema import SearchConfig
from evomerge.genome.parameter import ParameterSpace
from evomerge.merge.apply import merge_tensor
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.optimizers.cma_es import CMA
from evomerge.recipe import Recipe
from evomerge.record import Result

LAYERS = 3


def tuned(folder: Path, base: Path, seed: int, *, frozen: tuple[str, ...], dtype: torch.dtype) -> Path:
    """A "fine-tune" of the base that left tensors with these parts in their names as they were."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, tensor in sorted(load_file(base / "model.safetensors").items()):
        delta = 0.02 * torch.randn(tensor.shape, generator=draw)
        keep = any(part in name for part in frozen)
        tensors[name] = tensor.to(dtype) if keep else (tensor.float() + delta).to(dtype)
    return write_checkpoint(folder, tensors, llama(num_hidden_layers=LAYERS))


@pytest.fixture(scope="module", params=["bfloat16", "float32"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both left the embeddings and layer 0 as they were; `b` also the attention of layer 1."""
    folder = tmp_path_factory.mktemp("models")
    base = make(folder / "base", 0, dtype=request.param, num_hidden_layers=LAYERS)
    dtype = getattr(torch, request.param)
    both = ("embed_tokens", "layers.0.")
    a = tuned(folder / "a", base, 1, frozen=both, dtype=dtype)
    b = tuned(folder / "b", base, 2, frozen=(*both, "layers.1.self_attn"), dtype=dtype)
    return {"base": str(base), "parents": {"a": str(a), "b": str(b)}}


SPACE = {"blocks": "layers", "roles": {"attention": ["attention"], "mlp": ["mlp", "norm", "other"]}}


def config(models: dict[str, Any], method: str, parameters: dict[str, Any] | None = None, **space: Any) -> SearchConfig:
    needs_base = method not in ("linear", "slerp")
    return from_data(
        {
            "models": models if needs_base else {"parents": models["parents"]},
            "method": {"name": method, "parameters": parameters or {}},
            "space": {**SPACE, **space},
            "budget": {"candidates": 4},
            "evaluation": {"tasks": [{"name": "zoo_ja_math", "metric": "acc"}], "include_path": "zoo:tasks"},
        }
    )


def both_spaces(
    configuration: SearchConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[ParameterSpace, ParameterSpace, Sources]:
    """The space with the genes that count, and with all of them."""
    sources = Sources()
    few = spaces.make_space(configuration, configuration.stages[0].space, sources, None)
    with monkeypatch.context() as patch:
        patch.setattr(spaces, "_unmoved", lambda *_: None)
        every = spaces.make_space(configuration, configuration.stages[0].space, sources, None)
    assert isinstance(few, ParameterSpace)
    assert isinstance(every, ParameterSpace)
    return few, every, sources


def weights(sources: Sources, recipe: Recipe) -> dict[str, torch.Tensor]:
    plan = sources.plan(recipe)
    return {task.name: merge_tensor(plan, task) for task in plan.tasks}


TASK_METHODS = ("task_arithmetic", "ties", "dare_linear", "dare_ties")


@pytest.mark.parametrize("method", TASK_METHODS)
def test_every_candidate_has_the_same_bytes_as_with_all_genes(
    method: str, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = [{}, {"scope": "model"}, {"election": "count", "normalize": False}] if method == "ties" else [{}]
    for parameters in variants:
        few, every, sources = both_spaces(config(models, method, parameters), monkeypatch)
        names = [gene.name for gene in few.genes]
        assert not any("layers0" in name or "embeddings" in name or ".b.layers1.attention" in name for name in names)
        assert any(".a.layers1.attention" in name for name in names)
        draw = np.random.default_rng(7)
        for _ in range(4):
            genome = every.genome(draw.random(every.n_dims))
            values = dict(zip([gene.name for gene in every.genes], genome, strict=True))
            one = weights(sources, few.decode([values[name] for name in names]))
            assert same_bytes(one, weights(sources, every.decode(genome)))


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_without_a_base_equal_parents_give_their_own_bytes(
    method: str, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, every, sources = both_spaces(config(models, method), monkeypatch)
    names = [gene.name for gene in few.genes]
    assert {gene.name for gene in every.genes} - set(names) == {
        f"{which}{region}"
        for which in (("weight.a.", "weight.b.") if method == "linear" else ("t.",))
        for region in ("embeddings", "layers0.attention", "layers0.mlp")
    }
    parent = load_file(Path(models["parents"]["a"]) / "model.safetensors")
    draw = np.random.default_rng(3)
    for _ in range(4):
        genome = every.genome(0.1 + 0.9 * draw.random(every.n_dims))
        values = dict(zip([gene.name for gene in every.genes], genome, strict=True))
        one, other = (
            weights(sources, few.decode([values[name] for name in names])),
            weights(sources, every.decode(genome)),
        )
        for name, tensor in one.items():
            if "layers.0." in name or "embed" in name:
                assert torch.equal(tensor, parent[name])
                # With all genes, fp32 rounds a sum of shares; 16 bits do not show it.
                torch.testing.assert_close(
                    other[name], tensor, rtol=0 if tensor.dtype != torch.float32 else 3e-7, atol=0
                )
            else:
                assert torch.equal(tensor, other[name])


def test_a_sum_that_is_not_divided_keeps_all_genes(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    few, every, _ = both_spaces(config(models, "linear", {"normalize": False}), monkeypatch)
    assert few.genes == every.genes


def test_frozen_groups_are_written_once(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    few, _, sources = both_spaces(config(models, "ties"), monkeypatch)
    live, draw = LiveModels(sources=sources), np.random.default_rng(0)
    counts = []
    for _ in range(3):
        live.write(few.decode(few.genome(draw.random(few.n_dims))))
        counts.append((live.written.tensors, live.written.of))
    frozen = sum(
        "layers.0." in name or "embed" in name for name in load_file(Path(models["base"]) / "model.safetensors")
    )
    assert counts[0][0] == counts[0][1]
    assert counts[1:] == [(counts[0][1] - frozen, counts[0][1])] * 2


@pytest.mark.parametrize("models", ["float32"], indirect=True)
def test_a_search_with_fewer_genes_ends_at_the_same_merge(
    models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The objective is the distance from a known merge, so the optimum is known, too."""
    genes = {"weight": {"low": 0.0, "high": 1.6, "start": 0.7}}
    few, every, sources = both_spaces(
        config(models, "task_arithmetic", blocks=LAYERS, roles=None, genes=genes), monkeypatch
    )
    assert len(few.genes) == len(every.genes) - 4  # embeddings and layer 0, of two parents
    hidden = np.random.default_rng(5).random(every.n_dims)
    target = weights(sources, every.decode(every.genome(hidden)))

    def best_of(space: ParameterSpace) -> dict[str, torch.Tensor]:
        search = CMA(space.n_dims, space.start, seed=0)
        best: tuple[float, dict[str, torch.Tensor]] = (-np.inf, {})
        for _ in range(600):
            point = search.ask()
            made = weights(sources, space.decode(space.genome(point.x)))
            error = sum(float((made[name].float() - target[name].float()).square().sum()) for name in made)
            search.tell(point.number, Result((-error,)))
            if -error > best[0]:
                best = -error, made
        return best[1]

    for made in (best_of(few), best_of(every)):
        for name, tensor in made.items():
            torch.testing.assert_close(tensor.float(), target[name].float(), rtol=0, atol=2e-3)


def test_what_is_left_out_is_said(models: dict[str, Any]) -> None:
    configuration = config(models, "task_arithmetic")
    (space,) = prepare_spaces(configuration)
    assert spaces.left_out(configuration, space) == (
        "7 of 16 genes are left out, since they could change nothing: every parent equals the base in embeddings, "
        "layers0.attention, layers0.mlp; b equals the base in layers1.attention"
    )


def test_a_parent_in_another_type_than_the_base_is_compared_by_value(tmp_path: Path) -> None:
    """In fp32, a layer that was rounded to 16 bits is another one, unless nothing was lost."""
    tensors = random_tensors(llama(num_hidden_layers=LAYERS), 0)
    tensors = {name: tensor.bfloat16().float() if "layers.0." in name else tensor for name, tensor in tensors.items()}
    base = write_checkpoint(tmp_path / "base", tensors, llama(num_hidden_layers=LAYERS))
    a = tuned(tmp_path / "a", base, 1, frozen=("layers.0.", "layers.1."), dtype=torch.bfloat16)
    (space,) = prepare_spaces(config({"base": str(base), "parents": {"a": str(a)}}, "task_arithmetic", roles=None))
    assert isinstance(space, ParameterSpace)
    assert [one.region for one in space.left_out] == ["layers0"]
