"""The configuration of a search: every key with its type, range, default and one line of help, once.

A class is a section, and an attribute is a key. `evomerge.config.reader` reads the declaration, `evomerge explain`
prints it, and `configs/search.schema.json` is made from it. To add a key, write one line here and one in
`configs/search.yaml`.

Other parts get the sections themselves, frozen. Where a part has a class of its own (`Budget`, `TaskSpec`,
`SplitSizes`, `Parent`), a class …Keys declares the keys, and its `build` makes an object of that class.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from evomerge.config import names
from evomerge.config.values import (
    EFFECT,
    LIMIT,
    PLACE,
    SAYS,
    SHOWN,
    SPEED,
    Count,
    MadeOf,
    NameIn,
    Natural,
    Number,
    Positive,
    Section,
    Switch,
    Text,
    Words,
    key,
    section,
)
from evomerge.errors import ConfigError, RecipeError
from evomerge.evaluation.chat import Chat
from evomerge.evaluation.floor import MOST, Floor, read_floor
from evomerge.evaluation.task import SUM, WORST, Constraint, SplitSizes, TaskSpec
from evomerge.recipe import DTYPES, Parent, Recipe
from evomerge.recipe.patterns import expand_parents
from evomerge.recipe.tokenizer import Tokenizer
from evomerge.search.budget import AnswerLimits, Budget

MOST_GPUS = 8
"""Most GPUs of one worker; a model's layers run one after another, so more GPUs would only wait."""

MOST_GIB = 1e6
"""The largest memory that a configuration may name: more than any machine has, and a number of bytes that is exact."""

MOST_THREADS = 1024
"""Most threads of one process; a machine that cannot start them ends the process without a word."""

_GPU = re.compile(r"cuda:\d+")

Dtype = Annotated[str, Words(dict.fromkeys(DTYPES, ""))]

# The JSON schemas of values that other parts check: models (checked by recipes) and genes (checked by the space).
_MODEL = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "revision": {"type": "string"},
                "file": {"type": "string"},
                "adapter": {"type": "string"},
                "adapter_revision": {"type": "string"},
                "trust_remote_code": {"type": "boolean"},
                "allow_pickle": {"type": "boolean"},
                "recipe": {"type": ["string", "object"]},
                "pattern": {"type": "string"},
                "last": {"type": "integer", "minimum": 1},
                "every": {"type": "integer", "minimum": 1},
            },
            "additionalProperties": False,
        },
    ]
}


_ROW_KEYS: dict[str, Any] = {
    **{name: {"type": "string"} for name in ("kind", "model", "token")},
    "token_id": {"type": "integer"},
    "force": {"type": "boolean"},
}
_ROW = {"type": "object", "properties": _ROW_KEYS, "additionalProperties": False}
_ROW_OF = {**_ROW, "properties": {**_ROW_KEYS, "source": {"anyOf": [{"type": "string"}, _ROW]}}}

_TOKENIZER = {
    "anyOf": [
        {"type": "string"},
        {"type": "null"},
        {
            "type": "object",
            "properties": {
                "source": {"type": "string"},
                "tokens": {
                    "type": ["object", "null"],
                    "additionalProperties": {"anyOf": [{"type": "string"}, _ROW_OF]},
                },
                "pad_to_multiple_of": {"type": ["integer", "null"]},
            },
            "additionalProperties": False,
        },
    ]
}

_NUMBER = {"type": ["number", "string", "null"]}

_VALUE = {"type": ["number", "boolean", "string", "null"]}

_GENE = {
    "type": ["object", "null"],
    "properties": {
        **dict.fromkeys(("low", "high"), _NUMBER),
        "start": _VALUE,
        "fixed": _VALUE,
        "choices": {"type": ["array", "string", "null"], "items": {"type": ["boolean", "string"]}},
        "log": {"type": ["boolean", "string", "null"]},
        "scope": {"enum": ["group", "global", None]},
        "parents": {"type": ["object", "null"]},
    },
    "additionalProperties": False,
}


class RunKeys(Section):
    """Where the run is kept."""

    dir: Text | None = key(None, "the folder that is made; null: outputs/<name>/<time>", at_resume=SHOWN)


@dataclass(frozen=True)
class ModelsConfig:
    """Which models are merged: `parents` in order, and the `base` that task vectors are measured from."""

    parents: tuple[Parent, ...]
    base: Parent | None
    dtype: str | None
    tokenizer: Tokenizer | None
    generation_config: str | None = None
    chat_template: str | None = None
    vision: str | None = None

    @property
    def members(self) -> tuple[Parent, ...]:
        """The parents in order, then the base, if there is one."""
        return self.parents if self.base is None else (*self.parents, self.base)


class ModelsKeys(Section):
    """Which models are merged."""

    base: Any = key(
        None, "the checkpoint that task vectors are measured from", must="be a model", json=_MODEL, at_resume=PLACE
    )
    parents: dict[Text, Any] = key(
        ...,
        "name: folder, Hub id, zoo:NAME, LoRA adapter, GGUF file, {path:, adapter:, …}, {recipe: FILE} or pattern\n"
        "a pattern (run/checkpoint-*, or {pattern:, last:, every:}) stands for several, which are called name-500 …",
        must="map at least one name to a model, like {math: org/math-model}",
        json={"additionalProperties": _MODEL},
        at_resume=PLACE,
    )
    dtype: Dtype | None = key(None, "of the merged model; null: the base's, or else the first parent's")
    tokenizer: Any = key(
        None,
        "whose tokenizer the merge gets: a parent or base; null: base, else first parent; {source: union} builds one",
        must="be a parent's name, base, or a mapping like {source: union}",
        json=_TOKENIZER,
    )
    generation_config: Text | None = key(
        None, "whose end tokens, penalties … it gets: a parent or base; null: the model that lends the tokenizer"
    )
    chat_template: Text | None = key(
        None, "its chat template: auto, a parent or base, a built-in one or a text; null: the tokenizer's own"
    )

    vision: Text | None = key(
        None,
        "whose vision part the merge keeps: a parent or base; null: the base's, else that of the first that has one",
    )

    @field_validator("parents")
    @classmethod
    def _some(cls, parents: dict[str, Any]) -> dict[str, Any]:
        if not parents:
            raise ValueError
        try:
            return expand_parents(parents)
        except RecipeError as error:
            raise PydanticCustomError(SAYS, "{text}", {"text": f"holds a pattern: {error}"}) from error

    @field_validator("tokenizer")
    @classmethod
    def _named_or_built(cls, tokenizer: Any) -> Any:
        if tokenizer is not None and not isinstance(tokenizer, (str, Mapping)):
            raise ValueError
        return tokenizer

    @model_validator(mode="after")
    def _readable(self) -> ModelsKeys:
        self.build()
        return self

    def build(self) -> ModelsConfig:
        """Return the models, read in the same way as those of a recipe.

        Raises:
            ConfigError: if one of them cannot be read.
        """
        said = {
            "base": self.base,
            "parents": self.parents,
            "dtype": self.dtype,
            "tokenizer": self.tokenizer,
            "generation_config": self.generation_config,
            "chat_template": self.chat_template,
            "vision": self.vision,
        }
        try:
            recipe = Recipe.from_data({"method": "linear", **{name: one for name, one in said.items() if one}})
        except RecipeError as error:
            raise ConfigError(f"models: {error}") from error
        lent = (recipe.tokenizer, recipe.generation_config, recipe.chat_template, recipe.vision)
        return ModelsConfig(recipe.parents, recipe.base, recipe.dtype, *lent)


class MethodConfig(Section):
    """The merge method, of the spaces parameter and joint."""

    WORD: ClassVar[str | None] = "name"

    name: Annotated[str, NameIn(names.methods, checked=False)] = key(
        ..., "the merge method", missing="`evomerge methods` lists the merge methods"
    )
    parameters: dict[Any, Any] = key({}, "fixed for every tensor; what is not fixed here and has a range is evolved")


_INDICATORS, _SEGMENTS = "indicators", "segments"
_OF_BOTH = ("repeats", "scales", "scale_low", "scale_high", "max_layers", "min_layers")
ENCODINGS: Mapping[str, tuple[str, ...]] = {
    _INDICATORS: (*_OF_BOTH, "offset", "hidden"),
    _SEGMENTS: (*_OF_BOTH, "segments"),
}
"""Encodings of layer paths, each with its options: the arguments of its space."""


class PathConfig(Section):
    """The layer paths of the spaces dataflow and joint; what is null has the encoding's own default."""

    encoding: Annotated[
        str,
        Words(
            {
                _INDICATORS: "one gene for each layer and pass: on or off",
                _SEGMENTS: "a few runs of layers, for small budgets",
            }
        ),
    ] = key(_INDICATORS, "how genes spell a layer path")
    parents: tuple[Text, ...] | None = key(
        None,
        "whose layers may be taken; null: all parents (in a joint or later stage: and those of the merge)",
        must="list names of parents",
    )
    repeats: Any = key(
        None,
        "indicators: passes over all layers (null: 1); segments: how often a run may repeat (null: 2)",
        json={"type": "integer", "minimum": 1},
    )
    scales: Any = key(
        None,
        "of each step's input: none; indicators: step, matrix, network (null: step); segments: segment (null: segment)",
        json={"type": "string", "enum": ["none", "step", "matrix", "network", "segment"]},
    )
    scale_low: Any = key(None, "smallest scale; null: 0.5", json={"type": "number", "exclusiveMinimum": 0})
    scale_high: Any = key(None, "largest scale; null: 2", json={"type": "number", "exclusiveMinimum": 0})
    offset: Any = key(
        None,
        'indicators: how far from "off" (and from "on") a layer starts, in units of the cube; null: 0.4',
        json={"type": "number", "minimum": 0, "maximum": 0.5},
    )
    hidden: Any = key(None, "scales: network: hidden units; null: 8", json={"type": "integer", "minimum": 1})
    segments: Any = key(None, "segments: how many runs at most; null: 4", json={"type": "integer", "minimum": 1})
    max_layers: Any = key(None, "longest path; null: what the genes can spell", json={"type": "integer", "minimum": 1})
    min_layers: Any = key(None, "shortest path", json={"type": "integer", "minimum": 1})

    @field_validator("parents", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ValueError
        return tuple(value)

    @property
    def options(self) -> Mapping[str, Any]:
        """The given options of the encoding, by name."""
        found = {name: getattr(self, name) for name in ENCODINGS[self.encoding]}
        return {name: value for name, value in found.items() if value is not None}


def _blocks(value: Any) -> Any:
    """Return a list of lists as pairs; the space finds its mistakes, since it knows the number of layers."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    return tuple(tuple(pair) if isinstance(pair, Sequence) else pair for pair in value)


def _genes(value: Any) -> Any:
    return {name: gene or {} for name, gene in value.items()} if isinstance(value, Mapping) else value


class MethodGeneConfig(Section):
    """The merge method as a gene, of the spaces parameter and joint."""

    choices: tuple[Text, ...] | None = key(
        None,
        "[linear, slerp, ties]: the methods among which a search chooses, in place of method.name\n"
        "`space.genes` and `method.parameters` are then by method: {ties: {density: {low: 0.1}}}.",
        must="list names of merge methods",
        json={"type": "array", "items": {"type": "string"}},
    )
    start: Text | None = key(None, "the one with which it begins; null: method.name, or else the first")
    scope: Annotated[
        str,
        Words({"group": "each group of layers has its own", "global": "the whole model has one"}),
    ] = key("group", "how many genes there are")

    @field_validator("choices", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ValueError
        return tuple(value)


class SpaceConfig(Section):
    """What is evolved."""

    name: Annotated[
        str,
        Words(
            {
                "parameter": "how much of each parent goes into each group of tensors",
                "dataflow": "which layer of which parent comes next",
                "joint": "both at once",
            }
        ),
    ] = key("parameter", "what genomes say")
    blocks: Annotated[Any, BeforeValidator(_blocks)] = key(
        4,
        'parameter and joint: so many blocks of layers; or "layers" (each its own), or [[0, 4], [4, 12]]',
        must='be a number of blocks, "layers" or a list of pairs',
        json={
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "enum": ["layers"]},
                {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            ]
        },
    )
    roles: dict[Text, tuple[str, ...]] | None = key(
        None,
        "parameter and joint: {attention: [attention], mlp: [mlp, norm, other]}; null: all roles of a block together",
        must="be a mapping of names to lists of roles, like {attention: [attention], mlp: [mlp, norm, other]}",
    )
    embeddings: Annotated[
        str,
        Words(
            {
                "own": "genes of their own for the embeddings, and for the head with the final norm",
                "shared": "the same ones for both",
                "block": "those of the first and of the last block",
            }
        ),
    ] = key("own", "parameter and joint: the genes of embeddings and head")
    genes: Annotated[dict[Text, dict[Any, Any]], BeforeValidator(_genes)] = key(
        {},
        "parameter and joint: per parameter {low:, high:, start:, log:, scope:, fixed:, parents: {NAME: {start:}}}\n"
        "Words and flags: {choices: [sum, count], start: sum}; naming one, as in {election: {}}, makes a gene of it. "
        "A gene that is given no start begins at the method's default for its parameter, if that lies strictly inside "
        "of its range; else in the middle of the range (of a logarithmic one: the geometric middle).",
        must="be a mapping like {low:, high:, start:}",
        json={"additionalProperties": {"anyOf": [_GENE, {"type": "object", "additionalProperties": _GENE}]}},
    )
    method: MethodGeneConfig = section(MethodGeneConfig, "the merge method as a gene")
    start: Text | None = key(
        None,
        "a recipe of these models, evomerge's or mergekit's, with which the search begins; its groups are the genes'",
        at_resume=PLACE,
    )
    path: PathConfig = section(PathConfig, "the layer paths of the spaces dataflow and joint")
    layer_cost: Number = key(
        0.0, "fitness that one layer more than the first parent's costs; 0.01: a hundredth of the score's range"
    )

    @property
    def merges(self) -> bool:
        """Whether a merge method takes part."""
        return self.name != "dataflow"

    @property
    def stacks(self) -> bool:
        """Whether layer paths take part."""
        return self.name != "parameter"


class _Named(Section):
    """Something by its name; further keys are its own options. A word alone is the name."""

    model_config = ConfigDict(extra="allow")
    WORD: ClassVar[str | None] = "name"

    @property
    def options(self) -> Mapping[str, Any]:
        """Its own options."""
        return dict(self.model_extra or {})


class OptimizerConfig(_Named):
    """What proposes genomes; further keys are the optimizer's own options."""

    name: Annotated[str, NameIn(names.optimizers, checked=False)] = key("cma", "the optimizer")


class StrategyConfig(_Named):
    """What proposes recipes; further keys are the strategy's own options."""

    name: Annotated[str, NameIn(names.strategies, checked=False)] = key("vector", "the strategy")


@dataclass(frozen=True)
class StageConfig:
    """A part of a search: the best merge of the stages before it joins the models whose layers it stacks.

    Attributes:
        share: its part of the whole budget.
    """

    name: str
    share: float
    space: SpaceConfig
    optimizer: OptimizerConfig
    strategy: StrategyConfig


class StageKeys(Section):
    """A stage; its name is yours to choose."""

    share: Positive | None = key(None, "part of the budget; null: the same for every stage")
    space: SpaceConfig = section(SpaceConfig, "as the `space` of the search, from which it takes what it leaves out")
    optimizer: OptimizerConfig = section(OptimizerConfig, "instead of the `optimizer` of the search")
    strategy: StrategyConfig = section(StrategyConfig, "instead of the `strategy` of the search")


class BudgetKeys(Section):
    """The first limit that is reached ends the search; baselines and finalists cost extra. At least one is needed."""

    candidates: Count | None = key(None, "proposals of the optimizer", at_resume=LIMIT)
    items: Count | None = key(
        None, "item evaluations of those proposals; no candidate starts that would go over", at_resume=LIMIT
    )
    seconds: Positive | None = key(
        None, "wall time; a candidate that is running when it is up is dropped", at_resume=LIMIT
    )

    def build(self) -> Budget:
        """Return the limits."""
        return Budget(self.candidates, self.items, self.seconds)


class ConstraintKeys(Section):
    """A limit that the mean of the metric must keep, instead of a weight: either max or min."""

    max: Any = key(None, "the mean must be at most this", json={"type": "number"})
    min: Any = key(None, "the mean must be at least this", json={"type": "number"})

    def build(self) -> Constraint:
        """Return the limit; `evomerge.evaluation.task.spec_problems` checks it."""
        return Constraint(max=self.max, min=self.min)


class FloorKeys(Section):
    """The least that the mean of the metric may be, beside its weight: one of these; a number or 95% will do."""

    absolute: Any = key(None, "the mean must be at least this", json={"type": "number"})
    of_best_parent: Any = key(
        None,
        "at least this share of what the best parent has on the same items: 0.95",
        json={"type": "number", "exclusiveMinimum": 0, "maximum": MOST},
    )
    below_best_parent: Any = key(
        None,
        "at most this far below what the best parent has, in the metric's own units",
        json={"type": "number", "minimum": 0},
    )

    def build(self) -> Floor:
        """Return the floor; `evomerge.evaluation.task.spec_problems` checks it."""
        return Floor(self.absolute, self.of_best_parent, self.below_best_parent)


class GenerationKeys(Section):
    """What takes the place of a task's own generation_kwargs; further keys go to transformers' `generate`."""

    model_config = ConfigDict(extra="allow")

    max_gen_toks: Any = key(
        None,
        "most tokens of an answer, with its thinking; null: as the task says",
        json={"type": "integer", "minimum": 1},
    )
    until: Any = key(
        None,
        "texts that end an answer, instead of the task's; []: the end token alone; null: as the task says",
        json={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    )

    def build(self) -> Mapping[str, Any] | None:
        """Return the settings; `evomerge.evaluation.task.spec_problems` checks them."""
        said = {"max_gen_toks": self.max_gen_toks, "until": self.until, **(self.model_extra or {})}
        return {name: one for name, one in said.items() if one is not None} or None


class TaskKeys(Section):
    """One metric of one task.

    Some values may be anything here: `spec_problems` checks them, since entries of one task must fit together.
    """

    name: Text = key(..., "an lm-eval task, built in or of your own (include_path)")
    metric: Text = key(
        ...,
        "acc, exact_match … of the task; generated_tokens, cut_answers … (docs/fitness.md), python:FILE.py:NAME",
    )
    filter: Text | None = key(None, "the task's filter after which the metric is taken; null: its only one")
    weight: Any = key(
        None,
        "share in the weighted sum; 0: only measured; null: 1, or 0 with a constraint",
        json={"type": "number", "minimum": 0},
    )
    direction: Any = key(
        None,
        "which values are better: maximize or minimize; null: as the task says",
        json={"type": "string", "enum": ["maximize", "minimize"]},
    )
    objective: Text | None = key(
        None, "a name of yours for the objective that it is a term of; null: of the one that all without a name share"
    )
    validation: Text | None = key(None, "another task whose items are the validation items; null: this one's")
    test: Text | None = key(None, "another task whose items are the test items; null: this one's")
    num_fewshot: Natural | None = key(None, "solved examples in front of each question; null: as the task says")
    generation: Annotated[Any, MadeOf(GenerationKeys)] | None = key(
        None,
        "{max_gen_toks: 1024, until: []}: instead of what the task says of its answers; null: as the task says",
        must="be like {max_gen_toks: 1024, until: []}",
    )
    constraint: Annotated[Constraint, MadeOf(ConstraintKeys)] | None = key(
        None,
        "{max: 0.05} or {min: 0.9}: a limit for the mean, instead of a weight",
        must="be like {max: 0.05} or {min: 0.9}",
    )
    floor: Annotated[Floor, MadeOf(FloorKeys), BeforeValidator(read_floor)] | None = key(
        None,
        "0.6, or 95% (of the best parent): the least that the mean may be, beside its weight",
        must="be a number, a share of the best parent like 95%, or {below_best_parent: 0.02}",
        json={"x-short": [{"type": "number"}, {"type": "string", "pattern": r"%\s*$"}]},
    )
    reference: Text | None = key(None, "of negative_flips: the baseline to compare with, like a parent's name")
    of: Text | None = key(None, "of negative_flips: the metric that says what is right, like exact_match")
    collapse_margin: Any = key(
        None,
        "of entropy: by how much the share of the commonest answer may exceed the baselines'; 1: no guard; null: 0.1",
        json={"type": "number", "minimum": 0, "maximum": 1},
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        missing = [name for name in ("name", "metric") if isinstance(data, Mapping) and not data.get(name)]
        if missing:
            text = f"needs {' and '.join(missing)}; came {dict(data)}"
            raise PydanticCustomError(SAYS, "{text}", {"text": text})
        return data

    def build(self) -> TaskSpec:
        """Return the entry."""
        weight = self.weight
        if weight is None:
            weight = 1.0 if self.constraint is None else 0.0
        return TaskSpec(**{**{name: getattr(self, name) for name in type(self).model_fields}, "weight": weight})


def _size(default: float | None, help: str) -> Any:
    whole, part = {"type": "integer", "minimum": 0}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    must = "be a count, a fraction between 0 and 1, or null"
    return key(default, help, must=must, null=True, json={"anyOf": [whole, part, {"type": "null"}]})


class SplitKeys(Section):
    """How many items each split takes: a count, a fraction between 0 and 1, or null for what the others leave."""

    search: Any = _size(0.5, "items that candidates are scored on")
    validation: Any = _size(0.2, "items that choose among the finalists")
    test: Any = _size(None, "items that the winner and the baselines are compared on at the end")

    def build(self) -> SplitSizes:
        """Return the sizes, which check themselves."""
        return SplitSizes(search=self.search, validation=self.validation, test=self.test)


def as_template(value: Any) -> Any:
    """Return a flag or a name; some readers of YAML leave flags as words.

    Raises:
        ValueError: if it is neither, nor null.
    """
    words = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
    if value is not None and (not isinstance(value, (bool, str)) or value == ""):
        raise ValueError
    return words.get(value.lower(), value) if isinstance(value, str) else value


class ChatKeys(Section):
    """How models are asked, all in the same way, each by its own tokenizer; a flag or name alone is the template."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-must": "be true, false, the name of a chat template or a mapping with template, system, arguments, "
            "fewshot_as_turns, think_end_token"
        }
    )
    WORD: ClassVar[str | None] = "template"

    template: Annotated[Any, BeforeValidator(as_template)] = key(
        None,
        "true: by the tokenizer's chat template; NAME: by that one of several; null: false, plain text",
        must="be true, false or the name of a chat template",
        json={"anyOf": [{"type": "boolean"}, {"type": "string"}]},
    )
    system: Text | None = key(
        None, "a system message before the task's description (in plain text: the beginning of each prompt)"
    )
    arguments: dict[Text, Any] = key(
        {}, "what else the template is given, like {enable_thinking: false}", must="be a mapping of names to values"
    )
    fewshot_as_turns: Switch = key(True, "in a chat: solved examples as turns; false: all in the user's one turn")
    think_end_token: Text | None = key(
        None, "</think> or the like, behind which an answer begins; digits: the id of a token; null: at its first token"
    )

    @model_validator(mode="before")
    @classmethod
    def _word(cls, data: Any) -> Any:
        return {cls.WORD: data} if isinstance(data, (bool, str)) else data

    def build(self) -> Chat:
        """Return the settings; `evomerge.evaluation.chat.chat_problems` checks them."""
        arguments = {name: one for name, one in self.arguments.items() if one is not None}
        return Chat(self.template, self.system, arguments, self.fewshot_as_turns, self.think_end_token)


def _folders(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class AnswersKeys(Section):
    """How many of the models' answers stay in the run, to be read with `evomerge answers`."""

    candidates: Natural = key(
        8, "how many of the best candidates keep their answers to the search items", at_resume=SPEED
    )
    mib: Annotated[Number, Field(ge=0.0)] = key(
        64.0, "most that answers and prompts may take, compressed, in MiB; 0: none are kept", at_resume=SPEED
    )

    def build(self) -> AnswerLimits:
        """Return the limits."""
        return AnswerLimits(self.candidates, self.mib)


class EvaluationConfig(Section):
    """What candidates are scored on."""

    tasks: tuple[Annotated[TaskSpec, MadeOf(TaskKeys)], ...] = key(
        ...,
        "what is measured; entries may share a task",
        must="list at least one task, like [{name: gsm8k, metric: exact_match}]",
    )
    objective: Annotated[
        str,
        Words(
            {
                SUM: "their weighted sum; entries with an `objective` of their own form one each",
                WORST: "the worst of them, each relative to the best parent in it",
            }
        ),
    ] = key(SUM, "what is made of the tasks: one number, of which more is better")
    include_path: Annotated[tuple[Text, ...], BeforeValidator(_folders)] = key(
        (),
        "folders with your own lm-eval task YAML files; zoo:tasks is the built-in zoo's",
        must="list folders",
        at_resume=PLACE,
        json={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    )
    split: Annotated[SplitSizes, MadeOf(SplitKeys)] = section(
        lambda: SplitKeys().build(), "how many items each split takes"
    )
    engine: Annotated[str, NameIn(names.engines)] = key("hf", "what runs the forward passes")
    batch_size: Count = key(64, "most sequences in a forward pass", at_resume=SPEED)
    finalists: Count = key(8, "how many of the best candidates are scored again on validation items")
    chat: Annotated[Chat, MadeOf(ChatKeys)] = section(
        lambda: ChatKeys().build(), "how models are asked; `chat: true` (or a name) says the template alone"
    )
    apply_chat_template: Switch | None = key(None, "true is short for chat: {template: true}; null: as `chat` says")
    allow_unsafe_code: Switch = key(False, "whether tasks like HumanEval may run code that models write")
    answers: Annotated[AnswerLimits, MadeOf(AnswersKeys)] = section(
        lambda: AnswersKeys().build(), "which answers stay in the run, to be read (evomerge answers RUN)"
    )

    @field_validator("tasks", mode="before")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ValueError
        return tuple(value)

    @model_validator(mode="after")
    def _asked(self) -> EvaluationConfig:
        """Return the section with the short form spelled out; the rules compare it with what it is short for."""
        template = self.chat.template if self.chat.template is not None else bool(self.apply_chat_template)
        return self.model_copy(update={"chat": replace(self.chat, template=template), "apply_chat_template": None})


class RaceConfig(Section):
    """How candidates of a generation compete for items."""

    WORD: ClassVar[str | None] = "rule"

    rule: Annotated[
        str,
        Words(
            {
                "posterior": "a block more for each of whom it is not clear whether it belongs to the best part",
                "halving": "only the best half go on, with twice as many items",
            }
        ),
    ] = key("posterior", "who gets more items")
    block: Count | None = key(None, "items that are given at a time; null: a third of fitness.items")
    level: Annotated[Positive, Field(lt=0.5)] = key(
        0.1, "probability below which it is clear", must="lie between 0 and 0.5"
    )
    most: Count | None = key(None, "items of one candidate at most; null: all")


def _race(value: Any) -> Any:
    return None if value == "none" else value


class FitnessConfig(Section):
    """How many of the search items a candidate answers, and what its answers are worth."""

    items: Count | None = key(None, "search items that a candidate gets (in a race: on average, at most); null: all")
    choose: Annotated[
        str,
        Words(
            {
                "stratified": "spread over tasks and difficulty",
                "uniform": "any",
                "information": "those whose answer is least certain for this candidate",
            }
        ),
    ] = key("stratified", "which items")
    fresh: Switch = key(True, "other items for each generation, so that a search cannot learn them by heart")
    estimator: Annotated[str, NameIn(names.estimators)] = key(
        "model", "what turns some answers into an estimate of all; or your own as module:Class"
    )
    race: Annotated[RaceConfig | None, BeforeValidator(_race)] = key(
        None,
        "posterior, halving, none or {rule:, …}; null: the same number of items for each",
        json={"x-also": ["none"]},
    )
    responses: Text | None = key(
        None,
        "file with what other models answered to these items (evomerge records RUN --responses FILE.npz)",
        at_resume=PLACE,
    )
    consensus: Switch = key(True, "whether the mean of the best genomes meets the validation items too")


def _device(value: Any) -> Any:
    given = value if isinstance(value, (list, tuple)) else str(value or "auto").split(",")
    found = [str(one).strip() for one in given] or ["auto"]
    if len(found) > 1 and not (all(_GPU.fullmatch(one) for one in found) and len(set(found)) == len(found)):
        raise ConfigError(
            "several devices in `execution.device` must be different GPUs with their numbers, as in [cuda:0, cuda:1], "
            f"but came {value!r}"
        )
    return ",".join(found)


def _number(value: Any, fits: Callable[[float], bool]) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (abs(value) <= sys.float_info.max and fits(value)):  # YAML's integers have no largest one
        raise ValueError
    return float(value)


def _workers(value: Any) -> Any:
    return None if value == "auto" else value


OF_RAY = ("workers", "cpus_per_worker", "gpus_per_worker", "address", "timeout", "share", "runtime_env")
"""Keys of `execution` that have a meaning only with Ray."""


class ExecutionConfig(Section):
    """Where candidates run."""

    WORD: ClassVar[str | None] = "name"

    name: Annotated[
        str, Words({"local": "in this process", "ray": "in processes of their own, on this machine or a cluster"})
    ] = key("local", "where candidates run", at_resume=SPEED)
    device: Annotated[str, BeforeValidator(_device)] = key(
        "auto",
        "auto (cuda where there is one), cpu, cuda …; [cuda:0, cuda:1] spreads the layers of a model over several",
        json={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        at_resume=SPEED,
    )
    dtype: Dtype | None = key(
        None, "in which candidates run; null: float32 on a CPU, the merged model's own on a GPU", at_resume=EFFECT
    )
    threads: Annotated[Count, Field(le=MOST_THREADS)] | None = key(
        None,
        "of torch on the CPU; null: as many as a short measurement finds fastest; in a Ray worker as many as its CPUs",
        at_resume=SPEED,
    )
    cache: str | float = key(
        "auto",
        "memory for quantile tables …, and as much for dequantised weights: auto (a quarter of the free), none, or GiB",
        must="be auto, none or a size in GiB",
        json={"anyOf": [{"type": "string", "enum": ["auto", "none"]}, {"type": "number", "minimum": 0}]},
        at_resume=SPEED,
    )
    parents: Annotated[
        str,
        Words(
            {
                "auto": "on the device where they fit",
                "device": "beside the live model",
                "host": "in the machine's memory, copied for each candidate",
            }
        ),
    ] = key("auto", "where the tensors of the parents are kept on a GPU", at_resume=SPEED)
    deterministic: Switch = key(True, "several workers give the records of one; false: no worker ever waits")
    workers: Annotated[Count | None, BeforeValidator(_workers)] = key(
        None,
        "of Ray: how many; auto or null: as many as fit, counted all the time, since machines may join and leave",
        must="be a whole number from 1, or auto",
        json={"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "enum": ["auto"]}]},
        at_resume=SPEED,
    )
    cpus_per_worker: Positive = key(
        1.0,
        "of Ray: CPUs of one worker",
        must="be a number above 0, and a whole number above 1 (Ray's rule)",
        at_resume=SPEED,
    )
    gpus_per_worker: Number | None = key(
        None,
        "of Ray: GPUs of one worker; 0.5: two workers on each; 2 … 8: a model over several; null: 1, if there are any",
        must=f"be a part of one GPU, or a whole number up to {MOST_GPUS}",
        json={"minimum": 0, "maximum": MOST_GPUS},
        validate=True,
        at_resume=SPEED,
    )
    address: Annotated[str, Field(strict=True)] | None = key(
        None,
        "of Ray: host:port of a running cluster, or auto for the one on this machine; null: start one here",
        must="be host:port of the head node, or auto for the cluster on this machine (not Ray's client, ray://…)",
        at_resume=SPEED,
    )
    timeout: float | str | None = key(
        "auto",
        "of Ray: seconds that a candidate may take; auto: ten minutes, or 20 times the slowest so far; none: any time",
        must="be a number above 0 (seconds, auto or none)",
        json={"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "enum": ["auto", "none"]}]},
        at_resume=SPEED,
    )
    share: Switch = key(True, "of Ray: idle workers take a part of a candidate that another one is at", at_resume=SPEED)
    runtime_env: dict[Any, Any] = key(
        {}, "of Ray: environment of the workers, for clusters whose machines differ", at_resume=SPEED
    )

    @field_validator("cache", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        if value in ("auto", "none") and isinstance(value, str):
            return value
        return _number(value, lambda size: 0.0 <= size <= MOST_GIB)

    @field_validator("timeout", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        if value == "auto":
            return value
        return None if value == "none" else _number(value, lambda seconds: seconds > 0.0)

    @field_validator("cpus_per_worker")
    @classmethod
    def _whole(cls, value: float) -> float:
        if value > 1.0 and value != int(value):
            raise ValueError
        return value

    @field_validator("gpus_per_worker")
    @classmethod
    def _part(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and (value < 0.0 or (value > 1.0 and (value != int(value) or value > MOST_GPUS))):
            raise ValueError
        if info.data.get("device") != "cpu":
            return value
        if value:
            raise ConfigError(
                "`execution.device` is cpu, but `execution.gpus_per_worker` asks for GPUs; leave one of them out"
            )
        return 0.0

    @field_validator("address")
    @classmethod
    def _head(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.startswith("ray://")):
            raise ValueError
        return value

    @property
    def n_devices(self) -> int:
        """The number of devices over which the live model of a worker is spread."""
        return max(int(self.gpus_per_worker or 0), 1 + self.device.count(","))


_LOGGER = [
    {"type": "string"},
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
]


def _logger(value: Any) -> dict[str, Any]:
    named = isinstance(value, Mapping) and isinstance(value.get("name"), str)
    if not (named or isinstance(value, str)) or not (value["name"] if named else value):
        raise ValueError
    return {str(key): one for key, one in value.items() if one is not None} if named else {"name": value}


@dataclass(frozen=True)
class SearchConfig:
    """The configuration of a whole search, as other parts get it; the YAML in `configs/` has the keys of `SearchKeys`.

    Attributes:
        method: the merge method (of several, the one at the start); None if no stage merges weights.
        stages: the stages, one after the other; at least one.
        loggers: where rows are sent, too: each with a `name` and its options.
    """

    models: ModelsConfig
    method: MethodConfig | None
    evaluation: EvaluationConfig
    name: str
    seed: int
    stages: tuple[StageConfig, ...]
    budget: Budget
    fitness: FitnessConfig
    execution: ExecutionConfig
    loggers: tuple[Mapping[str, Any], ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """The merge methods among which a search chooses: one, unless the method is a gene; none without merges."""
        if self.method is None:
            return ()
        # Only the first stage can merge weights.
        return self.stages[0].space.method.choices or (self.method.name,)

    @property
    def merges(self) -> bool:
        """Whether some stage merges weights."""
        return any(stage.space.merges for stage in self.stages)

    @property
    def stacks(self) -> bool:
        """Whether some stage evolves layer paths."""
        return any(stage.space.stacks for stage in self.stages)


class SearchKeys(Section):
    """The keys of a configuration."""

    name: Text = key("search", "of the search; its runs are kept in outputs/<name>", at_resume=SHOWN)
    seed: Natural = key(0, "of everything: optimizer, random masks, the split of the items")
    run: RunKeys = section(RunKeys, "where the run is kept")
    models: ModelsKeys | None = key(None, "which models are merged")
    method: MethodConfig | None = key(None, "the merge method, of the spaces parameter and joint")
    space: SpaceConfig = section(SpaceConfig, "what is evolved")
    optimizer: OptimizerConfig = section(OptimizerConfig, "what proposes genomes; further keys are its own options")
    strategy: StrategyConfig = section(
        StrategyConfig, "what proposes recipes: vector, a space with an optimizer; further keys are its own options"
    )
    stages: dict[Text, StageKeys] = key(
        {}, "one after the other, each with a share of the budget; the best merge so far joins the pool of layers"
    )
    budget: BudgetKeys = section(
        BudgetKeys, "the first limit that is reached ends the search; baselines and finalists cost extra"
    )
    evaluation: EvaluationConfig | None = key(None, "what candidates are scored on")
    fitness: FitnessConfig = section(
        FitnessConfig, "how many items a candidate answers, and what its answers are worth"
    )
    execution: ExecutionConfig = section(ExecutionConfig, "where candidates run")
    loggers: tuple[Any, ...] = key(
        (),
        "where each candidate is shown, too: [tensorboard, trackio, wandb, mlflow], or {name: wandb, project: …}\n"
        "Each is an extra, like evomerge[wandb]; your own is my_file.py:Class. See docs/loggers.md for their options.",
        must="list names of loggers, or mappings like {name: wandb, project: merges}",
        json={"anyOf": [*_LOGGER, {"type": "array", "items": {"anyOf": _LOGGER}}]},
        at_resume=SHOWN,
    )

    @field_validator("loggers", mode="before")
    @classmethod
    def _loggers(cls, value: Any) -> Any:
        entries = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return tuple(map(_logger, entries))

    def stage_configs(self) -> tuple[StageConfig, ...]:
        """Return the stages; if none are given, one with the whole budget."""
        if not self.stages:
            return (StageConfig("search", 1.0, self.space, self.optimizer, self.strategy),)
        equal = 1.0 / len(self.stages)
        return tuple(
            StageConfig(name, stage.share or equal, stage.space, stage.optimizer, stage.strategy)
            for name, stage in self.stages.items()
        )
