"""One worker with a whole GPU against two with half of it each: candidates per minute on the zoo and on a 1B shape.

python benchmarks/scaling/gpu.py [--device cpu] [--shape 100M --layers 3] [--candidates N] [--quick] [--json]

Whole searches by Ray (CMA-ES, population 8), from the ninth candidate on; on `--device cpu`, to try the script where
there is no GPU, one and two workers of one thread. The 1B shape is random, so its answers are worth nothing, and each
runs to its last token.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import show
from models import SHAPES, random_family
from run import searched


def main() -> None:
    """Run both models with one worker and with two, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shape", default="1B", choices=list(SHAPES))
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="a smaller shape, four candidates")
    parser.add_argument("--json", action="store_true", help="one JSON object: figure to value")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.shape, arguments.layers, arguments.candidates = "100M", 2, 4
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("evomerge").setLevel(logging.INFO)  # says where parents are kept, and why
    folder = Path(tempfile.mkdtemp(prefix="gpu"))
    found = {}
    try:
        _, random_words = random_family(folder, layers=arguments.layers, shape=arguments.shape)
        zoo = ["experiment=zoo_ja_math", "evaluation.split={search:100,validation:0,test:0}"]
        random = [
            "experiment=zoo_ja_math",
            "evaluation.split={search:32,validation:0,test:0}",
            *[word for word in random_words if word.startswith("models.")],
        ]
        halves = {1: 1.0, 2: 0.5} if arguments.device != "cpu" else {1: None, 2: None}
        for name, words in (("zoo", zoo), (arguments.shape, random)):
            for workers, gpus in halves.items():
                more = ["execution=ray", f"execution.workers={workers}", f"execution.device={arguments.device}"]
                more += ["execution.threads=1"] if gpus is None else [f"execution.gpus_per_worker={gpus}"]
                seconds, _ = searched([words[0], *more, *words[1:]], arguments.candidates)
                found[f"{name}_{workers}_per_minute"] = 60.0 / seconds
            found[f"{name}_2/1"] = found[f"{name}_2_per_minute"] / found[f"{name}_1_per_minute"]
    finally:
        shutil.rmtree(folder)
    show(found, as_json=arguments.json)


if __name__ == "__main__":
    main()
