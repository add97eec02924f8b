"""The environment of a run: versions and machine, taken from package metadata so that nothing heavy is imported."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit

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
        "install": install_command(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "host": platform.node(),
        "cpu_count": os.cpu_count(),
    }


def install_command() -> str | None:
    """Return the command that installs this evomerge elsewhere, from where this one came (PEP 610's direct_url.json).

    Returns:
        None where no command would surely work: it came from a folder or file of this machine, from an address that
        needs a password, or by its name from an index, which need not be the public one.
    """
    try:
        text = metadata.distribution("evomerge").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    if text is None:
        return None
    try:
        origin = json.loads(text)
        address = urlsplit(str(origin["url"]))
        if address.scheme != "https" or address.username or address.password:
            return None
        vcs = origin.get("vcs_info")
        url = address._replace(query="", fragment="").geturl()
        return f"pip install {url}" if vcs is None else f"pip install git+{url}@{vcs['commit_id']}"
    except (ValueError, KeyError, TypeError):  # somebody else's file
        return None


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
