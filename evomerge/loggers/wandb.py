"""Weights & Biases: a run of a project, online or offline."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from evomerge.loggers.base import Begun, Logger
from evomerge.loggers.row import LogRow, RunFacts, Summary, flat

STEP = "candidate"
"""The number on whose axis the others are drawn: rows need not come in its order."""


class WandbLogger(Logger):
    """A run of Weights & Biases.

    Args:
        project: null: the name of the configuration.
        entity: the team or account; null: your own.
        mode: online, offline (nothing is sent before `wandb sync`) or null: as WANDB_MODE says, else online.
        dir: where it keeps its own files; null: the run folder.
        files: whether best.yaml is sent, too; null: it is.
    """

    LIBRARY, EXTRA = "wandb", "wandb"

    def __init__(
        self,
        *,
        project: str | None = None,
        entity: str | None = None,
        mode: str | None = None,
        dir: str | None = None,
        files: bool | None = None,
    ) -> None:
        self._project, self._entity, self._mode, self._dir = project, entity, mode, dir
        self._files = files is not False

    @classmethod
    def problems(cls, name: str, options: Any) -> list[str]:
        """Return the mistakes in options; a mode is one of two words."""
        found, mode = super().problems(name, options), options.get("mode")
        if isinstance(mode, str) and mode not in ("online", "offline"):
            found.append(f"`mode` of the logger {name} must be online or offline, but came {mode!r}")
        return found

    @property
    def place(self) -> str:
        """The project and its owner. Offline is no other place: what was written is sent there later."""
        return f"{self._entity or 'own account'}/{self._project or 'project of the configuration'}"

    def begin(self, facts: RunFacts, run: str, *, again: bool) -> Begun:
        """Begin or continue the run of this id; neither machine, git nor the program's text is sent."""
        import wandb

        folder = Path(self._dir).expanduser() if self._dir else Path(facts.folder)
        self._run: Any = wandb.init(
            project=self._project or re.sub(r"[/\\#?%:]", "-", facts.project)[:128],
            entity=self._entity,
            group=facts.group,
            name=facts.name,
            id=run,
            resume="allow",
            mode=self._mode,  # type: ignore[arg-type,unused-ignore]
            dir=str(folder),
            config={**facts.to_data(), "config": dict(flat(facts.config))},
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                symlink=False,  # files are copied
            ),
        )
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)
        if self._run.offline:
            return Begun(f"offline; {shlex.join(['wandb', 'sync', str(Path(self._run.dir).parent)])} sends it")
        return Begun(str(self._run.url))

    def candidate(self, row: LogRow) -> None:
        """Log a row, which goes to wandb's own process at once."""
        said = {"error": row.error} if row.error else {}
        self._run.log({STEP: row.step, **row.numbers(), "state": row.state, "row": row.key, **said})

    def finished(self, summary: Summary) -> None:
        """Write the summary, and best.yaml."""
        self._run.summary.update({"verdict": summary.text(), "state": summary.state, "best": summary.best})
        self._run.summary.update({f"result/{name}": value for name, value in summary.scores.items()})
        for path in summary.files.values() if self._files else ():
            self._run.save(path, base_path=str(Path(path).parent), policy="now")

    def close(self) -> None:
        """Wait until everything is sent, or (offline) written."""
        self._run.finish()
