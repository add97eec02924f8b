"""Llamas whose next token is a table of the present one, with a tokenizer of bytes, in folders made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

SPECIALS = ("<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(folder: Path, *, add_bos: bool = False, template: Any = None, **names: Any) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    inner = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if add_bos:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", **names}
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
        **{key: token for key, token in tokens.items() if token},
    )
    if template is not None:
        made.chat_template = template
    made.save_pretrained(folder)
    return made


def ids(text: str) -> list[int]:
    from tokenizers import pre_tokenizers

    alphabet = {char: i + len(SPECIALS) for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    return [alphabet[char] for char in text]


def table(
    folder: Path,
    follows: dict[int, int | dict[int, float]],
    *,
    generation: dict[str, Any] | None = None,
    template: Any = None,
    tokens: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """Write a model that says `follows[token]` after a token, or each of several with its logit; "</s>" otherwise."""
    from transformers import LlamaConfig, LlamaForCausalLM

    n, hidden = 262, 264
    settings = {
        "vocab_size": n,
        "hidden_size": hidden,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 3,
        **config,
    }
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**settings))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(n, hidden))
        head = torch.zeros(n, hidden)
        for now in range(n):
            said = follows.get(now, 1)
            for token, logit in (said if isinstance(said, dict) else {said: 12.0}).items():
                head[token, now] = logit
        model.lm_head.weight.copy_(head / hidden**0.5)
    model.save_pretrained(folder)
    tokenizer(folder, template=template, **(tokens or {}))
    if generation is None:
        (folder / "generation_config.json").unlink(missing_ok=True)
    else:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def random(folder: Path, seed: int, *, add_bos: bool = False, **config: Any) -> Path:
    """Write a small Llama of random weights, large enough for its answers to depend on the whole prompt."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids_of = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3}
    settings = {"vocab_size": 262, **sizes, "max_position_embeddings": 256, "tie_word_embeddings": False, **ids_of}
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(), torch.no_grad():
        model = LlamaForCausalLM(LlamaConfig(**{**settings, **config}))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.save_pretrained(folder)
    tokenizer(folder, add_bos=add_bos)
    return folder


def task(folder: Path, name: str, rows: list[dict[str, Any]], **keys: Any) -> Path:
    """Write an lm-eval task."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    body = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        **keys,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    return folder


def by_lm_eval(model: Path, name: str, folder: Path) -> float:
    """lm-eval's own score of a folder on all documents of a task; the metric is exact_match or acc."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=1),
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        verbosity="ERROR",
    )["results"][name]
    return float(found.get("exact_match,none", found.get("acc,none")))
