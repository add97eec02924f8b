"""The merge methods: plain functions on fp32 tensors, one method or family a file, by topic.

==================== ==========================================================================
``registry``         every method by name; loads no torch
``base``             what a `Method` is, what it gets (`Inputs`), arithmetic that several share
``parameters``       parameters that several methods declare alike
``tensor_at``        what a method may know about a tensor beside its entries
``function``         a method from a plain function

averages
``linear``           weighted average
``geometric_median`` the point with the smallest summed distance

angles
``gram``             merges in the span of their inputs, by dot products found once per search
``slerp``            the arc between two parents
``nuslerp``          the same by weights, also of rows, columns and task vectors
``multislerp``       mean direction in one step
``karcher``          mean direction on the sphere
``model_stock``      the average, back towards the base by the angles of task vectors

task vectors
``task_arithmetic``  base + weighted sum of task vectors
``rebase``           the first parent plus the others' task vectors
``nearswap``         task vector clipped to a largest change

sparse task vectors
``pipeline``         the slots of which the next six are choices, and the method whose parameters
                     they are
``ties``             trim, elect, disjoint mean
``dare``             random drop and rescale, then linear or TIES
``breadcrumbs``      without the largest and smallest entries, then linear or TIES
``della``            random drop by rank within rows and rescale, then TIES or linear
``sce``              select by variance, weigh by mean squares, erase minority signs
``ram``              what one parent alone changes whole, means of the rest
``consensus_ta``     what serves several tasks (TALL masks)
``compeft``          task vectors as signs and one number
``pcb``              entries compete within and between task vectors
``ranks``            entries by rank among those of many tensors
``arcee_fusion``     the entries that matter most

subspaces
``matrices``         matrices of a tensor and decompositions
``spectra``          singular values made even, or cut to the largest
``mean_elsewhere``   what happens to all other tensors
``iso``              all singular values equal: Iso-C and Iso-CTS
``tsv``              TSV-Merge: an equal share of singular directions for each parent
``laser``            matrices cut to their largest singular values
``knots``            KnOTS: TIES in a basis that the task vectors share
``twin``             Twin-Merging: a shared model and low-rank parts of the parents
``opcm``             models merged one after the other, each projected away from what was merged
``projection``       that projection

one model
``expo``             one model, moved further along its way from the base

alignment
``git_rebasin``      the average after units were put in one order
``units``            what in a model has no order: hidden units, heads
``matching``         the order in which one model's units are most like another's

layers
``layer_swap``       the ends of one model, the middle of another
``passthrough``      layers as they are: the method of layer paths
==================== ==========================================================================

To add a method, write its file and list it in `registry`; a case in `tests/merge/cases/` makes the property tests pick
it up. A method of one's own needs no change here: see `docs/methods.md`.
"""
