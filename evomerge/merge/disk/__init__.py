"""Merges to a Hugging Face folder.

- `folder.py`: the folder as a whole; `stream.py`: its weight files, written while tensors are computed
- `plain.py`: checkpoints of a common layout, without torch and transformers; `layouts.py`: the tensors of common model
  types, from config.json alone; `flat.py`: tensors without torch
"""
