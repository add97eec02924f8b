"""Tiny random vision-language models of several families, the text models of their language parts, and images."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedTokenizerFast,
)

LETTERS = list("abcdefghijklmnopqrstuvwxyz .:?0123456789")
TEMPLATE = (
    "{% for turn in messages %}{% for part in turn.content %}{% if part.type == 'image' %}IMAGE"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)

TEXT: dict[str, Any] = {
    "vocab_size": 52,
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def tokenizer(*added: str, words: list[str] | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of letters, with special tokens."""
    known = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *(words or LETTERS)])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    fast.add_tokens([AddedToken(one, special=True, normalized=False) for one in added])
    return fast


def _llava(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaProcessor, MistralConfig

    vision = {
        "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "image_size": 8, "patch_size": 4, "projection_dim": 8, "model_type": "clip_vision_model",
    }  # fmt: skip
    config = LlavaConfig(
        text_config=MistralConfig(**text), vision_config=vision, image_token_index=ids["<image>"], image_seq_length=4
    )
    size = {"height": 8, "width": 8}
    images = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=size)
    return config, lambda words: LlavaProcessor(
        images, words, patch_size=4, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip


def _llava_next(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    from transformers import LlavaNextConfig, LlavaNextImageProcessor, LlavaNextProcessor, MistralConfig

    vision = {
        "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
        "image_size": 8, "patch_size": 4, "projection_dim": 8, "model_type": "clip_vision_model",
    }  # fmt: skip
    grid = [[8, 16], [16, 8]]
    config = LlavaNextConfig(
        text_config=MistralConfig(**text), vision_config=vision, image_token_index=ids["<image>"],
        image_grid_pinpoints=grid, image_seq_length=4,
    )  # fmt: skip
    size = {"height": 8, "width": 8}
    images = LlavaNextImageProcessor(size={"shortest_edge": 8}, crop_size=size, image_grid_pinpoints=grid)
    return config, lambda words: LlavaNextProcessor(
        images, words, patch_size=4, vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1, chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )  # fmt: skip


def _idefics3(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    from transformers import Idefics3Config, Idefics3ImageProcessor, Idefics3Processor, LlamaConfig

    config = Idefics3Config(
        text_config=LlamaConfig(**text),
        vision_config={
            "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 4,
        },
        image_token_id=ids["<image>"], scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    images = Idefics3ImageProcessor(
        size={"longest_edge": 16}, max_image_size={"longest_edge": 16}, do_image_splitting=False
    )
    return config, lambda words: Idefics3Processor(
        images, words, image_seq_len=4, chat_template=TEMPLATE.replace("IMAGE", "<image>")
    )


def _qwen2_vl(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    from transformers import Qwen2VLConfig, Qwen2VLImageProcessor

    config = Qwen2VLConfig(
        text_config={
            **text, "use_sliding_window": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1, "embed_dim": 8, "hidden_size": text["hidden_size"], "num_heads": 2, "mlp_ratio": 2,
            "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    images = Qwen2VLImageProcessor(
        patch_size=4, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 64, "longest_edge": 256}
    )
    return config, lambda words: (words, images)  # the processor itself reads videos, which takes torchvision


def _gemma3(text: dict[str, Any], ids: dict[str, int]) -> tuple[Any, Any]:
    from transformers import Gemma3Config, Gemma3ImageProcessor, Gemma3Processor

    config = Gemma3Config(
        text_config={**text, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"],
                     "sliding_window": 32},
        vision_config={
            "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 4, "vision_use_head": False,
        },
        mm_tokens_per_image=4, image_token_index=ids["<image_soft_token>"], boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
    )  # fmt: skip
    images = Gemma3ImageProcessor(size={"height": 16, "width": 16})
    return config, lambda words: Gemma3Processor(
        images, words, image_seq_length=4, chat_template=TEMPLATE.replace("IMAGE", "<start_of_image>")
    )


FAMILIES = {
    "llava": (_llava, ("<image>",), "mistral"),
    "llava_next": (_llava_next, ("<image>",), "mistral"),
    "idefics3": (
        _idefics3,
        ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
        "llama",
    ),
    "qwen2_vl": (_qwen2_vl, ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"), "qwen2"),
    "gemma3": (_gemma3, ("<image_soft_token>", "<start_of_image>", "<end_of_image>"), "gemma3_text"),
}
"""Name to what makes configuration and processor, the tokens that it adds, and the type of its language part alone."""


def random_values(model: Any, seed: int, dtype: torch.dtype = torch.float32) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, one in model.named_parameters():
        size = 1.5 / one[0].numel() ** 0.5 if one.dim() > 1 and "embed_tokens" not in name else 0.5
        one.data = (torch.randn(one.shape, generator=generator) * size).to(dtype)


def _words(family: str) -> PreTrainedTokenizerFast:
    fast = tokenizer(*FAMILIES[family][1])
    names = {
        "gemma3": {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
        "idefics3": {},
    }.get(family, {})
    if names:
        fast = PreTrainedTokenizerFast(
            tokenizer_object=fast.backend_tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
            extra_special_tokens=names,
        )  # fmt: skip
    return fast


def seeing(folder: Path, family: str, seed: int, *, rows: int = 0, dtype: str = "float32", **text: Any) -> Path:
    """A vision-language model; `rows`: how many rows its embedding has beyond its tokens."""
    words = _words(family)
    config, processor = FAMILIES[family][0]({**TEXT, "vocab_size": len(words) + rows, **text}, words.get_vocab())
    model = AutoModelForImageTextToText.from_config(config)
    random_values(model, seed, getattr(torch, dtype))
    model.save_pretrained(folder)
    made = processor(words)
    for one in made if isinstance(made, tuple) else (made,):
        one.save_pretrained(folder)
    return folder


def reading(
    folder: Path, family: str, seed: int, *, same_tokens: bool = True, dtype: str = "float32", **text: Any
) -> Path:
    """A text model of the language part of a family; without its added tokens, if not `same_tokens`."""
    words = _words(family) if same_tokens else tokenizer()
    config = AutoConfig.for_model(FAMILIES[family][2], **{**TEXT, "vocab_size": len(words), **text})
    if family == "gemma3":
        config = AutoConfig.for_model("gemma3_text", **{
            **TEXT, "vocab_size": len(words), "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 32, **text,
        })  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    random_values(model, seed, getattr(torch, dtype))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def picture(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    values = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(values.to(torch.uint8).numpy())


def answer(folder: Path, image: Image.Image, question: str = "what is it?", tokens: int = 6) -> list[int]:
    """What a saved model answers about an image, loaded as users load it."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    return generate(model, processor, image, question, tokens)


def generate(
    model: Any, processor: Any, image: Image.Image, question: str = "what is it?", tokens: int = 6
) -> list[int]:
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True)
    given = processor(text=[prompt], images=[image], return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**given, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    return list(out[0, given["input_ids"].shape[1] :].tolist())


def files_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def rename_files(folder: Path, old: str, new: str) -> None:
    """Give the tensors of a folder the names of an older release of transformers."""
    tensors = {
        name.replace(old, new, 1) if name.startswith(old) else name: one for name, one in files_of(folder).items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def config_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))
