"""What is measured of an answer besides the task's own metrics, as one number per item.

- `base`: what a measure sees of an item, and what it is
- `tokens`, `entropy`: the built-in ones; `python_function`: those of the user
- `registry`: all of them by name

Flips against a parent compare two models' item scores, so the objective counts them (`evaluation.objective`).
"""
