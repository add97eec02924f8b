"""The folder of one run.

outputs/<name>/<time>/
  config.yaml        the composed configuration, for people; what counts stands in the database
  environment.json   versions and machine
  run.sqlite         records, item scores, the strategy's state
  run.log
  best.yaml          the best recipe so far
  run.lock           which process writes the run now
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import RunError, nearest_name
from evomerge.recipe import Recipe
from evomerge.store.changes import moved_models
from evomerge.store.database import Database
from evomerge.store.environment import collect_environment
from evomerge.store.inputs import RunInputs, moved_recipe
from evomerge.store.lock import WriterLock
from evomerge.system.files import damaged, explain_os_errors, read_text, user_path, write_atomically
from evomerge.system.text import command, visible
from evomerge.system.yaml_text import YamlError, read_yaml, write_yaml

CONFIG, ENVIRONMENT, DATABASE, LOG, BEST, LOCK = (
    "config.yaml",
    "environment.json",
    "run.sqlite",
    "run.log",
    "best.yaml",
    "run.lock",
)


class RunDir:
    """The folder of one run, open for reading or, by one process at a time, for writing.

    Attributes:
        path: the folder.
        database: its records.
    """

    def __init__(self, path: Path, database: Database, lock: WriterLock | None) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.database = database
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        config: Mapping[str, Any],
        environment: Mapping[str, Any] | None = None,
        inputs: RunInputs | None = None,
        splits: Mapping[str, Any] | None = None,
    ) -> RunDir:
        """Start a run: make the folder and lock it for this process.

        The database comes last and makes the folder a run, so a start that was cut short leaves no run behind and can
        be repeated. From its first moment it holds what the run stands on.

        Args:
            path: the folder.
            config: the composed configuration, made of plain YAML values.
            environment: added to what `collect_environment` returns.
            inputs: what the run stands on; None: not known, so that it can be read, but not continued.
            splits: as for `Database.create`.

        Raises:
            RunError: if the folder holds a run or other files, or cannot be written.
        """
        path = user_path(path)
        cls.refuse_used(path)
        with explain_os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(path / LOCK)
        try:
            _refuse_existing(path)  # another process may have been faster
            plain = _plain(config)
            write_atomically(path / CONFIG, write_yaml(plain))
            facts = {**collect_environment(), **(environment or {})}
            write_atomically(path / ENVIRONMENT, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
            meta = {"config": plain, "inputs": None if inputs is None else inputs.to_data()}
            return cls(path, Database.create(path / DATABASE, meta=meta, splits=splits), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def refuse_used(cls, path: str | Path) -> None:
        """Check that a run may be made in a folder, for those to whom it takes long until they can; nothing is made.

        Raises:
            RunError: as `create`, where the folder is there.
        """
        path = user_path(path)
        _refuse_existing(path)
        if not path.is_dir():
            return
        with explain_os_errors(path):
            begun = (path / LOCK).exists()
            others = sorted(one.name for one in path.iterdir() if not one.name.startswith("."))
        if others and not begun:
            some = ", ".join(visible(name, most=40) for name in others[:3]) + (", …" if len(others) > 3 else "")
            raise RunError(f"{path} holds files that are not of a run ({some}); choose a folder that is new or empty")

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        write: bool = False,
        frozen: bool = False,
        mend: bool = True,
        busy_seconds: float = 60.0,
    ) -> RunDir:
        """Open a run.

        Args:
            path: the folder.
            write: whether to continue the run, which takes the writer's lock and checks the whole database. Reading
                needs no lock, and works beside the writer and in a read-only folder.
            frozen: whether all that is read is of one moment, for readers that take long: of a copy in memory. No file
                of the run is touched then, not even where a killed writer left a transaction half written.
            mend, busy_seconds: as for `Database.open`.

        Raises:
            RunError: if the folder is no run, another process writes it, it is damaged, or (for writing) read-only.
        """
        path = user_path(path)
        if not (path / DATABASE).is_file():
            raise RunError(not_a_run(path))
        lock = WriterLock(path / LOCK) if write else None
        try:
            database = Database.open(path / DATABASE, write=write, mend=mend and not frozen, busy_seconds=busy_seconds)
            if frozen and not write:
                database.freeze()
            return cls(path, database, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    @property
    def writable(self) -> bool:
        """Whether this object may write the run."""
        return self._lock is not None

    @property
    def config(self) -> dict[str, Any]:
        """The composed configuration with which the run began, and the changes that `resume` accepted since."""
        found = self.database.get_meta("config")
        return dict(found) if isinstance(found, dict) else {}

    @property
    def edited_config(self) -> dict[str, Any]:
        """The configuration in config.yaml, which the user may have edited; if the file is gone, the run's own.

        Raises:
            RunError: if it cannot be read.
        """
        try:
            data = read_yaml((self.path / CONFIG).read_bytes(), lenient=True)
        except FileNotFoundError:
            return self.config
        except (OSError, YamlError) as error:
            raise RunError(
                f"cannot read {self.path / CONFIG}: {error}. Mend it; or remove it, so that the configuration in the "
                "database counts alone"
            ) from error
        if not isinstance(data, dict):
            raise RunError(f"{self.path / CONFIG} must hold a mapping, but holds {type(data).__name__}")
        return data

    @property
    def inputs(self) -> RunInputs | None:
        """What the run stands on; None: it did not record that.

        Raises:
            RunError: if it cannot be read.
        """
        data = self.database.get_meta("inputs")
        try:
            return None if data is None else RunInputs.from_data(data)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(self.path / DATABASE, f"what the run stands on cannot be read: {error}") from error

    @property
    def changed(self) -> list[dict[str, Any]]:
        """What was changed when the run was continued: `key`, `before`, `after`, `when`, the oldest change first."""
        return list(self.database.get_meta("changed", []))

    def accept(self, config: Mapping[str, Any], inputs: RunInputs, changed: Sequence[Mapping[str, Any]]) -> None:
        """Commit a configuration and inputs with which the run is continued.

        Args:
            config: the configuration from now on.
            inputs: what the run stands on; models that moved are named by where they are.
            changed: the changes, added to `changed`; recipes name moved models by where they are now.

        Raises:
            RunError: if the run is open for reading only, or cannot be written.
        """
        plain = _plain(config)
        before = self.inputs
        moved = {} if before is None else dict(moved_models(before, inputs).values())
        if (
            plain != self.edited_config
        ):  # first: after a kill in between, the file is read as an edit of the same content
            write_atomically(self.path / CONFIG, write_yaml(plain))
        if changed or moved or plain != self.config or before is None or inputs.to_data() != before.to_data():
            with self.database.together():
                if moved:
                    self.database.replace_recipes(lambda recipe: moved_recipe(recipe, moved))
                self.database.set_meta("config", plain)
                self.database.set_meta("inputs", inputs.to_data())
                self.database.set_meta("changed", [*self.changed, *map(dict, changed)])
        best = self.best() if moved else None
        if best is not None:
            self.write_best(moved_recipe(best, moved))

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and machine of the process that started the run; empty where the file is missing.

        Raises:
            RunError: if it cannot be read.
        """
        try:
            if not (self.path / ENVIRONMENT).exists():
                return {}
            data = json.loads(read_text(self.path / ENVIRONMENT, "what the run ran on,", RunError))
        except ValueError as error:
            raise RunError(f"cannot read {self.path / ENVIRONMENT}: {error}") from error
        return data if isinstance(data, dict) else {}

    @property
    def log_path(self) -> Path:
        """The file of the run's log."""
        return self.path / LOG

    @property
    def best_path(self) -> Path:
        """The file into which `write_best` writes the best recipe."""
        return self.path / BEST

    def write_best(self, recipe: Recipe) -> Path:
        """Replace the best recipe; readers see the earlier recipe or the new one, never a part.

        Raises:
            RunError: if the run is open for reading only, or the file cannot be written.
        """
        if self._lock is None:
            raise RunError(f"the run {self.path} was opened for reading only")
        write_atomically(self.best_path, recipe.to_yaml())
        return self.best_path

    def best(self) -> Recipe | None:
        """Return the recipe of `write_best`, or None where none was written yet."""
        return Recipe.load(self.best_path) if self.best_path.is_file() else None

    def close(self) -> None:
        """Close the database and release the lock; may be called twice."""
        self.database.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse_existing(path: Path) -> None:
    if (path / DATABASE).exists():
        raise RunError(
            f"{path} already holds a run: `{command('resume', path)}` continues it; or choose another folder"
        )


def not_a_run(path: Path) -> str:
    """Return why a folder is no run, with the run that may have been meant."""
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
        near = nearest_name(path.name, beside)
        meant = f"did you mean {path.parent / near}? A" if near else "a"
        return f"there is no folder {path}; {meant} run is a folder outputs/<name>/<time> made by `evomerge search`"
    message = f"{path} is not a run: a run is a folder with {CONFIG} and {DATABASE}, made by `evomerge search`"
    inner = [found.parent for depth in ("*", "*/*") for found in path.glob(f"{depth}/{DATABASE}")]
    if not inner:
        return message
    latest = max(inner, key=lambda run: (run.name, str(run)))  # a run is named after its time
    return f"{message}. Did you mean the latest run in it, {latest}?"


def _plain(value: Any) -> Any:
    """Return a copy in which mappings and sequences of any kind are those that YAML writes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
