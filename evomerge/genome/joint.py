"""Both spaces at once: a merge of weights, and a layer path that starts from that merge.

Akiba et al. (arXiv 2403.13187, section 3.3) search the two one after the other: the merged model joins the pool as the
first parent of the data-flow space. Here one genome holds both, so that weights can adapt to the path they stand in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import ConfigError
from evomerge.genome.dataflow import PathSpace
from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.segments import SegmentSpace
from evomerge.genome.space import Gene, check_genome, genome_of, kinds_of, name_problems
from evomerge.recipe import Parent, Recipe, Step


class JointSpace:
    """The genes of a parameter space, then those of a path space whose first parent is the merge.

    A path that is exactly the merged model, with all scales 1, is the merge itself: the recipe is the parameter space's
    own, so that it is scored once however it is found. Two genomes give equal recipes only if they also agree in all
    parameter genes.

    Args:
        parameters: the space of the merge.
        paths: a path space that was made with any source for its first parent; the merge takes that one's place.

    Raises:
        ConfigError: with every mistake at once.
    """

    def __init__(self, parameters: ParameterSpace, paths: PathSpace | SegmentSpace) -> None:
        self._parameters, self._paths = parameters, paths
        self._genes = (*parameters.genes, *paths.genes)
        self._first = paths.parents[0].name
        depth = paths.n_layers[self._first]
        self._whole = tuple(Step(self._first, layer) for layer in range(depth))
        problems = name_problems(self._genes)
        merged = max(
            place.layers[1] for region in parameters.regions for place in region.places if place.layers is not None
        )
        if merged != depth:
            problems.append(
                f"the merge has {merged} layers, but `n_layers` of the path space says {depth} for its first parent, "
                f"{self._first}, which the merge stands for"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The models whose layers a path may use; the first stands for the merge."""
        return self._paths.parents

    @property
    def n_layers(self) -> Mapping[str, int]:
        """Parent name to its depth."""
        return self._paths.n_layers

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes, in the order of a genome: of the merge, then of the path."""
        return self._genes

    @property
    def n_dims(self) -> int:
        """Number of genes."""
        return len(self._genes)

    @property
    def kinds(self) -> tuple[int, ...]:
        """Per gene: 0 for a float, n for an integer with n values, -n for a choice of n."""
        return kinds_of(self._genes)

    @property
    def start(self) -> NDArray[np.float64]:
        """`(n_dims,)`, the point of the unit cube that stands for the merge at its start, without another path."""
        return np.concatenate([self._parameters.start, self._paths.start])

    def genome(self, x: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
        """Return the gene values at `(n_dims,)` `x` in the unit cube.

        Raises:
            ValueError: if `x` has another length or leaves the cube.
        """
        return genome_of(self._genes, x)

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the path through the merge and the other parents, or the merge alone where the path is all of it.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range or no whole number.
        """
        check_genome(self._genes, genome)
        merge = self._parameters.decode(genome[: self._parameters.n_dims])
        path = self._paths.decode(genome[self._parameters.n_dims :])
        if path.path in ((), self._whole):
            return merge
        return replace(path, parents=(Parent(self._first, merge), *path.parents[1:]))

    def describe(self) -> list[dict[str, Any]]:
        """Return one row a gene: name, low, high, start, log, doc, kind, choices."""
        return [gene.to_data() for gene in self._genes]
