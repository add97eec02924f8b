"""What models answered, and what they were asked, in a run's database: compressed, a row for each task of a split."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evomerge.record import ItemAnswer, ItemPrompt, Split
from evomerge.system.secrets import hide

if TYPE_CHECKING:
    from evomerge.store.database import Database

DROPPED = "dropped_answers"
"""The key in the database of how many models' answers did not fit: {split: count}."""

ANSWERS_SCHEMA = """
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    candidate INTEGER NOT NULL REFERENCES candidates (number),
    split TEXT NOT NULL,
    task TEXT NOT NULL,
    variant TEXT NOT NULL,                                                          -- of the prompts
    data BLOB NOT NULL,                                                             -- zlib of JSON
    UNIQUE (candidate, split, task)
);
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY,
    variant TEXT NOT NULL,
    split TEXT NOT NULL,
    task TEXT NOT NULL,
    data BLOB NOT NULL,                                                             -- zlib of JSON
    UNIQUE (variant, split, task)
);
CREATE TABLE unfinished_answers (                                   -- of candidates that are not recorded yet
    candidate INTEGER PRIMARY KEY,
    data BLOB NOT NULL                                                              -- zlib of JSON
);
"""


class AnswerTables:
    """The tables of answers and prompts of one database.

    Prompts stand once for all models that were asked in the same words: a `variant` names what decides how they are
    written. Numbers in the data need not be finite.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    # ---- writing: each method is one transaction, or a part of one that is open ----

    def put(self, number: int, split: Split, answers: Iterable[ItemAnswer], *, variant: str) -> None:
        """Write the answers of a recorded model on a split, in place of earlier ones."""
        rows = [(number, str(split), task, variant, _packed(_columns(own))) for task, own in _by_task(answers).items()]
        with self._db._transaction():
            self._db._db.execute("DELETE FROM answers WHERE candidate = ? AND split = ?", (number, str(split)))
            self._db._db.executemany(
                "INSERT INTO answers (candidate, split, task, variant, data) VALUES (?, ?, ?, ?, ?)", rows
            )

    def put_prompts(self, variant: str, split: Split, prompts: Iterable[ItemPrompt]) -> None:
        """Write what the items of a split ask, unless it is there."""
        found: dict[str, list[ItemPrompt]] = {}
        for prompt in prompts:
            found.setdefault(prompt.task, []).append(prompt)
        rows = [(variant, str(split), task, _packed([_row(one) for one in own])) for task, own in found.items()]
        with self._db._transaction():
            self._db._db.executemany(
                "INSERT OR IGNORE INTO prompts (variant, split, task, data) VALUES (?, ?, ?, ?)", rows
            )

    def drop(self, number: int, split: Split) -> None:
        """Delete the answers of a model on a split, and prompts that no answer is left to."""
        with self._db._transaction():
            self._db._db.execute("DELETE FROM answers WHERE candidate = ? AND split = ?", (number, str(split)))
            self._db._db.execute(
                "DELETE FROM prompts WHERE NOT EXISTS "
                "(SELECT 1 FROM answers a WHERE a.variant = prompts.variant AND a.split = prompts.split)"
            )

    def put_unfinished(self, number: int, answers: Iterable[ItemAnswer]) -> None:
        """Write the answers so far of a candidate that is not recorded yet."""
        data = _packed({task: _columns(own) for task, own in _by_task(answers).items()})
        with self._db._transaction():
            self._db._db.execute(
                "INSERT OR REPLACE INTO unfinished_answers (candidate, data) VALUES (?, ?)", (number, data)
            )

    def drop_unfinished(self, numbers: Iterable[int]) -> None:
        """Delete what `put_unfinished` wrote of these candidates."""
        with self._db._transaction():
            self._db._db.executemany(
                "DELETE FROM unfinished_answers WHERE candidate = ?", [(number,) for number in numbers]
            )

    # ---- reading ----

    def of(self, number: int, split: Split) -> list[ItemAnswer]:
        """Return what a model answered on a split, task by task, items ascending; empty where nothing is kept.

        A candidate with the recipe of an earlier one (`same_as`) has that one's answers, unless it has its own.
        """
        with self._db._explain_damage():
            return [
                answer
                for task, data in self._rows("task, data", number, split)
                for answer in _answers(task, _unpacked(data))
            ]

    def prompts(self, number: int, split: Split) -> dict[tuple[str, int], ItemPrompt]:
        """Return by task and item what a model was asked on a split."""
        with self._db._explain_damage():
            found: dict[tuple[str, int], ItemPrompt] = {}
            for task, variant in self._rows("task, variant", number, split):
                row = self._db._one(
                    "SELECT data FROM prompts WHERE variant = ? AND split = ? AND task = ?", variant, str(split), task
                )
                for one in [] if row is None else _unpacked(row[0]):
                    prompt = ItemPrompt(task, *one)
                    found[task, prompt.item] = prompt
            return found

    def has_prompts(self, variant: str, split: Split) -> bool:
        """Return whether `put_prompts` wrote those of a variant."""
        return self._db._one("SELECT 1 FROM prompts WHERE variant = ? AND split = ?", variant, str(split)) is not None

    def kept(self) -> list[tuple[int, Split]]:
        """Return of whom answers are kept, on which split."""
        rows = self._db._all("SELECT DISTINCT candidate, split FROM answers ORDER BY candidate, split")
        with self._db._explain_damage():
            return [(number, Split(split)) for number, split in rows]

    def n_bytes(self) -> int:
        """Return what answers and prompts take, without those of unfinished candidates."""
        sizes = self._db._one(
            "SELECT (SELECT TOTAL(LENGTH(data)) FROM answers), (SELECT TOTAL(LENGTH(data)) FROM prompts)"
        )
        return int(sum(sizes))

    def candidates(self, split: Split) -> list[int]:
        """Return the candidates whose answers on a split are kept, the one that fared best there first, then by age.

        On the search items that is by the fitness.
        """
        score = "c.fitness" if split == Split.SEARCH else "s.mean"
        rows = self._db._all(
            "SELECT DISTINCT c.number FROM answers a JOIN candidates c ON c.number = a.candidate "
            "LEFT JOIN scores s ON s.candidate = a.candidate AND s.split = a.split "
            f"WHERE a.split = ? AND c.number >= 0 ORDER BY {score} DESC, c.number",
            str(split),
        )
        return [row[0] for row in rows]

    def unfinished(self) -> dict[int, list[ItemAnswer]]:
        """Return the answers of candidates that are not recorded yet."""
        with self._db._explain_damage():
            return {
                number: [answer for task, own in _unpacked(data).items() for answer in _answers(task, own)]
                for number, data in self._db._all("SELECT candidate, data FROM unfinished_answers")
            }

    def _rows(self, columns: str, number: int, split: Split) -> list[Any]:
        sql = f"SELECT {columns} FROM answers WHERE candidate = ? AND split = ? ORDER BY id"
        rows = self._db._all(sql, number, str(split))
        if not rows:
            earlier = self._db._one("SELECT same_as FROM candidates WHERE number = ?", number)
            if earlier is not None and earlier[0] is not None:
                rows = self._db._all(sql, earlier[0], str(split))
        return rows


def _by_task(answers: Iterable[ItemAnswer]) -> dict[str, list[ItemAnswer]]:
    found: dict[str, list[ItemAnswer]] = {}
    for answer in answers:
        found.setdefault(answer.task, []).append(answer)
    return {task: sorted(own, key=lambda answer: answer.item) for task, own in found.items()}


def _columns(answers: Sequence[ItemAnswer]) -> dict[str, Any]:
    """Return answers to one task column by column, which compresses better.

    What a filter made of an answer is null where it changed nothing, false where the answer did not meet it; a result
    is null where there is none.
    """
    filters = list(dict.fromkeys(name for answer in answers for name in answer.filtered))
    ensembles = list(dict.fromkeys(name for answer in answers for name in answer.results))
    return {
        "items": [answer.item for answer in answers],
        "responses": [list(answer.responses) for answer in answers],
        "filtered": {
            name: [
                None if answer.filtered.get(name) == list(answer.responses) else answer.filtered.get(name, False)
                for answer in answers
            ]
            for name in filters
        },
        "results": {
            name: {
                metric: [answer.results.get(name, {}).get(metric) for answer in answers]
                for metric in dict.fromkeys(one for answer in answers for one in answer.results.get(name, {}))
            }
            for name in ensembles
        },
    }


def _answers(task: str, columns: dict[str, Any]) -> Iterator[ItemAnswer]:
    """Yield what `_columns` laid out."""
    for i, (item, responses) in enumerate(zip(columns["items"], columns["responses"], strict=True)):
        filtered = {
            name: responses if own[i] is None else own[i]
            for name, own in columns["filtered"].items()
            if own[i] is not False
        }
        results = {
            name: {metric: values[i] for metric, values in metrics.items() if values[i] is not None}
            for name, metrics in columns["results"].items()
        }
        yield ItemAnswer(task, int(item), responses, filtered, results)


def _row(prompt: ItemPrompt) -> list[Any]:
    """Return the fields of a prompt behind its task."""
    return [prompt.item, prompt.requests, prompt.target, prompt.document, prompt.repeats, prompt.hashes]


def _packed(data: Any) -> bytes:
    text = json.dumps(_hidden(data), ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def _unpacked(data: bytes) -> Any:
    return json.loads(zlib.decompress(data).decode("utf-8", "surrogatepass"))


def _hidden(data: Any) -> Any:
    """Return data whose texts hold no secret that the configuration refers to."""
    if isinstance(data, str):
        return hide(data)
    if isinstance(data, dict):
        return {name: _hidden(one) for name, one in data.items()}
    if isinstance(data, (list, tuple)):
        return [_hidden(one) for one in data]
    return data
