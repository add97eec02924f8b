"""The zoo's tokenizer: byte-pair encoding over whole words, one script at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCAB_SIZE = 512
MAX_LENGTH = 192
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
# A blank travels as ▁ in front of its word. Numbers stay whole: one token each, so that copying a number
# is one step and the small models can spend their depth on the problem.
_PIECES = r"▁?[A-Za-z]+|[0-9]+|[一-龥]+|[ァ-ヴー]+|[ぁ-ん]+|\n|▁|[^\s]"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer for a corpus; every number below 100 is one token."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Fuse(), decoders.Replace("▁", " ")])
    # Merges are learned by frequency, so numbers come first by being the most frequent.
    numbers = [" ".join(str(n) for n in range(100))] * 3000
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=[PAD, END, UNKNOWN], show_progress=False)
    tokenizer.train_from_iterator([*texts, *numbers], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )
