"""Models in memory that candidates are written into.

- `models.py`: one interface for merges and layer paths; `model.py`: the live model of merges
- `writer.py`: writes what a candidate changes; `placement.py`: a model over several devices
"""
