"""Answers and prompts in words equal the sample logs of lm-eval itself, field by field."""

import copy
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from evaluation_helpers import Tiny

from evomerge.estimation import read_responses
from evomerge.evaluation.answers import PROMPT_LENGTH, as_json, item_prompts
from evomerge.evaluation.chat import Chat
from evomerge.evaluation.engines.units import UnitRange
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.samples import file_name, sample, write_samples
from evomerge.evaluation.task import SplitSizes, TaskSpec
from evomerge.record import ItemAnswer, ItemPrompt, Split


def lm_eval_samples(
    tiny: Tiny, tasks: Path, items: dict[str, tuple[int, ...]], **options: Any
) -> dict[str, list[dict]]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    lm = HFLM(pretrained=tiny.model, tokenizer=copy.deepcopy(tiny.tokenizer), batch_size=8)
    found = lm_eval.simple_evaluate(
        lm,
        tasks=list(items),
        samples={task: list(own) for task, own in items.items()},
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    return found["samples"]


def answered(
    harness: LmHarness, tiny: Tiny, split: Split
) -> tuple[list[ItemAnswer], dict[tuple[str, int], ItemPrompt]]:
    texts: list[ItemAnswer] = []
    asked = (tiny.model, tiny.tokenizer, split, None)
    scores = harness.scores(*asked, [harness.answers(*asked, UnitRange())], texts)
    assert [(one.task, one.item) for one in texts] == [(one.task, one.item) for one in scores]
    return texts, {(one.task, one.item): one for one in harness.prompts(split, tiny.tokenizer)}


def close(mine: Any, theirs: Any) -> bool:
    """Equal, but for the last bits of log-probabilities, whose sums are taken in another order."""
    if isinstance(theirs, float) and isinstance(mine, float):
        return mine == pytest.approx(theirs, abs=1e-4)
    if (
        isinstance(theirs, str) and theirs.startswith("[0.") and mine != theirs
    ):  # an array, which lm-eval writes as text
        return close([float(one) for one in mine[1:-1].split()], [float(one) for one in theirs[1:-1].split()])
    if isinstance(theirs, (list, tuple)):
        return len(mine) == len(theirs) and all(map(close, mine, theirs))
    return mine == theirs


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("copy", "exact_match"), ("letters", "exact_match"), ("choice", "acc"), ("choice_shots", "acc"),
        ("next_word", "acc"), ("texts", "byte_perplexity"),
    ],
)  # fmt: skip
def test_samples_equal_those_of_lm_eval(tiny: Tiny, tasks: Path, task: str, metric: str, tmp_path: Path) -> None:
    name = {"byte_perplexity": "bits_per_byte"}.get(metric, metric)
    spec = TaskSpec(task, name, filter="first" if task == "letters" else None)
    harness = LmHarness([spec], sizes=SplitSizes(search=5, validation=0, test=None), include_path=[tasks], batch_size=8)
    items = harness.split_items(Split.SEARCH)
    expected = lm_eval_samples(tiny, tasks, items)[task]
    texts, prompts = answered(harness, tiny, Split.SEARCH)
    mine = [sample(one, prompts[task, one.item], each) for each in texts[0].filtered for one in texts]
    assert len(mine) == len(expected) >= 5
    for one, other in zip(mine, expected, strict=True):
        assert list(one) == list(other)
        other = json.loads(json.dumps(other, default=str))
        for field, value in other.items():
            assert close(one[field], value), field
    # The file is the one that lm-eval's own tracker writes of these samples.
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.general_config_tracker.model_name_sanitized = "m"
    tracker.date_id = "2026-01-01T00-00-00"
    tracker.save_results_samples(task, expected)
    (theirs,) = (tmp_path / "theirs" / "m").iterdir()
    (path,) = write_samples(tmp_path / "mine" / "m", texts, prompts, now=datetime(2026, 1, 1))
    assert path.name == theirs.name
    for ours, line in zip(path.read_text().splitlines(), theirs.read_text().splitlines(), strict=True):
        one, other = json.loads(ours), json.loads(line)
        assert list(one) == list(other)
        for field in ("arguments", "target", "doc", "doc_hash", "prompt_hash", "target_hash", "filter", "metrics"):
            assert one[field] == other[field]
        assert all(isinstance(text, str) for text in _leaves(one["resps"]))
    if task in ("copy", "choice"):
        found, reference = (read_responses(folder, metric=metric) for folder in (path.parent, theirs.parent))
        assert found.items == reference.items and (found.R == reference.R).all()


def _leaves(value: Any) -> list[Any]:
    return [leaf for one in value for leaf in _leaves(one)] if isinstance(value, list) else [value]


def test_prompts_of_a_chat_belong_to_the_template(tiny: Tiny, tasks: Path) -> None:
    import copy

    harness = LmHarness(
        [TaskSpec("copy", "exact_match")],
        sizes=SplitSizes(search=3, validation=0, test=None),
        include_path=[tasks],
        chat=Chat(template=True),
    )
    made = []
    for mark in ("U", "V"):
        tokenizer = copy.deepcopy(tiny.tokenizer)
        tokenizer.chat_template = "{% for m in messages %}" + mark + ": {{ m['content'] }}\n{% endfor %}A:"
        made.append((harness.variant(tokenizer), harness.prompts(Split.SEARCH, tokenizer)[0].requests[0][0]))
    assert made[0][0] != made[1][0]
    assert [text[:2] for _, text in made] == ["U:", "V:"] and all(text.endswith("A:") for _, text in made)


def test_prompts_need_no_model_where_there_is_no_template(tasks: Path) -> None:
    harness = LmHarness(
        [TaskSpec("choice_shots", "acc")],
        sizes=SplitSizes(search=3, validation=3, test=None),
        include_path=[tasks],
    )
    for split in Split:
        prompts = harness.prompts(split)
        assert [one.item for one in prompts] == list(harness.split_items(split)["choice_shots"])
        assert all(len(one.requests) == 4 and one.requests[0][0].count(" :") == 3 for one in prompts)
    assert harness.variant() == ""


def test_long_texts_are_cut_and_the_hashes_are_those_of_the_whole() -> None:
    class Instance:
        args = ("p" * (PROMPT_LENGTH + 10), {"until": []})
        repeats = 2

    def fails(document: Any) -> Any:
        raise KeyError("none")

    long = {"q": "x" * 50_000, "n": 1}
    (cut,) = item_prompts("t", [4], [[Instance()]], [long], fails)
    assert len(cut.requests[0][0]) < PROMPT_LENGTH + 60 and "(10 characters left out)" in cut.requests[0][0]
    assert len(cut.document["q"]) < 21_000 and cut.document["n"] == 1
    assert (cut.target, cut.repeats) == (None, 2)
    import hashlib

    whole = hashlib.sha256(json.dumps(long, indent=2, ensure_ascii=False).encode()).hexdigest()
    made = sample(ItemAnswer("t", 4, ["a"], {"none": ["a"]}, {"none": {"m": 1.0}}), cut, "none")
    assert made["doc_hash"] == whole and made["resps"] == [["a", "a"]] and made["m"] == 1.0
    assert made["prompt_hash"] == hashlib.sha256(Instance.args[0].encode()).hexdigest()


def test_values_of_any_kind_are_json_as_lm_eval_writes_them() -> None:
    import numpy as np
    from lm_eval.utils import handle_non_serializable

    class Odd:
        def __str__(self) -> str:
            return "odd"

    values = [
        np.bool_(True),
        np.int64(3),
        np.float64(0.5),
        Odd(),
        (1, "a"),
        {7: None, False: 2, None: "x"},
        math.inf,
    ]
    theirs = [json.loads(json.dumps(value, default=handle_non_serializable)) for value in values]
    assert [as_json(value) for value in values] == theirs


def test_a_file_holds_any_text_and_any_name(tmp_path: Path) -> None:
    said = ["\ud800 \u2028 日本", "\u2028 日本 \x85"]
    answers = [ItemAnswer("a/b", i, [one], {"none": ["x"]}, {"none": {"acc": 1.0}}) for i, one in enumerate(said)]
    prompt = ItemPrompt("a/b", 0, [["q", {}]], "t", {"q": "q"})
    (path,) = write_samples(tmp_path / "m", answers, {("a/b", i): prompt for i in (0, 1)}, now=datetime(2026, 1, 1))
    assert path.name == "samples_a__b_2026-01-01T00-00-00.jsonl"
    assert [json.loads(line)["resps"] for line in path.read_text().strip().split("\n")] == [[[one]] for one in said]
    assert [file_name(name) for name in ("..", "a:b", "parent:x/y", "")] == ["_", "a__b", "parent__x__y", "_"]
    assert read_responses(tmp_path, metric="acc").items == ("a__b/0", "a__b/1")
