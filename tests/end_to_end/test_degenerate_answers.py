"""Whole searches whose merges fail in the known ways, each warned of by its name; the parents are fine."""

import json
from pathlib import Path
from typing import Any

import pytest
from rigged_models import END, rigged_model, saying
from tiny_search import composed

from evomerge import api

RIGHT = {"a": "crisp", "b": "gauzy"}
"""What each parent says."""

MERGES: dict[str, tuple[dict[str, dict[str, float]], str, int, str, str]] = {
    # What the merge does: what follows the colon and after, the first of it, the limit, the kind and the words.
    "loops": ({"k": {"k": 1.0}}, "k", 40, "degenerate", "words loop: 100.0 % repeat themselves, 0.0 % of "),
    "never stops": (
        saying("efhjklmno", after="d"),
        "d",
        8,
        "cut_answers",
        "words do not end: 100.0 % were cut by the limit of tokens, 0.0 % of ",
    ),
    "says nothing": ({}, END, 8, "degenerate", "words are empty: 100.0 % say nothing, 0.0 % of "),
    "changes its script": (
        saying("твелуч", after="о"),
        "о",
        8,
        "degenerate",
        "words are in another script: 100.0 % are in a script in which no parent answered, 0.0 % of ",
    ),
}


def write_search(folder: Path, more: dict[str, dict[str, float]], first: str, limit: int, context: int = 128) -> Path:
    """Write two parents that answer well, each half of the questions, and whose sum begins with `first`."""
    rigged_model(folder / "base", {letter: {} for letter in ":"}, context=context)
    for name, word in RIGHT.items():
        own = saying(word)
        colon = {**own[":"], first: 0.7}  # twice 0.7 is more than 1
        rigged_model(folder / name, {**more, **own, ":": colon}, context=context)
    tasks = folder / "tasks"
    tasks.mkdir()
    questions = [{"q": f"{i} + {i}", "a": RIGHT["ab"[i % 2]]} for i in range(60)]
    (tasks / "words.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (tasks / "words.yaml").write_text(
        f"""task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tasks}/words.jsonl}}}}
test_split: test
output_type: generate_until
generation_kwargs: {{until: ["\\n"], max_gen_toks: {limit}, do_sample: false}}
doc_to_text: "{{{{q}}}}:"
doc_to_target: "{{{{a}}}}"
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
    )
    file = folder / "words_search.yaml"
    file.write_text(
        f"""defaults: [search, _self_]
name: words
models:
  base: {folder}/base
  parents: {{a: {folder}/a, b: {folder}/b}}
method: {{name: task_arithmetic, parameters: {{lambda: 1.0}}}}
space: {{blocks: 1, genes: {{weight: {{low: 0.95, high: 1.05, start: 1.0}}}}}}
budget: {{candidates: 2}}
evaluation:
  include_path: {tasks}
  tasks: [{{name: words, metric: exact_match}}]
  split: {{search: 20, validation: 16, test: 20}}
  finalists: 1
fitness: {{consensus: false}}
execution: {{threads: 1}}
"""
    )
    return file


def searched(file: Path, folder: Path, *words: str) -> tuple[dict[str, Any], list[str]]:
    notes: list[str] = []
    run = api.search(composed(file, *words), run_dir=folder, note=notes.append)
    return api.status(run.path), notes


@pytest.mark.parametrize("failure", MERGES)
def test_a_merge_that_fails_in_its_way_is_warned_of_by_name(failure: str, tmp_path: Path) -> None:
    more, first, limit, kind, text = MERGES[failure]
    status, _ = searched(write_search(tmp_path, more, first, limit), tmp_path / "run")
    said = [one["text"] for one in status["warnings"] if one["kind"] == kind]
    assert said and said[0].startswith(f"the best merge's answers to {text}"), status["warnings"]
    kinds = {one["kind"] for one in status["warnings"]} & {"degenerate", "cut_answers"}
    assert kinds == {kind} | ({"cut_answers"} if failure == "loops" else set())
    parents = [row["tasks"]["words"]["measures"] for row in status["baselines"] if row["parent"]]
    shares = ("cut_answers", "empty_answers", "repetitive_answers", "foreign_script", "cut_prompts")
    assert all(one[measure] == 0.0 for one in parents for measure in shares)
    assert status["verdict"]["use"] is False


def test_a_limit_keeps_a_search_from_merges_that_loop(tmp_path: Path) -> None:
    more, first, limit, *_ = MERGES["loops"]
    entry = "{name: words, metric: repetitive_answers, constraint: {max: 0.05}}"
    words = (
        f"evaluation.tasks=[{{name:words,metric:exact_match}},{entry}]",
        "space.genes.weight.low=0.0",
        "budget.candidates=12",
        "fitness.items=10",
    )
    status, _ = searched(write_search(tmp_path, more, first, limit), tmp_path / "run", *words)
    assert status["best"]["tasks"]["words"]["measures"]["repetitive_answers"] == 0.0
    assert not [one for one in status["warnings"] if one["kind"] == "degenerate"]


def test_prompts_that_are_too_long_are_told_before_the_first_candidate_and_at_the_end(tmp_path: Path) -> None:
    file = write_search(tmp_path, {}, "z", 8, context=14)  # room for six letters; from 10 on there are eight
    status, notes = searched(file, tmp_path / "run")
    n_long = sum(row["cut"] for row in status["cut_prompts"])
    (row,) = status["cut_prompts"]
    assert row["models"] == ["a", "b", "average"] and row["best"] and n_long == row["cut"] > 10
    early = [one for one in notes if "search prompts of words were too long for a, b, average, and lost" in one]
    assert len(early) == 1 and "num_fewshot" in early[0]
    (late,) = [one["text"] for one in status["warnings"] if "test prompts of words" in one["text"]]
    assert late.startswith(f"{row['cut']} of 20 test prompts of words were too long for a, b, average, the best merge")
