"""What the benchmarks say of the machine they ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def machine() -> str:
    """Processor, cores and torch in one line; all timings that print it run on one thread."""
    facts = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(": ")[1] for line in facts if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores, torch {torch.__version__}, 1 thread"
