"""Prompts that begin alike, such as eight solved examples before each question: read the beginning once, or with each.

python benchmarks/prefix.py [--quick] [--json] [--rounds N] [--prompts N]

A random Llama of 98 million parameters reads synthetic prompts of the length of 8-shot GSM8K: 900 tokens in common and
45 to 75 of its own. Both ways go through our engine's own prefill, in turn, and must end in the same logits. The time
is the process's CPU time, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from machine import machine
from transformers import LlamaConfig, LlamaForCausalLM

from evomerge.evaluation.engines.forward import Forward
from evomerge.evaluation.engines.rows import Rows, read_prefix

VOCABULARY = 8192


def make_model(quick: bool) -> Any:
    width, layers = (384, 6) if quick else (768, 12)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=2048,
        initializer_range=0.05,
    )
    return LlamaForCausalLM(config).eval()


def make_prompts(n: int) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The shared tokens, and the whole prompts, longest first."""
    rng = random.Random(0)
    shared = tuple(rng.choices(range(VOCABULARY), k=900))
    prompts = [shared + tuple(rng.choices(range(VOCABULARY), k=rng.randint(45, 75))) for _ in range(n)]
    return shared, sorted(prompts, key=len, reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    parser.add_argument("--prompts", type=int, default=8, help="prompts in the batch")
    parser.add_argument("--quick", action="store_true", help="6 prompts, a model of 17 million; under 50 seconds")
    parser.add_argument("--json", action="store_true", help="one object: name, ratio")
    arguments = parser.parse_args()
    n = 6 if arguments.quick else arguments.prompts
    torch.set_num_threads(1)
    model = make_model(arguments.quick)
    forward = Forward(model)
    shared, prompts = make_prompts(n)
    limits = [1] * n
    ratios, with_, without, worst = [], [], [], 0.0
    with torch.no_grad():
        for _ in range(2 if arguments.quick else arguments.rounds):
            start = time.process_time()
            expected = Rows(forward, prompts, limits, reserved=True).read()
            middle = time.process_time()
            logits = Rows(forward, prompts, limits, reserved=True, prefix=read_prefix(forward, shared)).read()
            end = time.process_time()
            without.append(middle - start)
            with_.append(end - middle)
            ratios.append(without[-1] / with_[-1])
            worst = max(worst, float((logits - expected).abs().max() / expected.abs().max()))
            if worst > 1e-4:
                raise SystemExit(f"a shared prefix changes the logits by {worst:.1e} of the largest")
    if arguments.json:
        print(json.dumps({"prefill of each prompt / with a shared prefix": statistics.median(ratios)}))
        return
    n_parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{machine()}, float32")
    print(f"{n_parameters:.0f} million parameters, {n} prompts of 900 shared tokens and 45 to 75 own ones")
    print(
        f"without / with a shared prefix {statistics.median(ratios):.2f} "
        f"({statistics.median(without):.2f} s / {statistics.median(with_):.2f} s); logits differ by {worst:.0e}"
    )


if __name__ == "__main__":
    main()
