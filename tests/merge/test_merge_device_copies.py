"""Parents whose tensors stay beside the live model: copied there once, checked as ever, bit for bit the same results.

On the CPU the copies are forced; what they save shows only on another device, pretended or real.
"""

from __future__ import annotations

import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from device_models import state
from method_case import ARITHMETIC
from pretended_devices import pretended_devices
from safetensors.torch import load_file, save_file
from tiny_models import make, near, recipe

from evomerge.errors import CheckpointError
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
from evomerge.merge.files.device_copies import DeviceCopies
from evomerge.merge.live import model as resident
from evomerge.merge.live.models import LiveModels
from evomerge.merge.methods.registry import find_method
from evomerge.recipe import ModelSource, Recipe

GPU = torch.device("cuda:0")
TWO = [GPU, torch.device("cuda:1")]


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp(request.param)
    base = make(folder / "base", 0, dtype=request.param, num_hidden_layers=4)
    return SimpleNamespace(
        base=base, a=near(folder / "a", base, 1), b=near(folder / "b", base, 2), dtype=request.param
    )  # fmt: skip


def sources(models: SimpleNamespace) -> list[ModelSource]:
    return [ModelSource(str(folder)) for folder in (models.a, models.b, models.base)]


def candidate(models: SimpleNamespace, method: str, weight: float) -> Recipe:
    spec = find_method(method).spec
    parameters: dict[str, Any] = {"t": weight} if method == "slerp" else {"weight": weight}
    if spec.parameter("density") is not None:
        parameters["density"] = 1.0 - weight / 2
    return recipe(
        method, models.base if spec.needs_base else None, {"a": models.a, "b": models.b}, parameters=parameters
    )


def keeping(models: SimpleNamespace, device: Any) -> LiveModels:
    live = LiveModels(device=device)
    live.load(ModelSource(str(models.base)))
    n_bytes = live.keep(sources(models))
    tensors = sum(t.numel() * t.element_size() for t in load_file(models.a / "model.safetensors").values())
    assert n_bytes == 3 * tensors, "three models of one size"
    return live


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor.view(torch.uint8), other[name].view(torch.uint8)), name


@pytest.mark.parametrize("method", ARITHMETIC)
def test_candidates_are_the_same_bits_and_the_second_copies_nothing(
    models: SimpleNamespace, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, plain = keeping(models, "cpu"), LiveModels()
    copies = live.sources.copies
    read: list[str] = []
    load = SafetensorsCheckpoint.load

    def noted(self: SafetensorsCheckpoint, name: str) -> torch.Tensor:
        read.append(name)
        return load(self, name)

    monkeypatch.setattr(SafetensorsCheckpoint, "load", noted)
    assert not copies._filled, "nothing is copied before it is needed"
    n_models = 3 if find_method(method).spec.needs_base else 2
    for number, weight in enumerate((0.3, 0.8)):
        read.clear()
        live.write(candidate(models, method, weight))
        if number == 0:
            assert len(copies._filled) == n_models * len(state(live))
            assert len(read) == len(copies._filled), "each is read once, however often it is used"
        else:
            assert not read, "the second candidate reads and copies nothing"
        plain.write(candidate(models, method, weight))
        assert_same(state(live), state(plain))
    live.write(recipe("passthrough", None, {"a": models.a}))


def test_a_tensor_that_holds_nan_is_refused_when_it_is_first_copied(models: SimpleNamespace, tmp_path: Path) -> None:
    bad = near(tmp_path / "bad", models.base, 7)
    tensors = load_file(bad / "model.safetensors")
    tensors["lm_head.weight"][0, 0] = torch.nan
    save_file(tensors, bad / "model.safetensors", metadata={"format": "pt"})
    live = LiveModels()
    live.load(ModelSource(str(models.base)))
    live.keep([ModelSource(str(bad)), ModelSource(str(models.a))])
    wrong = recipe("linear", None, {"a": models.a, "bad": bad}, parameters={"weight": 0.5})
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"parent 'bad': tensor lm_head.weight of .* holds NaN"):
            live.write(wrong)
    live.write(recipe("linear", None, {"a": models.a, "b": models.b}, parameters={"weight": 0.5}))


def test_the_copies_go_with_the_live_models(models: SimpleNamespace) -> None:
    live = keeping(models, "cpu")
    live.write(candidate(models, "linear", 0.4))
    copies = live.sources.copies
    assert copies.n_bytes > 0
    del live
    gc.collect()
    assert (copies.n_bytes, copies._rooms) == (0, {})


def test_a_device_that_turns_out_to_be_too_small_is_done_without(
    models: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveModels()
    live.load(ModelSource(str(models.base)))
    reserve = DeviceCopies.reserve
    problem = "CUDA out of memory. Tried to allocate 2.00 GiB"

    def scarce(self: DeviceCopies, *args: Any) -> None:
        if len(self._rooms) > 5:
            raise torch.OutOfMemoryError(problem)
        reserve(self, *args)

    monkeypatch.setattr(DeviceCopies, "reserve", scarce)
    assert live.keep(sources(models)) == 0
    assert "no room for the parents on cpu after all: CUDA out of memory" in caplog.text
    plain = LiveModels()
    for one in (live, plain):
        one.write(candidate(models, "ties", 0.4))
    assert_same(state(live), state(plain))
    assert not live.sources.copies._filled
    problem = "a bug"
    with pytest.raises(RuntimeError, match="a bug"):
        live.keep(sources(models))


@pytest.mark.parametrize(
    "devices", [pytest.param([GPU], id="one", marks=pytest.mark.slow), pytest.param(TWO, id="two")]
)
def test_nothing_crosses_to_the_devices_once_the_copies_are_there(
    models: SimpleNamespace, devices: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "free_bytes", lambda _device: 1 << 20)
    scoped = [
        recipe("ties", models.base, {"a": models.a, "b": models.b},
               parameters={"weight": 0.7, "density": density, "scope": "model"})
        for density in (0.3, 0.6)
    ]  # fmt: skip
    plain = LiveModels()
    with pretended_devices(), torch.no_grad():
        live = keeping(models, devices)
        homes = {room.device for room in live.sources.copies._rooms.values()}
        assert homes == set(devices)
        live.write(candidate(models, "task_arithmetic", 0.4))
        monkeypatch.setattr(SafetensorsCheckpoint, "load", lambda *_: pytest.fail("a parent was read again"))
        for one in (*scoped, *(candidate(models, method, 0.6) for method in ARITHMETIC)):
            live.write(one)
        live.write(scoped[0])
        found = state(live)
    monkeypatch.undo()
    plain.write(scoped[0])
    assert_same(found, state(plain))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ARITHMETIC)
def test_on_a_gpu_the_copies_change_no_bit(models: SimpleNamespace, method: str) -> None:
    live, plain, cpu = keeping(models, GPU), LiveModels(device=GPU), LiveModels()
    for weight in (0.3, 0.8):
        for one in (live, plain, cpu):
            one.write(candidate(models, method, weight))
        assert_same(state(live), state(plain))
        assert_same(state(live), state(cpu))
    copied = set(live.sources.copies._filled)
    live.write(candidate(models, method, 0.5))
    assert live.sources.copies._filled == copied
