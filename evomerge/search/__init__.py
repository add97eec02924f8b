"""A search: the loop, and what stands beside it.

- `session.py`: a whole search over one run folder, in as many sessions as it takes; `stage.py`: its parts
- `loop.py`: ask, score, tell; `questions.py`: the way of one candidate to its result
- `candidates.py`: one life a candidate, and the container that the loop asks; `verdicts.py`: a result in its record
- `turns.py`: who is asked for, taken and told when; `journal.py`: what is written when
- `baselines.py`, `splits.py`: parents and average; recorded models on a whole split
- `winner.py`, `consensus.py`: how it ends
- `budget.py`, `events.py`: when it ends; what it tells meanwhile
"""
