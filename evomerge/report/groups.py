"""Which of several runs belong together: those that differ in the seed alone, and what the others differ in.

Runs of one group are drawn as a mean with a band over seeds, and a group is called what its configuration has and most
others have not, as one writes it on the command line: "optimizer=random, fitness.items=30".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.report.data import RunData
from evomerge.store.status import COMPLETE
from evomerge.system.text import cut, value_word

SEED = "seed"

_DECIDES = ("execution.dtype", "execution.deterministic")
_DECIDES_NOTHING = (SEED, "name", "run", "execution", "evaluation.batch_size", "evaluation.answers")
"""Keys, and all below them, that change what a run is called, how long it takes or what it keeps, but no score."""

_OWN = "name"
"""Options beside such a key are those of what it names, so they say nothing of runs that name something else."""

_LONGEST = 60
_MOST = 3
"""So many settings are named, or one more."""
_NONE = "–"


@dataclass(frozen=True)
class RunGroup:
    """Runs whose configurations differ in the seed alone.

    Attributes:
        label: what it is called beside the other groups: the name of its runs, or what most others of that name have
            not.
        runs: in the order given.
        setting: what it has and some other group has not: key to value, in words; empty where there is no other.
    """

    label: str
    runs: tuple[RunData, ...]
    setting: Mapping[str, str]

    @property
    def one_a_seed(self) -> tuple[RunData, ...]:
        """Its runs, of each seed one that is complete, or the first: a repeat says nothing of further seeds."""
        found: dict[object, RunData] = {}
        for run in self.runs:
            key = id(run) if run.seed is None else run.seed
            if key not in found or (found[key].status["state"] != COMPLETE and run.status["state"] == COMPLETE):
                found[key] = run
        return tuple(found.values())


def groups_of(runs: Sequence[RunData]) -> tuple[RunGroup, ...]:
    """Return the groups in the order in which their first runs come; the labels are all different."""
    found: dict[str, list[RunData]] = {}
    kinds: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        own = _decisive(run)
        key = json.dumps(own, sort_keys=True, default=str)
        found.setdefault(key, []).append(run)
        kinds[key] = own
    labels = _different(_labels({key: ones[0].label for key, ones in found.items()}, kinds))
    settings = [dict(_setting(own, list(kinds.values()))) for own in kinds.values()]
    return tuple(
        RunGroup(label, tuple(ones), setting)
        for label, ones, setting in zip(labels, found.values(), settings, strict=True)
    )


def labels_of(runs: Sequence[RunData]) -> tuple[str, ...]:
    """Return what to call each run beside the others: its group and its seed; all labels are different."""
    groups = groups_of(runs)
    named: dict[int, str] = {}
    for group in groups:
        seeds = Counter(run.seed for run in group.runs)
        for run in group.runs:
            words = [group.label] if len(groups) > 1 or len(group.runs) == 1 else []
            if len(group.runs) > 1:
                words.append(f"seed {run.seed}" if seeds[run.seed] == 1 else f"seed {run.seed} ({run.path.name})")
            named[id(run)] = ", ".join(words)
    return tuple(_different([named[id(run)] for run in runs]))


def tags_of(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return of each configuration what it has and some other of the same name has not: key to value, in words.

    The seed is among them. What decides nothing of the result is left out, and so are options of what others of the
    name do not have, as in `groups_of`.
    """
    rows = [
        {
            key: (_peers(config, flat, key), _words(value))
            for key, value in flat.items()
            if value is not None and (key == SEED or _decides(key))
        }
        for config in configs
        for flat in [dict(_flat(config))]
    ]
    sizes = Counter(peers for row in rows for peers in {peers for peers, _ in row.values()})
    alike = Counter((key, *cell) for row in rows for key, cell in row.items())
    return [{_short(key): cell[1] for key, cell in row.items() if alike[key, *cell] < sizes[cell[0]]} for row in rows]


def _peers(config: Mapping[str, Any], flat: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return what configurations must share so that their values of a key are compared: names, of runs and methods."""
    owner = f"{key.rpartition('.')[0]}.{_OWN}"
    own = () if key == owner or owner not in flat else (owner, _words(flat[owner]))
    return (str(config.get("name")), *own)


def _labels(names: Mapping[str, str], kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return of each group the name of its runs where no others have it, else what most others of that name have not.

    Args:
        names: of the runs of each group, by its key.
        kinds: what decides the scores of each.
    """
    settings: dict[str, dict[str, dict[str, str]]] = {}
    for key, name in names.items():
        namesakes = [kinds[one] for one, other in names.items() if other == name]
        settings.setdefault(name, {})[key] = dict(_setting(kinds[key], namesakes))
    alone = len(settings) == 1
    return [_label(name, settings[name][key], list(settings[name].values()), alone) for key, name in names.items()]


def _label(name: str, setting: Mapping[str, str], settings: Sequence[Mapping[str, str]], alone: bool) -> str:
    """Return what a group is called beside those of its name; `alone`: there are no others, so it goes without it."""
    own = {k: v for k, v in setting.items() if 2 * sum(one.get(k, _NONE) == v for one in settings) <= len(settings)}
    if not own:
        return name
    shown = [f"{_short(k)}={value}" for k, value in own.items()]
    more = f" and {len(shown) - _MOST} more settings" if len(shown) > _MOST + 1 else ""
    words = cut(", ".join(shown[:_MOST] if more else shown), 2 * _LONGEST) + more
    return words if alone else f"{name}, {words}"


def _short(key: str) -> str:
    """Return "optimizer" for "optimizer.name"."""
    return key.removesuffix(f".{_OWN}")


def _decisive(run: RunData) -> dict[str, Any]:
    """Return what decides a run's scores besides the seed, by key; models count by their contents where known."""
    found = {key: value for key, value in _flat(run.config) if value is not None and _decides(key)}
    inputs = run.inputs
    if inputs is not None:
        found |= {
            f"contents of {name}": sorted(model.digests.values()) for name, model in sorted(inputs.models.items())
        }
    return found


def _decides(key: str) -> bool:
    under = any(key == one or key.startswith(f"{one}.") for one in _DECIDES_NOTHING)
    return key in _DECIDES or not under


def _flat(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _setting(own: Mapping[str, Any], kinds: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what differs between one configuration and others, without options of what the others do not have."""
    for key in dict.fromkeys(key for one in kinds for key in one):
        named = f"{key.rpartition('.')[0]}.{_OWN}"
        like = [one for one in kinds if key == named or one.get(named) == own.get(named)]
        if any(one.get(key) != own.get(key) for one in like):
            yield key, _words(own.get(key))


def _words(value: Any) -> str:
    if value is None:
        return _NONE
    if isinstance(value, (list, tuple)):
        return cut(json.dumps(value, ensure_ascii=False, default=str), _LONGEST)
    return cut(value_word(value), _LONGEST)


def _different(labels: Sequence[str]) -> list[str]:
    """Return labels that are all different: equal ones are numbered."""
    counts, seen = Counter(labels), Counter[str]()
    made = []
    for label in labels:
        seen[label] += 1
        made.append(f"{label} ({seen[label]})" if counts[label] > 1 else label)
    return made
