"""The parameter space: how much of each parent goes into each group of tensors.

Akiba et al. (arXiv 2403.13187, section 3.1) evolve a mixing weight and a density per parent and layer, embeddings
included. Here any number of layers and roles can share a gene, down to one gene per layer and role. Weights may sum to
more than one: those of the paper's best merge sum to about two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.errors import ConfigError, RecipeError
from evomerge.genome.layout import Region, make_regions
from evomerge.genome.settings import Range, Setting, read_settings
from evomerge.genome.space import Gene, GeneSpace, check_genome, name_problems
from evomerge.genome.unmoved import Idle, LeftOut, Unmoved
from evomerge.recipe import PASSTHROUGH, Group, Parent, Recipe, Value
from evomerge.recipe.method import MethodSpec
from evomerge.recipe.tokenizer import Tokenizer


class ParameterSpace(GeneSpace):
    """The space of one merge method's parameters.

    A parameter of the method is evolved unless it is fixed, is no number, or the method says that a search should not
    evolve it (`Parameter.gene`, which naming it in `genes` overrides). Per-parent parameters have one gene per parent.
    All parameters but `lambda` have one gene per region of the model (see `evomerge.genome.layout`). Genes start at the
    method's default, or in the middle of their range if the default is not inside. They are ordered by parameter,
    parent, and region in the order of the forward pass.

    Args:
        method: the merge method.
        parents: the models that are merged, in order.
        base: the model from which task vectors are measured; None for methods that need none.
        n_layers: layers of the models.
        tied: whether the head is the embedding.
        blocks: the layers that share genes: a number of blocks, "layers" (each layer is one) or a list of
            `[start, stop)`.
        roles: roles that share genes within a block: `{attention: [attention], mlp: [mlp, norm, other]}`; None: all.
        embeddings: "own": genes of their own for the embedding and for the head with the final norm; "shared": the same
            ones for both; "block": those of the first and of the last block.
        genes: per parameter `{low, high, start, log, fixed, scope, parents: {name: {low, high, start, log, fixed}}}`;
            `scope` is "group" (one gene per region) or "global" (one for the model).
        parameters: per parameter a fixed value; per-parent ones may name only some parents.
        unmoved: where parents equal the base (see `Unmoved`); genes that could change nothing for that reason are left
            out. None: that is not known.
        dtype, tokenizer, generation_config, chat_template, seed: of the recipes.

    Raises:
        ConfigError: with every mistake at once.
    """

    def __init__(
        self,
        method: MethodSpec,
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
        unmoved: Unmoved | None = None,
        dtype: str | None = None,
        tokenizer: Tokenizer | None = None,
        generation_config: str | None = None,
        chat_template: str | None = None,
        seed: int = 0,
    ) -> None:
        problems = _parent_problems(method, parents, base)
        layout: list[str] = []
        self.regions: tuple[Region, ...] = make_regions(n_layers, blocks, roles, embeddings, tied, layout)
        problems += layout
        names = [parent.name for parent in parents]
        self._settings = read_settings(method, names, dict(parameters or {}), dict(genes or {}), problems)
        try:
            # The common part of all decoded recipes; making it checks names, dtype and lenders.
            self._frame = Recipe(
                method.name,
                tuple(parents),
                base,
                dtype=dtype,
                tokenizer=tokenizer,
                generation_config=generation_config,
                chat_template=chat_template,
                seed=seed,
            )
        except RecipeError as error:
            problems.append(str(error))
        if method.name == PASSTHROUGH:
            # The other mistakes of a recipe without a path would only mislead.
            problems = [
                f"{method.name} mixes no weights, so its path is all there is to evolve: set `space.name` to dataflow"
            ]
        if not problems and not any(setting.evolves for setting in self._settings):
            problems.append(
                f"every parameter of {method.name} is fixed, so there is nothing to evolve; free at least one in "
                "`space.genes`, or build the one merge with `evomerge merge`"
            )
        if problems:
            raise ConfigError(problems)
        self._idle = Idle(method, names, self.regions, self._settings, unmoved)
        self._genes = tuple(self._make_genes())
        problems = name_problems(self._genes)
        if problems:
            raise ConfigError(problems)

    def decode(self, genome: Sequence[float]) -> Recipe:
        """Return the recipe of a genome, with the gene values as they are.

        Raises:
            ValueError: if the genome has another length, or a value is outside its gene's range.
        """
        check_genome(self._genes, genome)
        values = {gene.name: float(value) for gene, value in zip(self._genes, genome, strict=True)}
        everywhere: dict[str, Value] = {}
        somewhere: list[Setting] = []
        for setting in self._settings:
            if setting.evolves and setting.scope == "group":
                somewhere.append(setting)
            else:
                everywhere[setting.parameter.name] = self._value(setting, "", values)
        inside: list[Group] = []
        outside: list[Group] = []
        for region in self.regions if somewhere or any(self._idle.of(one.name) for one in self.regions) else ():
            here = [
                setting
                for setting in self._settings
                if setting in somewhere or (self._idle.of(region.name) and self._idle.says(setting))
            ]
            parameters = {setting.parameter.name: self._value(setting, region.name, values) for setting in here}
            for place in region.places:
                # The first group that matches counts, so groups without layers, which match everywhere, come last.
                groups = outside if place.layers is None else inside
                groups.append(Group(parameters, place.layers, place.roles, region.name))
        frame = self._frame
        return Recipe(
            method=frame.method,
            parents=frame.parents,
            base=frame.base,
            parameters=everywhere,
            groups=(*inside, *outside),
            dtype=frame.dtype,
            tokenizer=frame.tokenizer,
            generation_config=frame.generation_config,
            chat_template=frame.chat_template,
            seed=frame.seed,
        )

    @property
    def left_out(self) -> list[LeftOut]:
        """The genes that could change nothing and are left out, by region; of the whole model under the name ""."""
        found = []
        for region in (*self.regions, None):
            name = "" if region is None else region.name
            parents = tuple(one.name for one in self._frame.parents if self._idle.is_idle(one.name, name))
            n = sum(
                self._idle.is_idle(parent, name)
                for setting in self._settings
                if (setting.scope == "global") == (region is None)
                for parent, value in setting.values.items()
                if isinstance(value, Range)
            )
            if n:
                found.append(LeftOut(name, parents, self._idle.in_whole(name), n))
        return found

    def _make_genes(self) -> list[Gene]:
        genes = []
        for setting in self._settings:
            regions = [region.name for region in self.regions] if setting.scope == "group" else [""]
            for parent, value in setting.values.items():
                if isinstance(value, Range):
                    genes += [
                        Gene(
                            _gene_name(setting, parent, region),
                            value.low,
                            value.high,
                            value.start,
                            value.log,
                            setting.parameter.doc,
                        )
                        for region in regions
                        if not self._idle.is_idle(parent, region)
                    ]
        return genes

    def _value(self, setting: Setting, region: str, values: Mapping[str, float]) -> Value:
        """Return the value of a parameter in a region ("": in the whole model), for all parents or by parent name."""
        found: dict[str | None, Any] = {}
        for parent, value in setting.values.items():
            if self._idle.is_idle(parent, region):
                found[parent] = self._idle.constant(setting, parent)
            elif isinstance(value, Range):
                found[parent] = values[_gene_name(setting, parent, region if setting.scope == "group" else "")]
            else:
                found[parent] = value
        if None in found:
            return found[None]
        alike = len(set(found.values())) == 1
        if alike and (not setting.evolves or self._idle.in_whole(region)):
            return next(iter(found.values()))
        return {str(parent): value for parent, value in found.items()}


def _parent_problems(method: MethodSpec, parents: Sequence[Parent], base: Parent | None) -> list[str]:
    problems = []
    low, high = method.n_parents
    if 0 < len(parents) < low or (high is not None and len(parents) > high):
        wanted = f"{low}" if low == high else f"at least {low}" if high is None else f"{low} to {high}"
        problems.append(f"{method.name} merges {wanted} parents, but there are {len(parents)}")
    if method.needs_base and base is None:
        problems.append(f"{method.name} measures task vectors from a base, but there is none; set `models.base`")
    return problems


def _gene_name(setting: Setting, parent: str | None, region: str) -> str:
    return ".".join(part for part in (setting.parameter.name, parent, region) if part)
