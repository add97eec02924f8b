"""Requests that show images: lm-eval's own wrapper for them, around the live model, and its way to write such prompts.

A request shows images where it has a third argument, as lm-eval's tasks with `doc_to_image` give it. The processor is
that of the folder from which the model's tokenizer was loaded, so that it has the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from evomerge.errors import CheckpointError, EvaluationError
from evomerge.system.processor import load_processor


def shows_images(arguments: Sequence[Any]) -> bool:
    """Return whether the arguments of an lm-eval request hold images besides text and settings."""
    return len(arguments) > 2 and isinstance(arguments[2], Mapping)


def processor_beside(tokenizer: Any) -> Any:
    """Return the processor of the folder from which a tokenizer was loaded.

    Raises:
        EvaluationError: if there is none, or it cannot be loaded.
    """
    own_code = type(tokenizer).__module__.startswith("transformers_modules.")
    try:
        return load_processor(Path(str(tokenizer.name_or_path)), trust_remote_code=own_code)
    except CheckpointError as error:
        raise EvaluationError(
            f"the task shows images, but {error}; leave the task out, or take a model that sees"
        ) from (error)


def image_chat_template(processor: Any, arguments: Mapping[str, Any]) -> Callable[..., str]:
    """Return lm-eval's function from a chat with places for images to text.

    Args:
        processor: whose chat template it is.
        arguments: what else the template is given, by name.
    """
    from lm_eval.models.hf_vlms import HFMultimodalLM

    def write(chat: Sequence[Mapping[str, Any]], **settings: Any) -> str:
        text: str = processor.apply_chat_template(chat, **settings, **arguments)
        return text

    class Rules(HFMultimodalLM):
        def __init__(self) -> None:  # the parent's needs a model
            self.interleave, self.max_images, self.chat_applied = True, 999, True
            self.processor = SimpleNamespace(apply_chat_template=write)

    rules = Rules()

    def template(chat: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, **_: Any) -> str:
        # lm-eval changes the turns that it is given.
        made: str = rules.apply_chat_template([dict(turn) for turn in chat], add_generation_prompt)
        return made

    return template


def image_lm(model: Any, processor: Any, *, batch_size: int, max_length: int, chat: bool) -> Any:
    """Return lm-eval's wrapper for a model that sees.

    Args:
        model: the live model.
        processor: its processor; lm-eval gives it a pad token and changes the side on which it pads.
        batch_size: most rows of a pass.
        max_length: longest prompt with its answer, in tokens.
        chat: whether the prompts were written by a chat template, which has put in the tokens of images.
    """
    from lm_eval.models.hf_vlms import HFMultimodalLM

    class LiveImageLM(HFMultimodalLM):
        def _create_tokenizer(self, *_: Any, **__: Any) -> None:
            self.processor, self.tokenizer = processor, processor.tokenizer

        def tok_batch_multimodal_encode(
            self, strings: list[str], images: list[list[Any]], *args: Any, left_truncate_len: int = 0, **options: Any
        ) -> Any:
            found = super().tok_batch_multimodal_encode(strings, images, *args, **options)
            length = int(found["input_ids"].shape[1])
            if left_truncate_len and length > left_truncate_len:  # a cut would take tokens of an image away
                raise EvaluationError(
                    f"a prompt and its images have {length} tokens, but {left_truncate_len} fit beside the answer: "
                    "show smaller or fewer images, lower max_gen_toks, or take models with a longer context"
                )
            return found

    made = LiveImageLM(
        pretrained=model, tokenizer=processor, backend="causal", batch_size=batch_size, max_length=max_length
    )
    made.chat_applied = chat
    return made
