"""Trains `tutor` from the zoo's `math`: it goes on calculating in English, and learns to read Japanese.

So one parent has both skills that are to be kept, and merges that keep both exist by construction, near it.
"""

from __future__ import annotations

from pathlib import Path

from evomerge.zoo import zoo_path
from evomerge.zoo.documents import MATH_MIX, Mix, read_japanese
from evomerge.zoo.train import save
from evomerge.zoo.training import Schedule, fine_tuned

MIX: Mix = ((60, read_japanese), *((0.4 * weight, maker) for weight, maker in MATH_MIX))
SCHEDULE = Schedule(350, adam_rate=1e-3, muon_rate=0.003, warmup=20)


def train(folder: Path, seed: int = 0) -> Path:
    """Train the model with one thread, and return its folder."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(zoo_path("math"))
    start = LlamaForCausalLM.from_pretrained(zoo_path("math"), dtype=torch.float32).train()
    model = fine_tuned(start, tokenizer, MIX, SCHEDULE, seed=seed, name="tutor", progress=_say)
    save(model, tokenizer, folder, "English arithmetic and Japanese reading, trained from zoo:math for a study.")
    return folder


def _say(name: str, done: int, steps: int, loss: float) -> None:
    print(f"{name}: {done} of {steps} steps, loss {loss:.3f}", flush=True)
