"""What searches found, side by side: each one's winner and gain, and what those of one setting say over their seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.analysis.over_seeds import OverSeeds, over_seeds
from evomerge.analysis.shares import is_share
from evomerge.evaluation.task import WORST
from evomerge.record import Split
from evomerge.store.run_dir import RunDir
from evomerge.store.status import COMPLETE

BEST = "best merge"
"""The name under which the winners of several searches stand together."""


def search_found(run: RunDir | None, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one search found.

    Args:
        run: the run; None: there is none to be read.
        status: as `evomerge.analysis.verdict.with_verdict` returns it; without a run at least `state` and `error`.

    Returns:
        `state`, `error`, `seconds`, and of a complete search `best` (name), `test` (its score), `best_parent`, `gain`
        over that parent on the test items (a row of `comparisons`), `lost` (tasks), `shares` (whether the score is a
        share) and `models`: name to `mean` and `tasks` ("task metric" to mean) on the test items.
    """
    found: dict[str, Any] = {
        "state": status["state"],
        "error": status["error"],
        "best": None,
        "test": None,
        "best_parent": None,
        "gain": None,
        "seconds": status.get("seconds"),
        "lost": [],
        "models": {},
        "shares": False,
    }
    best = status.get("best")
    if run is None or status["state"] != COMPLETE or best is None:
        return found
    numbers = {record.name: record.number for record in run.database.baselines()}
    gains = {one["against"]: one for one in status["comparisons"]}
    models = {BEST: (best["test"], best["id"])}
    models |= {row["name"]: (row["test"], numbers[row["name"]]) for row in status["baselines"]}
    return found | {
        "best": best["name"],
        "test": best["test"],
        "best_parent": status["best_parent"],
        "gain": gains.get(status["best_parent"]),
        "lost": [one["task"] for one in status["skills"] if one["lost"]],
        "shares": _all_shares(run.config),
        "models": {
            name: {"mean": score["mean"], "tasks": _by_task(run, number, run.config)}
            for name, (score, number) in models.items()
            if score is not None
        },
    }


def found_over_seeds(ones: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what searches that differ in the seed alone say together.

    Args:
        ones: as `search_found` returns each.

    Returns:
        The number of `searches` and of those that are `complete`; for each of `models` its `name`, `test` and `tasks`
        over seeds (`OverSeeds.to_data`); `gain` likewise, with `above` (how many are above zero) and `share`; or None.
    """
    done = [one for one in ones if one["models"]]
    shares = all(one["shares"] for one in done)
    names = dict.fromkeys(name for one in done for name in one["models"])
    models = []
    for name in names:
        own = [one["models"][name] for one in done if name in one["models"]]
        tasks = dict.fromkeys(task for model in own for task in model["tasks"])
        by_task = {
            task: _over_seeds([model["tasks"][task] for model in own if task in model["tasks"]], _task_is_share(task))
            for task in tasks
        }
        total = _over_seeds([model["mean"] for model in own], shares)
        models.append(
            {
                "name": name,
                "test": None if total is None else total.to_data(),
                "tasks": {task: one.to_data() for task, one in by_task.items() if one is not None},
            }
        )
    gains = [one["gain"]["difference"] for one in done if one["gain"] is not None]
    gain = over_seeds(gains, (-1.0, 1.0) if shares else (-math.inf, math.inf))
    return {
        "searches": len(ones),
        "complete": len(done),
        "models": models,
        "gain": None
        if gain is None
        else {
            **gain.to_data(),
            "above": sum(one > 0.0 for one in gains),
            "share": all(one["gain"]["share"] for one in done if one["gain"] is not None),
        },
    }


def _over_seeds(values: Sequence[float], shares: bool) -> OverSeeds | None:
    """Return what one score says over seeds; a share cannot be beyond 0 and 1 (0 and -1 where less is better)."""
    if not shares or not all(-1.0 <= value <= 1.0 for value in values):
        return over_seeds(values)
    below, above = any(value < 0.0 for value in values), any(value > 0.0 for value in values)
    return over_seeds(values, (-1.0 if below else 0.0, 1.0 if above or not below else 0.0))


def _all_shares(config: Mapping[str, Any]) -> bool:
    """Return whether all metrics of the objective are shares, and so is what is made of them."""
    if (config.get("evaluation") or {}).get("objective") == WORST:
        return False
    tasks = (config.get("evaluation") or {}).get("tasks") or ()
    return all(
        _task_is_share(f"{task.get('name')} {task.get('metric')}") for task in tasks if task.get("weight", 1.0) != 0
    )


def _task_is_share(task: str) -> bool:
    """Return whether the values of a "task metric" are shares; what a function of one's own returns is not known."""
    return " python:" not in task and is_share(task.rpartition(" ")[2])


def _by_task(run: RunDir, number: int, config: Mapping[str, Any]) -> dict[str, float]:
    """Return a model's mean on the test items by task and metric, of those that the configuration names."""
    named = {f"{task.get('name')} {task.get('metric')}" for task in (config.get("evaluation") or {}).get("tasks") or ()}
    values: dict[str, list[float]] = {}
    for score in run.database.item_scores(number, Split.TEST):
        for metric, value in score.metrics.items():
            name = f"{score.task} {metric.partition(',')[0]}"  # a metric of several filters stands as "metric,filter"
            if name in named and math.isfinite(value):
                values.setdefault(f"{score.task} {metric}", []).append(float(value))
    return {name: math.fsum(one) / len(one) for name, one in values.items()}
