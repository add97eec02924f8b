"""Where the candidates of a checked configuration run."""

from __future__ import annotations

from evomerge.assembly.prepare import Prepared
from evomerge.execution.base import Executor, StopSignal
from evomerge.execution.local import LocalExecutor
from evomerge.execution.worker import LiveWorker


def make_executor(prepared: Prepared, stop: StopSignal) -> Executor:
    """Load the live models and return the executor around them."""
    if prepared.config.execution.name == "ray":
        from evomerge.assembly.ray_workers import make_ray_executor

        return make_ray_executor(prepared.config, prepared.data, prepared.sources, prepared.harness, stop)
    return LocalExecutor(LiveWorker(prepared.live_models(), prepared.harness, stop=stop))
