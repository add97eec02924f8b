"""A whole search over a vision-language model and a text model, from a text base, scored by questions about images."""

from pathlib import Path

import pytest
import torch
from seeing_models import answer, files_of, picture, reading, seeing
from tiny_search import composed

from evomerge import api
from evomerge.recipe import Recipe
from tests.evaluation.test_evaluation_images import write_task


def write_search(folder: Path) -> Path:
    for seed, name in enumerate(("base", "japanese")):
        reading(folder / name, "llava_next", seed, same_tokens=False)
    seeing(folder / "sees", "llava_next", 2, rows=3)
    # Single letters, so that random models say some of the right answers.
    write_task(folder / "tasks", ["abcdefghijklmnopqrstuvwxyz"[i % 26] for i in range(30)], generation_kwargs={
        "max_gen_toks": 1, "until": ["zz"],
    })  # fmt: skip
    file = folder / "seeing_search.yaml"
    file.write_text(
        f"""defaults: [search, _self_]
name: seeing
models:
  base: {folder}/base
  parents: {{japanese: {folder}/japanese, sees: {folder}/sees}}
  tokenizer: {{source: union}}
  vision: sees
method: {{name: task_arithmetic, parameters: {{lambda: 1.0}}}}
space: {{blocks: 1, genes: {{weight: {{low: 0.0, high: 1.6, start: 0.7}}}}}}
budget: {{candidates: 5}}
evaluation:
  include_path: {folder}/tasks
  tasks: [{{name: look, metric: exact_match}}]
  split: {{search: 12, validation: 8, test: 8}}
  finalists: 2
  batch_size: 4
execution: {{threads: 1}}
"""
    )
    return file


@pytest.mark.slow
def test_a_search_by_images_runs_resumes_and_exports(tmp_path: Path) -> None:
    file = write_search(tmp_path)
    run = tmp_path / "run"
    api.search(composed(file, "budget.candidates=3"), run_dir=run)
    api.resume(run, budget={"candidates": 5})
    records = api.records(run)
    assert len(records) == 5 and {str(one.state) for one in records} == {"complete"}
    shown = [row.prompt.requests[0][2]["visual"][0] for row in api.answers(run) if row.prompt is not None]
    assert shown and all(one.startswith("<image ") and ", SHA-256 " in one for one in shown)
    out = tmp_path / "out"
    api.export(run, out, force=True)
    recipe = Recipe.load(out / "recipe.yaml")
    assert recipe.vision == "sees"
    one, got = files_of(tmp_path / "sees"), files_of(out)
    beside = [name for name in one if name.startswith(("vision_tower", "multi_modal_projector", "image_newline"))]
    assert beside and all(torch.equal(one[name], got[name]) for name in beside)
    assert "pipeline_tag: image-text-to-text" in (out / "README.md").read_text()
    assert len(answer(out, picture(1))) == 6
