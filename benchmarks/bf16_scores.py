"""How often rounding gives an item another score: our engine against lm-eval on the saved model, on the zoo.

python benchmarks/bf16_scores.py [--quick] [--json] [--dtype bfloat16] [--items N]

The base, both experts and merges of them are written in place and scored by our engine; merged to disk, they are loaded
and scored by lm-eval's own `simple_evaluate`, which knows nothing of us. Both run in bfloat16: batches of another
composition round differently, so a near tie may fall the other way. As a yardstick lm-eval is held against itself at
another batch size. In float32 every score must be equal, or the script fails.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from machine import machine

from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.quiet import quiet
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.live.models import LiveModels
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Split
from evomerge.zoo import tasks_path

TASKS = {"zoo_ja_math": "generate_until", "zoo_ja_reading": "multiple choice"}
METRIC = "acc"
BATCH, OTHER_BATCH = 64, 16
"""Of all, and of lm-eval's second run."""

Answers = dict[str, dict[int, tuple[float, str]]]
"""Task, item: its score and the text of the answer ("" for multiple choice)."""


def models(dtype: str, quick: bool) -> dict[str, Recipe]:
    """The parents, each alone, and merges."""
    parent = {name: Parent(name, ModelSource(f"zoo:{name}")) for name in ("base", "math", "japanese")}
    experts = (parent["math"], parent["japanese"])
    found = {name: Recipe("linear", (one,), dtype=dtype) for name, one in parent.items()}
    for weight in (0.5, 0.7, 0.9):
        parameters = {"weight": weight, "lambda": 1.0}
        found[f"task arithmetic {weight}"] = Recipe("task_arithmetic", experts, parent["base"], parameters, dtype=dtype)
    parameters = {"weight": 0.8, "density": 0.6, "lambda": 1.0}
    found["TIES"] = Recipe("ties", experts, parent["base"], parameters, dtype=dtype)
    return {name: found[name] for name in ("math", "task arithmetic 0.7")} if quick else found


@dataclass
class Ours:
    """Our engine on a live model; the engine's responses are noted as they pass."""

    items: int
    dtype: str
    live: LiveModels = field(init=False)

    def __post_init__(self) -> None:
        self.live = LiveModels(dtype=self.dtype)
        self.harness = LmHarness(
            [TaskSpec(task, METRIC) for task in TASKS],
            sizes=SplitSizes(search=self.items, validation=0, test=0),
            include_path=[tasks_path()],
            batch_size=BATCH,
        )
        self.chosen = self.harness.split_items(Split.SEARCH)
        engine = self.harness._engine_made()
        inner, self._texts = engine.answer_units, {}

        def answer_units(model: Any, tokenizer: Any, division: Any, *rest: Any) -> Any:
            responses = inner(model, tokenizer, division, *rest)
            call = division.work.prepared.call
            for place, response in responses.items():
                task = call.tasks[place]
                item = self.chosen[task][call.instances[place].doc_id]  # an instance counts the chosen items
                self._texts[task, item] = response if isinstance(response, str) else ""
            return responses

        engine.answer_units = answer_units  # type: ignore[method-assign]

    def run(self, recipe: Recipe) -> Answers:
        """Write a recipe in place and score it."""
        self._texts.clear()
        self.live.write(recipe)
        found: Answers = {task: {} for task in TASKS}
        for score in self.harness.score(self.live.model, self.live.tokenizer, Split.SEARCH):
            found[score.task][score.item] = (score.metrics[METRIC], self._texts[score.task, score.item])
        return found


def lm_eval_on(folder: Path, items: dict[str, list[int]], dtype: str, batch_size: int, tasks: TaskManager) -> Answers:
    """Score a saved model with lm-eval alone."""
    with quiet():
        model = HFLM(pretrained=str(folder), dtype=dtype, batch_size=batch_size, device="cpu")
        results = simple_evaluate(
            model, tasks=list(TASKS), samples=items, task_manager=tasks, bootstrap_iters=0
        )["samples"]  # fmt: skip
    generated = {task for task, kind in TASKS.items() if kind == "generate_until"}
    return {
        task: {one["doc_id"]: (one[METRIC], one["resps"][0][0] if task in generated else "") for one in results[task]}
        for task in TASKS
    }


def differences(some: Answers, others: Answers, task: str) -> tuple[int, int]:
    """Return of how many items the score differs, and of how many the text."""
    pairs = [(some[task][item], others[task][item]) for item in sorted(some[task].keys() | others[task].keys())]
    return sum(a[0] != b[0] for a, b in pairs), sum(a[1] != b[1] for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100, help="of each task")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--quick", action="store_true", help="two models, 20 items; under 50 seconds")
    parser.add_argument("--json", action="store_true", help="one object: name, share of the items")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ours = Ours(20 if arguments.quick else arguments.items, arguments.dtype)
    items = {task: list(chosen) for task, chosen in ours.chosen.items()}
    manager = TaskManager(include_path=str(tasks_path()), include_defaults=False)
    counts = {task: [0, 0, 0, 0] for task in TASKS}  # scores and texts: ours, lm-eval itself
    recipes = models(arguments.dtype, arguments.quick)
    for name, recipe in recipes.items():
        with tempfile.TemporaryDirectory() as folder:
            saved = merge_to_disk(recipe, Path(folder) / "model", sources=ours.live.sources)
            theirs = lm_eval_on(saved, items, arguments.dtype, BATCH, manager)
            again = lm_eval_on(saved, items, arguments.dtype, OTHER_BATCH, manager)
        mine = ours.run(recipe)
        for task in TASKS:
            found = [*differences(mine, theirs, task), *differences(again, theirs, task)]
            counts[task] = [a + b for a, b in zip(counts[task], found, strict=True)]
            if arguments.dtype == "float32" and any(found[:2]):
                raise SystemExit(f"{name}, {task}: {found[0]} scores and {found[1]} texts differ in float32")
    n = {task: len(items[task]) * len(recipes) for task in TASKS}
    if arguments.json:
        print(json.dumps({
            f"{task}: {what}": round(counts[task][i] / n[task], 4)
            for task in TASKS for i, what in enumerate(("other scores than lm-eval", "other texts than lm-eval"))
        }))  # fmt: skip
        return
    print(f"{machine()}, {arguments.dtype}, models: {', '.join(recipes)}")
    print(
        f"items that differ from lm-eval on the saved model (batches of {BATCH}); in brackets, lm-eval's own when its"
    )
    print(f"batches have {OTHER_BATCH}")
    for task, kind in TASKS.items():
        score, text, own_score, own_text = counts[task]
        texts = f", text {text} ({own_text})" if kind == "generate_until" else ""
        print(f"{task}, {kind}: score {score} ({own_score}){texts} of {n[task]}")


if __name__ == "__main__":
    main()
