"""Scores live models on benchmark tasks.

- `task`: what the user asks for: tasks, metrics, directions, weights, split sizes
- `subset`: the fixed search, validation and test items of a run
- `objective`: item scores → one number, with a 95 % interval (`intervals`)
- `lm_harness`: runs lm-eval tasks on a model in memory; needs torch
- `catalog`, `metrics`, `prepared`, `quiet`: its parts: finding and checking tasks by name, per-item values, a task
  with its requests built once, other libraries' noise kept away
"""

from evomerge.evaluation.objective import Objective
from evomerge.evaluation.task import SplitSizes, TaskSpec

__all__ = ["Objective", "SplitSizes", "TaskSpec"]
