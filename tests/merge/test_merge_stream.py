import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import recipe, same_bytes, tensors_of

from evomerge.errors import CheckpointError
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.disk.stream import Piece, write_files
from evomerge.merge.files import pages
from evomerge.merge.files.checkpoint import SafetensorsCheckpoint
from evomerge.merge.sources import Sources
from evomerge.recipe import Recipe


def nothing() -> None:
    pass


def piece(
    name: str,
    tensor: torch.Tensor,
    *,
    copied: bool = False,
    n_inputs: int = 0,
    load: Callable[[], torch.Tensor] | None = None,
    fetch: Callable[[], None] = nothing,
    release: Callable[[], None] = nothing,
) -> Piece:
    return Piece(name, tuple(tensor.shape), tensor.dtype, n_inputs, copied, load or (lambda: tensor), fetch, release)


def test_files_are_those_of_safetensors_for_every_type_and_shape(tmp_path: Path) -> None:
    tensors = {
        "odd": torch.arange(3, dtype=torch.uint8),
        "half": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).half(),
        "flag": torch.tensor([True, False, True]),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "strided": torch.arange(12.0).view(3, 4).t(),
        "wide": torch.tensor([2.0**60, -1.0], dtype=torch.float64),
        "größe": torch.tensor([1, -2], dtype=torch.int64),
        "brain": torch.ones(7, dtype=torch.bfloat16),
    }
    paths = {tmp_path / "one": list(tensors)[:5], tmp_path / "two": list(tensors)[5:]}
    write_files({path: [piece(name, tensors[name]) for name in names] for path, names in paths.items()}, nothing)
    for path, names in paths.items():
        read = load_file(path)
        assert read.keys() == set(names)
        assert all(read[name].dtype == tensors[name].dtype and torch.equal(read[name], tensors[name]) for name in names)
        save_file(read, tmp_path / "theirs", metadata={"format": "pt"})
        assert path.stat().st_size - (tmp_path / "theirs").stat().st_size < 8 + len(names)  # the header's padding
        assert json.loads(path.read_bytes()[8:].split(b"}}")[0] + b"}}")["__metadata__"] == {"format": "pt"}


def test_reading_arithmetic_and_writing_overlap(tmp_path: Path) -> None:
    """Each waits for what the others do at the same time, so that one after the other would never end."""
    reading, computing = threading.Event(), threading.Event()
    tensor = torch.zeros(4)

    def fetch_second() -> None:
        reading.set()
        assert computing.wait(20)

    def load_first() -> torch.Tensor:
        computing.set()
        assert reading.wait(20)
        return tensor

    write_files(
        {tmp_path / "file": [piece("a", tensor, load=load_first), piece("b", tensor, fetch=fetch_second)]}, nothing
    )
    assert list(load_file(tmp_path / "file")) == ["a", "b"]


def test_a_slow_writer_holds_back_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, lock = os.pwrite, threading.Lock()
    held = most = 0

    def slow(*arguments: object) -> int:
        time.sleep(0.005)
        return real(*arguments)  # type: ignore[arg-type]

    def change(n: int) -> None:
        nonlocal held, most
        with lock:
            held += n
            most = max(most, held)

    class Counted:
        """An entry in the ledger as the system would see it: inputs from their reading on, the result when made."""

        def __init__(self, name: str, n: int, n_inputs: int) -> None:
            tensor = torch.zeros(n, dtype=torch.uint8)

            def load() -> torch.Tensor:
                change(n)
                made = tensor.clone()
                weakref.finalize(made, change, -n)
                return made

            self.piece = piece(
                name, tensor, n_inputs=n_inputs, load=load,
                fetch=lambda: change(n_inputs), release=lambda: change(-n_inputs),
            )  # fmt: skip

    monkeypatch.setattr(os, "pwrite", slow)
    sizes = [10, 1000, 10, 400, 400, 400, 10, 1000, 1000, 10]
    pieces = [Counted(str(i), n, 3 * n).piece for i, n in enumerate(sizes)]
    write_files({tmp_path / "file": pieces}, nothing)
    assert held == 0
    assert 4000 <= most <= 5000  # (3 inputs + 2) times the largest


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "slerp"])
def test_the_files_are_the_same_bytes_for_any_number_of_threads(
    method: str, tmp_path: Path, family: SimpleNamespace
) -> None:
    base = None if method in ("linear", "slerp") else family.base
    of = recipe(method, base, {"math": family.math, "japanese": family.japanese})
    before = torch.get_num_threads()
    written = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            out = merge_to_disk(of, tmp_path / str(n), shard_size=20_000)
            written.append({path.name: path.read_bytes() for path in out.iterdir()})
    finally:
        torch.set_num_threads(before)
    assert written[0] == written[1] == written[2]


def test_a_copied_parent_is_let_go_of_and_still_whole(tmp_path: Path, family: SimpleNamespace) -> None:
    sources = Sources()
    of = recipe("linear", None, {"m": family.math})
    out = merge_to_disk(of, tmp_path / "out", sources=sources)
    again = merge_to_disk(of, tmp_path / "again", sources=sources)
    assert same_bytes(tensors_of(out), tensors_of(family.math))
    assert same_bytes(tensors_of(again), tensors_of(family.math))


def test_pages_of_a_mapped_tensor_go_and_come_back(tmp_path: Path) -> None:
    tensor = torch.arange(1 << 20, dtype=torch.int32)
    save_file({"w": tensor}, tmp_path / "model.safetensors")
    mapped = SafetensorsCheckpoint(tmp_path).load("w")

    def resident() -> int:
        """Bytes of this file (other tests may have files of that name mapped) that count as ours."""
        maps = Path("/proc/self/smaps").read_text().split(str(tmp_path / "model.safetensors"))[1:]
        return sum(int(each.split("Rss:")[1].split()[0]) * 1024 for each in maps)

    pages.fetch(mapped)
    if not Path("/proc/self/smaps").exists():
        pytest.skip("only Linux says what is resident")
    assert resident() >= tensor.nbytes
    pages.release(mapped)
    assert resident() < tensor.nbytes // 16
    assert torch.equal(mapped, tensor)


def test_an_interruption_ends_the_threads(tmp_path: Path) -> None:
    def interrupted() -> torch.Tensor:
        raise KeyboardInterrupt

    tensor = torch.zeros(4)
    many = [piece(str(i), tensor, n_inputs=16) for i in range(50)]
    with pytest.raises(KeyboardInterrupt):
        write_files({tmp_path / "file": [*many, piece("bad", tensor, load=interrupted)]}, nothing)
    assert not [t for t in threading.enumerate() if t.name in ("evomerge-read", "evomerge-write")]


def test_an_error_of_the_reader_is_the_one_that_is_raised(tmp_path: Path) -> None:
    def unreadable() -> None:
        raise CheckpointError("gone")

    with pytest.raises(CheckpointError, match="gone"):
        write_files({tmp_path / "file": [piece("a", torch.zeros(4), fetch=unreadable)]}, nothing)


def test_nested_recipes_stream_too(tmp_path: Path, family: SimpleNamespace) -> None:
    data = {
        "method": "linear",
        "parents": {
            "inner": {"recipe": recipe("linear", None, {"a": family.math, "b": family.japanese}).to_data()},
            "m": {"path": str(family.math)},
        },
    }
    inner = merge_to_disk(recipe("linear", None, {"a": family.math, "b": family.japanese}), tmp_path / "inner")
    nested = merge_to_disk(Recipe.from_data(data), tmp_path / "nested")
    apart = merge_to_disk(recipe("linear", None, {"inner": inner, "m": family.math}), tmp_path / "apart")
    assert same_bytes(tensors_of(nested), tensors_of(apart))
