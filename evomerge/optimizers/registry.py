"""Optimizers by name: built in, from an installed package or a user's file, or "nevergrad:NAME" for nevergrad's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from evomerge.errors import ConfigError, nearest_name, unknown_name
from evomerge.optimizers.base import Awake, Optimizer
from evomerge.system.registry import Registry

_PREFIX = "nevergrad:"


class _Optimizers(Registry[type[Optimizer]]):
    def all_built_in(self) -> dict[str, type[Optimizer]]:
        """Return the built-in classes by name, with "nevergrad:NAME" for nevergrad's."""
        from evomerge.optimizers.nevergrad_adapter import Nevergrad

        return {**super().all_built_in(), f"{_PREFIX}NAME": Nevergrad}


OPTIMIZERS = _Optimizers(
    "optimizer",
    {
        "cma": "evomerge.optimizers.cma_es:CMA",
        "mixed": "evomerge.optimizers.mixed_es:MixedES",
        "random": "evomerge.optimizers.random_search:RandomSearch",
        "nsga2": "evomerge.optimizers.nsga2:NSGA2",
    },
    group="evomerge.optimizers",
)

_OF_NEVERGRAD = tuple(f"{_PREFIX}{name}" for name in ("NGOpt", "DE", "PSO", "OnePlusOne", "TBPSA"))
"""The optimizers of nevergrad that messages list; there are hundreds more."""


def make_optimizer(
    name: str,
    *,
    n_dims: int,
    start: ArrayLike,
    seed: int,
    kinds: Sequence[int] | None = None,
    awake: Awake | None = None,
    **options: Any,
) -> Optimizer:
    """Return the optimizer of that name.

    Args:
        name: a name in `OPTIMIZERS`, "nevergrad:NAME", or "module:Class".
        n_dims: number of dimensions, from 1.
        start: `(n_dims,)` point of the unit cube where the search begins.
        seed: from 0, of the optimizer's own generator.
        kinds: per dimension 0 for a float, n for an integer with n ordered values, -n for a choice of n; the values are
            equal bins of the unit interval. None: all are floats. Optimizers that do not use kinds take every dimension
            as a float.
        awake: which coordinates of a point count; None: all of them, always.
        options: the optimizer's own; its class lists them.

    Raises:
        ConfigError: with every mistake that `check_optimizer` finds in the name and the options.
        ValueError: if the start or the kinds have another shape, or the start leaves the unit cube.
    """
    found = _name_and_option_problems(name, options, n_dims)
    if found:
        raise ConfigError(found)
    optimizer, fixed = _find(name)
    if optimizer.uses_kinds:
        fixed["kinds"] = kinds
    if optimizer.uses_awake:
        fixed["awake"] = awake
    made: Optimizer = optimizer(n_dims, start, seed, **fixed, **options)
    return made


def check_optimizer(
    name: str,
    options: Mapping[str, Any],
    n_dims: int,
    kinds: Sequence[int] | None = None,
) -> list[str]:
    """Return the mistakes in an optimizer's name and options, one sentence each.

    A nevergrad optimizer is also rehearsed on a test function for as many asks as its `budget` says (at most a few
    seconds). Some of nevergrad's hundreds cannot be resumed, or fail after some hundred asks with some versions of
    their libraries, which should not come to light in the middle of a search. One that is not built in is made once.

    Args:
        name: as for `make_optimizer`.
        options: the optimizer's own.
        n_dims: number of dimensions, from 1.
        kinds: as for `make_optimizer`.

    Raises:
        ValueError: if `kinds` has another length.
    """
    if kinds is not None and len(kinds) != n_dims:
        raise ValueError(f"kinds must have {n_dims} entries, one per dimension, but has {len(kinds)}")
    found = _name_and_option_problems(name, dict(options), n_dims)
    if not found and name.startswith(_PREFIX):
        from evomerge.optimizers.nevergrad_adapter import rehearse

        found = rehearse(name.removeprefix(_PREFIX), n_dims, **options)
    elif not found and name not in OPTIMIZERS.built_in:
        try:  # better known now than when the parents were scored
            make_optimizer(name, n_dims=n_dims, start=[0.5] * n_dims, seed=0, kinds=kinds, **options)
        except Exception as error:  # a class of the user's may raise anything
            found = [f"the optimizer {name} cannot be made in {n_dims} dimensions: {_said(error)}"]
    return found


def _find(name: str) -> tuple[Any, dict[str, Any]]:
    """Return the class for which a name stands (or what else it names by mistake), and options that the name holds."""
    if name.startswith(_PREFIX):
        from evomerge.optimizers.nevergrad_adapter import Nevergrad

        return Nevergrad, {"algorithm": name.removeprefix(_PREFIX)}
    return OPTIMIZERS.find(name), {}


def _name_and_option_problems(name: str, options: dict[str, Any], n_dims: int) -> list[str]:
    found = _name_problems(name)
    if found and not name.startswith(_PREFIX):
        near = nearest_name(name, OPTIMIZERS.built_in)  # whose options are probably meant
        return found if near is None else [*found, *_name_and_option_problems(near, options, n_dims)]
    optimizer, _ = _find(name)
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        return [f"the optimizer {name} must be a class that inherits evomerge.optimizers.Optimizer, not {optimizer!r}"]
    found += [
        unknown_name(f"option of the optimizer {name}", key, optimizer.OPTIONS)
        for key in options
        if key not in optimizer.OPTIONS
    ]
    known = {key: value for key, value in options.items() if key in optimizer.OPTIONS}
    if name in OPTIMIZERS.built_in or name.startswith(_PREFIX):
        return [*found, *optimizer.problems(known, n_dims)]
    try:
        return [*found, *optimizer.problems(known, n_dims)]
    except Exception as error:  # a class of the user's may raise anything
        return [*found, f"the optimizer {name} cannot check its options: {_said(error)}"]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _name_problems(name: str) -> list[str]:
    if name.startswith(_PREFIX):
        from evomerge.optimizers.nevergrad_adapter import name_problems

        return name_problems(name.removeprefix(_PREFIX))
    if name == "nevergrad":
        return ["`nevergrad` needs the name of one of its optimizers, for example nevergrad:DE or nevergrad:NGOpt"]
    if ":" not in name and name not in OPTIMIZERS:
        return [unknown_name("optimizer", name, (*OPTIMIZERS.names, *_OF_NEVERGRAD))]
    return OPTIMIZERS.problems(name)
