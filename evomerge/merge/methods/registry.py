"""The registry of merge methods, by the names that recipes use; loads no torch."""

from __future__ import annotations

from dataclasses import replace
from types import FunctionType

from evomerge.errors import ConfigError, RecipeError
from evomerge.merge.methods.base import Method
from evomerge.merge.methods.function import from_function
from evomerge.recipe import PASSTHROUGH
from evomerge.system.registry import Registry

_HERE = "evomerge.merge.methods"

METHODS: Registry[Method] = Registry(
    "merge method",
    {
        "linear": f"{_HERE}.linear:METHOD",
        "geometric_median": f"{_HERE}.geometric_median:METHOD",
        "slerp": f"{_HERE}.slerp:METHOD",
        "nuslerp": f"{_HERE}.nuslerp:METHOD",
        "multislerp": f"{_HERE}.multislerp:METHOD",
        "karcher": f"{_HERE}.karcher:METHOD",
        "model_stock": f"{_HERE}.model_stock:METHOD",
        "task_arithmetic": f"{_HERE}.task_arithmetic:METHOD",
        "rebase": f"{_HERE}.rebase:METHOD",
        "nearswap": f"{_HERE}.nearswap:METHOD",
        "pipeline": f"{_HERE}.pipeline.method:METHOD",
        "ties": f"{_HERE}.ties:METHOD",
        "dare_linear": f"{_HERE}.dare:LINEAR",
        "dare_ties": f"{_HERE}.dare:TIES",
        "breadcrumbs": f"{_HERE}.breadcrumbs:SUM",
        "breadcrumbs_ties": f"{_HERE}.breadcrumbs:TIES",
        "della": f"{_HERE}.della:METHOD",
        "della_linear": f"{_HERE}.della:LINEAR",
        "sce": f"{_HERE}.sce:METHOD",
        "ram": f"{_HERE}.ram:RAM",
        "ramplus_tl": f"{_HERE}.ram:RAM_PLUS",
        "consensus_ta": f"{_HERE}.consensus_ta:METHOD",
        "compeft": f"{_HERE}.compeft:METHOD",
        "pcb": f"{_HERE}.pcb:METHOD",
        "arcee_fusion": f"{_HERE}.arcee_fusion:METHOD",
        "iso_c": f"{_HERE}.iso:ISO_C",
        "iso_cts": f"{_HERE}.iso:ISO_CTS",
        "tsv_m": f"{_HERE}.tsv:METHOD",
        "laser": f"{_HERE}.laser:METHOD",
        "knots": f"{_HERE}.knots:METHOD",
        "twin": f"{_HERE}.twin:METHOD",
        "opcm": f"{_HERE}.opcm:METHOD",
        "expo": f"{_HERE}.expo:METHOD",
        "git_rebasin": f"{_HERE}.git_rebasin:METHOD",
        "layer_swap": f"{_HERE}.layer_swap:METHOD",
        PASSTHROUGH: f"{_HERE}.passthrough:METHOD",
    },
    group="evomerge.methods",
)
"""Every method by name: built in, from an installed package, or "my_file.py:METHOD" from a file of the user's.

What stands under a name of a package's or a user's may be a plain function, too.
"""


def find_method(name: str) -> Method:
    """Return the method that a recipe names.

    Args:
        name: one of `METHODS`, "module:attribute" or "path/to/file.py:attribute".

    Returns:
        The method; its `spec.name` is the given name, so that recipes which a space makes with it find it again.

    Raises:
        RecipeError: if there is no method of that name, it cannot be imported, or it is neither a `Method` nor a
            function that can be one (see `evomerge.merge.methods.function`).
    """
    try:
        found: object = METHODS.find(name)
    except ConfigError as error:
        raise RecipeError(str(error)) from error
    if isinstance(found, FunctionType):
        return from_function(found, name)
    if not isinstance(found, Method):
        raise RecipeError(
            f"{METHODS.kind} {name!r} must be an `evomerge.merge.methods.base.Method` or a function, but is a "
            f"{type(found).__name__}"
        )
    return found if found.spec.name == name else replace(found, spec=replace(found.spec, name=name))
