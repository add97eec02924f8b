"""How models are related, from samples of their weights: known answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import llama, make, random_tensors, recipe, write_checkpoint

from evomerge.assembly.ancestry import DOUBTFUL, FOREIGN, SAME, ancestry_cautions, judged
from evomerge.merge import samples as module
from evomerge.merge.kinship import Kinship, Relation, find_kinship
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 40}
Change = Callable[[str, torch.Tensor], torch.Tensor]


def derived(folder: Path, base: Path, change: Change, **config: Any) -> Path:
    """The base with each tensor changed by name."""
    tensors = {
        name: change(name, tensor).contiguous() for name, tensor in load_file(base / "model.safetensors").items()
    }
    return write_checkpoint(folder, tensors, llama(**{**SHAPE, **config}))


def moved_by(seed: int, size: float) -> Change:
    """Each matrix moves by a share of its norm in a random direction; vectors stay."""
    draw = torch.Generator().manual_seed(seed)

    def change(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dim() < 2:
            return tensor
        delta = torch.randn(tensor.shape, generator=draw)
        return (tensor.float() + size * delta * tensor.float().norm() / delta.norm()).to(tensor.dtype)

    return change


def kinship(base: Path | None, **models: Path | Recipe) -> Kinship:
    sources = Sources()
    named = {name: one if isinstance(one, Recipe) else ModelSource(str(one)) for name, one in models.items()}
    if base is not None:
        named["base"] = ModelSource(str(base))
    return find_kinship([(name, sources.open(one)) for name, one in named.items()], None if base is None else "base")


def verdict(base: Path, model: Path) -> str:
    return judged(kinship(base, a=model))["a"].verdict


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("base") / "base", 0, **SHAPE)


@pytest.mark.parametrize(("factor", "said"), [(math.nan, "holds NaN or Inf"), (0.0, "no weight matrix has entries")])
def test_weights_that_cannot_be_compared_are_not_called_of_another_shape(
    base: Path, tmp_path: Path, factor: float, said: str
) -> None:
    broken = derived(tmp_path / "broken", base, lambda _, tensor: tensor * factor)
    found = judged(kinship(base, a=broken))["a"]
    assert found.verdict == DOUBTFUL and said in found.reason


def test_the_sums_are_those_of_the_whole_task_vectors(base: Path, tmp_path: Path) -> None:
    """These tensors are small, so all of their entries are read."""
    a = derived(tmp_path / "a", base, lambda name, t: moved_by(1, 0.1)(name, t) + 0.001)
    b = derived(tmp_path / "b", base, moved_by(2, 0.2))
    found = kinship(base, a=a, b=b)
    origin = {k: v.double() for k, v in load_file(base / "model.safetensors").items() if v.dim() > 1}
    x, y = (
        torch.cat([(tensors[k].double() - v).flatten() for k, v in origin.items()]).numpy()
        for tensors in (load_file(a / "model.safetensors"), load_file(b / "model.safetensors"))
    )
    theta = torch.cat([v.flatten() for v in origin.values()]).numpy()
    likeness, relation = found.likeness[("a", "b")], found.relations[("a", "base")]
    assert likeness.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-9)
    assert likeness.pearson == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-9)
    assert likeness.pearson != pytest.approx(likeness.cosine, rel=1e-3), "the mean of a is not 0"
    assert likeness.sign_agreement == pytest.approx(np.mean(np.sign(x) == np.sign(y)), rel=1e-9)
    assert likeness.difference == pytest.approx(np.linalg.norm(x - y) / max(np.linalg.norm(x), np.linalg.norm(y)))
    assert relation.distance == pytest.approx(np.linalg.norm(x) / np.linalg.norm(theta), rel=1e-9)
    assert relation.scale == pytest.approx(np.linalg.norm(theta + x) / np.linalg.norm(theta), rel=1e-9)
    assert found.relations.keys() == {("a", "b"), ("a", "base"), ("b", "base")}


def test_kinship_of_a_model_with_itself_and_its_opposite(base: Path, tmp_path: Path) -> None:
    a = derived(tmp_path / "a", base, moved_by(1, 0.1))
    tau = {k: load_file(a / "model.safetensors")[k] - v for k, v in load_file(base / "model.safetensors").items()}
    opposite = derived(tmp_path / "opposite", base, lambda name, t: t - tau[name])
    half = derived(tmp_path / "half", base, lambda name, t: t + 0.5 * tau[name])
    found = kinship(base, a=a, same=a, opposite=opposite, half=half)
    assert found.likeness[("a", "same")].cosine == pytest.approx(1.0)
    assert found.likeness[("a", "opposite")].cosine == pytest.approx(-1.0, abs=1e-6)
    assert found.likeness[("a", "opposite")].sign_agreement == pytest.approx(0.0, abs=0.01)
    assert found.likeness[("a", "half")].cosine == pytest.approx(1.0, abs=1e-6), "the size does not count"
    assert found.likeness[("a", "half")].difference == pytest.approx(0.5, abs=1e-4)


def test_a_zero_task_vector_has_no_direction(base: Path, tmp_path: Path) -> None:
    found = kinship(base, same=base, a=derived(tmp_path / "a", base, moved_by(1, 0.1)))
    likeness = found.likeness[("same", "a")]
    assert (likeness.cosine, likeness.pearson, likeness.sign_agreement) == (None, None, None)
    assert found.relations[("same", "base")].alike
    assert found.relations[("same", "base")].distance == 0.0


def test_what_a_fine_tuned_model_looks_like(base: Path, tmp_path: Path) -> None:
    """A move by r in a random direction leaves the correlation 1/√(1 + r²)."""
    for r in (0.02, 0.3):
        model = derived(tmp_path / f"r{r}", base, moved_by(1, r))
        relation = kinship(base, a=model).relations[("a", "base")]
        assert relation.distance == pytest.approx(r, rel=1e-5)
        assert relation.correlation == pytest.approx(1 / math.sqrt(1 + r * r), abs=0.01)
        assert verdict(base, model) == SAME


def test_another_seed_of_the_same_shapes_is_foreign(base: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", 9, **SHAPE)
    relation = kinship(base, a=other).relations[("a", "base")]
    assert abs(relation.correlation or 0.0) < 0.1
    assert relation.distance == pytest.approx(math.sqrt(2), abs=0.05)
    assert relation.unlike == relation.matrices > 0
    assert verdict(base, other) == FOREIGN


def permuted(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The same function with the hidden units of each MLP in another order."""
    order = torch.randperm(SHAPE["intermediate_size"], generator=torch.Generator().manual_seed(4))
    if "gate_proj" in name or "up_proj" in name:
        return tensor[order]
    return tensor[:, order] if "down_proj" in name else tensor


def half_of(name: str, tensor: torch.Tensor) -> torch.Tensor:
    kept = tensor.abs() > tensor.abs().flatten().quantile(0.5)
    return torch.where(kept, tensor, 0.0) if tensor.dim() > 1 else tensor


def low_rank(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if "q_proj" not in name:
        return tensor
    draw = torch.Generator().manual_seed(1)
    return tensor + 0.005 * torch.randn(len(tensor), 2, generator=draw) @ torch.randn(
        2, tensor.shape[1], generator=draw
    )


def quantised(name: str, tensor: torch.Tensor) -> torch.Tensor:
    step = tensor.abs().max() / 7
    return (tensor / step).round() * step if tensor.dim() > 1 else tensor


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (low_rank, SAME),  # a merged LoRA
        (half_of, SAME),  # half of the weights pruned
        (quantised, SAME),  # 4 bits, and back
        (moved_by(1, 1.0), DOUBTFUL),  # very long continued pre-training
        (lambda name, t: 2 * t, DOUBTFUL),
        (permuted, DOUBTFUL),
        (lambda name, t: t.flip(0) if t.dim() > 1 else t, FOREIGN),
    ],
)
def test_verdicts(base: Path, tmp_path: Path, change: Change, expected: str) -> None:
    assert verdict(base, derived(tmp_path / "a", base, change)) == expected


def texts(found: Kinship) -> str:
    return "\n".join(one.text for one in ancestry_cautions(found))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_copy_in_half_precision_is_the_base_but_for_rounding(base: Path, tmp_path: Path, dtype: str) -> None:
    copy = derived(tmp_path / "copy", base, lambda name, t: t.to(getattr(torch, dtype)))
    back = derived(tmp_path / "back", base, lambda name, t: t.to(getattr(torch, dtype)).float())
    for model in (copy, back):
        found = kinship(base, a=model)
        relation = found.relations[("a", "base")]
        assert relation.alike_rounded
        assert not relation.alike
        assert texts(found) == "a is this base itself, but for rounding to 16 bits"


def test_parents_that_hardly_differ_are_named(base: Path, tmp_path: Path) -> None:
    a, near = derived(tmp_path / "a", base, moved_by(1, 0.1)), tmp_path / "near"
    derived(near, a, moved_by(2, 0.004))
    faint = derived(tmp_path / "faint", base, moved_by(3, 3e-5))
    said = texts(kinship(base, a=a, twin=a, near=near, faint=faint, copy=base))
    assert "a and twin are the same model, as far as was sampled" in said
    assert "a and near hardly differ: by 4 % of their task vectors" in said
    assert "faint hardly differs from this base: its weights moved by 0.003 %" in said
    assert "copy is this base itself, as far as was sampled: all entries of 30 tensors are equal" in said
    assert "near and faint" not in said


def test_a_foreign_base_is_named_and_a_likelier_one(base: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", 9, **SHAPE)
    a, b = derived(tmp_path / "a", base, moved_by(1, 0.05)), derived(tmp_path / "b", base, moved_by(2, 0.05))
    found = kinship(other, a=a, b=b, own=derived(tmp_path / "own", other, moved_by(3, 0.05)))
    verdicts = judged(found)
    assert {name: one.verdict for name, one in verdicts.items()} == {"a": FOREIGN, "b": FOREIGN, "own": SAME}
    assert (verdicts["a"].likelier, verdicts["own"].likelier) == ("b", None)
    assert "a was not fine-tuned from this base (correlation of weights " in texts(found)
    assert "b fits better as its base" in texts(found)
    assert "hardly differ" not in texts(found), "they only share what separates them from the base"


def test_without_a_base_the_odd_one_out_is_foreign(base: Path, tmp_path: Path) -> None:
    a, b = derived(tmp_path / "a", base, moved_by(1, 0.3)), derived(tmp_path / "b", base, moved_by(2, 0.3))
    found = kinship(None, odd=make(tmp_path / "odd", 9, **SHAPE), a=a, b=b)
    assert {name: one.verdict for name, one in judged(found).items()} == {"odd": FOREIGN, "a": SAME, "b": SAME}
    assert found.likeness == {}
    assert texts(found).startswith("odd was not made from the same weights as the other parents")
    alone = kinship(None, a=a)
    assert judged(alone)["a"].verdict == SAME
    assert alone.relations == {}


def test_a_matrix_that_was_made_anew_is_far_out(base: Path, tmp_path: Path) -> None:
    def reset(name: str, tensor: torch.Tensor) -> torch.Tensor:
        draw = torch.Generator().manual_seed(5)
        anew = 0.1 * torch.randn(tensor.shape, generator=draw)
        return anew if name == "model.layers.1.mlp.up_proj.weight" else moved_by(len(name), 0.02)(name, tensor)

    found = kinship(base, a=derived(tmp_path / "a", base, reset))
    ((name, ratio),) = found.relations[("a", "base")].outliers
    assert name == "model.layers.1.mlp.up_proj.weight"
    assert ratio == pytest.approx(math.sqrt(2) / 0.02, rel=0.1)
    assert f"moved {ratio:.0f} times as far from this base" in texts(found)


def test_nan_is_named_and_left_out_of_the_sums(base: Path, tmp_path: Path) -> None:
    def broken(name: str, tensor: torch.Tensor) -> torch.Tensor:
        made = moved_by(1, 0.1)(name, tensor).clone()
        if "layers.0.mlp.up_proj" in name:
            made[0, 0] = math.nan
        return made

    found = kinship(base, a=derived(tmp_path / "a", base, broken))
    assert found.not_finite == {"a": ("model.layers.0.mlp.up_proj.weight",)}
    assert math.isfinite(found.relations[("a", "base")].distance)
    assert "a holds NaN or Inf in model.layers.0.mlp.up_proj.weight" in texts(found)


def test_models_of_other_shapes_share_what_they_share(base: Path, tmp_path: Path) -> None:
    """More rows of embeddings are cut; a deeper model has the first layers in common; another width has nothing."""

    def more_rows(name: str, tensor: torch.Tensor) -> torch.Tensor:
        rows = torch.ones(8, SHAPE["hidden_size"])
        return torch.cat([tensor, rows]) if "embed" in name or "lm_head" in name else tensor

    longer = derived(tmp_path / "longer", base, more_rows, vocab_size=SHAPE["vocab_size"] + 8)
    relation = kinship(base, a=longer).relations[("a", "base")]
    assert (relation.equal, relation.tensors, relation.missing) == (30, 30, 2)
    assert not relation.alike, "it has more rows"
    assert verdict(base, longer) == SAME

    deeper = llama(**{**SHAPE, "num_hidden_layers": 4})
    tensors = {**random_tensors(deeper, 7), **load_file(base / "model.safetensors")}
    relation = kinship(base, a=write_checkpoint(tmp_path / "deep", tensors, deeper)).relations[("a", "base")]
    assert (relation.equal, relation.tensors, relation.missing) == (30, 30, 9)

    wide = make(tmp_path / "wide", 1, **{**SHAPE, "hidden_size": 48})
    found = kinship(base, a=wide)
    assert found.relations[("a", "base")].matrices == 0
    assert found.relations[("a", "base")].correlation is None
    assert judged(found)["a"].verdict == FOREIGN


def test_tied_and_untied_heads(base: Path, tmp_path: Path) -> None:
    settings = llama(**SHAPE, tie_word_embeddings=True)
    tensors = {k: v for k, v in load_file(base / "model.safetensors").items() if k != "lm_head.weight"}
    tied = write_checkpoint(tmp_path / "tied", tensors, settings)
    relation = kinship(base, a=tied).relations[("a", "base")]
    assert (relation.equal, relation.tensors, relation.missing) == (29, 29, 1)


def test_large_tensors_are_sampled_at_the_same_places_in_every_model(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate from samples is near the truth, equal in each run, and little is read."""
    a, b = derived(tmp_path / "a", base, moved_by(1, 0.1)), derived(tmp_path / "b", base, moved_by(2, 0.1))
    whole = kinship(base, a=a, b=b)
    monkeypatch.setattr(module, "BLOCK", 16)
    some = kinship(base, a=a, b=b)
    assert some.read_bytes < 0.4 * whole.read_bytes
    turned = kinship(base, b=b, a=a)
    assert turned.relations[("a", "base")] == some.relations[("a", "base")], "whoever comes first"
    assert turned.likeness[("b", "a")] == some.likeness[("a", "b")]
    one, other = some.relations[("a", "base")], whole.relations[("a", "base")]
    assert one.distance == pytest.approx(other.distance, rel=0.05)
    assert one.correlation == pytest.approx(other.correlation, abs=0.01)


def test_few_matrices_of_many_are_read(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    found = kinship(base, a=base)
    relation: Relation = found.relations[("a", "base")]
    assert relation.matrices == 5
    assert relation.tensors < 8


def test_of_a_recipe_few_tensors_are_computed(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = derived(tmp_path / "a", base, moved_by(1, 0.2))
    half = recipe("task_arithmetic", base, {"a": a}, parameters={"weight": 0.5})
    monkeypatch.setattr(module, "MOST_COMPUTED", 6)
    relation = kinship(base, half=half).relations[("half", "base")]
    assert relation.matrices == 6
    assert relation.distance == pytest.approx(0.1, rel=0.02)


def test_a_sharded_checkpoint_is_read_like_a_whole_one(base: Path, tmp_path: Path) -> None:
    import json

    tensors = load_file(base / "model.safetensors")
    shards = write_checkpoint(tmp_path / "shards", tensors, llama(**SHAPE))
    (shards / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {}
    for i, part in enumerate((names[::2], names[1::2])):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, shards / file, metadata={"format": "pt"})
        index |= dict.fromkeys(part, file)
    (shards / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert kinship(base, a=shards).relations[("a", "base")].alike
