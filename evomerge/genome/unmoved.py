"""Where genes would change nothing: a parent that equals the base there has no task vector to weigh.

Fine-tuning often leaves layers or embeddings as they were. Where the method says what that means
(`MethodSpec.share`, `MethodSpec.of_equals`), such genes are left out, and the recipe says instead that the parent takes
no part; a tensor that no parent has moved is then a copy of the base's, which candidates need not write again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evomerge.genome.gene_values import EVOLVED
from evomerge.genome.layout import Region
from evomerge.genome.settings import Setting
from evomerge.recipe.method import MethodSpec

Unmoved: TypeAlias = Mapping[tuple[str, int | None], Collection[str]]
"""Role and layer (None: outside of all layers) to the parents whose tensors there all equal the base's; for methods
without a base, the first parent's. Every role and layer that has tensors is a key."""


@dataclass(frozen=True)
class LeftOut:
    """Genes of one region that a space leaves out.

    Attributes:
        region: the region.
        parents: those that nobody moved there: their genes are left out.
        whole: whether these are all parents, so that the region has no genes at all.
        n_genes: how many genes are left out.
        method: the merge method whose genes they are.
    """

    region: str
    parents: tuple[str, ...]
    whole: bool
    n_genes: int
    method: str


class Idle:
    """Which parents take no part in which region, and what a recipe says there instead of their genes.

    Args:
        method: the merge method.
        parents: names of the parents, in order.
        regions: the regions of the space.
        settings: of the method's parameters.
        unmoved: where parents equal the base; None: this is not known, and nobody is idle. Nor is anybody where all
            parents equal the base in every tensor.
    """

    def __init__(
        self,
        method: MethodSpec,
        parents: Sequence[str],
        regions: Sequence[Region],
        settings: Sequence[Setting],
        unmoved: Unmoved | None,
    ) -> None:
        self._method, self.parents, self._all = method, tuple(parents), frozenset(parents)
        known = unmoved if unmoved is not None and _holds(method, settings) else None
        self._of = {region.name: frozenset[str]() if known is None else self._find(region, known) for region in regions}
        self._everywhere = self._all.intersection(*self._of.values())
        if self._everywhere == self._all:  # a space has at least one gene, although none counts here
            self._of, self._everywhere = dict.fromkeys(self._of, frozenset[str]()), frozenset[str]()

    def of(self, region: str) -> frozenset[str]:
        """Return the parents that take no part in a region; "": in no region at all."""
        return self._of[region] if region else self._everywhere

    def in_whole(self, region: str) -> bool:
        """Return whether no parent takes part in a region ("": in none), so that it is a copy of the base."""
        return self.of(region) == self._all

    def is_idle(self, parent: str | None, region: str) -> bool:
        """Return whether a parent's parameters (None: those that all parents share) change nothing in a region."""
        return self.in_whole(region) if parent is None else parent in self.of(region)

    def says(self, setting: Setting) -> bool:
        """Return whether a parameter is one by which a recipe says that a parent takes no part."""
        name = setting.name
        return name == self._method.share or (setting.evolves and name in (self._method.of_equals or ()))

    def constant(self, setting: Setting, parent: str | None) -> Any:
        """Return what stands in a recipe instead of a gene of a parent that takes no part."""
        name, value = setting.name, setting.values[parent]
        if name == self._method.share:
            # Without a base, equal parents give the first of them.
            return 1.0 if not self._method.needs_base and parent == self.parents[0] else 0.0
        if self._method.of_equals is not None and name in self._method.of_equals:
            return self._method.of_equals[name]
        return value.start if isinstance(value, EVOLVED) else value

    def _find(self, region: Region, unmoved: Unmoved) -> frozenset[str]:
        found = self._all.intersection(*(names for key, names in unmoved.items() if _holds_place(region, *key)))
        if self._method.needs_base:
            return found
        return found if found == self._all else frozenset()


def _holds(method: MethodSpec, settings: Sequence[Setting]) -> bool:
    """Return whether the method says what equal tensors mean, with these settings."""
    fixed = {one.name: one.values[None] for one in settings if None in one.values}
    if method.needs_base:
        return method.share is not None and all(fixed[name] == value for name, value in method.share_with.items())
    if method.of_equals is None:
        return False
    return all(
        name not in fixed or isinstance(fixed[name], EVOLVED) or fixed[name] == value
        for name, value in method.of_equals.items()
    )


def _holds_place(region: Region, role: str, layer: int | None) -> bool:
    return any(
        (layer is None if place.layers is None else layer is not None and place.layers[0] <= layer < place.layers[1])
        and (place.roles is None or role in place.roles)
        for place in region.places
    )
