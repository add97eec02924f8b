"""A recipe as a mergekit file, so that mergekit builds the same tensors, up to the rounding of its arithmetic.

A recipe whose parents are recipes becomes several merges in one file, for `mergekit-multi`; stacks of layers that are
merged with each other become slices with several sources.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evomerge.errors import RecipeError
from evomerge.interop.mergekit.models import Models, Source
from evomerge.interop.mergekit.settings import SettingsWriter, SliceSettings
from evomerge.interop.mergekit.vocabulary import METHODS, RANDOM, BaseUse, MethodWords
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe, TokenizerBuild
from evomerge.recipe.tokenizer import BASE_NAME, ModelToken, models_named
from evomerge.system.yaml_text import Inline, write_yaml


@dataclass(frozen=True)
class MergekitFile:
    """A recipe in mergekit's words.

    Attributes:
        text: the file; empty if there are problems.
        problems: what mergekit cannot express, one sentence each.
        notes: what will differ all the same, one sentence each; the file says so, too.
    """

    text: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def write_mergekit(recipe: Recipe, *, places: Mapping[ModelSource, ModelSource] | None = None) -> MergekitFile:
    """Return a recipe as a mergekit file. Configurations and headers of models are read, no tensors.

    Args:
        recipe: a recipe.
        places: what the file says in place of models, for example of folders of this machine.
    """
    writer = _Writer({} if places is None else places)
    writer.document(recipe, None, "")
    problems = tuple(dict.fromkeys(writer.problems))
    if problems:
        return MergekitFile("", problems, tuple(writer.notes))
    command = "mergekit-yaml FILE DIR"
    if len(writer.documents) > 1:
        command = "mergekit-multi FILE --intermediate-dir PARTS --out-path DIR"
    if any(source.trust_remote_code for source in recipe.checkpoints()):
        command += " --trust-remote-code"
    head = "".join(f"# {line}\n" for line in (command, *writer.notes))
    return MergekitFile(head + "---\n".join(write_yaml(one) for one in writer.documents), (), tuple(writer.notes))


@dataclass
class _Runs:
    """Where the layers of a member come from: a model, and layers of it by their index in the result."""

    references: list[Any]
    layers: list[int]
    embeddings: Any = None
    head: Any = None


@dataclass
class _Writer:
    places: Mapping[ModelSource, ModelSource]
    documents: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._models = Models()
        self._stages: dict[Recipe, str] = {}

    def document(self, recipe: Recipe, name: str | None, where: str) -> None:
        """Add the merges of a recipe, those of its parents first."""
        found = [words for words in METHODS.values() if words.ours == recipe.method]
        if not found:
            self._cannot(where, f"mergekit has no method {recipe.method}")
        others = [method for method in recipe.methods if method != recipe.method]
        if others:
            self._cannot(where, f"mergekit has one method in a merge, but groups have {', '.join(others)}")
        if not found or others:
            self._lent(recipe, where)
            for member in recipe.members:
                self._reference(member, where)  # for what is wrong with each of them
            return
        words = found[0]
        data: dict[str, Any] = {} if name is None else {"name": name}
        if words.theirs in RANDOM:
            note = "mergekit draws other random masks: shares and means agree, single entries do not"
            self.notes += [] if note in self.notes else [note]
        self._lent(recipe, where)
        settings = SettingsWriter(recipe, words, self._models, where, self.problems)
        if recipe.method == PASSTHROUGH:
            data |= self._passthrough(recipe, settings, where)
        else:
            data |= self._merge(recipe, words, settings, where)
        data["merge_method"] = words.theirs
        data |= self._base(recipe, words)
        if not self.problems:
            data |= self._types(recipe) | self._tokens(recipe)
        self.documents.append(data)

    # Members

    def _reference(self, parent: Parent, where: str) -> Any:
        """Return a model as mergekit names it: "path", "path@revision", a mapping, or the name of another merge."""
        source = parent.source
        if isinstance(source, Recipe):
            if source not in self._stages:
                self._stages[source] = self._stage_name(parent.name)
                self.document(source, self._stages[source], f"{where}{parent.name}: ")
            return self._stages[source]
        source = self.places.get(source, source)
        if source.path.startswith("zoo:"):
            self._cannot(where, f"{parent.name} is {source.path}, a name that only evomerge knows: give a folder with "
                                "its files")  # fmt: skip
        if source.file is not None:
            self._cannot(
                where, f"{parent.name} is the file {source.file} of {source.path}, which mergekit does not read"
            )
        if source.adapter is None and (Path(source.path).expanduser() / "adapter_config.json").is_file():
            self._cannot(where, f"{parent.name} is an adapter whose model it names itself; mergekit needs both: write "
                                f"{{path: MODEL, adapter: {source.path}}}")  # fmt: skip
        return _spelled(source)

    def _stage_name(self, wanted: str) -> str:
        wanted = re.sub(r"[^A-Za-z0-9_.-]+", "_", wanted).lstrip(".") or "part"
        name, n = wanted, 2
        while name in self._stages.values() or Path(name).exists():  # it would be taken for the folder
            name, n = f"{wanted}_{n}", n + 1
        return name

    def _runs(self, parent: Parent, n_layers: int, where: str) -> _Runs:
        source = parent.source
        if _is_stack(source):
            assert isinstance(source, Recipe)
            self._check_stack(source, f"{where}{parent.name}: ")
            of = {one.name: self._reference(one, f"{where}{parent.name}: ") for one in source.parents}
            return _Runs([of[step.parent] for step in source.path], [step.layer for step in source.path])
        return _Runs([self._reference(parent, where)] * n_layers, list(range(n_layers)))

    def _check_stack(self, recipe: Recipe, where: str) -> None:
        for step in recipe.path:
            if step.scale != 1.0:
                self._cannot(where, f"mergekit's layers have no input scale, but {step.parent} layer {step.layer} has "
                                    f"{step.scale:g}")  # fmt: skip
        first = recipe.parents[0].name
        embeddings, head = recipe.embeddings or first, recipe.head or first
        start, end = recipe.path[0].parent, recipe.path[-1].parent
        if start != embeddings:
            self._cannot(where, f"mergekit takes the embeddings from the first step's model, {start}, instead of "
                                f"{embeddings}")  # fmt: skip
        if end != head:
            self._cannot(where, f"mergekit takes final norm and head from the last step's model, {end}, instead of "
                                f"{head}")  # fmt: skip

    # Merges

    def _passthrough(self, recipe: Recipe, settings: SettingsWriter, where: str) -> dict[str, Any]:
        if not recipe.path:
            of_model = settings.whole()
            model = {"model": self._reference(recipe.parents[0], where)}
            return {"models": [model | _parameters(of_model.per_model.get(None, {}))]}
        self._check_stack(recipe, where)
        used = {step.parent for step in recipe.path}
        of = {one.name: self._reference(one, where) for one in recipe.parents if one.name in used}
        runs = _Runs([of[step.parent] for step in recipe.path], [step.layer for step in recipe.path])
        slices = []
        for start, stop, rows in settings.slices(_breaks([runs])):
            model = _source(runs, start, stop) | _parameters(rows.per_model.get(None, {}))
            slices.append({"sources": [model]})
        return {"slices": slices}

    def _merge(self, recipe: Recipe, words: MethodWords, settings: SettingsWriter, where: str) -> dict[str, Any]:
        members = list(recipe.parents)
        if recipe.base is not None and words.base in (BaseUse.ORIGIN, BaseUse.OPTIONAL):
            of = {recipe.parameters_in(group).get("of") for group in (None, *recipe.groups)}
            if words.base is BaseUse.OPTIONAL and of != {"task_vectors"}:
                self._cannot(where, f"of a base of {recipe.method}, mergekit measures task vectors; leave `base` out, "
                                    "or write of: task_vectors")  # fmt: skip
            members.append(recipe.base)
        elif recipe.base is not None and all(one.source != recipe.base.source for one in members):
            if words.word("weight") is None:
                self._cannot(
                    where, f"mergekit would merge the base, which only lends its configuration to {recipe.method}"
                )
            members.append(recipe.base)
        stacks = [one for one in members if _is_stack(one.source)]
        if not stacks and not settings.by_layer:
            whole = settings.whole()
            data: dict[str, Any] = {
                "models": [{"model": self._reference(one, where)} | _parameters(self._own(one, recipe, whole, words))
                           for one in members]
            }  # fmt: skip
            return data | _parameters(whole.shared)
        n = len(stacks[0].source.path) if stacks and isinstance(stacks[0].source, Recipe) else settings.n_layers
        columns = [self._runs(one, n, where) for one in members]
        slices, shared = [], []
        for start, stop, rows in settings.slices(_breaks(columns)):
            sources = [
                _source(runs, start, stop) | _parameters(self._own(one, recipe, rows, words))
                for one, runs in zip(members, columns, strict=True)
            ]
            slices.append({"sources": sources} | _base_of(recipe, words, columns, start) | _parameters(rows.shared))
            shared.append(rows.shared)
        if all(one == shared[0] for one in shared):  # what holds for all slices stands once
            slices = [{key: value for key, value in one.items() if key != "parameters"} for one in slices]
            return {"slices": slices} | _parameters(shared[0])
        return {"slices": slices}

    def _own(self, member: Parent, recipe: Recipe, rows: SliceSettings, words: MethodWords) -> dict[str, Any]:
        if member is not recipe.base:
            return rows.per_model.get(member.name, {})
        return {"weight": 0.0} if words.base is BaseUse.LENDER and words.word("weight") is not None else {}

    def _base(self, recipe: Recipe, words: MethodWords) -> dict[str, Any]:
        if words.base is BaseUse.OPTIONAL and recipe.base is None:
            return {}  # a model that is named as the base would be taken for the origin of task vectors
        donor = recipe.donor
        if _is_stack(donor.source):
            assert isinstance(donor.source, Recipe)
            donor = donor.source.parents[0]
        return {"base_model": self._reference(donor, "")}

    # What is no weight

    def _lent(self, recipe: Recipe, where: str) -> None:
        donor = BASE_NAME if recipe.base is not None else recipe.parents[0].name
        lender = recipe.tokenizer
        if isinstance(lender, str) and lender != donor:
            self._cannot(where, f"with the tokenizer of {lender}, mergekit would sort {donor}'s embeddings anew by its "
                                f"tokens; write it as tokenizer: {{source: {lender}}} if that is meant")  # fmt: skip
        if recipe.generation_config not in (None, recipe.tokenizer_lender or donor, donor):
            self._cannot(where, f"mergekit takes no generation config of another model ({recipe.generation_config})")
        if recipe.vision not in (None, donor):
            self._cannot(where, f"mergekit takes no vision part of another model ({recipe.vision})")
        if isinstance(lender, TokenizerBuild) and recipe.path:
            first = recipe.parents[0].name
            self._check_rows(lender, {recipe.embeddings or first, recipe.head or first}, where)
        names = {BASE_NAME, *(one.name for one in recipe.parents)}
        if recipe.chat_template in names:
            self._cannot(where, f"mergekit takes no chat template of a model by name ({recipe.chat_template})")

    def _check_rows(self, build: TokenizerBuild, lenders: set[str], where: str) -> None:
        """Say what mergekit does with rows of a stack that the models at its ends do not have."""
        for token, model in models_named(build):
            if {model} != lenders:
                own = " and ".join(sorted(lenders))
                self._cannot(where, "mergekit takes the rows of a stack's embeddings and head from their own models "
                                    f"alone, {own}, but the row of {token!r} is {model}'s")  # fmt: skip
        note = (
            "mergekit gives tokens that the model of a stack's embeddings, or head, lacks a row of zeros; evomerge "
            "takes the row of the models that have them"
        )
        if lenders != {build.source} and note not in self.notes:
            self.notes.append(note)

    def _types(self, recipe: Recipe) -> dict[str, Any]:
        """Return the types: fp32 arithmetic and one cast at the end, as here; without arithmetic just the cast."""
        copies = recipe.method == PASSTHROUGH and not recipe.groups and not recipe.parameters
        dtype = recipe.dtype
        if dtype is None:
            try:
                dtype = self._models.dtype(recipe.donor.source)
            except RecipeError:
                return {}
        if copies or dtype == "float32":
            return {"dtype": dtype}
        return {"dtype": "float32", "out_dtype": dtype}

    def _tokens(self, recipe: Recipe) -> dict[str, Any]:
        data: dict[str, Any] = {}
        build = recipe.tokenizer
        if isinstance(build, TokenizerBuild):
            of: dict[str, Parent] = {one.name: one for one in recipe.parents}
            if recipe.base is not None:
                of[BASE_NAME] = recipe.base
            source = build.source if build.source == "union" else self._reference(_tokens_of(of[build.source]), "")
            inner: dict[str, Any] = {"source": source}
            rows = {}
            for token, row in build.tokens.items():
                one: Any = {"kind": "zero"}
                if isinstance(row.source, ModelToken):
                    one = model = self._reference(_tokens_of(of[row.source.model]), "")
                    if row.source.token is not None:
                        one = {"kind": "model_token", "model": model, "token": row.source.token}
                    elif row.source.token_id is not None:
                        one = {"kind": "model_token", "model": model, "token_id": row.source.token_id}
                rows[token] = {"source": one} | ({"force": True} if row.force else {})
            if rows:
                inner["tokens"] = rows
            if build.pad_to_multiple_of is not None:
                inner["pad_to_multiple_of"] = build.pad_to_multiple_of
            data["tokenizer"] = inner
        if recipe.chat_template is not None:
            data["chat_template"] = recipe.chat_template
        return data

    def _cannot(self, where: str, text: str) -> None:
        self.problems.append(f"{where}{text}")


def _tokens_of(parent: Parent) -> Parent:
    source = parent.source
    return source.parents[0] if isinstance(source, Recipe) and _is_stack(source) else parent


def _is_stack(source: Source) -> bool:
    """Return whether a source is a mere stack of layers, which slices can say."""
    if not isinstance(source, Recipe) or not source.path or source.groups or source.dtype is not None:
        return False
    lent = (source.tokenizer, source.generation_config, source.chat_template)
    return not source.parameters and lent == (None, None, None)


def _breaks(columns: list[_Runs]) -> set[int]:
    """Return the layers of the result at which a new slice must begin, since a run of layers of a model ends there."""
    return {
        i
        for runs in columns
        for i in range(1, len(runs.layers))
        if runs.references[i] != runs.references[i - 1] or runs.layers[i] != runs.layers[i - 1] + 1
    }


def _source(runs: _Runs, start: int, stop: int) -> dict[str, Any]:
    first = runs.layers[start]
    return {"model": runs.references[start], "layer_range": Inline([first, first + stop - start])}


def _base_of(recipe: Recipe, words: MethodWords, columns: list[_Runs], start: int) -> dict[str, Any]:
    """Return the base of a slice where it is not that of all slices."""
    column = {BaseUse.FIRST: columns[0]}.get(words.base)
    if words.base in (BaseUse.ORIGIN, BaseUse.OPTIONAL) and recipe.base is not None:
        column = columns[-1]
    if column is None or all(one == column.references[0] for one in column.references):
        return {}
    return {"base_model": column.references[start]}


def _parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"parameters": dict(settings)} if settings else {}


def _spelled(source: ModelSource) -> Any:
    """Return how mergekit names a model with its revision and its adapter."""
    model = _with_revision(source.path, source.revision)
    if source.adapter is None:
        plain = isinstance(model, str)
        return model if plain else {"model": model}
    lora = _with_revision(source.adapter, source.adapter_revision)
    if isinstance(model, str) and isinstance(lora, str):
        return f"{model}+{lora}"
    return {"model": _as_mapping(model), "lora": _as_mapping(lora)}


def _with_revision(path: str, revision: str | None) -> str | dict[str, str]:
    if path.startswith("~"):
        path = str(Path(path).expanduser())  # mergekit would look for the "~" on the Hub
    if "@" in path or "+" in path:
        return {"path": path} | ({} if revision is None else {"revision": revision})
    return path if revision is None else f"{path}@{revision}"


def _as_mapping(model: str | dict[str, str]) -> dict[str, str]:
    if isinstance(model, dict):
        return model
    path, _, revision = model.partition("@")
    return {"path": path} | ({"revision": revision} if revision else {})
