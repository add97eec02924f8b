"""A LoRA adapter of one skill, trained with PEFT on the answers alone."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from skills import Item

BATCH = 16
"""Items of a step, unless told otherwise."""


def _batch(tokenizer: Any, items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return tokens, attention mask and the places whose next token is part of an answer, each [items, tokens]."""
    rows = [
        (tokenizer(item.question)["input_ids"], tokenizer(f" {item.answer}\n", add_special_tokens=False)["input_ids"])
        for item in items
    ]
    longest = max(len(asked) + len(answer) for asked, answer in rows)
    tokens = torch.full((len(rows), longest), tokenizer.pad_token_id)
    mask, learned = torch.zeros_like(tokens), torch.zeros_like(tokens, dtype=torch.bool)
    for i, (asked, answer) in enumerate(rows):
        both = asked + answer
        tokens[i, : len(both)] = torch.tensor(both)
        mask[i, : len(both)] = 1
        learned[i, len(asked) - 1 : len(both) - 1] = True
    return tokens, mask, learned


def train(
    base: Path, items: Sequence[Item], out: Path, *, steps: int, seed: int, batch: int = BATCH, rank: int = 8
) -> dict[str, float]:
    """Train an adapter of all linear layers and save it as PEFT does; return seconds and the last losses' mean."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)  # PEFT draws A from the global generator
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)  # on CPUs without AMX quicker than bf16
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    draw, losses, began = random.Random(seed), [], time.perf_counter()
    for step in range(steps):
        tokens, mask, learned = _batch(tokenizer, draw.sample(items, batch))
        hidden = model.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        logits = model.lm_head(hidden[learned])  # the head is a fifth of the model: only where an answer is learned
        loss = torch.nn.functional.cross_entropy(logits, tokens.roll(-1, 1)[learned])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapted.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if step % 10 == 9 or step == steps - 1:
            took = time.perf_counter() - began
            left = took / (step + 1) * (steps - step - 1)
            print(f"  step {step + 1}/{steps}: loss {losses[-1]:.3f}, {left:.0f} s left", file=sys.stderr, flush=True)
    adapted.save_pretrained(out)
    last = losses[-10:]
    return {"seconds": time.perf_counter() - began, "loss": sum(last) / len(last)}
