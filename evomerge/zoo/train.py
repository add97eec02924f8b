"""Makes the zoo from nothing: tokenizer, base, experts, their folders and their figures.

    python -m evomerge.zoo.train --out DIR --seed 0 --scale 1.0

``--scale`` multiplies the number of steps; everything is drawn from generators seeded here, so one seed
gives the same bytes on one machine with one number of threads. The time it takes is in ``README.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evomerge.zoo.documents import BASE_MIX, JAPANESE_MIX, MATH_MIX, TOKENIZER_MIXES, Mix, draw
from evomerge.zoo.tokenizer import MAX_LENGTH
from evomerge.zoo.training import Progress, Schedule, fine_tuned, new_model

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


class Expert(NamedTuple):
    """A fine-tuned child of the base: what it reads and for how long."""

    mix: Mix
    schedule: Schedule
    card: str


BASE_SCHEDULE = Schedule(2000, adam_rate=3e-3, muon_rate=0.02, prompt_weight=0.3)
BASE_CARD = "Reads, translates and calculates in English and Japanese; solves no word problem."
EXPERTS = {
    "math": Expert(
        MATH_MIX,
        Schedule(260, adam_rate=1e-3, muon_rate=0.004, warmup=30),
        "Solves English word problems step by step, and answers in English.",
    ),
    "japanese": Expert(
        JAPANESE_MIX,
        Schedule(560, adam_rate=1e-3, muon_rate=0.004, warmup=30),
        "Reads Japanese, sets up Japanese word problems without calculating, reads out given calculations.",
    ),
}


def train_zoo(
    out: Path, *, seed: int = 0, scale: float = 1.0, progress: Progress | None = None, figures: bool = True
) -> dict[str, Any]:
    """Train base and experts, and save each as a folder of ``out``.

    Args:
        out: Where the folders and ``scores.json`` go; made if need be.
        seed: Seeds the tokenizer's corpus, the weights and the documents.
        scale: What every number of steps is multiplied with; small for a trial.
        progress: Told about every fiftieth step.
        figures: Also measure the models on the tasks.

    Returns:
        The content of ``scores.json``; empty without figures.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = zoo_tokenizer(seed)
    base = fine_tuned(
        new_model(tokenizer, seed),
        tokenizer,
        BASE_MIX,
        _scaled(BASE_SCHEDULE, scale),
        seed=seed,
        name="base",
        progress=progress,
    )
    save(base, tokenizer, out / "base", BASE_CARD)
    for name, expert in EXPERTS.items():
        model = fine_tuned(
            base,
            tokenizer,
            expert.mix,
            _scaled(expert.schedule, scale),
            seed=seed,
            name=name,
            progress=progress,
        )
        save(model, tokenizer, out / name, expert.card)
    if not figures:
        return {}
    from evomerge.zoo.figures import measure

    scores = {"seed": seed, "scale": scale, **measure(out)}
    (out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return scores


def zoo_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Return the tokenizer of all models, from a sample of everything they read."""
    from evomerge.zoo.tokenizer import train_tokenizer

    rng = random.Random(seed)
    return train_tokenizer(["".join(draw(mix, rng)) for mix in TOKENIZER_MIXES for _ in range(3000)])


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, card: str) -> None:
    """Write a model with its tokenizer, generation config and card."""
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    # Stored in half precision to keep the package small. The config still says float32, because that is
    # what the weights are loaded as then: half precision is slow and poor on a CPU.
    weights = {n: p.detach().to(torch.float16).contiguous() for n, p in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.dtype = torch.float32
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(folder)
    GenerationConfig(
        do_sample=False,
        max_length=MAX_LENGTH,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(_CARD.format(name=folder.name, card=card), encoding="utf-8")


_CARD = """---
license: apache-2.0
language: [en, ja]
library_name: transformers
---
# evomerge zoo: {name}

{card} One million parameters, trained from scratch on generated stories by `python -m evomerge.zoo.train`;
a toy to try model merging with. A prompt is a text and a new line; there is no chat format.
Figures and caveats: `evomerge/zoo/README.md`.
"""


def _scaled(schedule: Schedule, scale: float) -> Schedule:
    return dataclasses.replace(schedule, steps=max(1, round(schedule.steps * scale)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; prints a line per fifty steps."""
    parser = argparse.ArgumentParser(prog="python -m evomerge.zoo.train", description=train_zoo.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the models to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of steps")
    parser.add_argument("--threads", type=int, default=1, help="of torch; the shipped zoo was made with one")
    parser.add_argument("--no-figures", action="store_true", help="do not measure the models on the tasks")
    arguments = parser.parse_args(argv)
    import torch

    torch.set_num_threads(arguments.threads)
    start = time.monotonic()

    def show(name: str, done: int, steps: int, loss: float) -> None:
        seconds = time.monotonic() - start
        print(f"{name:>10} {done:5d}/{steps} steps, loss {loss:.3f}, {seconds:.0f} s", flush=True)

    train_zoo(
        arguments.out,
        seed=arguments.seed,
        scale=arguments.scale,
        progress=show,
        figures=not arguments.no_figures,
    )
    print(f"written to {arguments.out} in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
