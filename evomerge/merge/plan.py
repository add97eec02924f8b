"""The plan of a merge: what happens to each tensor. All checks are made, but no tensor is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evomerge.errors import RecipeError, unknown_name
from evomerge.merge.files.places import Merged
from evomerge.merge.methods.base import Method, Values
from evomerge.merge.methods.registry import find_method
from evomerge.recipe import Group, Recipe
from evomerge.recipe.method import MethodSpec, Parameter

if TYPE_CHECKING:
    import torch

    from evomerge.merge.family import Family


@dataclass(frozen=True)
class TensorTask:
    """How one tensor of the result is made.

    Attributes:
        tensor: its name, place, shape (and the donor's type).
        dtype: its type in the result.
        copy_of: index of the member (-1: the base) that the tensor equals; None if it is merged.
        inputs: indices of the parents that are read, in the order of summation.
        values: the parameters; per-parent numbers are in the order of `inputs`.
        seeds: one per input, for random masks.
    """

    tensor: Merged
    dtype: torch.dtype
    copy_of: int | None = None
    inputs: tuple[int, ...] = ()
    values: Values | None = None
    seeds: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The tensor's name in the result."""
        return self.tensor.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.tensor.info.shape

    @property
    def n_bytes(self) -> int:
        """Size in the result."""
        return self.tensor.info.n_bytes // self.tensor.info.dtype.itemsize * self.dtype.itemsize


@dataclass(frozen=True)
class MergePlan:
    """A recipe whose every tensor is decided."""

    recipe: Recipe
    family: Family
    method: Method
    tasks: tuple[TensorTask, ...]


def check_recipe(recipe: Recipe) -> Method:
    """Check everything about a recipe that can be checked without its models, and return its method.

    Raises:
        RecipeError: with every mistake: method, number of parents, base, names and kinds of parameters.
    """
    method = find_method(recipe.method)
    spec = method.spec
    problems = []
    low, high = spec.n_parents
    if len(recipe.parents) < low or (high is not None and len(recipe.parents) > high):
        wanted = f"exactly {low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        problems.append(f"{spec.name} takes {wanted} parents, but came {len(recipe.parents)}: "
                        f"{', '.join(parent.name for parent in recipe.parents)}")  # fmt: skip
    if spec.needs_base and recipe.base is None:
        problems.append(f"{spec.name} measures task vectors from a base; name one with `base:`")
    for key, lender in (("tokenizer", recipe.tokenizer), ("generation_config", recipe.generation_config)):
        if lender == "base" and recipe.base is None:
            problems.append(f"{key} is 'base', but the recipe has no base; name a parent instead")
    for where, values in (
        ("", recipe.parameters),
        *((_where(i, g), g.parameters) for i, g in enumerate(recipe.groups)),
    ):
        for name, value in values.items():
            parameter = spec.parameter(name)
            if parameter is None:
                kind = f"parameter of {spec.name}"
                problems.append(where + unknown_name(kind, name, [known.name for known in spec.parameters]))
            else:
                problems.extend(f"{where}{text}" for text in _kind_problems(parameter, value, recipe))
    if not problems:  # otherwise the numbers cannot be resolved
        for where, given in _parameter_sets(recipe):
            # Groups inherit mistakes of the recipe's parameters, and parents may have the same, so each counts once.
            found = dict.fromkeys(method.problems(_resolve(spec, given, recipe)))
            problems.extend(f"{where}{problem}" for problem in found if problem not in problems)
    _raise(problems)
    return method


def make_plan(recipe: Recipe, method: Method, family: Family) -> MergePlan:
    """Return the plan of a merge, in which every tensor is decided.

    Args:
        recipe: a checked recipe.
        method: what `check_recipe` returned for it.
        family: its models.

    Raises:
        RecipeError: if the recipe names layers that its models do not have.
    """
    n_layers = family.n_layers
    _raise([
        f"{_where(i, group)}layers {list(group.layers)} reach beyond the {n_layers} layers of the model"
        for i, group in enumerate(recipe.groups)
        if group.layers is not None and group.layers[1] > n_layers
    ])  # fmt: skip
    order = list(range(len(recipe.parents)))
    if method.order_free:
        order.sort(key=lambda index: recipe.parents[index].name)
    resolved: dict[tuple[str, int | None], _Resolved] = {}
    tasks = []
    for tensor in family.tensors:
        place = tensor.place
        key = (place.role, place.layer)
        if key not in resolved:
            resolved[key] = _Resolved.of(method, _resolve(method.spec, recipe.parameters_of(*key), recipe), order)
        tasks.append(_task(tensor, resolved[key], recipe, family))
    return MergePlan(recipe, family, method, tuple(tasks))


@dataclass(frozen=True)
class _Resolved:
    """The common part of all tensors of one role in one layer."""

    copy_of: int | None
    inputs: tuple[int, ...]
    values: Values

    @classmethod
    def of(cls, method: Method, values: Values, order: Sequence[int]) -> _Resolved:
        active = set(method.active(values))
        inputs = tuple(index for index in order if index in active)
        chosen = {
            name: tuple(value[index] for index in inputs) if isinstance(value, tuple) else value
            for name, value in values.items()
        }
        return cls(method.one_input(values), inputs, chosen)


def _task(tensor: Merged, resolved: _Resolved, recipe: Recipe, family: Family) -> TensorTask:
    if tensor.place.buffer or not tensor.info.dtype.is_floating_point:
        return TensorTask(tensor, tensor.info.dtype, copy_of=family.donor)
    dtype = tensor.info.dtype if recipe.dtype is None else family.dtype(recipe.dtype)
    if resolved.copy_of is not None:
        return TensorTask(tensor, dtype, copy_of=resolved.copy_of)
    seeds = tuple(mask_seed(recipe.seed, recipe.parents[i].name, tensor.name) for i in resolved.inputs)
    return TensorTask(tensor, dtype, inputs=resolved.inputs, values=resolved.values, seeds=seeds)


def mask_seed(seed: int, parent: str, tensor: str) -> int:
    """Return the seed of the random mask of one parent's tensor; the same in any order, in memory and on disk."""
    digest = hashlib.sha256(f"{seed}\0{parent}\0{tensor}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _where(index: int, group: Group) -> str:
    return f"groups[{index}]{f' ({group.name})' if group.name else ''}: "


def _parameter_sets(recipe: Recipe) -> list[tuple[str, dict[str, Any]]]:
    """Return the parameters outside of all groups and in each group, each with the place where they are written."""
    sets = [("", dict(recipe.parameters))]
    sets += [(_where(i, group), {**recipe.parameters, **group.parameters}) for i, group in enumerate(recipe.groups)]
    return sets


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
        lost = [parent.name for parent in recipe.parents if parent.name not in value]
        return [f"{name} gives no number for {', '.join(lost)}, but came {_plain(value)}"] if lost else []
    if isinstance(value, (bool, str)):
        return [f"{name} must be a number{' (or one per parent)' if parameter.per_parent else ''}, but came {value!r}"]
    return []


def _plain(value: Any) -> str:
    return repr(dict(value)) if isinstance(value, Mapping) else repr(value)


def _resolve(spec: MethodSpec, given: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return the parameters with defaults, per-parent ones as tuples in the order of the recipe's parents."""
    values: dict[str, Any] = {}
    for parameter in spec.parameters:
        value = given.get(parameter.name, parameter.default)
        if parameter.per_parent:
            rows = value if isinstance(value, Mapping) else dict.fromkeys((p.name for p in recipe.parents), value)
            value = tuple(float(rows[parent.name]) for parent in recipe.parents)
        values[parameter.name] = value
    return values


def _raise(problems: Sequence[str]) -> None:
    if len(problems) == 1:
        raise RecipeError(problems[0])
    if problems:
        raise RecipeError("\n".join([f"{len(problems)} mistakes in the recipe:", *(f"  - {one}" for one in problems)]))
