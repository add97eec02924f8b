"""Which kind of layer stands at which depth, as a configuration says it, so that it can follow the layers of a path.

Families say it in three ways: by lists with one entry per layer (`layer_types`), by lists of the layers that are of a
kind (`attn_layer_indices`), and by settings of single layers (`per_layer_config`). Others compute it from the depth or
from a period; what a path makes of those is compared with what it should be, when the model is built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.recipe import Step

# A list with as many entries as layers need not be about layers ([eos, end_of_turn] of a model with two layers).
_ABOUT_LAYERS = re.compile(r"layer|att|window|block|pattern")
_SOME_LAYERS = re.compile(r"layers?(_|$)|layer_ids|ind(ices|exes)|idxs?")
OWN_SETTINGS = "per_layer_config"
"""Where configurations hold settings of single layers."""


@dataclass(frozen=True)
class Pattern:
    """What a configuration says of each layer.

    Attributes:
        lists: setting to one entry per layer.
        marked: setting that lists some layers to whether each layer is in it.
        own: the settings of its own of each layer; empty where no layer has any.
    """

    lists: Mapping[str, Sequence[Any]]
    marked: Mapping[str, Sequence[bool]]
    own: Sequence[Mapping[str, Any]]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as a configuration takes them."""
        found: dict[str, Any] = {key: list(value) for key, value in self.lists.items()}
        found |= {key: [i for i, here in enumerate(marks) if here] for key, marks in self.marked.items()}
        if self.own:
            found[OWN_SETTINGS] = {str(i): dict(own) for i, own in enumerate(self.own) if own}
        return found

    def kind(self, layer: int) -> str:
        """Return what is said of one layer, as a text that is the same for layers of one kind."""
        said = [(key, value[layer]) for one in (self.lists, self.marked) for key, value in sorted(one.items())]
        return repr((said, self.own[layer] if self.own else None))


def pattern_of(config: Any, n_layers: int) -> Pattern:
    """Return what a configuration says of each of its layers."""
    data = config.to_dict()
    lists, marked = {}, {}
    for key, value in data.items():
        if not isinstance(value, (list, tuple)):
            continue
        if _some_layers(key, value, n_layers):
            marked[key] = [i in value for i in range(n_layers)]
        elif len(value) == n_layers and _ABOUT_LAYERS.search(key):
            lists[key] = list(value)
    own = {int(layer): value for layer, value in (data.get(OWN_SETTINGS) or {}).items()}
    return Pattern(lists, marked, [own.get(i, {}) for i in range(n_layers)] if own else [])


def along(path: Sequence[Step], patterns: Mapping[str, Pattern], first: str) -> Pattern:
    """Return what is said of each layer of a path; settings that the first parent does not have are left out."""
    mine = patterns[first]
    return Pattern(
        {key: [patterns[step.parent].lists[key][step.layer] for step in path] for key in mine.lists},
        {key: [patterns[step.parent].marked[key][step.layer] for step in path] for key in mine.marked},
        [patterns[step.parent].own[step.layer] for step in path] if mine.own else [],
    )


def _some_layers(key: str, value: Sequence[Any], n_layers: int) -> bool:
    numbers = [one for one in value if isinstance(one, int) and not isinstance(one, bool)]
    return (
        len(numbers) == len(value) > 0
        and sorted(set(numbers)) == numbers
        and numbers[0] >= 0
        and numbers[-1] < n_layers
        and bool(_SOME_LAYERS.search(key))
    )
