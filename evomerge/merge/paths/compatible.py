"""The compatible parents of a layer path, whose layers can all stand in one model, and that model's configuration.

The parents may differ in depth, and in settings with one entry per layer (sliding or full attention, for instance),
which follow the layer. All other settings that change what weights compute must be equal, since the path is one model
of their architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from evomerge.errors import CheckpointError
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.settings import setting_differences
from evomerge.merge.paths.ends import Lenders, tensors_before_layers
from evomerge.merge.paths.pattern import OWN_SETTINGS, along, pattern_of
from evomerge.recipe import Step


class CompatibleParents:
    """Models whose layers can stand in one model.

    Attributes:
        members: name and model of each parent, in order; the first lends the configuration and, where a recipe names
            nobody else, everything outside of the layers.
        layers_name: name of the list of layers in the model's module tree, "model.layers" for a Llama.
        n_layers: parent name to its number of layers.

    Raises:
        CheckpointError: with all mismatches of all parents.
    """

    def __init__(self, members: Sequence[tuple[str, OpenModel]]) -> None:
        self.members = tuple(members)
        first_name, first = self.members[0]
        self.layers_name = first.architecture.layers_name
        self.n_layers = {name: model.architecture.n_layers for name, model in self.members}
        self._models = dict(self.members)
        problems = [
            f"{name} ({model.label}): has a vision part in front of its layers; merge its weights instead"
            for name, model in self.members
            if model.has_other_parts
        ]
        if not problems and not self.layers_name:
            problems.append(f"{first_name} ({first.label}): {_no_list(first.architecture)}")
        elif not problems and not _depth_keys(first.config, self.n_layers[first_name]):
            problems.append(f"{first_name} ({first.label}): its config.json does not say how many layers it has")
        elif not problems and (shared := _shared_by_layers(first.architecture)) is not None:
            same = f"its layers {shared[0]} and {shared[1]} share tensors, which a path would take apart"
            problems.append(f"{first_name} ({first.label}): {same}")
        for name, model in self.members[1:] if not problems else ():
            problems += [f"{name} ({model.label}): {problem}" for problem in _mismatches(model, first)]
        if problems:
            lines = "\n".join(f"  - {problem}" for problem in problems)
            raise CheckpointError(f"layers of these models cannot stand in one model, {first_name}'s:\n{lines}")

    @property
    def first(self) -> OpenModel:
        """The parent that lends the configuration."""
        return self.members[0][1]

    @cached_property
    def before_layers(self) -> frozenset[str]:
        """The saved tensors that are used before the first layer, by their names in the model class.

        Raises:
            CheckpointError: if the class does not show them.
        """
        return tensors_before_layers(self.first)

    def lender_of(self, tensor: str, lenders: Lenders) -> str:
        """Return the parent that lends a tensor outside of the layers, which is named as in the model class.

        Raises:
            CheckpointError: if the lenders differ and the class does not show what stands before the layers.
        """
        if lenders.embeddings == lenders.head:
            return lenders.head
        return lenders.embeddings if tensor in self.before_layers else lenders.head

    def untied(self, lenders: Lenders) -> Architecture | None:
        """Return the architecture of a result whose head cannot be its embedding any more; None: ties stay as they are.

        Its depth is the first parent's.

        Raises:
            CheckpointError: if the class ties them, whatever its configuration says.
        """
        ties = self.first.architecture.tied and lenders.embeddings != lenders.head
        return self._untied if ties else None

    @cached_property
    def _untied(self) -> Architecture:
        config = copy.deepcopy(self.first.config)
        config.tie_word_embeddings = False
        made = Architecture(config, trust_remote_code=self.first.trust_remote_code)
        if made.tied:
            raise CheckpointError(
                f"{self.members[0][0]} ({self.first.label}): its class makes one tensor of embedding and head, so that "
                "no two parents can lend them; name the same parent in `embeddings` and `head`"
            )
        return made

    def model(self, parent: str) -> OpenModel:
        """Return a parent by its name."""
        return self._models[parent]

    def check_path(self, path: Sequence[Step]) -> None:
        """Check that the parents have every layer of a path.

        Raises:
            CheckpointError: with each layer that they do not have.
        """
        lost = dict.fromkeys(
            f"{step.parent} has {self.n_layers[step.parent]} layers, so none with index {step.layer}"
            for step in path
            if step.layer >= self.n_layers[step.parent]
        )
        if lost:
            raise CheckpointError(f"the path leaves its parents: {'; '.join(lost)}")

    def config(self, path: Sequence[Step], lenders: Lenders | None = None) -> Any:
        """Return the configuration of the model that a path describes, as a new object.

        Its depth is that of the path, and settings with one entry per layer follow the layers. Embedding and head are
        not tied if two parents lend them.
        """
        self.check_path(path)
        config = copy.deepcopy(self.first.config)
        if hasattr(config, OWN_SETTINGS):
            setattr(config, OWN_SETTINGS, None)  # of other layers than those at these numbers
        for key in _depth_keys(self.first.config, self.first.architecture.n_layers):
            try:
                setattr(config, key, len(path))
            except NotImplementedError as error:
                raise CheckpointError(f"its configuration cannot be given another depth: {error}") from error
        patterns = {name: pattern_of(model.config, model.architecture.n_layers) for name, model in self.members}
        for key, value in along(path, patterns, self.members[0][0]).settings.items():
            setattr(config, key, value)
        if lenders is not None and self.untied(lenders) is not None:
            config.tie_word_embeddings = False
        return config


def _no_list(architecture: Architecture) -> str:
    lists = [name for stack in architecture.stacks for name in stack.lists]
    if not lists:
        return "its model class has no list of layers that a path could use"
    return f"its layers are in {len(lists)} lists ({', '.join(lists)}), and a path is one sequence of layers"


def _shared_by_layers(architecture: Architecture) -> tuple[int, int] | None:
    """Return two layers that have a tensor in common, if there are such."""
    prefix = f"{architecture.layers_name}."
    for name, first in architecture.canonical.items():
        if name.startswith(prefix) and first.startswith(prefix):
            here, there = (int(one.removeprefix(prefix).partition(".")[0]) for one in (name, first))
            if here != there:
                return there, here
    return None


def _depth_keys(config: Any, n_layers: int) -> list[str]:
    """Return the settings that hold the number of layers; a family may call it num_hidden_layers or n_layer."""
    name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    return [name] if getattr(config, name, None) == n_layers else []


def _mismatches(model: OpenModel, first: OpenModel) -> list[str]:
    try:
        mine, theirs = model.architecture, first.architecture
        _ = model.naming
    except CheckpointError as error:
        return [str(error)]
    free = {
        *_depth_keys(first.config, theirs.n_layers),
        *pattern_of(first.config, theirs.n_layers).settings,
        *pattern_of(model.config, mine.n_layers).settings,
    }
    problems = [
        difference for key, difference in setting_differences(model, first).items() if key.split(".")[0] not in free
    ]
    if mine.layers_name != theirs.layers_name:
        problems.append(f"its layers are called {mine.layers_name or 'nothing'} instead of {theirs.layers_name}")
    elif not problems and mine.layer_shapes(0) != theirs.layer_shapes(0):
        problems.append("the tensors of its layers have other names or shapes")
    return problems
