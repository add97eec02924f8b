"""Tiny parents with cards, and a run over them, for the tests of the export."""

from __future__ import annotations

from pathlib import Path

import pytest

from evomerge.recipe import ModelSource, Parent, Recipe


def write_parent(folder: Path, seed: int, card: str | None) -> Path:
    """Write a random two-layer Llama with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"word{i}" for i in range(61))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = "{{ messages[0]['content'] }}"
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_pretrained(folder)
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("parents")
    return {
        "base": write_parent(root / "base-model", 0, "---\nlicense: apache-2.0\nlanguage: [en]\n---\n# base\n"),
        "math": write_parent(root / "math-model", 1, "---\nlicense: apache-2.0\nlanguage: en\n---\n# math\n"),
        "japanese": write_parent(root / "ja-model", 2, "---\nlicense: Apache-2.0\nlanguage: [ja, en]\n---\n"),
    }


@pytest.fixture
def recipe(parents: dict[str, Path]) -> Recipe:
    return Recipe(
        method="task_arithmetic",
        base=Parent("base", ModelSource(str(parents["base"]))),
        parents=tuple(Parent(name, ModelSource(str(parents[name]))) for name in ("math", "japanese")),
        parameters={"weight": {"math": 0.75, "japanese": 0.5}},
    )
