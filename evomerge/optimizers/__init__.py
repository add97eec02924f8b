"""Optimizers move points in the unit cube towards better results; they know no model and no recipe.

- `base.py`: the ask/tell contract (`Optimizer`, `Point`)
- `registry.py`: `make_optimizer` makes one by name, `check_optimizer` lists mistakes in a name and its options
- `cma_es.py`: CMA-ES, full or separable (pycma); the default
- `mixed_es.py`: an evolution strategy for floats, integers and choices
- `nsga2.py`: NSGA-II, for several objectives; `pareto.py`: fronts and crowding
- `nevergrad_adapter.py`: any optimizer of nevergrad by name
- `random_search.py`: uniform points, which every other optimizer must beat
- `ledger.py`, `state.py`: outstanding proposals; states as bytes that run no code when they are loaded

A library is imported only when an optimizer of it is made.
"""

from evomerge.optimizers.base import Optimizer, Point
from evomerge.optimizers.registry import check_optimizer, make_optimizer

__all__ = ["Optimizer", "Point", "check_optimizer", "make_optimizer"]
