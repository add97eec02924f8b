"""Adapters that peft makes of tiny random models, and the dense models that peft makes of the adapters."""

import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from evomerge.merge.files.model import OpenModel


def adapt(base: Path, out: Path, seed: int, *, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    """Write an adapter with random values of every tensor that it trains, B's included."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**{"r": 3, **config}))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += torch.randn(parameter.shape, generator=generator) * 0.2
                    parameter.data = parameter.data.to(dtype)
        model.save_pretrained(out)
    return out


def dense(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """The parameters of the base with an adapter merged into it by peft, in fp32."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged: Any = PeftModel.from_pretrained(whole, adapter).merge_and_unload()
    return dict(merged.state_dict())


def write_dense(base: Path, adapter: Path, out: Path) -> Path:
    """Write that model as a folder."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged: Any = PeftModel.from_pretrained(whole, adapter).merge_and_unload()
        merged.save_pretrained(out)
    return out


def parameters_of(model: OpenModel) -> dict[str, torch.Tensor]:
    """The parameters of an opened model, stacked tensors put together."""
    naming = model.naming
    found = {target: model.load(name) for name, target in naming.targets.items() if target not in naming.parts}
    for target, names in naming.parts.items():
        found.update(naming.convert(target, {name: model.load(name) for name in names}))
    return found
