"""Merges to a Hugging Face folder.

- `folder.py`: the folder as a whole; `stream.py`: tensor by tensor
- `plain.py`: checkpoints of a common layout, without torch and transformers; `layouts.py`: the tensors of common model
  types, from config.json alone; `flat.py`: tensors without torch
"""
