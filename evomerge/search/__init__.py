"""A search: the loop, and what stands beside it.

- `session.py`: a whole search over one run folder, in as many sessions as it takes; `stage.py`: its parts
- `loop.py`: ask, score, tell; `questions.py`: the way of one candidate to its result
- `candidates.py`: the life of each candidate, and their container; `verdicts.py`: from a verdict to a record
- `turns.py`: who is asked for, taken and told when; `journal.py`: what is written when
- `baselines.py`: parents and average; `splits.py`: recorded models on a whole split
- `winner.py`, `consensus.py`: how a search ends
- `probe.py`: a few answers before the baselines; `plan.py`: how long a search will take
- `budget.py`: when it ends; `events.py`: what it reports while it runs
"""
