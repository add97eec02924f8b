"""Models in memory that candidates are written into.

- `models.py`: one face for merges and layer paths; `model.py`: the live model of merges
- `writer.py`: what is rewritten for a candidate; `placement.py`: over which devices
"""
