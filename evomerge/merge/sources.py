"""The models that recipes name, each opened once and kept: checkpoints, and recipes as parents of recipes."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch

from evomerge.errors import CheckpointError, RecipeError
from evomerge.merge.adapters.model import open_adapter
from evomerge.merge.adapters.names import adapter_of, base_of
from evomerge.merge.apply import merge_tensor
from evomerge.merge.cache import Latest, ParentCache, budget_bytes
from evomerge.merge.equality import equal_parents
from evomerge.merge.family import Family, find_donor
from evomerge.merge.files.architecture import Architecture
from evomerge.merge.files.belongings import processor_files
from evomerge.merge.files.checkpoint import TensorInfo, TensorSource
from evomerge.merge.files.code_words import other_code
from evomerge.merge.files.device_copies import DeviceCopies
from evomerge.merge.files.hub import HubModel
from evomerge.merge.files.kept import KeptTensors, Room
from evomerge.merge.files.locate import locate_any
from evomerge.merge.files.model import OpenModel, open_checkpoint
from evomerge.merge.files.stored import release
from evomerge.merge.paths.compatible import CompatibleParents
from evomerge.merge.paths.ends import Lenders
from evomerge.merge.paths.placed import changed_layers
from evomerge.merge.paths.plan import PathPlan, make_path_plan
from evomerge.merge.plan import MergePlan, check_recipe, make_plan
from evomerge.merge.tokens.json_files import copy_processor, copy_tokenizer, write_templates
from evomerge.merge.tokens.templates import BUILT_IN, DEFAULT, read_templates
from evomerge.merge.tokens.view import CommonVocabulary, Vocabulary, with_tokenizer
from evomerge.merge.vocabulary import Vocabularies, row_givers
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe, TokenizerBuild
from evomerge.recipe.tokenizer import AUTO, BASE_NAME
from evomerge.system.leftovers import scratch_folder

log = logging.getLogger(__name__)


class RecipeTensors:
    """The tensors of a recipe, which are computed when they are read; their bytes are those of a merge to disk."""

    mapped = False

    def __init__(self, plan: MergePlan) -> None:
        self._plan = plan
        self._tasks = {task.name: task for task in plan.tasks}
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(
            {task.name: TensorInfo(task.tensor.info.shape, task.dtype) for task in plan.tasks}
        )

    def reads(self, name: str) -> list[tuple[TensorSource, str]]:
        """See `evomerge.merge.files.stored`."""
        found = [self._plan.family.source(index, name) for index in self._tasks[name].members]
        return [(model.tensors, own) for model, own in found]

    def load(self, name: str) -> torch.Tensor:
        """Compute one tensor."""
        made = merge_tensor(self._plan, self._tasks[name])
        if self._plan.family.parent_cache.one_merge:
            release(self, name)
        return made


class PathTensors:
    """The tensors of an unrolled path, which are computed when they are read; their bytes are those on disk."""

    mapped = False

    def __init__(self, plan: PathPlan) -> None:
        self._plan = plan
        self._tasks = {task.name: task for task in plan.tasks}
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(
            {task.name: TensorInfo(task.info.shape, task.dtype) for task in plan.tasks}
        )

    def load(self, name: str) -> torch.Tensor:
        """Compute one tensor."""
        return self._plan.load(self._tasks[name])

    def reads(self, name: str) -> list[tuple[TensorSource, str]]:
        """See `evomerge.merge.files.stored`."""
        task = self._tasks[name]
        return [(self._plan.compatible.model(task.parent).tensors, task.source)]


class Sources:
    """Opens models, plans merges, and shares opened models among recipes.

    Checkpoints stay open (memory-mapped). Of recipes that are parents, and of families of models that fit together,
    only the latest few stay (`evomerge.merge.cache.KEPT`), so that the memory of a search that breeds recipes from
    recipes does not grow; others are opened again when they are needed, with the same bytes.

    It is not for use by several threads at once.

    Attributes:
        parent_cache: what was found about the models.
        copies: copies of the models' tensors that stay on devices; see `LiveModels.keep`.
        vocabularies: the models' tokenizers, compared.
        warnings: what users should know about the models, in order and without repeats.
        pins: the commits of models of the Hub that are named otherwise elsewhere: by a branch, or by nothing.
    """

    def __init__(
        self,
        *,
        cache: str | float = "auto",
        tell: bool = True,
        keep: bool = False,
        one_merge: bool = False,
        pins: Mapping[ModelSource, ModelSource] | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            cache: the memory for the parent cache: "none", "auto" or GiB; see `budget_bytes`.
            one_merge: whether they serve a single merge to disk; see `ParentCache`.
            tell: whether `warnings` go to the log, each once; if not, the caller tells them.
            keep: whether weights that are dequantised as they are read stay in memory, as many as `cache` allows: for
                many merges of the same models, of which each tensor is read once each.
            pins: see `pins`.

        Raises:
            RecipeError: if the setting is none of these.
        """
        self.parent_cache = ParentCache(cache, one_merge=one_merge)
        self.copies = DeviceCopies()
        self.warnings: dict[str, None] = {}
        self.vocabularies = Vocabularies(warnings=self.warnings)
        self.pins = MappingProxyType(dict(pins or {}))
        self._tell = tell
        self._told: set[str] = set()
        self._room = Room(budget_bytes(cache)) if keep else None
        self._checkpoints: dict[ModelSource, OpenModel] = {}
        self._folders: dict[tuple[Path, ModelSource], OpenModel] = {}
        self._recipes: Latest[ModelSource | Recipe, OpenModel] = Latest()
        self._families: Latest[Hashable, Family] = Latest()
        self._compatible: Latest[Hashable, CompatibleParents] = Latest()
        self._equal: Latest[tuple[tuple[int, ...], int], Mapping[str, frozenset[int]]] = Latest()
        self._built: Latest[Hashable, Vocabulary] = Latest()
        self._templates: dict[Path, Mapping[str, str]] = {}
        self._with_templates: dict[tuple[Path, bool, Path | None, str], Path] = {}
        self._stack = contextlib.ExitStack()
        weakref.finalize(self, self._stack.close)
        self._scratch: Path | None = None
        self._n_folders = 0

    def open(self, source: ModelSource | Recipe) -> OpenModel:
        """Return a checkpoint or a recipe as an opened model; no weights are read.

        Raises:
            CheckpointError: if a checkpoint is missing, unreadable, or does not fit the others of its recipe.
            RecipeError: if a recipe is wrong.
        """
        if isinstance(source, Recipe):
            return self._recipes.find(source, lambda: self._open_recipe(source))
        if source not in self._checkpoints:
            adapter = adapter_of(source)
            if adapter is None:
                self._checkpoints[source] = self._open_checkpoint(source)
            else:
                self._checkpoints[source] = open_adapter(source, self._open_base(source), locate_any(adapter))
        return self._checkpoints[source]

    @property
    def arriving(self) -> list[tuple[HubModel, str]]:
        """The opened models of the Hub whose weights are not here yet, each with the type of its values."""
        return [
            (model, str(one.dtype).removeprefix("torch."))
            for one in self._checkpoints.values()
            for model in getattr(one.tensors, "arriving", ())
        ]

    @property
    def checkpoints(self) -> Mapping[ModelSource, OpenModel]:
        """The opened checkpoints."""
        return MappingProxyType(self._checkpoints)

    def _open_checkpoint(self, source: ModelSource) -> OpenModel:
        """Open a checkpoint, or return it if it is open under another name: adapters may spell their base otherwise."""
        opened = open_checkpoint(source)
        if self._room is not None and getattr(opened.tensors, "dequantises", False):
            opened.tensors = KeptTensors(opened.tensors, self._room)
        key = (opened.folder.resolve(), replace(source, path="", revision=None, adapter=None, adapter_revision=None))
        return self._folders.setdefault(key, opened)

    def _open_base(self, source: ModelSource) -> OpenModel:
        """Open the model below an adapter."""
        if source.adapter == source.path:  # a folder that holds both
            return self._open_checkpoint(source)
        below = base_of(source)
        if adapter_of(below) is not None:
            raise CheckpointError(
                f"{source.label} is an adapter on the adapter {below.label}; merge that into its base"
            )
        return self.open(below)

    def like(self, source: ModelSource | Recipe) -> OpenModel:
        """Return an opened model with the architecture (and depth) of a source, without planning a merge for it.

        A search changes the parameters of a merge with every candidate, but its architecture stays the same.

        Raises:
            CheckpointError, RecipeError: as `open`.
        """
        if isinstance(source, Recipe) and not source.path:
            if source.builds_vocabulary:
                family = self.family(source)
                return family.model(family.donor)
            return self.like(self.donor_of(source).source)
        return self.open(source)

    def donor_of(self, recipe: Recipe) -> Parent:
        """Return the member that lends a recipe's result its configuration; see `evomerge.merge.family.find_donor`.

        Raises:
            CheckpointError, RecipeError: as `open`, if the member itself cannot be opened.
        """
        if recipe.path:
            return recipe.parents[0]
        first = recipe.donor
        if recipe.vision is not None:
            return first
        for member in (first, *(one for one in recipe.parents if one is not first)):
            # Others that cannot be opened are reported together with all that is wrong with the recipe's models.
            with contextlib.nullcontext() if member is first else contextlib.suppress(CheckpointError, RecipeError):
                if self.like(member.source).has_other_parts:
                    return member
        return first

    def plan(self, recipe: Recipe) -> MergePlan:
        """Return the plan of a recipe without a path, checked against its models; no weights are read.

        Raises:
            RecipeError: with every mistake of the recipe itself.
            CheckpointError: with every model that cannot be opened, every mismatch between the models, or every one
                between their tokenizers and the rows of their embeddings.
            ValueError: if the recipe has a path, for which `path_plan` is.
        """
        if recipe.path:
            raise ValueError("a recipe with a layer path merges no tensors; ask for its path_plan")
        methods = check_recipe(recipe)  # before models are opened
        plan = make_plan(recipe, methods, self.family(recipe))
        members = plan.family.members
        self._check_tokens(recipe, [members[index] for index in row_givers(plan)], plan.family.architecture)
        return plan

    def path_plan(self, recipe: Recipe, *, fold: bool = True) -> PathPlan:
        """Return the plan of a recipe with a path, checked against its models; no weights are read.

        Args:
            recipe: the recipe.
            fold: whether its tensors carry the scales of the path's inputs.

        Raises:
            RecipeError: with every mistake of the recipe itself.
            CheckpointError: with every model that cannot be opened, every mismatch between the models, every missing
                layer, or the reason why scales cannot be folded into this architecture.
        """
        check_recipe(recipe)
        self.check_tokens(recipe)
        return make_path_plan(recipe, self.compatible_parents(recipe), fold=fold)

    def warn_of_places(self, recipe: Recipe) -> None:
        """Warn if the class of a path's folder makes something else of a layer than its parent's, as it may.

        Raises:
            CheckpointError, RecipeError: as `path_plan`.
        """
        built, compatible = self.open(recipe).architecture, self.compatible_parents(recipe)
        for text in changed_layers(compatible, recipe.path, built, in_memory=False):
            self.warnings[f"a layer of the path computes what its class decides by place: {text}"] = None
        self._warn()

    def compatible_parents(self, recipe: Recipe) -> CompatibleParents:
        """Return the parents of a recipe with a path, in the vocabulary that it builds, checked to fit into one model.

        Raises:
            CheckpointError: with every model that cannot be opened, every mismatch between the models, or every reason
                why the vocabulary cannot be built.
        """
        key = (recipe.parents, recipe.tokenizer if recipe.builds_vocabulary else None)
        return self._compatible.find(key, lambda: self._open_compatible(recipe))

    def _open_compatible(self, recipe: Recipe) -> CompatibleParents:
        opened = self._open_all(recipe.parents, None)
        if isinstance(recipe.tokenizer, TokenizerBuild):
            opened = self._in_one_vocabulary(recipe, recipe.tokenizer, opened)
        found = CompatibleParents([(parent.name, one) for parent, one in zip(recipe.parents, opened, strict=True)])
        self._compare_code(found.members, found.members[0])
        return found

    def _compare_code(self, members: Sequence[tuple[str, OpenModel]], donor: tuple[str, OpenModel]) -> None:
        """Warn of models with custom code that differs from the code that the result will have."""
        for name, model in members:
            files = other_code(model.architecture.model, donor[1].architecture.model)
            if files:
                self.warnings[
                    f"{name} and {donor[0]} come with different code ({', '.join(files)}); the result has {donor[0]}'s"
                ] = None
        self._warn()

    def _warn(self) -> None:
        for text in self.warnings if self._tell else ():
            if text not in self._told:
                self._told.add(text)
                log.warning("%s", text)

    def family(self, recipe: Recipe) -> Family:
        """Return the parents and the base of a recipe, checked to fit together.

        Raises:
            CheckpointError: with every model that cannot be opened, or every mismatch between the models.
        """
        members = recipe.parents if recipe.base is None else (*recipe.parents, recipe.base)
        for member in members:  # a recipe stays open as long as its family is used
            self._recipes.use(member.source)
        key = (*recipe.parents, recipe.base, recipe.tokenizer if recipe.builds_vocabulary else None, recipe.vision)
        return self._families.find(key, lambda: self._open_family(recipe))

    def equal_parents(self, recipe: Recipe, reference: int) -> Mapping[str, frozenset[int]]:
        """Return each tensor's name in the result to the parents whose values equal those of a reference.

        Weights are read as far as they are equal; for the same models, only once.

        Args:
            recipe: a recipe without a path.
            reference: index of a member of its family: `BASE` or 0.

        Raises:
            CheckpointError: as `family`, or if a tensor cannot be read.
        """
        family = self.family(recipe)
        serials = tuple(model.serial for _, model in family.members)
        return self._equal.find((serials, reference), lambda: equal_parents(family, reference))

    def _open_family(self, recipe: Recipe) -> Family:
        opened = self._open_all(recipe.parents, recipe.base)
        if isinstance(recipe.tokenizer, TokenizerBuild):
            opened = self._in_one_vocabulary(recipe, recipe.tokenizer, opened)
        named = [(parent.name, model) for parent, model in zip(recipe.parents, opened, strict=False)]
        base = opened[-1] if recipe.base is not None else None
        family = Family(named, base, self.parent_cache, self.copies, vision=recipe.vision)
        self.warnings.update(dict.fromkeys(family.warnings))
        self._warn()
        self._compare_code(family.members, family.members[family.donor])
        return family

    def _in_one_vocabulary(self, recipe: Recipe, build: TokenizerBuild, opened: list[OpenModel]) -> list[OpenModel]:
        """Return the opened members of a recipe with the vocabulary that it builds."""
        names = [member.name for member in recipe.parents] + [BASE_NAME] * (recipe.base is not None)
        base = len(names) - 1 if recipe.base is not None else None
        named = list(zip(names, opened, strict=True))
        donor = find_donor(recipe.vision, named[: len(recipe.parents)], None if base is None else opened[base])
        donor %= len(names)
        lender = donor
        if build.lender is not None:
            lender = base if build.lender == BASE_NAME and base is not None else names.index(build.lender)
        models = [(name, one, self.vocabularies.of(one)) for name, one in zip(names, opened, strict=True)]
        made = CommonVocabulary(build, models, lender, base, self._folder(), self.parent_cache, self._built.find)
        read = self.vocabularies.of(made.views[lender])
        if read is None or dict(read.ids) != dict(made.output.ids):
            raise CheckpointError(
                f"transformers reads the tokenizer of {names[lender]}, with the tokens of the others, with other "
                "numbers than it was given; take the tokens of one model with {source: base}, or {source: NAME}"
            )
        self.warnings.update(dict.fromkeys(made.warnings))
        self._warn()
        if opened[donor].has_other_parts and made.lost_by_others(donor):
            raise CheckpointError(
                f"{names[donor]} ({opened[donor].label}) marks the places of images with tokens that the merge's "
                f"vocabulary would not have ({', '.join(made.lost_by_others(donor))}); take {{source: union}}, or "
                f"{{source: {names[donor]}}}"
            )
        return made.views

    def _folder(self) -> Path:
        """Return a new empty folder that is there as long as these sources."""
        if self._scratch is None:
            self._scratch = self._stack.enter_context(scratch_folder("evomerge-tokenizers-"))
        self._n_folders += 1
        folder = self._scratch / str(self._n_folders)
        folder.mkdir()
        return folder

    def _open_all(self, parents: tuple[Parent, ...], base: Parent | None) -> list[OpenModel]:
        """Return the parents, then the base, opened; one error names all that cannot be opened."""
        opened: list[OpenModel] = []
        problems = []
        for member in parents if base is None else (*parents, base):
            try:
                opened.append(self.open(member.source))
            except CheckpointError as error:
                problems.append(f"{'base' if member is base else f'parent {member.name!r}'}: {error}")
        if problems:
            raise CheckpointError(
                problems[0]
                if len(problems) == 1
                else "\n".join([f"{len(problems)} models cannot be used:", *(f"  - {one}" for one in problems)])
            )
        return opened

    def check_tokens(self, recipe: Recipe) -> None:
        """Check that the models of a recipe agree in their tokens, as far as they give rows, and have a row for each.

        Raises:
            RecipeError: if the recipe is wrong.
            CheckpointError: with every mismatch.
        """
        if recipe.method != PASSTHROUGH or not recipe.path:
            self.plan(recipe)
            return
        lenders = Lenders.of(recipe)
        if recipe.builds_vocabulary:
            compatible = self.compatible_parents(recipe)
            views = [one for one in compatible.members if one[0] in (lenders.embeddings, lenders.head)]
            self._check_tokens(recipe, views, compatible.first.architecture)
            return
        givers = {}
        for parent in recipe.parents:
            if parent.name in (lenders.embeddings, lenders.head):
                inner = parent.source
                givers[parent.name] = self.tokenizer_of(inner) if isinstance(inner, Recipe) else self.open(inner)
        self._check_tokens(recipe, list(givers.items()), self.like(recipe.parents[0].source).architecture)

    def _check_tokens(self, recipe: Recipe, givers: list[tuple[str, OpenModel]], architecture: Architecture) -> None:
        lender = recipe.tokenizer_lender or self.donor_of(recipe).name
        model = self._lender(recipe, lambda one: one.tokenizer_lender)
        self.vocabularies.check(givers, (lender, model), architecture.n_embeddings)
        self._warn()

    def tokenizer_of(self, recipe: Recipe) -> OpenModel:
        """Return the model whose tokenizer (`tokenizer_folder`) the recipe's result carries."""
        lender = self._lender(recipe, lambda one: one.tokenizer_lender)
        templates = None if recipe.chat_template is None else self._templates_of(recipe)
        processor = self._processor_of(recipe, lender)
        if templates is None and processor is not None and not lender.has_other_parts:
            templates = self._templates_in(processor)  # one that knows of images
        if templates is None or templates == self._templates_in(lender.tokenizer_folder):
            if processor is None:
                return lender
            templates = None
        # By its folder, since a lender that is a recipe is another model with every candidate.
        said = "" if templates is None else repr(sorted(templates.items()))
        key = (lender.tokenizer_folder, lender.trust_remote_code, processor, said)
        if key not in self._with_templates:
            folder = self._folder()
            copy_tokenizer(lender.tokenizer_folder, folder, code=lender.trust_remote_code)
            if processor is not None:
                copy_processor(processor, folder)
            if templates is not None:
                write_templates(folder, templates)
            self._with_templates[key] = folder
        return with_tokenizer(lender, self._with_templates[key])

    def _processor_of(self, recipe: Recipe, lender: OpenModel) -> Path | None:
        """Return the folder whose files say how images are read; None: the tokenizer's lender has the right ones.

        They belong to the vision part, whoever lends the tokenizer.
        """
        if recipe.path:
            return None
        family = self.family(recipe)
        donor = family.model(family.donor)
        if not donor.has_other_parts or processor_files(donor.folder) == processor_files(lender.tokenizer_folder):
            return None
        return donor.folder

    def _templates_in(self, folder: Path) -> Mapping[str, str]:
        """Return the chat templates of a folder, which is read once."""
        if folder not in self._templates:
            self._templates[folder] = read_templates(folder)
        return self._templates[folder]

    def _templates_of(self, recipe: Recipe) -> Mapping[str, str] | None:
        """Return the chat templates that a recipe asks for, by name; None: those of its tokenizer."""
        said = recipe.chat_template
        assert said is not None  # callers have looked
        members = {member.name: member for member in recipe.parents}
        if recipe.base is not None:
            members.setdefault(BASE_NAME, recipe.base)
        if said in members:
            return self._own_templates(members[said])
        if said != AUTO:
            return {DEFAULT: BUILT_IN.get(said, said)}
        each = [found for parent in recipe.parents if (found := self._own_templates(parent))]
        if not each and recipe.base is not None:
            each = [found for found in (self._own_templates(recipe.base),) if found]
        if not each:
            self.warnings["chat_template is auto, but no model of the merge has a chat template"] = None
            self._warn()
            return None
        counts = Counter(repr(sorted(found.items())) for found in each)
        most = max(counts.values())
        return next(found for found in each if counts[repr(sorted(found.items()))] == most)

    def _own_templates(self, member: Parent) -> Mapping[str, str]:
        source = member.source
        model = self.tokenizer_of(source) if isinstance(source, Recipe) else self.open(source)
        return self._templates_in(model.tokenizer_folder)

    def generation_of(self, recipe: Recipe) -> OpenModel:
        """Return the model whose generation config (`generation_folder`) the recipe's result carries.

        Without a word of the recipe it is the model that lends the tokenizer: the chat template says which token ends a
        turn, and the generation config that this token ends an answer.
        """
        return self._lender(recipe, lambda one: one.generation_config or one.tokenizer_lender)

    def _lender(self, recipe: Recipe, name_in: Callable[[Recipe], str | None]) -> OpenModel:
        """Return the member that a recipe names (None: its donor); `name_in` finds the name."""
        name = name_in(recipe)
        if recipe.path:  # its parents may differ in depth, and so be no family
            chosen = next((parent for parent in recipe.parents if parent.name == name), recipe.parents[0])
            if recipe.builds_vocabulary:
                return self.compatible_parents(recipe).model(chosen.name)
            inner = chosen.source
            return self._lender(inner, name_in) if isinstance(inner, Recipe) else self.open(inner)
        family = self.family(recipe)
        named = {parent.name: i for i, parent in enumerate(recipe.parents)}
        return family.model(family.donor if name is None else named.get(name, family.donor))

    def _open_recipe(self, recipe: Recipe) -> OpenModel:
        if recipe.path:
            return self._open_path(recipe)
        plan = self.plan(recipe)
        donor = plan.family.model(plan.family.donor)
        opened = OpenModel(
            label=f"recipe {recipe.content_hash[:12]} ({recipe.method})",
            config=donor.config,
            tensors=RecipeTensors(plan),
            folder=donor.folder,
            tokenizer_folder=self.tokenizer_of(recipe).tokenizer_folder,
            generation_folder=self.generation_of(recipe).generation_folder,
            trust_remote_code=donor.trust_remote_code,
            architecture=donor.architecture,
        )
        self.parent_cache.forget_with(opened, opened.serial)
        return opened

    def _open_path(self, recipe: Recipe) -> OpenModel:
        plan = self.path_plan(recipe)
        first = plan.compatible.first
        opened = OpenModel(
            label=f"recipe {recipe.content_hash[:12]} (a path of {len(recipe.path)} layers)",
            config=plan.config,
            tensors=PathTensors(plan),
            folder=first.folder,
            tokenizer_folder=self.tokenizer_of(recipe).tokenizer_folder,
            generation_folder=self.generation_of(recipe).generation_folder,
            trust_remote_code=first.trust_remote_code,
            advice="; this configuration cannot say that layers of other kinds stand at these depths, so a path must "
            "keep its pattern",
        )
        self.parent_cache.forget_with(opened, opened.serial)
        return opened
