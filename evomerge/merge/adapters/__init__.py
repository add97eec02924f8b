"""PEFT LoRA adapters as models: low-rank task vectors on a base, which stay low-rank until a tensor is written.

============  ====================================================================
``config``    what an adapter's configuration says, and what cannot be merged
``names``     which adapter a source names, and which model lies below it
``weights``   the adapter's tensors, by the module that each belongs to
``low_rank``  a change of a tensor as factors, and weighted sums of such changes
``changes``   what an adapter does to a tensor of its base, as data
``slices``    where experts' tensors of files lie in the model's stacks
``mapping``   which tensors of the base an adapter changes, and how
``model``     an adapter on its base as an opened model
``contents``  the files that decide its answers
============  ====================================================================

Import from these modules by their full path.
"""

__all__: list[str] = []
