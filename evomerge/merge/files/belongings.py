"""What belongs to a model beside weights and config.json: all that its saved tokenizer or processor consists of.

The names come from transformers: the `vocab_files_names` of its tokenizer classes, the names that `save_pretrained` of
tokenizers and processors writes, chat templates in files of their own, and for a tokenizer with custom code what its
class names. Importing these classes takes longer than a merge, so the names of the release that was tried stand here,
and transformers is asked only where a folder has a file that may be one of another release; a test compares both.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

GENERATION = "generation_config.json"

_BASIC = frozenset({
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "processor_config.json", "preprocessor_config.json",
    "video_preprocessor_config.json", "audio_tokenizer_config.json",
})  # fmt: skip
_PROCESSORS = frozenset({
    "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "audio_tokenizer_config.json",
})  # fmt: skip
_VOCABULARIES = frozenset({
    "bpe.codes", "byte_maps.json", "dict.txt", "emoji.json", "entity_vocab.json", "merges.txt", "normalizer.json",
    "prophetnet.tokenizer", "sentencepiece.bpe.model", "sentencepiece.model", "spiece.model", "spm.model",
    "spm_char.model", "tiktoken.model", "tokenizer.model", "vocab-src.json", "vocab-tgt.json", "vocab.json",
    "vocab.txt", "word_pronunciation.json", "word_shape.json", "source.spm", "target.spm", "target_vocab.json",
    "vocab.bpe", "encoder.json", "qwen.tiktoken",
})  # fmt: skip
_TEMPLATES = "additional_chat_templates"
# tokenizer.4.0.json: of another release; tokenizer.model.v3, tekken.json, *.model: found by their form in transformers.
_FORMS = re.compile(r"tokenizer\..+\.json|tokenizer\.model.*|tekken\.json|.+\.model|.+\.tiktoken")

_OTHERS = re.compile(
    r"config\.json|generation_config\.json|(model|consolidated|pytorch_model|adapter_model|tf_model|flax_model)\b.*"
    r"|.*\.(safetensors|bin|pt|pth|gguf|h5|msgpack|onnx|ot|ckpt|py|md|png|jpe?g|gif|svg|webp|pdf|ya?ml|log|lock)"
    r"|\..*|(LICENSE|NOTICE|USE_POLICY)(\..*)?|adapter_config\.json|params\.json"
    r"|.*(results?|state|args|quantize_config)\.json|requirements\.txt",
    re.IGNORECASE,
)
"""Names that are surely none of them, so that transformers need not be asked."""


def belongings(folder: Path, *, trust_remote_code: bool = False) -> tuple[str, ...]:
    """Return the files of a folder that its tokenizer or processor consists of, relative to it and in order.

    Args:
        folder: a model's folder.
        trust_remote_code: whether the folder's own tokenizer class may be imported, to ask for its files.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    own = _custom_names(folder) if trust_remote_code else frozenset()
    found = {name for name in names if name in own or is_belonging(name)}
    templates = folder / _TEMPLATES
    found |= {f"{_TEMPLATES}/{path.name}" for path in templates.glob("*.jinja") if path.is_file()}
    return tuple(sorted(found))


def is_belonging(name: str) -> bool:
    """Return whether a file with this name, relative to a model's folder, may be part of a tokenizer or processor."""
    if "/" in name:
        return name.startswith(f"{_TEMPLATES}/") and name.count("/") == 1 and name.endswith(".jinja")
    if name in _BASIC or name in _VOCABULARIES or _FORMS.fullmatch(name):
        return True
    return not _OTHERS.fullmatch(name) and name in names_of_transformers()


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds any file of a tokenizer."""
    return any(not re.search(r"process|audio|template", name) for name in belongings(folder))


def processor_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that say how images, videos and sounds are read, by name: all of its content."""
    return {name: (folder / name).read_bytes() for name in sorted(_PROCESSORS) if (folder / name).is_file()}


def code_files(folder: Path) -> tuple[str, ...]:
    """Return the Python files beside a model, in order: the code of a model or tokenizer class of its own."""
    return tuple(sorted(path.name for path in folder.glob("*.py") if path.is_file()))


@cache
def names_of_transformers() -> frozenset[str]:
    """Return the names of files of every tokenizer class that the installed transformers can import, and processors."""
    from transformers import utils
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    found: set[str] = set()
    for entry in TOKENIZER_MAPPING_NAMES.values():
        for name in entry if isinstance(entry, (tuple, list)) else (entry,):
            try:
                found |= set(tokenizer_class_from_name(name).vocab_files_names.values())
            except Exception:  # a class may need a package that is not installed
                continue
    constants = ("FEATURE_EXTRACTOR_NAME", "IMAGE_PROCESSOR_NAME", "VIDEO_PROCESSOR_NAME", "AUDIO_TOKENIZER_NAME",
                 "PROCESSOR_NAME", "CHAT_TEMPLATE_FILE", "LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE")  # fmt: skip
    found |= {name for name in (getattr(utils, constant, None) for constant in constants) if name}
    return frozenset(name for name in found if isinstance(name, str))


def _custom_names(folder: Path) -> frozenset[str]:
    """Return the names of files of the tokenizer class that a folder brings along; empty if it brings none."""
    try:
        mapped: Any = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["auto_map"]
        mapped = mapped["AutoTokenizer"] if isinstance(mapped, dict) else mapped
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    found: set[str] = set()
    for reference in mapped if isinstance(mapped, (list, tuple)) else (mapped,):
        try:
            names = get_class_from_dynamic_module(reference, str(folder)).vocab_files_names.values()
        except Exception:  # custom code may fail in any way; whoever loads the tokenizer says so
            continue
        # A name that leads out of the folder is no file of the tokenizer.
        found |= {name for name in names if isinstance(name, str) and Path(name).name == name}
    return frozenset(found)
