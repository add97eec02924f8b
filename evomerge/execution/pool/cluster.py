"""The Ray cluster in which workers run: a running one that is joined, or one that is started for this process alone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import ExecutionError
from evomerge.execution.pool import sessions
from evomerge.system.secrets import is_secret_place, looks_secret

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 128 << 20
"""Size of the object store of a cluster started here. Recipes and scores pass through it, never weights."""

HEAD_SECONDS = 20.0
"""How long the head of a cluster may be away; Ray would give it a minute, and then end this process."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray takes the address of a network interface for its node, and its servers then listen on all of them. With this
    # (Ray's own default on macOS and Windows) the node is 127.0.0.1, and they listen there only.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Idle processes, one a CPU, which would only take memory from the workers.
    "RAY_prestart_worker_first_driver": "0",
}

_BOUNDED = {
    # A full store is to be an error, rather than files in /tmp that nobody asked for. The first setting keeps Ray from
    # moving objects to files, the second (a disk counts as full from 0 %) from making new ones in a mapped file. As
    # environment variables, Ray ignores both.
    "automatic_object_spilling_enabled": False,
    "local_fs_capacity_threshold": 0.0,
}

_kept: list[int | None] = []
"""The locks of session folders of ours; a process is in one cluster at a time."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster to join or start.

    Attributes:
        address: the address of a running cluster, "host:port", or "auto" for the one on this machine; None: start one
            here.
        cpus: how many CPUs a cluster that is started here offers; None: those of the machine.
        gpus: how many GPUs it offers; None: those of the machine.
        runtime_env: Ray's runtime environment for the workers' processes.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether the cluster is started here and ends with this process."""
        return self.address is None

    @property
    def secret_variables(self) -> dict[str, str]:
        """The environment variables that hold secrets, which each worker sets itself: Ray logs those that it sets."""
        given = dict(self.runtime_env.get("env_vars") or {})
        return {name: str(value) for name, value in given.items() if is_secret_place(name) or looks_secret(str(value))}

    @property
    def _open_runtime_env(self) -> dict[str, Any]:
        """The runtime environment without secrets."""
        secret = self.secret_variables
        if not secret:
            return dict(self.runtime_env)
        variables = {name: value for name, value in self.runtime_env["env_vars"].items() if name not in secret}
        return {**self.runtime_env, "env_vars": variables}

    def connect(self) -> None:
        """Join the cluster, or start it.

        Raises:
            ExecutionError: if it cannot be reached or started, or this process is in another cluster.
        """
        if self.is_own:
            _before_ray_is_imported()
        import ray

        if ray.is_initialized():
            raise ExecutionError(
                "this process is connected to a Ray cluster already; call ray.shutdown() first, or search in a process "
                "of its own"
            )
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.runtime_env:
            quiet["runtime_env"] = self._open_runtime_env
        handlers = _signal_handlers()
        try:
            if self.address is not None and self.address != "auto":
                _knock(self.address)
            if self.is_own:
                ray.init(
                    address="local",
                    num_cpus=self.cpus,
                    num_gpus=self.gpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _system_config=dict(_BOUNDED),
                    **quiet,
                )
                log.info("started Ray %s on this machine, for this process alone", ray.__version__)
                self._keep_session()
            else:
                ray.init(address=self.address, **quiet)
                log.info("joined the Ray cluster at %s, %d nodes", self.address, len(alive_nodes()))
        except Exception as error:  # Ray raises almost anything, and often at length
            reason = " ".join(str(error).split())[:500]
            if self.is_own:
                raise ExecutionError(f"Ray could not be started on this machine: {reason}") from error
            raise ExecutionError(
                f"there is no Ray cluster at {self.address} that can be joined ({reason}); start one with `ray start "
                "--head`, or leave execution.address out to start one here"
            ) from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Ray puts its own in place of ours

    def disconnect(self) -> None:
        """Leave the cluster; one that was started here ends with all its processes. May be called twice."""
        import ray

        if ray.is_initialized():
            ray.shutdown()
        while _kept:
            sessions.release(_kept.pop())

    def _keep_session(self) -> None:
        """Mark Ray's session folder as ours, and remove those of our clusters that are gone."""
        import ray

        with contextlib.suppress(AttributeError):  # Ray has no public name for it
            session = Path(ray._private.worker._global_node.get_session_dir_path())
            _kept.append(sessions.keep(session))
            log.info("Ray's own logs are in %s until another search starts it", session)
            for removed in sessions.clear_dead(session.parent):
                log.info("removed %s, which an earlier search left", removed)


def alive_nodes() -> list[dict[str, Any]]:
    """Return the machines of the cluster, as Ray describes them; none where the cluster's head is gone."""
    import ray

    # Ray's own call would wait for the head, and after a minute end the process without an exception.
    if not _head_answers(ray.get_runtime_context().gcs_address):
        return []
    return [node for node in ray.nodes() if node["Alive"]]


def _head_answers(address: str) -> bool:
    """Return whether the cluster's head can be reached, after waiting a while for it to be started again."""
    deadline = time.monotonic() + HEAD_SECONDS
    while True:
        try:
            _knock(address)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(1.0)


def places(resources: Mapping[str, float], *, cpus: float, gpus: float) -> int:
    """Return how many workers fit into a machine with these resources."""
    fits = [resources.get("CPU", 0.0) / cpus] if cpus else []
    # A worker with a part of a GPU must find it on one GPU: 0.75 do not fit into two halves of different GPUs.
    if gpus:
        whole = resources.get("GPU", 0.0)
        fits.append(int(whole) * int(1.0 / gpus + 1e-9) if gpus <= 1.0 else whole / gpus)
    return int(min(fits, default=0.0) + 1e-9)


def gpus_of_a_worker(given: float | None) -> float:
    """Return how many GPUs each worker takes: as many as given, else one if any machine of the cluster has a GPU."""
    if given is not None:
        return given
    return float(any(node["Resources"].get("GPU", 0.0) > 0.0 for node in alive_nodes()))


def _knock(address: str) -> None:
    """Make sure that the address answers, since Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10.0):
        pass


def _signal_handlers() -> dict[int, Any]:
    """Return the present handlers of Ctrl-C and SIGTERM; none outside of the main thread, which alone may set them."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _before_ray_is_imported() -> None:
    """Set the environment variables that Ray reads; those that the user set stay as they are."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
