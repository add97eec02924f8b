"""The fused kernels: both engines and the methods' references give the same bits, in any dtype, size and chunking."""

import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from method_case import ARITHMETIC

from evomerge.merge.kernels import engine as engines
from evomerge.merge.kernels import parallel, philox, torch_engine
from evomerge.merge.kernels.program import Band, Clip, Cut, Drop, Mask, Program
from evomerge.merge.kernels.torch_engine import TorchEngine
from evomerge.merge.methods.base import Inputs
from evomerge.merge.methods.pipeline import sparsify
from evomerge.merge.methods.registry import find_method
from evomerge.merge.methods.tensor_at import TensorAt

numba_engine = pytest.importorskip("evomerge.merge.kernels.numba_engine")

FAST, PLAIN = numba_engine.NumbaEngine(), TorchEngine()
DTYPES = {"b": torch.bfloat16, "h": torch.float16, "f": torch.float32, "d": torch.float64}
SIZES = (1, 2, 7, 1000, 1024, 1025, 5000)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """That number of threads, and chunks small enough that each of them has something to do."""
    monkeypatch.setattr(parallel, "CHUNK", 2048)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def tensors(n: int, dtypes: str, scale: float = 0.02) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [(torch.randn(n, generator=generator) * scale).to(DTYPES[dtype]) for dtype in dtypes]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8))


def values_of(method: str, variant: int) -> dict[str, object]:
    """Three parents' values (two for SLERP); the variants take the other choice of every switch."""
    wanted = {
        "weight": (0.3, 0.45, 1.1),
        "density": (0.3, 0.75, 1.0),
        "lambda": 1.3,
        "t": 0.37,
        "normalize": bool(variant),
        "election": ("count", "sum")[variant],
    }
    return {each.name: wanted.get(each.name, each.default) for each in find_method(method).spec.parameters}


class OneTensor:
    """The parents of one tensor alone, with a cache that keeps nothing; see `ParentTensors`."""

    engine, name = FAST, "x"

    def once(self, key: Hashable, find: Callable[[], Any], n_bytes: Callable[[Any], int], **_: Any) -> Any:
        found = find()
        assert n_bytes(found) > 0
        return found

    def lately(self, key: Hashable, find: Callable[[], Any]) -> Any:
        return find()

    def tensors(self) -> dict[str, TensorAt]:
        raise AssertionError("one tensor is all there is")

    def load(self, name: str, which: Sequence[int] | None = None) -> Any:
        raise AssertionError("one tensor is all there is")


@pytest.mark.parametrize("method", ARITHMETIC)
@pytest.mark.parametrize("dtypes", ["ffff", "bbbb", "hhhh", "fbhd"])
def test_both_engines_give_the_bits_of_the_reference(method: str, dtypes: str, threads: int) -> None:
    for n, variant in product(SIZES, (0, 1)):
        base, *parents = tensors(n, dtypes)
        parents = parents[: find_method(method).spec.n_parents[1]]
        origin = base if find_method(method).spec.needs_base else None
        values, seeds = values_of(method, variant), (5, 1 << 40, (1 << 63) - 1)
        exact = [parent.float() for parent in parents]
        reference = find_method(method).merge(Inputs(None if origin is None else base.float(), exact, values, seeds))
        inputs = Inputs(origin, parents, values, seeds)
        prepare = find_method(method).prepare
        if prepare is not None:
            inputs = replace(inputs, prepared=prepare(inputs, OneTensor()))
        program = find_method(method).program(inputs)  # type: ignore[misc]
        for dtype, engine in product((torch.float32, torch.bfloat16, torch.float16), (FAST, PLAIN)):
            out = torch.empty(n, dtype=dtype)
            assert not engine.run(program, origin, parents, out)
            assert same(out, reference.to(dtype)), (n, variant, dtype, engine)


def test_rounding_on_the_way_is_a_cast_each(threads: int) -> None:
    (x,) = tensors(5000, "f", scale=3000.0)
    for steps in (
        (torch.bfloat16,),
        (torch.float16,),
        (torch.float16, torch.bfloat16),
        (torch.bfloat16, torch.float16),
    ):
        for dtype, engine in product(DTYPES.values(), (FAST, PLAIN)):
            out, expected = torch.empty(5000, dtype=dtype), x
            engine.run(Program(weight=(1.0,)), None, [x], out, roundings=steps)
            for step in steps:
                expected = expected.to(step)
            assert same(out, expected.to(dtype)), (steps, dtype, engine)


@pytest.mark.parametrize("weight", [0.3, -1.7, 0.0])
def test_a_product_is_added_to_a_bf16_tensor_as_plain_torch_does(weight: float, threads: int) -> None:
    program = Program(weight=(weight, 1.0))
    for n in SIZES:
        origin, made = tensors(n, "bf", scale=1.0)
        origin[::3], origin[1::7], made[::5] = 0.0, -0.0, -0.0
        for middle, last in ((None, False), (3.4e38, None), (torch.inf, True), (torch.nan, True)):
            if middle is not None:
                made[n // 2] = middle
            for kind, roundings in ((torch.bfloat16, ()), (torch.float32, (torch.bfloat16,)), (torch.float32, ())):
                fast, plain = torch.empty(n, dtype=kind), torch.empty(n, dtype=kind)
                bad = [
                    bool(one.run(program, None, [origin, made], out, roundings=roundings))
                    for one, out in ((FAST, fast), (PLAIN, plain))
                ]
                assert bad[0] == bad[1] and last in (bad[0], None)
                assert bad[0] or same(fast, plain)


def test_every_16_bit_number_is_converted_as_torch_does() -> None:
    every = torch.arange(-(1 << 15), 1 << 15).to(torch.int16)
    for dtype in (torch.bfloat16, torch.float16):
        x = every.view(dtype)
        x = x[x.isfinite()]
        wide, back = torch.empty(x.numel()), torch.empty(x.numel(), dtype=dtype)
        FAST.run(Program(weight=(1.0,)), None, [x], wide)
        assert same(wide, x.float())
        FAST.run(Program(weight=(1.0,)), None, [wide], back)
        assert same(back, x)
        # The midpoints between neighbours, where rounding to even decides, and the numbers just beside them.
        ordered = x.float().sort().values
        middle = (ordered[1:] + ordered[:-1]) / 2
        for near in (middle, middle.nextafter(torch.tensor(torch.inf)), middle.nextafter(torch.tensor(-torch.inf))):
            out = torch.empty(near.numel(), dtype=dtype)
            FAST.run(Program(weight=(1.0,)), None, [near], out)
            assert same(out, near.to(dtype))


@pytest.mark.parametrize("where", [0, 1023, 1024, 4999])
def test_an_infinite_entry_is_noticed_wherever_it_is(where: int, threads: int) -> None:
    x = torch.zeros(5000)
    x[where] = 70_000.0
    for engine in (FAST, PLAIN):
        for dtype, bad in ((torch.float16, True), (torch.bfloat16, False), (torch.float32, False)):
            assert bool(engine.run(Program(weight=(1.0,)), None, [x], torch.empty(5000, dtype=dtype))) == bad
        assert engine.run(Program(weight=(1.0,)), None, [x], torch.empty(5000), roundings=(torch.float16,))
        assert engine.finite(x)
        for broken in (torch.nan, torch.inf, -torch.inf):
            x[where] = broken
            assert not any(engine.finite(x.to(dtype)) for dtype in DTYPES.values())
            assert engine.run(Program(weight=(1.0,)), None, [x], torch.empty(5000, dtype=torch.bfloat16))
        x[where] = 70_000.0


def test_dot_products_are_those_of_float64_and_the_same_in_both_engines(threads: int) -> None:
    for n in (*SIZES, 200_003):
        a, b = tensors(n, "bf")
        found = FAST.dots(a, b)
        assert found == PLAIN.dots(a, b)
        x, y = a.double(), b.double()
        assert found == pytest.approx([(x @ x).item(), (x @ y).item(), (y @ y).item()], rel=1e-12)
        for base in (tensors(n, "bfh")[2], tensors(n, "bff")[2]):
            found = FAST.dots(a, b, base)
            assert found == PLAIN.dots(a, b, base)
            x, y = (a.float() - base.float()).double(), (b - base.float()).double()
            assert found == pytest.approx([(x @ x).item(), (x @ y).item(), (y @ y).item()], rel=1e-12, abs=1e-30)


def test_counting_and_finding_magnitudes(threads: int) -> None:
    base, parent = tensors(9001, "bb")
    bits = (parent.float() - base.float()).abs().view(torch.int32).numpy()
    low, high = np.sort(bits)[[4000, 4100]].tolist()
    inside = ((bits >= low) & (bits < high)).nonzero()[0]
    exact = int(bits[inside[3]])
    same_bits, others = (bits == exact).nonzero()[0], inside[bits[inside] != exact]
    different, counts = np.unique(bits, return_counts=True)
    for engine in (FAST, PLAIN):
        ranges = [engines.BitRange(low, high), engines.BitRange(low, high, exact), engines.BitRange(1, 2, 1)]
        listed, split, none = engine.survey(base, [parent] * 3, ranges)
        np.testing.assert_array_equal(listed.places, inside)
        np.testing.assert_array_equal(listed.bits, bits[inside])
        np.testing.assert_array_equal(split.places, others)
        np.testing.assert_array_equal(split.bits, bits[others])
        assert (listed.n, split.n, none.n, len(none.bits)) == (0, len(same_bits), 0, 0)
        for n in range(1, len(same_bits) + 1):
            assert engine.nth(base, parent, exact, n) == (same_bits[n - 1], n)
        assert engine.nth(base, parent, exact, len(same_bits) + 1) == (-1, len(same_bits))
        for most in (len(different), 1 << 17):
            tallied = engine.tally(base, parent, most)
            assert tallied is not None
            np.testing.assert_array_equal(tallied[0], different)
            np.testing.assert_array_equal(tallied[1], counts)
        assert engine.tally(base, parent, len(different) - 1) is None
        upper, member = np.zeros(1 << 20, np.int64), np.zeros(1 << 20, np.int32)
        engine.histogram(base, parent, 11, upper, member)
        noted = member.nonzero()[0]
        assert np.isin(noted, bits >> 11).all()
        assert np.isin(bits[::4][bits[::4] > 0] >> 11, noted).all()
        assert np.isin(member[noted], bits).all()
        np.testing.assert_array_equal(member[noted] >> 11, noted)
        np.testing.assert_array_equal(upper, np.bincount(bits >> 11, minlength=1 << 20))


# ---- random numbers


PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)


def rounds_of_philox(counter: tuple[int, ...], key: tuple[int, ...], rounds: int) -> tuple[int, ...]:
    """Philox4x32 in Python's own integers, round after round as in the paper's figure."""
    left, right, (first, second) = list(counter[::2]), list(counter[1::2]), key
    for _ in range(rounds):
        a, b = 0xD2511F53 * left[0], 0xCD9E8D57 * left[1]
        left = [b >> 32 ^ right[0] ^ first, a >> 32 ^ right[1] ^ second]
        right = [b % 2**32, a % 2**32]
        first, second = (first + 0x9E3779B9) % 2**32, (second + 0xBB67AE85) % 2**32
    return left[0], right[0], left[1], right[1]


@pytest.mark.parametrize(
    ("numbers", "after_7", "after_10"),
    [  # the vectors that the authors publish with Random123
        (
            (0,) * 6,
            (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (0xFFFFFFFF,) * 6,
            (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            PI,
            (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(
    numbers: tuple[int, ...], after_7: tuple[int, ...], after_10: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, key = numbers[:4], (numbers[4], numbers[5])
    assert philox.ROUNDS == 7
    for rounds, expected in ((7, after_7), (10, after_10)):
        monkeypatch.setattr(philox, "ROUNDS", rounds)
        words = philox.philox(tuple(torch.tensor([each]) for each in counter), key)
        assert tuple(int(word) for word in words) == expected == rounds_of_philox(counter, key, rounds)


def test_random_words_do_not_depend_on_where_a_piece_begins() -> None:
    whole = philox.words(77, 0, 5000)
    for start, n in ((0, 1), (1, 5), (1023, 3), (1024, 1024), (4000, 1000)):
        assert torch.equal(philox.words(77, start, n), whole[start : start + n])
    assert 0 <= whole.min() < whole.max() < 1 << 16
    assert whole.unique().numel() > 4600  # of 65536 values, 5000 draws meet some twice
    assert abs(whole.double().mean().item() / 2**16 - 0.5) < 0.02


def test_a_density_keeps_that_share_and_one_keeps_all() -> None:
    ones = torch.ones(200_000)
    for density in (1e-3, 0.25, 0.9):
        kept = (torch_engine.dropped(ones, Drop(density, 3)) != 0).double().mean().item()
        assert abs(kept - density) < 5 * (density * (1 - density) / 200_000) ** 0.5
    assert Drop(1.0, 3).below == 1 << 16
    assert Drop(1e-9, 3).below == 1
    assert all(abs(Drop(d, 3).below / 65536 - d) <= 2**-17 for d in (0.05, 0.1, 0.123456, 0.9))
    out = torch.empty(200_000)
    FAST.run(Program((1.0, 0.0), masks=(Drop(1.0, 3), Drop(1.0, 4))), ones * 0, [ones, ones], out)
    assert torch.equal(out, ones)


def test_the_entries_that_equal_the_threshold_are_kept_by_index() -> None:
    level = torch.full((3000,), -0.5)
    for limit in (0, 1, 1023, 1024, 1500, 3000):
        for engine in (FAST, PLAIN):
            out = torch.empty(3000)
            masks = (Cut(0.5, limit), Cut(0.5, 0))
            engine.run(Program((1.0, 1.0), masks=masks), level * 0, [level, level], out)
            assert out.nonzero()[:, 0].tolist() == list(range(limit))


@pytest.mark.parametrize("parents", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["b", "f"])
def test_a_clip_bounds_what_a_task_vector_moves(parents: int, dtype: str, threads: int) -> None:
    base, *others = tensors(5003, dtype * (parents + 1))
    others[0][7] = torch.nan
    wanted = base.float() + sum((each.float() - base.float()).clamp(-0.01, 0.01) for each in others)
    for engine in (FAST, PLAIN):
        out = torch.empty(5003)
        assert engine.run(Program((1.0,) * parents, masks=(Clip(0.01),) * parents), base, others, out)
        assert out[7].isnan()
        torch.testing.assert_close(out, wanted, rtol=0, atol=1e-8, equal_nan=True)


@pytest.mark.parametrize("n_parents", [1, 2, 3, 4, 5])
def test_an_election_of_any_number_of_parents_and_masks(n_parents: int, threads: int) -> None:
    for n, dtype, (by_count, normalize) in product((7, 1024, 5003), "bf", product((False, True), repeat=2)):
        base, *parents = tensors(n, dtype * (n_parents + 1))
        level = (parents[0].float() - base.float()).abs().sort().values[n // 3].item()
        masks = [Cut(level, n // 2 + 1), Drop(0.4, 9), Clip(level), Drop(1.0, 2), Cut(float("inf"), 0)]
        program = Program(
            tuple(0.3 + 0.2 * k for k in range(n_parents)), scale=1.1, masks=tuple(masks[:n_parents]),
            disjoint=True, by_count=by_count, normalize=normalize,
        )  # fmt: skip
        for to in (torch.bfloat16, torch.float32):
            fast, plain = torch.empty(n, dtype=to), torch.empty(n, dtype=to)
            assert not FAST.run(program, base, parents, fast)
            assert not PLAIN.run(program, base, parents, plain)
            assert same(fast, plain), (n, dtype, by_count, normalize, to)


@pytest.mark.parametrize("limit", [0, 1, 5, 8, 1020, 1024, 1031, 2047, 2048, 2051])
def test_a_tie_at_the_cut_of_bf16_parents_ends_anywhere(limit: int, threads: int) -> None:
    base, level = torch.zeros(2051, dtype=torch.bfloat16), torch.full((2051,), -0.5, dtype=torch.bfloat16)
    larger = torch.where(torch.arange(2051) % 7 == 3, 1.0, -0.5).bfloat16()
    masks = (Cut(0.5, limit), Cut(0.5, limit))
    for engine, disjoint in product((FAST, PLAIN), (False, True)):
        out = torch.empty(2051)
        engine.run(Program((1.0, 0.25), masks=masks, disjoint=disjoint), base, [larger, level], out)
        kept = torch.arange(2051) < limit
        a, b = torch.where(kept | (larger == 1.0), larger.float(), 0.0), torch.where(kept, -0.5, 0.0)
        mean = torch.where(larger == 1.0, 1.0, torch.where(kept, (a + 0.25 * b) / 1.25, 0.0))
        assert torch.equal(out, mean if disjoint else a + 0.25 * b)


def sparse_masks(shape: tuple[int, ...], taus: Sequence[torch.Tensor]) -> list[tuple[Mask, ...]]:
    q, ranks = taus[0].numel(), [sparsify.row_ranks(tau) for tau in taus]
    drawn = {"density": 0.5, "epsilon": 0.3, "rescaled": True}
    tops = [(sparsify.top(tau, q // 10), sparsify.top(tau, q // 2)) for tau in taus]
    rows = [sparsify.row_outliers(rank, shape[-1], density=0.5, gamma=0.1) for rank in ranks]
    return [
        (),
        tuple(Band(*pair) for pair in tops),
        tuple(rows),
        tuple(sparsify.magprune(rank, shape[-1], seed=5 + i, **drawn) for i, rank in enumerate(ranks)),
        (Drop(0.3, 9), rows[1], Band(sparsify.NOTHING, tops[2][1])),
        (Clip(0.01), tops[1][1], rows[2]),
    ]


@pytest.mark.parametrize("dtypes", [pytest.param("ffff", marks=pytest.mark.slow), "bbbb", "fbhd"])
def test_ranks_bands_votes_and_pooled_means_give_the_same_bits(dtypes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CHUNK", 2048)
    ways: list[dict[str, Any]] = [
        {},
        {"disjoint": True},
        {"disjoint": True, "by_count": True, "normalize": False},
        {"disjoint": True, "votes": (1.0, 0.2, 0.3)},
        {"disjoint": True, "elect": False},
        {"disjoint": True, "elect": False, "alone": (1.1, 1.2, 1.3)},
    ]
    for shape in ((1, 1), (31, 77), (1, 40_000)):
        base, *parents = (each.view(shape) for each in tensors(shape[0] * shape[1], dtypes))
        taus = [parent.float() - base.float() for parent in parents]
        to = base.dtype
        for masks, way in product(sparse_masks(shape, taus), ways):
            program = Program((0.3, 0.45, 1.1), 1.3, masks, **way)
            fast, plain = torch.empty(shape, dtype=to), torch.empty(shape, dtype=to)
            assert not FAST.run(program, base, parents, fast)
            assert not PLAIN.run(program, base, parents, plain)
            assert same(fast, plain), (shape, masks, way)


# ---- the choice of an engine


def test_without_numba_plain_torch_is_used_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engines._numba_engine.cache_clear()
    monkeypatch.delenv(engines.VARIABLE, raising=False)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert isinstance(engines.engine_for(torch.device("cpu")), TorchEngine)
    assert "numba is not installed" in caplog.text
    engines._numba_engine.cache_clear()


@pytest.mark.parametrize(
    ("works", "said"),
    [(lambda: True, None), (lambda: False, "gives a wrong result"), (lambda: 1 // 0, "by zero")],
)
def test_a_gpu_without_a_working_triton_gets_plain_torch_and_says_so(
    works: Callable[[], bool], said: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Fused(TorchEngine):
        pass

    name = "evomerge.merge.kernels.triton_engine"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(TritonEngine=Fused, works=works))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: name)
    monkeypatch.delenv(engines.VARIABLE, raising=False)
    engines._triton_engine.cache_clear()
    try:
        assert type(engines.engine_for(torch.device("cuda"))) is (TorchEngine if said else Fused)
    finally:
        engines._triton_engine.cache_clear()
    assert (said or "") in caplog.text
    assert bool(caplog.text) == bool(said)


def test_an_engine_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engines.VARIABLE, "torch")
    assert isinstance(engines.engine_for(torch.device("cpu")), TorchEngine)
    monkeypatch.setenv(engines.VARIABLE, "numba")
    assert isinstance(engines.engine_for(torch.device("cpu")), numba_engine.NumbaEngine)
    monkeypatch.setenv(engines.VARIABLE, "cuda")
    with pytest.raises(ValueError, match="must be numba or torch"):
        engines.engine_for(torch.device("cpu"))


def test_an_error_in_a_thread_is_raised_after_all_have_stopped(threads: int) -> None:
    running = []

    def work(start: int, stop: int) -> int:
        if start == 4096:
            raise RuntimeError("broken chunk")
        running.append(start)
        return start

    with pytest.raises(RuntimeError, match="broken chunk"):
        parallel.over_chunks(50_000, work)
    before = len(running)
    assert parallel.over_chunks(50_000, lambda start, stop: start) == list(range(0, 50_000, 2048))
    assert len(running) == before
