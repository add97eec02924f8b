"""The merge methods: plain functions on fp32 tensors, one method or family a file.

===================  ==========================================================================
``registry``         every method by name; loads no torch
``base``             what a `Method` is, what it gets (`Inputs`), parameters that several share
``matrices``         decompositions that methods on singular values share
``mean_elsewhere``   what these do with all other tensors
``linear``           weighted average
``task_arithmetic``  base + weighted sum of task vectors
``slerp``            the arc between two parents
``ties``             trim, elect, disjoint mean
``dare``             random drop and rescale, then linear or TIES
``iso``              all singular values equal: Iso-C and Iso-CTS
``tsv``              TSV-Merge: an equal share of singular directions for each parent
``laser``            matrices cut to their largest singular values
``passthrough``      layers as they are: the method of layer paths
===================  ==========================================================================

To add a method, write its file and list it in `registry`; the conformance tests then pick it up. A method of one's own
needs no change here: see `docs/methods.md`.
"""
