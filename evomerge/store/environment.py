"""The environment of a run: versions and machine, taken from package metadata so that nothing heavy is imported."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

PACKAGES = (
    "evomerge",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "lm-eval",
    "datasets",
    "cma",
    "nevergrad",
    "ray",
    "numpy",
)


def collect_environment() -> dict[str, Any]:
    """Return versions and machine as JSON data; a package that is not installed has the version None."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "host": platform.node(),
        "cpu_count": os.cpu_count(),
    }


def changed_versions(before: Mapping[str, Any], now: Mapping[str, Any] | None = None) -> list[str]:
    """Return what differs between two environments, as "torch 2.4.0 -> 2.5.1".

    A resumed run is bit-equal to an uninterrupted one only if this list is empty.

    Args:
        before: the content of a run's `environment.json`.
        now: the present environment; None: that of this process.
    """
    now = collect_environment() if now is None else now
    old = {"python": before.get("python"), **before.get("packages", {})}
    new = {"python": now.get("python"), **now.get("packages", {})}
    return [f"{name} {old[name]} -> {new.get(name)}" for name in old if old[name] != new.get(name)]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
