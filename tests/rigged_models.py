"""Models that say what a test wants: what each token is followed by is written into their weights.

Attention and feed-forward layers add nothing, and the embedding is one-hot, so the scores of the next token are the
column of the last token in the output matrix. A merge adds these columns up: two parents that prefer different tokens,
and both like a third one second best, make a merge that takes the third.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

END = "<eos>"
LETTERS = [END, "?", *"abcdefghijklmnopqrstuvwxyz0123456789 +:=", *"ответслучайны", "\n"]

Following = Mapping[str, Mapping[str, float]]
"""Token to the tokens that may follow it, each with its score."""


def tokenizer_of_letters():
    """Return a tokenizer whose tokens are single characters."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: i for i, letter in enumerate(dict.fromkeys(LETTERS))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([END])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, unk_token="?", clean_up_tokenization_spaces=False
    )


def rigged_model(path: Path, following: Following, *, context: int = 128) -> Path:
    """Write a model that follows each token by the one with the highest score; what is not named ends an answer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_of_letters()
    n = len(tokenizer)
    size = -(-n // 8) * 8
    config = LlamaConfig(
        vocab_size=n,
        hidden_size=size,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight.copy_(torch.eye(n, size))
        number = tokenizer.get_vocab()
        for letter, place in number.items():
            for after, score in following.get(letter, {END: 1.0}).items():
                model.lm_head.weight[number[after], place] = score
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def saying(word: str, *, after: str = ":", end: str = END) -> dict[str, dict[str, float]]:
    """Return what follows what in a model that says a word, whose letters all differ, after a letter."""
    letters = [after, *word, end]
    return {one: {other: 1.0} for one, other in pairwise(letters)}
