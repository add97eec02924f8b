"""The lineage of a recipe: the checkpoints below it, and one flat recipe where its ancestors are linear.

A weighted average of weighted averages is a weighted average: where a recipe and its parents only add weights
(`linear`, `task_arithmetic`), the result follows from one coefficient for each checkpoint, in each group of tensors.
So recipes that were bred from recipes stay as small, and as quick to build, as recipes of checkpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias, cast

from evomerge.recipe.recipe import ROLES, Group, Parent, Recipe, Value
from evomerge.recipe.source import ModelSource

Source: TypeAlias = "ModelSource | Recipe"

LINEAR, TASK_ARITHMETIC = "linear", "task_arithmetic"

DEFAULTS: Mapping[str, Mapping[str, Value]] = {
    LINEAR: {"weight": 1.0, "normalize": True},
    TASK_ARITHMETIC: {"weight": 1.0, "lambda": 1.0, "normalize": False},
}
"""The methods that only add weights, with their parameters' defaults (a test compares them with the methods' own)."""

_SMALLEST_SUM = 1e-8


@dataclass(frozen=True)
class Ancestor:
    """A checkpoint below a recipe.

    Attributes:
        path: names of the parents that lead from the recipe to it; "base" for a base.
        source: the checkpoint.
    """

    path: tuple[str, ...]
    source: ModelSource


def ancestors(recipe: Recipe) -> Iterator[Ancestor]:
    """Yield every checkpoint below a recipe as often as it occurs, in the order of the parents, bases last."""
    for member in _members(recipe):
        name = "base" if member is recipe.base else member.name
        if isinstance(member.source, Recipe):
            for below in ancestors(member.source):
                yield Ancestor((name, *below.path), below.source)
        else:
            yield Ancestor((name,), member.source)


def flatten(recipe: Recipe) -> Recipe:
    """Return a recipe without parents that are recipes, as far as the methods are linear.

    Some parents that are recipes cannot be taken apart and stay: those of another method (with their own parents
    flattened), layer paths, and those whose `dtype` rounds them on purpose to a narrower type than the result's.

    The flat recipe builds the same model up to rounding. Nested recipes are rounded to fp32 at every step of their
    arithmetic, and each one then to its type (its donor's, if it names none); the flat recipe is one sum in fp32 with
    one rounding at the end. So the last bits differ, by up to the rounding of intermediates in 16 bits, and the flat
    recipe is nearer to exact arithmetic. As its hash differs too, no recipe is flattened silently.

    Args:
        recipe: any recipe, checked or not.

    Returns:
        `task_arithmetic` over the same base if the recipe has that method and all coefficients sum to 1, else `linear`
        without normalisation; the recipe itself if there is nothing to flatten. Configuration, dtype, tokenizer and
        generation config come from the same checkpoints as before. Checkpoints whose coefficients are all 0 are left
        out. A recipe that builds a vocabulary, names a vision part, or takes its chat template by other models' names,
        stays.
    """
    if not _is_linear(recipe) or recipe.names_template:
        return _with_sources(recipe, _flat_source)
    leaf = _Leaves(recipe)
    if not leaf.opened:
        return _with_sources(recipe, _flat_source)
    return _flat(recipe, leaf)


class _Leaves:
    """The terms whose weighted sum a linear recipe is.

    Attributes:
        names: a name for each leaf, in the order in which they are found.
        opened: the ancestors that are recipes and were taken apart.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.names: dict[Source, str] = {}
        self.opened: list[Recipe] = []
        self._dtype = _dtype(recipe)
        self._of: dict[Source, Source | None] = {}
        self._find(recipe)

    def of(self, source: Source) -> Source | None:
        """Return a source as a leaf, with its own parents flattened; None if it is taken apart."""
        if source not in self._of:
            opens = isinstance(source, Recipe) and self._opens(source)
            self._of[source] = None if opens else _flat_source(source)
        return self._of[source]

    def _opens(self, recipe: Recipe) -> bool:
        # Of a template that a parent was given, the flat recipe would know nothing.
        return _is_linear(recipe) and recipe.chat_template is None and recipe.dtype in (None, "float32", self._dtype)

    def _find(self, recipe: Recipe) -> None:
        for member in _members(recipe):
            leaf = self.of(member.source)
            if leaf is None:
                inner = cast(Recipe, member.source)
                self.opened.append(inner)
                self._find(inner)
            elif leaf not in self.names:
                wanted = "base_model" if member is recipe.base else member.name
                taken, name, n = set(self.names.values()), wanted, 2
                while name in taken:
                    name, n = f"{wanted}_{n}", n + 1
                self.names[leaf] = name


def _flat(recipe: Recipe, leaves: _Leaves) -> Recipe:
    root_base = leaves.of(recipe.base.source) if recipe.base is not None else None
    nodes = [recipe, *leaves.opened]
    as_deltas = recipe.method == TASK_ARITHMETIC and root_base is not None and all(map(_sums_to_one, nodes))

    def weights(role: str, layer: int | None) -> dict[str, float]:
        sums = _coefficients(recipe, leaves, role, layer)
        if as_deltas:
            sums.pop(cast(Source, root_base), None)  # the rest of the sum is the base's
        return {leaves.names[leaf]: sums.get(leaf, 0.0) for leaf in leaves.names}

    edges = {edge for node in nodes for group in node.groups for edge in group.layers or ()}
    outside, groups = _grouped(weights, sorted(edges))
    used = {name for row in (outside, *(weight for _, weight in groups)) for name, each in row.items() if each != 0.0}
    donor = _flat_member(recipe.donor.source, leaves, lambda inner: inner.donor.source)
    tokenizer = _flat_member(_lends_tokenizer(recipe), leaves, _lends_tokenizer)
    generation = _flat_member(_lends_generation(recipe), leaves, _lends_generation)
    kept = used | {leaves.names[leaf] for leaf in (tokenizer, generation) if leaf != donor}
    kept = kept or {leaves.names[donor]}
    parents = tuple(Parent(name, leaf) for leaf, name in leaves.names.items() if name in kept)
    needs_base = as_deltas or parents[0].source != donor
    own_name = "base" if needs_base and generation == donor else leaves.names[generation]

    def parameters(weight: Mapping[str, float]) -> dict[str, Value]:
        mine = {parent.name: weight[parent.name] for parent in parents}
        return {"weight": mine} if as_deltas else {"weight": mine, "normalize": False}

    return Recipe(
        TASK_ARITHMETIC if as_deltas else LINEAR,
        parents,
        Parent("base", donor) if needs_base else None,
        parameters(outside),
        tuple(replace(group, parameters={"weight": parameters(weight)["weight"]}) for group, weight in groups),
        dtype=_dtype(recipe),
        tokenizer=None if tokenizer == donor else leaves.names[tokenizer],
        seed=recipe.seed,
        generation_config=None if generation == tokenizer else own_name,
        chat_template=recipe.chat_template,
    )


def _grouped(
    weights: Callable[[str, int | None], dict[str, float]], edges: list[int]
) -> tuple[dict[str, float], list[tuple[Group, dict[str, float]]]]:
    """Return the weights of most roles, and the groups with other weights, in the order in which they must match.

    Args:
        weights: returns the weights of a role in a layer; layer None stands for all layers that no group names, which a
            recipe cannot tell from the tensors outside of layers.
        edges: layers at which weights may change, rising.
    """
    rows = {role: weights(role, None) for role in ROLES}
    common = Counter(tuple(row.items()) for row in rows.values()).most_common(1)[0][0]
    groups: list[tuple[Group, dict[str, float]]] = []
    for start, stop in pairwise(edges):
        here = {role: weights(role, start) for role in ROLES}
        groups += _by_weights({role: row for role, row in here.items() if row != rows[role]}, (start, stop))
    groups += _by_weights({role: row for role, row in rows.items() if tuple(row.items()) != common}, None)
    return dict(common), groups


def _by_weights(
    rows: Mapping[str, dict[str, float]], layers: tuple[int, int] | None
) -> list[tuple[Group, dict[str, float]]]:
    """Return a group for each set of roles that have the same weights in a range of layers."""
    roles: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for role, row in rows.items():
        roles.setdefault(tuple(row.items()), []).append(role)
    return [
        (Group({}, layers, None if len(some) == len(ROLES) else tuple(some)), dict(row)) for row, some in roles.items()
    ]


def _coefficients(recipe: Recipe, leaves: _Leaves, role: str, layer: int | None) -> dict[Source, float]:
    """Return the coefficient of each leaf in a tensor of a linear recipe."""
    total: dict[Source, float] = {}

    def add(source: Source, weight: float) -> None:
        leaf = leaves.of(source)
        inner = {leaf: 1.0} if leaf is not None else _coefficients(cast(Recipe, source), leaves, role, layer)
        for below, share in inner.items():
            total[below] = total.get(below, 0.0) + weight * share

    weight, scale = _weights(recipe, recipe.parameters_of(role, layer))
    for parent in recipe.parents:
        add(parent.source, weight[parent.name] * scale)
    if recipe.method == TASK_ARITHMETIC:
        assert recipe.base is not None  # a linear recipe of this method has one
        add(recipe.base.source, 1.0 - scale * sum(weight.values()))
    return total


def _weights(recipe: Recipe, given: Mapping[str, Value]) -> tuple[dict[str, float], float]:
    """Return the weight of each parent under some parameters, and the common factor of all weights."""
    values = {**DEFAULTS[recipe.method], **given}
    value = values["weight"]
    weight = {
        parent.name: float(value[parent.name] if isinstance(value, Mapping) else cast(float, value))
        for parent in recipe.parents
    }
    if recipe.method == TASK_ARITHMETIC:
        return weight, float(cast(float, values["lambda"]))
    return weight, 1.0 / sum(weight.values()) if values["normalize"] else 1.0


def _is_linear(recipe: Recipe) -> bool:
    """Return whether a recipe adds weights, with numbers that its method would accept."""
    if recipe.method not in DEFAULTS or recipe.path or (recipe.method == TASK_ARITHMETIC and recipe.base is None):
        return False
    if recipe.builds_vocabulary or recipe.vision is not None:
        return False  # rows and vision parts are no sums of the checkpoints'
    if len(recipe.methods) > 1 or any(group.tensors is not None for group in recipe.groups):
        return False  # a group by names cannot be joined with others, since no recipe knows the names of tensors
    return all(_is_sound(recipe, {**recipe.parameters, **group}) for group in _parameter_sets(recipe))


def _is_sound(recipe: Recipe, given: Mapping[str, Value]) -> bool:
    known = DEFAULTS[recipe.method]
    names = {parent.name for parent in recipe.parents}
    weight = given.get("weight", 1.0)
    if given.keys() - known.keys() or isinstance(weight, (str, bool)):
        return False
    if isinstance(weight, Mapping) and weight.keys() != names:
        return False
    if recipe.method == TASK_ARITHMETIC and given.get("normalize", False) is not False:
        return False  # its weights are shares of their sum
    if not isinstance(given.get("normalize", True), bool) or not isinstance(given.get("lambda", 1.0), float):
        return False
    total = sum(weight.values()) if isinstance(weight, Mapping) else weight * len(names)
    return abs(total) >= _SMALLEST_SUM or not {**known, **given}.get("normalize", False)


def _sums_to_one(recipe: Recipe) -> bool:
    """Return whether a linear recipe's coefficients sum to 1 for every tensor."""
    defaults = DEFAULTS[recipe.method]
    return recipe.method == TASK_ARITHMETIC or all(
        {**defaults, **recipe.parameters, **group}["normalize"] is True for group in _parameter_sets(recipe)
    )


def _parameter_sets(recipe: Recipe) -> list[Mapping[str, Value]]:
    return [{}, *(group.parameters for group in recipe.groups)]


def _members(recipe: Recipe) -> tuple[Parent, ...]:
    return recipe.parents if recipe.base is None else (*recipe.parents, recipe.base)


def _with_sources(recipe: Recipe, change: Callable[[Source], Source]) -> Recipe:
    """Return a recipe with changed parents and base, or the recipe itself if none of them changes."""
    sources = [change(member.source) for member in _members(recipe)]
    if all(new is member.source for new, member in zip(sources, _members(recipe), strict=True)):
        return recipe
    members = [replace(member, source=new) for member, new in zip(_members(recipe), sources, strict=True)]
    n = len(recipe.parents)
    return replace(recipe, parents=tuple(members[:n]), base=None if recipe.base is None else members[n])


def _flat_source(source: Source) -> Source:
    return flatten(source) if isinstance(source, Recipe) else source


def _flat_member(source: Source, leaves: _Leaves, below: Callable[[Recipe], Source]) -> Source:
    """Return the leaf at the end of a chain of recipes that are taken apart."""
    while (leaf := leaves.of(source)) is None:
        source = below(cast(Recipe, source))
    return leaf


def _lends_tokenizer(recipe: Recipe) -> Source:
    return _lender(recipe, recipe.tokenizer_lender)


def _lends_generation(recipe: Recipe) -> Source:
    return _lender(recipe, recipe.generation_config or recipe.tokenizer_lender)


def _lender(recipe: Recipe, name: str | None) -> Source:
    if name == "base" and recipe.base is not None:
        return recipe.base.source
    return next((parent.source for parent in recipe.parents if parent.name == name), recipe.donor.source)


def _dtype(recipe: Recipe) -> str | None:
    """Return the type that a recipe names for its result, itself or through its donor."""
    if recipe.dtype is not None:
        return recipe.dtype
    donor = recipe.donor.source
    return _dtype(donor) if isinstance(donor, Recipe) else None
