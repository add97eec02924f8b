"""States are plain data: they come back bit for bit, and loading one runs nothing."""

from __future__ import annotations

import io
import os
import pickle
import zlib
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evomerge.optimizers import make_optimizer
from evomerge.optimizers.state import flatten, pack, restore, unpack


class Evil:
    """Runs a command when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["cma", "mixed", "random", "nevergrad:DE"])
def test_a_malicious_state_runs_nothing(name: str, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    payload = pickle.dumps(Evil(trace))
    optimizer = make_optimizer(name, n_dims=3, start=[0.5] * 3, seed=0)
    state = optimizer.dump_state()
    magic, header, _ = state.split(b"\n", 2)
    forged = [
        payload,
        magic + b"\n" + header + b"\n" + payload,
        magic + b"\n" + header + b"\n" + zlib.compress(payload),
    ]
    for bad in forged:
        with pytest.raises(ValueError, match=r"no optimizer state|damaged"):
            optimizer.load_state(bad)
    assert not trace.exists()
    pickle.loads(payload)
    assert trace.exists()  # the trap itself works


@pytest.mark.parametrize("attribute", ["opts", "logger", "tell", "__class__", "stop"])
def test_a_forged_state_cannot_replace_what_pycma_evaluates_or_calls(attribute: str) -> None:
    optimizer = make_optimizer("cma", n_dims=3, start=[0.5] * 3, seed=0)
    state = optimizer.dump_state()
    payload = unpack(state, optimizer._header)
    length = 8 + int.from_bytes(payload[:8], "little")
    from evomerge.optimizers.cma_es import _parts

    data = restore(payload[length:], _parts(optimizer._es, optimizer._randn))
    data["pycma"]["es"][attribute] = "__import__('os').getcwd()"
    forged = payload[:length] + flatten(data, _parts(optimizer._es, optimizer._randn))
    with pytest.raises(ValueError, match=f"unexpected attribute '{attribute}'"):
        optimizer.load_state(pack(optimizer._header, forged))
    assert optimizer.dump_state() == state


def test_plain_data_comes_back_bit_for_bit_with_types_order_and_identity() -> None:
    turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    shared = np.array([1.5, -0.0, np.nan, np.inf])
    data = {
        "numbers": [1, -(2**70), 0.1, -0.0, float("inf"), float("-inf"), True, None],
        3: ("a", deque([np.float64(0.1), np.int64(3), np.bool_(True)])),
        (1, 2.5): {"turned": turned, "one": shared, "other": shared},
        "empty": [np.zeros((0, 3)), [], {}, ()],
        "scalar": np.array(2.5),
        "words": np.arange(5, dtype=np.uint32),
    }
    back = restore(flatten(data))
    assert repr(back["numbers"]) == repr(data["numbers"])
    assert [type(value) for value in back[3][1]] == [np.float64, np.int64, np.bool_]
    inner = back[(1, 2.5)]
    assert inner["one"] is inner["other"]
    assert inner["one"].tobytes() == shared.tobytes()
    assert np.array_equal(inner["turned"], turned)
    assert inner["turned"].flags.f_contiguous
    assert not inner["turned"].flags.c_contiguous
    assert [getattr(value, "shape", None) for value in back["empty"]] == [(0, 3), None, None, None]
    assert back["scalar"].shape == ()
    assert back["words"].dtype == np.uint32
    back["words"][0] = 9  # arrays are writable copies
    assert flatten(restore(flatten(data))) == flatten(data)


def test_parts_are_named_not_contained() -> None:
    mine, yours = object(), object()
    assert restore(flatten({"part": mine}, {"it": mine}), {"it": yours})["part"] is yours


@pytest.mark.parametrize("value", [object(), io.BytesIO(), len, {1}, np.array([object()]), np.array(["text"]), 1j])
def test_what_is_not_plain_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"plain data only|arrays of numbers only"):
        flatten([value])


def test_states_of_thousands_of_dimensions_are_not_compressed_and_come_back() -> None:
    rng = np.random.default_rng(0)
    small, large = flatten(np.zeros(1000)), flatten(rng.random(200_000))
    assert len(pack({"n": 1}, small)) < len(small) / 10
    assert 0 < len(pack({"n": 1}, large)) - len(large) < 1000
    for payload in (small, large):
        assert unpack(pack({"n": 1}, payload), {"n": 1}) == payload
