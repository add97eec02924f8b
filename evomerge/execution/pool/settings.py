"""The settings of a pool: how many workers, of what size, and how patient the driver is with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evomerge.record import Split


@dataclass(frozen=True)
class PoolSettings:
    """The size of a pool and its workers, and how long anything may take.

    Attributes:
        workers: how many workers; None: as many as fit into the cluster, counted again every few seconds.
        cpus: CPUs of each worker.
        gpus: GPUs of each worker, a part of one or whole ones; None: one GPU where the cluster has any, else none.
        timeout: seconds that a candidate may take; "auto": see `Deadline`; None: no limit.
        n_items: how many items each split has; needed for the timeout "auto".
        patience: how many seconds the search waits while not one worker has a place.
        share: whether idle workers steal units of the candidates of busy ones.
    """

    workers: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    timeout: float | str | None = None
    n_items: Mapping[Split, int] = field(default_factory=dict)
    patience: float = 600.0
    share: bool = True
