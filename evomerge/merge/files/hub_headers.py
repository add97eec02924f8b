"""A model whose weights are yet to come: what its headers say of them, and its values once they are needed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from evomerge.errors import CheckpointError
from evomerge.merge.files.checkpoint import TensorInfo, TensorSource
from evomerge.merge.files.hub import HubModel, bring
from evomerge.merge.files.hub_listing import RemoteFile
from evomerge.merge.files.hub_transfer import WORKERS, head
from evomerge.system.leftovers import scratch_folder

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_FIRST = 1 << 16
"""Bytes that are read at first: the whole header of most files of weights."""

_LONGEST = 100_000_000
"""The longest header that safetensors reads, in bytes."""


class ArrivingTensors:
    """The tensors of a Hub model: known by their headers, downloaded when the first value is read.

    Attributes:
        model: the model; its weights come with those of others where `bring` is called before values are read.
        infos: shape and type of each tensor.
        mapped: whether `load` returns the memory of a file.
    """

    def __init__(self, model: HubModel, open_tensors: Callable[[Path], TensorSource]) -> None:
        """Read the headers.

        Args:
            model: the model.
            open_tensors: opens the tensors of a folder; it reads headers alone.

        Raises:
            CheckpointError: if a header cannot be had or is wrong.
        """
        self.model = model
        self._open, self._opened = open_tensors, False
        with headers_folder(model) as folder:
            try:
                found = open_tensors(folder)
            except CheckpointError as error:
                raise CheckpointError(str(error).replace(str(folder), f"{model.source.path} on the Hub")) from error
        self._found: TensorSource = found
        self.mapped = found.mapped
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(dict(found.infos))

    @property
    def arriving(self) -> tuple[HubModel, ...]:
        """The models of the Hub whose weights are not here yet; tensors that are made of others have theirs."""
        return () if self.model.is_here else (self.model,)

    def reads(self, name: str) -> Sequence[tuple[TensorSource, str]]:
        """See `evomerge.merge.files.stored`; nothing, as long as the weights are not here."""
        return ((self._found, name),) if self._opened else ()

    def load(self, name: str) -> torch.Tensor:
        """Return the values of one tensor; the first downloads the weights where nobody has brought them.

        Raises:
            CheckpointError: if they cannot be downloaded or read.
        """
        return self._whole().load(name)

    def _whole(self) -> TensorSource:
        if not self._opened:
            if not self.model.is_here:
                log.info("downloading the weights of %s", self.model.source.path)
                bring([self.model])
            self._found, self._opened = self._open(self.model.folder), True
        return self._found


@contextlib.contextmanager
def headers_folder(model: HubModel) -> Iterator[Path]:
    """Yield a folder that looks like a model's to whoever reads headers, until they are read.

    Missing weights stand there with their header and their size, and holes for the values, which take no space. The
    folder is nobody's model: it is hidden, and gone before anything else is done.

    Raises:
        CheckpointError: if a header cannot be had.
    """
    with scratch_folder("evomerge-headers-") as folder:
        missing = {file.name for file in model.missing}
        for path in model.folder.rglob("*"):
            name = path.relative_to(model.folder)
            if path.is_file() and name.as_posix() not in missing:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(path.absolute())

        def stand_in(file: RemoteFile) -> None:
            start = head(model.listing, file, _FIRST)
            length = 8 + int.from_bytes(start[:8], "little")
            if len(start) < length <= min(file.size, _LONGEST):
                start = head(model.listing, file, length)
            place = folder / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as opened:
                opened.write(start[:length])
                opened.truncate(file.size)

        with ThreadPoolExecutor(WORKERS, thread_name_prefix="headers") as pool:
            for job in [pool.submit(stand_in, file) for file in model.missing]:
                job.result()
        yield folder
