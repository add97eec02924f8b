"""A model folder as a GGUF file, by llama.cpp's own converter, which the user has; read back before it appears.

The converter is a script of llama.cpp's repository (`convert_hf_to_gguf.py`), not of the package `gguf`, which only
reads and writes the format. Types that the converter does not write (Q4_K_M) are made by `llama-quantize`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import ExportError
from evomerge.export.gguf_check import check_gguf
from evomerge.merge.disk.appearing import appearing
from evomerge.merge.files.locate import locate, whole_model
from evomerge.recipe import ModelSource
from evomerge.system.files import free_folder
from evomerge.system.text import visible
from evomerge.system.yaml_text import write_yaml

CONVERTER, QUANTISER = "convert_hf_to_gguf.py", "llama-quantize"

CONVERTED = ("f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0")
"""The types that the converter writes itself."""

EXACT = ("f32", "f16", "bf16")
"""The types that are no quantised copy."""

VARIABLE = "LLAMA_CPP"
"""The environment variable that names llama.cpp's folder."""

LAST_LINES = 12

_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")


@dataclass(frozen=True)
class LlamaCpp:
    """Where llama.cpp's tools are.

    Attributes:
        converter: the script.
        quantiser: the program; None: it is not there.
    """

    converter: Path
    quantiser: Path | None


def find_llama_cpp(folder: str | Path | None, kind: str) -> LlamaCpp:
    """Return llama.cpp's tools: in a folder, else in that of `LLAMA_CPP`, else on the PATH.

    Args:
        folder: llama.cpp's folder; None: as above.
        kind: the type that is wanted.

    Raises:
        ExportError: if one that is needed is missing; the message says how to get it.
    """
    named = str(folder) if folder is not None else os.environ.get(VARIABLE)
    converter = _found(named, CONVERTER, ("", "bin"))
    if converter is None:
        where = f"in {named}" if named else f"on the PATH, and {VARIABLE} names no folder"
        raise ExportError(
            f"GGUF files are written by llama.cpp's {CONVERTER}, which is not {where}. Get it with `git clone "
            f"https://github.com/ggml-org/llama.cpp` and `pip install -r llama.cpp/requirements.txt`, then name the "
            f"folder: --llama-cpp llama.cpp, or {VARIABLE}. (The package gguf does not contain it)"
        )
    quantiser = _found(named, QUANTISER, ("build/bin", "bin", ""))
    if kind.lower() not in CONVERTED and quantiser is None:
        raise ExportError(
            f"{kind} is written by llama.cpp's {QUANTISER}, which is not there: build llama.cpp (`cmake -B build && "
            f"cmake --build build`), or take a type that needs the converter alone: {', '.join(CONVERTED)}"
        )
    return LlamaCpp(converter, quantiser)


def _found(named: str | None, name: str, places: Sequence[str]) -> Path | None:
    if named is not None:
        folder = Path(named).expanduser()
        return next((path for place in places if (path := folder / place / name).is_file()), None)
    program = shutil.which(name)
    return None if program is None else Path(program)


def write_gguf(
    model: ModelSource,
    kind: str,
    out: str | Path,
    *,
    llama_cpp: str | Path | None = None,
    name: str | None = None,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Write a model as a GGUF file in a folder of its own, which appears whole or not at all.

    Args:
        model: the model.
        kind: the type of most weights: f16, q8_0, Q4_K_M, …
        out: the folder to make; it must not exist, or be empty.
        llama_cpp: llama.cpp's folder; None: that of `LLAMA_CPP`, else what is on the PATH.
        name: what the model is called; None: the last part of its folder or Hub id.
        note: called with a sentence before each program runs.

    Returns:
        The file.

    Raises:
        ExportError: if llama.cpp is missing or fails (with its last lines), or the file does not hold the model.
        CheckpointError: if the model is missing.
    """
    tools = find_llama_cpp(llama_cpp, kind)
    folder = free_folder(out, ExportError)
    whole_model(model)
    source = locate(model)
    name = name or source.name
    word = kind.lower() if kind.lower() in CONVERTED else kind.upper()
    file = f"{name}-{word if word.lower() in EXACT else word.upper()}.gguf"
    with appearing(folder) as hidden:
        direct = word in CONVERTED
        first = hidden / (file if direct else "unquantised.gguf")
        tell = note or (lambda text: None)
        tell(f"{tools.converter.name} writes {first.name}")
        outtype = word if direct else "bf16"
        _run([sys.executable, str(tools.converter), str(source), "--outfile", str(first), "--outtype", outtype], hidden)
        if not direct:
            tell(f"{QUANTISER} writes {file}")
            _run([str(tools.quantiser), str(first), str(hidden / file), word], hidden)
            first.unlink()
        if not (hidden / file).is_file():
            raise ExportError(f"{tools.converter.name} ended without an error, but wrote no {file}")
        checked = check_gguf(hidden / file, source, word)
        (hidden / "README.md").write_text(_card(model, name, word, checked), encoding="utf-8")
    return folder / file


def _run(command: Sequence[str], hidden: Path) -> None:
    """Run a program of llama.cpp, which needs no token.

    Raises:
        ExportError: if it fails, with the end of what it said.
    """
    variables: Mapping[str, str] = {key: one for key, one in os.environ.items() if key not in _SECRETS}
    tool = Path(command[1] if command[0] == sys.executable else command[0]).name
    try:
        done = subprocess.run(
            command,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except OSError as error:
        raise ExportError(f"{tool} cannot be run: {error.strerror or error}") from error
    if done.returncode:
        said = done.stdout.decode(errors="replace").replace(str(hidden), "…").splitlines()
        last = "\n".join(f"  {visible(line, most=300)}" for line in said[-LAST_LINES:])
        raise ExportError(f"{tool} failed with exit status {done.returncode}, so nothing was written. It said:\n{last}")


def _card(model: ModelSource, name: str, word: str, checked: str) -> str:
    from evomerge.export.revisions import is_hub_id

    metadata: dict[str, Any] = {"library_name": "gguf", "tags": ["gguf"]}
    exact = word.lower() in EXACT
    if is_hub_id(model.path):
        metadata |= {"base_model": model.path, **({} if exact else {"base_model_relation": "quantized"})}
    what = (
        f"{name} in the format GGUF, its weights in {word}."
        if exact
        else f"This is a quantised copy of {name}, not the model itself: its weights are rounded to {word.upper()}, so "
        "its answers and scores differ from those of the model."
    )
    title = f"# {name}, GGUF {word.upper()}"
    return f"---\n{write_yaml(metadata)}---\n\n{title}\n\n{what} Converted by llama.cpp; {checked}.\n"
