"""Both spaces at once: a merge of weights, and a layer path that starts from that merge.

Akiba et al. (arXiv 2403.13187, section 3.3) search the two one after the other: the merged model joins the pool as the
first parent of the data-flow space. Here one genome holds both, so that weights can adapt to the path they stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evomerge.errors import ConfigError
from evomerge.genome.dataflow import PathSpace
from evomerge.genome.frame import PathGenes
from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.segments import SegmentSpace
from evomerge.genome.space import check_genome, name_problems
from evomerge.genome.unmoved import LeftOut
from evomerge.recipe import Parent, Recipe


class JointSpace(PathGenes):
    """A space with the genes of a parameter space, then those of a path space whose first parent is the merge.

    A path that is exactly the merged model, with all scales 1, has the recipe that the parameter space gives, so that
    the merge is scored once, however it is found. Two genomes give equal recipes only if they also agree in all
    parameter genes.

    Args:
        parameters: the space of the merge.
        paths: a path space; the merge takes the place of its first parent, whose source may be any.

    Raises:
        ConfigError: with every mistake at once.
    """

    def __init__(self, parameters: ParameterSpace, paths: PathSpace | SegmentSpace) -> None:
        self._parameters, self._paths = parameters, paths
        self._genes = (*parameters.genes, *paths.genes)
        self.frame = paths.frame  # its first parent stands for the merge
        problems = name_problems(self._genes)
        merged = max(
            place.layers[1] for region in parameters.regions for place in region.places if place.layers is not None
        )
        if merged != self.frame.depth:
            problems.append(
                f"the merge has {merged} layers, but `n_layers` of the path space says {self.frame.depth} for its "
                f"first parent, {self.frame.first}, which the merge stands for"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def first(self) -> tuple[float, ...] | None:
        """That of the merge, with the path that is the merge alone."""
        first = self._parameters.first
        return None if first is None else (*first, *self._paths.genome(self._paths.start))

    @property
    def left_out(self) -> list[LeftOut]:
        """The genes of the merge that could change nothing; see `ParameterSpace.left_out`."""
        return self._parameters.left_out

    def awake(self, genome: Sequence[float]) -> tuple[bool, ...]:
        """Return for each gene whether it counts; those of the path always do.

        Raises:
            ValueError: as `decode`.
        """
        check_genome(self._genes, genome)
        merge = self._parameters.awake(genome[: self._parameters.n_dims])
        return (*merge, *(True,) * self._paths.n_dims)

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the recipe of the path through the merge and the other parents, or of the merge if that is the path.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range or no whole number.
        """
        check_genome(self._genes, genome)
        merge = self._parameters.decode(genome[: self._parameters.n_dims])
        path = self._paths.decode(genome[self._parameters.n_dims :])
        if path.path in ((), self.frame.whole):
            return merge
        return replace(path, parents=(Parent(self.frame.first, merge), *path.parents[1:]))
