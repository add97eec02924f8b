"""Parents are scored as their own folders would be; the merge has the settings of whom the configuration names."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from table_models import CHAT, by_lm_eval, ids, random, table, task

from evomerge import api
from evomerge.errors import ConfigError
from evomerge.recipe import Recipe

GENERATES: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{q}}",
    "doc_to_target": "{{a}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
CHOOSES: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
N = 12
ASK, ONE, X = ids("?1X")
END = 5
"""The id of <|im_end|>."""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    task(folder, "says", [{"q": f"{'a' * (i % 5)}?", "a": "1"} for i in range(N)], **GENERATES)
    rows = [{"q": f"is {i} odd?", "choices": ["1", "2"], "label": i % 2} for i in range(N)]
    task(folder, "choice", rows, **CHOOSES)
    task(folder, "long", [{**row, "q": f"{i * 7} and some more words?"} for i, row in enumerate(rows)], **CHOOSES)
    return task(folder, "told", rows, **CHOOSES, description="Answer.")


def search(models: dict[str, Any], name: str, tasks: Path, run_dir: Path, **evaluation: Any) -> Any:
    said: list[str] = []
    metric = "exact_match" if name == "says" else "acc"
    config = {
        "models": {key: str(one) if isinstance(one, Path) else one for key, one in models.items()},
        "method": "task_arithmetic",
        "space": {"blocks": 1, "embeddings": "block", "genes": {"weight": {"low": 0.0, "high": 1.5, "start": 0.5}}},
        "budget": {"candidates": 2},
        "evaluation": {
            "tasks": [{"name": name, "metric": metric}],
            "include_path": [str(tasks)],
            "split": {"search": 6, "validation": 3, "test": 3},
            "finalists": 1,
            **evaluation,
        },
        "execution": {"threads": 1},
    }
    run = api.search(config, run_dir=run_dir, note=said.append)
    means = {record.name: record.fitness for record in run.records(baselines=True)}
    return SimpleNamespace(
        run=run, said=said, means=means, recipes={r.name: r.recipe for r in run.records(baselines=True)}
    )


def named(**parents: Path) -> dict[str, str]:
    return {name: str(folder) for name, folder in parents.items()}


SETTINGS = {
    "another end token": ({ASK: ONE, ONE: END, END: X, X: X}, {"eos_token_id": [1, END]}),
    "a repetition penalty": ({ASK: ONE, ONE: {ONE: 12.0, 1: 10.0}}, {"repetition_penalty": 2.0, "eos_token_id": 1}),
    "a suppressed token": ({ASK: {X: 12.0, ONE: 11.0}, ONE: 1}, {"suppress_tokens": [X], "eos_token_id": 1}),
    "no answer that ends at once": ({ASK: {1: 12.0, ONE: 11.0}, ONE: 1}, {"min_new_tokens": 1, "eos_token_id": 1}),
    "an end token that config.json names": ({ASK: ONE, ONE: END, END: X, X: X}, None),
}


def test_each_parent_is_scored_with_its_own_generation_config(tasks: Path, tmp_path: Path) -> None:
    base = table(tmp_path / "base", {ASK: X, X: X}, generation={"eos_token_id": 1})
    parents = {}
    for name, (follows, generation) in SETTINGS.items():
        more = {"eos_token_id": [1, END]} if generation is None else {}
        parents[name] = table(tmp_path / name, follows, generation=generation, **more)
    right = {name: by_lm_eval(folder, "says", tasks) for name, folder in parents.items()}
    assert set(right.values()) == {1.0}, "the settings make the difference"
    found = search({"base": base, "parents": named(**parents)}, "says", tasks, tmp_path / "run")
    assert {name: found.means[name] for name in parents} == right
    assert any(line.startswith("warning: generation_config: ") and "takes the base's" in line for line in found.said)
    assert not any("config: max_position" in line for line in found.said)


def test_a_smaller_context_and_a_beginning_of_text_count_for_their_parent_alone(tasks: Path, tmp_path: Path) -> None:
    base, long = random(tmp_path / "base", 0), random(tmp_path / "long", 5)
    short = random(tmp_path / "short", 5, max_position_embeddings=8)
    right = by_lm_eval(short, "long", tasks)
    assert right != by_lm_eval(long, "long", tasks), "the context length makes the difference"
    begins = random(tmp_path / "begins", 5, add_bos=True)
    begun = by_lm_eval(begins, "long", tasks)
    assert begun != by_lm_eval(long, "long", tasks), "the beginning of each text makes the difference"
    models = {"base": base, "parents": named(short=short, other=base, begins=begins)}
    found = search(models, "long", tasks, tmp_path / "run", split={"search": N, "validation": 0, "test": 0})
    assert found.means["short"] == right and found.means["begins"] == begun
    line = "config: max_position_embeddings is 256 in other, begins and base, 8 in short; the merge takes the base's"
    assert any(line in said for said in found.said), found.said
    assert any("tokenizer: beginning of each text is not set in short, other and base" in one for one in found.said)


def test_the_merge_and_the_exported_folder_have_the_settings_of_the_named_model(tasks: Path, tmp_path: Path) -> None:
    follows = {ASK: ONE, ONE: END, END: X, X: X}
    base = table(tmp_path / "base", {ASK: X, X: X}, generation={"eos_token_id": 1})
    chat = table(tmp_path / "chat", follows, generation={"eos_token_id": [1, END]}, template=CHAT)
    models = {"base": base, "parents": named(chat=chat, other=base), "tokenizer": "chat"}
    found = search(models, "says", tasks, tmp_path / "run")
    told = [line.removeprefix("warning: ") for line in found.said]
    values = f"[1, {END}] in chat, 1 in other and base"
    assert f"generation_config: eos_token_id is {values}; the merge takes chat's (models.tokenizer)" in told
    assert any(
        line.startswith("tokenizer: chat_template is one of") and "not set in other and base" in line for line in told
    )
    assert {found.recipes[name].tokenizer for name in ("average", "candidate 0")} == {"chat"}
    api.export(found.run.path, tmp_path / "out", verify=True)
    recipe = found.run.best()
    assert api.verify(recipe, tmp_path / "out", n_random=1, new_tokens=1).passed
    own = api.evaluate(str(tmp_path / "out"), tasks=["says"], include_path=[str(tasks)])["says"]["exact_match"].mean
    again = api.evaluate(found.run.best(), tasks=["says"], include_path=[str(tasks)])["says"]["exact_match"].mean
    assert own == again == by_lm_eval(tmp_path / "out", "says", tasks) == 1.0
    assert json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"] == [1, END]


FAILING = {
    "says nothing": (None, "there is no chat template in the tokenizer of bad: give each"),
    "is broken": (
        "{{ messages[9].content.upper() }}",
        "the chat template of bad cannot write the prompts of task 'told'",
    ),
    "raises": ("{{ raise_exception('no chats') }}", "chat template of bad cannot write .*TemplateError: no chats"),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_chat_template_that_fails_is_found_before_the_search(kind: str, tasks: Path, tmp_path: Path) -> None:
    template, message = FAILING[kind]
    base = table(tmp_path / "base", {})
    good, bad = table(tmp_path / "good", {}, template=CHAT), table(tmp_path / "bad", {}, template=template)
    models = {"base": base, "parents": named(good=good, bad=bad), "tokenizer": "good"}
    with pytest.raises(ConfigError, match=message):
        search(models, "told", tasks, tmp_path / "run", apply_chat_template=True)
    assert not (tmp_path / "run").exists()


def in_config(folder: Path) -> None:
    """Move a chat template to where releases before 2025 kept it."""
    said = json.loads((folder / "tokenizer_config.json").read_text())
    said["chat_template"] = (folder / "chat_template.jinja").read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    (folder / "chat_template.jinja").unlink()


NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT


def test_templates_by_name_special_tokens_and_refused_system_messages(tasks: Path, tmp_path: Path) -> None:
    """A base without a template stops nothing; equal templates with other special tokens write other prompts."""
    base = table(tmp_path / "base", {})
    starts = "{{ bos_token }}" + CHAT
    two = table(tmp_path / "two", {}, template={"default": starts, "tool_use": "{{ nothing.at.all }}"})
    other = table(tmp_path / "other", {ids("d")[0]: {ONE: 3.0}}, template=starts, tokens={"bos_token": "<|im_end|>"})
    plain = table(tmp_path / "plain", {}, template=NO_SYSTEM)
    in_config(plain)
    models = {"base": base, "parents": named(two=two, other=other, plain=plain), "tokenizer": "two"}
    found = search(models, "told", tasks, tmp_path / "run", apply_chat_template=True)
    assert set(found.means) == {"two", "other", "plain", "average", "candidate 0", "candidate 1"}
    told = " ".join(found.said)
    assert (
        "the chat template of plain takes no system message: the description of task 'told' is left out there" in told
    )
    assert "tokenizer: bos_token is '<s>' in two, plain and base, '<|im_end|>' in other; the merge takes two's" in told
    with pytest.raises(
        ConfigError, match=r"tokenizer that the merge gets \(models.tokenizer: null\) .* two, other, plain"
    ):
        search({**models, "tokenizer": None}, "told", tasks, tmp_path / "again", apply_chat_template=True)


def test_a_generation_config_that_transformers_refuses_names_its_model(tasks: Path, tmp_path: Path) -> None:
    base = table(tmp_path / "base", {}, generation={"eos_token_id": 1})
    bad = table(tmp_path / "bad", {}, generation={"repetition_penalty": -1.0})
    beyond = table(tmp_path / "beyond", {}, generation={"sequence_bias": [[[262], 1.0]]})
    models = {"base": base, "parents": named(bad=bad, beyond=beyond)}
    with pytest.raises(ConfigError) as caught:
        search(models, "says", tasks, tmp_path / "run")
    first, second = caught.value.problems
    assert "generation config of bad: `penalty` has to be a strictly positive float" in first
    assert "generation config of beyond: ValueError" in second
    assert not (tmp_path / "run").exists()
    search(models, "choice", tasks, tmp_path / "chosen")  # where nothing is generated it does not matter
    (bad / "generation_config.json").write_text("[")
    with pytest.raises(ConfigError, match=r"cannot read the generation settings in .*bad/generation_config.json"):
        search(models, "choice", tasks, tmp_path / "run")


def test_verify_sees_settings_that_are_not_those_of_the_recipe(tmp_path: Path) -> None:
    base = table(tmp_path / "base", {}, generation={"eos_token_id": 1})
    chat = table(tmp_path / "chat", {}, generation={"eos_token_id": [1, END]}, template=CHAT)
    recipe = Recipe.from_data({"method": "linear", "parents": named(base=base, chat=chat), "tokenizer": "chat"})
    out = api.merge(recipe, tmp_path / "out")
    assert api.verify(recipe, out, n_random=1, new_tokens=1).passed
    (out / "generation_config.json").write_text('{"eos_token_id": 1}')
    (out / "chat_template.jinja").write_text("{{ messages }}")
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    found = api.verify(recipe, out, n_random=1, new_tokens=1)
    assert not found.passed
    told = " ".join(found.problems)
    for part in (f"its eos_token_id is 1 instead of [1, {END}]", "its chat_template is '{{ messages }}' instead of",
                 "its max_position_embeddings is 64 instead of 256"):  # fmt: skip
        assert part in told


def test_a_parent_called_the_merge_is_checked_like_any_other(tasks: Path, tmp_path: Path) -> None:
    base, other = random(tmp_path / "base", 0), random(tmp_path / "other", 1, template=CHAT)
    models = {"base": base, "parents": {"the merge": str(random(tmp_path / "bare", 2)), "b": str(other)}}
    with pytest.raises(ConfigError, match="no chat template in the tokenizer of the parent 'the merge'"):
        search({**models, "tokenizer": "b"}, "choice", tasks, tmp_path / "run", apply_chat_template=True)
    (tmp_path / "bare/generation_config.json").write_text('{"eos_token_id": 1, "dola_layers": "high"}')
    with pytest.raises(ConfigError, match="the generation config of the parent 'the merge': dola_generation"):
        search(models, "says", tasks, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_average_takes_no_parent_s_place(tasks: Path, tmp_path: Path) -> None:
    base = random(tmp_path / "base", 0)
    parents = {"average": str(random(tmp_path / "a", 1)), "plain average": str(random(tmp_path / "b", 2))}
    found = search({"base": base, "parents": parents}, "choice", tasks, tmp_path / "run")
    assert {"average", "plain average", "plain plain average"} <= set(found.means)


@pytest.mark.parametrize("name", ["consensus", "candidate 0", "best merge", "base"])
def test_a_name_that_a_run_gives_itself_is_no_parent_s(name: str, tasks: Path, tmp_path: Path) -> None:
    base = random(tmp_path / "base", 0)
    with pytest.raises(ConfigError, match=f"no parent may be called '{name}'"):
        search({"base": base, "parents": {name: str(base)}}, "choice", tasks, tmp_path / "run")


def test_a_rope_in_another_spelling_is_not_told_of(tasks: Path, tmp_path: Path) -> None:
    base = random(tmp_path / "base", 0)
    ropes: dict[str, dict[str, Any]] = {
        "linear": {"rope_type": "linear", "factor": 1.0, "rope_theta": 10000.0},
        "llama": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 1.0, "low_freq_factor": 1.0}
        | {"high_freq_factor": 4.0, "original_max_position_embeddings": 256},
    }
    parents = {name: random(tmp_path / name, 1) for name in (*ropes, "short")}
    for name in ropes:
        written = json.loads((parents[name] / "config.json").read_text())
        (parents[name] / "config.json").write_text(json.dumps(written | {"rope_parameters": ropes[name]}))
    written = json.loads((parents["short"] / "config.json").read_text())
    written |= {"max_position_embeddings": 128, "hidden_act": "swish", "rms_norm_eps": 9.999999974752427e-07}
    (parents["short"] / "config.json").write_text(json.dumps(written))
    found = search({"base": base, "parents": named(**parents)}, "choice", tasks, tmp_path / "run")
    told = [line for line in found.said if "config: " in line]
    assert len(told) == 1 and "max_position_embeddings is 256 in linear, llama and base, 128 in short" in told[0], told
