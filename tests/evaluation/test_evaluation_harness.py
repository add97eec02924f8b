"""The harness against lm-eval itself, and what it does when something goes wrong."""

from __future__ import annotations

import copy
import io
import json
import math
import random
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_helpers import CHOICE, GENERATION, N_TEST, Tiny, continuation, fitness, make_model, write_task

from evomerge.errors import ConfigError, EvaluationError, Interrupted
from evomerge.evaluation import Objectives, SplitSizes, TaskSpec
from evomerge.evaluation import quiet as quiet_module
from evomerge.evaluation.chat import Chat
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.quiet import lm_eval_randomness, quiet
from evomerge.record import ItemScore, Split

SIZES = SplitSizes(search=10, validation=4, test=None)
ALL = SplitSizes(search=None, validation=0, test=0)


def harness(tasks: Path, *specs: TaskSpec, **options: Any) -> LmHarness:
    return LmHarness(specs, **{"sizes": SIZES, "seed": 3, "include_path": [tasks], "batch_size": 4, **options})


def reference(
    tiny: Tiny, tasks: Path, samples: dict[str, tuple[int, ...]], **options: Any
) -> dict[str, dict[Any, Any]]:
    """Per task, (item, filter) to the sample that `simple_evaluate` logs."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with quiet(), lm_eval_randomness():  # it reseeds every global generator
        results = lm_eval.simple_evaluate(
            HFLM(pretrained=tiny.model, tokenizer=copy.deepcopy(tiny.tokenizer), batch_size=4),
            tasks=list(samples),
            task_manager=TaskManager(include_defaults=False, include_path=str(tasks)),
            samples={name: list(items) for name, items in samples.items()},
            bootstrap_iters=0,
            **options,
        )
    return {
        name: {(s["doc_id"], s["filter"]): s for s in logged} for name, logged in results["samples"].items()
    }  # fmt: skip


def test_generation_scores_are_the_known_ones(tiny: Tiny, tasks: Path, right_items: frozenset[int]) -> None:
    scores = harness(tasks, TaskSpec("copy", "exact_match"), sizes=ALL).score(tiny.model, tiny.tokenizer, Split.SEARCH)
    assert [score.item for score in scores] == list(range(N_TEST))
    assert {score.item for score in scores if score.metrics == {"exact_match": 1.0}} == right_items
    assert all(score.metrics["exact_match"] in (0.0, 1.0) for score in scores)


def test_generation_and_choice_together_equal_lm_eval_item_by_item(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("copy", "exact_match"), TaskSpec("choice", "acc"))
    for split in Split:
        items = made.split_items(split)
        expected = reference(tiny, tasks, items)
        scores = made.score(tiny.model, tiny.tokenizer, split)
        assert [(s.task, s.item) for s in scores] == [
            (task, item) for task in ("copy", "choice") for item in items[task]
        ]
        for score in scores:
            theirs = expected[score.task][score.item, "none"]
            for name in ("exact_match",) if score.task == "copy" else ("acc", "acc_norm"):
                assert score.metrics[name] == theirs[name]
    assert set(scores[-1].metrics) == {"acc", "acc_norm", "brier_score"}


def test_a_second_model_in_the_same_harness_and_the_same_model_again_score_alike(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("copy", "exact_match"), TaskSpec("choice", "brier_score"))
    first = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    other = make_model(len(tiny.tokenizer), seed=9)
    second = made.score(other, tiny.tokenizer, Split.SEARCH)
    assert first != second
    assert made.score(tiny.model, tiny.tokenizer, Split.SEARCH) == first
    with torch.no_grad():  # written in place, as a search does
        for mine, theirs in zip(other.parameters(), tiny.model.parameters(), strict=True):
            mine.copy_(theirs)
    assert made.score(other, tiny.tokenizer, Split.SEARCH) == first


def test_requests_are_built_once_per_split(tiny: Tiny, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.task import ConfigurableTask

    built = []
    build = ConfigurableTask.build_all_requests
    monkeypatch.setattr(
        ConfigurableTask, "build_all_requests", lambda self, **kw: (built.append(len(kw["samples"])), build(self, **kw))
    )
    made = harness(tasks, TaskSpec("copy", "exact_match"))
    assert built == []
    for split in (Split.SEARCH, Split.SEARCH, Split.TEST, Split.SEARCH):
        made.score(tiny.model, tiny.tokenizer, split)
    assert built == [10, 10]


def test_every_filter_is_kept_and_equals_lm_eval(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("letters", "exact_match", filter="first"))
    expected = reference(tiny, tasks, made.split_items(Split.SEARCH))["letters"]
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    for score in scores:
        assert score.metrics == {
            f"exact_match,{name}": expected[score.item, name]["exact_match"] for name in ("first", "last")
        }
    assert fitness(Objectives(made.specs), scores) > 0.5
    assert any(score.metrics["exact_match,last"] == 0 for score in scores)


def test_few_shot_prompts_equal_lm_eval(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("choice_shots", "acc"))
    expected = reference(tiny, tasks, made.split_items(Split.SEARCH))["choice_shots"]
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    requests = made._requests[Split.SEARCH, None]["choice_shots"]
    for score, group in zip(scores, requests.instances, strict=True):
        theirs = expected[score.item, "none"]
        assert [instance.args for instance in group] == [tuple(a) for a in theirs["arguments"]]
        assert group[0].args[0].count(" :") == 3
        assert (score.metrics["acc"], score.metrics["acc_norm"]) == (theirs["acc"], theirs["acc_norm"])


def test_the_number_of_examples_can_be_given(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("choice_shots", "acc", num_fewshot=1))
    expected = reference(tiny, tasks, made.split_items(Split.SEARCH), num_fewshot=1)["choice_shots"]
    made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    requests = made._requests[Split.SEARCH, None]["choice_shots"]
    for item, group in zip(requests.items, requests.instances, strict=True):
        assert [instance.args for instance in group] == [tuple(a) for a in expected[item, "none"]["arguments"]]
    assert [task.num_fewshot for task in made._tasks.values()] == [1]


def test_examples_that_would_come_from_held_out_items_come_from_search_items(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("choice_shots_shared", "acc"))
    documents = [json.loads(line) for line in (tasks / "choice_shots_shared.test.jsonl").read_text().splitlines()]
    allowed = {documents[item]["question"] for item in made.split_items(Split.SEARCH)["choice_shots_shared"]}
    for split in Split:
        made.score(tiny.model, tiny.tokenizer, split)
        requests = made._requests[split, None]["choice_shots_shared"]
        for item, group in zip(requests.items, requests.instances, strict=True):
            asked = re.findall(r"\d+ [a-z ]+ :", group[0].args[0])
            assert len(asked) == 4
            assert asked[-1] == documents[item]["question"]
            assert set(asked[:-1]) <= allowed - {asked[-1]}
    few = harness(tasks, TaskSpec("choice_shots_shared", "acc"), sizes=SplitSizes(search=3, validation=4, test=None))
    with pytest.raises(ConfigError, match="no separate documents for its 3 few-shot examples, and the 3 items"):
        few.score(tiny.model, tiny.tokenizer, Split.SEARCH)


def test_loglikelihood_tasks_report_accuracy_and_log_perplexity(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("next_word", "log_perplexity"), sizes=ALL)
    assert made.specs[0].direction == "minimize"
    expected = reference(tiny, tasks, made.split_items(Split.SEARCH))["next_word"]
    scores = made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    for score in scores:
        theirs = expected[score.item, "none"]
        # The head is computed for fewer positions than lm-eval's, so the last bits may differ.
        log_perplexity = pytest.approx(-theirs["perplexity"], rel=1e-6)
        assert score.metrics == {"acc": theirs["acc"], "log_perplexity": log_perplexity}
    mean = sum(score.metrics["log_perplexity"] for score in scores) / len(scores)
    assert fitness(Objectives(made.specs), scores) == pytest.approx(-mean)


def test_rolling_loglikelihoods_are_kept_per_word_and_byte(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("texts", "bits_per_byte"), sizes=ALL)
    expected = reference(tiny, tasks, made.split_items(Split.SEARCH))["texts"]
    for score in made.score(tiny.model, tiny.tokenizer, Split.SEARCH):
        theirs = expected[score.item, "none"]
        (total, n_bytes), (_, n_words) = theirs["byte_perplexity"], theirs["word_perplexity"]
        assert score.metrics == pytest.approx(
            {
                "log_word_perplexity": -total / n_words,
                "log_byte_perplexity": -total / n_bytes,
                "bits_per_byte": -total / n_bytes / math.log(2),
            }
        )


def test_a_brier_score_is_the_items_own_squared_error(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("choice", "brier_score"))
    assert made.specs[0].direction == "minimize"
    expected = reference(tiny, tasks, made.split_items(Split.SEARCH))["choice"]
    for score in made.score(tiny.model, tiny.tokenizer, Split.SEARCH):
        gold, probabilities = expected[score.item, "none"]["brier_score"]
        error = sum((p - (i == gold)) ** 2 for i, p in enumerate(probabilities))
        assert score.metrics["brier_score"] == pytest.approx(float(error), rel=1e-5)


def test_items_of_another_task_form_the_test_split(tiny: Tiny, tasks: Path) -> None:
    made = harness(
        tasks, TaskSpec("choice", "acc", test="choice_other"), sizes=SplitSizes(search=10, validation=None, test=None)
    )
    data = made.split_data()["tasks"]["choice"]
    assert {split: one["task"] for split, one in data.items()} == {
        "search": "choice", "validation": "choice", "test": "choice_other",
    }  # fmt: skip
    assert data["test"]["items"] == list(range(6))
    scores = made.score(tiny.model, tiny.tokenizer, Split.TEST)
    assert [(score.task, score.item) for score in scores] == [("choice", i) for i in range(6)]
    expected = reference(tiny, tasks, {"choice_other": tuple(range(6))})["choice_other"]
    assert [s.metrics["acc"] for s in scores] == [expected[i, "none"]["acc"] for i in range(6)]


def test_some_items_of_some_tasks_can_be_scored(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("copy", "exact_match"), TaskSpec("choice", "acc"))
    whole = {(s.task, s.item): s for s in made.score(tiny.model, tiny.tokenizer, Split.SEARCH)}
    chosen = made.split_items(Split.SEARCH)["copy"][2:5]
    some = made.score(tiny.model, tiny.tokenizer, Split.SEARCH, {"copy": chosen[::-1]})
    assert some == tuple(whole["copy", item] for item in chosen)
    held_out = made.split_items(Split.TEST)["copy"][0]
    with pytest.raises(ValueError, match=rf"items \[{held_out}\] are not in this split, which has 10 items"):
        made.score(tiny.model, tiny.tokenizer, Split.SEARCH, {"copy": (held_out,)})
    with pytest.raises(ValueError, match=r"items of \['cpoy'\] came, but the tasks are copy, choice"):
        made.score(tiny.model, tiny.tokenizer, Split.SEARCH, {"cpoy": (0,)})


def test_an_empty_split_scores_nothing(tiny: Tiny, tasks: Path) -> None:
    assert (
        harness(tasks, TaskSpec("copy", "exact_match"), sizes=ALL).score(tiny.model, tiny.tokenizer, Split.TEST) == ()
    )


def test_splits_are_recorded_and_taken_back(tasks: Path) -> None:
    specs = (TaskSpec("copy", "exact_match"), TaskSpec("choice", "acc", test="choice_other"))
    sizes = SplitSizes(search=10, validation=4, test=5)
    first = harness(tasks, *specs, sizes=sizes, seed=1)
    data = json.loads(json.dumps(first.split_data()))
    assert data["tasks"]["copy"]["search"]["n_docs"] == N_TEST
    again = harness(tasks, *specs, seed=2, recorded_splits=data)
    assert [again.split_items(split) for split in Split] == [first.split_items(split) for split in Split]
    other = json.loads(json.dumps(data))
    other["tasks"]["copy"]["search"]["items"][0] = 999
    with pytest.raises(ConfigError, match=f"'copy' had {N_TEST} documents when the splits were drawn.*items are gone"):
        harness(tasks, *specs, recorded_splits=other).prepare()
    data["tasks"]["copy"]["test"]["items"][0] = data["tasks"]["copy"]["search"]["items"][0]  # as if rows had moved
    with pytest.raises(ConfigError, match="'copy': the documents of the test items are not those that"):
        harness(tasks, *specs, recorded_splits=data).prepare()
    with pytest.raises(ConfigError, match="its test items were drawn from 'choice_other', but now 'choice' is named"):
        harness(tasks, specs[0], TaskSpec("choice", "acc"), recorded_splits=first.split_data()).prepare()


def test_filter_and_direction_are_filled_in_and_an_explicit_direction_wins(tasks: Path) -> None:
    made = harness(
        tasks,
        TaskSpec("copy", "exact_match"),
        TaskSpec("choice", "brier_score"),
        TaskSpec("choice_shots", "acc", direction="minimize"),
    )
    assert [(spec.filter, spec.direction) for spec in made.specs] == [
        ("none", "maximize"), ("none", "minimize"), ("none", "minimize"),
    ]  # fmt: skip


def test_the_global_random_state_and_the_tokenizer_are_left_alone(tiny: Tiny, tasks: Path) -> None:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    made = harness(tasks, TaskSpec("choice_shots", "acc"), TaskSpec("copy", "exact_match"))
    made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    assert random.getstate() == before[0]
    assert np.array_equal(np.random.get_state()[1], before[1][1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    assert tiny.tokenizer.pad_token is None
    assert not tiny.model._forward_hooks
    assert not tiny.model._forward_pre_hooks


@pytest.mark.parametrize("generator", ["random", "OWN"])
def test_documents_that_a_task_shuffles_are_the_same_in_every_split(tiny: Tiny, tmp_path: Path, generator: str) -> None:
    write_task(tmp_path, "shuffled", {"test": [{"question": f"{i} :", "answer": "x"} for i in range(20)]}, **GENERATION)
    (tmp_path / "shuffling_utils.py").write_text(
        "import random\nOWN = random.Random(0)\n\ndef process(docs):\n    order = list(range(len(docs)))\n"
        f"    {generator}.shuffle(order)\n    return docs.select(order)\n"
    )
    with (tmp_path / "shuffled.yaml").open("a") as file:
        file.write("process_docs: !function shuffling_utils.process\n")
    seen = []
    for warm_up in (0, 3):
        for _ in range(warm_up):
            random.random()
        made = harness(tmp_path, TaskSpec("shuffled", "exact_match"))
        prompts = {}
        for split in Split:
            made.score(tiny.model, tiny.tokenizer, split)
            requests = made._requests[split, None]["shuffled"]
            prompts.update({item: g[0].args[0] for item, g in zip(requests.items, requests.instances, strict=True)})
        assert sorted(prompts.values()) == sorted(f"{i} :" for i in range(20))
        seen.append(prompts)
    # A generator of the task's own goes on from harness to harness in one process; the global one is seeded for it.
    assert generator == "OWN" or seen[0] == seen[1]


def test_nothing_is_written_to_the_terminal(tiny: Tiny, tasks: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        made = harness(tasks, TaskSpec("choice_shots", "acc"), TaskSpec("copy", "exact_match"))
        made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    assert (out.getvalue(), err.getvalue()) == ("", "")


@pytest.mark.parametrize("task", ["copy", "choice"])
@pytest.mark.parametrize(("bad", "where"), [(math.nan, "model.layers.1.mlp.down_proj"), (math.inf, "lm_head")])
def test_weights_that_are_not_finite_fail_the_candidate_with_the_reason(
    tiny: Tiny, tasks: Path, task: str, bad: float, where: str
) -> None:
    metric = "exact_match" if task == "copy" else "acc"
    made = harness(tasks, TaskSpec(task, metric))
    broken = copy.deepcopy(tiny.model)
    with torch.no_grad():
        broken.get_submodule(where).weight[3, 5] = bad
    with pytest.raises(EvaluationError, match=f"task '{task}': the model's logits are not finite"):
        made.score(broken, tiny.tokenizer, Split.SEARCH)
    assert made.score(tiny.model, tiny.tokenizer, Split.SEARCH)  # the next candidate is not affected
    assert not broken._forward_hooks


def test_a_failing_generation_names_the_task_and_the_cause(tiny: Tiny, tmp_path: Path) -> None:
    settings = {**GENERATION, "generation_kwargs": {"until": ["\n"], "max_gen_toks": 5000}}
    write_task(tmp_path, "long", {"test": [{"question": "red :", "answer": "x"}] * 4}, **settings)
    made = harness(tmp_path, TaskSpec("long", "exact_match"), sizes=ALL)
    with pytest.raises(EvaluationError, match=r"task 'long': generate_until failed: AssertionError.*5000"):
        made.score(tiny.model, tiny.tokenizer, Split.SEARCH)


def test_failing_task_code_names_the_item(tiny: Tiny, tmp_path: Path) -> None:
    write_task(tmp_path, "own", {"test": [{"question": "red :", "answer": "x"}] * 4}, **GENERATION)
    (tmp_path / "own_utils.py").write_text("def score(doc, results):\n    raise KeyError('gone')\n")
    with (tmp_path / "own.yaml").open("a") as file:
        file.write("process_results: !function own_utils.score\n")
    made = harness(tmp_path, TaskSpec("own", "exact_match"), sizes=ALL)
    with pytest.raises(EvaluationError, match="task 'own', item 0: scoring failed: KeyError: 'gone'"):
        made.score(tiny.model, tiny.tokenizer, Split.SEARCH)


def test_a_tasks_own_scoring_and_a_mean_under_another_name_are_accepted(tiny: Tiny, tmp_path: Path) -> None:
    config = {**GENERATION, "metric_list": []}
    write_task(tmp_path, "own", {"test": [{"question": f"{i} red :", "answer": "x"} for i in range(4)]}, **config)
    (tmp_path / "mean_utils.py").write_text(
        "def score(doc, results):\n    length = len(results[0]) if 'red' in doc['question'] else -1\n"
        "    doc['question'] = 'changed'\n"
        "    return {'length': length, 'note': 'x'}\n"
        "def average(values):\n    return sum(values) / len(values)\n"
    )
    text = (tmp_path / "own.yaml").read_text().replace("metric_list: []\n", "")
    (tmp_path / "own.yaml").write_text(
        text + "process_results: !function mean_utils.score\n"
        "metric_list: [{metric: length, aggregation: !function mean_utils.average, higher_is_better: false}]\n"
    )
    made = harness(tmp_path, TaskSpec("own", "length"), sizes=ALL)
    assert made.specs[0].direction == "minimize"
    expected = tuple(ItemScore("own", i, {"length": float(len(continuation(tiny, f"{i} red :")))}) for i in range(4))
    assert made.score(tiny.model, tiny.tokenizer, Split.SEARCH) == expected
    assert made.score(tiny.model, tiny.tokenizer, Split.SEARCH) == expected


def test_a_tasks_own_aggregation_that_is_no_mean_is_refused_when_loaded(tmp_path: Path) -> None:
    write_task(tmp_path, "own", {"test": [{"question": "red :", "answer": "x"}] * 4}, **GENERATION)
    (tmp_path / "max_utils.py").write_text("def best(values):\n    return max(values)\n")
    text = (tmp_path / "own.yaml").read_text().replace("aggregation: mean", "aggregation: !function max_utils.best")
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match="'exact_match': it is aggregated by its own function 'best'"):
        harness(tmp_path, TaskSpec("own", "exact_match"), sizes=ALL).prepare()


def test_a_running_candidate_stops_at_the_next_forward_pass(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("copy", "exact_match"))
    passes = []
    counter = tiny.model.register_forward_hook(lambda *_: passes.append(1))
    try:
        with pytest.raises(Interrupted, match="stopped while a candidate was being scored"):
            made.score(tiny.model, tiny.tokenizer, Split.SEARCH, should_stop=lambda: len(passes) >= 3)
        assert len(passes) == 3
        with pytest.raises(Interrupted):
            made.score(tiny.model, tiny.tokenizer, Split.SEARCH, should_stop=lambda: True)
        assert len(passes) == 3
    finally:
        counter.remove()
    assert made.score(tiny.model, tiny.tokenizer, Split.SEARCH)


def test_ctrl_c_passes_through(tiny: Tiny, tasks: Path) -> None:
    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harness(tasks, TaskSpec("copy", "exact_match"), should_stop=interrupt).score(
            tiny.model, tiny.tokenizer, Split.SEARCH
        )


def test_a_dataset_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    write_task(tmp_path, "hub", {"test": [{"question": "q", "answer": "x"}]}, **GENERATION)
    text = (tmp_path / "hub.yaml").read_text().replace("dataset_path: json", "dataset_path: nobody/nothing-at-all")
    (tmp_path / "hub.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"task 'hub': its dataset could not be loaded: .*load it once while online"):
        harness(tmp_path, TaskSpec("hub", "exact_match")).prepare()
    write_task(tmp_path, "lost", {"test": [{"question": "q", "answer": "x"}]}, **GENERATION)
    (tmp_path / "lost.test.jsonl").unlink()
    with pytest.raises(ConfigError, match="task 'lost': a file of its dataset is missing"):
        harness(tmp_path, TaskSpec("lost", "exact_match")).prepare()


def test_every_mistake_is_told_before_a_dataset_is_opened(tmp_path: Path) -> None:
    write_task(tmp_path, "t", {"test": [{"question": "q", "answer": "x"}]}, **GENERATION)
    (tmp_path / "t.test.jsonl").unlink()
    with pytest.raises(ConfigError, match="2 mistakes") as caught:
        LmHarness([TaskSpec("t", "nope")], sizes=SIZES, include_path=[tmp_path], batch_size=0)
    assert "unknown metric of task 't': 'nope'" in caught.value.problems[0]
    assert "batch_size must be a whole number of at least 1, but came 0" in caught.value.problems[1]


def test_too_few_documents_are_told_for_all_tasks_at_once(tasks: Path) -> None:
    made = harness(
        tasks,
        TaskSpec("copy", "exact_match"),
        TaskSpec("choice", "acc"),
        sizes=SplitSizes(search=50, validation=0.2, test=1),
    )
    with pytest.raises(ConfigError, match="2 mistakes") as caught:
        made.prepare()
    assert "'copy' has 24 items, but search=50" in caught.value.problems[0]


def test_prompts_can_go_through_the_chat_template(tiny: Tiny, tasks: Path) -> None:
    made = harness(tasks, TaskSpec("choice_shots", "acc"), chat=Chat(True))
    with pytest.raises(ConfigError, match="the tokenizer has no chat template"):
        made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    chatty = copy.deepcopy(tiny.tokenizer)
    chatty.chat_template = "{% for m in messages %}[{{m.role}}] {{m.content}}\n{% endfor %}[assistant] "
    scores = made.score(tiny.model, chatty, Split.SEARCH)
    expected = reference(
        Tiny(tiny.model, chatty), tasks, made.split_items(Split.SEARCH), apply_chat_template=True
    )["choice_shots"]  # fmt: skip
    (requests,) = made._requests.values()
    for score, group in zip(scores, requests["choice_shots"].instances, strict=True):
        theirs = expected[score.item, "none"]
        assert [instance.args for instance in group] == [tuple(a) for a in theirs["arguments"]]
        assert score.metrics["acc"] == theirs["acc"]
        assert group[0].args[0].count("[user]") == 3


def test_a_cut_off_prompt_is_said_once(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet_module._HANDLER, "_said", set())  # other tests of this process may have said it
    long = {"question": "red blue " * 100 + ":", "choices": ["cat", "dog"], "gold": 0}
    write_task(tmp_path, "long", {"test": [long] * 4}, **CHOICE)
    made = harness(tmp_path, TaskSpec("long", "acc"), sizes=ALL, max_length=64)
    for _ in range(2):
        made.score(tiny.model, tiny.tokenizer, Split.SEARCH)
    assert len([r for r in caplog.records if "exceeds model's maximum length" in r.getMessage()]) == 1
