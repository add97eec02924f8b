"""`evomerge search`: a Hydra application, with all of Hydra's flags (`-m` sweeps, `--cfg job` prints the result)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.cli.compose import hydra_arguments
from evomerge.cli.failures import report_failure
from evomerge.cli.paths import configs_path
from evomerge.cli.running import run_search


def run(words: Sequence[str]) -> int:
    """Run one search, or one per job of a sweep.

    Returns:
        The worst exit status of the jobs.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    statuses: list[int] = []
    sweep = False

    def job(composed: DictConfig) -> None:
        nonlocal sweep
        data: Any = OmegaConf.to_container(composed, resolve=True)
        settings = HydraConfig.get()
        sweep = settings.mode == RunMode.MULTIRUN
        # In a sweep `run.dir` would be the same for each job, so Hydra's numbered folders are used.
        folder = Path(settings.runtime.output_dir if sweep else data["run"]["dir"])
        try:
            statuses.append(run_search(data, folder))
        except Exception as error:
            _remove_if_empty(folder)
            statuses.append(report_failure(error))
            if not sweep:
                return
            # A sweep goes on with its next job, unless the user interrupted it.
            if statuses[-1] == 130:
                raise KeyboardInterrupt from None

    arguments = hydra_arguments(words)
    before = sys.argv
    # Hydra reads its flags from sys.argv only.
    sys.argv = ["evomerge search", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(configs_path()), config_name="search")(job)()
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:
        # Hydra has printed what it could not compose; it exits with 1 for every reason.
        if not statuses:
            return 2 if error.code else 0
        raise
    finally:
        sys.argv = before
    return max(statuses, default=0)


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder if it is empty: Hydra makes it before the job, but a search that never began leaves none."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        if not folder.is_absolute():  # our own outputs/<name>/<time>; a folder that the user named is left alone
            for parent in folder.parents[:2]:
                parent.rmdir()
