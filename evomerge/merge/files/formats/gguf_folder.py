"""The folder that is made of a GGUF file, once: config.json, tokenizer and a link to the file.

Everything that reads a model expects a folder of transformers' kind. A GGUF file holds what such a folder has, in
llama.cpp's words, and transformers translates configuration and tokenizer. That takes seconds for a large vocabulary,
so the folder stays in evomerge's cache (`gguf/` in `system.cache_file.cache_folder`), under a name that follows from
the file's place, size and time and from the versions that translated it. The weights stay where they are: the folder
has a link to them, and their bytes count wherever a model is known again by its content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import CheckpointError
from evomerge.merge.files.formats.gguf_table import VOCABULARY, GgufTable, gguf_files, gguf_library, read_table
from evomerge.merge.files.formats.gguf_tensors import has_conversions, names_of
from evomerge.merge.files.model_class import build_on_meta
from evomerge.merge.files.weights import GGUF_TABLE
from evomerge.system.cache_file import cache_folder
from evomerge.system.files import write_json
from evomerge.system.leftovers import hidden_folder
from evomerge.system.text import error_text

log = logging.getLogger(__name__)

_LAYOUT = 2
"""The number of what is written into such a folder; another one makes all of them anew."""
_SIZES = {
    "attention.key_length": "head_dim",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
"""Sizes of tensors that transformers leaves at the defaults of some architectures."""
_ALWAYS_TIED = ("falcon", "bloom")
"""Architectures of which transformers ties embedding and head whatever the file holds."""


def gguf_folder(path: Path) -> Path:
    """Return the folder that is made of a GGUF file, or of all files of a model that is split.

    Args:
        path: the file, or any one of a split model.

    Raises:
        CheckpointError: if it is missing or no GGUF file, transformers cannot translate it, the package `gguf` is not
            installed, or the folder cannot be written.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    files = gguf_files(path)
    try:
        home = cache_folder() / "gguf" / f"{path.stem[:80]}-{_stamp(files)}"
        if (home / GGUF_TABLE).is_file():
            return home
        home.parent.mkdir(parents=True, exist_ok=True)
        with hidden_folder(home) as folder:
            _fill(folder, files)
            with contextlib.suppress(FileExistsError):  # another process was quicker
                _appear(folder, home)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot write the configuration and tokenizer of {path}: {error_text(error, most=200)}; name a folder for "
            "such files with XDG_CACHE_HOME"
        ) from error
    return home


def _appear(folder: Path, home: Path) -> None:
    try:
        folder.rename(home)
    except OSError:
        if not (home / GGUF_TABLE).is_file():
            raise


def _stamp(files: tuple[Path, ...]) -> str:
    import transformers

    version = getattr(gguf_library(), "__version__", "")
    found = [(str(one.resolve()), one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    text = json.dumps([_LAYOUT, transformers.__version__, version, found])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fill(folder: Path, files: tuple[Path, ...]) -> None:
    log.info("reading configuration and tokenizer of %s, once", files[0].name)
    table, metadata = read_table(files)
    for one in files:
        (folder / one.name).symlink_to(one.resolve())
    # transformers looks at what lies beside a file; in this folder that is nothing.
    config, settings = _config(folder / files[0].name, table)
    for key, setting in _SIZES.items():
        size = metadata.get(f"{table.architecture}.{key}")
        if isinstance(size, int) and isinstance(getattr(config, setting, None), int):
            setattr(config, setting, size)
    config.dtype = table.result
    model = build_on_meta(config)
    config.architectures = config.architectures or [type(model).__name__]
    table = replace(table, settings=settings)
    table = replace(table, names=names_of(table, model))
    config.save_pretrained(folder)
    path = folder / "config.json"
    write_json(path, _as_written(json.loads(path.read_text(encoding="utf-8"))))
    notes = _write_tokenizer(folder, files[0].name, metadata.get(VOCABULARY, 0))
    _write_card(folder, metadata)
    write_json(folder / GGUF_TABLE, replace(table, notes=tuple(notes)).to_data())


def _config(path: Path, table: GgufTable) -> tuple[Any, dict[str, Any]]:
    """Return the configuration that transformers makes of a file, and its settings by transformers' names there.

    Raises:
        CheckpointError: if transformers does not know the architecture.
    """
    from transformers import AutoConfig
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    try:
        settings: dict[str, Any] = {}
        if has_conversions(table.architecture):
            config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
        else:
            settings = load_gguf_checkpoint(str(path), return_tensors=False)["config"]
            config = AutoConfig.for_model(**settings)
    except Exception as error:  # transformers raises almost anything on metadata that it does not understand
        raise CheckpointError(
            f"transformers cannot make a configuration of {path.resolve()} (architecture {table.architecture}): "
            f"{error_text(error, most=300)}; merge the safetensors that it was converted from"
        ) from error
    # transformers looks for the head in one file alone.
    if "output.weight" in table.entries and table.architecture not in _ALWAYS_TIED:
        config.tie_word_embeddings = False
    config.name_or_path = ""
    return config, json.loads(json.dumps(settings, default=str))


def _as_written(value: Any) -> Any:
    """Return JSON data with numbers that a file keeps in float32 as they were written before.

    9.999999747378752e-06 is what float32 makes of 1e-05, which the config.json of every other model of the family has.
    """
    if isinstance(value, dict):
        return {key: _as_written(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_written(one) for one in value]
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            short = np.float32(value)
        return float(str(short)) if float(short) == value else value
    return value


def _write_tokenizer(folder: Path, name: str, n_tokens: int) -> list[str]:
    """Write the tokenizer of a file, which has so many tokens; return why there is none, if so."""
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(folder)
        _drop_strangers(folder / "tokenizer.json", n_tokens)
    except Exception as error:  # a file may hold no vocabulary, or one that transformers cannot rebuild
        return [
            f"transformers cannot rebuild its tokenizer ({error_text(error, most=200)}); let another model lend one "
            "(`tokenizer: NAME`)"
        ]
    return []


def _drop_strangers(path: Path, n_tokens: int) -> None:
    """Take the tokens out of a tokenizer.json that the file does not have.

    transformers rebuilds any byte-level vocabulary as GPT-2's tokenizer, which adds `<|endoftext|>` where it is not
    there: a token without a row in the embedding.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    added = data.get("added_tokens") or []
    data["added_tokens"] = [one for one in added if one["id"] < n_tokens]
    if len(data["added_tokens"]) < len(added):
        path.write_text(json.dumps(data, ensure_ascii=False, indent=2), encoding="utf-8")


def _write_card(folder: Path, metadata: dict[str, Any]) -> None:
    """Write what the file says of licence and language as a model's card does, where it says anything."""
    said = {
        key: metadata[f"general.{name}"]
        for key, name in (
            ("license", "license"),
            ("license_name", "license.name"),
            ("license_link", "license.link"),
            ("language", "languages"),
        )
        if metadata.get(f"general.{name}")
    }
    if said:
        lines = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in said.items())
        (folder / "README.md").write_text(f"---\n{lines}---\n", encoding="utf-8")
