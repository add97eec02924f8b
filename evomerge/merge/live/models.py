"""The live models of a worker, into which a search's merges are written and over which its paths run.

A merge of weights is written into one model, in place. A layer path runs over its parents, each of which is in memory
once, whatever the path: a checkpoint as it is, and a merge (of an earlier stage, or one that changes with every
candidate) rewritten where it changed.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.cache import Latest
from evomerge.merge.files.belongings import processor_files
from evomerge.merge.files.model import TORCH_DTYPES, OpenModel
from evomerge.merge.live.model import Devices, LiveModel, as_devices
from evomerge.merge.live.places import Places
from evomerge.merge.live.settings import GenerationConfigs, Processors, Tokenizers
from evomerge.merge.live.writer import Written
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.ends import Lenders
from evomerge.merge.paths.live_path import PathModel
from evomerge.merge.paths.scaled import ScaledTensors
from evomerge.merge.plan import MergePlan, check_recipe
from evomerge.merge.sources import Sources
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe, Step, TokenizerBuild
from evomerge.system.faults import is_out_of_memory

log = logging.getLogger(__name__)

_INSTEAD = "evolve its weights instead of its layers"


class LiveModels:
    """Makes one recipe after another live, with as few weights in memory as possible.

    Memory: one model for merges (and one for each further architecture or depth), and for paths one model for each
    parent. Neither a layer path nor switching from one candidate to the next allocates weights, except for the tensors
    that a path's recipe scales, and embedding and head where it builds a vocabulary.

    A parent has the values that the recipe has on disk, in the recipe's dtype, converted to the live dtype; see
    `LiveModel`. If the recipe names no dtype, parents of another type than the first are rounded to the first's.

    Attributes:
        model: the model of the present recipe; None before the first. It stays the same object as long as recipes are
            of the same kind: merges of the same architecture, or paths over the same parents.
        recipe: the recipe that `model` holds; None before the first write and after one that failed.
        written: what the last write had to do, over all live models that the recipe uses.
        devices: the devices of the parameters; if there are several, each layer is on one of them.
        device: the first device, to which inputs go.
        sources: the opened models.
        places: where their layers may stand.
    """

    def __init__(
        self,
        *,
        dtype: str | None = None,
        device: Devices = "cpu",
        sources: Sources | None = None,
    ) -> None:
        """Load nothing yet.

        Args:
            dtype: the type in which models compute, one of `evomerge.recipe.DTYPES`; None: the lender's (or a path's
                first parent's) own.
            device: for example "cpu" or "cuda:0"; or several, over which the model is spread. Layer paths need one.
            sources: opened models to share.
        """
        self.sources = sources if sources is not None else Sources()
        self.devices = as_devices(device)
        self.device = self.devices[0]
        self.model: Any = None
        self.recipe: Recipe | None = None
        self.written = Written()
        self._dtype = dtype
        self._merges: list[LiveModel] = []
        self._parents: dict[Any, LiveModel] = {}
        self._compatible: Latest[tuple[tuple[str, int], ...], CompatibleParents] = Latest()
        self._paths: dict[Hashable, tuple[frozenset[int], PathModel]] = {}
        self._dtypes: dict[ModelSource, str | None] = {}
        self.places = Places()
        self._scaled = ScaledTensors()
        self._lender: OpenModel | None = None
        self._tokenizers, self._generation, self._processors = Tokenizers(), GenerationConfigs(), Processors()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the present recipe's result.

        Raises:
            RuntimeError: before the first write.
            CheckpointError: if transformers cannot load it.
        """
        if self._lender is None:
            raise RuntimeError("no recipe has been written yet, so there is no tokenizer; call `write` first")
        return self._tokenizers.of(self._lender)

    @property
    def processor(self) -> Any:
        """What makes inputs of texts and images for the present recipe's result; None: it is a language model alone.

        Raises:
            RuntimeError: before the first write.
            CheckpointError: if transformers cannot load it.
        """
        if self._lender is None:
            raise RuntimeError("no recipe has been written yet, so there is no processor; call `write` first")
        return self._processors.of(self._lender) if processor_files(self._lender.tokenizer_folder) else None

    def load(self, lender: ModelSource | Recipe) -> None:
        """Load the model into which merges are written, so that its faults show before a search.

        Args:
            lender: a merge, or what lends it configuration and first weights: the base, or the first parent.

        Raises:
            CheckpointError: if it cannot be opened or holds NaN or Inf.
            RecipeError: if it is a recipe that cannot be built.
        """
        opened = self.sources.like(lender)
        self._merges.append(LiveModel(opened, dtype=self._dtype, device=self.devices, sources=self.sources))

    def keep(self, parents: Sequence[ModelSource | Recipe | OpenModel]) -> int:
        """Let the tensors of parents stay on the devices of the live model for merges, as long as this object lives.

        Each tensor is copied there when it is first needed; later candidates copy nothing.

        Args:
            parents: the parents of the merges to come, with their base; `load` has loaded the live model for them.

        Returns:
            How many bytes were taken; 0 if a device turned out to be too small, so that candidates copy what they need.
        """
        copies = self.sources.copies
        weakref.finalize(self, copies.release)
        try:
            for one in parents:
                self._merges[0].keep(one if isinstance(one, OpenModel) else self.sources.open(one))
        except RuntimeError as error:
            copies.release()
            if not is_out_of_memory(error):
                raise
            log.warning("there is no room for the parents on %s after all: %s", self.device, str(error).splitlines()[0])
        return copies.n_bytes

    def write(self, recipe: Recipe) -> None:
        """Make `model` the model of a recipe.

        After an error the model may hold a mixture, which the next write repairs.

        Raises:
            RecipeError: if the recipe is wrong, or its result is not finite.
            CheckpointError: if its models cannot be read or do not fit together, or the layers of its path would
                compute something else in memory than in its folder.
        """
        self.recipe = None
        self.written = Written()
        changed = recipe.groups or recipe.parameters or recipe.builds_vocabulary
        if recipe.method != PASSTHROUGH or (not recipe.path and changed):
            model = self._merge(self.sources.plan(recipe)).model
        else:
            check_recipe(recipe)
            self.sources.check_tokens(recipe)
            path = bool(recipe.path)
            model = self._path(recipe) if path else self._parent(recipe.parents[0].source, recipe, 0).model
        self._lender = self.sources.tokenizer_of(recipe)
        # A path runs over its first parent's model, but may end its answers as another one does.
        model.generation_config = self._generation.of(self.sources.generation_of(recipe))
        self.model, self.recipe = model, recipe

    def _merge(self, plan: MergePlan) -> LiveModel:
        if not any(live.fits(plan.family) for live in self._merges):
            self.load(plan.recipe)
        live = next(live for live in self._merges if live.fits(plan.family))
        live.follow(plan)
        self.written += live.written
        return live

    def _path(self, recipe: Recipe) -> Any:
        if len(self.devices) > 1:
            raise CheckpointError(
                f"a layer path runs on one device, but this worker has {len(self.devices)}: the layers of a path may "
                "come in any order and more than once, so that no run of them belongs to a device"
            )
        compatible = self.compatible_parents(recipe)
        compatible.check_path(recipe.path)
        likes = {parent.name: self.sources.like(parent.source) for parent in recipe.parents}
        self.places.check(compatible, recipe.path, likes)
        self._drop_paths_beside(recipe)
        lenders = Lenders.of(recipe)
        used = {step.parent for step in recipe.path} | {recipe.parents[0].name, lenders.embeddings, lenders.head}
        # Before anything is written, since the plan finds mistakes in groups.
        changed = recipe.groups or recipe.parameters or recipe.builds_vocabulary
        scaled = self._scaled.of(self.sources.path_plan(recipe, fold=False)) if changed else {}
        before: Counter[int] = Counter()
        slots: dict[str, LiveModel] = {}
        for parent in recipe.parents:
            like = self.sources.like(parent.source)
            # A merge that the path does not use need not be computed, but it must be a correct recipe.
            if _merged(parent.source) and parent.name not in used:
                self.sources.plan(parent.source)
            slots[parent.name] = self._parent(parent.source, recipe, before[like.serial], write=parent.name in used)
            before[like.serial] += _merged(parent.source)
        key: Hashable = tuple((name, id(slot)) for name, slot in slots.items())
        if recipe.builds_vocabulary:  # its numbers of tokens, too, may be others
            key = (key, recipe.tokenizer, compatible.first.architecture.n_embeddings)
        if key not in self._paths:
            lives = {name: slot.model for name, slot in slots.items()}
            own = self.sources.like(recipe.parents[0].source)
            self._paths[key] = (frozenset(map(id, slots.values())), PathModel(compatible, lives, own))
        path = self._paths[key][1]
        path.follow(recipe.path, lenders, scaled)
        return path.model

    def compatible_parents(self, recipe: Recipe) -> CompatibleParents:
        """Return the parents of a path, in the vocabulary that it builds, opened and checked to fit together.

        Raises:
            CheckpointError: with every mismatch.
            RecipeError: if a parent is a recipe that is wrong.
        """
        if recipe.builds_vocabulary:
            return self.sources.compatible_parents(recipe)
        like = [(parent.name, self.sources.like(parent.source)) for parent in recipe.parents]
        key = tuple((name, opened.serial) for name, opened in like)
        return self._compatible.find(key, lambda: CompatibleParents(like))

    def _parent(self, source: ModelSource | Recipe, recipe: Recipe, nth: int, *, write: bool = True) -> LiveModel:
        """Return the live model of a parent, with the parent's weights.

        Args:
            source: the parent.
            recipe: the recipe to which the parent belongs.
            nth: how many merges of the same architecture precede it among the recipe's parents.
            write: whether to write the weights of a merge.
        """
        dtype = self._dtype or self._dtype_of(recipe.parents[0].source)
        key = (self.sources.like(source).serial, nth, dtype) if _merged(source) else (source, dtype)
        if key not in self._parents:
            like = self.sources.like(source)
            self._parents[key] = LiveModel(like, dtype=dtype, device=self.devices, sources=self.sources)
        slot = self._parents[key]
        rounded = self._rounded(source, recipe)
        wanted = source if _merged(source) else Recipe(PASSTHROUGH, (Parent("parent", source),))
        if write and (slot.recipe, slot.rounded) != (wanted, rounded):
            slot.write(wanted, rounded=rounded)
            self.written += slot.written
        elif write:
            self.written += slot.written.nothing
        return slot

    def _rounded(self, source: ModelSource | Recipe, recipe: Recipe) -> str | None:
        if recipe.dtype is not None:
            return recipe.dtype
        first, mine = self._dtype_of(recipe.parents[0].source), self._dtype_of(source)
        return None if mine == first else first

    def _dtype_of(self, source: ModelSource | Recipe) -> str | None:
        """Return the type of most values of a parent; None if evomerge does not write that type."""
        while isinstance(source, Recipe):
            if source.dtype is not None:
                return source.dtype
            source = self.sources.donor_of(source).source
        if source not in self._dtypes:
            mine = self.sources.open(source).dtype
            self._dtypes[source] = next((name for name, dtype in TORCH_DTYPES.items() if dtype == mine), None)
        return self._dtypes[source]

    def _drop_paths_beside(self, recipe: Recipe) -> None:
        """Release parents that are paths themselves, except this recipe's, since each holds weights of its own."""
        kept = {parent.source for parent in recipe.parents}
        gone = [key for key in self._parents if isinstance(key[0], Recipe) and key[0] not in kept]
        ids = {id(self._parents.pop(key)) for key in gone}
        self._paths = {key: path for key, path in self._paths.items() if not ids & path[0]}


def check_paths(
    live: LiveModels, parents: Sequence[Parent], dtype: str | None, tokenizer: TokenizerBuild | None = None
) -> None:
    """Make sure that layer paths over these parents compute what they should, before a search relies on it.

    What shows without weights is checked first, then a rehearsal with random tokens. The parents stay loaded.

    Args:
        live: the live models.
        parents: the parents of a path's recipe; the first lends embeddings and head.
        dtype: the recipe's dtype.
        tokenizer: how the recipe builds a vocabulary; None: it builds none.

    Raises:
        CheckpointError: with every reason why they do not.
        RecipeError: if a parent is a recipe that cannot be built.
    """
    first = parents[0].name
    every = Recipe(PASSTHROUGH, tuple(parents), path=(Step(first, 0),), dtype=dtype, tokenizer=tokenizer)
    # With another vocabulary it would not be the first parent that its layers are compared with.
    alone = every if tokenizer is None else replace(every, parents=every.parents[:1], tokenizer=None)
    compatible = live.compatible_parents(every)
    problems = [
        f"{name} ({one.label}): {problem}" for name, one in compatible.members for problem in live.places.problems(one)
    ]
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise CheckpointError(f"the layers of these models cannot run in another order:\n{lines}")
    whole = [Step(first, layer) for layer in range(compatible.n_layers[first])]
    foreign = [Step(parent.name, compatible.n_layers[parent.name] - 1) for parent in parents[1:]]
    mixed = [*whole, *foreign, whole[0], whole[-1]]
    n_tokens = min(one.config.vocab_size for one in (compatible.first, live.compatible_parents(alone).first))
    tokens = _random_tokens(n_tokens).to(live.device)

    def on(path: Sequence[Step], recipe: Recipe = every) -> Any:
        live.write(replace(recipe, path=tuple(path)))
        return live.model

    with torch.no_grad():
        as_path = _logits(on(whole, alone), tokens, first)
        live.write(Recipe(PASSTHROUGH, (parents[0],), dtype=dtype))
        if not torch.equal(_logits(live.model, tokens, first), as_path):
            raise CheckpointError(
                f"all layers of {first} in their order do not give what {first} itself gives, so its class keeps "
                f"something outside of its layers that a path cannot follow; {_INSTEAD}"
            )
        for path in (mixed, [*whole, whole[-1]], whole):
            model = on(path)
            full = _logits(model, tokens, first)
            # A strange path may exceed the range of half precision, which says nothing about its cache.
            if full.isfinite().all():
                _check_cache(model, tokens, full, first)
                break


def _check_cache(model: Any, tokens: torch.Tensor, full: torch.Tensor, name: str) -> None:
    cached = _logits(model, tokens, name, cut=tokens.shape[1] // 2).float()
    difference = float((cached - full.float()).abs().max() / full.float().abs().max())
    allowed = 1e-3 if full.dtype == torch.float32 else 0.1
    if not difference <= allowed:
        raise CheckpointError(
            f"a path over layers of {name} gives other logits with a cache than without (relative difference "
            f"{difference:.2g}, allowed {allowed:g}), so its layers share state that a path cannot follow; {_INSTEAD}"
        )


def _logits(model: Any, tokens: torch.Tensor, name: str, *, cut: int = 0) -> torch.Tensor:
    """Return `(batch, tokens, vocabulary)` logits, without a cache or with one that holds the tokens before `cut`."""
    try:
        if not cut:
            return model(tokens, use_cache=False).logits
        start = model(tokens[:, :cut], use_cache=True)
        rest = model(tokens[:, cut:], use_cache=True, past_key_values=start.past_key_values)
    except Exception as error:  # a class that was not made for this may fail in any way
        raise CheckpointError(
            f"a path over layers of {name} cannot be run: {type(error).__name__}: {error}; {_INSTEAD}"
        ) from error
    return torch.cat([start.logits, rest.logits], dim=1)


def _random_tokens(vocab_size: int) -> torch.Tensor:
    return torch.randint(vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))  # (batch, tokens)


def _merged(source: ModelSource | Recipe) -> TypeGuard[Recipe]:
    """Return whether a parent is a merge of weights, which has one place in memory whatever its parameters."""
    return isinstance(source, Recipe) and not source.path
