# ruff: noqa: E402 - Triton may be missing
"""The kernel for GPUs gives the bits of plain torch.

Without a GPU, TRITON_INTERPRET=1 runs it in Triton's interpreter (pip install triton), which does not round to bf16.
"""

import os
from dataclasses import replace
from itertools import product

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not torch.cuda.is_available() and not INTERPRETED:
    pytest.skip("needs a CUDA device", allow_module_level=True)
pytest.importorskip("triton")

from evomerge.merge.kernels import engine as engines
from evomerge.merge.kernels.program import Clip, Cut, Drop, Program
from evomerge.merge.kernels.torch_engine import TorchEngine
from evomerge.merge.kernels.triton_engine import TritonEngine
from evomerge.merge.methods.pipeline.sparsify import FEW, top

pytestmark = pytest.mark.gpu
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
FAST, PLAIN = TritonEngine(), TorchEngine()
DTYPES = {"b": torch.bfloat16, "h": torch.float16, "f": torch.float32, "d": torch.float64}
SIZES = (1, 1000, 1024, 5001)
SEEDS = (5, 1 << 40, (1 << 63) - 1, 0xFFFFFFFF)
OUT = [(torch.float32, ()), (torch.float16, ()), (torch.bfloat16, ()), (torch.float16, (torch.bfloat16,))]
OUT = OUT[:2] if INTERPRETED else OUT
MASKS = {
    "none": (),
    "cut": (Cut(0.01, 700), Cut(float("inf"), 0), Cut(0.0, 0), Cut(0.005, 1 << 20)),
    "clip": tuple(Clip(most) for most in (0.01, 0.0, 1.0, 0.02)),
    "drop": tuple(Drop(density, seed) for density, seed in zip((0.3, 0.75, 1.0, 0.01), SEEDS, strict=True)),
}


def tensors(n: int, dtypes: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    made = [(torch.randn(n, generator=generator) * 0.02).to(DTYPES[dtype]) for dtype in dtypes]
    for each in made:
        each[::7] = made[0][::7].to(each.dtype)  # entries without a difference
        each[::11] = 1e-39  # below the normal numbers of fp32
    return [each.to(DEVICE) for each in made]


def programs(parents: int) -> list[tuple[Program, bool]]:
    """Programs, and whether they have a base."""
    weight = (0.3, 0.45, 1.1, 0.7)[:parents]
    made = [(Program(weight), False)]
    for masks in MASKS.values():
        summed = Program(weight, scale=1.3, masks=masks[:parents])
        elected = product((False, True), (False, True))
        made += [(summed, True), *((replace(summed, disjoint=True, by_count=a, normalize=b), True) for a, b in elected)]
    return made


@pytest.mark.parametrize(
    ("dtypes", "parents"), [("ff", 1), ("bb", 1), ("bbb", 2), ("bbbb", 3), ("hhhh", 3), ("bfhbf", 4)]
)
def test_the_kernel_gives_the_bits_of_plain_torch(dtypes: str, parents: int) -> None:
    if INTERPRETED and "b" in dtypes:
        pytest.skip("the interpreter does not read bf16 below the normal numbers")
    for n in SIZES[-1:] if INTERPRETED else SIZES:
        base, *others = tensors(n, dtypes[: parents + 1])
        for program, from_base in programs(parents):
            for dtype, roundings in OUT if parents == 3 else OUT[-2:]:
                found, expected = (torch.empty(n, dtype=dtype, device=DEVICE) for _ in range(2))
                origin = base if from_base else None
                bad = FAST.run(program, origin, others, found, roundings=roundings)
                assert not PLAIN.run(program, origin, others, expected, roundings=roundings)
                assert not bad
                assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8)), (n, program, dtype)


def test_a_copy_rounds_as_plain_torch_does() -> None:
    bits = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).to(DEVICE)
    for source, dtype in product((torch.bfloat16, torch.float16), [DTYPES["d"], *(dtype for dtype, _ in OUT)]):
        if INTERPRETED and source == torch.bfloat16:
            continue
        values = bits.view(source)
        values = values[values.isfinite()]
        found, expected = (torch.empty(values.numel(), dtype=dtype, device=DEVICE) for _ in range(2))
        bad = [each.run(Program((1.0,)), None, [values], out) for each, out in ((FAST, found), (PLAIN, expected))]
        assert bool(bad[0]) == bool(bad[1])
        assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8)), (source, dtype)


@pytest.mark.parametrize("where", [0, 1023, 1024, 4999])
def test_an_infinite_entry_is_noticed_wherever_it_is(where: int) -> None:
    values = torch.zeros(5000, device=DEVICE)
    values[where] = 1e5
    out = torch.empty(5000, dtype=torch.float16, device=DEVICE)
    assert FAST.run(Program((0.9,)), None, [values], out)
    assert not FAST.run(Program((0.1,)), None, [values], out)
    assert FAST.run(Program((0.9,)), None, [values], torch.empty_like(values), roundings=[torch.float16])


def test_nothing_and_more_than_the_kernel_takes() -> None:
    empty = torch.empty(0, device=DEVICE)
    assert not FAST.run(Program((0.5,)), None, [empty], empty)
    many = [torch.full((3,), float(i), device=DEVICE) for i in range(6)]
    out = torch.empty(3, device=DEVICE)
    assert not FAST.run(Program((0.5,) * 6), None, many, out)
    assert out.tolist() == [7.5] * 3


@pytest.mark.parametrize("n", [1, 900, FEW, FEW + 1, 50_000])
def test_a_cut_is_that_of_the_cpu(n: int) -> None:
    for values in tensors(n, "fb"):
        for density in (0.0, 0.3, 0.5, 1.0):
            assert top(values.float(), int(density * n)) == top(values.cpu().float(), int(density * n))


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
def test_a_gpu_gets_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engines.VARIABLE, raising=False)
    assert isinstance(engines.engine_for(DEVICE), TritonEngine)
    monkeypatch.setenv(engines.VARIABLE, "torch")
    assert type(engines.engine_for(DEVICE)) is TorchEngine
