"""A process that merges with mergekit, in an environment of its own; it answers lines of JSON.

What it is told has the keys `recipe` (mergekit's configuration), `out` (a folder) and `seed`; what it answers has the
key `error`, which is null or says what went wrong.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the libraries print must not come between the answers
    torch.set_num_threads(1)
    for line in sys.stdin:
        told = json.loads(line)
        options = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, random_seed=told["seed"])
        error = None
        try:
            run_merge(MergeConfiguration.model_validate(told["recipe"]), told["out"], options)
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        print(json.dumps({"error": error}), file=answers, flush=True)


if __name__ == "__main__":
    main()
