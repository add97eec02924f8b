"""The plan of a merge: what happens to each tensor. All checks are made, but no tensor is read."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evomerge.errors import RecipeError, unknown_name
from evomerge.merge.files.places import Merged
from evomerge.merge.methods.base import BASE, Method, Values
from evomerge.merge.methods.registry import find_method
from evomerge.merge.methods.tensor_at import TensorAt
from evomerge.merge.tokens.templates import syntax_problem
from evomerge.recipe import Group, Recipe, TokenizerBuild
from evomerge.recipe.groups import group_problems, group_words, raise_problems
from evomerge.recipe.method import MethodSpec, Parameter
from evomerge.recipe.tokenizer import models_named
from evomerge.system.text import condition, value_word

if TYPE_CHECKING:
    import torch

    from evomerge.merge.family import Family


@dataclass(frozen=True)
class TensorTask:
    """How one tensor of the result is made.

    Attributes:
        tensor: its name, place, shape (and the donor's type).
        dtype: its type in the result.
        method: the method that merges it.
        copy_of: index of the member (-1: the base) that the tensor equals; None if it is merged.
        inputs: indices of the parents that are read, in the order of summation.
        values: the parameters; per-parent numbers are in the order of `inputs`.
        seeds: one per input, for random masks.
        reads_base: whether the base is read beside the inputs.
    """

    tensor: Merged
    dtype: torch.dtype
    method: Method
    copy_of: int | None = None
    inputs: tuple[int, ...] = ()
    values: Values | None = None
    seeds: tuple[int, ...] = ()
    reads_base: bool = False

    @property
    def name(self) -> str:
        """The tensor's name in the result."""
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.tensor.info.shape

    @property
    def members(self) -> tuple[int, ...]:
        """Indices of all members that are read."""
        if self.copy_of is not None:
            return (self.copy_of,)
        return (*self.inputs, BASE) if self.reads_base else self.inputs

    @property
    def n_bytes(self) -> int:
        """Size in the result."""
        return self.tensor.info.n_bytes // self.tensor.info.dtype.itemsize * self.dtype.itemsize


@dataclass(frozen=True)
class MergePlan:
    """A recipe whose every tensor is decided."""

    recipe: Recipe
    family: Family
    tasks: tuple[TensorTask, ...]

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of its tensors."""
        return frozenset(task.name for task in self.tasks)

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods of its tensors, without repeats."""
        return tuple({task.method.spec.name: task.method for task in self.tasks}.values())


def check_recipe(recipe: Recipe) -> dict[str, Method]:
    """Check everything about a recipe that can be checked without its models.

    Returns:
        The method of each name that the recipe and its groups use.

    Raises:
        RecipeError: with every mistake: methods, number of parents, base, names and kinds of parameters.
    """
    problems: list[str] = []
    methods: dict[str, Method] = {}
    for name in recipe.methods:
        try:
            methods[name] = find_method(name)
        except RecipeError as error:
            problems.append(str(error))
            continue
        problems += _member_problems(methods[name].spec, recipe)
    problems += _lender_problems(recipe)
    for i, group in enumerate((None, *recipe.groups)):
        method = methods.get(recipe.method_of(group))
        if method is not None:
            where = "" if group is None else group_words(i - 1, group)
            given = recipe.parameters if group is None else group.parameters
            problems += [where + text for text in _parameter_problems(method.spec, given, recipe, group is not None)]
    for i, group in enumerate((None, *recipe.groups)):
        method = methods.get(recipe.method_of(group))
        if method is None or not _right_number(method.spec, recipe):
            continue  # its numbers cannot be resolved
        where = "" if group is None else group_words(i - 1, group)
        given = recipe.parameters_in(group)
        right = {k: v for k, v in given.items() if not _parameter_problems(method.spec, {k: v}, recipe, False)}
        values = resolve_values(method.spec, right, recipe)
        # Groups inherit mistakes of the recipe's parameters, and parents may have the same, so each counts once.
        found = dict.fromkeys(_value_problems(method, values, recipe, group, right))
        problems.extend(f"{where}{problem}" for problem in found if problem not in problems)
    raise_problems(problems)
    return methods


def _lender_problems(recipe: Recipe) -> list[str]:
    """Return what is wrong with what a recipe says about tokenizer, generation config and chat template."""
    named = [("generation_config", recipe.generation_config), ("chat_template", recipe.chat_template)]
    if isinstance(recipe.tokenizer, TokenizerBuild):
        named.append(("tokenizer.source", recipe.tokenizer.source))
        named += [(f"tokenizer.tokens.{token}", name) for token, name in models_named(recipe.tokenizer)]
    else:
        named.append(("tokenizer", recipe.tokenizer))
    problems = [
        f"{key} is 'base', but the recipe has no base; name a parent instead"
        for key, lender in named
        if lender == "base" and recipe.base is None
    ]
    text = recipe.chat_template
    if text is not None and "{" in text and not recipe.names_template:
        wrong = syntax_problem(text)
        problems += [f"chat_template is no template that Jinja can read: {wrong}"] if wrong else []
    return problems


def _right_number(spec: MethodSpec, recipe: Recipe) -> bool:
    low, high = spec.n_parents
    return low <= len(recipe.parents) and (high is None or len(recipe.parents) <= high)


def _member_problems(spec: MethodSpec, recipe: Recipe) -> list[str]:
    problems = []
    if not _right_number(spec, recipe):
        low, high = spec.n_parents
        wanted = f"exactly {low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        problems.append(f"{spec.name} takes {wanted} parent{'' if high == 1 else 's'}, but came {len(recipe.parents)}: "
                        f"{', '.join(parent.name for parent in recipe.parents)}")  # fmt: skip
    if spec.needs_base and recipe.base is None:
        problems.append(f"{spec.name} measures task vectors from a base; name one with `base:`")
    return problems


def _parameter_problems(spec: MethodSpec, given: Mapping[str, Any], recipe: Recipe, in_group: bool) -> list[str]:
    """Return the mistakes in names and kinds of the parameters that a recipe or a group gives."""
    problems = []
    for name, value in given.items():
        parameter = spec.parameter(name)
        if parameter is None:
            problems.append(unknown_name(f"parameter of {spec.name}", name, [known.name for known in spec.parameters]))
        elif in_group and not parameter.in_groups:
            problems.append(f"{name} of {spec.name} holds for the whole model; set it in `parameters`, not in a group")
        else:
            problems += _kind_problems(parameter, value, recipe)
    return problems


def _value_problems(
    method: Method, values: Values, recipe: Recipe, group: Group | None, right: Mapping[str, Any]
) -> list[str]:
    """Return what is wrong with the values of parameters, of which those in `right` are of the right kind."""
    problems = []
    given = recipe.parameters if group is None else group.parameters
    mistaken = recipe.parameters_in(group).keys() - right.keys()
    for parameter in method.spec.parameters:
        if parameter.name in given:
            asleep = [
                other
                for other, awake in parameter.when.items()
                if values[other] not in awake and other not in mistaken  # what was meant there is not known
            ]
            problems += [
                f"{parameter.name} has no meaning with {other}: {value_word(values[other])}; it counts where "
                f"{condition({other: parameter.when[other]})}"
                for other in asleep
            ]
    if method.uses_base(values) and recipe.base is None and not method.spec.needs_base:
        problems.append(f"{method.spec.name} measures task vectors from a base with these parameters, so name one with "
                        "`base:`")  # fmt: skip
    return problems + method.problems(values)


def make_plan(recipe: Recipe, methods: Mapping[str, Method], family: Family) -> MergePlan:
    """Return the plan of a merge, in which every tensor is decided.

    Args:
        recipe: a checked recipe.
        methods: what `check_recipe` returned for it.
        family: its models.

    Raises:
        RecipeError: if the recipe names layers or tensors that its models do not have.
    """
    raise_problems(group_problems(recipe, family.n_layers, [tensor.name for tensor in family.tensors]))
    resolver = _Resolver(recipe, methods, family)
    return MergePlan(recipe, family, tuple(_task(tensor, resolver, recipe, family) for tensor in family.tensors))


def place_of(family: Family, tensor: Merged) -> TensorAt:
    """Return what a method may know about a tensor."""
    place = tensor.place
    return TensorAt(
        tensor.name, place.role, place.layer, family.n_layers, tuple(tensor.info.shape), place.transposed, place.heads
    )


@dataclass(frozen=True)
class _Resolved:
    """The common part of all tensors of one group."""

    method: Method
    copy_of: int | None
    inputs: tuple[int, ...]
    values: Values
    reads_base: bool

    @classmethod
    def of(cls, method: Method, values: Values, order: Sequence[int]) -> _Resolved:
        active = set(order if method.active is None else method.active(values))
        inputs = tuple(index for index in order if index in active)
        chosen = {
            name: tuple(value[index] for index in inputs) if isinstance(value, tuple) else value
            for name, value in values.items()
        }
        return cls(method, method.one_input(values), inputs, chosen, method.uses_base(values))


class _Resolver:
    """Finds the method and the numbers of each tensor; those of a group only once, unless they depend on the tensor."""

    def __init__(self, recipe: Recipe, methods: Mapping[str, Method], family: Family) -> None:
        self._recipe, self._methods, self._family = recipe, methods, family
        self._by_name = any(group.tensors is not None for group in recipe.groups)
        self._groups: dict[Hashable, Group | None] = {}
        self._values: dict[int | None, Values] = {}
        self._found: dict[int | None, _Resolved] = {}

    def find(self, tensor: Merged) -> _Resolved:
        """Return the method and the numbers of a tensor."""
        recipe, place = self._recipe, tensor.place
        here = (place.role, place.layer, tensor.name if self._by_name else "")
        if here not in self._groups:
            self._groups[here] = recipe.group_of(*here)
        group = self._groups[here]
        key, method = None if group is None else id(group), self._methods[recipe.method_of(group)]
        if key not in self._values:
            self._values[key] = resolve_values(method.spec, recipe.parameters_in(group), recipe)
        values = self._values[key]
        if method.values_at is not None:
            return _Resolved.of(method, method.values_at(values, place_of(self._family, tensor)), self._order(method))
        if key not in self._found:
            self._found[key] = _Resolved.of(method, values, self._order(method))
        return self._found[key]

    def _order(self, method: Method) -> list[int]:
        order = list(range(len(self._recipe.parents)))
        if method.order_free:
            order.sort(key=lambda index: self._recipe.parents[index].name)
        return order


def _task(tensor: Merged, resolver: _Resolver, recipe: Recipe, family: Family) -> TensorTask:
    found = resolver.find(tensor)
    if tensor.place.copied or not tensor.info.dtype.is_floating_point:
        return TensorTask(tensor, tensor.info.result_dtype, found.method, copy_of=family.donor)
    dtype = tensor.info.result_dtype if recipe.dtype is None else family.dtype(recipe.dtype)
    copy_of = found.copy_of if found.copy_of is not None else _common(found, family, tensor.name)
    if copy_of is not None:
        return TensorTask(tensor, dtype, found.method, copy_of=copy_of)
    seeds = tuple(mask_seed(recipe.seed, recipe.parents[i].name, tensor.name) for i in found.inputs)
    return TensorTask(
        tensor,
        dtype,
        found.method,
        inputs=found.inputs,
        values=found.values,
        seeds=seeds,
        reads_base=found.reads_base,
    )


def _common(found: _Resolved, family: Family, name: str) -> int | None:
    """Return the member whose tensor the result equals since adapters leave it as their base has it, or None."""
    spec, values = found.method.spec, found.values
    promised = spec.share_with if found.reads_base else spec.of_equals
    if promised is None or (found.reads_base and spec.share is None):
        return None
    indices = (*found.inputs, BASE) if found.reads_base else found.inputs
    if any(values[key] != value for key, value in promised.items()) or not family.shared(indices, name):
        return None
    return indices[-1] if found.reads_base else indices[0]


def mask_seed(seed: int, parent: str, tensor: str) -> int:
    """Return the seed of the random mask of one parent's tensor; the same in any order, in memory and on disk."""
    digest = hashlib.sha256(f"{seed}\0{parent}\0{tensor}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _kind_problems(parameter: Parameter, value: Any, recipe: Recipe) -> list[str]:
    name = parameter.name
    if parameter.choices:
        if not isinstance(value, str):
            return [f"{name} must be one of {', '.join(parameter.choices)}, but came {value!r}"]
        return [] if value in parameter.choices else [unknown_name(name, value, parameter.choices)]
    if isinstance(parameter.default, bool):
        return [] if isinstance(value, bool) else [f"{name} must be true or false, but came {_plain(value)}"]
    if isinstance(value, Mapping):
        if not parameter.per_parent:
            return [f"{name} is one number for all parents, but came {_plain(value)}"]
        needed = recipe.parents if parameter.for_first else recipe.parents[1:]
        lost = [parent.name for parent in needed if parent.name not in value]
        return [f"{name} gives no number for {', '.join(lost)}, but came {_plain(value)}"] if lost else []
    if isinstance(value, (bool, str)):
        return [f"{name} must be a number{' (or one per parent)' if parameter.per_parent else ''}, but came {value!r}"]
    if parameter.integer:
        numbers = value.values() if isinstance(value, Mapping) else (value,)
        return [f"{name} must be a whole number, but came {each!r}" for each in numbers if not float(each).is_integer()]
    return []


def _plain(value: Any) -> str:
    return repr(dict(value)) if isinstance(value, Mapping) else repr(value)


def resolve_values(spec: MethodSpec, given: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return the parameters with defaults, per-parent ones as tuples in the order of the recipe's parents."""
    values: dict[str, Any] = {}
    for parameter in spec.parameters:
        value = given.get(parameter.name, parameter.default)
        if parameter.per_parent:
            rows = value if isinstance(value, Mapping) else dict.fromkeys((p.name for p in recipe.parents), value)
            value = tuple(float(rows.get(parent.name, parameter.default)) for parent in recipe.parents)
        values[parameter.name] = value
    return values
