"""A folder with the LoRA adapter of a model against its base, as PEFT loads it, with its error in its card."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import ExportError
from evomerge.export.adapter_check import AdapterCheck, check_adapter
from evomerge.export.lora import Extraction, extract
from evomerge.export.revisions import is_hub_id
from evomerge.merge.disk.appearing import appearing
from evomerge.merge.files.belongings import belongings
from evomerge.merge.files.locate import whole_model
from evomerge.merge.files.model import OpenModel, open_checkpoint
from evomerge.merge.files.model_class import model_kind
from evomerge.recipe import ModelSource
from evomerge.system.figures import percentage
from evomerge.system.files import free_folder, write_json
from evomerge.system.yaml_text import write_yaml

CONFIG, WEIGHTS, ERRORS = "adapter_config.json", "adapter_model.safetensors", "extraction.json"

_TASKS = {"causal": "CAUSAL_LM", "image_text": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}
"""PEFT's name of what a model is for."""


@dataclass(frozen=True)
class ExtractedAdapter:
    """An adapter that was written.

    Attributes:
        folder: where it is.
        extraction: what is in it, with the error of each tensor; its `tensors` are empty.
        check: how base and adapter together compare with the model; None: not asked for.
    """

    folder: Path
    extraction: Extraction
    check: AdapterCheck | None

    def __str__(self) -> str:
        """Return one sentence with the numbers."""
        one = self.extraction
        left = [fit.name for fit in one.fits if fit.rank == 0]
        whole = f"; {len(one.whole)} modules stored whole" if one.whole else ""
        some = f"{', '.join(left[:3])}{' and more' if left[3:] else ''}"
        without = f"; {len(left)} tensors left out ({some})" if left else ""
        found = (
            f"rank {one.rank}: {percentage(one.energy)} % of the difference's energy (relative error {one.error:.3g})"
            f"{whole}{without}"
        )
        return found if self.check is None else f"{found}; {self.check}"


def extract_adapter(
    model: ModelSource,
    base: ModelSource,
    out: str | Path,
    *,
    rank: int | None,
    error: float = 0.05,
    others: bool = True,
    verify: bool = True,
    names: tuple[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractedAdapter:
    """Write what distinguishes a model from a base as a LoRA adapter; the folder appears whole or not at all.

    Memory: the adapter, and one tensor of both models with its difference in float64; with `verify`, a model.

    Args:
        model: the model.
        base: what the adapter lies on.
        out: the folder to make; it must not exist, or be empty.
        rank: the rank; None: as small as `error` allows, matrix by matrix.
        error: largest ‖Δ − B A‖ / ‖Δ‖ of a matrix, where there is no rank.
        others: whether norms, tied embeddings and the like are stored whole where they differ.
        verify: whether logits of base and adapter are compared with those of the model.
        names: what model and base are called in the card; None: Hub ids, or the last part of their folders.
        progress: called with (tensors done, tensors in all).

    Raises:
        ExportError: if the models are of different shapes or equal, or the folder cannot be written.
        CheckpointError: if a model cannot be read.
    """
    folder = free_folder(out, ExportError)
    for one in (model, base):
        whole_model(one)
    opened, below = open_checkpoint(model), open_checkpoint(base)
    made = extract(opened, below, rank=rank, error=error, others=others, progress=progress)
    called = names or (_name(model), _name(base))
    with appearing(folder) as hidden:
        write_json(hidden / CONFIG, adapter_config(made, opened, called[1], base.revision))
        _write(made.tensors, hidden / WEIGHTS)
        check = None
        if verify and model_kind(opened.config) != "other":
            check = check_adapter(model, base, made)
        made.tensors.clear()
        made.stacked.clear()
        errors = [{"name": one.name, "rank": one.rank, "error": one.error} for one in made.fits]
        write_json(hidden / ERRORS, {"error": made.error, "energy": made.energy, "tensors": errors})
        for name in belongings(opened.tokenizer_folder):
            (hidden / name).parent.mkdir(exist_ok=True)
            (hidden / name).write_bytes((opened.tokenizer_folder / name).read_bytes())
        found = ExtractedAdapter(folder, made, check)
        (hidden / "README.md").write_text(_card(found, called), encoding="utf-8")
    return found


def adapter_config(made: Extraction, model: OpenModel, base: str, revision: str | None) -> dict[str, Any]:
    """Return the content of adapter_config.json."""
    layers = list(made.ranks)
    patterns = {re.escape(name): rank for name, rank in made.ranks.items() if rank != made.rank}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": _TASKS.get(model_kind(model.config)),
        "base_model_name_or_path": base,
        "revision": revision,
        "inference_mode": True,
        "r": made.rank,
        "lora_alpha": made.rank,  # so that factors count as they are
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": bool(layers) and all(_turned(model, name) for name in layers),
        "target_modules": _targets(layers, model),
        "modules_to_save": sorted(made.whole) or None,
    }
    if made.parameters:
        config["target_parameters"] = made.parameters
    if made.biases:
        config["lora_bias"] = True
    if made.ties:
        config["ensure_weight_tying"] = True
    return config


def _targets(layers: list[str], model: OpenModel) -> list[str]:
    """Return the last parts of the layers' names where these mean no other layer, else their whole names."""
    last = sorted({name.rpartition(".")[2] for name in layers})
    shell: Any = model.architecture.model
    meant = [name for name, _ in shell.named_modules() if name.rpartition(".")[2] in last]
    return last if sorted(meant) == sorted(layers) else sorted(layers)


def _turned(model: OpenModel, name: str) -> bool:
    place = model.architecture.places.get(f"{name}.weight")
    return place is not None and place.transposed


def _name(source: ModelSource) -> str:
    return source.path if is_hub_id(source.path) else Path(source.path).expanduser().resolve().name


def _write(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, path, metadata={"format": "pt"})


def _card(found: ExtractedAdapter, names: tuple[str, str]) -> str:
    one = found.extraction
    model, base = names
    metadata: dict[str, Any] = {"library_name": "peft", "tags": ["lora", "extracted"]}
    if is_hub_id(base):
        metadata |= {"base_model": base, "base_model_relation": "adapter"}
    worst = sorted((fit for fit in one.fits if fit.squared > 0.0), key=lambda fit: -fit.error)[:5]
    rows = "\n".join(f"| {fit.name} | {_kept(fit.rank)} | {fit.error:.3g} |" for fit in worst)
    checked = "" if found.check is None else f"\n\nBase and adapter together beside the model: {found.check}."
    return (
        f"---\n{write_yaml(metadata)}---\n\n# A LoRA adapter of {model}\n\n"
        f"This is not {model} itself, but an approximation: the difference of its weights from {base}, each matrix cut "
        f"to rank {one.rank} at most (truncated singular value decomposition). With the adapter, {base} comes close to "
        f"{model}.\n\nThe adapter has {percentage(one.energy)} % of the energy of the difference; the relative error "
        f"‖Δ − BA‖ / ‖Δ‖ is {one.error:.3g}. Where it is largest (all in `{ERRORS}`):\n\n"
        f"| tensor | kept | error |\n|---|---|---:|\n{rows}{checked}\n"
    )


def _kept(rank: int | None) -> str:
    return "whole" if rank is None else "left out" if rank == 0 else f"rank {rank}"
