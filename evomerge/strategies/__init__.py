"""Strategies, which propose recipes and take results.

- `base.py`: the contract (`Strategy`, `Proposal`), and what a strategy is made from (`StrategySetup`)
- `registry.py`: strategies by name
- `vector.py`: a space with an optimizer of arrays
- `greedy_soup.py`: a uniform average that takes up one parent after the other

Populations and archives, which breed recipes from recipes, are further strategies, one in each file.
"""

from evomerge.strategies.base import Proposal, Strategy, StrategySetup
from evomerge.strategies.registry import STRATEGIES, check_strategy, make_strategy
from evomerge.strategies.vector import VectorStrategy

__all__ = ["STRATEGIES", "Proposal", "Strategy", "StrategySetup", "VectorStrategy", "check_strategy", "make_strategy"]
