"""The parameter space: how much of each parent goes into each group of tensors.

Akiba et al. (arXiv 2403.13187, section 3.1) evolve a mixing weight and a density per parent and layer, embeddings
included. Here any number of layers and roles can share a gene, down to one gene per layer and role. Weights may sum to
more than one: those of the paper's best merge sum to about two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from evomerge.errors import ConfigError, RecipeError
from evomerge.genome.layout import Region, make_regions
from evomerge.genome.method_layout import MethodLayout, Values
from evomerge.genome.methods import MethodChoice, read_methods
from evomerge.genome.space import Gene, GeneSpace, check_genome, name_problems
from evomerge.genome.start import Tensor, group_regions, start_problems, starts_of
from evomerge.genome.unmoved import LeftOut, Unmoved
from evomerge.recipe import PASSTHROUGH, Group, Parent, Recipe
from evomerge.recipe.method import MethodSpec
from evomerge.recipe.tokenizer import Tokenizer

FindUnmoved: TypeAlias = Callable[[MethodSpec], "Unmoved | None"]
"""Returns where parents equal what a method compares them with; None: that is not known."""


class ParameterSpace(GeneSpace):
    """The space of the parameters of one merge method, or of several among which it chooses.

    A parameter of the method is evolved unless it is fixed or the method says that a search should not evolve it
    (`Parameter.gene`, which naming it in `genes` overrides). Per-parent parameters have one gene per parent. Parameters
    have one gene per region of the model (see `evomerge.genome.layout`), or one in all, as their scope says. Genes
    start at the method's default, or in the middle of their range if the default is not inside. They are ordered by
    parameter, parent, and region in the order of the forward pass.

    With a choice of methods there is a gene "method" (of each region), and the names of the others begin with the
    method's. Genes of a method that is not chosen sleep: recipes do not hold them. Where every region chooses the same
    method, the recipe is the one of that method's own space.

    Args:
        method: the merge method, or a choice of several.
        parents: the models that are merged, in order.
        base: the model from which task vectors are measured; None for methods that need none.
        n_layers: layers of the models.
        tied: whether the head is the embedding.
        blocks: the layers that share genes: a number of blocks, "layers" (each layer is one) or a list of
            `[start, stop)`.
        roles: roles that share genes within a block: `{attention: [attention], mlp: [mlp, norm, other]}`; None: all.
        embeddings: "own": genes of their own for the embedding and for the head with the final norm; "shared": the same
            ones for both; "block": those of the first and of the last block.
        genes: per parameter `{low, high, start, log, choices, fixed, scope, parents: {name: {low, high, start, log,
            fixed}}}`; `scope` is "group" (one gene per region) or "global" (one for the model). With a choice of
            methods: such a mapping by name of the method.
        parameters: per parameter a fixed value; per-parent ones may name only some parents. With a choice of methods:
            such a mapping by name of the method.
        unmoved: where parents equal the base (see `Unmoved`), or what finds that for a method; genes that could change
            nothing for that reason are left out. None: that is not known.
        start: a recipe of these models with which the search begins. If it has groups, they are the regions in place of
            `blocks`, `roles` and `embeddings`; its numbers are the starts of the genes, and those of parameters that
            are no genes stay.
        tensors: role, layer and name of each tensor that is merged, for `start`; None: they are not known.
        dtype, tokenizer, generation_config, chat_template, vision, seed: of the recipes.

    Raises:
        ConfigError: with every mistake at once.
    """

    def __init__(
        self,
        method: MethodSpec | MethodChoice,
        parents: Sequence[Parent],
        *,
        n_layers: int,
        base: Parent | None = None,
        tied: bool = False,
        blocks: int | str | Sequence[Sequence[int]] = 4,
        roles: Mapping[str, Sequence[str]] | Sequence[Sequence[str]] | None = None,
        embeddings: str = "own",
        genes: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        unmoved: Unmoved | FindUnmoved | None = None,
        start: Recipe | None = None,
        tensors: Collection[Tensor] | None = None,
        dtype: str | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: str | None = None,
        chat_template: str | None = None,
        vision: str | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(method, MethodChoice):
            method = replace(method, methods=tuple(one.at_depth(n_layers) for one in method.methods))
        else:
            method = method.at_depth(n_layers)
        choice = method if isinstance(method, MethodChoice) else None
        methods = (method,) if isinstance(method, MethodSpec) else method.methods
        problems = [problem for one in methods for problem in _parent_problems(one, parents, base)]
        layout: list[str] = []
        groups = group_regions(start, tensors) if start is not None and start.groups else None
        self._in_order = groups is not None  # else groups that match everywhere come last
        self.regions: tuple[Region, ...] = (
            make_regions(n_layers, blocks, roles, embeddings, tied, layout) if groups is None else tuple(groups)
        )
        of_start = {region.name: None if groups is None else groups[region] for region in self.regions}
        problems += layout
        names = [parent.name for parent in parents]
        settings = read_methods(method, names, parameters or {}, genes or {}, problems)
        starts = [{} if start is None else starts_of(one, start, of_start) for one in methods]
        if start is not None:
            problems += _method_problems(methods, choice, start)
            for one, own, values in zip(methods, settings, starts, strict=True):
                given = (parameters or {}, genes or {})
                stated = [each if choice is None else each.get(one.name) or {} for each in given]
                below = "" if choice is None else one.name
                problems += start_problems(one, own, values, {*stated[0], *stated[1]}, below)
            self._methods_at_start = {region: start.method_of(group) for region, group in of_start.items()}
        try:
            # The common part of all decoded recipes; making it checks names, dtype and lenders.
            self._frame = Recipe(
                methods[0].name if methods[0].name != PASSTHROUGH else "linear",
                tuple(parents),
                base,
                dtype=dtype,
                tokenizer=tokenizer,
                generation_config=generation_config,
                chat_template=chat_template,
                vision=vision,
                seed=seed,
            )
        except RecipeError as error:
            problems.append(str(error))
        if any(one.name == PASSTHROUGH for one in methods):
            said = f"{PASSTHROUGH} mixes no weights, so "
            # The other mistakes of a recipe without a path would only mislead.
            problems = [
                f"{said}its path is all there is to evolve: set `space.name` to dataflow"
                if choice is None
                else f"{said}it cannot be one of `space.method.choices`; set `space.name` to joint for a layer path"
            ]
        evolve = choice is not None or any(setting.evolves for own in settings for setting in own)
        if not problems and not evolve:
            problems.append(
                f"every parameter of {methods[0].name} is fixed, so there is nothing to evolve; free at least one in "
                "`space.genes`, or build the one merge with `evomerge merge`"
            )
        if problems:
            raise ConfigError(problems)
        self._layouts = {
            one.name: MethodLayout(
                one,
                names,
                self.regions,
                own,
                unmoved(one) if callable(unmoved) else unmoved,
                prefix="" if choice is None else one.name,
                starts=values,
            )
            for one, own, values in zip(methods, settings, starts, strict=True)
        }
        self._choice = choice if choice is None or start is None else replace(choice, start=start.method)
        self._start = start
        self._method_genes = tuple(self._genes_of_methods())
        self._genes = (*self._method_genes, *(gene for one in self._layouts.values() for gene in one.genes))
        problems = name_problems(self._genes)
        if problems:
            raise ConfigError(problems)

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the recipe of a genome, with the gene values as they are.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range.
        """
        values = self._values(genome)
        if self._start is not None and self.canonical(genome) == self.first:
            return self._start
        chosen = self._chosen(values)
        # The method of the first region stands for the whole recipe, so that one method alone has its usual recipe.
        top = next(iter(chosen.values()))
        regions = self._regions_of(chosen)
        inside: list[Group] = []
        outside: list[Group] = []
        for region in self.regions if len(regions) > 1 or top.has_groups else ():
            layout = chosen[region.name]
            parameters, method = layout.here(region.name, values), None
            if layout is not top:  # it inherits nothing
                method = layout.method.name
                parameters = {**layout.everywhere(values, regions[method], in_groups=True), **parameters}
            for place in region.places:
                # The first group that matches counts, so groups without layers, which match everywhere, come last.
                groups = outside if place.layers is None and not self._in_order else inside
                groups.append(Group(parameters, place.layers, place.roles, region.name, method, place.tensors))
        frame = self._frame
        return Recipe(
            method=top.method.name,
            parents=frame.parents,
            base=frame.base,
            parameters=top.everywhere(values, regions[top.method.name]),
            groups=(*inside, *outside),
            dtype=frame.dtype,
            tokenizer=frame.tokenizer,
            generation_config=frame.generation_config,
            chat_template=frame.chat_template,
            vision=frame.vision,
            seed=frame.seed,
        )

    def awake(self, genome: Sequence[float]) -> tuple[bool, ...]:
        """Return for each gene whether it counts: its method is chosen, and what it depends on is as it asks for.

        Raises:
            ValueError: as `decode`.
        """
        values = self._values(genome)
        awake = {gene.name for gene in self._method_genes}
        for name, regions in self._regions_of(self._chosen(values)).items():
            awake |= self._layouts[name].awake(values, regions)
        return tuple(gene.name in awake for gene in self._genes)

    @cached_property
    def first(self) -> tuple[float, ...] | None:
        """The genome of the recipe with which the search begins, if it was given one."""
        return None if self._start is None else self.canonical(self.genome(self.start))

    @property
    def has_mean(self) -> bool:
        """Always: of choices, the most common one stands for the mean."""
        return True

    def mean(self, genomes: Sequence[Sequence[float]]) -> tuple[float, ...]:
        """Return the mean of some genomes, the best first.

        A choice is the most common one, of equally common ones that of the best genome. A number is the mean over the
        genomes in which it is awake: what sleeps was never tried.
        """
        if not any(self.kinds):
            mean = super().mean(genomes)
            assert mean is not None  # every gene is a float
            return mean
        awake = np.array([self.awake(genome) for genome in genomes])
        found = []
        for i, gene in enumerate(self._genes):
            tried = [float(genome[i]) for genome, counts in zip(genomes, awake[:, i], strict=True) if counts]
            if not tried:
                found.append(gene.start)
            elif gene.kind == "choice":
                found.append(Counter(tried).most_common(1)[0][0])  # of equally common ones the first
            else:
                found.append(gene.value(float(np.mean([gene.unit(value) for value in tried]))))
        return self.canonical(found)

    @property
    def left_out(self) -> list[LeftOut]:
        """The genes that could change nothing and are left out, by method and region; see `MethodLayout.left_out`."""
        return [one for layout in self._layouts.values() for one in layout.left_out]

    def _genes_of_methods(self) -> list[Gene]:
        if self._choice is None:
            return []
        doc = "the merge method"
        if self._choice.scope == "global":
            return [Gene.choice("method", tuple(self._layouts), self._choice.start, doc)]
        return [
            Gene.choice(f"method.{region.name}", tuple(self._layouts), self._method_at_start(region.name), doc)
            for region in self.regions
            # Where no parent takes part for any method, all of them give a copy of the base.
            if not all(layout.idle.in_whole(region.name) for layout in self._layouts.values())
        ]

    def _method_at_start(self, region: str) -> str:
        assert self._choice is not None
        return self._choice.start if self._start is None else self._methods_at_start[region]

    def _values(self, genome: Sequence[float]) -> Values:
        check_genome(self._genes, genome)
        return {gene.name: float(value) for gene, value in zip(self._genes, genome, strict=True)}

    def _chosen(self, values: Values) -> dict[str, MethodLayout]:
        """Return the method of each region."""
        layouts = list(self._layouts.values())
        if self._choice is None:
            return dict.fromkeys((region.name for region in self.regions), layouts[0])
        start = float(list(self._layouts).index(self._choice.start))
        whole = values.get("method", start)
        return {region.name: layouts[int(values.get(f"method.{region.name}", whole))] for region in self.regions}

    def _regions_of(self, chosen: Mapping[str, MethodLayout]) -> dict[str, list[str]]:
        """Return the regions of each method that merges any."""
        found: dict[str, list[str]] = {}
        for region, layout in chosen.items():
            found.setdefault(layout.method.name, []).append(region)
        return found


def _method_problems(methods: Sequence[MethodSpec], choice: MethodChoice | None, start: Recipe) -> list[str]:
    """Return why the methods of a recipe are none with which a search of these can begin."""
    known = [method.name for method in methods]
    others = [name for name in start.methods if name not in known]
    if others and choice is None:
        return [
            f"`space.start` merges by {', '.join(others)}, but `method.name` is {known[0]}: name that method, or all "
            "of them in `space.method.choices`"
        ]
    if others:
        return [f"`space.start` merges by {', '.join(others)}, which `space.method.choices` does not list"]
    if choice is not None and choice.scope == "global" and len(start.methods) > 1:
        return [f"`space.start` merges by {', '.join(start.methods)}, but `space.method.scope` is global"]
    return []


def _parent_problems(method: MethodSpec, parents: Sequence[Parent], base: Parent | None) -> list[str]:
    problems = []
    low, high = method.n_parents
    if 0 < len(parents) < low or (high is not None and len(parents) > high):
        wanted = f"{low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        problems.append(
            f"{method.name} merges {wanted} parent{'' if high == 1 else 's'}, but there are {len(parents)}: "
            f"{', '.join(parent.name for parent in parents)}"
            + ("; leave out others (`~models.parents.NAME` in a command)" if high and len(parents) > high else "")
        )
    if method.needs_base and base is None:
        problems.append(f"{method.name} measures task vectors from a base, but there is none; set `models.base`")
    return problems
