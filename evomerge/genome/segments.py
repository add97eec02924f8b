"""A compact space of layer paths for small budgets: a few segments, each a run of neighbouring layers of one parent.

Users of mergekit write such stacks by hand ("layers 0 to 24 of this, then 8 to 32 of that"). While
`evomerge.genome.dataflow` needs a gene for each layer, a segment needs five genes of mixed kinds: a choice, three
integers and a float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evomerge.errors import ConfigError, unknown_name
from evomerge.genome.frame import PathFrame, PathGenes, is_whole
from evomerge.genome.scales import range_problems, scale_gene, snapped
from evomerge.genome.space import Gene, check_genome, name_problems
from evomerge.recipe import Parent, Recipe, Step
from evomerge.recipe.tokenizer import Tokenizer

SCALES = ("none", "segment")


class SegmentSpace(PathGenes):
    """The space of paths with a few segments between the first parent's first and last layer.

    A segment has a source (one of the parents), a start and a length (in layers of the source, clipped to its depth;
    with length 0 the segment is off), a number of repetitions, and a scale for the input of its first layer. Genes with
    one possible value (the source, if there is one parent) are left out. The search starts at the first parent itself:
    the first segment holds all layers between its ends, and the others are off.

    A path that would be longer than `max_layers` keeps its first layers (and the last one). One that would be shorter
    than `min_layers` gets, before its last layer, the layers that precede it in the first parent. So the limits hold
    for every genome; where they exclude the first parent, the search starts near it.

    Args:
        parents: at least one; the first lends tokenizer, embeddings and head.
        n_layers: parent name to its depth; depths may differ.
        segments: how many segments a path can have.
        repeats: how often a segment can be repeated, from 1.
        scales: "none", or "segment": one per segment and one for the last layer.
        scale_low, scale_high: range of a scale; it starts at 1 and moves on a logarithmic scale.
        max_layers, min_layers: limits on the length of a path, its first and last layer included; None: no limit.
        dtype, tokenizer, generation_config, chat_template, seed: of the recipes.

    Raises:
        ConfigError: with every mistake at once.
    """

    def __init__(
        self,
        parents: Sequence[Parent],
        *,
        n_layers: Mapping[str, int],
        segments: int = 4,
        repeats: int = 2,
        scales: str = "segment",
        scale_low: float = 0.5,
        scale_high: float = 2.0,
        max_layers: int | None = None,
        min_layers: int | None = None,
        dtype: str | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: str | None = None,
        chat_template: str | None = None,
        seed: int = 0,
    ) -> None:
        problems = [
            f"`{name}` must be a whole number from 1, but came {value!r}"
            for name, value in (("segments", segments), ("repeats", repeats))
            if not is_whole(value, 1)
        ]
        if scales not in SCALES:
            problems.append(unknown_name("kind of `scales`", str(scales), SCALES))
        problems += range_problems(scale_low, scale_high)
        # Wrong counts have sentences of their own, so the length that follows from them may be wrong.
        depths = [n_layers[parent.name] for parent in parents if is_whole(n_layers.get(parent.name), 1)]
        counts = [count if is_whole(count, 1) else 1 for count in (segments, repeats)]
        try:
            self.frame = PathFrame(
                parents,
                n_layers,
                longest=counts[0] * counts[1] * max(depths, default=1),
                min_layers=min_layers,
                max_layers=max_layers,
                dtype=dtype,
                tokenizer=tokenizer,
                generation_config=generation_config,
                chat_template=chat_template,
                seed=seed,
            )
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError(problems)
        self._n_segments = segments
        self._scale_range = None if scales == "none" else (float(scale_low), float(scale_high))
        self._genes = tuple(self._make_genes(repeats))
        problems = name_problems(self._genes)
        if problems:
            raise ConfigError(problems)

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the recipe of a genome's path.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range or no whole number.
        """
        check_genome(self._genes, genome)
        values = {gene.name: value for gene, value in zip(self._genes, genome, strict=True)}
        inner: list[Step] = []
        for number in range(1, self._n_segments + 1):
            inner += self._segment(number, values)
        inner = inner[: self.frame.most]
        inner += self._filling(self.frame.fewest - len(inner))
        return self.frame.recipe(inner, snapped(values.get("scale.last", 1.0)))

    def _segment(self, number: int, values: Mapping[str, float]) -> list[Step]:
        parent = self.parents[int(values.get(f"segment{number}.source", 0))].name
        depth = self.n_layers[parent]
        start = min(int(values.get(f"segment{number}.start", 0)), depth - 1)
        stop = min(start + int(values[f"segment{number}.length"]), depth)
        steps = [Step(parent, layer) for layer in range(start, stop)] * int(values.get(f"segment{number}.repeat", 1))
        if steps:
            steps[0] = Step(parent, start, snapped(values.get(f"segment{number}.scale", 1.0)))
        return steps

    def _filling(self, missing: int) -> list[Step]:
        """Return so many layers of the first parent before its last one, starting again if it has too few."""
        depth = self.frame.depth
        own = range(1, depth - 1) or range(1)
        return [Step(self.frame.first, own[(i - missing) % len(own)]) for i in range(missing)]

    def _make_genes(self, repeats: int) -> list[Gene]:
        names = [parent.name for parent in self.parents]
        deepest = max(self.n_layers.values())
        inner = max(0, self.frame.depth - 2)
        genes = []
        for i in range(self._n_segments):
            prefix = f"segment{i + 1}"
            # Segments that are off start in the middle of another parent, so that switching one on is worth trying.
            source = names[i % len(names)]
            start, length = (min(1, deepest - 1), inner) if i == 0 else (self.n_layers[source] // 2, 0)
            if len(names) > 1:
                genes.append(Gene.choice(f"{prefix}.source", names, source, "the parent that lends the layers"))
            if deepest > 1:
                genes.append(Gene.integer(f"{prefix}.start", 0, deepest - 1, start, "the first layer, from 0"))
            genes.append(Gene.integer(f"{prefix}.length", 0, deepest, length, "how many layers; 0: none"))
            if repeats > 1:
                genes.append(Gene.integer(f"{prefix}.repeat", 1, repeats, 1, "how often they are passed"))
            if self._scale_range:
                genes.append(scale_gene(f"{prefix}.scale", *self._scale_range, "multiplies what goes into the segment"))
        if self._scale_range:
            genes.append(scale_gene("scale.last", *self._scale_range, "multiplies the input of the last layer"))
        return genes
