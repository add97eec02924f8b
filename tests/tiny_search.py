"""A search over models of a few thousand random weights and a task of 60 items: it takes about a second."""

import json
import random
from pathlib import Path
from typing import Any


def tiny_model(path: Path, seed: int) -> Path:
    """Write a model of two layers with the zoo's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from evomerge.zoo import zoo_path

    config = AutoConfig.from_pretrained(zoo_path("base"))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    for key, value in {**sizes, "num_key_value_heads": 2, "head_dim": 8, "dtype": "float32"}.items():
        setattr(config, key, value)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1] * 2
    model = AutoModelForCausalLM.from_config(config).float()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.5, generator=draw)
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(zoo_path("base")).save_pretrained(path)
    return path


def write_tiny(folder: Path) -> Path:
    """Write models, task and configuration; return the file for `evomerge search`."""
    for seed, name in enumerate(("base", "a", "b")):
        tiny_model(folder / "models" / name, seed)
    tasks = folder / "tasks"
    tasks.mkdir()
    draw = random.Random(0)
    lines = []
    for _ in range(60):
        first, second = draw.sample("123456789", 2)
        question = f"{draw.randint(1, 99)} + {draw.randint(1, 99)}"
        lines.append(json.dumps({"q": question, "c": [first, second], "a": draw.randint(0, 1)}))
    (tasks / "tiny.jsonl").write_text("\n".join(lines))
    (tasks / "tiny.yaml").write_text(
        f"""task: tiny
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tasks}/tiny.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}} ="
doc_to_choice: "{{{{c}}}}"
doc_to_target: "{{{{a}}}}"
metric_list: [{{metric: acc}}]
"""
    )
    file = folder / "tiny_search.yaml"
    file.write_text(
        f"""defaults: [search, _self_]
name: tiny
models:
  base: {folder}/models/base
  parents: {{a: {folder}/models/a, b: {folder}/models/b}}
method: {{name: task_arithmetic, parameters: {{lambda: 1.0}}}}
space: {{blocks: 2, genes: {{weight: {{low: 0.0, high: 1.6, start: 0.7}}}}}}
budget: {{candidates: 6}}
evaluation:
  include_path: {tasks}
  tasks: [{{name: tiny, metric: acc}}]
  split: {{search: 6, validation: 4, test: 4}}
  finalists: 3
  batch_size: 64
execution: {{threads: 1}}
"""
    )
    return file


def own_metric(folder: Path, name: str, code: str) -> str:
    """Write a metric of one's own, `f(doc, responses)`; return the word that makes it the objective."""
    path = folder / f"{name}.py"
    path.write_text(code)
    return f"evaluation.tasks=[{{name:tiny,metric:'python:{path}:f',direction:maximize}}]"


def composed(file: Path, *words: str) -> dict[str, Any]:
    """Return the configuration for `api.search`."""
    from evomerge.cli.compose import compose

    return compose([str(file), *words])
