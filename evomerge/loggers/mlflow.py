"""MLflow: a run of an experiment, in a database or on a server."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from evomerge.loggers.base import Begun, Logger
from evomerge.loggers.row import LogRow, RunFacts, Summary, flat
from evomerge.record import Split

ID, VERDICT = "evomerge.run", "mlflow.note.content"
"""The tags of the run's own id, and of what MLflow shows as the description of a run."""

MOST_METRICS, MOST_PARAMETERS = 1000, 100
"""Most of each in one request."""

MOST_TEXT = 500
"""Most characters of a parameter or tag, which each version of MLflow takes."""

ROWS = "rows"
"""The group of metrics that hold the numbers of the rows of each split: what the run holds is read off them."""


class MlflowLogger(Logger):
    """A run of MLflow.

    Args:
        experiment: null: the name of the configuration.
        uri: of the tracking server or store; null: as MLFLOW_TRACKING_URI says, else MLflow's own default.
        files: whether best.yaml is sent, too; null: it is.
    """

    LIBRARY, EXTRA = "mlflow", "mlflow"

    def __init__(self, *, experiment: str | None = None, uri: str | None = None, files: bool | None = None) -> None:
        self._experiment, self._uri, self._files = experiment, uri, files is not False
        self._ended = False

    @property
    def place(self) -> str:
        """The store and the experiment."""
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI") or "the default store"
        return f"{uri} {self._experiment or 'experiment of the configuration'}"

    def begin(self, facts: RunFacts, run: str, *, again: bool) -> Begun:
        """Find the run by its tag, or make it."""
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient(tracking_uri=self._uri)
        name = self._experiment or facts.project
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        found = self._client.search_runs([number], f"tags.`{ID}` = '{run}'") if again else []
        if found:
            self._id = found[0].info.run_id
            logged, self._ended = self._logged(), True
        else:
            said = {ID: run, "evomerge.group": facts.group, "evomerge.folder": facts.folder}
            tags = {key: value[:MOST_TEXT] for key, value in said.items()}
            made = self._client.create_run(number, run_name=facts.name, tags=tags)
            self._id, logged = made.info.run_id, set()
            self._write_parameters(facts)
        return Begun(f"experiment {name}, run {facts.name} ({self._id})", logged)

    def candidate(self, row: LogRow) -> None:
        """Log a row in one request: its numbers, that it is there, and why it failed."""
        from mlflow.entities import Metric, RunTag

        if self._ended:  # by an earlier session
            self._client.update_run(self._id, status="RUNNING")
            self._ended = False
        at = int(1000 * time.time())
        metrics = [Metric(_key(name), value, at, row.step) for name, value in row.numbers().items()]
        metrics = [*metrics[: MOST_METRICS - 1], Metric(f"{ROWS}/{row.split}", row.number, at, row.step)]
        error = [] if row.error is None else [RunTag(f"failures.{row.split}.{row.number}", row.error[:MOST_TEXT])]
        self._client.log_batch(self._id, metrics=metrics, tags=error)

    def finished(self, summary: Summary) -> None:
        """Write the verdict as the run's description, the best merge's scores, and best.yaml."""
        self._client.set_tag(self._id, VERDICT, summary.text()[: 10 * MOST_TEXT])
        for name, value in summary.scores.items():
            self._client.log_metric(self._id, _key(f"result/{name}"), value)
        for path in summary.files.values() if self._files else ():
            self._client.log_artifact(self._id, path)
        ended = {"complete": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}.get(summary.state)
        if ended is not None:
            self._client.set_terminated(self._id, ended)

    def close(self) -> None:
        """Nothing is left: each call is a request of its own."""

    def _logged(self) -> set[str]:
        """Return the keys of the rows that the run holds."""
        own = {split: self._client.get_metric_history(self._id, f"{ROWS}/{split}") for split in Split}
        return {f"{split} {int(one.value)}" for split, found in own.items() for one in found}

    def _write_parameters(self, facts: RunFacts) -> None:
        from mlflow.entities import Param

        known = {"seed": facts.seed, "parents": ", ".join(facts.parents), "tasks": ", ".join(facts.tasks)}
        values = [*known.items(), *((f"config.{name}", value) for name, value in flat(facts.config))]
        params = [Param(key, text) for key, text in {_key(name): str(one)[:MOST_TEXT] for name, one in values}.items()]
        for first in range(0, len(params), MOST_PARAMETERS):
            self._client.log_batch(self._id, params=params[first : first + MOST_PARAMETERS])


def _key(name: str) -> str:
    """Return a name with only what MLflow takes in names, of which a store may make a path."""
    plain = re.sub(r"[^\w\-. /]", lambda found: f"u{ord(found[0]):x}", name, flags=re.ASCII)
    return "/".join(part if part.strip(". ") else f"_{part}" for part in plain.split("/"))[:250]
