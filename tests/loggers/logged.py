"""What the fake logger wrote."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FAKE = f"{Path(__file__).with_name('fake_logger.py')}:FakeLogger"


def fake(file: Path, mood: str | None = None) -> dict[str, Any]:
    """Return the entry of a configuration."""
    return {"name": FAKE, "file": str(file), **({} if mood is None else {"mood": mood})}


def told(file: Path, what: str) -> list[Mapping[str, Any]]:
    """Return what one method was called with, call by call."""
    if not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line[what] for line in lines if what in line]


def keys(file: Path) -> list[str]:
    """Return the keys of the rows, in order."""
    return [f"{row['split']} {row['number']}" for row in told(file, "row")]
