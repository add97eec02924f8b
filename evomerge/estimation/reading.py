"""Response matrices from files of several kinds: npz, CSV, parquet, and the sample logs of lm-eval."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import EstimationError
from evomerge.estimation.responses import Responses


def read_responses(path: str | Path, *, metric: str | None = None) -> Responses:
    """Read a response matrix for estimators, by the ending of its name.

    - `.npz`: arrays `R` (`(n_models, n_items)`; as int8, -1 is "not asked"), `models` and `items`.
    - `.csv`, `.parquet`: long, with the columns model, item and score; or wide, with a first column `model` and one
      column for each item (an empty cell is "not asked").
    - `.jsonl`, or a folder: sample logs of lm-eval (see `read_samples`).

    Args:
        path: the file or folder.
        metric: which metric of a sample log; needed only where a log holds several.

    Raises:
        EstimationError: if the file is missing or of another kind, or holds no response matrix or values outside of
            [0, 1].
    """
    return _checked(_read(Path(path), metric))


def _checked(found: Responses) -> Responses:
    _ = found.scores  # refuses here what no estimator can use
    return found


def _read(path: Path, metric: str | None) -> Responses:
    if not path.exists():
        raise EstimationError(f"no responses at {path}: expected a .npz, .csv, .parquet or .jsonl file, or a folder")
    if path.is_dir():
        return read_samples(sorted(path.rglob("samples_*.jsonl")) or [path / "samples_*.jsonl"], metric=metric)
    readers = {".npz": Responses.load, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix == ".jsonl":
        return read_samples([path], metric=metric)
    if path.suffix not in readers:
        raise EstimationError(f"{path} ends in {path.suffix!r}; responses are read from .npz, .csv, .parquet or .jsonl")
    return readers[path.suffix](path)


def _read_csv(path: Path) -> Responses:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if not rows:
        raise EstimationError(f"{path} is empty: expected a first line of column names")
    return _from_table(rows[0], rows[1:], path)


def _read_parquet(path: Path) -> Responses:
    import pyarrow.parquet  # a dependency of `datasets`; slow to load, and only this needs it

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise EstimationError(f"{path} is not a readable parquet file: {error}") from error
    columns = [table.column(name).to_pylist() for name in table.column_names]
    return _from_table(table.column_names, list(zip(*columns, strict=True)), path)


def _from_table(header: Sequence[str], rows: Sequence[Sequence[Any]], path: Path) -> Responses:
    rows = [row for row in rows if len(row)]
    ragged = next((number for number, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if ragged is not None:
        raise EstimationError(f"{path}, line {ragged}: expected {len(header)} cells as in the header")
    if {"model", "item", "score"} <= set(header):
        place = [header.index(name) for name in ("model", "item", "score")]
        cells = ([row[index] for index in place] for row in rows)
        return _from_long(((str(m), str(i), _score(s, path)) for m, i, s in cells), str(path))
    if not header or header[0] != "model":
        raise EstimationError(
            f"{path} must have the columns model, item and score, or a first column 'model' and one column an item; "
            f"it has {list(header[:5])}"
        )
    R = np.array([[_score(cell, path) for cell in row[1:]] for row in rows]).reshape(len(rows), len(header) - 1)
    return Responses(tuple(str(row[0]) for row in rows), tuple(header[1:]), R)


def _score(cell: Any, path: Path) -> float:
    if cell is None or cell == "":
        return float("nan")
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise EstimationError(f"{path}: a score must be a number in [0, 1], or empty; got {cell!r}") from None


def _from_long(triples: Iterable[tuple[str, str, float]], what: str) -> Responses:
    models: dict[str, int] = {}
    items: dict[str, int] = {}
    found: dict[tuple[int, int], float] = {}
    for model, item, score in triples:
        key = models.setdefault(model, len(models)), items.setdefault(item, len(items))
        if key in found:
            raise EstimationError(f"{what}: model {model!r} has two scores for item {item!r}; keep one")
        found[key] = score
    R = np.full((len(models), len(items)), np.nan)
    for key, score in found.items():
        R[key] = score
    return Responses(tuple(models), tuple(items), R)


def read_samples(
    paths: Sequence[str | Path], *, metric: str | None = None, models: Sequence[str] | None = None
) -> Responses:
    """Read the logs that lm-eval writes with `--log_samples`: `MODEL/samples_TASK_DATE.jsonl`.

    An item is named TASK/DOC_ID. Where a task filters answers in several ways, lines of the first filter count.

    Args:
        paths: one file for each model and task.
        metric: the metric to read, for example "exact_match"; may be left out where the lines name exactly one.
        models: the model of each file; by default the name of the folder it lies in.

    Raises:
        EstimationError: if a file is missing or no sample log, or a metric is missing or outside of [0, 1].
    """
    if models is not None and len(models) != len(paths):
        raise EstimationError(f"{len(paths)} sample logs need as many model names; got {len(models)}")
    triples: list[tuple[str, str, float]] = []
    for index, path in enumerate(map(Path, paths)):
        if not path.is_file():
            raise EstimationError(f"no sample log at {path}: lm-eval writes it with --log_samples")
        model = models[index] if models is not None else path.resolve().parent.name
        task = _task_of(path)
        first_filter: str | None = None
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not line.strip():
                continue
            try:
                sample = json.loads(line)
                doc, chosen = sample["doc_id"], str(sample.get("filter", ""))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise EstimationError(f"{path}, line {number}: not a sample of lm-eval (JSON with a doc_id)") from None
            first_filter = chosen if first_filter is None else first_filter
            if chosen == first_filter:
                triples.append((model, f"{task}/{doc}", _metric(sample, metric, f"{path}, line {number}")))
    return _checked(_from_long(triples, "the sample logs"))


def _task_of(path: Path) -> str:
    name = path.stem.removeprefix("samples_")
    head, _, tail = name.rpartition("_")
    return head if head and tail[:4].isdigit() else name  # lm-eval appends the date


def _metric(sample: dict[str, Any], metric: str | None, where: str) -> float:
    names = sample.get("metrics")
    known = list(names) if isinstance(names, list) else [k for k in ("exact_match", "acc") if k in sample]
    if metric is None and len(known) != 1:
        raise EstimationError(f"{where}: name the metric to read; the sample holds {known}")
    name = metric if metric is not None else known[0]
    value = sample.get(name)
    if not isinstance(value, bool | int | float):
        raise EstimationError(f"{where}: no number under the metric {name!r}; the sample holds {known}")
    return float(value)
