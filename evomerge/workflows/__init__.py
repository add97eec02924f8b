"""One use case a file: what the Python API and the command line do.

- `search.py`: one run to its winner; `run.py`: a run folder, to be read
- `evaluate.py`: scores one model; `full_evaluation.py`: scores models on all items
- `responses.py`: who answered what in a run
- `profile.py`: where a candidate's time goes; `show.py`: draws a layer path
"""
