"""`evomerge answers`, over a run of the zoo and over one whose texts are anybody's."""

import json
import shutil
from pathlib import Path

import pytest
from skill_runs import PLACES, SKILLS, N, three_skills

from evomerge import api
from evomerge.analysis.verdict import OBJECTIVE
from evomerge.cli.main import main
from evomerge.errors import ConfigError, RunError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Choice, ItemAnswer, ItemPrompt, ItemScore, Record, Result, Score, Split, State
from evomerge.store.run_dir import RunDir

KEYS = {"task", "item", "split", "model", "kind", "prompt", "answer", "filtered", "responses", "options", "target",
        "right", "scores"}  # fmt: skip


def lines(capsys: pytest.CaptureFixture[str], *words: object) -> list[dict]:
    assert main(["answers", *map(str, words), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_winner_stands_beside_the_best_parent_on_the_test_items(zoo_run: Path, capsys) -> None:
    found = lines(capsys, zoo_run)
    assert len(found) == 12 and all(set(line) == KEYS for line in found)
    status = api.status(zoo_run)
    assert [line["model"] for line in found[:2]] == ["winner", status["best_parent"]]
    assert {line["split"] for line in found} == {"test"}
    for name, score in (("winner", status["best"]["test"]), (status["best_parent"], None)):
        own = [line for line in found if line["model"] == name]
        assert all(isinstance(line["answer"], str) and line["prompt"] and line["target"] for line in own)
        assert all(line["right"] == (line["scores"]["acc"] == 1.0) for line in own)
        if score is not None:
            assert sum(line["scores"]["acc"] for line in own) / 6 == pytest.approx(score["mean"])
    kinds = [line["kind"] for line in found[::2]]
    assert kinds == sorted(kinds, key=["lost", "gained", "wrong", "right"].index)


@pytest.mark.parametrize("below", ["", "below"])
def test_logs_are_not_written_where_a_file_stands(zoo_run: Path, tmp_path: Path, capsys, below: str) -> None:
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "file" / below
    assert main(["answers", str(zoo_run), "--out", str(out)]) == 2
    assert "something that is not a folder is in the way" in capsys.readouterr().err
    with pytest.raises(RunError, match="not a folder"):
        api.evaluate_run(zoo_run, log_samples=out)
    assert (tmp_path / "file").read_text() == "kept"


def test_what_is_kept_and_what_is_not(zoo_run: Path, capsys) -> None:
    with RunDir.open(zoo_run) as run:
        kept, best = run.database.answers.kept(), run.database.choice().best
        finalists = {one.number for one in run.database.finalists()}
    baselines = {-1, -2, -3}
    assert {number for number, split in kept if split == Split.TEST} == baselines | {best}
    assert {number for number, split in kept if split == Split.VALIDATION} == baselines | finalists
    assert {number for number, split in kept if split == Split.SEARCH} == baselines | set(range(5))
    other = next(number for number in range(5) if number not in finalists)
    assert lines(capsys, zoo_run, "--model", other)[0]["split"] == "search"
    assert main(["answers", str(zoo_run), "--model", f"candidate {other}", "--split", "test"]) == 2
    error = capsys.readouterr().err
    assert "finalists alone answer validation items, and the chosen ones test items" in error
    assert "math (search, validation, test)" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "mth"], "has no model 'mth'; answers are kept of math (search, validation, test)"),
        (["--task", "other"], "no answers to the task 'other', but to 'zoo_ja_math'"),
        (["--item", "100000"], "item 100000 is none of the test items that winner answered; these are"),
        (["--model", "99"], "has no model '99'"),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(zoo_run: Path, words: list[str], said: str, capsys) -> None:
    assert main(["answers", str(zoo_run), *words]) == 2
    assert said in capsys.readouterr().err


def test_answers_need_neither_models_nor_tasks_and_a_folder_for_reading_only(
    zoo_run: Path, tmp_path: Path, capsys
) -> None:
    there = tmp_path / "alone"
    there.mkdir()
    shutil.copy(zoo_run / "run.sqlite", there)
    there.chmod(0o500)
    try:
        with RunDir.open(zoo_run, write=True):  # another process has the original
            assert lines(capsys, zoo_run) == lines(capsys, there)
    finally:
        there.chmod(0o700)


def test_out_writes_the_sample_logs_of_lm_eval(zoo_run: Path, tmp_path: Path, capsys) -> None:
    from evomerge.estimation import read_responses

    assert main(["answers", str(zoo_run), "--against", "math", "--against", "average", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("wrote ") == 3
    found = read_responses(tmp_path, metric="acc")
    assert set(found.models) == {"winner", "math", "average"} and len(found.items) == 6
    whole = api.responses(zoo_run)
    for name in ("math", "average"):
        row = whole.R[whole.models.index(name)]
        for item, value in zip(found.items, found.R[found.models.index(name)], strict=True):
            assert value == row[whole.items.index(item)]
    sample = json.loads(next((tmp_path / "math").iterdir()).read_text().splitlines()[0])
    assert set(sample) >= {"doc_id", "doc", "resps", "filtered_resps", "metrics", "doc_hash", "prompt_hash", "acc"}


EVIL = "\x1b[2J[bold]x[/bold] `|` <b>\u202e" + "long " * 2000


@pytest.fixture
def odd_run(tmp_path: Path) -> Path:
    """Two parents, one of them called `winner`, and two candidates on six items; the texts are anybody's."""
    right = {-1: "110100", -2: "000111", 0: "101010", 1: "111000"}
    names = {-1: "winner", -2: "17", 0: "candidate 0", 1: "candidate 1"}
    config = {"name": "odd", "models": {"parents": {"winner": "w", "17": "v"}}}
    with RunDir.create(tmp_path / "run", config=config) as run:
        run.database.set_meta(OBJECTIVE, [_spec("t")])
        prompts = [ItemPrompt("t", i, [[f"{EVIL} {i}", " yes"], [f"{EVIL} {i}", " no"]], 0, {"q": i}) for i in range(6)]
        run.database.answers.put_prompts("", Split.TEST, prompts)
        for number, own in right.items():
            recipe = Recipe("linear", (Parent("p", ModelSource(f"p{number}")),))
            score = {Split.TEST: Score(0.5, 0.0, 1.0, 6), Split.SEARCH: Score(0.5 + number, 0.0, 1.0, 6)}
            record = Record(
                number, names[number], State.COMPLETE, recipe, None, float(number), score, result=Result((0.5,))
            )
            scores = [ItemScore("t", i, {"acc": float(one)}) for i, one in enumerate(own)]
            run.database.add(record, scores={Split.TEST: scores})
            texts = [
                ItemAnswer("t", i, [[-1.0, True], [-2.0, False]] if one == "1" else [[-3.0, False], [-2.0, True]])
                for i, one in enumerate(own)
            ]
            run.database.answers.put(number, Split.TEST, texts, variant="")
        run.database.set_choice(Choice("winner", (1,)))
    return tmp_path / "run"


def _spec(name: str) -> dict:
    from evomerge.evaluation.task import TaskSpec

    return TaskSpec(name, "acc", direction="maximize").to_data()


def test_lost_items_come_first_and_kinds_can_be_chosen(odd_run: Path, capsys) -> None:
    def kinds(*words: str) -> list[tuple[int, str]]:
        own = ("--model", "1", "--against", "parent:winner", *words)
        return [(line["item"], line["kind"]) for line in lines(capsys, odd_run, *own)[::2]]

    assert kinds() == [(3, "lost"), (2, "gained"), (4, "wrong"), (5, "wrong"), (0, "right"), (1, "right")]
    assert kinds("--lost") == [(3, "lost")]
    assert kinds("--gained", "--lost") == [(3, "lost"), (2, "gained")]
    assert [item for item, _ in kinds("--wrong")] == [3, 4, 5]
    assert [item for item, _ in kinds("--right")] == [2, 0, 1]
    assert kinds("--item", "5") == [(5, "wrong")] and len(kinds("--limit", "2")) == 2


def test_an_option_is_an_answer_and_a_target(odd_run: Path, capsys) -> None:
    found = lines(capsys, odd_run, "--model", "1", "--against", "none")
    assert [(line["answer"], line["target"], line["options"]) for line in found if line["item"] in (0, 5)] == [
        ("no", "yes", ["yes", "no"]), ("yes", "yes", ["yes", "no"])
    ]  # fmt: skip
    assert {line["right"] for line in found} == {True, False}


def test_names_of_parents_that_mean_something_else_are_reached_by_parent(odd_run: Path) -> None:
    def first(name: str) -> str:
        rows = api.answers(odd_run, model=name, against=[])
        return "".join(str(int(row.answers[name].score)) for row in sorted(rows, key=lambda row: row.item))

    assert first("winner") == "111000" and first("parent:winner") == "110100"
    assert first("parent:17") == first("17") == "000111"  # there is no candidate 17
    assert [*api.answers(odd_run)[0].answers] == ["winner", "parent:winner"]
    assert len(api.Run(odd_run).answers(which=["lost"])) == 1
    with pytest.raises(ConfigError, match="no kind of item 'bad'; there are lost, gained"):
        api.answers(odd_run, which=["bad"])
    with pytest.raises(ConfigError, match="no split 'train'"):
        api.answers(odd_run, split="train")


@pytest.mark.parametrize("columns", [30, 100])
def test_foreign_text_is_shown_and_does_nothing(odd_run: Path, columns: int, capsys, monkeypatch) -> None:
    from evomerge.cli import answers, console

    def narrow() -> console.Console:
        made = console._PlainConsole(markup=False, emoji=False, highlight=False)
        made.width = columns
        return made

    monkeypatch.setattr(answers, "make_console", narrow)
    assert main(["answers", str(odd_run), "--limit", "2"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out and "[bold]" in out
    assert max(map(len, out.splitlines())) <= max(columns, 80) and "1 lost" in out.replace("\n", " ")
    assert ("┃" in out) == (columns >= answers.NARROW)
    assert len(out) < 4000
    assert main(["answers", str(odd_run), "--limit", "2", "--full-prompts"]) == 0
    assert len(capsys.readouterr().out) > 20_000


def test_a_run_without_answers_says_so(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={"evaluation": {"answers": {"mib": 0}}}) as run:
        with pytest.raises(RunError, match="has no scored candidate yet; it keeps no answers yet"):
            api.answers(run.path)
        recipe = Recipe("linear", (Parent("p", ModelSource("p")),))
        score = {Split.SEARCH: Score(0.5, 0.0, 1.0, 1)}
        run.database.add(Record(0, "candidate 0", State.COMPLETE, recipe, None, 0.5, score, result=Result((0.5,))))
        with pytest.raises(RunError, match=r"since the run keeps none \(evaluation.answers.mib is 0\)"):
            api.answers(run.path)
        run.database.add(Record(1, "candidate 1", State.FAILED, recipe, error="it broke"))
        with pytest.raises(RunError, match=r"of candidate 1 there are no answers.*could not be scored: it broke"):
            api.answers(run.path, model="candidate 1")


def test_evaluate_writes_the_samples_of_what_it_scored(zoo_run: Path, tmp_path: Path, capsys) -> None:
    from evomerge.estimation import read_responses

    words = ["--task", "zoo_ja_math", "--include-path", "zoo:tasks", "--limit", "4", "--json"]
    assert main(["evaluate", "zoo:japanese", *words, "--log-samples", str(tmp_path)]) == 0
    score = json.loads(capsys.readouterr().out)["zoo_ja_math"]["acc"]
    found = read_responses(tmp_path, metric="acc")
    assert found.models == ("zoo__japanese",) and found.R.shape == (1, 4)
    assert found.R.mean() == score["mean"]
    whole = tmp_path / "whole"
    assert main(["evaluate", str(zoo_run), "--log-samples", str(whole)]) == 0
    rows = {row.item: row for row in api.answers(zoo_run, against=[])}
    (file,) = whole.rglob("*.jsonl")
    for line in map(json.loads, file.read_text().splitlines()):  # the same answers again
        assert line["resps"] == [[rows[line["doc_id"]].text("winner")]]


def test_status_says_what_can_be_read(zoo_run: Path, capsys) -> None:
    answers = api.status(zoo_run)["answers"]
    assert set(answers) == {"kept", "bytes", "dropped"} and answers["dropped"] == {}
    assert set(answers["kept"]) == {"search", "validation", "test"} and 0 < answers["bytes"] < 2**20
    assert main(["status", str(zoo_run)]) == 0
    assert "what was answered (0.0 MiB): evomerge answers " in capsys.readouterr().out


def test_each_model_was_asked_by_its_own_template(tmp_path: Path) -> None:
    """The prompts that are kept are those of each model's tokenizer; models that share a template share them."""
    from tiny_search import composed, write_tiny
    from transformers import AutoTokenizer

    file = write_tiny(tmp_path)
    for name, mark in (("base", "M"), ("a", "A"), ("b", "M")):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "models" / name)
        tokenizer.chat_template = mark + "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
        tokenizer.save_pretrained(tmp_path / "models" / name)
    run = api.search(composed(file, "evaluation.chat.template=true"), run_dir=tmp_path / "run")
    (first, *_) = api.answers(run.path, model="a", against=["b"])
    assert first.question is not None and first.question.startswith("A[")
    for name in ("b", "winner"):
        rows = api.answers(run.path, model=name, against=["a"])
        assert len(rows) == 4 and {row.question[:2] for row in rows} == {"M["}
        assert all(row.options and row.text(name) in row.options and row.target in row.options for row in rows)
    with RunDir.open(run.path) as opened:
        (n,) = opened.database._one("SELECT COUNT(DISTINCT variant) FROM prompts")
    assert n == 2
    paths = api.save_answers(run.path, api.answers(run.path, model="a", against=["b"]), tmp_path / "samples")
    marks = {
        path.parent.name: json.loads(path.read_text().splitlines()[0])["arguments"]["gen_args_0"] for path in paths
    }
    assert {name: one["arg_0"][:2] for name, one in marks.items()} == {"a": "A[", "b": "M["}


def test_each_task_stands_beside_the_parent_that_is_best_at_it(tmp_path: Path, capsys) -> None:
    with three_skills(tmp_path / "run") as run:
        for number in (-1, -2, -3, 0):
            texts = [ItemAnswer(task, PLACES[Split.TEST] + i, ["words"]) for task in SKILLS for i in range(N)]
            run.database.answers.put(number, Split.TEST, texts, variant="")

    def beside(*words: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in lines(capsys, tmp_path / "run", *words):
            found.setdefault(line["task"], set()).add(line["model"])
        return found

    assert beside() == {task: {"winner", parent} for task, parent in SKILLS.items()}
    assert beside("--lost") == {"reverse": {"winner", "words"}}  # "adder", the best on the whole, has but two right
    assert beside("--task", "add", "--task", "reverse") == {"add": {"winner", "adder"}, "reverse": {"winner", "words"}}
    assert beside("--model", "words") == {
        "add": {"words", "adder"},
        "reverse": {"words"},
        "capitals": {"words", "caps"},
    }
    assert main(["answers", str(tmp_path / "run"), "--limit", "1"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("winner beside the best parent of each task, ") and "on 120 test items: 39 lost" in said
