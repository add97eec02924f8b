"""The commands as a user types them, in this process; `tests/end_to_end` runs them as processes."""

import json
import runpy
from pathlib import Path

import pytest

from evomerge import api
from evomerge.cli.main import COMMANDS, main
from evomerge.recipe import ModelSource, Parent, Recipe


def test_without_a_command_the_commands_are_listed(capsys) -> None:
    assert main([]) == 2
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert main(["--help"]) == 0


def test_an_unknown_command_names_the_nearest(capsys) -> None:
    assert main(["serach"]) == 2
    assert "did you mean 'search'" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "search"])
def test_each_command_explains_itself(name: str, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"evomerge {name}" in capsys.readouterr().out


def test_status_prints_stable_keys(zoo_run: Path, capsys) -> None:
    assert main(["status", str(zoo_run), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["state"] == "complete"
    assert (status["candidates"], status["items"]) == (5, 30)
    assert [baseline["name"] for baseline in status["baselines"]] == ["math", "japanese", "average"]
    assert set(status["best"]) >= {"id", "recipe_hash", "validation", "test"}
    for score in (status["best"]["test"], status["baselines"][0]["validation"]):
        assert set(score) == {"mean", "low", "high", "n"}
        assert score["n"] == 6
        assert 0 <= score["low"] <= score["mean"] <= score["high"] <= 1
    assert set(status["best"]["adjusted"]) == {"mean", "low", "high"}
    assert [one["against"] for one in status["comparisons"]] == ["math", "japanese", "average"]
    for one in status["comparisons"]:
        assert set(one) == {"against", "difference", "low", "high", "p_value", "n", "share", "worst"}
        assert one["low"] <= one["difference"] <= one["high"] and 0 < one["p_value"] <= 1 and one["n"] == 6
    assert [set(one) for one in status["finalists"]] == [{"id", "difference", "low", "high", "p_value", "n"}]
    assert status["best_parent"] in ("math", "japanese")
    assert status["public_tasks"] == []


def test_every_key_of_status_is_documented(zoo_run: Path, capsys) -> None:
    assert main(["status", str(zoo_run), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    commands = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    section = commands.partition("## `status --json`")[2].partition("\n## ")[0]
    assert [key for key in (*status, *status["best"]) if f"`{key}`" not in section] == []


def test_status_for_people_names_state_budget_and_best(zoo_run: Path, capsys) -> None:
    assert main(["status", str(zoo_run)]) == 0
    out = capsys.readouterr().out
    assert "complete" in out and "5 candidates" in out and "best merge" in out
    assert "gain on the same 6 test items" in out and ", the best parent, p = " in out
    assert "the luck of the best of 2" in out
    assert "within the noise" in out  # six items


def test_records_prints_one_line_per_candidate_in_order(zoo_run: Path, capsys) -> None:
    assert main(["records", str(zoo_run)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [0, 1, 2, 3, 4]
    for line in lines:
        assert set(line) >= {"id", "state", "recipe_hash", "genome", "scores"}
        assert line["state"] == "complete"
    assert main(["records", str(zoo_run), "--baselines"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_space_lists_every_gene_with_range_and_start(capsys) -> None:
    assert main(["space", "experiment=zoo_ja_math", "--json"]) == 0
    genes = json.loads(capsys.readouterr().out)
    assert all(gene["low"] <= gene["start"] <= gene["high"] for gene in genes)
    assert {gene["name"].split(".")[1] for gene in genes} >= {"math", "japanese"}
    assert main(["space", "zoo_ja_math", "space.blocks=1", "name=mine"]) == 0
    assert "mine: " in (out := capsys.readouterr().out) and "genes" in out and "search: " not in out
    assert main(["space", "zoo_ps_then_dfs", "name=both"]) == 0
    assert out.count("both, stage ") == 0 and capsys.readouterr().out.count("both, stage ") == 2


def test_genes_that_are_words_have_no_range(capsys) -> None:
    assert main(["space", "zoo_ja_math", "method.name=pipeline", "space.genes={}", "space.blocks=1"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "consensus.layers" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")][1:5] == ["", "", "none", "one of none, sum, count"]


def test_methods_lists_parameters(capsys) -> None:
    assert main(["methods", "--json"]) == 0
    methods = {method["name"]: method for method in json.loads(capsys.readouterr().out)}
    assert set(methods) >= {"linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties"}
    assert {one["kind"] for one in methods["ties"]["parameters"]} == {"float", "choice", "flag"}
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    assert "density" in out and all(name in out for name in methods)


def test_every_method_explains_itself() -> None:
    for method in api.methods():
        assert all(method[key] for key in ("summary", "formula", "notes", "paper", "topic")), method["name"]
        assert all(one["doc"] for one in method["parameters"]), method["name"]
        assert bool(method["base_with"]) == (method["base"] == "sometimes"), method["name"]


def test_one_method_is_explained(capsys, tmp_path: Path, monkeypatch) -> None:
    assert main(["methods", "ties"]) == 0
    out = capsys.readouterr().out
    assert all(
        said in out for said in ("ties: ", "arxiv.org/abs/2306.01708", "θ0 + λ", "sum, count", "parent and group")
    )
    assert main(["methods", "knots"]) == 0
    assert "counts where combine is ties" in capsys.readouterr().out
    assert main(["methods", "nuslerp"]) == 0
    assert "base     with of: task_vectors" in capsys.readouterr().out
    assert main(["methods", "tis"]) == 2
    assert "did you mean 'ties'" in capsys.readouterr().err
    assert main(["methods", "ties", "--json"]) == 0
    (found,) = [one for one in api.methods() if one["name"] == "ties"]
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found))
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom evomerge.merge.methods.linear import METHOD as LINEAR\n"
        "METHOD = replace(LINEAR, spec=replace(LINEAR.spec, topic='my own', summary='mine'))\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["methods", "mine.py:METHOD"]) == 0
    out = capsys.readouterr().out
    assert "mine.py:METHOD: mine" in out and "topic    others" in out


def test_the_reference_of_all_methods_is_up_to_date() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "methods_reference.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run: python scripts/methods_reference.py"


def test_merge_builds_what_a_recipe_says(tmp_path: Path, capsys) -> None:
    from transformers import AutoModelForCausalLM

    parents = tuple(Parent(name, ModelSource(f"zoo:{name}")) for name in ("math", "japanese"))
    (tmp_path / "r.yaml").write_text(Recipe("linear", parents).to_yaml())
    assert main(["merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")]) == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    one, two = (AutoModelForCausalLM.from_pretrained(_zoo(name)).state_dict() for name in ("math", "japanese"))
    name = "model.layers.0.mlp.up_proj.weight"
    expected = ((one[name].float() + two[name].float()) / 2).to(merged[name].dtype)
    assert (merged[name] == expected).all()
    assert main(["merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")]) == 2
    assert "already holds something" in capsys.readouterr().err


def test_evaluate_prints_what_can_be_measured_besides_the_tasks_own_metrics(capsys) -> None:
    arguments = ["--task", "zoo_ja_math", "--task", "zoo_ja_reading", "--include-path", "zoo:tasks", "--limit", "4"]
    assert main(["evaluate", "zoo:japanese", *arguments, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    shares = {"cut_answers", "empty_answers", "repetitive_answers", "cut_prompts"}
    assert set(scores["zoo_ja_math"]) == {"acc", "right_number", "japanese", "generated_tokens", *shares}
    assert set(scores["zoo_ja_reading"]) == {"acc", "entropy", "cut_prompts"}  # and not the answers as numbers
    assert main(["evaluate", "zoo:japanese", *arguments]) == 0
    lines = {line.split("│")[2].strip(): line for line in capsys.readouterr().out.splitlines() if line.count("│") > 3}
    assert "%" in lines["acc"] and "%" not in lines["generated_tokens"] + lines["entropy"]
    assert "%" in lines["cut_answers"]


def test_evaluate_scores_a_model_and_a_run(zoo_run: Path, capsys) -> None:
    arguments = ["--task", "zoo_ja_math", "--include-path", "zoo:tasks", "--limit", "4", "--json"]
    assert main(["evaluate", "zoo:math", *arguments]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["zoo_ja_math"]["acc"]["n"] == 4
    assert main(["evaluate", str(zoo_run), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["zoo_ja_math"]["acc"]
    assert main(["status", str(zoo_run), "--json"]) == 0
    test = json.loads(capsys.readouterr().out)["best"]["test"]
    assert {key: again[key] for key in test} == test and again.keys() - test == {"baselines", "against_best_parent"}


def test_zoo_lists_models_and_tasks(capsys) -> None:
    assert main(["zoo"]) == 0
    out = capsys.readouterr().out
    assert "zoo:math" in out and "zoo_ja_math_test" in out


def test_export_writes_the_candidate_that_is_named(zoo_run: Path, tmp_path: Path, capsys) -> None:
    assert main(["export", str(zoo_run), "--candidate", "1", "--out", str(tmp_path / "one"), "--no-verify"]) == 0
    expected = api.records(zoo_run)[1].recipe.content_hash
    assert Recipe.load(tmp_path / "one" / "recipe.yaml").content_hash == expected
    assert main(["export", str(zoo_run), "--candidate", "99", "--out", str(tmp_path / "none")]) == 2
    assert "has no candidate 99" in capsys.readouterr().err


def test_export_and_a_dry_push(zoo_run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert main(["export", str(zoo_run), "--out", str(tmp_path / "merge")]) == 0
    assert {path.name for path in (tmp_path / "merge").iterdir()} >= {"README.md", "recipe.yaml", "config.json"}
    for folder in (zoo_run, tmp_path / "merge"):
        assert main(["push", str(folder), "org/name", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("model.safetensors") == 2
    assert "private" in captured.out
    assert "hf_secret" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "nowhere"], "there is no folder nowhere"),
        (["records", "nowhere"], "there is no folder nowhere"),
        (["resume", "nowhere"], "there is no folder nowhere"),
        (["export", "nowhere", "--out", "x"], "there is no folder nowhere"),
        (["merge", "none.yaml", "x"], "cannot read the recipe none.yaml"),
        (["evaluate", "zoo:math"], "name at least one task"),
        (["evaluate", "zoo:mth", "--task", "zoo_ja_math"], "zoo"),
        (["evaluate", "zoo:math", "--task", "zoo_ja_mth", "--include-path", "zoo:tasks"], "did you mean 'zoo_ja_math'"),
        (["space", "zoo_ja_math", "method.name=tie"], "did you mean 'ties'"),
        (["space", "zoo_ja_math", "models.parents.math=zoo:mth"], "mth"),
        (["space", "zoo_ja_math", "+space.genes.wieght.low=0"], "did you mean 'weight'"),
    ],
)
def test_bad_input_ends_with_2_and_says_what_to_do(
    words: list[str], message: str, capsys, monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("word", ["budget.seats=3", "budget.candidates=many"])
def test_resume_takes_only_a_budget(word: str, zoo_run: Path, capsys) -> None:
    assert main(["resume", str(zoo_run), word]) == 2
    assert "budget" in capsys.readouterr().err


def _zoo(name: str) -> Path:
    from evomerge.zoo import zoo_path

    return zoo_path(name)
