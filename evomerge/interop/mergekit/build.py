"""One merge of a mergekit file as a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from evomerge.errors import RecipeError, unknown_name
from evomerge.interop.mergekit.columns import InputColumn, Names, columns_of, stack
from evomerge.interop.mergekit.groups import Key, Numbers, Rows, groups_of, missing, rows_at
from evomerge.interop.mergekit.models import Models, Source
from evomerge.interop.mergekit.schema import Input, MergeDocument, Reference, Slice, read_reference
from evomerge.interop.mergekit.tokens import TokenReader
from evomerge.interop.mergekit.values import Decision, Setting, decide, depth
from evomerge.interop.mergekit.vocabulary import IDLE, METHODS, BaseUse, MethodWords, Word
from evomerge.recipe import PASSTHROUGH, Group, ModelSource, Parent, Recipe, Value

ALL, PRE, POST = "all", "pre", "post"
"""Where tensors lie beside the layers: anywhere, before the layers, behind them."""

TIED = ("lm_head",)
"""Tensors that a model with tied embeddings lacks, although files for all models name them."""


@dataclass
class Built:
    """What came of a merge: a recipe, if there are no problems; notes about what was left out."""

    recipe: Recipe | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build(
    document: MergeDocument, stages: Mapping[str, Recipe], models: Models, where: str, *, words_only: bool = False
) -> Built:
    """Return the recipe of a merge.

    Args:
        document: the merge.
        stages: the recipes of the merges that it may name.
        models: tell how many layers they have.
        where: what stands before each problem.
        words_only: whether only the names of method and parameters are checked, and no recipe is made.
    """
    built = Built()
    words = METHODS.get(document.method)
    if words is None:
        if document.method:
            built.problems.append(f"{where}merge_method: {unknown_name('merge method', document.method, METHODS)}")
        return built
    builder = _Builder(document, words, stages, models, where, built)
    builder.check_names()
    if words_only:
        return built
    try:
        recipe = builder.recipe()
    except RecipeError as error:
        built.problems.append(f"{where}{error}")
        return built
    built.recipe = None if built.problems else recipe
    return built


def _with_base(document: MergeDocument, words: MethodWords) -> MergeDocument:
    """Return a merge of one model with its base by `slerp` with both of them listed."""
    base, slices = document.base, document.slices
    if words.base is not BaseUse.FIRST or base is None or not document.whole or not slices:
        return document
    inputs = slices[0].inputs
    if len(inputs) != 1 or inputs[0].model == base:
        return document
    return replace(document, slices=(replace(slices[0], inputs=(Input(base, {}, "base_model"), *inputs)),))


class _Builder:
    def __init__(
        self,
        document: MergeDocument,
        words: MethodWords,
        stages: Mapping[str, Recipe],
        models: Models,
        where: str,
        built: Built,
    ) -> None:
        self._document = document = _with_base(document, words)
        self._words, self._stages, self._built = words, stages, built
        self._models, self._where = models, where
        self._names = Names(document.chat_template)
        self._bases = [one.base or document.base for one in document.slices]

    def recipe(self) -> Recipe | None:
        """Return the recipe, or None where problems were found."""
        rows = [self._row(one, base) for one, base in zip(self._document.slices, self._bases, strict=True)]
        if self._built.problems or not rows:
            return None
        if len({len(row) for row in rows}) > 1 and not self._can_fill():
            self._wrong("slices", f"{self._words.theirs} needs equally many models in each slice")
            return None
        fill = [
            base if base is not None and base in {one.model for one in row} else row[0].model
            for base, row in zip(self._bases, rows, strict=True)
        ]
        if self._document.whole:
            columns = [InputColumn((one,), ((one.model, 0, 0),)) for one in rows[0]]
        else:
            self._check_layers()
            if self._built.problems:
                return None
            columns = columns_of(rows, fill)
        return self._assemble(columns)

    # What the document says of its inputs

    def check_names(self) -> None:
        """Name every parameter that no method knows, and note those that this one ignores."""
        levels = [(level, "") for level in self._document.parameters]
        levels += [(one.parameters, "") for one in self._document.slices]
        levels += [(each.parameters, each.place) for one in self._document.slices for each in one.inputs]
        left_out: dict[str, None] = {}
        for level, of_input in levels:
            for name, setting in level.items():
                word = self._words.word(name)
                if word is None and name in IDLE:
                    left_out[name] = None
                elif word is None:
                    known = [each.theirs for each in self._words.words]
                    place = setting[0].place if setting else of_input
                    self._wrong(place, unknown_name(f"parameter of {self._words.theirs}", name, known))
                elif of_input and not word.per_model:
                    self._built.notes.append(
                        f"{of_input}: {name} holds for all models, so what one model says of it does not count"
                    )
        for name in left_out:
            why = "it changes no result" if name == "int8_mask" else f"{self._words.theirs} has no such parameter"
            self._built.notes.append(f"{name} is left out: {why}")

    def _row(self, one: Slice, base: Reference | None) -> list[Input]:
        """Return the inputs of a slice that are parents."""
        use, method = self._words.base, self._words.theirs
        inputs = list(one.inputs)
        seen: dict[tuple[Reference, tuple[int, int] | None], str] = {}
        for each in inputs:
            before = seen.setdefault((each.model, each.layers), each.place)
            if before != each.place:
                self._wrong(each.place, f"{each.model} stands at {before} already; name each model once")
        if use is BaseUse.ORIGIN and base is None:
            self._wrong("", f"{method} measures task vectors from a base; name one with base_model")
        if use is BaseUse.FIRST:
            first = next((each for each in inputs if each.model == base), None)
            if len(inputs) == 2 and first is None:
                listed = " and ".join(str(each.model) for each in inputs)
                came = "none is named" if base is None else f"it is {base}"
                self._wrong(one.place, f"base_model of {method} says which of its two models, {listed}, is at t = 0, "
                                       f"but {came}")  # fmt: skip
            inputs = ([] if first is None else [first]) + [each for each in inputs if each is not first]
        elif use in (BaseUse.ORIGIN, BaseUse.OPTIONAL):
            inputs = [each for each in inputs if each.model != base]
            if not inputs and one.inputs:
                self._wrong(one.place, f"{method} needs a model beside its base {base}")
        low, high = self._words.n_inputs
        short = len(inputs) < low and not (len(inputs) == 1 and use is BaseUse.FIRST)
        if inputs and (short or (high is not None and len(inputs) > high)):
            wanted = f"exactly {low}" if low == high else f"{low} or more"
            beside = " beside the base" if use in (BaseUse.ORIGIN, BaseUse.OPTIONAL) and base is not None else ""
            listed = ", ".join(str(each.model) for each in inputs)
            self._wrong(one.place, f"{method} takes {wanted} models{beside}, but came {len(inputs)}: {listed}")
        return inputs

    def _can_fill(self) -> bool:
        """Return whether a model can take no part in a slice."""
        return self._words.base is BaseUse.FIRST or self._words.word("weight") is not None

    def _check_layers(self) -> None:
        """Compare layer ranges with the models' configurations."""
        for one in self._document.slices:
            for each in one.inputs:
                try:
                    n = self._n_layers(each.model)
                except RecipeError as error:
                    self._wrong(f"{each.place}.model", str(error))
                    continue
                if each.layers is not None and each.layers[1] > n:
                    self._wrong(f"{each.place}.layer_range", f"{list(each.layers)} reaches beyond the {n} layers of "
                                                             f"{each.model}")  # fmt: skip

    # The recipe

    def _assemble(self, columns: Sequence[InputColumn]) -> Recipe | None:
        document, use = self._document, self._words.base
        whole = document.whole or all(column.whole(self._n_layers) for column in columns)
        base = self._base_column(whole)
        whole = whole and (base is None or document.whole or base.whole(self._n_layers))
        if self._built.problems:
            return None
        if self._words.ours == PASSTHROUGH:
            return self._passthrough(columns[0], whole)
        parents = []
        for i, column in enumerate(columns):
            donor = document.base if i == 0 and use is BaseUse.LENDER else None
            parents.append(self._parent(column, whole, donor))
        named = None
        if use in (BaseUse.ORIGIN, BaseUse.OPTIONAL) and base is not None:
            named = Parent("base", self._parent(base, whole, None).source)
        elif use is BaseUse.LENDER and whole and document.base is not None and columns[0].models != (document.base,):
            named = Parent("base", self._source(document.base))
        names = [parent.name for parent in parents]
        parameters, groups = self._values(columns, names)
        if self._built.problems:
            return None
        fields = self._lent(parents, named)
        return Recipe(
            self._words.ours,
            tuple(parents),
            named,
            parameters,
            groups,
            dtype=document.dtype,
            **fields,
        )

    def _passthrough(self, column: InputColumn, whole: bool) -> Recipe | None:
        donor = self._document.base
        models = [*([] if donor is None else [donor]), *column.models]
        if whole and len(set(models)) == 1:
            parents: tuple[Parent, ...] = (self._parent(column, True, None),)
            path = None
        else:
            runs = column.runs
            if self._document.whole:
                runs = ((column.models[0], 0, self._n_layers(column.models[0])),)
            path = stack(runs, self._source, self._names, donor)
            parents = path.parents
        parameters, groups = self._values([column], [])
        if self._built.problems:
            return None
        fields = self._lent(parents, None)
        if path is not None:
            fields |= {"path": path.path, "embeddings": path.embeddings, "head": path.head}
        if not groups and parameters.get("scale") == 1.0:
            parameters = {}
        return Recipe(PASSTHROUGH, parents, None, parameters, groups, dtype=self._document.dtype, **fields)

    def _parent(self, column: InputColumn, whole: bool, donor: Reference | None) -> Parent:
        if whole:
            return Parent(self._names.of(column.models[0]), self._source(column.models[0]))
        source = stack(column.runs, self._source, Names(), donor)
        joined = "_".join(Names().of(model) for model in column.models)
        return Parent(self._names.new(f"{joined}_layers"), source)

    def _base_column(self, whole: bool) -> InputColumn | None:
        if self._words.base not in (BaseUse.ORIGIN, BaseUse.OPTIONAL) or self._bases[0] is None:
            return None
        if self._document.whole:
            return InputColumn((None,), ((self._bases[0], 0, 0),))
        runs = []
        for one, base in zip(self._document.slices, self._bases, strict=True):
            assert base is not None  # asked for above
            own = [each.layers for each in one.inputs if each.model == base and each.layers is not None]
            ranges = own[:1] or list(dict.fromkeys(each.layers for each in one.inputs if each.layers is not None))
            if len(ranges) > 1:
                self._wrong(one.place, f"which layers of the base {base} belong to these is not said, since their "
                                       f"ranges differ; list it among the sources with its layer_range")  # fmt: skip
                return None
            runs.append((base, *ranges[0]))
        return InputColumn((None,) * len(runs), tuple(runs))

    def _lent(self, parents: Sequence[Parent], base: Parent | None) -> dict[str, Any]:
        """Return whose tokenizer and chat template the result carries, as keywords of a recipe."""
        tokens = TokenReader(parents, base, self._source, self._reference, self._wrong)
        return {"tokenizer": tokens.read(self._document), "chat_template": self._document.chat_template}

    # Values

    def _values(
        self, columns: Sequence[InputColumn], names: Sequence[str]
    ) -> tuple[Mapping[str, Value], tuple[Group, ...]]:
        slices = self._document.slices
        keyed: list[tuple[Key, Word, int | None]] = []
        for word in self._words.words:
            if word.per_model and names:
                keyed += [((word.ours, name), word, i) for i, name in enumerate(names)]
            else:  # of a passthrough, whose one model needs no name
                keyed.append(((word.ours, None), word, 0 if word.per_model else None))
        translate = partial(self._translate, names=tuple(names))
        known = self._tensor_names(columns[0])
        self._check_filters(known)

        def rows(s: int, t: float, where: int | str) -> Rows:
            decisions = {key: self._decision(columns, word, i, s, t) for key, word, i in keyed}
            return rows_at(decisions, translate, None if known is None else known.get(where, ()))

        last = len(slices) - 1
        if not self._varies():
            post = rows(last, 1.0, ALL)
            return groups_of(post, (), post)
        layers: list[Rows] = []
        for s, length in enumerate(map(self._length, slices)):
            layers += [rows(s, depth(i, length), len(layers) + i) for i in range(length)]
        return groups_of(rows(0, 0.0, PRE), layers, rows(last, 1.0, POST))

    def _tensor_names(self, column: InputColumn) -> Mapping[int | str, Sequence[str]] | None:
        """Return the names of tensors by where they lie in the result; None: no filter asks, or no model tells."""
        if not self._filters():
            return None
        try:
            models = {model: self._models.tensor_names(self._source(model)) for model in column.models}
        except RecipeError:
            return None  # with filters that do not cross, nothing but short groups depends on it
        found: dict[int | str, list[str]] = {ALL: [tensor.name for tensor in models[column.models[0]]]}
        for model, where, roles in ((column.runs[0][0], PRE, True), (column.runs[-1][0], POST, False)):
            outside = [one for one in models[model] if one.layer is None]
            found[where] = [one.name for one in outside if (one.role == "embedding") == roles]
        runs = column.runs
        if self._document.whole:
            runs = ((runs[0][0], 0, self._n_layers(runs[0][0])),)
        path = [(model, layer) for model, start, stop in runs for layer in range(start, stop)]
        for i, (model, layer) in enumerate(path):
            own = [one.name for one in models[model] if one.layer == layer]
            found[i] = [name.replace(f".{layer}.", f".{i}.", 1) for name in own]
        return found

    def _filters(self) -> dict[str, str]:
        """Return the parts of names that filters give, with their places."""
        levels = [each.parameters for one in self._document.slices for each in one.inputs]
        levels += [*(one.parameters for one in self._document.slices), *self._document.parameters]
        choices = [choice for level in levels for setting in level.values() for choice in setting]
        return {choice.part: choice.place for choice in choices if choice.part is not None}

    def _check_filters(self, known: Mapping[int | str, Sequence[str]] | None) -> None:
        """Name filters that no tensor's name holds, since a misspelt one would change nothing."""
        if known is None:
            return
        names = {name for some in known.values() for name in some}
        words = {word for name in names for word in name.split(".") if not word.isdigit()}
        for part, place in self._filters().items():
            if any(part in name for name in names):
                continue
            if part in TIED:
                self._built.notes.append(
                    f"{place}: the filter {part} changes nothing, since the models have no such tensor"
                )
            else:
                self._wrong(f"{place}.filter", unknown_name("part of tensors' names", part, words))

    def _varies(self) -> bool:
        """Return whether layers may differ in what they are given."""
        slices = self._document.slices
        levels = [*self._document.parameters, *(one.parameters for one in slices)]
        levels += [each.parameters for one in slices for each in one.inputs]
        gradients = any(len(choice.anchors) > 1 for level in levels for setting in level.values() for choice in setting)
        return gradients or len(slices) > 1

    def _length(self, one: Slice) -> int:
        layers = one.inputs[0].layers
        return self._n_layers(one.inputs[0].model) if layers is None else layers[1] - layers[0]

    def _decision(self, columns: Sequence[InputColumn], word: Word, column: int | None, s: int, t: float) -> Decision:
        one = self._document.slices[s]
        own = None if column is None else columns[column].inputs[s]
        if column is not None and own is None:
            return ((None, 0.0 if word.theirs == "weight" else word.default or 0.0),)  # it takes no part
        if self._words.base is BaseUse.FIRST and len(one.inputs) == 1:
            return ((None, 0.0),)
        levels: list[Mapping[str, Setting]] = [*([] if own is None else [own.parameters]), one.parameters]
        found = decide(word.theirs, [*levels, *self._document.parameters], t, word.default)
        if missing(found):
            of = "" if own is None else f" of {own.model}"
            place = one.place if own is None else own.place
            some = "; the filters leave tensors without one" if len(found) > 1 else ""
            problem = f"{word.theirs}{of} is needed by {self._words.theirs}, which has no default for it{some}"
            if f"{self._where}{place}: {problem}" not in self._built.problems:
                self._wrong(place, problem)
            return tuple((part, 0.0 if value is None else value) for part, value in found)
        if self._turned(columns, s):
            return tuple((part, None if value is None else 1.0 - value) for part, value in found)
        return found

    def _turned(self, columns: Sequence[InputColumn], s: int) -> bool:
        """Return whether a slice has another base than the first one, so that t counts from the other model there."""
        first = columns[0].inputs[s]
        return self._words.base is BaseUse.FIRST and first is not None and first.model != self._bases[s]

    def _translate(self, numbers: Numbers, names: tuple[str, ...]) -> Mapping[str, Value]:
        """Return numbers of mergekit as a recipe's parameters."""
        values: dict[str, Value] = {}
        for word in self._words.words:
            if word.per_model and names:
                rows = {name: numbers[word.ours, name] or 0.0 for name in names}
                values[word.ours] = next(iter(rows.values())) if len(set(rows.values())) == 1 else rows
            else:
                values[word.ours] = word.value(numbers[word.ours, None] or 0.0)
        return self._words.ours_of(values, has_base=self._bases[0] is not None)

    # Help

    def _source(self, model: Reference) -> Source:
        lora = model.lora
        if model.revision is None and model.path in self._stages:
            if lora is not None:
                self._wrong(
                    self._where, f"{model} is an adapter on another merge, which is not read; put it on a model"
                )
            return self._stages[model.path]
        if lora is None:
            return ModelSource(model.path, model.revision)
        return ModelSource(model.path, model.revision, adapter=lora.path, adapter_revision=lora.revision)

    def _reference(self, data: Any, place: str) -> Reference | None:
        problems: list[str] = []
        found = read_reference(data, self._where, place, problems)
        self._built.problems += problems
        return found

    def _n_layers(self, model: Reference) -> int:
        return self._models.n_layers(self._source(model))

    def _wrong(self, place: str, text: str) -> None:
        self._built.problems.append(f"{self._where}{place}: {text}" if place else f"{self._where}{text}")
