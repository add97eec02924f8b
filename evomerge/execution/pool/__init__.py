"""Workers in other processes, on Ray: who they are, what they do, what they are given.

- `executor.py`: the executor; `actor.py`: the process of one worker; `cluster.py`: the machines
- `workers.py`: the pool of workers; `queue.py`: what is next, and work stealing; `chunks.py`: parts of one candidate
- `deadline.py`: when a worker counts as hung
"""
