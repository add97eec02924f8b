"""Optimizers by name: "cma", "mixed", "random", or "nevergrad:NAME" for any optimizer of nevergrad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from numpy.typing import ArrayLike

from evomerge.errors import ConfigError, unknown_name
from evomerge.optimizers import cma_es, mixed_es, nevergrad_adapter, random_search
from evomerge.optimizers.base import Optimizer
from evomerge.system.registry import Registry

OPTIMIZERS: Registry[type[Optimizer]] = Registry(
    "optimizer",
    {
        "cma": "evomerge.optimizers.cma_es:CMA",
        "mixed": "evomerge.optimizers.mixed_es:MixedES",
        "random": "evomerge.optimizers.random_search:RandomSearch",
    },
    group="evomerge.optimizers",
)

_PREFIX = "nevergrad:"
_MODULES: Mapping[str, ModuleType] = {"cma": cma_es, "mixed": mixed_es, "random": random_search}
_NAMES = (
    *_MODULES,
    "nevergrad:NGOpt",
    "nevergrad:DE",
    "nevergrad:PSO",
    "nevergrad:OnePlusOne",
    "nevergrad:TBPSA",
)
"""The names that messages list; nevergrad has some hundred more."""


def make_optimizer(
    name: str, *, n_dims: int, start: ArrayLike, seed: int, kinds: Sequence[int] | None = None, **options: Any
) -> Optimizer:
    """Return the optimizer of that name.

    Args:
        name: "cma", "mixed", "random" or "nevergrad:NAME".
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)` point of the unit cube where the search begins.
        seed: from 0, of the optimizer's own generator.
        kinds: per dimension 0 for a float, n for an integer with n ordered values, -n for a choice of n; the values are
            equal bins of the unit interval. None: all are floats. Of use to "mixed" only; to the others every dimension
            is a float.
        options: the optimizer's own; the classes `CMA`, `MixedES`, `RandomSearch` and `Nevergrad` list them.

    Raises:
        ConfigError: naming everything that `check_optimizer` finds wrong with the name and the options.
        ValueError: if the start or the kinds have another shape, or the start leaves the unit cube.
    """
    found = _name_and_option_problems(name, options, n_dims)
    if found:
        raise ConfigError(found)
    if name == "cma":
        return cma_es.CMA(n_dims, start, seed, **options)
    if name == "mixed":
        return mixed_es.MixedES(n_dims, start, seed, kinds=kinds, **options)
    if name == "random":
        return random_search.RandomSearch(n_dims, start, seed, **options)
    return nevergrad_adapter.Nevergrad(n_dims, start, seed, algorithm=name.removeprefix(_PREFIX), **options)


def check_optimizer(
    name: str, options: Mapping[str, Any], n_dims: int, kinds: Sequence[int] | None = None
) -> list[str]:
    """Return what is wrong with an optimizer's name and options, one sentence each; nothing is left behind.

    `kinds` is as for `make_optimizer`; a list of another length is a mistake of the caller (ValueError).

    A nevergrad optimizer is also rehearsed on a test function for as many asks as its `budget` says (at most a few
    seconds), because some of nevergrad's hundreds cannot be resumed, or fail after some hundred asks with some versions
    of their libraries: better known now than in the middle of a search.
    """
    if kinds is not None and len(kinds) != n_dims:
        raise ValueError(f"kinds must have {n_dims} entries, one per dimension, but has {len(kinds)}")
    found = _name_and_option_problems(name, dict(options), n_dims)
    if not found and name.startswith(_PREFIX):
        found = nevergrad_adapter.rehearse(name.removeprefix(_PREFIX), n_dims, **options)
    return found


def _name_and_option_problems(name: str, options: dict[str, Any], n_dims: int) -> list[str]:
    module: ModuleType
    if name.startswith(_PREFIX):
        module, found = nevergrad_adapter, nevergrad_adapter.name_problems(name.removeprefix(_PREFIX))
    elif name in _MODULES:
        module, found = _MODULES[name], []
    elif name == "nevergrad":
        return ["`nevergrad` needs the name of one of its optimizers, for example nevergrad:DE or nevergrad:NGOpt"]
    else:
        return [unknown_name("optimizer", name, _NAMES)]
    found += [
        unknown_name(f"option of the optimizer {name}", key, module.OPTIONS)
        for key in options
        if key not in module.OPTIONS
    ]
    return found + module.problems({key: options[key] for key in options if key in module.OPTIONS}, n_dims)
