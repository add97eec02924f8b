"""Scores live models on benchmark tasks.

- `task`: what the user asks for: tasks, metrics, directions, weights, split sizes
- `subset`: the fixed search, validation and test items of a run
- `objective`: item scores → one number, with a 95 % interval (`intervals`)
- `measures`: what is measured of answers besides the tasks' own metrics; `terms`: which of all that an entry means
- `lm_harness`: runs lm-eval tasks on a model in memory; needs torch
- `catalog`, `metrics`, `prepared`, `quiet`: its parts: finding and checking tasks by name, per-item values, a task
  with its requests built once, other libraries' noise kept away
- `encoding`: requests as token ids, by lm-eval's rules; `engines`: the contract of what answers them, and their names
- `hf_engine`: the default engine; `lm_eval_engine`: lm-eval's own wrapper, for what the default one leaves to it
- `generation`, `stopping`, `likelihood`: greedy answers, where they end, log-probabilities of continuations
- `rows`, `kv_cache`, `forward`, `finite`: a batch on its way through the model; its cache, its passes, its check
- `batching`, `memory`: which requests share a pass, within the measured memory
- `support`: what a model can do, found out by trial
"""

from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import SplitSizes, TaskSpec

__all__ = ["Objectives", "SplitSizes", "TaskSpec"]
