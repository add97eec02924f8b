"""Greedy answers on the zoo: our engine against lm-eval's HFLM at its best batch size, on the same candidate.

python benchmarks/generation.py [--quick] [--json] [--rounds N]

Both engines answer the same 100 items of each task with the same merged model, in turn; a ratio is of neighbouring
runs, of the process's CPU time (one thread), which other work on the machine disturbs less than wall time. The answers
must be equal, or the script fails.

A step reads one token of each row that is in the batch. Counted are these row-steps as they are, with rows that leave
once their answer ends; as they would be if all rows stayed to the end; and the steps for other batch sizes, with and
without filling the places of rows that left from the queue at once.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from machine import machine
from transformers import AutoTokenizer

from evomerge.evaluation.engines import hf as hf_engine
from evomerge.evaluation.engines.base import Call, Engine, Response
from evomerge.evaluation.engines.registry import make_engine
from evomerge.evaluation.engines.rows import Rows
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.quiet import quiet
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.merge.live.model import LiveModel
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Split
from evomerge.zoo import tasks_path, zoo_path

TASKS = ("zoo_ja_math", "zoo_en_math", "zoo_ja_reading")
"""Two of generation, one of multiple choice."""
BATCH_SIZES = (32, 64, 128)


def candidate(weight: float = 0.7) -> tuple[Any, Any]:
    """The middle of the experiment's search space: both experts' task vectors, 0.7 times each."""
    parents = tuple(Parent(name, ModelSource(f"zoo:{name}")) for name in ("math", "japanese"))
    base = Parent("base", ModelSource("zoo:base"))
    live = LiveModel(base.source, dtype="float32")
    live.write(Recipe("task_arithmetic", parents, base, {"weight": weight, "lambda": 1.0}, dtype="float32"))
    return live.model.eval(), AutoTokenizer.from_pretrained(zoo_path("base"))


def calls_of(task: str, model: Any, tokenizer: Any) -> Call:
    """The task's requests, as the harness hands them to an engine."""
    made = LmHarness(
        [TaskSpec(task, "acc")],
        sizes=SplitSizes(search=100, validation=0, test=0),
        include_path=[tasks_path()],
        batch_size=128,
    )
    made.score(model, tokenizer, Split.SEARCH)
    (((call, _),),) = made._prepared.values()
    return call


def cpu_seconds(engine: Engine, prepared: Any, model: Any, tokenizer: Any) -> tuple[float, list[Response]]:
    start = time.process_time()
    with quiet():
        responses = engine.answer(model, tokenizer, prepared, None)
    return time.process_time() - start, list(responses)


def answer_lengths(call: Call, model: Any, tokenizer: Any) -> tuple[list[int], int]:
    """Return how many tokens each answer has, in the order of generation, and how many row-steps were done."""
    lengths: list[int] = []
    row_steps = 0
    inner, step = hf_engine.generate, Rows.step

    def noted(*args: Any, **kwargs: Any) -> list[list[int]]:
        answers = inner(*args, **kwargs)
        lengths.extend(map(len, answers))
        return answers

    def counted(rows: Rows, tokens: torch.Tensor) -> torch.Tensor:
        nonlocal row_steps
        row_steps += len(tokens)
        return step(rows, tokens)

    hf_engine.generate, Rows.step = noted, counted  # type: ignore[assignment, method-assign]
    try:
        engine = make_engine("hf", batch_size=128, max_length=None)
        cpu_seconds(engine, engine.prepare(call), model, tokenizer)
    finally:
        hf_engine.generate, Rows.step = inner, step  # type: ignore[method-assign]
    return lengths, row_steps


def steps_in_batches(lengths: Sequence[int], batch_size: int) -> int:
    """Return the steps of one batch after the other; each takes as long as its longest answer, less its first token."""
    return sum(max(lengths[i : i + batch_size]) - 1 for i in range(0, len(lengths), batch_size))


def steps_refilled(lengths: Sequence[int], batch_size: int) -> int:
    """Return the steps if each row that leaves is replaced at once by the next in the queue."""
    ends = [0] * batch_size
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length - 1)
    return max(ends)


def leaving(call: Call, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Count what rows that leave save, and what filling their places would."""
    lengths, row_steps = answer_lengths(call, model, tokenizer)
    return {
        "row_steps": row_steps,
        "all_stay": len(lengths) * (max(lengths) - 1),
        "least": sum(length - 1 for length in lengths),
        "steps": {
            size: (steps_in_batches(lengths, size), steps_refilled(lengths, size)) for size in (8, 16, 32, len(lengths))
        },
    }


def best_batch_size(call: Call, model: Any, tokenizer: Any, rounds: int) -> int:
    """The batch size at which lm-eval's wrapper is fastest."""
    engines = {size: make_engine("lm-eval", batch_size=size, max_length=None) for size in BATCH_SIZES}
    times: dict[int, list[float]] = {size: [] for size in BATCH_SIZES}
    for _ in range(rounds):
        for size, engine in engines.items():
            times[size].append(cpu_seconds(engine, call, model, tokenizer)[0])
    return min(BATCH_SIZES, key=lambda size: min(times[size]))


def compare(task: str, model: Any, tokenizer: Any, rounds: int) -> dict[str, Any]:
    call = calls_of(task, model, tokenizer)
    size = best_batch_size(call, model, tokenizer, 1 + rounds // 5)
    theirs = make_engine("lm-eval", batch_size=size, max_length=None)
    ours = make_engine("hf", batch_size=128, max_length=None)
    prepared = ours.prepare(call)
    cpu_seconds(ours, prepared, model, tokenizer)  # tries the model, measures its memory
    cpu_seconds(theirs, call, model, tokenizer)
    ratios, mine, other = [], [], []
    for _ in range(rounds):
        seconds, expected = cpu_seconds(theirs, call, model, tokenizer)
        other.append(seconds)
        seconds, responses = cpu_seconds(ours, prepared, model, tokenizer)
        mine.append(seconds)
        ratios.append(other[-1] / mine[-1])
        if not all(map(same, responses, expected)):
            raise SystemExit(f"{task}: the two engines answer differently")
    return {
        "ratio": statistics.median(ratios),
        "batch_size": size,
        "ours_ms": 1e3 * statistics.median(mine),
        "lm_eval_ms": 1e3 * statistics.median(other),
        "leaving": leaving(call, model, tokenizer) if call.kind == "generate_until" else None,
    }


def same(mine: Response, theirs: Response) -> bool:
    """Whether texts are equal, or log-probabilities up to the rounding of float32."""
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return mine[1] == theirs[1] and abs(mine[0] - theirs[0]) <= 2e-5 * max(1.0, abs(theirs[0]))
    return mine == theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="pairs of runs for each task")
    parser.add_argument("--quick", action="store_true", help="three pairs, two tasks; under 50 seconds")
    parser.add_argument("--json", action="store_true", help="one object: name, ratio")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = candidate()
    tasks, rounds = (TASKS[::2], 3) if arguments.quick else (TASKS, arguments.rounds)
    found = {task: compare(task, model, tokenizer, rounds) for task in tasks}
    if arguments.json:
        ratios = {f"{task}: lm-eval / ours": one["ratio"] for task, one in found.items()}
        for task, one in found.items():
            if one["leaving"]:
                ratios[f"{task}: row-steps, leaving / staying"] = (
                    one["leaving"]["row_steps"] / one["leaving"]["all_stay"]
                )
        print(json.dumps(ratios))
        return
    print(f"{machine()}, float32")
    print("task             lm-eval / ours   ours ms   lm-eval ms (its best batch size)")
    for task, one in found.items():
        print(
            f"{task:<16} {one['ratio']:>14.2f} {one['ours_ms']:>9.0f} {one['lm_eval_ms']:>12.0f} ({one['batch_size']})"
        )
    for task, one in found.items():
        counts = one["leaving"]
        if counts:
            print(
                f"{task}: {counts['row_steps']} row-steps; {counts['all_stay']} if all rows stayed, {counts['least']} "
                "if each left at once. Steps, one batch after the other / filling places that became free: "
                + ", ".join(f"{a}/{b} with {size} rows" for size, (a, b) in counts["steps"].items())
            )


if __name__ == "__main__":
    main()
