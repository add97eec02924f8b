"""Merging: from a recipe to a model, in memory or on disk, with the same bytes.

==============  ==================================================================================
``kernels/``    the element-wise arithmetic, compiled or in plain torch, with the same bits
``files/``      checkpoints as they lie on the disk: tensors, their roles, layers and names
``adapters/``   LoRA adapters on their base, low-rank until a tensor is written
``paths/``      layer paths: which parents can share one, the model in memory, the same as files
``quantiles``   tables by which another density of a trim needs no sort
``methods/``    the merge methods and their registry
``cache``       what is found once per search about the parents, within a memory budget
``family``      opened parents that fit together
``plan``        what happens to each tensor, with all checks made; reads no weights
``apply``       computes one tensor of a plan
``vocabulary``  whether tokenizers and rows of embeddings agree
``sources``     opens each model once; recipes as parents of recipes
``live/``       models in memory that candidates are written into
``disk/``       merges to a Hugging Face folder
==============  ==================================================================================

Each imports only from those above it. Import from these modules by their full path; this one stays light, since most
of them load torch.
"""

__all__: list[str] = []
