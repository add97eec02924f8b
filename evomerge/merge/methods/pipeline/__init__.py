"""What most methods on task vectors share: five slots, one after the other. A method is a choice of one for each.

    τ_i → sparsify → weight → consensus → aggregate → post → θ0 + λΔ

==============  ==================================================================================
``sparsify``    which entries of each τ_i are kept, and what they are multiplied by: none, magnitude,
                random (DARE), magprune (DELLA), outliers (Breadcrumbs), variance (SCE)
``consensus``   which of the kept entries count: none (all), or those with the sign that the weighted
                sum or the majority elects (TIES)
``aggregate``   the weights w_i, and what they make of what counts: sum, mean, disjoint mean, SCE, RAM
``post``        what is done to the merged Δ
``prepared``    what each slot needs to know about the parents, found once per search
``build``       a `Method` from a choice of slots
``method``      the method ``pipeline``, whose slots are parameters, and so may be genes
==============  ==================================================================================

``ties``, ``dare``, ``breadcrumbs``, ``della``, ``sce`` and ``ram`` beside this folder choose the slots of the methods
of those names.
"""
