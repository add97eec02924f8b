"""The memory of a run: a SQLite database in which a record, its item scores and the strategy's state are one commit.

After `kill -9` at any instant, the database holds exactly the committed transactions; the next process that opens it
undoes a transaction that was half written. The same is true after a power cut, if the disk keeps what it reported as
written. The database uses SQLite's rollback journal rather than its write-ahead log, which needs shared memory and so
fails on network file systems and in read-only folders. While a run is written, the journal's file stays between
commits, so that no commit has to make and delete it and sync the folder; its first bytes say whether it is in use.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import RecipeError, RunError
from evomerge.recipe import Recipe
from evomerge.record import Choice, Finalist, ItemScore, Record, Result, Score, Split, State
from evomerge.store.answers import ANSWERS_SCHEMA, AnswerTables
from evomerge.store.packing import Column, from_columns, pack, to_columns, unpack_items, unpack_values
from evomerge.store.traces import TRACES_SCHEMA, TraceTables
from evomerge.store.untouched import connect_untouched, in_memory
from evomerge.system.files import damaged, explain_database_errors, explain_os_errors, sync_folder
from evomerge.system.secrets import hide
from evomerge.system.text import command, storable

FORMAT = 4
"""Version of the tables below. A database of another format is refused, with a message that says what to do.

4: answers and prompts are kept as texts, so that people can read them without models and tasks (`AnswerTables`).
3: what the run stands on is recorded with it (the configuration, contents of models and items). 2: results are vectors
(objectives, violation, measures), and a search ends in a choice. 1: one number a candidate.
"""

_SCHEMA = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;        -- value: JSON
CREATE TABLE progress (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;    -- value: JSON
CREATE TABLE splits (task TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;      -- data: JSON
CREATE TABLE strategy (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL, crc32 INTEGER NOT NULL);
CREATE TABLE recipes (hash TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;     -- data: JSON
CREATE TABLE candidates (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    recipe TEXT NOT NULL REFERENCES recipes (hash),
    genome TEXT,                                                                    -- JSON, or NULL for a baseline
    fitness REAL,                                                                   -- result as one number; or NULL
    objectives TEXT,                                                                -- JSON; NULL: no result
    violation REAL,
    measures TEXT,                                                                  -- JSON
    seconds REAL NOT NULL,
    device TEXT NOT NULL,
    error TEXT,
    same_as INTEGER
);
CREATE INDEX candidates_by_recipe ON candidates (recipe);
CREATE TABLE scores (                                                               -- NULL: NaN
    candidate INTEGER NOT NULL REFERENCES candidates (number),
    split TEXT NOT NULL,
    mean REAL,
    low REAL,
    high REAL,
    n INTEGER NOT NULL,
    PRIMARY KEY (candidate, split)
) WITHOUT ROWID;
CREATE TABLE item_sets (id INTEGER PRIMARY KEY, items BLOB NOT NULL UNIQUE);        -- packed int64
CREATE TABLE item_scores (
    id INTEGER PRIMARY KEY,                                                         -- keeps the order of tasks
    candidate INTEGER NOT NULL REFERENCES candidates (number),
    split TEXT NOT NULL,
    task TEXT NOT NULL,
    metric TEXT NOT NULL,
    items INTEGER NOT NULL REFERENCES item_sets (id),
    "values" BLOB NOT NULL,                                                         -- packed float64
    UNIQUE (candidate, split, task, metric)
);
CREATE INDEX item_scores_by_task ON item_scores (task, metric, split, candidate);
"""
    + ANSWERS_SCHEMA
    + TRACES_SCHEMA
)

_PAGE = 256
_COLUMNS = (
    "number, name, state, recipe, genome, fitness, objectives, violation, measures, seconds, device, error, same_as"
)


class Database:
    """The database of one run.

    Any number of readers may be open beside the writer. No method keeps a read lock after it returns (an iterator reads
    page by page), so a slow reader never stops the writer. An object belongs to the thread that made it.

    Attributes:
        path: the file.
        answers: the texts that models answered, and what they were asked.
        traces: how the search went.
    """

    def __init__(self, path: Path, *, write: bool, busy_seconds: float, mend: bool = True) -> None:
        """Use `create` or `open`."""
        self.path = path
        self._write = write
        self._together = False
        self._reading = False
        self._read: dict[tuple[int, Split], list[ItemScore]] = {}  # in this snapshot
        self._recipes: dict[str, Recipe] | None = None  # by hash, where nothing changes: reading one takes a while
        self.answers = AnswerTables(self)
        self.traces = TraceTables(self)
        # A reader, too, asks for write access, unless it must not mend: a transaction that a killed writer left must be
        # undone before anything can be read. Without the right to write, SQLite falls back to read-only access.
        # `query_only` prevents writes.
        if write or mend:
            with explain_database_errors(path):
                self._db = sqlite3.connect(
                    f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=busy_seconds, isolation_level=None
                )
        else:
            self._db = connect_untouched(path, busy_seconds=busy_seconds)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(
        cls, path: str | Path, *, meta: Mapping[str, Any] | None = None, splits: Mapping[str, Any] | None = None
    ) -> Database:
        """Make a new database without records, open for writing; the file appears only when it is complete.

        Args:
            path: the file.
            meta: JSON values by key, as for `set_meta`: with what is known from the first moment on.
            splits: how each task's items are split, as JSON data by task; they never change.

        Raises:
            RunError: if the file exists, or cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise RunError(f"{path} exists already. `{command('resume', path.parent)}` continues a run")
        aside = path.with_name(f".{path.name}.partial")
        with explain_os_errors(path), explain_database_errors(path):
            for leftover in (aside, aside.with_name(f"{aside.name}-journal")):
                leftover.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(aside, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = EXTRA")
                # One transaction, since a file with tables but without its format could not be read.
                db.executescript(f"BEGIN; {_SCHEMA}")
                db.executemany(
                    "INSERT INTO meta (key, value) VALUES (?, ?)",
                    [(key, _json(value)) for key, value in {**(meta or {}), "format": FORMAT}.items()],
                )
                db.executemany(
                    "INSERT INTO splits (task, data) VALUES (?, ?)",
                    [(task, _json(data)) for task, data in (splits or {}).items()],
                )
                db.execute("COMMIT")
            aside.rename(path)
            sync_folder(path.parent)
        return cls.open(path, write=True)

    @classmethod
    def open(cls, path: str | Path, *, write: bool = False, busy_seconds: float = 60.0, mend: bool = True) -> Database:
        """Open a database.

        Args:
            path: the file.
            write: whether to open it for writing, which also checks the whole file and that commits work.
            busy_seconds: how long to wait for other processes that are reading or writing.
            mend: whether a reader may undo in the file what a killed writer left half written; if not, it is undone in
                a copy in memory (see `evomerge.store.untouched`).

        Raises:
            RunError: if it is missing, damaged, of a newer format, or (for writing) read-only.
        """
        path = Path(path)
        if not path.is_file():
            raise RunError(f"there is no database {path}; the folder holds no run")
        return cls(path, write=write, busy_seconds=busy_seconds, mend=mend)

    def freeze(self) -> None:
        """Go on with a copy in memory of what the last commit left: a writer is neither seen nor held up any more."""
        with explain_database_errors(self.path):
            copy = in_memory(self._db)
        self._db.close()
        self._db = copy
        self._recipes = {}

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._write:
            with contextlib.suppress(sqlite3.Error):  # a reader still has it open, or it was closed before
                self._db.execute("PRAGMA journal_mode = DELETE")  # removes the journal's file
        self._db.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- writing: each method is one transaction ----

    def add(
        self,
        record: Record,
        *,
        scores: Mapping[Split, Sequence[ItemScore]] | None = None,
        strategy_state: bytes | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Commit a record with its item scores, the strategy's state and the progress: all of it or nothing.

        Args:
            record: the record.
            scores: item scores by split; they can be left out where `record.same_as` is set.
            strategy_state: as in `update_progress`; so is `progress`.

        Raises:
            RunError: if the number is taken, or the database cannot be written; nothing of this record is kept then.
        """
        columns = {split: to_columns(items) for split, items in (scores or {}).items()}
        recipe_hash = record.recipe.content_hash
        with self._transaction():
            if self._one("SELECT 1 FROM candidates WHERE number = ?", record.number) is not None:
                raise RunError(f"candidate {record.number} is already recorded in {self.path}")
            self._db.execute(
                "INSERT OR IGNORE INTO recipes (hash, data) VALUES (?, ?)",
                (recipe_hash, _json(record.recipe.to_data())),
            )
            self._db.execute(
                f"INSERT INTO candidates ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.number,
                    record.name,
                    str(record.state),
                    recipe_hash,
                    None if record.genome is None else _json([float(gene) for gene in record.genome]),
                    None if record.fitness is None else float(record.fitness),
                    *_result_columns(record.result),
                    float(record.seconds),
                    record.device,
                    None if record.error is None else storable(record.error),
                    record.same_as,
                ),
            )
            for split, score in (record.scores or {}).items():
                self._put_score(record.number, split, score)
            for split, split_columns in columns.items():
                self._put_columns(record.number, split, split_columns)
            self._put_progress(progress or {}, strategy_state)

    def add_scores(
        self,
        number: int,
        split: Split,
        score: Score,
        items: Sequence[ItemScore],
    ) -> None:
        """Commit the scores of a recorded candidate on another split, in place of earlier scores on that split.

        Raises:
            RunError: if there is no such candidate, or the database cannot be written.
        """
        columns = to_columns(items)
        with self._transaction():
            if self._one("SELECT 1 FROM candidates WHERE number = ?", number) is None:
                raise RunError(f"there is no candidate {number} in {self.path}")
            self._db.execute("DELETE FROM item_scores WHERE candidate = ? AND split = ?", (number, str(split)))
            self._put_score(number, split, score)
            self._put_columns(number, split, columns)

    def update_progress(self, progress: Mapping[str, Any], *, strategy_state: bytes | None = None) -> None:
        """Commit progress values, and the strategy's state if it changed.

        Args:
            progress: JSON values by key; other keys keep their values.
            strategy_state: replaces the earlier state; None: the earlier state stays.
        """
        with self._transaction():
            self._put_progress(progress, strategy_state)

    def set_choice(self, choice: Choice) -> None:
        """Commit how the search ended."""
        self.set_meta("choice", {"kind": choice.kind, "records": list(choice.records)})

    def set_finalists(self, finalists: Sequence[Finalist]) -> None:
        """Commit by what the choice is made, besides the item scores."""
        self.set_meta("finalists", [asdict(one) for one in finalists])

    def set_meta(self, key: str, value: Any) -> None:
        """Commit a JSON value under a key.

        Raises:
            ValueError: if the key is "format", which is the database's own.
        """
        if key == "format":
            raise ValueError("the key 'format' is the database's own")
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, hide(_json(value))))

    def replace_recipes(self, replace: Callable[[Recipe], Recipe]) -> None:
        """Commit other recipes in place of those of all candidates, for models that are named otherwise now."""
        with self._transaction():
            for key, data in self._all("SELECT hash, data FROM recipes"):
                with self._explain_damage():
                    made = replace(_recipe(key, data))
                if made.content_hash == key:
                    continue
                self._db.execute(
                    "INSERT OR IGNORE INTO recipes (hash, data) VALUES (?, ?)",
                    (made.content_hash, _json(made.to_data())),
                )
                self._db.execute("UPDATE candidates SET recipe = ? WHERE recipe = ?", (made.content_hash, key))
                self._db.execute("DELETE FROM recipes WHERE hash = ?", (key,))

    # ---- reading ----

    def records(self, *, baselines: bool = False) -> Iterator[Record]:
        """Yield the records in order of number; `baselines` adds those with negative numbers, which come first."""
        last = -(2**63) if baselines else -1
        recipes = self._known_recipes()
        while page := self._read_records("number > ? ORDER BY number LIMIT ?", (last, _PAGE), recipes):
            yield from page
            last = page[-1].number

    def baselines(self) -> list[Record]:
        """Return the baselines in the order in which they are configured and shown."""
        return self._read_records("number < 0", (), self._known_recipes())[::-1]

    def record(self, number: int) -> Record | None:
        """Return one record, or None where there is none of that number."""
        found = self._read_records("number = ?", (number,), self._known_recipes())
        return found[0] if found else None

    def count(self, *, baselines: bool = False) -> int:
        """Return the number of records."""
        row = self._one("SELECT COUNT(*) FROM candidates" + ("" if baselines else " WHERE number >= 0"))
        return int(row[0]) if row else 0

    def tally(self) -> dict[State, int]:
        """Return how many candidates are in each state, without reading them."""
        rows = self._all("SELECT state, COUNT(*) FROM candidates WHERE number >= 0 GROUP BY state")
        with self._explain_damage():
            return {State(state): int(n) for state, n in rows}

    def best_number(self) -> int | None:
        """Return the candidate with the largest fitness, the oldest of equal ones, without reading the others."""
        row = self._one(
            "SELECT number FROM candidates WHERE number >= 0 AND fitness IS NOT NULL ORDER BY fitness DESC, number"
            " LIMIT 1"
        )
        return None if row is None else int(row[0])

    def item_scores(self, number: int, split: Split) -> list[ItemScore]:
        """Return a candidate's item scores on one split, task by task, in the order in which they were added.

        A candidate that took over the scores of an earlier one (`same_as`) has that one's, unless it has its own. In a
        snapshot, where nothing changes, they are read once.
        """
        if (number, split) in self._read:
            return list(self._read[number, split])
        sql = (
            'SELECT s.task, s.metric, i.items, s."values" FROM item_scores s JOIN item_sets i ON i.id = s.items '
            "WHERE s.candidate = ? AND s.split = ? ORDER BY s.id"
        )
        rows = self._all(sql, number, str(split))
        if not rows:
            earlier = self._one("SELECT same_as FROM candidates WHERE number = ?", number)
            if earlier is not None and earlier[0] is not None:
                rows = self._all(sql, earlier[0], str(split))
        with self._explain_damage():
            found = from_columns(
                Column(task, metric, unpack_items(items), unpack_values(values)) for task, metric, items, values in rows
            )
        if self._reading:
            self._read[number, split] = list(found)
        return found

    def response_matrix(
        self, task: str, metric: str, split: Split = Split.SEARCH, *, baselines: bool = True
    ) -> tuple[list[int], list[int], NDArray[np.float64]]:
        """Return the scores of all candidates on one metric of a task.

        Candidates that took over another's scores are left out: their rows would be copies.

        Returns:
            Candidate numbers, item indices (both ascending), and the scores `(n_candidates, n_items)`, NaN where a
            candidate was not scored on an item.
        """
        rows = self._all(
            'SELECT s.candidate, s.items, s."values" FROM item_scores s '
            "WHERE s.task = ? AND s.metric = ? AND s.split = ? AND s.candidate >= ? ORDER BY s.candidate",
            *(task, metric, str(split), -(2**63) if baselines else 0),
        )
        with self._explain_damage():
            used = {row[1] for row in rows}
            stored = self._all("SELECT id, items FROM item_sets") if used else []
            sets = {key: unpack_items(blob) for key, blob in stored if key in used}
            items = np.unique(np.concatenate(list(sets.values()))) if sets else np.empty(0, dtype=np.int64)
            places = {key: np.searchsorted(items, indices) for key, indices in sets.items()}
            matrix = np.full((len(rows), len(items)), np.nan)
            for row, (_, key, values) in enumerate(rows):
                matrix[row, places[key]] = unpack_values(values)
        return [row[0] for row in rows], items.tolist(), matrix

    def strategy_state(self) -> bytes | None:
        """Return the strategy's state of the last commit that had one, or None.

        Raises:
            RunError: if the state is damaged.
        """
        row = self._one("SELECT state, crc32 FROM strategy")
        if row is None:
            return None
        # SQLite has no checksums of its own, and a state that is nearly right would change the search unnoticed.
        if zlib.crc32(row[0]) != row[1]:
            raise damaged(self.path, "the strategy's state does not match its checksum")
        return bytes(row[0])

    def progress(self) -> dict[str, Any]:
        """Return the progress values of the last commit."""
        with self._explain_damage():
            return {key: json.loads(value) for key, value in self._all("SELECT key, value FROM progress")}

    def splits(self) -> dict[str, Any]:
        """Return how each task's items are split."""
        with self._explain_damage():
            return {task: json.loads(data) for task, data in self._all("SELECT task, data FROM splits")}

    def get_meta(self, key: str, default: Any = None) -> Any:
        """Return the JSON value under a key."""
        row = self._one("SELECT value FROM meta WHERE key = ?", key)
        with self._explain_damage():
            return default if row is None else json.loads(row[0])

    def choice(self) -> Choice | None:
        """Return how the search ended; None before its end."""
        data = self.get_meta("choice")
        with self._explain_damage():
            if data is not None and not data["records"]:
                raise ValueError("the search ended with a choice of nothing")
            return None if data is None else Choice(str(data["kind"]), tuple(int(one) for one in data["records"]))

    def finalists(self) -> list[Finalist] | None:
        """Return by what the choice was made; None where that was not recorded."""
        data = self.get_meta("finalists")
        with self._explain_damage():
            return None if data is None else [Finalist(**one) for one in data]

    # ---- inside ----

    def _prepare(self) -> None:
        with explain_database_errors(self.path):
            self._db.execute("PRAGMA foreign_keys = ON")
            # EXTRA is FULL and also syncs the folder when the journal is deleted, so a commit survives a power cut.
            self._db.execute("PRAGMA synchronous = EXTRA")
            if self._write:
                self._db.execute("PRAGMA journal_mode = PERSIST")
            else:
                self._db.execute("PRAGMA query_only = ON")
        if not self._all("SELECT 1 FROM sqlite_master WHERE name = 'meta'"):
            raise damaged(self.path, "it is empty, or no database of evomerge")
        found = self.get_meta("format")
        if not isinstance(found, int) or found < 1:
            raise damaged(self.path, f"its format is {found!r}")
        if found < FORMAT:
            raise RunError(
                f"{self.path} has format {found}, of an evomerge before this one, which reads format {FORMAT}: open "
                "the run with the version that wrote it (see its environment.json), or start a new one"
            )
        if found > FORMAT:
            raise RunError(
                f"{self.path} has format {found}, but this evomerge reads format {FORMAT}: "
                "upgrade evomerge to the version that wrote the run (see its environment.json)"
            )
        if self._write:
            problems = [row[0] for row in self._all("PRAGMA quick_check(3)")]
            if problems != ["ok"]:
                raise damaged(self.path, "; ".join(problems))
            for table, _, lost, _ in self._all("PRAGMA foreign_key_check"):
                raise damaged(self.path, f"rows of the table {table} belong to rows of {lost} that are missing")
            self._check_recipes()
            for statement in TRACES_SCHEMA.split(";"):  # those of a run that an earlier version began
                self._all(statement)
            with self._transaction():  # a commit that changes nothing shows now, not after hours, if commits work
                self._db.execute("UPDATE meta SET value = value WHERE key = 'format'")

    def _check_recipes(self) -> None:
        """Check that each recipe is the one of its key, by which candidates name it."""
        last = ""
        while page := self._all("SELECT hash, data FROM recipes WHERE hash > ? ORDER BY hash LIMIT ?", last, _PAGE):
            with self._explain_damage():
                for key, data in page:
                    _recipe(key, data)
            last = page[-1][0]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of all that is written within: all of it is kept or nothing."""
        with self._transaction():
            self._together = True
            try:
                yield
            finally:
                self._together = False

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._write:
            raise RunError(f"{self.path} was opened for reading only")
        if self._together:
            yield
            return
        with explain_database_errors(self.path):
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:  # Ctrl-C too
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads within see the state of the same commit.

        The writer cannot commit meanwhile, so nothing that takes long may stand in it. Item scores and recipes that
        were read stay in memory until it ends.
        """
        if self._reading or self._together:
            yield
            return
        with explain_database_errors(self.path):
            self._db.execute("BEGIN")
        self._reading, recipes = True, self._recipes
        self._recipes = {} if recipes is None else recipes
        try:
            yield
        finally:
            self._reading, self._recipes = False, recipes
            self._read.clear()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _explain_damage(self) -> Iterator[None]:
        try:
            yield
        except (zlib.error, ValueError, KeyError, TypeError, RecipeError) as error:
            raise damaged(self.path, error) from error

    def _all(self, sql: str, *values: Any) -> list[Any]:
        with explain_database_errors(self.path):
            return self._db.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: Any) -> Any:
        rows = self._all(sql, *values)
        return rows[0] if rows else None

    def _put_score(self, number: int, split: Split, score: Score) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO scores (candidate, split, mean, low, high, n) VALUES (?, ?, ?, ?, ?, ?)",
            (number, str(split), float(score.mean), float(score.low), float(score.high), int(score.n)),
        )

    def _put_columns(self, number: int, split: Split, columns: Iterable[Column]) -> None:
        for column in columns:
            items = pack(column.items)
            self._db.execute("INSERT OR IGNORE INTO item_sets (items) VALUES (?)", (items,))
            self._db.execute(
                'INSERT INTO item_scores (candidate, split, task, metric, items, "values") '
                "VALUES (?, ?, ?, ?, (SELECT id FROM item_sets WHERE items = ?), ?)",
                (number, str(split), column.task, column.metric, items, pack(column.values)),
            )

    def _put_progress(self, progress: Mapping[str, Any], state: bytes | None) -> None:
        if state is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO strategy (id, state, crc32) VALUES (1, ?, ?)", (state, zlib.crc32(state))
            )
        for key, value in progress.items():
            self._db.execute("INSERT OR REPLACE INTO progress (key, value) VALUES (?, ?)", (key, _json(value)))

    def _known_recipes(self) -> dict[str, Recipe]:
        """Return where recipes that were read are found again by their hash, as long as nothing changes."""
        return {} if self._recipes is None else self._recipes

    def _read_records(self, where: str, values: tuple[Any, ...], recipes: dict[str, Recipe]) -> list[Record]:
        """Return whole records, scores included, from one snapshot; no lock outlives the call."""
        picked = f"SELECT {_COLUMNS} FROM candidates WHERE {where}"
        with self.snapshot():
            rows = self._all(f"SELECT p.*, r.data FROM ({picked}) p LEFT JOIN recipes r ON r.hash = p.recipe", *values)
            score_rows = self._all(
                "SELECT candidate, split, mean, low, high, n FROM scores "
                f"WHERE candidate IN (SELECT number FROM ({picked}))",
                *values,
            )
        rows.sort(key=lambda row: row[0])  # a join need not keep the order of what it joins
        scores: dict[int, dict[Split, Score]] = {}
        with self._explain_damage():
            for number, split, mean, low, high, n in score_rows:
                scores.setdefault(number, {})[Split(split)] = read_score(mean, low, high, n)
            return [self._record(row, scores, recipes) for row in rows]

    def _record(self, row: Any, scores: dict[int, dict[Split, Score]], recipes: dict[str, Recipe]) -> Record:
        number, name, state, recipe_hash, genome, fitness, *result, seconds, device, error, same_as, recipe_data = row
        if recipe_data is None:
            raise ValueError(f"the recipe of candidate {number} is missing")
        if recipe_hash not in recipes:
            recipes[recipe_hash] = _recipe(recipe_hash, recipe_data)
        return Record(
            number=number,
            name=name,
            state=State(state),
            recipe=recipes[recipe_hash],
            genome=None if genome is None else tuple(json.loads(genome)),
            result=read_result(*result),
            fitness=fitness,
            scores=scores.get(number),
            seconds=seconds,
            device=device,
            error=error,
            same_as=same_as,
        )


def _recipe(key: str, data: str) -> Recipe:
    """Return the recipe of a row.

    Raises:
        ValueError: if it is another one than that of its key.
    """
    recipe = Recipe.from_data(json.loads(data))
    if recipe.content_hash != key:
        raise ValueError(
            f"the recipe with the key {key[:12]} is another one: its own hash is {recipe.content_hash[:12]}"
        )
    return recipe


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in a path that is not UTF-8: its escape means the same
        return json.dumps(value, separators=(",", ":"))
    return text


def _result_columns(result: Result | None) -> tuple[str | None, float | None, str | None]:
    """Return the columns objectives, violation and measures."""
    if result is None:
        return None, None, None
    measures = {name: float(value) for name, value in result.measures.items()}
    return _json([float(value) for value in result.objectives]), float(result.violation), _json(measures)


def read_result(objectives: str | None, violation: float | None, measures: str | None) -> Result | None:
    """Return the result of three columns; `measures` may be left out as None."""
    if objectives is None:
        return None
    return Result(tuple(json.loads(objectives)), violation or 0.0, json.loads(measures or "{}"))


def read_score(mean: float | None, low: float | None, high: float | None, n: int) -> Score:
    """Return the score of four columns, of which a number that is none is NULL."""
    return Score(_nan(mean), _nan(low), _nan(high), n)


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
