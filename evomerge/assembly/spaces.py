"""The spaces of a search: from a configuration and opened models to the stages that `evomerge.search` runs.

One stage evolves one space. In the founding paper (Akiba et al., arXiv 2403.13187, section 3.3) the parameter space
comes first, and its best merge joins the models whose layers the data-flow space then stacks.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from evomerge.assembly.start import start_recipe
from evomerge.config.schema import SearchConfig, SpaceConfig, StageConfig
from evomerge.errors import CheckpointError, ConfigError, RecipeError, nearest_name, unknown_name
from evomerge.evaluation.objective import RecipeTerm
from evomerge.genome.dataflow import PathSpace
from evomerge.genome.joint import JointSpace
from evomerge.genome.methods import MethodChoice, read_methods
from evomerge.genome.parameter import ParameterSpace
from evomerge.genome.segments import SegmentSpace
from evomerge.genome.space import Space
from evomerge.genome.start import Tensor
from evomerge.genome.unmoved import Unmoved
from evomerge.merge.methods.base import BASE
from evomerge.merge.methods.registry import METHODS, find_method
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.fold import find_fold
from evomerge.merge.paths.placed import path_problems
from evomerge.merge.plan import check_recipe
from evomerge.merge.sources import Sources
from evomerge.optimizers.base import Awake, Optimizer
from evomerge.optimizers.registry import check_optimizer, make_optimizer
from evomerge.recipe import PASSTHROUGH, Parent, Recipe, Step, TokenizerBuild
from evomerge.recipe.method import MethodSpec
from evomerge.recipe.tokenizer import BASE_NAME, UNION, models_named, tokenizer_problems
from evomerge.search.stage import Stage
from evomerge.strategies.base import Strategy, StrategySetup
from evomerge.strategies.registry import check_strategy, make_strategy
from evomerge.system.text import with_and

MERGED = "merged"
"""The name, among the parents of a layer path, of the merge that an earlier stage (or the same genome) made."""

_INSIDE = 1e-3
"""How far inside of the unit cube the corners are tried."""

_ENCODINGS = {"indicators": PathSpace, "segments": SegmentSpace}


def check_stages(config: SearchConfig, sources: Sources, *, values: bool = True) -> tuple[list[str], list[Space]]:
    """Check methods, parents and genes of every stage.

    Args:
        config: the configuration.
        sources: the models.
        values: whether weights that are here may be read, which alone tell which genes could change nothing; else
            configurations and headers are all that is read.

    Returns:
        Every mistake, and the space of each stage (of later stages as if the best merge were the start of the first).
        Mistakes that follow from others are left for the next try.
    """
    problems: list[str] = []
    if config.merges:
        for name in config.methods:
            if name == PASSTHROUGH:
                problems.append(f"{PASSTHROUGH} merges no weights; set `space.name: dataflow` to evolve layer paths")
            else:
                _try(problems, lambda name=name: find_method(name))  # type: ignore[misc]
        _try(problems, lambda: sources.plan(average(config)))
    elif config.models.base is not None:
        problems.append(
            "models.base is not used where only layer paths are evolved; make it a parent if its layers may be taken"
        )
    if config.stacks:
        if any(parent.name == MERGED for parent in config.models.parents):
            problems.append(f"no parent may be called {MERGED!r}: that is the name of the merge in a layer path")
        problems += _path_problems(config, sources)
    spaces: list[Space] = []
    elite: Recipe | None = None
    if problems and config.merges:  # no space is made, which would check them
        problems += _parameter_problems(config)
    for stage in config.stages:
        if problems:
            break
        made = functools.partial(make_space, config, stage.space, sources, elite, values=values)
        space = _try(problems, made)
        if space is None:
            break
        if stage.space.merges:
            problems += _refused_corners(space)
        spaces.append(space)
        elite = elite or space.decode(space.genome(space.start))
    return problems, spaces


def check_strategies(config: SearchConfig, spaces: Sequence[Space]) -> list[str]:
    """Return every mistake of strategies and optimizers; stages without a space are checked with two dimensions."""
    problems: list[str] = []
    for i, stage in enumerate(config.stages):
        n_dims, kinds = (spaces[i].n_dims, spaces[i].kinds) if i < len(spaces) else (2, None)
        problems += check_optimizer(stage.optimizer.name, stage.optimizer.options, n_dims, kinds=kinds)
        problems += check_strategy(stage.strategy.name, stage.strategy.options)
    return problems


def make_stages(config: SearchConfig, sources: Sources, weights: Sequence[float]) -> list[Stage]:
    """Return the stages of a checked configuration.

    Args:
        config: the configuration.
        sources: the opened models.
        weights: `(n_objectives,)`, where an optimizer takes one number.
    """
    ends = list(accumulate(stage.share for stage in config.stages))
    ends[-1] = 1.0
    return [
        Stage(stage.name, end, _beginner(config, i, stage, sources, weights))
        for i, (stage, end) in enumerate(zip(config.stages, ends, strict=True))
    ]


def make_space(
    config: SearchConfig, chosen: SpaceConfig, sources: Sources, elite: Recipe | None, *, values: bool = True
) -> Space:
    """Return the space of one stage.

    Args:
        config: the configuration.
        chosen: the space of the stage.
        sources: the opened models.
        elite: the best recipe of the stages before; None in the first.
        values: whether weights may be read; see `check_stages`.

    Raises:
        ConfigError: with every mistake in the genes.
    """
    parameters = _parameter_space(config, chosen, sources, values) if chosen.merges else None
    if not chosen.stacks:
        assert parameters is not None
        return parameters
    if parameters is not None:
        elite = parameters.decode(parameters.genome(parameters.start))  # stands for the merge of each genome
    path_space = _path_space(config, chosen, sources, elite)
    return path_space if parameters is None else JointSpace(parameters, path_space)


def recipe_terms(config: SearchConfig, sources: Sources) -> tuple[RecipeTerm, ...]:
    """Return the recipe's numbers that are terms of the objectives: the length of its path (`space.layer_cost`)."""
    costs = {stage.space.layer_cost for stage in config.stages if stage.space.stacks} - {0.0}
    if not costs:
        return ()
    depth = _depth(config.models.parents[0], sources)
    # The number of layers more than the first parent has; fewer layers earn fitness.
    return (RecipeTerm("layers", -max(costs), lambda recipe: float(len(recipe.path) - depth) if recipe.path else 0.0),)


def baselines(config: SearchConfig, sources: Sources) -> dict[str, Recipe]:
    """Return the baselines of a search: each parent alone, and the plain average where it exists."""
    models = config.models
    recipes = {}
    for parent in models.parents:
        # In a search of layer paths alone, a parent is the path over all its layers. These are in memory for the other
        # paths anyway, and if the search proposes this path, it has been scored already.
        path = () if config.merges else tuple(Step(parent.name, layer) for layer in range(_depth(parent, sources)))
        method = "linear" if config.merges else PASSTHROUGH
        recipes[parent.name] = _seeing(
            Recipe(method, (parent,), dtype=models.dtype, seed=config.seed, path=path), config, sources
        )
    if len(models.parents) > 1 and (config.merges or _average_exists(config, sources)):
        name = "average"
        while name in recipes:  # a parent's name, which may be any
            name = f"plain {name}"
        recipes[name] = replace(average(config), seed=config.seed)
    return recipes


def _seeing(alone: Recipe, config: SearchConfig, sources: Sources) -> Recipe:
    """Return how a parent alone is scored: as it is, or a text model behind the vision part that the merges have.

    It could not be asked about images otherwise, nor compared with the merges, which have that part.
    """
    whole, (parent,) = average(config), alone.parents
    if not config.merges or config.stacks or sources.like(parent.source).has_other_parts:
        return alone
    donor = sources.donor_of(whole)
    if not sources.like(donor.source).has_other_parts:
        return alone
    others = () if donor is whole.base else (donor,)
    weight = {one.name: float(one is parent) for one in (parent, *others)}
    tokenizer = whole.tokenizer if isinstance(whole.tokenizer, TokenizerBuild) else None
    if isinstance(tokenizer, TokenizerBuild) and tokenizer_problems(tokenizer, list(weight)):
        tokenizer = TokenizerBuild()
    return replace(
        alone,
        parents=(parent, *others),
        base=None if others else whole.base,
        parameters={"weight": weight},
        tokenizer=tokenizer,
        vision=donor.name,
    )


def average(config: SearchConfig) -> Recipe:
    """Return the recipe of the plain average of all models of the search, with what candidates get besides weights."""
    models = config.models
    return Recipe(
        "linear",
        models.parents,
        base=models.base,
        dtype=models.dtype,
        tokenizer=models.tokenizer,
        generation_config=models.generation_config,
        chat_template=models.chat_template,
        vision=models.vision,
    )


def _beginner(
    config: SearchConfig, index: int, stage: StageConfig, sources: Sources, weights: Sequence[float]
) -> Callable[[Recipe | None], Strategy]:
    seed = _seed(config.seed, index)

    def optimizer(space: Space) -> Optimizer:
        return make_optimizer(
            stage.optimizer.name,
            n_dims=space.n_dims,
            start=space.start,
            seed=seed,
            kinds=space.kinds,
            awake=_awake(space),
            **stage.optimizer.options,
        )

    def begin(elite: Recipe | None) -> Strategy:
        setup = StrategySetup(
            space=lambda: make_space(config, stage.space, sources, elite),
            optimizer=optimizer,
            parents=baselines(config, sources),
            elite=elite,
            seed=seed,
            weights=weights,
            options=stage.strategy.options,
        )
        return make_strategy(stage.strategy.name, setup)

    return begin


def _awake(space: Space) -> Awake | None:
    """Return what tells an optimizer which coordinates of a point count; None: all of them, always."""
    if not any(gene.when for gene in space.genes):
        return None
    return lambda x: np.array(space.awake(space.genome(x)))


def _seed(seed: int, stage: int) -> int:
    """Return the seed of a stage: the run's for the first, another for each further one."""
    if stage == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}\0stage {stage}".encode()).digest()[:4], "little")


def _parameter_space(config: SearchConfig, chosen: SpaceConfig, sources: Sources, values: bool) -> ParameterSpace:
    assert config.method is not None  # the configuration says so
    start = start_recipe(config, sources.pins)
    if start is not None:
        sources.plan(start)  # whose errors say more than a space's
    models, summary = config.models, sources.family(average(config)).architecture.summary
    return ParameterSpace(
        method=_method(config, chosen),
        parents=models.parents,
        base=models.base,
        n_layers=summary.n_layers,
        tied=summary.tied,
        blocks=chosen.blocks,
        roles=chosen.roles,
        embeddings=chosen.embeddings,
        genes=chosen.genes,
        parameters=config.method.parameters,
        # Where a recipe's groups are the regions, names of tensors count, too; genes without an effect are kept there.
        unmoved=_find_unmoved(config, sources) if values and not (start is not None and start.groups) else None,
        start=start,
        tensors=None if start is None else _tensors(config, sources),
        dtype=models.dtype,
        tokenizer=models.tokenizer,
        generation_config=models.generation_config,
        chat_template=models.chat_template,
        vision=models.vision,
        # The masks of the recipe with which the search begins are those of its seed.
        seed=config.seed if start is None else start.seed,
    )


def _tensors(config: SearchConfig, sources: Sources) -> list[Tensor]:
    family = sources.family(average(config))
    return [
        (tensor.place.role, tensor.place.layer, tensor.name)
        for tensor in family.tensors
        if not tensor.place.copied and tensor.info.dtype.is_floating_point
    ]


def _method(config: SearchConfig, chosen: SpaceConfig) -> MethodSpec | MethodChoice:
    assert config.method is not None  # the configuration says so
    specs = tuple(find_method(name).spec for name in config.methods)
    if chosen.method.choices is None:
        return specs[0]
    return MethodChoice(specs, config.method.name, chosen.method.scope)


def left_out(config: SearchConfig, space: Space) -> str | None:
    """Return one sentence about the genes that a space leaves out because they could change nothing, or None.

    Args:
        config: the configuration.
        space: the space of one of its stages.
    """
    found = space.left_out if isinstance(space, (ParameterSpace, JointSpace)) else []
    if not found:
        return None
    n = sum(one.n_genes for one in found)
    places: dict[str, dict[str, None]] = {}
    for one in found:
        other = "the base" if find_method(one.method).spec.needs_base else config.models.parents[0].name
        who = "every parent equals" if one.whole else f"{with_and(one.parents)} {_equal_verb(one.parents)}"
        places.setdefault(f"{who} {other}", {})[one.region or "the whole model"] = None
    said = "; ".join(f"{who} in {', '.join(where)}" for who, where in places.items())
    return f"{n} of {n + space.n_dims} genes are left out, since they could change nothing: {said}"


def _equal_verb(names: Sequence[str]) -> str:
    return "equals" if len(names) == 1 else "equal"


def _find_unmoved(config: SearchConfig, sources: Sources) -> Callable[[MethodSpec], Unmoved | None]:
    """Return what finds where parents equal the base, or the first parent for a method without one.

    It returns None where that makes no difference to the method, and raises CheckpointError if a tensor cannot be read.
    """
    plain = average(config)

    @functools.cache
    def found(reference: int) -> Unmoved:
        return _unmoved(config, sources, plain, reference)

    def find(spec: MethodSpec) -> Unmoved | None:
        if (spec.share if spec.needs_base else spec.of_equals) is None or (spec.needs_base and plain.base is None):
            return None
        return found(BASE if spec.needs_base else 0)

    return find


def _unmoved(config: SearchConfig, sources: Sources, plain: Recipe, reference: int) -> Unmoved:
    """Return where parents equal one of the models, a parent by its index or the base, as far as weights are here."""
    if sources.arriving:  # only values would tell
        return {}
    names = [parent.name for parent in config.models.parents]
    equal = sources.equal_parents(plain, reference)
    found: dict[tuple[str, int | None], set[str]] = {}
    for tensor in sources.family(plain).tensors:
        if tensor.name in equal:
            here = {names[index] for index in equal[tensor.name]}
            place = tensor.place.role, tensor.place.layer
            found[place] = found.get(place, here) & here
    return found


def _parameter_problems(config: SearchConfig) -> list[str]:
    """Return what is wrong with the parameters and genes of the methods by themselves.

    Where there is no method of a name, they are compared with those of the method whose name is nearest.
    """
    assert config.method is not None  # the configuration says so
    given, genes = config.method.parameters, config.stages[0].space.genes
    specs: list[MethodSpec] = []
    for name in config.methods:
        method = _try([], lambda name=name: find_method(name))  # type: ignore[misc]
        near = name if method is not None else nearest_name(name, METHODS.names)
        if near is None and len(config.methods) == 1:
            return _of_no_method([*given, *genes])
        specs += [] if near is None else [replace(find_method(near).spec, name=name)]
    gene = config.stages[0].space.method
    choice = MethodChoice(tuple(specs), config.method.name, gene.scope) if gene.choices is not None else specs[0]
    problems: list[str] = []
    read_methods(choice, [parent.name for parent in config.models.parents], given, genes, problems)
    return list(dict.fromkeys(problems))


def _of_no_method(names: Sequence[Any]) -> list[str]:
    """Return a sentence for each parameter that no built-in method has."""
    known = {parameter.name for one in METHODS.built_in for parameter in find_method(one).spec.parameters}
    return [unknown_name("parameter of a merge method", str(name), known) for name in names if name not in known]


def _path_space(
    config: SearchConfig, chosen: SpaceConfig, sources: Sources, elite: Recipe | None
) -> PathSpace | SegmentSpace:
    lenders = _lenders(config, chosen)
    parents = lenders if elite is None else (Parent(MERGED, elite), *lenders)
    models, names = config.models, [parent.name for parent in parents]
    tokenizer = models.tokenizer
    if isinstance(tokenizer, TokenizerBuild) and elite is not None:
        tokenizer = TokenizerBuild(MERGED)  # the merge has all tokens already
    named: dict[str, str | None] = {
        "tokenizer": None if isinstance(tokenizer, TokenizerBuild) else tokenizer,
        "generation_config": models.generation_config,
    }
    if isinstance(tokenizer, TokenizerBuild):
        named |= {"tokenizer.source": tokenizer.lender}
        named |= {f"tokenizer.tokens.{token}": name for token, name in models_named(tokenizer)}
    missing = {key: name for key, name in named.items() if name is not None and name not in names}
    if missing and elite is None:  # a merge has brought along what it was given
        raise ConfigError(
            [
                f"models.{key} is {name}, but no layers of it may be taken: name one of {', '.join(names)}, or add it "
                "to space.path.parents"
                for key, name in missing.items()
            ]
        )
    return _ENCODINGS[chosen.path.encoding](
        parents,
        n_layers={parent.name: _depth(parent, sources) for parent in parents},
        dtype=models.dtype,
        tokenizer=None if "tokenizer" in missing else tokenizer,
        generation_config=None if "generation_config" in missing else models.generation_config,
        chat_template=models.chat_template if elite is None or models.chat_template is None else MERGED,
        seed=config.seed,
        **chosen.path.options,
    )


def path_vocabulary(config: SearchConfig) -> TokenizerBuild | None:
    """Return a vocabulary of the parents in which their layers can be tried together; None: they have the same."""
    if not isinstance(config.models.tokenizer, TokenizerBuild):
        return None
    words = (UNION, BASE_NAME)  # which mean something else, also where a parent has such a name
    return TokenizerBuild(next((one.name for one in config.models.parents if one.name not in words), UNION))


def _lenders(config: SearchConfig, chosen: SpaceConfig) -> tuple[Parent, ...]:
    """Return the parents whose layers may be taken, in the order in which the configuration names them."""
    wanted = chosen.path.parents
    if wanted is None:
        return config.models.parents
    named = {parent.name: parent for parent in config.models.parents}
    unknown = [unknown_name("parent in space.path.parents", name, named) for name in wanted if name not in named]
    if unknown:
        raise ConfigError(unknown)
    return tuple(named[name] for name in wanted)


def _depth(parent: Parent, sources: Sources) -> int:
    return sources.like(parent.source).architecture.n_layers


def _path_problems(config: SearchConfig, sources: Sources) -> list[str]:
    """Return why the models' layers cannot stand in one model, run in any order, or be saved with scales."""
    problems: list[str] = []
    parents = config.models.parents
    opened = [_try(problems, lambda parent=parent: sources.like(parent.source)) for parent in parents]  # type: ignore[misc]
    if problems:
        return problems
    vocabulary = path_vocabulary(config)
    if vocabulary is None:
        named = [(parent.name, one) for parent, one in zip(parents, opened, strict=True)]
        fitting = _try(problems, lambda: CompatibleParents(named))
    else:
        one = Recipe(PASSTHROUGH, parents, path=(Step(parents[0].name, 0),), tokenizer=vocabulary)
        fitting = _try(problems, lambda: sources.compatible_parents(one))
    if fitting is None:
        return problems
    problems += [f"{parents[0].name}: {problem}" for problem in path_problems(opened[0])]
    scaled = any(s.space.stacks and s.space.path.options.get("scales", "step") != "none" for s in config.stages)
    if scaled and not problems:
        # Found now rather than when the winner is to be saved.
        try:
            find_fold(opened[0])
        except CheckpointError as error:
            problems.append(f"{error}: set `space.path.scales: none`")
    return problems


def _refused_corners(space: Space) -> list[str]:
    """Return the method's objections just inside of the ranges' corners, where values that it refuses would show.

    At the corners themselves all weights may be 0 at once, which a candidate may fail by, but not a search.
    """
    for x in (space.start, np.full(space.n_dims, _INSIDE), np.full(space.n_dims, 1.0 - _INSIDE)):
        problems: list[str] = []
        _try(problems, lambda x=x: check_recipe(_innermost(space.decode(space.genome(x)))))  # type: ignore[misc]
        if problems:
            return problems
    return []


def _innermost(recipe: Recipe) -> Recipe:
    inner = recipe.parents[0].source
    return inner if recipe.path and isinstance(inner, Recipe) else recipe


def _average_exists(config: SearchConfig, sources: Sources) -> bool:
    problems: list[str] = []
    return _try(problems, lambda: sources.plan(average(config))) is not None


def _try(problems: list[str], step: Callable[[], Any]) -> Any:
    """Return the result of a step, or note its mistakes instead of raising them and return None."""
    try:
        return step()
    except ConfigError as error:
        problems += error.problems
    except (CheckpointError, RecipeError) as error:
        problems.append(str(error))
    return None
