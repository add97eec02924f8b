"""Workers in other processes, on Ray: the pool, the work queue, and work stealing.

- `executor.py`: the executor; `settings.py`: how many workers it starts, and of what size
- `workers.py`: the pool of workers and what each is doing; `queue.py`: the work queue, and work stealing
- `ranges.py`: one candidate that several workers answer; `deadline.py`: when a worker counts as hung
- `actor.py`: the process of one worker; `answers.py`: its answers to the driver; `cluster.py`: the machines;
  `sessions.py`: what Ray leaves on this one
"""
