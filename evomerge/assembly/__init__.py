"""From a checked configuration to the objects of a search.

- `prepare.py`: reads and checks everything before weights are read
- `spaces.py`: stages, spaces, baselines; `memory_plan.py`: what fits into a worker's memory
- `warm_up.py`, `timed_passes.py`: how many threads are fastest, what a dtype costs
- `workers.py`: live models, tasks, devices; `executors.py`, `ray_workers.py`: where candidates run
"""
