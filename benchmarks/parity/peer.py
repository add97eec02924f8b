"""A process that merges with mergekit, in an environment of its own; it answers lines of JSON.

    {"recipe": mergekit's configuration, "out": folder, "seed": n}   →   {"error": null or text}
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What the libraries print must not come between the answers.
ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

torch.set_num_threads(1)
for line in sys.stdin:
    told = json.loads(line)
    options = MergeOptions(quiet=True, write_model_card=False, copy_tokenizer=False, random_seed=told["seed"])
    error = None
    try:
        run_merge(MergeConfiguration.model_validate(told["recipe"]), told["out"], options)
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    print(json.dumps({"error": error}), file=ANSWERS, flush=True)
