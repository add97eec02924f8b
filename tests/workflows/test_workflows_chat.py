"""How models are asked, from the configuration to the scores of a run, and the same in `evaluate`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from table_models import CHAT, ids, table, task

from evomerge import api
from evomerge.errors import ConfigError
from evomerge.evaluation.quiet import lm_eval_randomness, quiet

N = 12
ASK, SHORT, ONE, BAR, A, B, LINE = ids("?n1|ab\u010a")
OPENS = "{% for m in messages %}{{ m.content }}{% endfor %}"
THINKS = OPENS + (
    "{% if add_generation_prompt %}{{ 'n' if enable_thinking is defined and not enable_thinking else '?' }}{% endif %}"
)
"""A model that is asked by it thinks (`ab|`) before it says 1, unless `enable_thinking` is false."""
SAYS = {ASK: A, A: B, B: BAR, BAR: ONE, ONE: LINE, SHORT: ONE}
GENERATES: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{q}}",
    "doc_to_target": "{{a}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and tasks: all say the same, but the second one has two templates more."""
    made = tmp_path_factory.mktemp("chat")
    rows = [{"q": f"{'a' * (i % 5)}?", "a": "1"} for i in range(N)]
    task(made / "tasks", "says", rows, **GENERATES)
    choices = [{**row, "choices": ["1", "2"], "label": 0} for row in rows]
    picks = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "label"}
    task(made / "tasks", "picks", choices, doc_to_text="{{q}}", metric_list=[{"metric": "acc"}], **picks)
    table(made / "base", {}, generation={"eos_token_id": 1})
    table(made / "one", SAYS, generation={"eos_token_id": 1}, template=THINKS)
    several = {"default": THINKS, "plain": CHAT, "tool_use": "{{ tools }}" + CHAT}
    table(made / "two", SAYS, generation={"eos_token_id": 1}, template=several)
    return made


def config(folder: Path, **evaluation: Any) -> dict[str, Any]:
    generation = evaluation.pop("generation", None)
    return {
        "models": {
            "base": str(folder / "base"),
            "parents": {"one": str(folder / "one"), "two": str(folder / "two")},
            "tokenizer": "one",
        },
        "method": "task_arithmetic",
        "space": {"blocks": 1, "embeddings": "block", "genes": {"weight": {"low": 0.0, "high": 1.5, "start": 0.5}}},
        "budget": {"candidates": 1},
        "evaluation": {
            "tasks": [{"name": "says", "metric": "exact_match", "generation": generation}],
            "include_path": [str(folder / "tasks")],
            "split": {"search": 6, "validation": 3, "test": 3},
            "finalists": 1,
            **evaluation,
        },
        "execution": {"threads": 1},
    }


def parents(folder: Path, run_dir: Path, **evaluation: Any) -> tuple[dict[str, float | None], list[str]]:
    said: list[str] = []
    run = api.search(config(folder, **evaluation), run_dir=run_dir, note=said.append)
    means = {record.name: record.fitness for record in run.records(baselines=True)}
    return {name: means[name] for name in ("one", "two")}, said


THOUGHT_AWAY = {"template": True, "think_end_token": "|"}
ASKED: dict[str, tuple[dict[str, Any], float]] = {
    "in plain text": ({}, 0.0),
    "by their templates": ({"chat": True}, 0.0),
    "without thinking": ({"chat": {"template": True, "arguments": {"enable_thinking": False}}}, 1.0),
    "with what is thought taken away": ({"chat": THOUGHT_AWAY}, 1.0),
    "with a token's id for that": ({"apply_chat_template": True, "chat": {"think_end_token": str(BAR)}}, 1.0),
    "with too few tokens": ({"chat": THOUGHT_AWAY, "generation": {"max_gen_toks": 3}}, 0.0),
    "with another stop": ({"chat": THOUGHT_AWAY, "generation": {"until": ["b"]}}, 0.0),
}


@pytest.mark.parametrize("how", ASKED)
def test_the_scores_of_a_search_follow_how_its_models_are_asked(how: str, folder: Path, tmp_path: Path) -> None:
    evaluation, right = ASKED[how]
    means, _ = parents(folder, tmp_path / "run", **copy.deepcopy(evaluation))
    assert means == {"one": right, "two": right}
    assert api.evaluate(tmp_path / "run")["says"]["exact_match"].mean == right, "as in the run"


def test_evaluate_takes_the_runs_own_settings_unless_it_is_told_otherwise(folder: Path, tmp_path: Path) -> None:
    chat = {"template": True, "think_end_token": "|"}
    run_dir = tmp_path / "run"
    parents(folder, run_dir, chat=chat, generation={"max_gen_toks": 8})

    def score(**asked: Any) -> float:
        return api.evaluate(run_dir, **asked)["says"]["exact_match"].mean

    assert score() == 1.0
    assert score(think_end_token="b") == 0.0  # "|1"
    assert score(apply_chat_template=False) == 1.0  # the questions end in ?, too
    assert score(gen_kwargs={"max_gen_toks": 3}) == 0.0
    assert score(chat_template_args={"enable_thinking": False}) == 1.0
    tasks = {"tasks": ["says", "picks"], "include_path": [str(folder / "tasks")]}
    found = api.evaluate(run_dir, **tasks)  # all items of a task of the run, and of another one
    assert found["says"]["exact_match"].mean == 1.0 and found["says"]["exact_match"].n == N
    assert set(found) == {"says", "picks"}
    with pytest.raises(ConfigError, match=r"the tokenizer of .*run has no chat template 'plain'"):
        score(apply_chat_template="plain")


@pytest.mark.parametrize(
    "asked",
    [
        {"apply_chat_template": True, "think_end_token": "|"},
        {"apply_chat_template": True, "chat_template_args": {"enable_thinking": False}, "num_fewshot": 2},
        {"apply_chat_template": True, "num_fewshot": 1, "fewshot_as_multiturn": False, "system_instruction": "Be 1."},
        {"gen_kwargs": {"max_gen_toks": 2, "until": []}, "system_instruction": "Be 1."},
        {"apply_chat_template": True, "gen_kwargs": {"until": ["b"]}, "think_end_token": BAR},
    ],
    ids=str,
)
def test_evaluate_equals_lm_eval(asked: dict[str, Any], folder: Path) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    rest = copy.deepcopy(asked)
    of_model = {name: rest.pop(name) for name in ("think_end_token", "chat_template_args") if name in rest}
    with quiet(), lm_eval_randomness():
        lm = HFLM(pretrained=str(folder / "one"), dtype="float32", device="cpu", batch_size=1, **of_model)
        theirs = lm_eval.simple_evaluate(
            lm,
            tasks=["says", "picks"],
            task_manager=TaskManager(include_path=str(folder / "tasks"), include_defaults=False),
            bootstrap_iters=0,
            **{"fewshot_as_multiturn": True, **rest},
        )["results"]
    tasks = {"tasks": ["says", "picks"], "include_path": [str(folder / "tasks")]}
    found = api.evaluate(str(folder / "one"), **tasks, **asked, device="cpu")
    for name, metric in (("says", "exact_match"), ("picks", "acc")):
        assert found[name][metric].mean == pytest.approx(theirs[name][f"{metric},none"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"chat_template_args": {"a": 1}}, "`chat_template_args` are for a chat template"),
        ({"fewshot_as_multiturn": True}, "`fewshot_as_multiturn` is for a chat, but models are asked in plain text"),
        ({"gen_kwargs": {"do_sample": True}}, "`gen_kwargs` asks for sampled answers"),
        ({"gen_kwargs": {"max_new_tokens": 5}}, "call it max_gen_toks"),
        ({"num_fewshot": -1}, "`num_fewshot` must be a whole number of at least 0, but came -1"),
        ({"apply_chat_template": True, "chat_template_args": {"b": 1}}, "no chat template here reads the argument 'b'"),
        ({"apply_chat_template": True, "think_end_token": "<|im_end|>"}, "it is or holds a special token"),
        ({"gen_kwargs": {"max_gen_toks": 256}}, "asks for answers of up to 256 tokens .* leaves no room for a prompt"),
    ],
    ids=str,
)
def test_what_evaluate_cannot_follow_is_said_before_the_model_is_read(
    asked: dict[str, Any], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evomerge.workflows.evaluate.LiveModels", None)
    with pytest.raises(ConfigError, match=message):
        api.evaluate(str(folder / "one"), tasks=["says"], include_path=[str(folder / "tasks")], **asked)


def test_what_some_task_cannot_follow_is_left_out_for_it(folder: Path, tmp_path: Path) -> None:
    fixed = {**GENERATES, "num_fewshot": 0}
    task(tmp_path, "fixed", [{"q": "a?", "a": "1"}] * 4, **fixed)
    paths = [str(folder / "tasks"), str(tmp_path)]
    found = api.evaluate(
        str(folder / "one"),
        tasks=["fixed", "picks"],
        include_path=paths,
        num_fewshot=1,
        gen_kwargs={"max_gen_toks": 2},
        apply_chat_template=True,
    )
    assert found["fixed"]["generated_tokens"].mean == 2.0 and set(found) == {"fixed", "picks"}


SLIPS: dict[str, tuple[dict[str, Any], str]] = {
    "a template that a parent lacks": (
        {"template": "plain"},
        "there is no chat template 'plain' (but one without a name) in the tokenizer of one",
    ),
    "an argument that nobody reads": (
        {"template": True, "arguments": {"enable_thinkng": False}},
        "no chat template here reads the argument 'enable_thinkng'",
    ),
    "a special token as the end": (
        {"template": True, "think_end_token": "<|im_end|>"},
        "give the token's id instead, '5'",
    ),
    "an id beyond the tokens": (
        {"template": True, "think_end_token": "4000"},
        "answers of one, two, average, the merge cannot show anything: their tokens end",
    ),
}


@pytest.mark.parametrize("kind", SLIPS)
def test_slips_are_found_before_the_search(kind: str, folder: Path, tmp_path: Path) -> None:
    chat, message = SLIPS[kind]
    with pytest.raises(ConfigError) as caught:
        api.search(config(folder, chat=chat), run_dir=tmp_path / "run")
    assert any(message in problem for problem in caught.value.problems), caught.value.problems
    assert not (tmp_path / "run").exists()


def test_a_system_text_that_a_parent_cannot_be_told_is_refused(folder: Path, tmp_path: Path) -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + THINKS
    other = table(tmp_path / "other", SAYS, generation={"eos_token_id": 1}, template=refuses)
    made = config(folder, chat={"template": True, "system": "Be."})
    made["models"]["parents"]["two"] = str(other)
    with pytest.raises(ConfigError, match="chat template of two takes no system message, so the system text would be"):
        api.search(made, run_dir=tmp_path / "run")


def test_the_card_says_how_models_were_asked(folder: Path, tmp_path: Path) -> None:
    parents(folder, tmp_path / "run", chat=THOUGHT_AWAY)
    api.export(tmp_path / "run", tmp_path / "out", verify=False)
    (line,) = [one for one in (tmp_path / "out/README.md").read_text().splitlines() if "how models were asked" in one]
    assert "as a chat, by the chat template of each tokenizer; the answer is what follows the last" in line


def test_traps_are_told_before_the_search(folder: Path, tmp_path: Path) -> None:
    _, said = parents(folder, tmp_path / "run", chat={"template": True, "think_end_token": "|"})
    assert any(r"task 'says' ends an answer at '\n', as lm-eval does also where" in line for line in said), said


def test_all_models_on_all_items_are_asked_as_the_configuration_says(folder: Path) -> None:
    said: list[str] = []
    made = config(folder, chat={"template": True, "think_end_token": "|"}, generation={"max_gen_toks": 8})
    found = api.evaluate_full(made, parents=True, note=said.append)
    assert found.scores["one"][0].everything.mean == found.scores["two"][0].everything.mean == 1.0
    assert "warning: the base has no chat template, so it is left out" in said and "base" not in found.scores
