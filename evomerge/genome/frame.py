"""The frame of layer paths, common to their spaces: the parents, the first and last layer, limits on the length.

Akiba et al. (arXiv 2403.13187, section 3.2): the first parent lends tokenizer, embeddings and head, so every path
begins with its first layer and ends with its last one, where the residual stream is what they expect. Between them lies
the inner path; the spaces differ in how genes spell it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.errors import ConfigError, RecipeError, unknown_name
from evomerge.genome.space import GeneSpace
from evomerge.recipe import PASSTHROUGH, Parent, Recipe, Step
from evomerge.recipe.tokenizer import Tokenizer, TokenizerBuild


class PathFrame:
    """The part of a path that no gene changes.

    Args:
        parents: at least one; the first lends everything outside of the layers.
        n_layers: parent name to its depth.
        longest: how many inner steps the genes can spell at most.
        min_layers, max_layers: limits on the length of the whole path; None: no limit.
        dtype, tokenizer, generation_config, chat_template, seed: of the recipes.

    Attributes:
        parents, n_layers: as given, in the order of the parents.
        fewest, most: limits on the number of inner steps.

    Raises:
        ConfigError: with every mistake at once.
    """

    def __init__(
        self,
        parents: Sequence[Parent],
        n_layers: Mapping[str, int],
        *,
        longest: int,
        min_layers: int | None = None,
        max_layers: int | None = None,
        dtype: str | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: str | None = None,
        chat_template: str | None = None,
        seed: int = 0,
    ) -> None:
        problems = depth_problems(parents, n_layers)
        problems += [
            f"`{name}` must be a whole number from 1, or null for no limit, but came {value!r}"
            for name, value in (("min_layers", min_layers), ("max_layers", max_layers))
            if value is not None and not is_whole(value, 1)
        ]
        try:
            step = Step(parents[0].name if parents else "", 0)
            self._shape = Recipe(
                PASSTHROUGH,
                tuple(parents),
                dtype=dtype,
                tokenizer=tokenizer,
                generation_config=generation_config,
                chat_template=chat_template,
                seed=seed,
                path=(step,) if parents else (),
            )
        except RecipeError as error:
            problems.append(str(error))
        if problems:
            raise ConfigError(problems)
        self.parents = tuple(parents)
        self.n_layers = {parent.name: int(n_layers[parent.name]) for parent in parents}
        self.fewest, self.most = self._inner_limits(min_layers, max_layers, longest)

    @property
    def first(self) -> str:
        """Name of the first parent."""
        return self.parents[0].name

    @property
    def depth(self) -> int:
        """Number of layers of the first parent."""
        return self.n_layers[self.first]

    @property
    def whole(self) -> tuple[Step, ...]:
        """The path that is exactly the first parent."""
        return tuple(Step(self.first, layer) for layer in range(self.depth))

    def recipe(self, inner: Sequence[Step], last_scale: float = 1.0) -> Recipe:
        """Return the recipe of a path: first layer, inner steps, last layer with this scale of its input.

        With a first parent of a single layer and no inner steps, the path is that layer once. Parents that no step uses
        are left out, so that equal paths have equal hashes whatever parents the space has; the first one stays, and so
        do those whose tokenizer, generation config and chat template the result carries, and all where a vocabulary is
        built of theirs. If the first parent is itself
        a recipe (the best merge of an earlier stage), the path over all its layers becomes that recipe, which was
        scored before.
        """
        path = [Step(self.first, 0), *inner]
        if self.depth > 1 or inner:
            path.append(Step(self.first, self.depth - 1, last_scale))
        shape, source = self._shape, self.parents[0].source
        if isinstance(source, Recipe) and tuple(path) == self.whole:
            lenders = {_own_tokens(source, self.first, shape.tokenizer), shape.generation_config}
            same_template = shape.chat_template in (None, self.first, source.chat_template)
            same_form = shape.dtype in (None, source.dtype) and lenders <= {None, self.first} and same_template
            if same_form:
                return source
        used = {step.parent for step in path} | {shape.tokenizer, shape.generation_config, shape.chat_template}
        return Recipe(
            method=PASSTHROUGH,
            parents=tuple(parent for parent in self.parents if parent.name in used or shape.builds_vocabulary),
            dtype=shape.dtype,
            tokenizer=shape.tokenizer,
            generation_config=shape.generation_config,
            chat_template=shape.chat_template,
            seed=shape.seed,
            path=tuple(path),
        )

    def _inner_limits(self, min_layers: int | None, max_layers: int | None, longest: int) -> tuple[int, int]:
        """Return the smallest and the largest number of inner steps.

        Raises:
            ConfigError: if no path keeps the limits.
        """
        # A path has two ends; with a first parent of one layer, and nothing between, they are one step.
        shortest = min(2, self.depth)
        most = longest if max_layers is None else min(longest, max(0, max_layers - 2))
        fewest = 0 if min_layers is None or min_layers <= shortest else max(1, min_layers - 2)
        problems = []
        if max_layers is not None and max_layers < shortest:
            problems.append(
                f"`max_layers` is {max_layers}, but a path has at least {shortest} layers: the first and the last one "
                f"of {self.first}"
            )
        elif fewest > most:
            reason = f"`max_layers` is {max_layers}" if most < longest else f"the genes spell {longest + 2} at most"
            problems.append(f"`min_layers` is {min_layers}, but {reason}, so no path would be long enough")
        if problems:
            raise ConfigError(problems)
        return fewest, most


class PathGenes(GeneSpace):
    """The base of spaces whose genes spell layer paths; a subclass sets the frame too.

    Attributes:
        frame: the part of its paths that no gene changes.
    """

    frame: PathFrame

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The models whose layers a path may use; the first lends everything else."""
        return self.frame.parents

    @property
    def n_layers(self) -> Mapping[str, int]:
        """Parent name to its depth."""
        return self.frame.n_layers


def _own_tokens(source: Recipe, name: str, tokenizer: Tokenizer | None) -> Tokenizer | None:
    """Return a path's tokenizer; the name of its first parent where that has these very tokens and rows already."""
    return name if source.builds_vocabulary and tokenizer == TokenizerBuild(name) else tokenizer


def depth_problems(parents: Sequence[Parent], n_layers: Mapping[str, int]) -> list[str]:
    """Return the mistakes in the depths of the parents, one sentence each."""
    names = [parent.name for parent in parents]
    problems = [unknown_name("parent in `n_layers`", str(name), names) for name in n_layers if name not in names]
    for name in names:
        if name not in n_layers:
            problems.append(f"`n_layers` must say how many layers each parent has, but {name} is missing")
        elif not is_whole(n_layers[name], 1):
            problems.append(
                f"the number of layers of {name} must be a whole number from 1, but came {n_layers[name]!r}"
            )
    return problems


def is_whole(value: Any, low: int) -> bool:
    """Return whether a value is a whole number of at least `low`; flags are no numbers."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= low
