"""Merging: from a recipe to a model, in memory or on disk, with the same bytes.

=================  ============================================================================
``checkpoint``     where a model lies; its tensors, memory-mapped and read one at a time
``architecture``   role and layer of each tensor, from the model's own module tree
``naming``         which parameter each tensor in the files fills
``parents``        opened models, and whether they fit together
``methods/``       the merge methods: plain functions on tensors
``plan``           what happens to each tensor, with all checks made; reads no weights
``apply``          computes one tensor of a plan
``sources``        opens each model once; recipes as parents of recipes
``resident``       one live model that candidates are written into
``disk``           a Hugging Face folder
``plain``          the same for checkpoints of a common layout, without torch and transformers
``layouts``        the tensors of common model types, from config.json alone
=================  ============================================================================

Import from these modules by their full path; this one stays light, since most of them load torch.
"""

__all__: list[str] = []
