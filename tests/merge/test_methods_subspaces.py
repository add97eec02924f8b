"""Methods on singular values: known answers, deltas of low rank, what is found once, same bytes with any threads."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from memory_family import MemoryFamily, merged

from evomerge.merge.apply import merge_tensor
from evomerge.merge.methods.matrices import one_thread, over_matrices, polar, thin_svd
from evomerge.merge.methods.registry import find_method
from evomerge.merge.methods.spectra import isotropic, low_rank
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.merge.plan import check_recipe, make_plan
from evomerge.recipe import ModelSource, Parent, Recipe

MATRIX = "layers.0.mlp.weight"
METHODS = ("iso_c", "iso_cts", "tsv_m", "laser", "knots", "twin")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def at(*shape: int, name: str = MATRIX, role: str = "mlp", transposed: bool = False) -> TensorAt:
    return TensorAt(name, role, 0, 3, shape, transposed)


def of_deltas(method: str, *deltas: torch.Tensor, base: torch.Tensor | None = None, **values: Any) -> torch.Tensor:
    """The merged delta of one matrix, over a base of zeros."""
    start = torch.zeros_like(deltas[0]) if base is None else base
    parents = {who: {MATRIX: start + delta} for who, delta in zip("abcdefgh", deltas, strict=False)}
    parameters = {k: dict(zip(parents, v, strict=True)) if isinstance(v, tuple) else v for k, v in values.items()}
    return merged(method, parents, {MATRIX: start}, parameters)[MATRIX] - start


def sigma(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(x.double())


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=atol, check_dtype=False)


# ---- Iso-C and Iso-CTS


def test_iso_c_known_answer() -> None:
    close(of_deltas("iso_c", torch.diag(torch.tensor([3.0, 1.0]))), 2 * torch.eye(2))
    close(
        of_deltas("iso_c", torch.diag(torch.tensor([3.0, 1.0])), beta=0.5, alpha=2.0),
        torch.diag(torch.tensor([5.0, 3])),
    )


def test_iso_c_makes_singular_values_equal_and_keeps_their_sum() -> None:
    a, b = random(6, 9, seed=1), random(6, 9, seed=2)
    found = sigma(of_deltas("iso_c", a, b))
    close(found, found.mean().expand(6))
    close(found.sum(), sigma(a + b).sum(), atol=1e-4)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_directions_that_no_parent_has_stay_empty(beta: float) -> None:
    a, b = random(8, 1, seed=1) @ random(1, 5, seed=2), random(8, 1, seed=3) @ random(1, 5, seed=4)
    for method in ("iso_c", "iso_cts"):
        found = sigma(of_deltas(method, a, b, beta=beta))
        assert found[1] > 0.1
        assert found[2:].max() < 1e-5
    close(sigma(of_deltas("iso_c", a, b))[:2], (sigma(a + b)[:2].sum() / 2).expand(2))


def test_a_larger_tolerance_takes_rounding_for_what_it_is() -> None:
    base = random(40, 30, seed=5).bfloat16().float()
    low = 0.3 * random(40, 2, seed=6) @ random(2, 30, seed=7)
    stored = (base + low).bfloat16().float() - base  # a LoRA that was merged into 16 bits: of full rank by its rounding
    assert sigma(of_deltas("iso_c", stored, base=base))[2] > 0.1
    found = sigma(of_deltas("iso_c", stored, base=base, tolerance=0.05))
    assert found[1] > 1
    assert found[2] < 1e-5


def test_a_zero_delta_stays_zero_and_one_entry_stays_itself() -> None:
    for method in set(METHODS) - {"laser"}:
        assert not of_deltas(method, torch.zeros(3, 4), torch.zeros(3, 4)).any(), method
    close(of_deltas("iso_c", torch.tensor([[0.5]]), torch.tensor([[1.5]])), torch.tensor([[2.0]]))
    close(of_deltas("tsv_m", torch.tensor([[0.5]]), torch.tensor([[1.5]])), torch.tensor([[1.0]]))  # too narrow: mean


def test_iso_c_without_beta_is_task_arithmetic_on_matrices() -> None:
    deltas, weight = (random(4, 5, seed=1), random(4, 5, seed=2)), (0.3, 0.9)
    plain = of_deltas("task_arithmetic", *deltas, weight=weight, **{"lambda": 1.3})
    assert torch.equal(of_deltas("iso_c", *deltas, weight=weight, beta=0.0, alpha=1.3), plain)


def test_iso_cts_with_all_directions_common_is_iso_c() -> None:
    deltas = [random(7, 5, seed=k) for k in range(3)]
    close(of_deltas("iso_cts", *deltas, fraction=1.0), of_deltas("iso_c", *deltas))
    close(of_deltas("iso_cts", *deltas, fraction=1.0, beta=0.4), of_deltas("iso_c", *deltas, beta=0.4))


def test_iso_cts_gives_no_more_directions_than_there_are() -> None:
    """12 directions, 8 parents: round(12 / 8) = 2 for each of them would be 16."""
    found = sigma(of_deltas("iso_cts", *(random(12, 12, seed=k) for k in range(8)), fraction=0.0))
    close(found, found.mean().expand(12))


# ---- TSV-Merge


def test_tsv_m_keeps_the_largest_singular_values_of_each_parent() -> None:
    a, b, c = (random(9, 11, seed=k) for k in range(3))
    kept = torch.cat([sigma(x)[:3] for x in (a, b, c)])
    close(sigma(of_deltas("tsv_m", a, b, c)), kept.sort(descending=True).values)
    weighted = kept * torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3)
    close(sigma(of_deltas("tsv_m", a, b, c, weight=(0.5, 1.0, 2.0))), weighted.sort(descending=True).values)


def test_tsv_m_of_equal_parents_is_their_top_half() -> None:
    a = random(6, 8)
    u, s, vt = torch.linalg.svd(a, full_matrices=False)
    close(of_deltas("tsv_m", a, a), u[:, :3] * s[:3] @ vt[:3])


def test_tsv_m_of_one_parent_is_that_parent_to_the_bit() -> None:
    base, parent = random(6, 8), random(6, 8, seed=1)
    assert torch.equal(merged("tsv_m", {"a": {MATRIX: parent}}, {MATRIX: base}, {})[MATRIX], parent)


# ---- LASER


def test_laser_known_answer_and_error() -> None:
    assert torch.equal(
        merged("laser", {"a": {MATRIX: torch.diag(torch.tensor([3.0, 1.0]))}}, None, {"rank": 0.5})[MATRIX],
        torch.diag(torch.tensor([3.0, 0.0])),
    )
    w = random(8, 6)
    cut = merged("laser", {"a": {MATRIX: w}}, None, {"rank": 0.5})[MATRIX]
    close((w - cut).norm(), sigma(w)[3:].square().sum().sqrt())
    base = random(8, 6, seed=1)
    close(of_deltas("laser", w, base=base, rank=0.5, of="task_vectors"), cut)


def test_laser_leaves_vectors_and_embeddings_and_whole_matrices_alone() -> None:
    model = {"embedding": random(5, 3), MATRIX: random(4, 4), "norm": random(4)}
    out = merged("laser", {"a": model}, None, {"rank": 0.25})
    assert torch.equal(out["embedding"], model["embedding"])
    assert torch.equal(out["norm"], model["norm"])
    assert int((sigma(out[MATRIX]) > 1e-5).sum()) == 1
    assert torch.equal(merged("laser", {"a": model}, None, {})[MATRIX], model[MATRIX])


# ---- KnOTS


def test_knots_known_answer() -> None:
    """In the basis (1, 1)/√2 the task vectors are √2·(1, 0) and √2·(−½, 2); entry by entry TIES would say the same."""
    a, b = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[-0.5, 2.0], [-0.5, 2.0]])
    close(of_deltas("knots", a, b, density=1.0), torch.tensor([[1.0, 2.0], [1.0, 2.0]]))


def test_knots_elects_signs_of_directions_not_of_entries() -> None:
    """Orthogonal directions do not compete, although their entries have opposite signs."""
    u, v = torch.tensor([[1.0, 1.0]]).T, torch.tensor([[1.0, -1.0]]).T
    a, b = 3 * u @ torch.tensor([[1.0, 1.0]]), v @ torch.tensor([[1.0, 1.0]])
    close(of_deltas("knots", a, b, density=1.0), a + b)
    close(of_deltas("ties", a, b, density=1.0), torch.tensor([[2.0, 2.0], [3.0, 3.0]]))


def test_knots_of_low_rank_parents_is_of_low_rank_and_keeps_little() -> None:
    parents = [random(40, 2, seed=k) @ random(2, 30, seed=10 + k) for k in range(3)]
    assert int((sigma(of_deltas("knots", *parents, density=0.3)) > 1e-4).sum()) <= 6
    family = Kept({who: {MATRIX: x} for who, x in zip("abc", parents, strict=True)}, {MATRIX: torch.zeros(40, 30)})
    family.merge("knots", {})
    assert family.parent_cache.used == 4 * 6 * (40 + 3 * 30)


def test_knots_that_sums_is_task_arithmetic() -> None:
    deltas, weight = (random(4, 5, seed=1), random(4, 5, seed=2)), (0.3, -0.9)
    plain = of_deltas("task_arithmetic", *deltas, weight=weight, **{"lambda": 1.3})
    assert torch.equal(of_deltas("knots", *deltas, combine="sum", weight=weight, **{"lambda": 1.3}), plain)


# ---- Twin-Merging


def test_twin_with_the_whole_rest_of_one_parent_is_that_parent() -> None:
    base, a, b = ({MATRIX: random(5, 4, seed=k), "norm": random(4, seed=9 + k)} for k in range(3))
    out = merged("twin", {"a": a, "b": b}, base, {"rank": 1.0, "weight": {"a": 0.0, "b": 1.0}})
    assert all(torch.equal(out[name], b[name]) for name in b)


def test_twin_without_rests_is_task_arithmetic() -> None:
    deltas = random(5, 4, seed=1), random(5, 4, seed=2)
    gamma = (0.4, 0.1)
    shared = of_deltas("task_arithmetic", *deltas, weight=gamma)
    assert torch.equal(of_deltas("twin", *deltas, gamma=gamma, weight=0.0), shared)
    assert torch.equal(of_deltas("twin", *deltas, gamma=gamma, rank=0.0), shared)


def test_twin_known_answer() -> None:
    """θ* = ½ diag(4, 2): what is left is half of the parent, of which the larger direction is added once."""
    close(of_deltas("twin", torch.diag(torch.tensor([4.0, 2.0])), gamma=0.5, rank=0.5, weight=1.0),
          torch.diag(torch.tensor([4.0, 1.0])))  # fmt: skip


# ---- decompositions


class Kept(MemoryFamily):
    """Models that stay open, as in a search."""

    def merge(self, method: str, parameters: Mapping[str, Any]) -> torch.Tensor:
        parents = tuple(Parent(name, ModelSource(name)) for name, _ in self.members if name != "base")
        of = Recipe(method, parents, Parent("base", ModelSource("base")), parameters)
        methods = check_recipe(of)
        plan = make_plan(of, methods, self)  # type: ignore[arg-type]
        (task,) = (task for task in plan.tasks if task.name == MATRIX)
        return merge_tensor(plan, task).clone()


@pytest.fixture
def decompositions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The decompositions that were made, one after the other."""
    made: list[str] = []
    for name in ("svd", "eigh"):
        real = getattr(torch.linalg, name)

        def counting(*args: Any, real: Any = real, name: str = name, **kwargs: Any) -> Any:
            made.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(torch.linalg, name, counting)
    return made


@pytest.mark.parametrize(
    ("method", "first", "then", "n"),
    [
        ("iso_c", {}, {"alpha": 1.4, "beta": 0.3}, 1),
        ("iso_cts", {"fraction": 0.4}, {"fraction": 0.4, "alpha": 1.4, "beta": 0.3}, 6),
        ("tsv_m", {}, {"weight": {"a": 0.0, "b": 1.2, "c": 0.4}}, 5),
        ("knots", {}, {"weight": {"a": 0.0, "b": 1.2, "c": 0.4}, "density": 0.7, "lambda": 1.4}, 1),
        ("twin", {"rank": 0.3}, {"rank": 0.7, "weight": {"a": 0.0, "b": 0.2, "c": 0.4}}, 3),
    ],
)
def test_candidates_share_the_decompositions(
    method: str, first: dict[str, Any], then: dict[str, Any], n: int, decompositions: list[str]
) -> None:
    parents = {who: {MATRIX: random(10, 12, seed=k)} for k, who in enumerate("abc", 1)}
    family = Kept(parents, {MATRIX: random(10, 12)})
    family.merge(method, first)
    assert len(decompositions) == n
    warm = family.merge(method, then)
    assert len(decompositions) == n
    assert torch.equal(warm, Kept(parents, {MATRIX: random(10, 12)}, "none").merge(method, then))


def test_laser_decomposes_once_for_all_ranks(decompositions: list[str]) -> None:
    family = Kept({"a": {MATRIX: random(10, 12)}}, {MATRIX: random(10, 12, seed=1)})
    for of in ("weights", "task_vectors"):
        for rank in (0.2, 0.5, 0.9):
            family.merge("laser", {"of": of, "rank": rank})
    assert len(decompositions) == 2


def test_weights_that_change_take_no_more_memory(decompositions: list[str]) -> None:
    parents = {who: {MATRIX: random(10, 12, seed=k)} for k, who in enumerate("ab", 1)}
    family = Kept(parents, {MATRIX: random(10, 12)})
    for k in range(1, 4):
        made = family.merge("iso_c", {"weight": {"a": 0.1 * k, "b": 1.0}})
    assert len(decompositions) == 3
    assert family.parent_cache.used == 4 * 120
    family.merge("iso_c", {"weight": {"a": 0.2, "b": 1.0}})
    assert torch.equal(family.merge("iso_c", {"weight": {"a": 0.1 * 3, "b": 1.0}}), made)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["laser", "knots"])
def test_the_bytes_are_the_same_with_any_number_of_threads(method: str, threads: None) -> None:
    # As large as it takes for the last bits of LAPACK to show, where it may use three threads.
    deltas = [random(700, 500, seed=k) for k in range(1 if method == "laser" else 2)]
    values = {"rank": 0.5} if method == "laser" else {"weight": 0.9}
    made = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        made.append(of_deltas(method, *deltas, **values))
        assert torch.get_num_threads() == n
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_what_is_done_to_matrices_is_done_by_one_thread(threads: None) -> None:
    torch.set_num_threads(3)
    (n,) = over_matrices(lambda row: [row[0] * torch.get_num_threads()], at(2, 2), [torch.ones(2, 2)])
    assert torch.equal(n, torch.ones(2, 2))


def test_one_thread_is_given_back_after_an_error(threads: None) -> None:
    torch.set_num_threads(2)
    with pytest.raises(RuntimeError, match="broken"), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("broken")
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_matrix_that_is_stored_turned_and_one_of_a_stack_are_merged_alike(method: str) -> None:
    n = 1 if method == "laser" else 2
    base, *parents = (random(2, 6, 5, seed=k) for k in range(n + 1))
    values: dict[str, Any] = {"rank": 0.4} if method in ("laser", "twin") else {}

    def merge(how: Any, name: str) -> torch.Tensor:
        models = [{name: how(x).contiguous()} for x in (base, *parents)]
        return merged(method, dict(zip("ab", models[1:], strict=False)), models[0], values)[name]

    one = merge(lambda x: x[1], MATRIX)
    assert torch.equal(merge(lambda x: x[1].T, "layers.0.mlp.turned").T, one)
    assert torch.equal(merge(lambda x: x, "layers.0.mlp.experts")[1], one)


def test_a_polar_factor_of_full_rank_has_orthonormal_columns() -> None:
    x = random(9, 4).double()
    close(polar(x).T @ polar(x), torch.eye(4))
    doubled = polar(torch.cat([x, x], dim=1))
    close(doubled @ doubled.T, polar(x) @ polar(x).T)
    assert thin_svd(torch.cat([x, x], dim=1)).rank == 4
    assert thin_svd(x * 0).rank == 0


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)])
def test_a_matrix_for_which_lapack_finds_nothing_is_decomposed_another_way(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = (random(shape[0], 4) @ random(4, shape[1], seed=1)).double()
    real, wanted = torch.linalg.svd, thin_svd(x)

    def fails(matrix: torch.Tensor, **how: Any) -> Any:
        if matrix.shape == x.shape:
            raise torch.linalg.LinAlgError("failed to converge")
        return real(matrix, **how)

    monkeypatch.setattr(torch.linalg, "svd", fails)
    found = thin_svd(x)
    assert found.rank == wanted.rank == 4
    close(found.sigma, wanted.sigma, atol=1e-12)
    close((found.u * found.sigma) @ found.vt, x, atol=1e-12)
    close(found.u.T @ found.u, torch.eye(4).double(), atol=1e-12)
    close(found.vt @ found.vt.T, torch.eye(4).double(), atol=1e-12)


# ---- as operations on a merged delta


def test_operations_on_a_merged_delta() -> None:
    x = random(2, 4, 3)
    place = at(2, 4, 3)
    before = x.clone()
    for matrix in isotropic(x, place):
        close(sigma(matrix), sigma(matrix).mean().expand(3))
    assert all(int((sigma(matrix) > 1e-5).sum()) == 2 for matrix in low_rank(x, place, rank=0.7))
    assert torch.equal(x, before)
    assert isotropic(x, place, beta=0.0) is x
    assert low_rank(x, place, rank=1.0) is x
    for other in (at(3, name="norm", role="norm"), at(4, 3, name="embedding", role="embedding")):
        vector = random(*other.shape)
        assert isotropic(vector, other) is vector
        assert low_rank(vector, other, rank=0.5) is vector


def test_mistakes_are_named() -> None:
    def problems(method: str, **values: Any) -> list[str]:
        found = find_method(method)
        n = found.spec.n_parents[0] + 1
        defaults = {p.name: (p.default,) * n if p.per_parent else p.default for p in found.spec.parameters}
        return found.problems({**defaults, **values})

    assert problems("iso_c", beta=1.5, weight=(1.0, -1.0), tolerance=1.0) == [
        "beta must be between 0 and 1, but came 1.5",
        "the weights (1, -1) sum to 0, but norms and biases get the weighted mean; change one weight",
        "tolerance must be at least 0 and below 1, but came 1",
    ]
    assert problems("iso_cts", fraction=-0.1) == ["fraction must be between 0 and 1, but came -0.1"]
    assert problems("tsv_m", weight=(0.0, 0.0)) == []
    assert problems("laser", rank=1.2) == ["rank must be between 0 and 1, but came 1.2"]
    assert problems("twin", rank=-1.0) == ["rank must be between 0 and 1, but came -1"]
    assert len(problems("knots", weight=(-1.0, 1.0), density=(2.0, 0.5))) == 2
    assert problems("knots", weight=(-1.0, 1.0), combine="sum") == []
