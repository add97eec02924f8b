"""Optimizers: move points in the unit cube towards larger fitness; they know no model and no recipe.

- `base`: the ask/tell contract (`Optimizer`, `Point`)
- `registry`: `make_optimizer` builds one by name, `check_optimizer` lists what is wrong with a name and its options
- `cma_es`: CMA-ES, full or separable (pycma); the default
- `mixed_es`: an evolution strategy for floats, integers and choices
- `nevergrad_adapter`: any optimizer of nevergrad by name
- `random_search`: uniform points, the baseline that every other one must beat
- `ledger`, `state`: what they share: which proposals are outstanding; states as bytes that run no code when loaded

The libraries are imported only when an optimizer of theirs is made.
"""

from evomerge.optimizers.base import Optimizer, Point
from evomerge.optimizers.registry import check_optimizer, make_optimizer

__all__ = ["Optimizer", "Point", "check_optimizer", "make_optimizer"]
