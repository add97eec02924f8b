"""A recipe: pure data that says how to build ONE model. Immutable, JSON/YAML round trip, content hash.

The YAML form, which `evomerge merge` reads and every run and export writes::

    method: dare_ties
    base: org/base-model                       # a folder, a Hub id, `zoo:NAME`, or {path:, revision:} or {recipe:}
    parents:                                   # in order; the names are used below
      math: org/math-model
      japanese: {path: org/ja-model, revision: 1a2b3c}
      code: {path: org/base-model, adapter: org/code-lora}   # a LoRA adapter on a model; or its folder or id alone
      sft: {pattern: run/checkpoint-*, last: 5}  # several: see patterns.py
    parameters: {lambda: 1.0, weight: 0.5}     # for every tensor; a per-parent parameter takes one number for all
    groups:                                    # the first group that matches a tensor overrides `parameters`
      - {layers: [0, 8], roles: [attention], parameters: {weight: {math: 0.8, japanese: 0.3}}}
      - {tensors: [lm_head, q_proj], method: linear, parameters: {weight: 0.5}}   # by parts of names; another method
    dtype: bfloat16                            # of the result; left out: the base's (or the first parent's)
    tokenizer: japanese                        # whose tokenizer the result carries; left out: the base's or first;
                                               # or, where vocabularies differ, {source: union}: see tokenizer.py
    chat_template: auto                        # what most parents have; or a parent, chatml …, the text of a template
    generation_config: japanese                # whose end tokens, penalties …; left out: the tokenizer's lender's
    vision: seeing                             # of vision-language models: whose vision part is kept (docs/vision.md)
    seed: 0                                    # of the random masks (DARE)

or, where whole layers are stacked rather than weights mixed (the data-flow space)::

    method: passthrough
    parents: {math: org/math-model, japanese: org/ja-model}
    path: [{parent: math, layers: [0, 8]}, {parent: japanese, layers: [4, 6], scale: 0.9}, …]   # see layer_path.py
    embeddings: math                           # whose embeddings the result has; left out: the first parent's
    head: japanese                             # whose final norm and head; left out: the first parent's

No torch here: recipes are made, hashed and stored by processes that never load a model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from evomerge.errors import RecipeError
from evomerge.recipe.foreign import foreign_problem
from evomerge.recipe.layer_path import Step, path_from_data, path_to_data
from evomerge.recipe.patterns import expand_parents
from evomerge.recipe.source import SOURCE_TEXTS, ModelSource
from evomerge.recipe.tokenizer import (
    AUTO,
    BASE_NAME,
    Tokenizer,
    TokenizerBuild,
    template_problem,
    tokenizer_from_data,
    tokenizer_problems,
    tokenizer_text_at,
    tokenizer_to_data,
)
from evomerge.system.files import read_file
from evomerge.system.yaml_text import Inline, Place, YamlError, read_yaml, write_yaml

Value: TypeAlias = "float | bool | str | Mapping[str, float]"
"""The value of a parameter: one number (or flag, or word) for all parents, or parent name to number."""

ROLES = ("embedding", "attention", "mlp", "norm", "other", "head")
"""Tensor roles, in the order of the forward pass. `norm` and `other` occur inside and outside of layers."""

DTYPES = ("float32", "bfloat16", "float16")

PASSTHROUGH = "passthrough"
"""The method that copies whole layers: the only one with a layer path."""


@dataclass(frozen=True)
class Parent:
    """A named source of weights: a checkpoint, or another recipe, so that a lineage is a tree of recipes."""

    name: str
    source: ModelSource | Recipe


@dataclass(frozen=True)
class Group:
    """Parameters of the tensors in some layers with some roles.

    Attributes:
        parameters: override the recipe's own `parameters` for the tensors of this group.
        layers: half-open range `(start, stop)` of layer indices; None matches any layer and tensors outside layers.
        roles: names from `ROLES`; None matches every role.
        name: a label for people; not part of the recipe's hash.
        method: a merge method of its own for these tensors; the group then inherits no parameters. None: the recipe's.
        tensors: parts of the names of tensors in the result, for example "q_proj"; a tensor matches if its name holds
            one of them. None matches every name.
    """

    parameters: Mapping[str, Value]
    layers: tuple[int, int] | None = None
    roles: tuple[str, ...] | None = None
    name: str = field(default="", compare=False)
    method: str | None = None
    tensors: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", _freeze(self.parameters))

    def matches(self, role: str, layer: int | None, tensor: str = "") -> bool:
        """Return whether a tensor belongs to the group.

        Args:
            role: its role.
            layer: its layer; None: outside of all layers.
            tensor: its name in the result; needed only where a group names parts of names.
        """
        if self.roles is not None and role not in self.roles:
            return False
        if self.tensors is not None and not any(part in tensor for part in self.tensors):
            return False
        if self.layers is None:
            return True
        return layer is not None and self.layers[0] <= layer < self.layers[1]


@dataclass(frozen=True)
class Recipe:
    """How to build one model; see the module docstring for the YAML form.

    Attributes:
        method: name of a merge method (`evomerge methods` lists them).
        parents: the models that are merged, in order.
        base: the checkpoint from which task vectors are measured; None for methods that need none.
        parameters: parameters for every tensor that no group overrides.
        groups: in order; the first that matches a tensor counts.
        dtype: of the result, one of `DTYPES`; None: the base's (or the first parent's) own.
        tokenizer: name of the parent (or "base") whose tokenizer, with its chat template, the result carries; None:
            base, else first parent. Or how to build one of several, where the models' vocabularies differ.
        generation_config: name of the parent (or "base") whose generation config (end tokens, repetition penalty, …)
            the result carries; None: the model that lends the tokenizer, since the template says how a turn ends.
        seed: of random masks; together with the parent's name and the tensor's name it fixes every mask.
        vision: name of the member ("base" or a parent) that lends all that stands beside a language model: vision
            tower, projector, processor, configuration. None: the base, if it has any of it, else the first parent that
            has; models without such parts have nothing to lend.
        chat_template: the result's chat template in place of the tokenizer's own: "auto" (what most parents have), the
            name of a parent (or "base") or of one that evomerge brings along, or the text of a Jinja template.
        path: for the method "passthrough", the layers of the result, in order; empty: the one parent as it is. The
            first parent lends everything outside of the layers, unless `embeddings` or `head` say otherwise.
        embeddings: name of the parent that lends what stands before the layers of a path; None: the first (also where
            it was given by its name, since both are one recipe).
        head: name of the parent that lends what stands behind the layers of a path, final norm and head; None: the
            first.

    Raises:
        RecipeError: if parents, dtype, lenders, parameters or path contradict each other.
    """

    method: str
    parents: tuple[Parent, ...]
    base: Parent | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    dtype: str | None = None
    tokenizer: Tokenizer | None = None
    seed: int = 0
    path: tuple[Step, ...] = ()
    generation_config: str | None = None
    embeddings: str | None = None
    head: str | None = None
    chat_template: str | None = None
    vision: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", tuple(self.path))
        object.__setattr__(self, "parents", tuple(self.parents))
        object.__setattr__(self, "groups", tuple(self.groups))
        object.__setattr__(self, "parameters", _freeze(self.parameters))
        if not self.parents:
            raise RecipeError("a recipe needs at least one parent, but `parents` is empty")
        names = [parent.name for parent in self.parents]
        if len(set(names)) != len(names):
            raise RecipeError(f"parent names must differ, but came {names}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise RecipeError(f"dtype must be one of {', '.join(DTYPES)}, but came {self.dtype!r}")
        lender = self.generation_config
        problems = tokenizer_problems(self.tokenizer, names)
        if lender is not None and lender not in {*names, "base"}:
            problems.append(f"generation_config must name a parent ({', '.join(names)}) or 'base', not {lender!r}")
        if self.vision is not None and self.vision not in names and (self.vision != BASE_NAME or self.base is None):
            known = [*names, *([] if self.base is None else [BASE_NAME])]
            problems.append(f"vision must name one of the models ({', '.join(known)}), not {self.vision!r}")
        if self.vision is not None and self.path:
            problems.append("vision says whose vision part a merge of weights keeps, but the recipe has a `path`")
        about_template = template_problem(self.chat_template, names)
        problems += [about_template] if about_template else []
        if problems:
            raise RecipeError("; ".join(problems))
        self._check_path(names)
        for values in (self.parameters, *(group.parameters for group in self.groups)):
            for key, value in values.items():
                unknown = set(value) - set(names) if isinstance(value, Mapping) else set()
                if unknown:
                    raise RecipeError(f"parameter {key!r} names {sorted(unknown)}, but the parents are {names}")

    def _check_path(self, names: list[str]) -> None:
        if self.path and self.method != PASSTHROUGH:
            raise RecipeError(f"a layer path is built by the method {PASSTHROUGH}, but the method is {self.method}")
        others = [name for name in self.methods if name != PASSTHROUGH]
        if self.path and others:
            raise RecipeError(f"the groups of a layer path can scale tensors, but not merge them with {others[0]}")
        if self.method == PASSTHROUGH and not self.path and len(names) > 1:
            raise RecipeError(
                f"{PASSTHROUGH} with {len(names)} parents needs a `path` that says which layer comes next"
            )
        if self.method == PASSTHROUGH and self.base is not None:
            raise RecipeError(f"{PASSTHROUGH} takes no base; a model that lends layers is a parent")
        unknown = sorted({step.parent for step in self.path} - set(names))
        if unknown:
            raise RecipeError(f"the path names {', '.join(unknown)}, but the parents are {', '.join(names)}")
        for key, lender in (("embeddings", self.embeddings), ("head", self.head)):
            if lender is not None and not self.path:
                raise RecipeError(f"{key} says who lends a part of a layer path, but the recipe has no `path`")
            if lender is not None and lender not in names:
                raise RecipeError(f"{key} must name a parent ({', '.join(names)}), not {lender!r}")
            if lender == names[0]:
                object.__setattr__(self, key, None)

    def __hash__(self) -> int:
        return hash(self.content_hash)

    @property
    def donor(self) -> Parent:
        """The model that lends configuration and names: the one with the vision part, else the base, else the first.

        Where no vision part is named, a model may have one all the same, which only its files tell: then that model is
        the donor (`evomerge.merge.sources.Sources.donor_of`).
        """
        if self.vision is not None:
            return next(one for one in self.members[::-1] if one.name == self.vision)
        return self.base or self.parents[0]

    @property
    def members(self) -> tuple[Parent, ...]:
        """The parents in order, then the base, if there is one."""
        return self.parents if self.base is None else (*self.parents, self.base)

    @property
    def builds_vocabulary(self) -> bool:
        """Whether the rows of its models are put in the order of a tokenizer that is built."""
        return isinstance(self.tokenizer, TokenizerBuild)

    @property
    def tokenizer_lender(self) -> str | None:
        """The name of the model whose tokenizer the result has, or that is extended; None: the donor's."""
        return self.tokenizer.lender if isinstance(self.tokenizer, TokenizerBuild) else self.tokenizer

    @property
    def names_template(self) -> bool:
        """Whether its chat template is one of its models', named or counted."""
        return self.chat_template in {AUTO, BASE_NAME, *(parent.name for parent in self.parents)}

    def with_members(self, change: Callable[[Parent], Parent]) -> Recipe:
        """Return the recipe with each of its members changed."""
        base = None if self.base is None else change(self.base)
        return replace(self, parents=tuple(map(change, self.parents)), base=base)

    def checkpoints(self) -> Iterator[ModelSource]:
        """Yield the checkpoints that the members are, or that members which are recipes are made of."""
        for member in self.members:
            if isinstance(member.source, Recipe):
                yield from member.source.checkpoints()
            else:
                yield member.source

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods of the recipe and its groups, without repeats."""
        return tuple(dict.fromkeys((self.method, *(group.method or self.method for group in self.groups))))

    def group_of(self, role: str, layer: int | None, tensor: str = "") -> Group | None:
        """Return the first group that matches a tensor, or None; see `Group.matches`."""
        return next((group for group in self.groups if group.matches(role, layer, tensor)), None)

    def method_of(self, group: Group | None) -> str:
        """Return the merge method of the tensors of a group (None: of those that no group matches)."""
        return self.method if group is None or group.method is None else group.method

    def parameters_of(self, role: str, layer: int | None, tensor: str = "") -> dict[str, Value]:
        """Return the parameters of a tensor: the recipe's own, overridden by the first group that matches."""
        return self.parameters_in(self.group_of(role, layer, tensor))

    def parameters_in(self, group: Group | None) -> dict[str, Value]:
        """Return the parameters of the tensors of a group: the recipe's own, overridden by the group's.

        A group with another method than the recipe's inherits none.
        """
        if group is None:
            return dict(self.parameters)
        inherited = self.parameters if self.method_of(group) == self.method else {}
        return {**inherited, **group.parameters}

    @cached_property
    def content_hash(self) -> str:
        """The SHA-256 (hex) of what the recipe builds; names of groups do not count."""
        data = self.to_data()
        _strip_labels(data)
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()  # a path need not be UTF-8

    def to_data(self) -> dict[str, Any]:
        """Return the JSON/YAML form; `from_data` reads it back to an equal recipe."""
        data: dict[str, Any] = {"method": self.method}
        if self.base is not None:
            data["base"] = _source_to_data(self.base.source)
        data["parents"] = {parent.name: _source_to_data(parent.source) for parent in self.parents}
        if self.parameters:
            data["parameters"] = _thaw(self.parameters)
        if self.groups:
            data["groups"] = [_group_to_data(group) for group in self.groups]
        if self.path:
            data["path"] = path_to_data(self.path)
        for key, lender in (("embeddings", self.embeddings), ("head", self.head)):
            if lender is not None:
                data[key] = lender
        if self.dtype is not None:
            data["dtype"] = self.dtype
        if self.tokenizer is not None:
            data["tokenizer"] = tokenizer_to_data(self.tokenizer)
        if self.generation_config is not None:
            data["generation_config"] = self.generation_config
        if self.chat_template is not None:
            data["chat_template"] = self.chat_template
        if self.vision is not None:
            data["vision"] = self.vision
        # The order of parents matters (SLERP, first tokenizer), but canonical JSON sorts keys, so it is written out.
        if len(self.parents) > 1:
            data["order"] = [parent.name for parent in self.parents]
        data["seed"] = self.seed
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Recipe:
        """Read the JSON/YAML form.

        Patterns among the parents are looked up in the file system; what `to_data` returns has none.

        Raises:
            RecipeError: if a key is unknown or missing, a value is of the wrong kind, or a pattern matches nothing.
        """
        if not isinstance(data, Mapping):
            raise RecipeError(f"a recipe is a mapping with `method` and `parents`, but came {type(data).__name__}")
        known = {
            *("method", "base", "parents", "parameters", "groups", "path", "dtype", "tokenizer", "generation_config"),
            *("chat_template", "order", "seed", "embeddings", "head", "vision"),
        }
        foreign = foreign_problem(data)
        if foreign is not None:
            raise RecipeError(foreign)
        unknown = set(data) - known
        if unknown:
            raise RecipeError(f"unknown keys in the recipe: {sorted(unknown)}. Known: {', '.join(sorted(known))}")
        for key in ("method", "parents"):
            if key not in data:
                raise RecipeError(f"a recipe needs the key `{key}`; came {sorted(data)}")
        parents = data["parents"]
        if not isinstance(parents, Mapping) or not parents:
            raise RecipeError("`parents` must map at least one name to a model, for example {math: org/math-model}")
        no_text = [name for name in parents if isinstance(name, bool) or not isinstance(name, (str, int))]
        if no_text:
            raise RecipeError(
                f"names of parents are text, but came {', '.join(map(repr, no_text))}: YAML 1.1 makes false of `no` "
                "and a number of `1e3`; write such names in quotes"
            )
        parents = expand_parents(parents)
        order = list(data.get("order", parents))
        if sorted(order, key=str) != sorted(parents, key=str):
            raise RecipeError(f"`order` must list each parent once: parents {sorted(parents)}, order {order}")
        base = data.get("base")
        return cls(
            method=str(data["method"]),
            parents=tuple(Parent(str(name), _source_from_data(parents[name])) for name in order),
            base=None if base is None else Parent("base", _source_from_data(base)),
            parameters=_values_from_data(data.get("parameters"), "parameters"),
            groups=tuple(_group_from_data(group) for group in data.get("groups") or ()),
            dtype=data.get("dtype"),
            tokenizer=tokenizer_from_data(data.get("tokenizer")),
            generation_config=data.get("generation_config"),
            chat_template=data.get("chat_template"),
            seed=int(data.get("seed", 0)),
            path=path_from_data(data.get("path")),
            embeddings=data.get("embeddings"),
            head=data.get("head"),
            vision=data.get("vision"),
        )

    def to_yaml(self) -> str:
        """Return the recipe as YAML text."""
        return write_yaml(self.to_data())

    @classmethod
    def from_yaml(cls, text: str | bytes) -> Recipe:
        """Read YAML (or JSON) text.

        Raises:
            RecipeError: if the text is not YAML or not a recipe.
        """
        try:
            data = read_yaml(text, text_at=recipe_text_at, lenient=True)
        except YamlError as error:
            several = "; `evomerge merge` reads several merges of mergekit" if "merge_method:" in str(text) else ""
            raise RecipeError(f"the recipe is not valid YAML: {error}{several}") from error
        return cls.from_data(data)

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe file.

        Raises:
            RecipeError: if the file is missing or not a recipe; the message names the file.
        """
        path = Path(path)
        text = read_file(path, "the recipe", RecipeError)
        try:
            return cls.from_yaml(text)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error


def recipe_text_at(place: Place) -> bool:
    """Return whether text is meant at a place of a recipe, so that a parent may be called `no` and a revision `1e3`."""
    match place:
        case ("base", "recipe", *inner) | ("parents", str(), "recipe", *inner) if inner:
            return recipe_text_at(tuple(inner))
        case ("base",) | ("parents", str()):
            return True
        case ("base", key) | ("parents", str(), key):
            return key in SOURCE_TEXTS or key in ("recipe", "pattern")
        case ("tokenizer", *inner):
            return tokenizer_text_at(tuple(inner))
        case ("method" | "dtype" | "chat_template" | "embeddings" | "head" | "vision",):
            return True
        case ("order", int()) | ("path", int(), "parent"):
            return True
        case ("groups", int(), "name" | "method") | ("groups", int(), "roles" | "tensors", int()):
            return True
        case _:
            return False


def _freeze(values: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return a read-only copy with normalised numbers, so that equal recipes have equal hashes."""
    return MappingProxyType({str(key): _normal(key, value) for key, value in values.items()})


def _normal(key: str, value: Any) -> Value:
    if isinstance(value, Mapping):
        return MappingProxyType({str(name): float(_number(key, number)) for name, number in value.items()})
    if isinstance(value, (bool, str)):
        return value
    return float(_number(key, value))


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RecipeError(f"parameter {key!r} must be a finite number (or one per parent), but came {value!r}")
    return float(value) + 0.0  # -0.0 becomes 0.0, since both build the same model and must have the same hash


def _thaw(values: Mapping[str, Value]) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _strip_labels(data: dict[str, Any]) -> None:
    for group in data.get("groups", ()):
        group.pop("name", None)
    for source in (data.get("base"), *data["parents"].values()):
        if isinstance(source, dict) and "recipe" in source:
            _strip_labels(source["recipe"])


def _source_to_data(source: ModelSource | Recipe) -> Any:
    return {"recipe": source.to_data()} if isinstance(source, Recipe) else source.to_data()


def _source_from_data(data: Any) -> ModelSource | Recipe:
    if isinstance(data, Mapping) and set(data) == {"recipe"}:
        inner = data["recipe"]
        return Recipe.load(inner) if isinstance(inner, str) else Recipe.from_data(inner)
    return ModelSource.from_data(data)


def _values_from_data(data: Any, where: str) -> Mapping[str, Value]:
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise RecipeError(f"`{where}` must map parameter names to values, but came {data!r}")
    return data


def _group_to_data(group: Group) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if group.name:
        data["name"] = group.name
    if group.layers is not None:
        data["layers"] = Inline(group.layers)
    if group.roles is not None:
        data["roles"] = Inline(group.roles)
    if group.tensors is not None:
        data["tensors"] = Inline(group.tensors)
    if group.method is not None:
        data["method"] = group.method
    data["parameters"] = _thaw(group.parameters)
    return data


def _group_from_data(data: Any) -> Group:
    if not isinstance(data, Mapping) or set(data) - {"name", "layers", "roles", "tensors", "method", "parameters"}:
        raise RecipeError(
            f"a group has the keys layers, roles, tensors, method, parameters and name, but came {data!r}"
        )
    layers, roles, tensors = data.get("layers"), data.get("roles"), data.get("tensors")
    if tensors is not None and not (isinstance(tensors, (list, tuple)) and tensors and all(map(_is_part, tensors))):
        raise RecipeError(
            f"`tensors` of a group lists parts of the names of tensors, like [q_proj], but came {tensors!r}"
        )
    if layers is not None:
        whole = isinstance(layers, (list, tuple)) and len(layers) == 2 and all(isinstance(i, int) for i in layers)
        if not whole or not 0 <= layers[0] < layers[1]:
            raise RecipeError(f"`layers` must be [start, stop] with 0 <= start < stop, but came {layers!r}")
    if roles is not None:
        unknown = [role for role in roles if role not in ROLES]
        if unknown:
            raise RecipeError(f"unknown roles {unknown}. Known: {', '.join(ROLES)}")
    return Group(
        parameters=_values_from_data(data.get("parameters"), "groups[].parameters"),
        layers=None if layers is None else (layers[0], layers[1]),
        roles=None if roles is None else tuple(roles),
        name=str(data.get("name", "")),
        method=None if data.get("method") is None else str(data["method"]),
        tensors=None if tensors is None else tuple(tensors),
    )


def _is_part(text: Any) -> bool:
    return isinstance(text, str) and text != ""
