"""Layer paths: which parents can share one, the path as a model in memory, and as a stock checkpoint.

- `compatible.py`: whether layers of several parents can stand in one model; `live_path.py`: the model in memory
- `plan.py`, `config.py`: what the files of a path hold; `fold.py`: scales folded into weights
- `homogeneity.py`: which norms forget the scale of their input
"""
