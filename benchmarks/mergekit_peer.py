"""The other side of `candidates_per_minute.py`: a resident process that merges with mergekit and scores with lm-eval.

It runs in an environment that has mergekit and lm-eval, and is told what to do in lines of JSON. What is imported, and
the list of tasks, stays; a candidate is what the two libraries offer: `run_merge` into a folder,
`AutoModelForCausalLM.from_pretrained`, `HFLM` and `simple_evaluate`.

    {"merge": configuration of mergekit, "task": file, "items": [...], "batch_size": n, "metric": name}
    {"seconds": s, "cpu": s, "parts": {"merge": s, "load": s, "evaluate": s, "environment": s}, "scores": [...]}
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import lm_eval.evaluator
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from transformers import AutoModelForCausalLM

OPTIONS = MergeOptions(quiet=True, write_model_card=False)


class Peer:
    """Keeps what a resident process may keep."""

    def __init__(self) -> None:
        self.tasks = TaskManager(include_defaults=False)
        self._environment = 0.0
        inner = lm_eval.evaluator.add_env_info

        def timed(results: Any) -> None:
            start = time.perf_counter()
            inner(results)
            self._environment += time.perf_counter() - start

        lm_eval.evaluator.add_env_info = timed  # the note on the machine that each result carries

    def candidate(self, told: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Merge into a folder, load it, score it."""
        self._environment = 0.0
        cpu, times = os.times(), [time.perf_counter()]
        run_merge(MergeConfiguration.model_validate(told["merge"]), str(folder), OPTIONS)
        times.append(time.perf_counter())
        model = AutoModelForCausalLM.from_pretrained(folder)
        times.append(time.perf_counter())
        name = Path(told["task"]).stem
        results = lm_eval.evaluator.simple_evaluate(
            HFLM(pretrained=model, tokenizer=str(folder), batch_size=told["batch_size"]),
            tasks=[told["task"]],
            task_manager=self.tasks,
            samples={name: told["items"]},
            bootstrap_iters=0,
        )
        times.append(time.perf_counter())
        used = os.times()
        samples = sorted(results["samples"][name], key=lambda sample: sample["doc_id"])
        merge, load, evaluate = (b - a for a, b in itertools.pairwise(times))
        return {
            "seconds": times[-1] - times[0],
            "cpu": sum(used[:4]) - sum(cpu[:4]),  # with the processes that it starts
            "parts": {"merge": merge, "load": load, "evaluate": evaluate, "environment": self._environment},
            "scores": [sample[told["metric"]] for sample in samples],
        }


def main() -> None:
    # What the libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    peer = Peer()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        folder = Path(tempfile.mkdtemp(prefix="candidate-"))
        try:
            print(json.dumps(peer.candidate(json.loads(line), folder)), file=answers, flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
