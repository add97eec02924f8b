"""Fixtures: the tiny model with its tokenizer, and a folder of local lm-eval tasks whose answers are known."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from evaluation_helpers import (
    CHOICE,
    GENERATION,
    N_TEST,
    WORDS,
    Tiny,
    continuation,
    make_model,
    make_tokenizer,
    questions,
    write_task,
)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    tokenizer = make_tokenizer()
    return Tiny(make_model(len(tokenizer)), tokenizer)


@pytest.fixture(scope="session")
def right_items() -> frozenset[int]:
    """Items of the task "copy" whose gold answer is what the tiny model says."""
    return frozenset(i for i in range(N_TEST) if i % 3 == 0)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny, right_items: frozenset[int]) -> Path:
    """A folder with tasks of every kind."""
    folder = tmp_path_factory.mktemp("tasks")
    prompts = questions(N_TEST, seed=1)
    said = [continuation(tiny, prompt) for prompt in prompts]
    documents = [
        {"question": prompt, "answer": answer if i in right_items else "no such answer"}
        for i, (prompt, answer) in enumerate(zip(prompts, said, strict=True))
    ]
    write_task(folder, "copy", {"test": documents}, **GENERATION)
    # The gold answer is the first letter or digit that the model writes; a second filter gives the last one.
    letters = [next((c for c in answer if c.isascii() and c.isalnum()), "?") for answer in said]
    write_task(
        folder,
        "letters",
        {"test": [{"question": q, "answer": c} for q, c in zip(prompts, letters, strict=True)]},
        **GENERATION,
        filter_list=[
            {"name": "first", "filter": [{"function": "regex", "regex_pattern": "([A-Za-z0-9])"},
                                         {"function": "take_first"}]},
            {"name": "last", "filter": [{"function": "regex", "regex_pattern": "([A-Za-z0-9])", "group_select": -1},
                                        {"function": "take_first"}]},
        ],
    )  # fmt: skip
    rng = random.Random(2)
    choices = [
        {"question": q, "choices": rng.sample(WORDS, 4), "gold": rng.randrange(4)}
        for q in questions(N_TEST + 6, seed=3)
    ]
    write_task(folder, "choice", {"test": choices[:N_TEST], "train": choices[N_TEST:]}, **CHOICE)
    write_task(
        folder,
        "choice_shots",
        {"test": choices[:N_TEST], "train": choices[N_TEST:]},
        **CHOICE,
        num_fewshot=2,
        training_split="train",
        fewshot_split="train",
    )
    write_task(folder, "choice_shots_shared", {"test": choices[:N_TEST]}, **CHOICE, num_fewshot=3)
    write_task(folder, "choice_other", {"test": choices[N_TEST:]}, **CHOICE)
    write_task(
        folder,
        "next_word",
        {"test": [{"question": q, "answer": f" {rng.choice(WORDS)}"} for q in questions(10, seed=4)]},
        output_type="loglikelihood",
    )
    write_task(
        folder,
        "texts",
        {"test": [{"question": "", "answer": " ".join(rng.choices(WORDS, k=20))} for _ in range(8)]},
        output_type="loglikelihood_rolling",
    )
    return folder
