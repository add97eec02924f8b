from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import edit_config, make, near
from transformers.utils import logging

logging.disable_progress_bar()


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A base and three fine-tunes of it in fp32; do not write into their folders."""
    folder = tmp_path_factory.mktemp("family")
    base = make(folder / "base", 0)
    return SimpleNamespace(
        base=base,
        math=near(folder / "math", base, 1),
        japanese=near(folder / "japanese", base, 2, tokens="あいう"),
        code=near(folder / "code", base, 3),
    )


@pytest.fixture(scope="session", params=[("float32", False), ("bfloat16", True), ("float16", False), ("float32", True)])
def typed_family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The same in each dtype, with tied and untied heads."""
    dtype, tied = request.param
    folder: Path = tmp_path_factory.mktemp(f"{dtype}-{tied}")
    base = make(folder / "base", 0, dtype=dtype, tie_word_embeddings=tied)
    return SimpleNamespace(
        base=base,
        math=near(folder / "math", base, 1),
        japanese=near(folder / "japanese", base, 2),
        dtype=dtype,
        tied=tied,
    )


CUSTOM_CODE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM


class CustomConfig(LlamaConfig):
    model_type = "custom_llama"


class CustomModel(LlamaForCausalLM):
    config_class = CustomConfig

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("causal_mask", torch.zeros(2, 2))
"""


@pytest.fixture
def custom_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two fine-tunes of a model with code of its own, which keeps an integer buffer and a mask."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folders = {}
    for seed, name in enumerate(("base", "a", "b")):
        folder = folders[name] = make(tmp_path / name, seed)
        tensors = load_file(folder / "model.safetensors")
        extra = {"steps": torch.full((3,), seed), "causal_mask": torch.full((2, 2), float(seed))}
        save_file({**tensors, **extra}, folder / "model.safetensors", metadata={"format": "pt"})
        auto_map = {"AutoConfig": "modeling_custom.CustomConfig", "AutoModelForCausalLM": "modeling_custom.CustomModel"}
        edit_config(folder, model_type="custom_llama", auto_map=auto_map, architectures=["CustomModel"])
        (folder / "modeling_custom.py").write_text(CUSTOM_CODE)
    return SimpleNamespace(**folders)
