"""A response matrix as an `.npz` file: the arrays, packed and unpacked.

- `R`, `(n_models, n_items)`: int8 where every known value is 0 or 1, with -1 for unknown; else float64 with NaN
- `models`, `(n_models,)`, and `items`, `(n_items,)`: names
- any further arrays of names

An object array of names, as others may have saved it, is a pickle. It is read, but only text is built from it, so that
a file cannot run code.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import EstimationError
from evomerge.system.files import write_atomically

_NEEDED = ("R", "models", "items")
# The parts of a pickled array of names; anything else in an object array is refused before it is built.
_NAME_PARTS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def write_matrix(path: Path, R: NDArray[np.float64], names: Mapping[str, Sequence[str]]) -> None:
    """Write a file; readers see the earlier file or the new one, never a part.

    Args:
        path: the file.
        R: `(n_models, n_items)` values; NaN where there is none.
        names: array name to its texts, "models" and "items" among them.

    Raises:
        RunError: if it cannot be written.
    """
    known = R[~np.isnan(R)]
    values: NDArray[Any] = R
    if np.isin(known, (0.0, 1.0)).all():
        values = np.where(np.isnan(R), -1, R).astype(np.int8)
    arrays: dict[str, Any] = {"R": values, **{key: np.array(texts, dtype=str) for key, texts in names.items()}}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomically(path, content.getvalue())


def read_matrix(path: Path, optional: Sequence[str] = ()) -> tuple[NDArray[np.float64], dict[str, tuple[str, ...]]]:
    """Read a file.

    Args:
        path: the file.
        optional: further arrays of names to read where the file has them.

    Returns:
        `(n_models, n_items)` values, NaN where there is none, and the names by array.

    Raises:
        EstimationError: if the file cannot be read, or holds no response matrix.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with _explained(path), zipfile.ZipFile(path) as archive:
        held = {name.removesuffix(".npy") for name in archive.namelist()}
        if not held.issuperset(_NEEDED):
            raise EstimationError(
                f"{path} is no response matrix: it needs the arrays R, models and items; it holds {sorted(held)}"
            )
        for key in (*_NEEDED, *(key for key in optional if key in held)):
            with archive.open(f"{key}.npy") as stream:
                arrays[key] = _array(stream, f"{key} in {path}")
    R = arrays.pop("R")
    if R.ndim != 2 or R.dtype.kind not in "biuf":
        raise EstimationError(f"R in {path} must be a models × items array of numbers; got {R.dtype} {R.shape}")
    values = R.astype(np.float64)
    if R.dtype.kind == "i":
        values[R == -1] = np.nan  # the usual mark in integer matrices, which have no NaN
    return values, {key: _texts(array, key, path) for key, array in arrays.items()}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except EstimationError:
        raise
    except OSError as error:
        raise EstimationError(f"cannot read {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, pickle.UnpicklingError, ValueError, EOFError) as error:
        raise EstimationError(f"{path} is no response matrix: it is not a readable npz file ({error})") from error


def _array(stream: IO[bytes], what: str) -> NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        array = _NameUnpickler(stream).load()
        if not isinstance(array, np.ndarray) or not all(isinstance(name, str) for name in array.ravel()):
            raise EstimationError(f"{what} must hold text; it holds other objects")
        return array
    flat = np.frombuffer(stream.read(), dtype=dtype, count=int(np.prod(shape, dtype=np.int64)))
    return flat.reshape(shape, order="F" if fortran else "C")


class _NameUnpickler(pickle.Unpickler):
    """Builds numpy arrays of text and refuses every other class."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAME_PARTS:
            raise EstimationError(
                f"the names hold a pickled {module}.{name}: save them as text with np.array(names, dtype=str)"
            )
        return super().find_class(module, name)


def _texts(array: NDArray[Any], key: str, path: Path) -> tuple[str, ...]:
    if array.ndim != 1:
        raise EstimationError(f"{key} in {path} must be a list of names; got an array of shape {array.shape}")
    return tuple(str(name) for name in array)
