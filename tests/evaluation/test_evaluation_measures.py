"""Measures of answers: against independent formulas, in the harness, and what is said where they do not fit."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_helpers import CHOICE, GENERATION, N_TEST, Tiny, fitness, questions, term_scores, write_task
from scipy import stats

from evomerge.errors import ConfigError, EvaluationError
from evomerge.evaluation import Objectives, SplitSizes, TaskSpec
from evomerge.evaluation.catalog import check
from evomerge.evaluation.engines.stopping import Stops
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.measures.entropy import answer_number, softmax_entropy
from evomerge.evaluation.measures.python_function import load_function
from evomerge.evaluation.measures.registry import MEASURES
from evomerge.evaluation.task import ANSWER, SCRIPT, Constraint
from evomerge.record import INFEASIBLE, ItemScore, Split

ALL = SplitSizes(search=None, validation=0, test=0)
TOKENS = TaskSpec("copy", "generated_tokens", weight=0.01)


def harness(tasks: Path, *specs: TaskSpec, **options: Any) -> LmHarness:
    return LmHarness(specs, **{"sizes": ALL, "seed": 3, "include_path": [tasks], "batch_size": 4, **options})


def scored(made: LmHarness, tiny: Tiny) -> tuple[ItemScore, ...]:
    return made.score(tiny.model, tiny.tokenizer, Split.SEARCH)


@pytest.mark.parametrize("k", [2, 4, 10])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1000.0])
def test_the_entropy_is_that_of_the_softmax(k: int, scale: float) -> None:
    weights = np.random.default_rng(k).normal(-200, 1, k) * (scale or 0.0)
    shifted = np.exp(weights - weights.max())
    assert softmax_entropy(list(weights)) == pytest.approx(stats.entropy(shifted / shifted.sum()), abs=1e-12)


def test_the_entropy_lies_between_certainty_and_indifference() -> None:
    assert softmax_entropy([-7.0] * 4) == pytest.approx(math.log(4))
    assert softmax_entropy([0.0, -1e6, -1e6]) == 0.0


def test_an_answer_is_its_text_wherever_it_stands_and_its_place_where_all_options_read_alike() -> None:
    yes, no = answer_number(["yes", "no"], 0), answer_number(["yes", "no"], 1)
    assert yes != no
    assert answer_number(["no", "yes"], 1) == yes
    assert [answer_number(["same", "same"], chosen) for chosen in (0, 1)] == [0.0, 1.0]
    code = "from evomerge.evaluation.measures.entropy import answer_number; print(answer_number(['yes', 'no'], 0))"
    for seed in ("1", "2"):  # Python's own hash of a text changes from process to process
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert float(done.stdout) == yes, done.stderr


def greedy(tiny: Tiny, prompt: str, n_tokens: int = 8) -> list[int]:
    """The model's greedy tokens up to the end token."""
    ids = tiny.tokenizer(prompt)["input_ids"]
    answer: list[int] = []
    while len(answer) < n_tokens and answer[-1:] != [tiny.tokenizer.eos_token_id]:
        with torch.no_grad():
            answer.append(int(tiny.model(torch.tensor([ids + answer])).logits[0, -1].argmax()))
    return answer


def test_generated_tokens_are_those_that_the_model_generated_with_the_one_that_ends_the_answer(
    tiny: Tiny, tasks: Path
) -> None:
    scores = scored(harness(tasks, TaskSpec("copy", "exact_match"), TOKENS), tiny)
    assert set(scores[0].metrics) == {"exact_match", "generated_tokens"}
    expected = [len(greedy(tiny, prompt)) for prompt in questions(N_TEST, seed=1)]
    assert [score.metrics["generated_tokens"] for score in scores] == expected
    assert len(set(expected)) > 1


def test_a_generated_text_knows_its_tokens_and_is_a_plain_text_to_the_task(tiny: Tiny) -> None:
    stops = Stops(tiny.tokenizer, ["\n\n"])
    tokens = [*tiny.tokenizer("red blue\n\ncat")["input_ids"], tiny.tokenizer.eos_token_id]
    text = stops.text(tokens, limit=99, eos=())
    assert text == "red blue" and text.n_tokens == len(tokens)
    for copied in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert (copied, copied.n_tokens, copied.cut) == (text, text.n_tokens, False)
    assert type(str(text)) is str


def test_lm_evals_wrapper_gives_texts_whose_tokens_are_counted(tiny: Tiny, tasks: Path) -> None:
    scores = scored(harness(tasks, TOKENS, engine="lm-eval"), tiny)
    for score, prompt in zip(scores, questions(N_TEST, seed=1), strict=True):
        text = tiny.tokenizer.decode(greedy(tiny, prompt), skip_special_tokens=True)
        assert score.metrics["generated_tokens"] == len(tiny.tokenizer(text)["input_ids"])


def test_the_entropy_of_a_task_is_that_of_its_options_under_the_model(tiny: Tiny, tmp_path: Path) -> None:
    options = [["red", "blue"], ["blue", "red"], ["cat", "dog"], ["sun", "star"]]
    documents = [{"question": f"{i} one two :", "choices": own, "gold": 0} for i, own in enumerate(options)]
    write_task(tmp_path, "two", {"test": documents}, **CHOICE)
    scores = scored(harness(tmp_path, TaskSpec("two", "entropy")), tiny)
    for score, document in zip(scores, documents, strict=True):
        log_probabilities = []
        for option in document["choices"]:
            prompt = tiny.tokenizer(document["question"])["input_ids"]
            whole = tiny.tokenizer(f"{document['question']} {option}")["input_ids"]
            with torch.no_grad():
                logits = tiny.model(torch.tensor([whole])).logits.double().log_softmax(-1)[0]
            log_probabilities.append(sum(logits[i - 1, whole[i]].item() for i in range(len(prompt), len(whole))))
        weights = np.exp(log_probabilities)
        assert score.metrics["entropy"] == pytest.approx(stats.entropy(weights / weights.sum()), abs=1e-4)
        chosen = int(np.argmax(log_probabilities))
        assert score.metrics[ANSWER] == answer_number([f" {o}" for o in document["choices"]], chosen)
        assert score.metrics["acc"] == float(chosen == document["gold"])


def test_options_that_are_asked_a_second_time_without_their_context_do_not_count(tiny: Tiny, tmp_path: Path) -> None:
    documents = [{"question": f"{i} :", "choices": ["red", "blue", "cat"], "gold": 1} for i in range(3)]
    write_task(tmp_path, "plain", {"test": documents}, **CHOICE)
    metrics = [*CHOICE["metric_list"], {"metric": "acc_mutual_info", "aggregation": "mean", "higher_is_better": True}]
    write_task(tmp_path, "mutual", {"test": documents}, **{**CHOICE, "metric_list": metrics})
    plain = scored(harness(tmp_path, TaskSpec("plain", "entropy")), tiny)
    mutual = scored(harness(tmp_path, TaskSpec("mutual", "entropy")), tiny)
    assert [s.metrics["entropy"] for s in mutual] == pytest.approx([s.metrics["entropy"] for s in plain], abs=1e-5)


def test_a_model_that_answers_all_alike_breaks_the_guard_of_its_entropy(tiny: Tiny, tmp_path: Path) -> None:
    documents = [{"question": q, "choices": ["red", "blue", "cat"], "gold": 0} for q in questions(24, seed=8)]
    write_task(tmp_path, "colours", {"test": documents}, **CHOICE)
    made = harness(tmp_path, TaskSpec("colours", "entropy"))
    objective = Objectives(made.specs)
    baseline = scored(made, tiny)
    objective.note_baseline("tiny", Split.SEARCH, baseline)
    assert objective.violated(baseline) == []
    assert len({score.metrics[ANSWER] for score in baseline}) > 1
    dull = copy.deepcopy(tiny.model)
    with torch.no_grad():
        dull.model.norm.weight.zero_()  # every token is as likely as any other, whatever the question
    found = made.score(dull, tiny.tokenizer, Split.SEARCH)
    (said,) = objective.violated(found)
    assert said.startswith("task 'colours': 100.0% of the answers are the same")
    assert fitness(objective, found) < -INFEASIBLE < fitness(objective, baseline)


def test_entries_of_one_task_share_its_forward_passes_and_splits(
    tiny: Tiny, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, passes = tiny.model.forward, []
    monkeypatch.setattr(tiny.model, "forward", lambda *a, **k: (passes.append(1), forward(*a, **k))[1])
    sizes = SplitSizes(search=10, validation=4, test=None)
    alone = harness(tasks, TaskSpec("copy", "exact_match"), sizes=sizes)
    scored(alone, tiny), passes.clear(), scored(alone, tiny)
    needed = len(passes)
    limited = TaskSpec("copy", "exact_match", weight=0.0, constraint=Constraint(min=0.1))
    both = harness(tasks, TaskSpec("copy", "exact_match"), TOKENS, limited, sizes=sizes)
    scored(both, tiny), passes.clear()
    scores = scored(both, tiny)
    assert 0 < len(passes) == needed
    assert both.split_data() == alone.split_data()
    assert [score.item for score in scores] == list(both.split_items(Split.SEARCH)["copy"])
    assert [(s.metric, s.filter, s.direction) for s in both.specs] == [
        ("exact_match", "none", "maximize"),
        ("generated_tokens", None, "minimize"),
        ("exact_match", "none", "maximize"),
    ]
    assert len(term_scores(Objectives(both.specs), scores)) == 3


def test_measures_that_no_entry_names_can_be_asked_for_where_they_fit(tiny: Tiny, tasks: Path) -> None:
    specs = (TaskSpec("copy", "exact_match"), TaskSpec("choice", "acc"), TaskSpec("next_word", "acc"))
    scores = scored(harness(tasks, *specs, measures=tuple(MEASURES)), tiny)
    found = {score.task: set(score.metrics) for score in scores}
    shares = {"cut_answers", "empty_answers", "repetitive_answers", "cut_prompts"}
    assert found["copy"] == {"exact_match", "generated_tokens", *shares, SCRIPT}
    assert found["choice"] == {"acc", "acc_norm", "brier_score", "entropy", "cut_prompts", ANSWER}
    assert not found["next_word"] & {"entropy", "generated_tokens"}


def test_a_metric_of_the_task_comes_before_a_measure_of_the_same_name(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def judge(doc, results):\n    return {'generated_tokens': 77.0}\n")
    path = write_task(
        tmp_path, "own", {"test": [{"question": "1 :", "answer": "x"}] * 2},
        **{**GENERATION, "metric_list": [{"metric": "generated_tokens", "aggregation": "mean"}]},
    )  # fmt: skip
    path.write_text(path.read_text() + "process_results: !function own.judge\n")
    made = harness(tmp_path, TaskSpec("own", "generated_tokens", direction="maximize"))
    assert [score.metrics for score in scored(made, tiny)] == [{"generated_tokens": 77.0}] * 2


# --- functions of the user -------------------------------------------------------------------------------------------

SOURCE = """
def letters(document, responses):
    return sum(map(str.isalpha, responses[0]))

def margin(document, responses):
    (a, _), (b, _) = sorted(responses, reverse=True)[:2]
    assert document["choices"]
    return a - b

def fails(document, responses):
    raise ValueError("no idea\\nat all")

def text(document, responses):
    return "three"

def changes(document, responses):
    document.clear()
    return 1

def one(document):
    return 1.0

NUMBER = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    """From a function's name to its metric."""
    path = tmp_path / "metrics.py"
    path.write_text(SOURCE, encoding="utf-8")
    return lambda name: f"python:{path}:{name}"


def test_a_function_of_the_user_gets_the_document_and_what_the_model_answered(
    tiny: Tiny, tasks: Path, own: Callable[[str], str]
) -> None:
    letters = TaskSpec("copy", own("letters"), direction="maximize")
    margin = TaskSpec("choice", own("margin"), direction="maximize")
    made = harness(tasks, letters, margin)
    scores = scored(made, tiny)
    answers = [
        tiny.tokenizer.decode(greedy(tiny, prompt), skip_special_tokens=True) for prompt in questions(N_TEST, seed=1)
    ]
    found = [score.metrics[own("letters")] for score in scores if score.task == "copy"]
    assert found == [float(sum(map(str.isalpha, answer))) for answer in answers]
    assert all(score.metrics[own("margin")] >= 0 for score in scores if score.task == "choice")
    assert term_scores(Objectives(made.specs), scores)[0].mean == pytest.approx(np.mean(found))


def test_a_function_in_a_module_is_found_by_its_name(tiny: Tiny, tasks: Path, monkeypatch: pytest.MonkeyPatch,
                                                     tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "my_own_metrics.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    spec = TaskSpec("copy", "python:my_own_metrics:letters", direction="minimize")
    assert check([spec], [tasks]) == []
    assert scored(harness(tasks, spec), tiny)[0].metrics["python:my_own_metrics:letters"] >= 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", r"task 'copy', item 0: 'python:.*:fails' failed: ValueError: no idea at all"),
        ("text", r"task 'copy', item 0: 'python:.*:text' failed: TypeError: it must return a number, .*'three'"),
    ],
)
def test_an_error_in_it_fails_the_candidate_with_task_item_and_reason(
    tiny: Tiny, tasks: Path, own: Callable[[str], str], name: str, message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        scored(harness(tasks, TaskSpec("copy", own(name), direction="maximize")), tiny)


def test_it_cannot_change_the_document_that_the_task_scores(tiny: Tiny, tasks: Path, own: Callable[[str], str]) -> None:
    spec = TaskSpec("copy", own("changes"), weight=0.0, direction="maximize")
    changed = scored(harness(tasks, TaskSpec("copy", "exact_match"), spec), tiny)
    plain = scored(harness(tasks, TaskSpec("copy", "exact_match")), tiny)
    assert [s.metrics["exact_match"] for s in changed] == [s.metrics["exact_match"] for s in plain]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("python:metrics", "must name a function, as in 'python:my_module:my_function'"),
        ("python:no_such_module_here:f", "could not be imported: ModuleNotFoundError: No module named 'no_such_module"),
        ("python:no/such/file.py:f", r"FileNotFoundError: there is no file no/such/file.py \(paths start from"),
        ("FILE:nothing", "has no 'nothing'"),
        ("FILE:NUMBER", "has no function 'NUMBER'"),
        ("FILE:one", r"called with \(document, responses\), but its own arguments are \(document\)"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_before_the_search(
    tasks: Path, own: Callable[[str], str], metric: str, message: str
) -> None:
    metric = metric.replace("FILE:", own(""))
    problems = check([TaskSpec("copy", metric, direction="maximize")], [tasks])
    assert len(problems) == 1
    with pytest.raises(ConfigError, match=message):
        load_function(metric)
    assert metric in problems[0]


# --- what does not fit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            TaskSpec("copy", "entropy"),
            "'copy' is of the kind generate_until, on which 'entropy' cannot be measured; it ",
        ),
        (TaskSpec("choice", "generated_tokens"), "of the kind multiple_choice.*it needs generate_until"),
        (TaskSpec("letters", "generated_tokens", filter="first"), "on the answer as the model gave it; leave `filter`"),
        (
            TaskSpec("choice", "entropi"),
            "did you mean 'entropy'.* Known: acc, acc_norm, brier_score, cut_prompts, entropy, ne",
        ),
        (
            TaskSpec("copy", "python:math:pow"),
            "nothing says whether a larger 'python:math:pow' is better; set `direction`",
        ),
        (
            TaskSpec("copy", "negative_flips", reference="a", of="exact"),
            "unknown metric of task 'copy' in `of`: 'exact'; did you mean 'exact_match'",
        ),
        (
            TaskSpec("letters", "negative_flips", reference="a", of="exact_match"),
            "'letters' has 2 filters, so `filter` must name the one whose 'exact_match' counts",
        ),
        (
            TaskSpec("copy", "negative_flips", reference="a", of="exact_match", direction="maximize"),
            "'negative_flips' are to be few; leave `direction` out",
        ),
    ],
)
def test_a_measure_that_does_not_fit_its_task_is_told_before_a_dataset_is_opened(
    tasks: Path, spec: TaskSpec, message: str
) -> None:
    problems = check([spec], [tasks])
    assert len(problems) == 1
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(problems)


def test_a_limit_says_the_direction_by_itself(tasks: Path) -> None:
    spec = TaskSpec("copy", "python:math:pow", weight=0.0, constraint=Constraint(max=0.1))
    made = harness(tasks, TaskSpec("copy", "exact_match"), spec)
    assert made.specs[1].direction == "minimize"


def test_mistakes_of_a_task_are_told_once_however_many_entries_it_has(tasks: Path) -> None:
    problems = check([TaskSpec("copi", "exact_match"), TaskSpec("copi", "generated_tokens", weight=0.1)], [tasks])
    assert len(problems) == 1
