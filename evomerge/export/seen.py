"""What a model that sees computes of an image: the same picture for the live model and for the folder.

Each is given what its own processor makes of the picture, so that a folder with other processor files is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.merge.files.model_class import model_kind

QUESTION = "What does this picture show?"

_SIDE = 224
"""Width of the picture in pixels, that of most vision towers; its height is three quarters of it."""


@dataclass(frozen=True)
class ImageAnswer:
    """What a model made of a picture.

    Attributes:
        inputs: what its processor made of picture and question, by name.
        logits: `(1, tokens, vocabulary)` of each position.
        tokens: `(1, new_tokens)` greedy ones after them.
    """

    inputs: Mapping[str, torch.Tensor]
    logits: torch.Tensor
    tokens: torch.Tensor


def picture(seed: int) -> Any:
    """Return a picture of smooth random colours, as Pillow has it."""
    from PIL import Image

    small = torch.randint(0, 256, (6, 8, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(small.numpy()).resize((_SIDE, _SIDE * 3 // 4), Image.Resampling.BICUBIC)


@torch.no_grad()
def see(model: Any, processor: Any, new_tokens: int, seed: int) -> ImageAnswer:
    """Show a picture to a model and ask what it is.

    Args:
        model: the model.
        processor: its processor.
        new_tokens: greedy tokens to generate.
        seed: of the picture.
    """
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    if getattr(processor, "chat_template", None):
        prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
    else:
        place = getattr(processor, "boi_token", None) or getattr(processor, "image_token", "")
        prompt = f"{place}{QUESTION}"
    given = processor(text=[prompt], images=[picture(seed)], return_tensors="pt")
    device = next(model.parameters()).device
    inputs = {key: value.to(device) for key, value in given.items() if isinstance(value, torch.Tensor)}
    logits = model(**inputs).logits.float().cpu()
    if not new_tokens:
        return ImageAnswer(given, logits, torch.empty((1, 0), dtype=torch.long))
    made = model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, num_beams=1)
    return ImageAnswer(given, logits, made[:, inputs["input_ids"].shape[1] :].cpu())


def same_inputs(one: ImageAnswer, other: ImageAnswer) -> bool:
    """Return whether two processors made the same of the picture."""
    mine, theirs = dict(one.inputs), dict(other.inputs)
    return mine.keys() == theirs.keys() and all(
        torch.equal(mine[key], theirs[key]) if isinstance(mine[key], torch.Tensor) else mine[key] == theirs[key]
        for key in mine
    )


def sees(model: Any) -> bool:
    """Return whether a model reads images and writes text."""
    return model_kind(model.config) == "image_text"
