"""Methods of directions, distances and single parents: known answers, and where the formulas say nothing."""

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import recipe, same_bytes, tensors_of

from evomerge.errors import RecipeError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.kernels.numba_engine import NumbaEngine
from evomerge.merge.live.model import LiveModel
from evomerge.merge.methods.arcee_fusion import find_importance
from evomerge.merge.methods.base import Inputs
from evomerge.merge.methods.gram import find_gram
from evomerge.merge.methods.karcher import mean_direction
from evomerge.merge.methods.registry import find_method
from evomerge.merge.plan import check_recipe
from evomerge.recipe import ModelSource

ANGLES = ("nuslerp", "multislerp", "karcher", "model_stock", "geometric_median")


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def merge(method: str, parents: Sequence[torch.Tensor], base: torch.Tensor | None = None, **given: Any) -> torch.Tensor:
    """The method's reference, with defaults for what is not given."""
    spec = find_method(method).spec
    values = {
        p.name: given.pop(p.name, (p.default,) * len(parents) if p.per_parent else p.default) for p in spec.parameters
    }
    assert not given
    return find_method(method).merge(Inputs(base, parents, values))


def close(actual: torch.Tensor, expected: object, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(actual.numpy(), np.asarray(expected), rtol=rtol, atol=atol)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dots_of(*vectors: torch.Tensor) -> np.ndarray:
    x = torch.stack(vectors).double()
    return (x @ x.T).numpy()


def refusals(method: str, family: SimpleNamespace, n: int = 2, **parameters: Any) -> str:
    parents = dict(list({"math": family.math, "japanese": family.japanese, "code": family.code}.items())[:n])
    base = family.base if find_method(method).spec.needs_base else None
    with pytest.raises(RecipeError) as caught:
        check_recipe(recipe(method, base, parents, parameters=parameters))
    return str(caught.value)


# ---- nuslerp


def test_nuslerp_known_answers() -> None:
    a, b = vector(2, 0), vector(0, 4)
    close(merge("nuslerp", [a, b]), [1.41421, 2.82843])
    close(merge("nuslerp", [a, b], weight=(2.0, 1.0)), [2 * math.sin(math.pi / 3), 4 * math.sin(math.pi / 6)])
    base = vector(1, 1)
    close(merge("nuslerp", [base + a, base + b], base, of="task_vectors"), [2.41421, 3.82843])


@pytest.mark.parametrize("weight", [(0.0, 0.0), (1.0, -1.0), (2e-7, 3e-7)])
def test_nuslerp_of_weights_without_a_sum_is_the_middle(weight: tuple[float, float]) -> None:
    close(merge("nuslerp", [vector(1, 0), vector(0, 1)], weight=weight), [math.sqrt(0.5)] * 2)


def test_nuslerp_of_nearly_parallel_vectors_keeps_to_the_arc() -> None:
    """The line would be too short by Ω²/8, which is 1e-4 here."""
    omega = 0.03
    a, b = vector(1, 0), vector(math.cos(omega), math.sin(omega))
    middle = merge("nuslerp", [a, b])
    close(middle, [math.cos(omega / 2), math.sin(omega / 2)], rtol=1e-6, atol=1e-8)
    close(merge("nuslerp", [a, a]), a)


def test_nuslerp_of_rows_and_columns_is_slerp_of_each() -> None:
    a, b = random(4, 5, seed=1), random(4, 5, seed=2)
    rows, columns = (merge("nuslerp", [a, b], weight=(0.2, 0.6), scope=scope) for scope in ("row", "column"))
    for i in range(4):
        close(rows[i], merge("nuslerp", [a[i], b[i]], weight=(0.2, 0.6)))
    for j in range(5):
        close(columns[:, j], merge("nuslerp", [a[:, j].contiguous(), b[:, j].contiguous()], weight=(0.2, 0.6)))
    a, b = random(2, 3, 4, seed=1), random(2, 3, 4, seed=2)  # the columns of a stack are along its first axis
    close(merge("nuslerp", [a, b], scope="column")[:, 1, 2], merge("nuslerp", [a[:, 1, 2], b[:, 1, 2]]))


def test_nuslerp_of_opposite_and_zero_vectors_is_on_the_line() -> None:
    close(merge("nuslerp", [vector(1, 0), vector(-3, 0)], weight=(0.75, 0.25)), [0, 0])
    close(merge("nuslerp", [vector(0, 0), vector(0, 4)], weight=(0.75, 0.25)), [0, 1])
    rows = [torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[-1.0, 0.0], [2.0, 2.0]])]
    close(merge("nuslerp", rows, scope="row"), [[0, 0], [1, 1]])


# ---- multislerp


def test_multislerp_known_answers() -> None:
    a, b, c = vector(2, 0, 0), vector(0, 4, 0), vector(0, 0, 6)
    close(merge("multislerp", [a, b, c]), [4 / math.sqrt(3)] * 3)
    length, direction = 0.25 * 2 + 0.75 * 4, np.array([0.25, 0.75, 0]) / math.hypot(0.25, 0.75)
    close(merge("multislerp", [a, b], weight=(1.0, 3.0)), length * direction)
    close(merge("multislerp", [a, b], weight=(1.0, 3.0), normalize=False), 4 * length * direction)


def test_multislerp_of_two_equal_weights_has_the_direction_of_slerp() -> None:
    a, b = random(50, seed=1), random(50, seed=2)
    out, arc = merge("multislerp", [a, b / b.norm() * a.norm()]), merge("nuslerp", [a, b / b.norm() * a.norm()])
    close(out, arc)


def test_multislerp_of_directions_that_cancel_is_the_weighted_sum() -> None:
    third = [vector(1, 0), vector(-0.5, math.sqrt(0.75)), vector(-2, -math.sqrt(12))]
    close(merge("multislerp", third), [-0.5, -math.sqrt(0.75)])
    close(merge("multislerp", [vector(1, 0), vector(-3, 0)]), [-1, 0])
    close(merge("multislerp", [vector(0, 0), vector(0, 0)]), [0, 0])


def test_weights_that_sum_to_nothing_are_refused(family: SimpleNamespace) -> None:
    assert "sum to 0" in refusals("multislerp", family, weight={"math": 1.0, "japanese": -1.0})
    assert "eps must be above 0" in refusals("multislerp", family, eps=0.0)
    assert "not be negative" in refusals("karcher", family, weight={"math": 1.0, "japanese": -0.5})
    assert "weights are all 0" in refusals("geometric_median", family, weight=0.0)


# ---- karcher


def test_karcher_of_two_is_the_point_on_their_arc() -> None:
    a, b = random(40, seed=1), random(40, seed=2)
    a, b = a / a.norm(), b / b.norm()
    for weight in ((1.0, 1.0), (0.2, 0.7)):
        out = merge("karcher", [a, b], weight=weight, max_iter=100, tol=1e-9)
        close(out, merge("nuslerp", [a, b], weight=weight), rtol=1e-5, atol=1e-6)


def test_karcher_of_three_orthogonal_vectors() -> None:
    close(merge("karcher", [vector(1, 0, 0), vector(0, 2, 0), vector(0, 0, 6)]), [3 / math.sqrt(3)] * 3)


def test_karcher_is_where_the_sum_of_squared_angles_is_smallest() -> None:
    points = [random(6, seed=k) for k in range(4)]
    alpha = np.array([0.1, 0.4, 0.3, 0.2])
    units = [x / x.norm() for x in points]
    found = mean_direction(dots_of(*units), alpha, max_iter=200, tol=1e-12)
    u = sum(float(c) * x.double() for c, x in zip(found, units, strict=True))
    assert isinstance(u, torch.Tensor)
    assert float(u.norm()) == pytest.approx(1.0)

    def cost(v: torch.Tensor) -> float:
        v = v / v.norm()
        return sum(w * math.acos(max(-1.0, min(1.0, float(v @ x.double())))) ** 2
                   for w, x in zip(alpha, units, strict=True))  # fmt: skip

    for k in range(20):
        assert cost(u + 1e-2 * random(6, seed=100 + k).double()) > cost(u)


def test_karcher_of_opposite_and_zero_vectors() -> None:
    close(merge("karcher", [vector(1, 0), vector(-3, 0)]), [2, 0])  # no mean direction: that of the first
    close(merge("karcher", [vector(0, 0), vector(0, 4)]), [0, 2])  # a zero vector has a length, but no direction
    close(merge("karcher", [vector(0, 0), vector(0, 0)]), [0, 0])


def test_a_base_takes_no_part_in_karcher_unless_task_vectors_are_asked_for() -> None:
    base, a, b = vector(5, 5), vector(6, 5), vector(5, 7)
    close(merge("karcher", [a, b], base, of="task_vectors"), [5 + 1.5 / math.sqrt(2)] * 2)
    method = find_method("karcher")
    assert not method.uses_base({"of": "weights"})
    assert method.uses_base({"of": "task_vectors"})


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"max_iter": 0}, "max_iter must be 1 or more"),
        ({"tol": 0.0}, "tol must be above 0"),
        ({"max_iter": 2.5}, "whole number"),
        ({"of": "task_vectors"}, "name one with"),
    ],
)
def test_what_karcher_refuses(given: dict[str, Any], text: str, family: SimpleNamespace) -> None:
    assert text in refusals("karcher", family, **given)


# ---- model stock


def test_model_stock_known_answers() -> None:
    zero = vector(0, 0)
    close(merge("model_stock", [vector(1, 0), vector(0.5, math.sqrt(0.75))], zero), [0.5, 0.288675])
    close(merge("model_stock", [vector(1, 2)] * 3, zero), [1, 2])
    close(merge("model_stock", [vector(1, 0), vector(0, 1)], zero), [0, 0])
    close(merge("model_stock", [vector(1, 0), vector(0, 1)], zero, exponent=0.0), [0.5, 0.5])


def test_model_stock_never_leaves_the_way_from_base_to_average() -> None:
    zero = vector(0, 0)
    for opposite in ([vector(1, 0), vector(-1, 0)], [vector(1, 0), vector(-0.5, 0.8), vector(-0.5, -0.9)]):
        close(merge("model_stock", opposite, zero), [0, 0])
    close(merge("model_stock", [zero, zero], zero), [0, 0])
    # A zero task vector is like no other: c = 1/3 of the three pairs.
    close(merge("model_stock", [vector(3, 0), vector(3, 0), zero], zero), [3 * (1 / (1 + 2 / 3)) * 2 / 3, 0])


def test_model_stock_of_rows() -> None:
    base = random(3, 6)
    parents = [base + random(3, 6, seed=k) + 1.0 for k in (1, 2, 3)]
    out = merge("model_stock", parents, base, scope="row")
    for i in range(3):
        close(out[i], merge("model_stock", [each[i] for each in parents], base[i]))


def test_model_stock_needs_two(family: SimpleNamespace) -> None:
    assert "2 or more parents" in refusals("model_stock", family, n=1)
    assert "column" in refusals("model_stock", family, scope="column")


# ---- geometric median


def test_geometric_median_known_answers() -> None:
    line = [vector(0, 0), vector(1, 1), vector(10, 10)]
    close(merge("geometric_median", line), [1, 1])
    # The Fermat point of an equilateral triangle is its centre; beyond an angle of 120° it is that corner.
    triangle = [vector(0, 0), vector(1, 0), vector(0.5, math.sqrt(0.75))]
    close(merge("geometric_median", triangle), [0.5, math.sqrt(0.75) / 3])
    wide = [vector(0, 0), vector(1, 0.1), vector(-1, 0.1)]
    assert torch.equal(merge("geometric_median", wide), wide[0])


def test_the_fermat_point_sees_every_side_at_120_degrees() -> None:
    corners = [vector(0, 0), vector(4, 0), vector(1, 3)]
    z = merge("geometric_median", corners).double()
    rays = [(each.double() - z) / (each.double() - z).norm() for each in corners]
    for i in range(3):
        assert float(rays[i] @ rays[(i + 1) % 3]) == pytest.approx(-0.5, abs=1e-4)


def test_geometric_median_stays_at_a_majority() -> None:
    a, b, c = random(30, seed=1), random(30, seed=2), 100 * random(30, seed=3)
    assert torch.equal(merge("geometric_median", [a, c, a]), a)
    assert torch.equal(merge("geometric_median", [b, a], weight=(0.4, 0.6)), a)
    close(merge("geometric_median", [a, b]), (a + b) / 2)
    far = merge("geometric_median", [a, b, a + 0.1 * b, c])
    assert float((far - a).norm()) < 0.2 * float((a + b + a + 0.1 * b + c).norm()) / 4
    assert torch.equal(merge("geometric_median", [a, a, a]), a)


def test_what_geometric_median_refuses(family: SimpleNamespace) -> None:
    text = refusals("geometric_median", family, max_iter=0, tol=-1.0, smoothing=0.0, weight=-1.0)
    assert all(
        part in text for part in ("max_iter must be 1 or more", "tol must be 0 or more", "smoothing must be above 0")
    )
    assert "must not be negative" in text


# ---- nearswap


def test_nearswap_known_answers() -> None:
    base, parent = vector(0, 0, 0, 0), vector(0.05, -0.05, 3, -3)
    close(merge("nearswap", [parent], base, t=0.1), [0.05, -0.05, 0.1, -0.1])
    w = (0.1 / (base - parent).abs()).clamp(0, 1)
    close(merge("nearswap", [parent], base, t=0.1), w * parent + (1 - w) * base)


def test_what_takes_one_parent_and_a_base(family: SimpleNamespace) -> None:
    for method in ("nearswap", "arcee_fusion"):
        assert "exactly 1" in refusals(method, family)
    assert "t must be 0 or more" in refusals("nearswap", family, n=1, t=-1.0)
    assert "iqr_factor must be 0 or more" in refusals("arcee_fusion", family, n=1, iqr_factor=-1.0)


# ---- arcee fusion


def test_arcee_fusion_takes_what_changed_most() -> None:
    base = random(20, 50)
    parent = base + 1e-3 * random(20, 50, seed=1)
    parent[3, 7] += 2.0
    out = merge("arcee_fusion", [parent], base)
    assert out[3, 7] == pytest.approx(float(parent[3, 7]))
    taken = (out != base).float().mean()
    assert 0.0 < taken < 0.15
    assert (merge("arcee_fusion", [parent], base, iqr_factor=3.0) != base).sum() <= (out != base).sum()
    close(out[out != base], parent[out != base])


def test_arcee_fusion_divergences_and_quartiles_are_exact() -> None:
    base, parent = random(5, 9), random(5, 9, seed=1)
    found = find_importance(base, parent)
    p, q = (each.double().softmax(-1) + 1e-8 for each in (parent, base))
    close(found.divergence, (p * (p / q).log()).sum(-1), rtol=1e-6)
    score = ((parent - base).abs() * found.divergence[:, None]).flatten().sort().values
    assert found.quartiles == tuple(float(score[k]) for k in (11, 22, 33))


def test_arcee_fusion_of_one_entry_and_of_what_hardly_changed() -> None:
    close(merge("arcee_fusion", [vector(3)], vector(1)), [3])  # a row of one entry diverges from nothing
    base = random(10, 4)
    sparse = base.clone()
    sparse[0, 0] += 1.0
    close(merge("arcee_fusion", [sparse], base), sparse)
    assert merge("arcee_fusion", [torch.zeros(0, 4)], torch.zeros(0, 4)).shape == (0, 4)
    close(merge("arcee_fusion", [torch.tensor(2.0)], torch.tensor(1.0)), 2.0)


# ---- what they share


def test_in_memory_they_are_the_bytes_on_disk(family: SimpleNamespace, tmp_path: Path) -> None:
    live = LiveModel(ModelSource(str(family.base)))
    of = {"of": "task_vectors", "weight": {"math": 0.9, "japanese": 0.2}}
    for i, (method, n, parameters) in enumerate(
        [
            ("nuslerp", 2, {**of, "scope": "row"}),
            ("nuslerp", 2, {**of, "scope": "column"}),
            ("karcher", 2, of),
            ("arcee_fusion", 1, {"iqr_factor": 0.5}),
        ]
    ):
        parents = dict(list({"math": family.math, "japanese": family.japanese}.items())[:n])
        made = recipe(method, family.base, parents, parameters=parameters)
        live.write(made)
        disk = tensors_of(merge_to_disk(made, tmp_path / str(i)))
        assert same_bytes({name: live.model.state_dict()[name] for name in disk}, disk), (method, parameters)


@pytest.mark.parametrize("method", ANGLES)
def test_what_is_not_finite_shows(method: str) -> None:
    for bad in (math.nan, math.inf, -math.inf):
        parents = [random(8, seed=k) for k in (1, 2)]
        parents[1][3] = bad
        base = random(8) if find_method(method).spec.needs_base else None
        assert not merge(method, parents, base).isfinite().all()


def test_dot_products_of_one_of_two_and_of_many() -> None:
    parents, base = [random(100, seed=k) for k in range(4)], random(100, seed=9)
    for n in (1, 2, 4):
        for origin in (None, base):
            some = [each if origin is None else each - origin for each in parents[:n]]
            np.testing.assert_allclose(
                find_gram(NumbaEngine(), parents[:n], origin)[:, :, 0], dots_of(*some), rtol=1e-12
            )
