"""The data-flow space of Akiba et al. (arXiv 2403.13187, section 3.2): which layers a token passes, at what scales.

The M layers of all parents in sequence, repeated r times, make T = M r positions. Each position has an indicator gene,
and is part of the path if its indicator is above 0. That shrinks the (M + 1)^T paths of the naive encoding to 2^T, and
keeps the layers of each parent in their order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.errors import ConfigError, unknown_name
from evomerge.genome.frame import PathFrame, PathGenes, is_whole
from evomerge.genome.scales import SCALES, LayerSequence, hidden_problems, make_rule, range_problems
from evomerge.genome.space import Gene, check_genome, name_problems
from evomerge.recipe import Parent, Recipe, Step
from evomerge.recipe.tokenizer import Tokenizer


class PathSpace(PathGenes):
    """The space whose genes are indicators of the positions, then the genes of the scales.

    The first parent's first layer, at the first position, begins every path and has no indicator. The first parent's
    last layer ends every path; at its place in the sequence it may come in addition. The search starts at the first
    parent itself: the indicators of its other layers in the first pass are on, all others are off.

    A path that would be longer than `max_layers` keeps the positions with the largest indicators. One that would be
    shorter than `min_layers` also gets the positions whose indicators are the largest of those that are off (the first
    of equal ones). So the limits hold for every genome; where they exclude the first parent, the search starts near it.

    Args:
        parents: at least one; the first lends tokenizer, embeddings and head.
        n_layers: parent name to its depth; depths may differ.
        repeats: r, how often the sequence of all layers is repeated.
        scales: "none"; "step": one per position and one for the last layer; "matrix": one for each pair of layers;
            "network": by a small network. See `evomerge.genome.scales`.
        scale_low, scale_high: range of a scale; it starts at 1 and moves on a logarithmic scale.
        hidden: hidden units of the network.
        offset: how far from 0 the indicators start, as a share of their range, up to 0.5. The paper starts 2 sigma
            away, which is 0.4 at the default step size 0.2.
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
        repeats: int = 1,
        scales: str = "step",
        scale_low: float = 0.5,
        scale_high: float = 2.0,
        hidden: int = 8,
        offset: float = 0.4,
        max_layers: int | None = None,
        min_layers: int | None = None,
        dtype: str | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: str | None = None,
        chat_template: str | None = None,
        seed: int = 0,
    ) -> None:
        problems = _problems(repeats, scales, offset) + range_problems(scale_low, scale_high) + hidden_problems(hidden)
        # Wrong depths or repeats have sentences of their own, so the length that follows from them may be wrong.
        depths = [n_layers[parent.name] for parent in parents if is_whole(n_layers.get(parent.name), 1)]
        longest = sum(depths) * (repeats if is_whole(repeats, 1) else 1) - 1
        try:
            self.frame = PathFrame(
                parents,
                n_layers,
                longest=longest,
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
        depth_of = self.frame.n_layers
        layers = tuple((name, layer) for name, depth in depth_of.items() for layer in range(depth))
        self._sequence = LayerSequence(layers, tuple(depth_of.values()), repeats)
        self._indicators = tuple(self._indicator(position, offset) for position in range(1, self._sequence.n_positions))
        self._rule = make_rule(scales, self._sequence, float(scale_low), float(scale_high), hidden)
        self._genes = (*self._indicators, *self._rule.genes)
        if self._sequence.n_positions == 1:
            problems.append("one layer, passed once, leaves nothing to evolve; add parents, or raise `repeats`")
        problems += name_problems(self._genes)
        if problems:
            raise ConfigError(problems)

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the recipe of a genome's path.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range.
        """
        check_genome(self._genes, genome)
        inner = self._included(genome[: len(self._indicators)])
        positions = [0, *inner, self._sequence.n_positions]
        scales = self._rule.scales(genome[len(self._indicators) :], positions)
        steps = [
            Step(*self._sequence.layers[self._sequence.layer_at(position)], scale)
            for position, scale in zip(positions, scales, strict=True)
        ]
        return self.frame.recipe(steps[1:-1], steps[-1].scale)

    def _included(self, indicators: Sequence[float]) -> list[int]:
        """Return the positions between the first and the last layer, in order."""
        wanted = sum(indicator > 0.0 for indicator in indicators)
        count = min(max(wanted, self.frame.fewest), self.frame.most)
        largest = sorted(range(len(indicators)), key=lambda i: (-indicators[i], i))
        return sorted(i + 1 for i in largest[:count])

    def _indicator(self, position: int, offset: float) -> Gene:
        size = len(self._sequence.layers)
        start = 2.0 * offset if position < self.frame.depth - 1 else -2.0 * offset
        return Gene(
            f"include.pass{position // size + 1}.{self._sequence.name(position % size)}",
            -1.0,
            1.0,
            start,
            doc="above 0: the path includes this layer here",
        )


def _problems(repeats: Any, scales: Any, offset: Any) -> list[str]:
    problems = []
    if not is_whole(repeats, 1):
        problems.append(f"`repeats` must be a whole number from 1, but came {repeats!r}")
    if scales not in SCALES:
        problems.append(unknown_name("kind of `scales`", str(scales), SCALES))
    number = isinstance(offset, (int, float)) and not isinstance(offset, bool) and math.isfinite(offset)
    if not number or not 0.0 < offset <= 0.5:
        problems.append(
            f"`offset` must be a number above 0 and at most 0.5 (a share of the range), but came {offset!r}"
        )
    return problems
