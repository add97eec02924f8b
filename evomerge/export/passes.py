"""What a model computes of prompts: its outputs and, where it writes text, the greedy tokens after them.

Causal models read the prompt and go on. An encoder-decoder reads it with its encoder, and writes from its start token
on. An encoder gives scores or hidden states, and writes nothing.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from typing import Any

import torch

from evomerge.errors import ExportError
from evomerge.merge.files.model_class import model_kind

_BATCH = 8


def writes_text(model: Any) -> bool:
    """Return whether greedy tokens of a model can be compared."""
    return model_kind(model.config) in ("causal", "image_text", "seq2seq")


def prompt_tokens(
    model: Any, tokenizer: Any, prompts: Sequence[str], n_random: int, length: int, new_tokens: int, seed: int
) -> list[torch.Tensor]:
    """Return prompts, given and random ones, as `(n_tokens,)` token ids, short enough to be continued.

    Raises:
        ExportError: if a prompt has no token.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None and model_kind(model.config) == "image_text":
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    room = max(1, limit - new_tokens) if isinstance(limit, int) else None
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.tensor(tokenizer(text)["input_ids"], dtype=torch.long)[:room] for text in prompts]
    if any(len(row) == 0 for row in rows):
        raise ExportError("a prompt encodes to no token at all; leave it out")
    n_vocabulary = getattr(model.get_input_embeddings(), "num_embeddings", None)
    if n_vocabulary is None:
        return rows
    size = length if room is None else min(length, room)
    drawn = [torch.randint(n_vocabulary, (size,), generator=generator) for _ in range(n_random)]
    if model_kind(model.config) == "image_text":
        drawn = [_without_images(row, model.config) for row in drawn]
    return [*rows, *(row if writes_text(model) else _text_to_read(row, model.config) for row in drawn)]


def reads_text(model: Any, batches: Sequence[torch.Tensor]) -> bool:
    """Return whether a model computes anything of prompts; one for images, say, does not."""
    if writes_text(model):
        return True
    try:
        run(model, batches[0][:1], 0)
    except Exception:  # whatever a class raises for inputs that it does not know
        return False
    return True


def _without_images(row: torch.Tensor, config: Any) -> torch.Tensor:
    """Return random tokens without those that stand for a part of an image, which there is not."""
    own = vars(config.get_text_config())
    marks = {value for key, value in vars(config).items()
             if key not in own and re.search(r"_token_(id|index)$", key) and isinstance(value, int)}  # fmt: skip
    free = next(i for i in range(len(marks) + 1) if i not in marks)
    return torch.where(torch.isin(row, torch.tensor(sorted(marks), dtype=row.dtype)), free, row)


def _text_to_read(row: torch.Tensor, config: Any) -> torch.Tensor:
    """Return random tokens as one text: an encoder may look for its padding, and a classifier for its one end."""
    special = [one for key in ("pad", "eos", "sep", "cls", "bos")
               if isinstance(one := getattr(config, f"{key}_token_id", None), int)]  # fmt: skip
    free = next(i for i in range(len(special) + 1) if i not in special)
    row = torch.where(torch.isin(row, torch.tensor(special, dtype=row.dtype)), free, row)
    end = getattr(config, "eos_token_id", None)
    return torch.cat([row[:-1], torch.tensor([end])]) if isinstance(end, int) else row


def in_batches(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return rows of equal length together, `(rows, tokens)`, since padding would be one more source of differences."""
    by_length: dict[int, list[torch.Tensor]] = {}
    for row in rows:
        by_length.setdefault(len(row), []).append(row)
    return [
        torch.stack(same[start : start + _BATCH])
        for same in by_length.values()
        for start in range(0, len(same), _BATCH)
    ]


@torch.no_grad()
def run(model: Any, tokens: torch.Tensor, new_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `(rows, …)` outputs for prompts, and the `(rows, new_tokens)` greedy tokens after them.

    The outputs are logits of each position, `(rows, tokens, vocabulary)`, of an encoder's head, or hidden states. A
    model that writes no text has no tokens.
    """
    tokens = tokens.to(next(model.parameters()).device)
    if not writes_text(model):
        return _main(model(**_inputs(model, tokens))).float().cpu(), _none(tokens)
    if getattr(model.config, "is_encoder_decoder", False):
        return _translate(model, tokens, new_tokens)
    output = model(tokens, use_cache=True)
    logits, made = output.logits.float().cpu(), []
    so_far = tokens
    for i in range(new_tokens):
        latest = output.logits[:, -1:].argmax(-1)
        made.append(latest.cpu())
        if i + 1 < new_tokens:
            cache = getattr(output, "past_key_values", None)
            so_far = torch.cat([so_far, latest], 1)
            # Without a cache of that name (recurrent states of its own), the text is read anew.
            output = model(so_far) if cache is None else model(latest, past_key_values=cache, use_cache=True)
    return logits, torch.cat(made, 1) if made else _none(tokens)


def _translate(model: Any, tokens: torch.Tensor, new_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of an encoder-decoder that is told the prompt's own tokens, and what it writes of them."""
    config = model.config
    known = (getattr(config, f"{key}_token_id", None) for key in ("decoder_start", "bos", "pad"))
    start = next((one for one in known if isinstance(one, int)), 0)
    begin = torch.full_like(tokens[:, :1], start)
    told = torch.cat([begin, tokens[:, :-1]], 1)
    encoded = model.get_encoder()(input_ids=tokens)
    logits = model(encoder_outputs=encoded, decoder_input_ids=told, use_cache=False).logits.float().cpu()
    written = begin
    for _ in range(new_tokens):
        output = model(encoder_outputs=encoded, decoder_input_ids=written, use_cache=False)
        written = torch.cat([written, output.logits[:, -1:].argmax(-1)], 1)
    return logits, written[:, 1:].cpu()


def _inputs(model: Any, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    known = inspect.signature(model.forward).parameters
    offered = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return {key: value for key, value in offered.items() if key in known or key == "input_ids"}


def _main(output: Any) -> torch.Tensor:
    """Return the output that says most about a model: its logits, else its hidden states, else what comes first."""
    for name in ("logits", "prediction_logits", "last_hidden_state"):
        found = getattr(output, name, None)
        if isinstance(found, torch.Tensor):
            return found
    return next(one for one in output.to_tuple() if isinstance(one, torch.Tensor))


def _none(tokens: torch.Tensor) -> torch.Tensor:
    return torch.empty((len(tokens), 0), dtype=torch.long)


def differences(live: torch.Tensor, saved: torch.Tensor) -> list[float]:
    """Return max |a - b| / max |a| for each row of two outputs; infinity where their shapes differ."""
    if live.shape != saved.shape:
        return [math.inf] * len(live)
    return [float((a - b).abs().max() / a.abs().max()) for a, b in zip(live, saved, strict=True)]
