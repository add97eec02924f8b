"""Measures: numbers per item that are taken of an answer besides the task's own metrics.

- `base.py`: what a measure is, and what it sees of an item; `registry.py`: all measures by name
- `tokens.py`, `ending.py`, `repetition.py`, `script.py`, `entropy.py`: the built-in measures
- `python_function.py`: functions of the user

Negative flips and answers in a foreign script compare the item scores of models, so the objective counts them
(`evaluation.objective`).
"""
