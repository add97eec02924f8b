"""How a merge was found, as rows of its card: what was optimized, in which space, by what, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.export.asked import how_asked
from evomerge.record import Record, Split
from evomerge.store.run_dir import RunDir
from evomerge.system.text import value_word

_BUDGET = {"candidates": "candidates", "items": "item evaluations", "seconds": "seconds"}


def search_facts(run: RunDir, config: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """Return what a stranger needs to know of a search.

    Args:
        run: the run.
        config: its configuration for publication.
        record: the merge that is published.
    """
    database = run.database
    spent, choice = section(database.progress(), "spent"), database.choice()
    chosen = "the baseline " + record.name if record.is_baseline else record.name
    if choice is not None and len(choice.records) > 1 and record.number in choice.records:
        chosen += f", one of a front of {len(choice.records)} merges, none of them better in every objective"
    stages = section(config, "stages")
    facts = {
        "method": _named(config.get("method")),
        "searched": _space(config),
        "genes": None if record.genome is None or stages else len(record.genome),
        "stages": ", ".join(map(str, stages)) or None,
        "optimized": optimized(config),
        "optimizer": _named(config.get("optimizer")),
        "seed": config.get("seed"),
        "budget": _budget(section(config, "budget")),
        "items of each candidate": _items(config),
        "candidates tried": database.count(),
        "item evaluations of candidates": spent.get("items"),
        "time of the search (without baselines and finalists)": f"{spent['seconds']:.0f} s"
        if "seconds" in spent
        else None,
        "finalists on validation": section(config, "evaluation").get("finalists"),
        "how models were asked": how_asked(config),
        "chosen": chosen,
    }
    if choice is None:
        facts["state"] = "exported before the search ended; chosen on the search items alone"
    return {key: value for key, value in facts.items() if value is not None}


def optimized(config: Mapping[str, Any]) -> str | None:
    """Return "3 x gsm8k (exact_match) + 1 x mmlu (acc, floor 95%)": what a stranger needs to read a weighted sum."""
    evaluation = section(config, "evaluation")
    entries = [task for task in evaluation.get("tasks") or () if isinstance(task, Mapping)]
    if len(entries) < 2:
        return None
    worst = evaluation.get("objective") == "worst"
    parts = []
    for task in entries:
        named = [str(task.get("metric", "score"))]
        for key in ("objective", "floor", "constraint"):
            if task.get(key) is not None:
                named.append(f"{key} {_plain(task[key])}")
        weight = "" if worst or task.get("constraint") is not None else f"{task.get('weight', 1):g} × "
        parts.append(f"{weight}{task['name']} ({', '.join(named)})")
    return ("the worst of " if worst else "") + "; ".join(parts)


def section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the mapping under a key; an empty one where there is none."""
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _named(value: Any) -> str | None:
    """Return a part of a configuration by its name, with the settings that it has: "cma (sigma 0.2)"."""
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    name = value.get("name")
    settings = {
        **{key: one for key, one in value.items() if key not in ("name", "parameters")},
        **section(value, "parameters"),
    }
    shown = ", ".join(f"{key} {value_word(one)}" for key, one in settings.items() if one is not None)
    return None if name is None else f"{name} ({shown})" if shown else str(name)


def _space(config: Mapping[str, Any]) -> str | None:
    space = section(config, "space")
    if not space.get("name"):
        return None
    parts = []
    if space["name"] in ("parameter", "joint") and space.get("blocks") is not None:
        blocks = space["blocks"]
        parts.append(f"groups: {'each layer' if blocks == 'layers' else f'{blocks} blocks of layers'}")
        roles = section(space, "roles")
        if roles:
            parts.append(f"split by {', '.join(map(str, roles))}")
    for name, gene in section(space, "genes").items():
        if isinstance(gene, Mapping) and gene.get("low") is not None and gene.get("high") is not None:
            parts.append(f"{name} in [{gene['low']:g}, {gene['high']:g}]")
        else:
            parts.append(str(name))
    choices = section(space, "method").get("choices")
    if choices:
        parts.append(f"the method: {', '.join(map(str, choices))}")
    if space["name"] in ("dataflow", "joint"):
        path = {key: one for key, one in section(space, "path").items() if one is not None}
        parts.append("layer paths: " + ", ".join(f"{key} {value_word(one)}" for key, one in path.items()))
    return f"{space['name']} ({'; '.join(parts)})" if parts else str(space["name"])


def _budget(budget: Mapping[str, Any]) -> str | None:
    return ", ".join(f"{budget[key]} {name}" for key, name in _BUDGET.items() if budget.get(key) is not None) or None


def _items(config: Mapping[str, Any]) -> str | None:
    fitness = section(config, "fitness")
    race, n = fitness.get("race"), fitness.get("items")
    whole = (
        f"all {Split.SEARCH} items" if n is None else f"{n} of the {Split.SEARCH} items, chosen {fitness.get('choose')}"
    )
    if race:
        return f"{whole}, handed out in a race"
    return None if n is None else whole


def _plain(value: object) -> str:
    """Return a floor or a constraint as it may be written: "95%", "max 0.02"."""
    if isinstance(value, Mapping):
        return " ".join(f"{key} {one}" for key, one in value.items() if one is not None)
    return str(value)
