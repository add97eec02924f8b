"""Where the candidates of a checked configuration run."""

from __future__ import annotations

import logging
from collections.abc import Callable

from evomerge.assembly.prepare import Prepared
from evomerge.assembly.warm_up import Settled
from evomerge.execution.base import Executor, StopSignal
from evomerge.execution.local import LocalExecutor
from evomerge.execution.worker import LiveWorker

log = logging.getLogger(__name__)


def make_executor(
    prepared: Prepared,
    stop: StopSignal,
    *,
    before: Settled | None = None,
    tell: Callable[[Settled], None] | None = None,
) -> Executor:
    """Load the live models and return the executor around them.

    Args:
        prepared: the configuration.
        stop: by which the user can stop it.
        before: what an earlier session settled about threads; None: it is measured, if candidates run here on a CPU.
        tell: called with what was settled; None: the log says it.
    """
    if prepared.config.execution.name == "ray":
        from evomerge.assembly.ray_workers import make_ray_executor

        return make_ray_executor(
            prepared.config, prepared.data, prepared.sources, prepared.harness, stop, pins=prepared.pins
        )
    live = prepared.live_models()
    settled = prepared.settle(live, before)
    if tell is not None:
        tell(settled)
    else:
        for sentence in (*settled.said, *settled.doubts):
            log.info("%s", sentence)
    return LocalExecutor(LiveWorker(live, prepared.harness, stop=stop))
