"""A run is continued only on what it stood on: what changed is named in full, and what concerns speed may change."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import ConfigError, ExportError, InputsChanged, RunError
from evomerge.system.yaml_text import read_yaml, write_yaml
from evomerge.zoo import zoo_path

N_DOCS = 60
SCORING = """
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
LIMITS = json.loads((HERE / "data" / "limits.json").read_text())


def share(doc, results):
    from answer_marks import RIGHT

    return {"share": RIGHT * float(results[0] == doc["a"])}
"""


class Place:
    """Models, a task and a search over them, in a folder; `run` has two candidates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        for name, model in (("base", "base"), ("a", "math"), ("b", "japanese")):
            shutil.copytree(zoo_path(model), folder / "m" / name)
        tasks = folder / "tasks"
        tasks.mkdir()
        rows = [{"q": f"{i} + {i % 7}", "c": [str(i), str(i % 7)], "a": str(i), "t": i % 2} for i in range(N_DOCS)]
        self.write_rows(rows)
        (tasks / "scoring.py").write_text(SCORING)
        (tasks / "answer_marks.py").write_text("RIGHT = 1.0\n")
        (tasks / "data").mkdir()
        (tasks / "data" / "limits.json").write_text("[3, 5]")
        shots = [{"q": f"{i} + 1", "a": str(i + 1)} for i in range(3)]
        (tasks / "shots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shots))
        data = {"test": str(tasks / "rows.jsonl")}
        common = {"dataset_path": "json", "dataset_kwargs": {"data_files": data}, "test_split": "test"}
        choice = {
            "task": "pick", **common, "output_type": "multiple_choice", "doc_to_text": "{{q}} =",
            "doc_to_choice": "{{c}}", "doc_to_target": "{{t}}", "metric_list": [{"metric": "acc"}],
        }  # fmt: skip
        (tasks / "pick.yaml").write_text(write_yaml(choice))
        (tasks / "say.yaml").write_text(
            write_yaml({
                "task": "say", **common,
                "dataset_kwargs": {"data_files": {**data, "train": str(tasks / "shots.jsonl")}},
                "fewshot_split": "train", "num_fewshot": 1, "output_type": "generate_until",
                "doc_to_text": "{{q}} =", "doc_to_target": "{{a}}", "description": "Add.\n\n",
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": 2},
                "filter_list": [{"name": "first", "filter": [
                    {"function": "regex", "regex_pattern": r"(\d+)"}, {"function": "take_first"}]}],
                "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            }).replace("metric_list:", "process_results: !function scoring.share\nmetric_list:")
            .replace("metric: exact_match", "metric: share")
        )  # fmt: skip
        (folder / "climb.py").write_text(
            "import climbing_step\n\n"
            "from evomerge.optimizers.random_search import RandomSearch\n\n\n"
            "class Climb(RandomSearch):\n    STEP = climbing_step.STEP\n"
        )
        (folder / "climbing_step.py").write_text("STEP = 0.1\n")
        (folder / "own_metric.py").write_text(
            "from own_words import WORDS\n\n\n"
            "def length(doc, responses):\n    return float(len(responses)) + len(WORDS)\n"
        )
        (folder / "own_words.py").write_text("WORDS = ['a']\n")

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        path = self.folder / "tasks" / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    @property
    def config(self) -> dict[str, Any]:
        return {
            "name": "stands",
            "models": {
                "base": str(self.folder / "m/base"),
                "parents": {name: str(self.folder / "m" / name) for name in ("a", "b")},
            },
            "method": {"name": "task_arithmetic", "parameters": {"lambda": 1.0}},
            "space": {"blocks": 1, "genes": {"weight": {"low": 0.0, "high": 1.5, "start": 0.5}}},
            "optimizer": {"name": f"{self.folder}/climb.py:Climb"},
            "budget": {"candidates": 2},
            "evaluation": {
                "tasks": [
                    {"name": "pick", "metric": "acc"},
                    {"name": "say", "metric": "share"},
                    {"name": "pick", "metric": f"python:{self.folder}/own_metric.py:length", "direction": "maximize",
                     "weight": 0.0},
                ],
                "include_path": [str(self.folder / "tasks")],
                "split": {"search": 6, "validation": 4, "test": 4},
                "finalists": 2,
                "batch_size": 8,
            },
            "execution": {"threads": 1},
        }  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("stands")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(folder)
    made = Place(folder)
    api.search(made.config, run_dir=made.run)
    yield made
    patch.undo()


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Put files back as they were, with their times."""
    before = {path: (path.read_bytes(), path.stat()) if path.is_file() else None for path in paths}
    try:
        yield
    finally:
        for path, was in before.items():
            if was is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(was[0])
                os.utime(path, ns=(was[1].st_atime_ns, was[1].st_mtime_ns))


def replaced(name: str, old: str, new: str) -> tuple[str, Callable[[Path], None]]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text, text
        path.write_text(text.replace(old, new))

    return name, change


def one_number(path: Path) -> None:
    """Change a single number, and put size and mtime back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rows_of(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> tuple[str, Callable[[Path], None]]:
    def edit(path: Path) -> None:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))

    return "tasks/rows.jsonl", edit


def json_key(name: str, key: str, value: Any) -> tuple[str, Callable[[Path], None]]:
    def edit(path: Path) -> None:
        data = json.loads(path.read_text())
        path.write_text(json.dumps({**data, key: value}))

    return name, edit


def swapped_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*rows[1:], rows[0]]


CHANGES = {
    "a single number, mtime restored": (
        ("m/a/model.safetensors", one_number),
        ["the weights of parent 'a' (", "changed"],
    ),
    "rope": (json_key("m/a/config.json", "rope_theta", 5.0), ["the configuration of parent 'a'"]),
    "end token": (json_key("m/b/generation_config.json", "eos_token_id", 3), ["the generation settings of parent 'b'"]),
    "tokenizer": (
        replaced("m/base/tokenizer.json", '"version"', '"Version"'),
        ["the tokenizer of the base", "tokenizer.json"],
    ),
    "a template that was not there": (
        ("m/a/chat_template.jinja", lambda path: path.write_text("{{ messages }}")),
        ["the chat template of parent 'a'", "chat_template.jinja (new)"],
    ),
    "code beside a model": (("m/b/modeling.py", lambda path: path.write_text("1")), ["the code of parent 'b'"]),
    "few-shot examples": (
        replaced("tasks/shots.jsonl", '"a": "', '"a": "1'),
        ["task say: the prompts", "of 14 of 14 items changed"],
    ),
    "description": (replaced("tasks/say.yaml", "Add.", "Sum."), ["task say: the prompts", "14 of 14"]),
    "filter": (replaced("tasks/say.yaml", r"(\d+)", r"(\d)"), ["task say: its filter_list changed"]),
    "generation arguments": (
        replaced("tasks/say.yaml", "max_gen_toks: 2", "max_gen_toks: 3"),
        ["task say: the generation arguments of 14 of 14 items", "task say: its generation_kwargs changed"],
    ),
    "the metric's function": (
        replaced("tasks/scoring.py", "== doc", "!= doc"),
        ["task say: the file scoring.py of its own functions changed"],
    ),
    "what the metric's function imports when it is called": (
        replaced("tasks/answer_marks.py", "1.0", "2.0"),
        ["task say: the file answer_marks.py of its own functions changed"],
    ),
    "what the metric's function reads": (
        replaced("tasks/data/limits.json", "5", "6"),
        ["task say: the file data/limits.json of its own functions changed"],
    ),
    "a list from beside an own metric": (
        replaced("own_words.py", "'a'", "'b'"),
        ["the file own_words.py of metric own_metric.py:length changed"],
    ),
    "metric list": (
        replaced("tasks/pick.yaml", "metric: acc", "metric: acc\n  aggregation: mean"),
        ["task pick: its metric_list"],
    ),
    "labels": (
        rows_of(lambda rows: [{**row, "t": 1 - row["t"]} for row in rows]),
        ["task pick: the labels (right answers) of 14 of 14 items", "task say: other fields of the documents of 14 of"],
    ),
    "some prompts": (
        rows_of(lambda rows: [{**row, "q": row["q"] + (" + 0" if i % 2 else "")} for i, row in enumerate(rows)]),
        ["task pick: the prompts (question", "task say: the prompts (question"],
    ),
    "the order of the options": (
        rows_of(lambda rows: [{**row, "c": row["c"][::-1]} for row in rows]),
        ["task pick: the order of the answer options of", "task say: other fields of the documents of"],
    ),
    "the order of the items": (rows_of(swapped_rows), ["task pick: ", "14 items stand at other places"]),
    "rows put in before": (
        rows_of(lambda rows: [{"q": "?", "c": ["x", "y"], "a": "x", "t": 0}, *rows]),
        ["task pick: ", "stand at other places", "task say: "],
    ),
    "an own optimizer": (
        replaced("climb.py", "STEP = ", "STEP = 2 * "),
        ["the file climb.py of optimizer climb.py:Climb"],
    ),
    "what an own optimizer imports": (
        replaced("climbing_step.py", "0.1", "0.2"),
        ["the file climbing_step.py of optimizer climb.py:Climb changed"],
    ),
    "an own metric": (
        replaced("own_metric.py", "float(len", "2 * float(len"),
        ["the file own_metric.py of metric own_metric.py:length"],
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_run_stands_on_may_not_change(what: str, place: Place) -> None:
    (name, change), sentences = CHANGES[what]
    path = place.folder / name
    before = database(place)
    with restored(path):
        change(path)
        with pytest.raises(InputsChanged) as raised:
            api.resume(place.run, budget={"candidates": 4})
    for sentence in sentences:
        assert sentence in str(raised.value), raised.value
    # All that changed is said, and nothing else.
    assert all(any(sentence in one for sentence in sentences) for one in raised.value.changes), raised.value.changes
    assert "Undo" in str(raised.value)
    assert database(place) == before


def database(place: Place) -> list[str]:
    with sqlite3.connect(place.run / "run.sqlite") as db:
        return list(db.iterdump())


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    "range of a gene": (
        lambda c: c["space"]["genes"]["weight"].update(high=9.5),
        ["space.genes.weight.high: 1.5 when the run began, 9.5 now"],
    ),
    "seed": (lambda c: c.update(seed=7), ["seed: 0 when the run began, 7 now"]),
    "method": (
        lambda c: c["method"].update(name="ties"),
        ['method.name: "task_arithmetic" when the run began, "ties"'],
    ),
    "blocks": (lambda c: c["space"].update(blocks=2), ["space.blocks: 1 when"]),
    "optimizer": (
        lambda c: c.update(optimizer="cma"),
        ["optimizer.name: ", "the file climb.py", "the file climbing_step"],
    ),
    "weight": (lambda c: c["evaluation"]["tasks"][0].update(weight=2.0), ["evaluation.tasks[0].weight: 1 when"]),
    "split sizes": (lambda c: c["evaluation"]["split"].update(search=5), ["evaluation.split.search: 6 when"]),
    "finalists": (lambda c: c["evaluation"].update(finalists=1), ["evaluation.finalists: 2 when"]),
    "fitness": (lambda c: c.update(fitness={"items": 3}), ["fitness.items: not set when the run began, 3 now"]),
    "task renamed": (
        lambda c: c["evaluation"]["tasks"][1].update(name="sey"),
        ['evaluation.tasks[1].name: "say" when'],
    ),
    "engine": (lambda c: c["evaluation"].update(engine="lm-eval"), ['evaluation.engine: "hf" when']),
    "dtype": (lambda c: c["execution"].update(dtype="bfloat16"), ['execution.dtype: "float32" when', '"bfloat16" now']),
    "deterministic": (lambda c: c["execution"].update(deterministic=False), ["execution.deterministic: true when"]),
    "base exchanged": (
        lambda c: c["models"].update(base=c["models"]["parents"]["a"]),
        ["the base is another model: ", "was parent 'a'"],
    ),
    "parents swapped": (
        lambda c: c["models"].update(parents={n: c["models"]["parents"][m] for n, m in (("a", "b"), ("b", "a"))}),
        ["parent 'a' and parent 'b' were swapped"],
    ),
    "order of the parents": (
        lambda c: c["models"].update(parents={n: c["models"]["parents"][n] for n in "ba"}),
        ["the order of the parents changed: a, b, base when the run began, b, a, base now"],
    ),
    "parent renamed": (
        lambda c: c["models"].update(parents={n: c["models"]["parents"][m] for n, m in (("a", "a"), ("z", "b"))}),
        ["parent 'b' is called 'z' now"],
    ),
    "parent gone": (
        lambda c: c["models"]["parents"].update(a="/gone/a"),
        ["parent 'a': there is no folder /gone/a"],
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_key_that_decides_results_may_not_be_edited(
    what: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    change, sentences = EDITS[what]
    path = place.run / "config.yaml"
    before = database(place)
    with restored(path):
        config: Any = read_yaml(path.read_text())
        change(config)
        path.write_text(write_yaml(config))
        assert main(["resume", str(place.run), "budget.candidates=4"]) == 2
    said = capsys.readouterr().err
    for sentence in sentences:
        assert sentence in said, said
    listed = [line for line in said.splitlines() if line.startswith("  - ")]
    assert all(any(sentence in line for sentence in sentences) for line in listed), listed
    assert "Traceback" not in said
    assert "bug" not in said
    assert database(place) == before
    assert api.status(place.run)["changed"] == []


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("seed=3", "`seed` decides the results"),
        ("space.genes.weight.high=3", "decides the results"),
        ("execution.dtype=bfloat16", 'execution.dtype: "float32" when the run began'),
        ("execution.thread=3", "did you mean 'threads'"),
        ("execution.threads=many", "`execution.threads` must be a whole number"),
        ("run.dir=elsewhere", "move its folder"),
    ],
)
def test_an_override_is_refused_with_a_sentence(
    word: str, sentence: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["resume", str(place.run), word]) == 2
    assert sentence in capsys.readouterr().err


def copy_of(place: Place, folder: Path) -> Path:
    shutil.copytree(place.run, folder)
    return folder


def test_what_no_split_holds_may_change_and_speed_may_change_too_which_is_recorded(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(place, tmp_path / "moved" / "run")
    used = {
        item for data in splits(run).values() for one in data.values() for item in one["items"]
    }  # of both tasks, which share their rows
    path = place.folder / "tasks/rows.jsonl"
    readme = place.folder / "m/a/README.md"
    config = place.folder / "m/a/config.json"
    with restored(path, readme, config):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [row if i in used else {**row, "t": 1 - row["t"]} for i, row in enumerate(rows)]
        place.write_rows([*rows, {"q": "?", "c": ["x", "y"], "a": "x", "t": 0}])
        readme.write_text("other words")
        data = json.loads(config.read_text())
        config.write_text(json.dumps({**dict(reversed(data.items())), "transformers_version": "9"}, indent=9))
        words = ["budget.candidates=3", "execution.threads=2", "evaluation.batch_size=4", "name=again"]
        assert main(["resume", str(run), *words]) == 0
        assert "execution.threads: 1 until now, 2 from now on" in capsys.readouterr().out
        assert main(["status", str(run), "--json"]) == 0
        status = json.loads(capsys.readouterr().out)
        assert status["candidates"] == 3
        changed = {one["key"]: (one["before"], one["after"]) for one in status["changed"]}
        assert changed == {"execution.threads": (1, 2), "evaluation.batch_size": (8, 4), "name": ("stands", "again")}
        assert all("T" in one["when"] for one in status["changed"])
        assert status["name"] == "again"
        # It stays so, and an edit of config.yaml is a change as well.
        edited: Any = read_yaml((run / "config.yaml").read_text())
        assert edited["execution"]["threads"] == 2
        edited["execution"].update(threads=1, cache="none")
        (run / "config.yaml").write_text(write_yaml(edited))
        api.resume(run, budget={"candidates": 4}, changes={"execution": {"device": "cpu"}})
    after = [(one["key"], one["after"]) for one in api.status(run)["changed"][3:]]
    assert sorted(after) == [("execution.cache", "none"), ("execution.device", "cpu"), ("execution.threads", 1)]


def splits(run: Path) -> dict[str, Any]:
    with sqlite3.connect(run / "run.sqlite") as db:
        return {task: json.loads(data) for task, data in db.execute("SELECT task, data FROM splits")}


def test_models_and_tasks_may_move(place: Place, tmp_path: Path) -> None:
    run = copy_of(place, tmp_path / "run")
    whole = copy_of(place, tmp_path / "whole")
    new = tmp_path / "new"
    shutil.copytree(place.folder / "m", new / "m")
    shutil.copytree(place.folder / "tasks", new / "tasks")
    shutil.copy(place.folder / "climb.py", new)
    shutil.copy(place.folder / "climbing_step.py", new)
    notes: list[str] = []
    api.resume(whole, budget={"candidates": 4})
    aside = place.folder.with_name("aside")
    (place.folder / "m").rename(aside)
    try:
        with pytest.raises(InputsChanged, match="parent 'a': there is no folder"):
            api.resume(run)
        changes = {
            "models": {"base": str(new / "m/base"), "parents": {"a": str(new / "m/a"), "b": str(new / "m/b")}},
            "evaluation.include_path": [str(new / "tasks")],
        }
        api.resume(run, budget={"candidates": 4}, changes=changes, note=notes.append)
        assert any(str(new / "m/a") in note for note in notes)
        found = api.status(run)["changed"]
        assert {one["key"] for one in found} == {
            "models.base", "models.parents.a", "models.parents.b", "evaluation.include_path"
        }  # fmt: skip
        # The recipes of earlier candidates name the new places, so that the old ones are not needed any more.
        for record in api.records(run, baselines=True):
            assert str(place.folder) not in json.dumps(record.recipe.to_data())
        assert str(place.folder) not in (run / "best.yaml").read_text()
        api.export(run, tmp_path / "out", verify=False)
    finally:
        aside.rename(place.folder / "m")
    rows = [[(one.genome, one.fitness) for one in api.records(folder)] for folder in (run, whole)]
    assert rows[0] == rows[1]


def test_weights_whose_files_are_the_same_are_not_read_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only once their last change lies some time back; until then they are read each time."""
    from evomerge.system import contents

    run = copy_of(place, tmp_path / "run")
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    api.resume(run)
    read: list[str] = []
    pieces = contents.pieces
    monkeypatch.setattr(contents, "pieces", lambda path: (read.append(path.name), pieces(path))[1])
    api.resume(run)
    assert "model.safetensors" not in read
    weights = place.folder / "m/a/model.safetensors"
    with restored(weights):
        one_number(weights)
        with pytest.raises(InputsChanged, match="the weights of parent 'a'"):
            api.resume(run)
    assert "model.safetensors" in read


def test_a_recipe_that_is_not_that_of_its_key_is_damage(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy_of(place, tmp_path / "run")
    with sqlite3.connect(run / "run.sqlite") as db:
        key, data = db.execute(
            "SELECT hash, data FROM recipes JOIN candidates ON recipe = hash WHERE number = 1"
        ).fetchone()
        db.execute("UPDATE recipes SET data = ? WHERE hash = ?", (data.replace('"lambda":1.0', '"lambda":2.0'), key))
    for step in (lambda: api.resume(run), lambda: api.records(run)):
        with pytest.raises(RunError, match=rf"damaged \(the recipe with the key {key[:12]} is another one"):
            step()
    assert main(["resume", str(run)]) == 2
    assert "bug" not in capsys.readouterr().err


def test_a_candidate_that_is_missing_is_damage(place: Place, tmp_path: Path) -> None:
    run = copy_of(place, tmp_path / "run")
    with sqlite3.connect(run / "run.sqlite") as db:
        db.execute("DELETE FROM candidates WHERE number = 0")
    with pytest.raises(
        RunError, match=r"damaged \(rows of the table \w+ belong to rows of candidates that are missing"
    ):
        api.resume(run)


def test_limits_are_no_changes(place: Place) -> None:
    with pytest.raises(ConfigError, match="limits are given as the `budget`"):
        api.resume(place.run, changes={"budget.candidates": 9})


def test_answers_of_other_models_and_recipes_as_parents_are_inputs_too(tmp_path: Path, place: Place) -> None:
    config = place.config
    recipe = tmp_path / "inner.yaml"
    inner = {
        "method": "linear",
        "parents": {n: str(place.folder / "m" / n) for n in "ab"},
        "parameters": {"weight": 0.5},
    }
    recipe.write_text(write_yaml(inner))
    responses = tmp_path / "others.npz"
    config["evaluation"]["tasks"] = config["evaluation"]["tasks"][:2]  # a response matrix holds one number for an item
    others = api.search(config, run_dir=tmp_path / "others").path
    api.responses(others).save(responses)
    config["models"]["parents"] = {"a": config["models"]["parents"]["a"], "mix": {"recipe": str(recipe)}}
    config["fitness"] = {"responses": str(responses)}
    run = api.search(config, run_dir=tmp_path / "run").path
    with restored(recipe, responses):
        recipe.write_text(write_yaml({**inner, "parameters": {"weight": 0.25}}))
        found = api.responses(others)
        type(found)(**{**vars(found), "R": 1 - found.R}).save(responses)
        weights = place.folder / "m/b/model.safetensors"
        with restored(weights):
            tensors = load_file(weights)
            save_file({name: np.ascontiguousarray(tensor * 2) for name, tensor in tensors.items()}, weights)
            with pytest.raises(InputsChanged) as raised:
                api.resume(run, budget={"candidates": 3})
    said = "\n".join(raised.value.changes)
    assert "the recipe that is parent 'mix' changed" in said
    assert "the weights of parent 'mix.b'" in said
    assert "fitness.responses changed" in said
    assert len(raised.value.changes) == 3
    moved = responses.rename(tmp_path / "moved.npz")
    api.resume(run, budget={"candidates": 3}, changes={"fitness.responses": str(moved)})


def test_an_export_whose_models_are_no_longer_those_that_were_scored_is_refused(place: Place, tmp_path: Path) -> None:
    weights = place.folder / "m/b/model.safetensors"
    with restored(weights):
        one_number(weights)
        with pytest.raises(ExportError, match=r"(?s)the weights of parent 'b' \(.*evomerge merge .*best\.yaml"):
            api.export(place.run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [[], ["--task", "pick"], ["--full"], ["--full", "--all-parents"], ["--all-parents"]])
def test_an_evaluation_of_other_models_than_the_runs_is_refused(
    words: list[str], place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = place.folder / "m/b/model.safetensors"
    with restored(weights):
        one_number(weights)
        assert main(["evaluate", str(place.run), *words]) != 0
    said = capsys.readouterr().err
    assert "the models are not those that the run" in said
    assert "the weights of parent 'b' (" in said
    assert str(place.run / "best.yaml") in said


def test_an_evaluation_or_a_comparison_with_another_tokenizer_than_the_runs_is_refused(place: Place) -> None:
    tokenizer = place.folder / "m/base/tokenizer.json"
    with restored(tokenizer):
        tokenizer.write_text(tokenizer.read_text().replace('"version"', '"Version"'))
        for step in (
            lambda: api.evaluate(place.run),
            lambda: api.verify(place.run, place.folder / "m/a"),
            lambda: api.evaluate_full(place.run, winner=False, parents=True),
        ):
            with pytest.raises(RunError, match="the tokenizer of the base"):
                step()
