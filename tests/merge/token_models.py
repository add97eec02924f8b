"""Tiny models of different vocabularies, and what a folder says of a token."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from tiny_models import llama, random_tensors, tensors_of
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

SPECIALS = ["<pad>", "</s>", "<unk>"]
LETTERS = list("▁abcdefgh")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def bpe(pieces: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return made


def model(
    folder: Path,
    seed: int,
    tokenizer: Tokenizer,
    *added: AddedToken | str,
    rows: int | None = None,
    dtype: str = "float32",
    template: str | None = None,
    **config: Any,
) -> Path:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    fast.add_tokens([
        AddedToken(one, special=True, normalized=False) if isinstance(one, str) else one for one in added
    ])  # fmt: skip
    fast.chat_template = template
    settings = llama(
        vocab_size=rows or len(fast),
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        **config,
    )
    tensors = random_tensors(settings, seed, dtype)
    settings.architectures, settings.dtype = ["LlamaForCausalLM"], next(iter(tensors.values())).dtype
    folder.mkdir(parents=True)
    settings.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    fast.save_pretrained(folder)
    return folder


def three(folder: Path, **options: Any) -> SimpleNamespace:
    """A base; a model with two tokens more and rows for none; one with other letters first and a merge of its own."""
    ab = [("a", "b"), ("▁", "ab")]
    return SimpleNamespace(
        base=model(
            folder / "base", 0, bpe([*SPECIALS, *LETTERS, "ab", "▁ab"], ab), template="{{ 'of base' }}", **options
        ),
        chat=model(
            folder / "chat",
            1,
            bpe([*SPECIALS, *LETTERS, "ab", "▁ab"], ab),
            *("<|im_start|>", "<|im_end|>"),
            rows=24,
            template="{{ 'of chat' }}",
            **options,
        ),
        other=model(
            folder / "other",
            2,
            bpe(["</s>", "<pad>", "<unk>", *LETTERS[::-1], "cd", "ab"], [("c", "d"), ("a", "b")]),
            *("<|im_end|>", "<|x|>"),
            template="{{ 'of chat' }}",
            **options,
        ),
    )


def vocabulary(folder: Path) -> dict[str, int]:
    return dict(AutoTokenizer.from_pretrained(folder).get_vocab())


def row(folder: Path, name: str, token: str) -> torch.Tensor | None:
    """A model's row of a token in float64; None if it has none."""
    number, values = vocabulary(folder).get(token), tensors_of(folder)[name]
    return None if number is None or number >= len(values) else values[number].double()
