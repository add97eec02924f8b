"""`evomerge to-gguf`: a model as a GGUF file, by the user's llama.cpp."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evomerge.cli.streams import say


def run(words: Sequence[str]) -> int:
    """Write a model as a GGUF file."""
    parser = argparse.ArgumentParser(
        prog="evomerge to-gguf", description="Write a model as a GGUF file, by your llama.cpp, and read it back."
    )
    parser.add_argument("model", help="a model's folder or Hub id, such as an exported merge; or {path: …}")
    parser.add_argument("type", help="f32, f16, bf16; or of a quantised copy: q8_0, Q4_K_M (needs llama-quantize), …")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write; must not exist or be empty")
    parser.add_argument("--llama-cpp", type=Path, metavar="DIR", help="llama.cpp's folder (default: $LLAMA_CPP, PATH)")
    parser.add_argument("--name", help="what the model is called (default: the last part of its folder)")
    arguments = parser.parse_args(words)

    from evomerge import api

    made = api.to_gguf(
        arguments.model,
        arguments.type,
        arguments.out,
        llama_cpp=arguments.llama_cpp,
        name=arguments.name,
        note=say,
    )
    say(f"wrote {made}")
    return 0
