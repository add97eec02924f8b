"""A tiny random Llama, a tokenizer trained on the spot, and local lm-eval tasks written from documents."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evomerge.evaluation.intervals import mean_score
from evomerge.evaluation.objective import Objectives
from evomerge.record import ItemScore, Score, Split

WORDS = "red blue green cat dog bird sun moon star run walk fly one two three four five six".split()  # noqa: SIM905
N_TEST = 24


@dataclass(frozen=True)
class Tiny:
    model: Any
    tokenizer: Any


def make_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    rng = random.Random(0)
    tokenizer.train_from_iterator([" ".join(rng.choices(WORDS, k=12)) for _ in range(200)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def make_model(vocab_size: int, seed: int = 0) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def continuation(tiny: Tiny, prompt: str, n_tokens: int = 8) -> str:
    """The model's greedy answer by transformers alone, one prompt at a time, without padding."""
    import torch

    ids = tiny.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        for _ in range(n_tokens):
            ids = torch.cat([ids, tiny.model(ids).logits[:, -1:].argmax(dim=-1)], dim=1)
    return str(tiny.tokenizer.decode(ids[0, -n_tokens:], skip_special_tokens=True))


def write_task(folder: Path, name: str, documents: dict[str, Sequence[dict[str, Any]]], **config: Any) -> Path:
    """Write a YAML task with its documents per dataset split."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, lines in documents.items():
        path = folder / f"{name}.{split}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        files[split] = str(path)
    data = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        **config,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def questions(n: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"{i} " + " ".join(rng.choices(WORDS, k=rng.randint(3, 9))) + " :" for i in range(n)]


GENERATION: dict[str, Any] = {
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{gold}}",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
        {"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False},
    ],
}


def fitness(objectives: Objectives, scores: Sequence[ItemScore], split: Split = Split.SEARCH) -> float:
    """The result as one number, as an optimizer of one number is told it."""
    return objectives.result(scores, split).scalar([one.weight for one in objectives.objectives])


def fitness_of(objectives: Objectives, means: Sequence[float]) -> float:
    """The same of means that are known."""
    return objectives.result_of(means).scalar([one.weight for one in objectives.objectives])


def term_scores(objectives: Objectives, scores: Sequence[ItemScore]) -> list[Score]:
    """Each entry's plain mean, in its own unit and direction, with its interval."""
    return [mean_score(list(values.values())) for values in objectives.answers(scores).values()]
