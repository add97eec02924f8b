"""What of a run may be published beside its merge."""

from __future__ import annotations

from typing import Any

from evomerge.config.canonical import deciding
from evomerge.errors import RunError
from evomerge.store.run_dir import RunDir


def published_config(run: RunDir) -> dict[str, Any]:
    """Return the configuration for publication: config.yaml as long as it says the same as the run's own.

    So a secret that was written out can be replaced there by a reference.
    """
    own = run.config
    try:
        edited = run.edited_config
    except RunError:
        return own
    return edited if deciding(edited) == deciding(own) else own
