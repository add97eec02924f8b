"""OPCM: the known answers, the identities of its projection, and edge cases."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from device_models import assert_same_on_a_device
from memory_family import merged
from tiny_models import make, near, recipe, same_bytes, tensors_of

from evomerge.errors import RecipeError
from evomerge.merge import sources
from evomerge.merge.cache import ParentCache
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.models import LiveModels
from evomerge.merge.methods import opcm, projection
from evomerge.merge.methods.matrices import one_thread, thin_svd
from evomerge.merge.methods.projection import split_rank
from evomerge.merge.sources import Sources
from evomerge.recipe import Group

M = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
D = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
MATRIX = "layers.0.mlp.weight"


def project(m: torch.Tensor, d: torch.Tensor, alpha: float, variant: str = "fusion_bench") -> torch.Tensor:
    with one_thread():
        return projection.project(d.double(), thin_svd(m.double()), alpha, variant)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def low_rank(m: int, n: int, rank: int, seed: int) -> torch.Tensor:
    return random(m, rank, seed=seed) @ random(rank, n, seed=seed + 100)


def build(models: list[Mapping[str, torch.Tensor]], **parameters: Any) -> dict[str, torch.Tensor]:
    """The merged task vectors over a base of zeros."""
    base = {name: torch.zeros_like(x) for name, x in models[0].items()}
    names = [f"p{i}" for i in range(len(models))]
    return merged("opcm", dict(zip(names, models, strict=True)), base, parameters)


def norm(model: Mapping[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(x.double().square().sum()) for x in model.values()))


@pytest.mark.parametrize(
    ("variant", "alpha", "expected"),
    [
        *(("fusion_bench", alpha, [[0.0, 2.0], [3.0, 0.0]]) for alpha in (0.0, 0.3, 0.5, 0.75, 0.9)),
        ("fusion_bench", 1.0, [[0.0, 0.0], [0.0, 0.0]]),
        *(("official", alpha, [[1.0, 2.0], [3.0, 4.0]]) for alpha in (0.0, 0.5, 0.74)),
        *(("official", alpha, [[0.0, 2.0], [3.0, 4.0]]) for alpha in (0.75, 0.9)),
        ("official", 1.0, [[0.0, 0.0], [0.0, 0.0]]),
        ("paper", 0.0, [[0.0, 2.0], [3.0, 0.0]]),
        *(("paper", alpha, [[0.0, 0.0], [0.0, 0.0]]) for alpha in (0.5, 0.75, 0.9, 1.0)),
    ],
)
def test_known_projections(variant: str, alpha: float, expected: list[list[float]]) -> None:
    assert torch.allclose(project(M, D, alpha, variant), torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_the_known_merge() -> None:
    out = build([{MATRIX: M}, {MATRIX: D}], alpha=0.5)[MATRIX]
    assert torch.allclose(out, torch.tensor([[2.702191, 1.801461], [2.702191, 0.900730]]), atol=2e-6)
    assert float(out.norm()) == pytest.approx(4.319752, abs=2e-6)
    assert float(out.norm()) == pytest.approx((3.162278 + 5.477226) / 2, abs=2e-6)


@pytest.mark.parametrize(("m", "n", "rank"), [(6, 6, 6), (5, 8, 5), (8, 5, 5), (7, 6, 2)])
@pytest.mark.parametrize("variant", ["fusion_bench", "paper"])
def test_what_is_added_is_orthogonal_and_stays_so(m: int, n: int, rank: int, variant: str) -> None:
    before, delta = low_rank(m, n, rank, 1), random(m, n, seed=2)
    for alpha in (0.0, 0.3, 0.5, 0.9, 1.0):
        added = project(before, delta, alpha, variant)
        assert abs(float((added * before).sum())) < 1e-9 * float(before.norm() * delta.norm())
        assert torch.allclose(
            project(before, before, alpha, variant), torch.zeros(m, n, dtype=torch.float64), atol=1e-9
        )
        assert torch.allclose(project(before, added, alpha, variant), added, atol=1e-9)
        both = (before + added).norm() ** 2
        assert float(both) == pytest.approx(float(before.norm() ** 2 + added.norm() ** 2), rel=1e-9)


def test_without_the_diagonal_rule_it_is_not_orthogonal() -> None:
    before, delta = random(6, 6, seed=1), random(6, 6, seed=2)
    assert abs(float((project(before, delta, 0.3, "official") * before).sum())) > 0.01


def test_the_result_does_not_depend_on_the_arbitrary_basis_of_what_is_zero() -> None:
    before, delta = low_rank(6, 6, 2, 3), random(6, 6, seed=4)
    turned, _ = torch.linalg.qr(random(6, 6, seed=5))
    out = project(before, delta, 0.5)
    again = turned.T @ project(turned @ before, turned @ delta, 0.5)
    assert torch.allclose(out, again, atol=1e-9)


def test_a_cut_between_equal_singular_values_moves_behind_them() -> None:
    assert split_rank([2.0, 2.0, 1.0, 1.0], 0.4, "fusion_bench") == 2
    assert split_rank([2.0, 1.0, 1.0, 1.0], 0.6, "fusion_bench") == 4
    assert split_rank([2.0, 2.0, 1.0], 0.1, "paper") == 2
    assert split_rank([3.0, 1.0], 0.1, "fusion_bench") == 0
    assert [split_rank([3.0, 1.0], alpha, "paper") for alpha in (0.0, 0.1, 0.75, 0.76, 1.0)] == [0, 1, 1, 2, 2]
    assert split_rank([], 0.5, "paper") == split_rank([], 1.0, "official") == 0


def test_nothing_merged_yet_projects_nothing() -> None:
    for alpha in (0.0, 0.5, 1.0):
        for variant in ("fusion_bench", "official", "paper"):
            assert torch.equal(project(torch.zeros(2, 2), D, alpha, variant), D.double())


def three(seed: int = 0) -> list[dict[str, torch.Tensor]]:
    return [
        {
            MATRIX: random(8, 6, seed=seed + 10 * i).float(),
            "layers.1.attention.weight.turned": random(6, 8, seed=seed + 10 * i + 1).float(),
            "layers.2.mlp.experts": random(2, 5, 4, seed=seed + 10 * i + 2).float(),
            "norm": random(6, seed=seed + 10 * i + 3).float(),
            "embedding": random(9, 6, seed=seed + 10 * i + 4).float(),
        }
        for i in range(3)
    ]


def test_the_length_is_the_mean_length_of_the_task_vectors_times_s() -> None:
    models = three()
    wanted = sum(map(norm, models)) / 3
    assert norm(build(models)) == pytest.approx(wanted, rel=1e-6)
    assert norm(build(models, norm=1.3, alpha=0.8)) == pytest.approx(1.3 * wanted, rel=1e-6)
    weighted = (2.0 * norm(models[0]) + norm(models[1]) + 0.5 * norm(models[2])) / 3
    assert norm(build(models, weight={"p0": 2.0, "p1": 1.0, "p2": 0.5})) == pytest.approx(weighted, rel=1e-6)


def test_with_itself_a_model_of_matrices_is_itself_and_vectors_double() -> None:
    model = three()[0]
    matrices = {name: x for name, x in model.items() if name not in ("norm", "embedding")}
    out = build([matrices, matrices, matrices], alpha=0.4)
    assert all(torch.allclose(out[name], x, atol=1e-5) for name, x in matrices.items())
    out = build([model, model])
    inside = sum(float(x.square().sum()) for x in matrices.values())
    outside = sum(float(model[name].square().sum()) for name in ("norm", "embedding"))
    factor = math.sqrt((inside + outside) / (inside + 4 * outside))
    assert torch.allclose(out["norm"], 2 * factor * model["norm"], rtol=1e-4)
    assert torch.allclose(out[MATRIX], factor * model[MATRIX], atol=1e-5)


def test_the_order_counts_and_is_that_of_the_keys() -> None:
    a, b, c = three()
    plain, turned = build([a, b, c]), build([b, c, a])
    assert not torch.allclose(plain[MATRIX], turned[MATRIX], atol=0.05)
    keyed = build([a, b, c], order={"p0": 0.9, "p1": -2.0, "p2": 0.3})
    assert all(torch.equal(x, turned[name]) for name, x in keyed.items())
    assert all(torch.equal(x, plain[name]) for name, x in build([a, b, c], order=0.1).items())


def test_a_parent_without_weight_is_left_out() -> None:
    a, b, c = three()
    out = build([a, c, b], weight={"p0": 1.0, "p1": 0.0, "p2": 1.0})
    assert all(torch.equal(x, build([a, b])[name]) for name, x in out.items())
    alone = build([a, c, b], weight={"p0": 0.0, "p1": 1.0, "p2": 0.0})
    assert all(torch.equal(x, c[name]) for name, x in alone.items())


def test_task_vectors_that_cancel_out_give_the_base_and_the_next_model_starts_anew() -> None:
    a, b = {"norm": torch.tensor([1.0, -2.0])}, {"norm": torch.tensor([-1.0, 2.0])}
    assert torch.equal(build([a, b])["norm"], torch.zeros(2))
    c = {"norm": torch.tensor([3.0, 4.0])}
    expected = c["norm"] * (2 * math.sqrt(5) + 5) / 3 / 5
    assert torch.allclose(build([a, b, c])["norm"], expected)
    zero = {"norm": torch.zeros(2)}
    assert torch.equal(build([zero, zero])["norm"], torch.zeros(2))


def test_lambda_grows_nearly_like_the_root_of_the_number_of_models() -> None:
    """‖Z_t‖ / n̄ is the paper's λ_t, here of random task vectors."""
    deltas = [random(40, 40, seed=t) for t in range(4)]
    z = deltas[0]
    for t, delta in enumerate(deltas[1:], start=2):
        z = z + project(z, delta, 0.5)
        growth = float(z.norm()) / (sum(float(each.norm()) for each in deltas[:t]) / t)
        assert 0.95 * math.sqrt(t) < growth < math.sqrt(t)


def test_candidates_share_steps_and_decompositions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []
    real = opcm.kept_svds
    monkeypatch.setattr(opcm, "kept_svds", lambda z, at: calls.append(1) or real(z, at))
    base = make(tmp_path / "base", 0, num_hidden_layers=1)
    parents = {f"p{i}": near(tmp_path / f"p{i}", base, i + 1) for i in range(3)}
    n_matrices = 7  # of one layer
    live = LiveModels(sources=Sources(cache=1.0))

    def cost(**parameters: Any) -> int:
        calls.clear()
        live.write(recipe("opcm", base, parents, parameters=parameters))
        assert len(calls) % n_matrices == 0
        return len(calls) // n_matrices

    order = {"p0": 0.1, "p1": 0.2, "p2": 0.3}
    assert cost(order=order) == 2
    assert cost(order={**order, "p2": 0.9}) == 0  # the same order, in other numbers
    assert cost(order=order, norm=1.2) == 0
    assert cost(order={**order, "p1": 0.7}) == 1  # begins with p0, whose decomposition is there
    assert cost(order={**order, "p1": 0.7}, alpha=0.8) == 1
    assert cost(order={**order, "p0": 0.7}) == 2
    assert cost(order=order) == 1


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_the_same_bytes_in_memory_on_disk_and_with_any_cache(dtype: str | None, tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0, tie_word_embeddings=True)
    parents = {f"p{i}": near(tmp_path / f"p{i}", base, i + 1) for i in range(3)}
    one = recipe(
        "opcm", base, parents, parameters={"alpha": 0.6, "order": {"p0": 0.5, "p1": 0.9, "p2": 0.1}}, dtype=dtype
    )
    written = tensors_of(merge_to_disk(one, tmp_path / "out"))
    bare = tensors_of(merge_to_disk(one, tmp_path / "bare", sources=Sources(cache="none")))
    assert same_bytes(written, bare)
    live = LiveModels(dtype=dtype)
    for other in (recipe("linear", base, parents, dtype=dtype), replace(one, parameters={"alpha": 0.1}), one):
        live.write(other)
    held = live.model.state_dict()
    assert all(torch.equal(x, held[name]) for name, x in written.items())


def test_memory_does_not_grow_with_candidates(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0, num_hidden_layers=1)
    parents = {f"p{i}": near(tmp_path / f"p{i}", base, i + 1) for i in range(3)}
    live = LiveModels(sources=Sources(cache=1.0))
    cache: ParentCache = live.sources.parent_cache
    assert isinstance(cache, sources.ParentCache)
    for first in parents:
        live.write(
            recipe("opcm", base, parents, parameters={"order": {name: float(name != first) for name in parents}})
        )
    used = cache.used
    for alpha in (0.1, 0.2, 0.3, 0.9):
        live.write(recipe("opcm", base, parents, parameters={"alpha": alpha}))
    assert cache.used == used


def test_wrong_numbers_and_groups_are_refused(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0)
    wrong = recipe("opcm", base, {"a": base}, parameters={"alpha": 1.5, "norm": -1.0})
    with pytest.raises(RecipeError, match=r"alpha must be between 0 and 1, but came 1.5(.|\n)*norm must be 0 or more"):
        Sources().plan(wrong)
    grouped = recipe("opcm", base, {"a": base}, groups=(Group({"alpha": 0.2}, roles=("mlp",)),))
    with pytest.raises(RecipeError, match="alpha of opcm holds for the whole model"):
        Sources().plan(grouped)


def test_another_device_gets_the_bytes_of_the_cpu(tmp_path: Path) -> None:
    base = make(tmp_path / "base", 0, dtype="bfloat16")
    parents = {f"p{i}": near(tmp_path / f"p{i}", base, i + 1) for i in range(3)}
    recipes = [recipe("opcm", base, parents, parameters={"alpha": alpha}) for alpha in (0.3, 0.8)]
    assert_same_on_a_device(recipes, base, parents.values())
