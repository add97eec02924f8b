"""Models in further formats, each named as what it is: LoRA adapters, GGUF files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evomerge.errors import ExportError
from evomerge.export.adapter import ExtractedAdapter, extract_adapter
from evomerge.export.from_run import chosen_record
from evomerge.export.gguf import find_llama_cpp, write_gguf
from evomerge.recipe import ModelSource
from evomerge.store.run_dir import RunDir
from evomerge.system.files import free_folder
from evomerge.workflows import Note, Progress
from evomerge.workflows.export import exported_folders


def extract_lora(
    model: str | Path,
    base: str | Path,
    out: str | Path,
    *,
    rank: int | None,
    error: float,
    others: bool,
    verify: bool,
    progress: Progress | None,
) -> ExtractedAdapter:
    """Write what distinguishes a model from its base as a LoRA adapter; see `evomerge.api.extract_lora`."""
    sources = (ModelSource.from_text(str(model)), ModelSource.from_text(str(base)))
    return extract_adapter(*sources, out, rank=rank, error=error, others=others, verify=verify, progress=progress)


def to_gguf(
    model: str | Path, kind: str, out: str | Path, *, llama_cpp: str | Path | None, name: str | None, note: Note | None
) -> Path:
    """Write a model as a GGUF file by llama.cpp; see `evomerge.api.to_gguf`."""
    source = ModelSource.from_text(str(model))
    return write_gguf(source, kind, out, llama_cpp=llama_cpp, name=name, note=note)


def further_formats(
    run_dir: str | Path,
    out: str | Path,
    *,
    candidates: Sequence[int],
    front: bool,
    lora: int | None,
    gguf: str | None,
    llama_cpp: str | Path | None,
    note: Note,
) -> Callable[[Progress], None]:
    """Return what writes exported folders in further formats; see `evomerge.api.further_formats`."""
    if lora is None and gguf is None:
        return lambda progress: None
    if gguf is not None:
        find_llama_cpp(llama_cpp, gguf)
    with RunDir.open(run_dir, frozen=True) as run:
        folders = exported_folders(run, Path(out), candidates, front=front)
        bases = {folder: chosen_record(run, number).recipe.base for folder, number in folders.items()}
    sources: dict[Path, ModelSource] = {}
    for folder, base in bases.items():
        if lora is not None:
            free_folder(f"{folder}-lora-r{lora}", ExportError)
            if base is None or not isinstance(base.source, ModelSource):
                raise ExportError(
                    "the recipe has no base from which an adapter could be measured; name one with "
                    f"`evomerge extract-lora {folder} BASE --rank {lora} --out DIR`"
                )
            sources[folder] = base.source
        if gguf is not None:
            free_folder(_gguf_folder(folder, gguf), ExportError)

    def write(progress: Progress) -> None:
        for folder in folders:
            if lora is not None:
                out = Path(f"{folder}-lora-r{lora}")
                found = extract_adapter(ModelSource(str(folder)), sources[folder], out, rank=lora, progress=progress)
                note(f"{found}\nwrote {out}")
            if gguf is not None:
                made = write_gguf(
                    ModelSource(str(folder)), gguf, _gguf_folder(folder, gguf), llama_cpp=llama_cpp, note=note
                )
                note(f"wrote {made}")

    return write


def _gguf_folder(folder: Path, kind: str) -> Path:
    return Path(f"{folder}-{kind.upper()}-GGUF")
