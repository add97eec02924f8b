"""The merge methods: plain functions on fp32 tensors, one method or family a file.

===================  ==========================================================================
``base``             what a `Method` is, what it gets (`Inputs`), parameters that several share
``linear``           weighted average
``task_arithmetic``  base + weighted sum of task vectors
``slerp``            the arc between two parents
``ties``             trim, elect, disjoint mean
``dare``             random drop and rescale, then linear or TIES
``passthrough``      layers as they are: the method of layer paths
===================  ==========================================================================

To add a method, write its file and list it in `METHODS`; the conformance tests then pick it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from evomerge.merge.methods import dare, linear, passthrough, slerp, task_arithmetic, ties
from evomerge.merge.methods.base import Inputs, Method

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.spec.name: method
        for method in (
            linear.METHOD,
            slerp.METHOD,
            task_arithmetic.METHOD,
            ties.METHOD,
            dare.LINEAR,
            dare.TIES,
            passthrough.METHOD,
        )
    }
)
"""Every method by the name that recipes use."""

__all__ = ["METHODS", "Inputs", "Method"]
