"""The tensors of a PEFT adapter's file, by what each of them does: a factor, a whole tensor, or single rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.checkpoint import TensorInfo
from evomerge.merge.files.header import read_header
from evomerge.merge.files.weights import few

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"

_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"(?P<module>.+?)(?P<depth>(\.base_layer)*)\.lora_(?P<kind>embedding_A|embedding_B|A|B|magnitude_vector)"
    r"(?P<rest>(\.[^.]+)*)"
)
_ROWS = re.compile(r"(?P<module>.+?)(\.token_adapter)?\.trainable_tokens_delta(\.[^.]+)?")
_KINDS = {"embedding_A": "a", "embedding_B": "b", "A": "a", "B": "b", "magnitude_vector": "magnitude"}


@dataclass
class Factors:
    """The names of the tensors of one changed module, or of one of several parameters that are stacked in it.

    Attributes:
        a, b: A and B.
        bias: of B, which is added to the module's own.
        magnitude: the trained lengths of DoRA.
        embedding: whether it is the change of an embedding.
    """

    a: str | None = None
    b: str | None = None
    bias: str | None = None
    magnitude: str | None = None
    embedding: bool = False


@dataclass
class AdapterNames:
    """What the names in an adapter's file say.

    Attributes:
        factors: module and depth of nesting (0: the outermost) to its factors.
        whole: the name of a parameter to the tensor that replaces it.
        rows: the name of a module to the tensor that replaces some of its rows.
        twice: pairs of tensors that mean the same.
    """

    factors: dict[tuple[str, int], Factors] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    twice: list[tuple[str, str]] = field(default_factory=list)


def sort_names(names: Mapping[str, Any]) -> AdapterNames:
    """Sort the names of an adapter's file; adapters' own names in them (`lora_A.default.weight`) are left out."""
    found = AdapterNames()
    for name in names:
        bare = name.removeprefix(_PREFIX)
        if match := _FACTOR.fullmatch(bare):
            key = match["module"], match["depth"].count(".base_layer")
            one = found.factors.setdefault(key, Factors())
            kind = _KINDS[match["kind"]]
            if kind == "b" and match["rest"].endswith(".bias"):
                kind = "bias"
            _note_twice(found, getattr(one, kind), name)
            setattr(one, kind, name)
            one.embedding = one.embedding or "embedding" in match["kind"]
        elif match := _ROWS.fullmatch(bare):
            _note_twice(found, found.rows.get(match["module"]), name)
            found.rows[match["module"]] = name
        elif ".original_module." not in bare:  # what a module was before it was trained as a whole
            plain = re.sub(r"\.(base_layer|modules_to_save(\.[^.]+)?)(?=\.)", "", bare)
            if plain == bare or plain not in found.whole:  # of two copies, the one under the module's own name
                found.whole[plain] = name
    return found


def _note_twice(found: AdapterNames, before: str | None, name: str) -> None:
    if before is not None:
        found.twice.append((before, name))


class AdapterFile:
    """The tensors of an adapter's file, memory-mapped.

    Attributes:
        path: the file.
        mapped: whether `load` returns the memory of the file.
        infos: the tensors' shapes and types.

    Raises:
        CheckpointError: if there is no file, it is damaged, or it is a pickle that may not be read.
    """

    def __init__(self, folder: Path, *, allow_pickle: bool) -> None:
        import torch

        from evomerge.merge.files.formats.pickles import read_pickle

        self.path = adapter_file(folder, allow_pickle=allow_pickle)
        self._tensors: dict[str, torch.Tensor] = {}
        self._finite: set[str] = set()
        self._open: Any = None
        self.mapped = self.path.name != PICKLE
        if not self.mapped:
            self._tensors = read_pickle(self.path)
            self.infos = {name: TensorInfo(tuple(one.shape), one.dtype) for name, one in self._tensors.items()}
            self._refuse(f"{n} ({info.dtype})" for n, info in self.infos.items() if not info.dtype.is_floating_point)
            return
        types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
        header = read_header(self.path)
        self._refuse(f"{name} ({one['dtype']})" for name, one in header.items() if one["dtype"] not in types)
        self.infos = {name: TensorInfo(tuple(one["shape"]), types[one["dtype"]]) for name, one in header.items()}

    def _refuse(self, wrong: Iterable[str]) -> None:
        found = list(wrong)
        if found:
            raise CheckpointError(
                f"{self.path} holds tensors that are no floating-point numbers of 16 bits or more: {few(found)}; save "
                "the adapter in bfloat16, float16 or float32"
            )

    @property
    def n_bytes(self) -> int:
        """The size of all its tensors."""
        return sum(info.n_bytes for info in self.infos.values())

    def load(self, name: str) -> torch.Tensor:
        """Return a tensor, in its own type; it is the memory of the file, so do not change it.

        Raises:
            CheckpointError: if it cannot be read, or holds NaN or Inf.
        """
        if name not in self._tensors:
            from safetensors import SafetensorError, safe_open

            try:
                if self._open is None:
                    self._open = safe_open(self.path, framework="pt", device="cpu")
                self._tensors[name] = self._open.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"cannot read {name} from {self.path}: {error}") from error
        tensor = self._tensors[name]
        if name not in self._finite:
            if not tensor.isfinite().all():
                kind = "NaN" if tensor.isnan().any() else "Inf"
                raise CheckpointError(f"tensor {name} of {self.path} holds {kind}; this adapter cannot be merged")
            self._finite.add(name)
        return tensor


def adapter_file(folder: Path, *, allow_pickle: bool) -> Path:
    """Return the file with an adapter's tensors.

    Raises:
        CheckpointError: if there is none, or only a pickle and that may not be read.
    """
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    if not (folder / PICKLE).is_file():
        raise CheckpointError(f"{folder} has an adapter's configuration, but neither {WEIGHTS} nor {PICKLE}")
    if not allow_pickle:
        raise CheckpointError(
            f"{folder} holds its adapter as {PICKLE}, a pickle, which is read (without running code) only if the "
            "model says allow_pickle: true"
        )
    return folder / PICKLE
