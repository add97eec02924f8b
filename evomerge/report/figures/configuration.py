"""What was asked for and what the run stands on: configuration, changes, models, items, versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from evomerge.analysis.measured import measured_items
from evomerge.errors import RunError
from evomerge.evaluation.task_data import TaskData
from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.groups import labels_of
from evomerge.report.settings import between, differing, flat, without_secrets
from evomerge.store.inputs import ModelContents
from evomerge.system.text import cut, visible
from evomerge.system.yaml_text import write_yaml

MOST = 40
"""So many keys in which runs differ are shown."""

LONGEST = 60_000
"""Most characters of a configuration."""

NOT_KNOWN = "not recorded"


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Lay out one run's configuration and what it stands on; of several, in which keys they differ."""
    if len(runs) > 1:
        return _several(runs)
    run = runs[0]
    config = without_secrets(run.config)
    other = differing(config)
    models, items = _models(run), _items(run)
    environment = run.environment
    packages = {name: version for name, version in (environment.get("packages") or {}).items() if version}
    data = {
        "differing": cut(write_yaml(other), LONGEST) if other else "",
        "whole": cut(write_yaml(config), LONGEST),
        "changed": [_change(one) for one in run.status["changed"]],
        "models": models,
        "items": items,
        "versions": {"Python": environment.get("python") or NOT_KNOWN, **packages},
        "machine": {
            name: environment[key]
            for name, key in (("system", "platform"), ("machine", "machine"), ("processors", "cpu_count"))
            if environment.get(key)
        },
    }
    return Figure(
        "configuration",
        "Configuration, models, items and versions",
        _lead(run, sum(1 for _ in flat(other)), models, items),
        template="configuration.html",
        data=data,
        note="What looks like a secret is not shown.",
    )


def _lead(run: RunData, keys: int, models: Sequence[Any], items: Sequence[Any]) -> str:
    changes = len(run.status["changed"])
    changed = "" if not changes else f" {changes} value{'s' * (changes > 1)} changed when it was continued."
    version = (run.environment.get("packages") or {}).get("evomerge")
    made = "" if version is None else f", made by evomerge {version}"
    stands = f"; it stands on {len(models)} models and {sum(one['n'] for one in items):,} items" if models else ""
    return f"{keys} keys differ from the defaults{stands}{made}.{changed}"


def _models(run: RunData) -> list[dict[str, Any]]:
    """Return the models that the run stands on; those of the configuration where their contents were not recorded."""
    try:
        inputs = run.inputs
    except RunError:
        inputs = None
    if inputs is None:
        models = run.config.get("models") or {}
        named = {**(models.get("parents") or {}), **({"base": models["base"]} if models.get("base") else {})}
        return [{"name": name, "source": _words(where), "contents": NOT_KNOWN} for name, where in named.items()]
    return [
        {"name": name, "source": _source(model), "contents": contents_hash(model)}
        for name, model in inputs.models.items()
    ]


def _source(model: ModelContents) -> str:
    source = model.source
    text = source.path
    text += f" at revision {source.revision}" if source.revision else ""
    text += f", file {source.file}" if source.file else ""
    text += f", adapter {source.adapter}" if source.adapter else ""
    return text + (f" at revision {source.adapter_revision}" if source.adapter_revision else "")


def contents_hash(model: ModelContents) -> str:
    """Return a hash of all files of a model that decide its answers: 16 hex digits of a SHA-256 of names and hashes."""
    lines = "\n".join(f"{name} {digest}" for name, digest in sorted(model.digests.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _items(run: RunData) -> list[dict[str, Any]]:
    return [
        {
            "task": task,
            "split": str(split),
            "n": len(own.items),
            "documents": own.documents,
            "source": own.task,
            "data": _data_set(own.data),
        }
        for task, splits in measured_items(run.run).items()
        for split in Split
        if (own := splits.get(split)) is not None
    ]


def _data_set(data: TaskData) -> str:
    named = [data.dataset, data.config, data.split, data.revision and f"at revision {data.revision}"]
    return ", ".join(str(one) for one in named if one)


def _change(one: Mapping[str, Any]) -> dict[str, str]:
    when = one.get("when")
    at = datetime.fromtimestamp(when).strftime("%Y-%m-%d %H:%M") if isinstance(when, int | float) else _words(when)
    return {
        "key": str(one.get("key")),
        "before": _words(one.get("before")),
        "after": _words(one.get("after")),
        "when": at,
    }


def _words(value: Any) -> str:
    if value is None:
        return "–"
    return cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), 200)


def _several(runs: Sequence[RunData]) -> Figure | None:
    found = between([without_secrets(run.config) for run in runs])
    if not found:
        return None
    keys = list(found)[:MOST]
    named = ", ".join(visible(key, most=60) for key in keys[:5])
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return Figure(
        "configuration",
        "In which keys the runs differ",
        f"{len(runs)} runs differ in {len(found)} key{'s' * (len(found) > 1)}: {named}{more}.",
        table=Table(["key", *labels_of(runs)], [[key, *map(_words, found[key])] for key in keys]),
        note=f"{len(found) - MOST} more keys are left out." if len(found) > MOST else "",
    )
