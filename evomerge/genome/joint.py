"""Both spaces at once: a merge of weights, and a layer path that starts from that merge.

Akiba et al. (arXiv 2403.13187, section 3.3) search the two one after the other: the merged model joins the pool as the
first parent of the data-flow space. Here one genome holds both, so that weights can adapt to the path they stand in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from evomerge.errors import ConfigError
from evomerge.genome.dataflow import PathSpace
from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.segments import SegmentSpace
from evomerge.genome.space import GeneSpace, check_genome, name_problems
from evomerge.recipe import Parent, Recipe, Step


class JointSpace(GeneSpace):
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
