"""Opened models as they are with a common vocabulary, so that what merges them need not know of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch

from evomerge.errors import CheckpointError
from evomerge.merge.adapters.model import LayeredTensors, has_adapter
from evomerge.merge.cache import ParentCache
from evomerge.merge.files.belongings import GENERATION
from evomerge.merge.files.checkpoint import TensorInfo, TensorSource
from evomerge.merge.files.generation import generation_json
from evomerge.merge.files.model import OpenModel
from evomerge.merge.files.stored import release
from evomerge.merge.files.tokens import Tokens
from evomerge.merge.tokens.json_files import copy_processor, copy_tokenizer, extend_tokenizer
from evomerge.merge.tokens.numbers import Renumbering, renumbered_config
from evomerge.merge.tokens.output import Member, Output, make_output
from evomerge.merge.tokens.rows import RowOrder
from evomerge.recipe.tokenizer import TokenizerBuild
from evomerge.system.files import write_json


class RowTensors(LayeredTensors):
    """The tensors of an opened model, those with a row for each token in the order of another vocabulary.

    A tensor that is put in order a second time, in a search, stays in the parent cache as far as that has room.
    """

    mapped = False

    def __init__(self, index: int, models: Sequence[OpenModel], order: RowOrder, cache: ParentCache) -> None:
        """Take the models, of which this is the one with an index; nothing is read."""
        self.serial = -1
        self._model, self._index = models[index], index
        self._models, self._order, self._cache = models, order, cache
        self._loaded: set[str] = set()
        infos = self._model.tensors.infos
        targets = {name: self._model.naming.targets[name] for name in token_tensors(self._model)}
        self._targets = {
            each: target
            for name, target in targets.items()
            for each in (name, *self._model.naming.copies.get(name, ()))
        }
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(
            {
                name: replace(info, shape=(order.n_rows, *info.shape[1:])) if name in self._targets else info
                for name, info in infos.items()
            }
        )

    @property
    def adapted(self) -> bool:
        """See `LayeredTensors`."""
        return has_adapter(self._model)

    def below(self, name: str) -> tuple[OpenModel, str, None] | None:
        """See `LayeredTensors`."""
        return None if self.moved(name) else (self._model, name, None)

    def moved(self, name: str) -> bool:
        """Return whether a tensor is another one than the model's own: its rows are in another order, or more."""
        return name in self._targets and not self._order.unmoved(self._index, self._model.tensors.infos[name].shape[0])

    def load(self, name: str) -> torch.Tensor:
        """Return one tensor; do not change it.

        Raises:
            CheckpointError: if it cannot be read, or a tensor from which rows come holds NaN or Inf.
        """
        if not self.moved(name):
            return self._model.tensors.load(name)
        if self._cache.one_merge:
            made = self._put_in_order(name)
            release(self, name)
            return made
        if name not in self._loaded:
            self._loaded.add(name)
            return self._put_in_order(name)
        return self._cache.get(
            ("rows", name),
            lambda: self._put_in_order(name),
            lambda made: made.numel() * made.element_size(),
            what="embeddings in the order of the merge's vocabulary",
            models=(self.serial,),
            of_tensor=True,
        )

    def reads(self, name: str) -> list[tuple[TensorSource, str]]:
        """See `evomerge.merge.files.stored`."""
        found = [(self._model.tensors, name)]
        for index in self._order.givers(self._index) if self.moved(name) else ():
            own = self._own_name(index, name)
            if own is not None:
                found.append((self._models[index].tensors, own))
        return found

    def _own_name(self, index: int, name: str) -> str | None:
        """Return the name that another model has for a tensor with a row for each token; None: it has no such one."""
        model, places = self._models[index], _places(self._model, self._targets[name])
        return next((one for one, filled in model.naming.targets.items() if places & _places(model, filled)), None)

    def _put_in_order(self, name: str) -> torch.Tensor:
        def load(index: int) -> torch.Tensor:
            if index == self._index:
                return self._model.tensors.load(name)
            model, own = self._models[index], self._own_name(index, name)
            if own is None:
                target = self._targets[name]
                raise CheckpointError(f"{model.label} has no {target}, from which rows of {name} are to come")
            return model.load(own)

        return self._order.take(self._index, load)


def _places(model: OpenModel, target: str) -> set[str]:
    """Return the names that a parameter has in the language part of a model; tied parameters have several."""
    found = model.architecture
    return {place for name, place in found.language.names.items() if found.canonical[name] == target}


def has_moved_rows(model: OpenModel, name: str) -> bool:
    """Return whether a model is a view in which a tensor is another one than the model's own."""
    return isinstance(model.tensors, RowTensors) and model.tensors.moved(name)


def token_tensors(model: OpenModel) -> list[str]:
    """Return the names of a model's tensors with a row for each token: embedding and head, with its bias.

    Raises:
        CheckpointError: if there is none.
    """
    network, rows = model.architecture.model, model.architecture.n_embeddings
    modules = (network.get_input_embeddings(), network.get_output_embeddings())
    mine = {id(one) for module in modules if module is not None for one in module.parameters(recurse=False)}
    parameters = {
        model.architecture.canonical[name]
        for name, one in network.named_parameters(remove_duplicate=False)
        if id(one) in mine and one.shape[0] == rows
    }
    found = [name for name, target in model.naming.targets.items() if target in parameters]
    if not found:
        raise CheckpointError(f"{model.label} has no embedding of tokens whose rows could be put in another order")
    return found


def _check_rows(model: OpenModel, view: OpenModel) -> None:
    """Check that a model's class takes the number of rows, and that no other tensor has a row for each token.

    Raises:
        CheckpointError: if it does not.
    """
    before, after = model.architecture, view.architecture
    mine = {model.naming.targets[name] for name in token_tensors(model)}
    others = [
        name
        for name, shape in after.shapes.items()
        if before.canonical[name] not in mine and before.shapes[name] != shape
    ]
    text = model.config.get_text_config(decoder=True)
    more = [key for key in vars(text) if key.startswith("vocab_size_")]
    if others or more:
        raise CheckpointError(
            f"{(others or more)[0]} of {model.label} is about tokens, too, and cannot be put in another order; let "
            "`tokenizer` name a model"
        )


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary that was built: its tokens, the rows of the models in its order, and the folder of its tokenizer."""

    output: Output
    order: RowOrder
    tokenizer: Path


class CommonVocabulary:
    """The models of a recipe with one vocabulary.

    Attributes:
        views: the models in this vocabulary, in the given order; a model that comes twice has one view.
        warnings: what users should know.
    """

    def __init__(
        self,
        build: TokenizerBuild,
        models: Sequence[tuple[str, OpenModel, Tokens | None]],
        lender: int,
        base: int | None,
        folder: Path,
        cache: ParentCache,
        find: Callable[[Hashable, Callable[[], Vocabulary]], Vocabulary],
    ) -> None:
        """Build the vocabulary and its tokenizer; no weights are read.

        Args:
            build: what the recipe says.
            models: name, model and tokens of each member; None: it has no tokenizer.
            lender: index of the one whose tokenizer is taken or extended.
            base: index of the base; None: there is none.
            folder: an empty folder for the files of the tokenizer.
            cache: where rows in order are kept.
            find: returns what is known by a key, or makes it: models that change may have the same tokenizers.

        Raises:
            CheckpointError: with every reason why it cannot be built.
        """
        members = _members(models)
        self._models = [model for _, model, _ in models]
        self._cache, self._folder = cache, folder
        same = [next(j for j, one in enumerate(self._models) if one is model) for model in self._models]

        def make() -> Vocabulary:
            output = make_output(build, members, lender)
            order = RowOrder(build, output, members, same, base)
            return Vocabulary(output, order, self._write_tokenizer(members[lender], self._models[lender], output))

        told = tuple((one.name, one.folder, one.n_rows) for one in members)
        key = (build, told, tuple(same), lender, base, self._models[lender].trust_remote_code)
        found = find(key, make)
        self.output, self._order, self._tokenizer = found.output, found.order, found.tokenizer
        self.warnings = [*self.output.warnings, *self._order.warnings]
        self._lost: dict[int, tuple[str, ...]] = {}
        views = [self._view(i, members[i]) if same[i] == i else None for i in range(len(members))]
        self.views: list[OpenModel] = [view for i in same if (view := views[i]) is not None]

    def lost_by_others(self, index: int) -> list[str]:
        """Return the settings of a model that name a token which there is no more, and that its language part lacks."""
        config = self._models[index].config
        mine = vars(config.get_text_config())
        first = next(i for i, model in enumerate(self._models) if model is self._models[index])
        return [key for key in self._lost[first] if key in vars(config) and key not in mine]

    def _write_tokenizer(self, own: Member, model: OpenModel, output: Output) -> Path:
        if not output.cut and not output.added:
            return own.folder
        folder = self._folder / "tokenizer"
        folder.mkdir()
        copy_tokenizer(own.folder, folder, code=model.trust_remote_code)
        if model.has_other_parts:
            copy_processor(model.folder, folder)
        extend_tokenizer(folder, own, output)
        return folder

    def _view(self, index: int, member: Member) -> OpenModel:
        model = self._models[index]
        renumbering = Renumbering(member.tokens.ids, self.output.ids)
        tensors = RowTensors(index, self._models, self._order, self._cache)
        view = OpenModel(
            label=model.label,
            config=renumbered_config(model.config, renumbering, self.output.n_rows),
            tensors=tensors,
            folder=model.folder,
            tokenizer_folder=self._tokenizer,
            generation_folder=self._generation(index, model, renumbering),
            trust_remote_code=model.trust_remote_code,
        )
        tensors.serial = view.serial
        self._cache.forget_with(view, view.serial)
        if view.architecture.n_embeddings != self.output.n_rows:
            raise CheckpointError(
                f"{model.label} cannot have {self.output.n_rows} rows: its class makes an embedding of "
                f"{view.architecture.n_embeddings}"
            )
        _check_rows(model, view)
        self._lost[index] = tuple(renumbering.lost)
        self.warnings += [
            f"{key} of {member.name} is {number}, a token that the merge's vocabulary does not have; it is left out"
            for key, number in renumbering.lost.items()
        ]
        return view

    def _generation(self, index: int, model: OpenModel, renumbering: Renumbering) -> Path:
        """Return a folder with a model's generation config in this vocabulary."""
        before = generation_json(model.generation_folder)
        after = renumbering.data(before)
        if after == before:
            return model.generation_folder
        folder = self._folder / f"generation-{index}"
        folder.mkdir()
        write_json(folder / GENERATION, after)
        return folder


def _members(models: Sequence[tuple[str, OpenModel, Tokens | None]]) -> list[Member]:
    without = [f"{name} ({model.label})" for name, model, tokens in models if tokens is None]
    if without:
        raise CheckpointError(
            f"{', '.join(without)} has no tokenizer that can be read, so nobody knows what the rows of its embedding "
            "stand for; add one to its folder, or let `tokenizer` name a model"
        )
    return [
        Member(name, model.label, model.tokenizer_folder, tokens, model.architecture.n_embeddings or 0)
        for name, model, tokens in models
        if tokens is not None
    ]


def with_tokenizer(model: OpenModel, folder: Path) -> OpenModel:
    """Return an opened model whose tokenizer is that of another folder."""
    return OpenModel(
        label=model.label,
        config=model.config,
        tensors=model.tensors,
        folder=model.folder,
        tokenizer_folder=folder,
        generation_folder=model.generation_folder,
        trust_remote_code=model.trust_remote_code,
    )
