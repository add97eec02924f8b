"""The place of the YAML files: in the package if it was installed from a wheel, else at the top of the checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def configs_path() -> Path:
    """Return the folder with `search.yaml` and the config groups."""
    inside = PACKAGE / "configs"
    return inside if inside.is_dir() else PACKAGE.parent / "configs"
