"""Strategies, which propose recipes and take results.

- `base.py`: the contract (`Strategy`, `Proposal`)
- `vector.py`: a space with an optimizer of arrays

Populations and archives, which breed recipes from recipes, are further strategies, one in each file.
"""

from evomerge.strategies.base import Proposal, Strategy
from evomerge.strategies.vector import VectorStrategy

__all__ = ["Proposal", "Strategy", "VectorStrategy"]
