"""What the benchmarks say of the machine they ran on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch


def machine() -> str:
    """Processor, cores and torch in one line; all timings that print it run on one thread."""
    facts = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(": ")[1] for line in facts if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, 1 thread"


def show(figures: Mapping[str, float], *, as_json: bool) -> None:
    """Print figures by name: as one JSON object, or line by line below what the machine is."""
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    print(machine())
    for name, value in figures.items():
        print(f"{name:<32} {value:10.2f}")
