"""What the models of a zoo score on its tasks, alone and averaged."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.zoo import MODELS, tasks_path

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

TASKS = ("zoo_ja_math", "zoo_ja_math_test", "zoo_en_math", "zoo_ja_setup", "zoo_ja_reading")


def measure(zoo: Path) -> dict[str, Any]:
    """Return the scores of every model of a folder, and of the plain mean of the experts.

    Returns:
        Per task its number of items, and per model the share of each measure, between 0 and 1.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    models = {name: AutoModelForCausalLM.from_pretrained(zoo / name) for name in MODELS}
    tokenizer = AutoTokenizer.from_pretrained(zoo / MODELS[0])
    models["average"] = average([models[name] for name in MODELS[1:]])
    results = {name: task_scores(model, tokenizer) for name, model in models.items()}
    return {
        task: {
            "items": results["base"][task]["items"],
            **{name: {k: v for k, v in scores[task].items() if k != "items"} for name, scores in results.items()},
        }
        for task in TASKS
    }


def task_scores(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, tasks: tuple[str, ...] = TASKS
) -> dict[str, dict[str, float]]:
    """Return a model's measures on each task, and the number of items, as lm-eval reports them."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    found = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=128),
        tasks=list(tasks),
        task_manager=TaskManager(include_path=str(tasks_path()), include_defaults=False),
        bootstrap_iters=0,
        # None leaves the global generators alone; nothing here is random.
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    scores: dict[str, dict[str, float]] = {}
    for task in tasks:
        scores[task] = {"items": found["n-samples"][task]["effective"]}
        for key, value in found["results"][task].items():
            measure, _, which = key.partition(",")
            if which == "none" and not measure.endswith("_stderr") and measure != "acc_norm":
                scores[task][measure] = round(value, 4)
    return scores


def average(models: list[LlamaForCausalLM]) -> LlamaForCausalLM:
    """Return the plain mean of models; the base is not among them."""
    from evomerge.zoo.training import with_weights

    states = [model.state_dict() for model in models]
    mean = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    return with_weights(models[0].config, mean).eval()


def interval(share: float, items: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson's)."""
    z = 1.96
    middle = (share + z * z / (2 * items)) / (1 + z * z / items)
    half = z / (1 + z * z / items) * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items))
    return middle - half, middle + half


def table(scores: dict[str, Any]) -> str:
    """Return the scores as the Markdown table of ``README.md``: a share, and its 95 % interval."""
    names = [*MODELS, "average"]
    lines = [f"| task, measure | n | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for task in TASKS:
        items = scores[task]["items"]
        for measure in scores[task][names[0]]:
            cells = []
            for name in names:
                share = scores[task][name][measure]
                low, high = interval(share, items)
                cells.append(f"{share:.3f} ({max(low, 0.0):.2f}–{high:.2f})")
            lines.append(f"| `{task}` {measure} | {items} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure the shipped models anew and print the table."""
    from evomerge.zoo import zoo_path

    print(table(measure(zoo_path("base").parent)))


if __name__ == "__main__":
    main()
