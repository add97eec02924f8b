"""`evomerge evaluate` gives lm-eval's own number for every metric of every kind of task."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_helpers import WORDS, Tiny, questions, write_task
from test_evaluation_harness import ALL, harness, reference

from evomerge import api
from evomerge.evaluation.catalog import check
from evomerge.evaluation.quiet import lm_eval_randomness, quiet
from evomerge.evaluation.task import TaskSpec
from evomerge.evaluation.totals import total
from evomerge.record import Score, Split

N = 16
FUNCTIONS = """
import math
import numpy as np

def longest(values):
    return max(values) - min(values)

def share(values):
    return sum(sum(flags) for flags in values) / sum(len(flags) for flags in values)

def judge(doc, results):
    text = results[0]
    found = {"length": len(text), "spread": len(text), "none": math.nan, "flags": [c in "aeiou" for c in text] or [0]}
    found["sometimes"] = float(len(text))
    if doc["answer"] == "dog":
        del found["sometimes"]
    return found

def questions(docs):
    return docs.map(lambda doc: {**doc, "question": doc["question"].upper()})

def options(doc):
    return doc["choices"][::-1]

def prompt(doc):
    return "Say: " + doc["question"]

def _task():
    from lm_eval.api.metrics import mean
    from lm_eval.api.task import ConfigurableTask

    class Task(ConfigurableTask):
        def __init__(self, config=None):
            super().__init__(config={key: value for key, value in config.items() if key != "class"})

        def process_results(self, doc, results):
            return {"size": len(results[0]), "least": len(results[0])}

        def aggregation(self):
            return {"size": mean, "least": min}

        def higher_is_better(self):
            return {"size": True, "least": True}

    return Task

Task = _task()

def dataset(**settings):
    import datasets
    rows = [{"question": f"{i} of {settings['rows']}", "answer": "cat dog"} for i in range(settings["rows"])]
    return {"test": datasets.Dataset.from_list(rows)}
"""
TEXT_METRICS = "".join(f"- {{metric: {name}}}\n" for name in ("exact_match", "bleu", "chrf", "chrf++", "ter", "bypass"))
OWN = """process_results: !function code.judge
metric_list:
- {metric: length, aggregation: median, higher_is_better: true}
- {metric: spread, aggregation: !function code.longest, higher_is_better: true}
- {metric: flags, aggregation: !function code.share, higher_is_better: true}
- {metric: none, aggregation: nanmean, higher_is_better: true}
- {metric: sometimes, aggregation: mean, higher_is_better: true}
"""
FILTERS = """filter_list:
- {name: first, filter: [{function: regex, regex_pattern: "(\\\\w)", group_select: 0}, {function: take_first}]}
- {name: low, filter: [{function: lowercase}, {function: take_first}]}
"""
CHOICES = "metric_list:\n" + "".join(
    f"- {{metric: {name}}}\n" for name in ("acc", "acc_norm", "acc_bytes", "f1", "mcc", "brier_score", "exact_match")
).replace("exact_match}", "exact_match, aggregation: mean, higher_is_better: true}")
MUTUAL = "metric_list:\n- {metric: acc_mutual_info}\n- {metric: acc}\n"
GENERATION: dict[str, Any] = {
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
}
CHOICE: dict[str, Any] = {"output_type": "multiple_choice", "doc_to_choice": "{{choices}}", "doc_to_target": "{{gold}}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all_kinds")
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(WORDS, 3)) for _ in range(N)]
    docs = [
        {"question": q, "answer": w, "choices": [w, "sun", "a moon"], "gold": i % 2, "texts": [w, "sun"]}
        for i, (q, w) in enumerate(zip(questions(N, seed=5), words, strict=True))
    ]
    documents = {"test": docs, "train": docs[:6], "validation": docs[6:12]}
    splits = {"training_split": "train"}
    more: list[tuple[str, dict[str, Any], str]] = [
        ("texts", GENERATION, "metric_list:\n" + TEXT_METRICS),
        ("own", GENERATION, OWN),
        ("filters", GENERATION, FILTERS + "metric_list:\n- {metric: exact_match}\n- {metric: chrf}\n"),
        ("repeated", {**GENERATION, "repeats": 2}, "metric_list:\n- {metric: chrf}\n"),
        (
            "shots",
            {**GENERATION, **splits, "num_fewshot": 2, "description": "Talk.\n", "target_delimiter": "=> ",
             "fewshot_delimiter": "\n##\n", "gen_prefix": "Well", "fewshot_config": {"sampler": "first_n"}},
            "metric_list:\n- {metric: exact_match, ignore_case: true}\n- {metric: chrf}\n",
        ),
        (
            "given_shots",
            {**GENERATION, "num_fewshot": 1, "fewshot_config": {
                "samples": [docs[0], docs[1]], "sampler": "first_n", "doc_to_text": "Q {{question}}",
                "doc_to_target": "{{texts[1]}}", "target_delimiter": "-> "}},
            "metric_list:\n- {metric: chrf}\n",
        ),
        ("several", {**GENERATION, "doc_to_target": "{{texts}}"}, "metric_list:\n- {metric: exact_match}\n"),
        ("votes", {**GENERATION, "repeats": 3, "filter_list": [{"name": "vote", "filter": [
            {"function": "regex", "regex_pattern": "([a-z]+)"}, {"function": "majority_vote"},
            {"function": "take_first"}]}]}, "metric_list:\n- {metric: chrf}\n"),
        ("in_python", GENERATION, "class: !function code.Task\n"),
        ("choices", CHOICE, CHOICES),
        ("mutual", {**CHOICE, "target_delimiter": ""}, MUTUAL),
        ("called", {**CHOICE, "doc_to_choice": None, "doc_to_text": None, "test_split": None,
                    "validation_split": "validation"},
         "doc_to_choice: !function code.options\ndoc_to_text: !function code.prompt\n"
         "process_docs: !function code.questions\nmetric_list:\n- {metric: acc}\n"),
        ("inputs", {**CHOICE, "doc_to_text": "{{gold}}", "doc_to_target": "{{answer}}"}, ""),
        ("targets", {**CHOICE, "doc_to_target": "{{[gold, 2]}}"}, "metric_list:\n- {metric: acc}\n"),
        ("likely", {"output_type": "loglikelihood", "should_decontaminate": True,
                    "doc_to_decontamination_query": "{{question}}"}, ""),
        ("rolling", {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{answer}}"}, ""),
        ("made", {**GENERATION, "dataset_path": None, "dataset_kwargs": {"rows": 9}},
         "custom_dataset: !function code.dataset\nmetric_list:\n- {metric: chrf}\n"),
    ]  # fmt: skip
    for name, settings, text in more:
        used = {"test", *(settings.get(key) for key in ("training_split", "validation_split"))}
        path = write_task(folder, name, {split: documents[split] for split in documents if split in used}, **settings)
        lines = [line for line in path.read_text().splitlines() if not line.endswith(": null")]
        path.write_text("\n".join([*lines, text]))
    (folder / "code.py").write_text(FUNCTIONS)
    return folder


NAMES = [
    "texts", "own", "filters", "repeated", "shots", "given_shots", "several", "choices", "mutual", "called",
    "votes", "in_python", "inputs", "targets", "likely", "rolling", "made",
]  # fmt: skip


@pytest.fixture(scope="module")
def theirs(folder: Path, tiny: Tiny) -> dict[str, dict[str, float]]:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with quiet(), lm_eval_randomness():
        found = lm_eval.simple_evaluate(
            HFLM(pretrained=tiny.model, tokenizer=copy.deepcopy(tiny.tokenizer), batch_size=8),
            tasks=NAMES,
            task_manager=TaskManager(include_defaults=False, include_path=str(folder)),
            bootstrap_iters=0,
        )
    return {
        name: {key: value for key, value in one.items() if "," in key and "_stderr" not in key}
        for name, one in found["results"].items()
    }


@pytest.fixture(scope="module")
def ours(folder: Path, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Score]]:
    model = tmp_path_factory.mktemp("model")
    tiny.model.save_pretrained(model)
    tiny.tokenizer.save_pretrained(model)
    return api.evaluate(str(model), tasks=NAMES, include_path=[str(folder)], batch_size=8, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_lm_evals_number(name: str, ours: Any, theirs: Any) -> None:
    assert theirs[name]
    for key, value in theirs[name].items():
        mine = ours[name].get(key) or ours[name][key.partition(",")[0]]
        assert mine.mean == pytest.approx(value, rel=1e-5, nan_ok=True), key
        assert not mine.mean < mine.low and not mine.mean > mine.high


def test_the_made_tasks_tell_metrics_apart(theirs: Any) -> None:
    """The numbers above would show an error: few of them are 0 or 1."""
    values = [value for one in theirs.values() for value in one.values()]
    assert len(values) > 30 and sum(value in (0, 1) for value in values) < len(values) / 2


def test_a_total_has_an_interval_that_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)

    def correlation(pairs: list[tuple[float, float]]) -> float:
        return float(np.corrcoef(np.array(pairs).T)[0, 1])

    covered = 0
    for draw in range(150):
        x = generator.normal(size=60)
        y = 0.6 * x + 0.8 * generator.normal(size=60)  # a true correlation of 0.6
        score = total(correlation, list(zip(x, y, strict=True)), seed=draw)
        covered += score.low <= 0.6 <= score.high
    assert 0.9 <= covered / 150 <= 0.99


def test_what_cannot_be_told_is_said() -> None:
    assert total(max, [3.0]) == Score(3.0, -math.inf, math.inf, 1)

    def needs_all(values: list[float]) -> float:
        return values[9]

    assert total(needs_all, [float(i) for i in range(10)]) == Score(9.0, -math.inf, math.inf, 10)
    assert math.isnan(total(lambda values: math.nan, [1.0, 2.0]).mean)


def test_sentence_scores_stand_in_where_a_corpus_score_cannot_be_an_objective(folder: Path, tiny: Tiny) -> None:
    import sacrebleu

    for name in ("bleu", "chrf", "chrf++", "ter"):
        (problem,) = check([TaskSpec("texts", name)], [folder])
        assert f"use 'sentence_{name}', that of each alone" in problem
    made = harness(folder, *(TaskSpec("texts", f"sentence_{name}") for name in ("chrf", "ter")), sizes=ALL)
    assert [spec.direction for spec in made.specs] == ["maximize", "minimize"]
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    logged = reference(tiny, folder, {"texts": tuple(range(N))})["texts"]
    for score in scores:
        sample = logged[score.item, "none"]
        said, answer = sample["filtered_resps"][0], sample["doc"]["answer"]
        assert score.metrics["sentence_chrf"] == pytest.approx(sacrebleu.sentence_chrf(said, [answer]).score)
        assert score.metrics["sentence_ter"] == pytest.approx(sacrebleu.sentence_ter(said, [answer]).score)
    assert len({score.metrics["sentence_chrf"] for score in scores}) > 5


@pytest.mark.parametrize(
    ("task", "metric", "said"),
    [
        ("choices", "f1", "aggregated by f1, not by a mean over items, so it has no per-item value; acc has one"),
        ("choices", "mcc", "aggregated by matthews_corrcoef, not by a mean"),
        ("own", "length", "aggregated by median, not by a mean"),
        ("texts", "bypass", "measures nothing"),
        ("rolling", "word_perplexity", "use 'log_word_perplexity'"),
    ],
)
def test_what_no_item_has_is_refused_before_a_search_with_the_reason(
    folder: Path, task: str, metric: str, said: str
) -> None:
    (problem,) = check([TaskSpec(task, metric)], [folder])
    assert said in problem


def test_scores_with_a_scale_of_their_own_are_not_shown_in_per_cent() -> None:
    shares = ("acc", "exact_match,strict", "f1", "mcc", "brier_score")
    others = ("bleu", "chrf++,low", "sentence_ter", "word_perplexity", "log_perplexity", "generated_tokens", "entropy")
    assert [name for name in (*shares, *others) if api.is_share(name)] == list(shares)
