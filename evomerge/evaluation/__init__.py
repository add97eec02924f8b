"""Scores live models on benchmark tasks.

- `task.py`: what the user asks for: tasks, metrics, directions, weights, split sizes
- `subset.py`: the fixed search, validation and test items of a run
- `objective.py`: from item scores to objectives and limits; `intervals.py`: 95 % intervals
- `terms.py`: what one entry measures; `measures/`: what can be measured besides the tasks' own metrics; `scripts.py`:
  the script of an answer
- `harness.py`: runs lm-eval tasks on a model in memory; needs torch
- `index.py`: the names that lm-eval knows; `catalog.py`, `metrics.py`: checking entries; metrics per item
- `prepared_task.py`: a loaded task with its requests; `quiet.py`: other libraries' output kept away
- `engines/`: what answers the requests
"""

from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import SplitSizes, TaskSpec

__all__ = ["Objectives", "SplitSizes", "TaskSpec"]
