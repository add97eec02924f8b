"""The card of a merge says what it does on each task, and what it has lost."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from skill_runs import SPECS, add_model, everywhere, three_skills

from evomerge.analysis.verdict import CODE_TASKS, PUBLIC_TASKS
from evomerge.export.from_run import run_card
from evomerge.export.licences import ParentModel
from evomerge.record import Choice


def card(folder: Path, number: int, monkeypatch, *chosen: int) -> str:
    monkeypatch.setattr("evomerge.export.from_run.describe_parents", lambda recipe: [ParentModel("a", "parent", "a")])
    run = three_skills(folder)
    add_model(run, 1, "candidate 1", everywhere(add=30, reverse=38, capitals=10), SPECS)
    run.database.set_choice(Choice("archive" if chosen else "winner", chosen or (0,)))
    monkeypatch.setattr(type(run.database), "splits", lambda self: {"add": {"test": {"task": "addition_test"}}})
    run.database.set_meta(CODE_TASKS, ["humaneval"])
    run.database.set_meta(PUBLIC_TASKS, ["gsm8k"])
    record = run.database.record(number)
    assert record is not None
    try:
        return run_card(run, record, config=run.config, title="mine")
    finally:
        run.close()


def row_of(text: str, task: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {task}, exact_match |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_card_has_every_task_beside_its_best_parent(tmp_path: Path, monkeypatch) -> None:
    text = card(tmp_path / "run", 0, monkeypatch)
    assert "## Tasks" in text and "interval and p-value stands for itself" in text
    lost, gained = row_of(text, "reverse"), row_of(text, "add")
    assert lost[1:3] == ["40", "0.0000 [0.0000, 0.0876]"]
    assert lost[-3:] == ["words", "**-0.9750 [-0.9956, -0.8019]**", "< 0.0001"]
    assert (gained[-3], gained[2]) == ("adder", "0.9500 [0.8350, 0.9862]") and not gained[-2].startswith("*")


def test_the_notes_of_the_card_begin_with_the_lost_skill(tmp_path: Path, monkeypatch) -> None:
    notes = [line for line in card(tmp_path / "run", 0, monkeypatch).splitlines() if line.startswith("Note: ")]
    assert notes[0].startswith("Note: this model has lost reverse: 0.0 % against 97.5 % of words (-97.5 points")
    assert any("public test set of gsm8k" in note for note in notes) and any("humaneval" in note for note in notes)
    assert not any("finalists" in note for note in notes)  # of the search, not of the model


def test_another_candidate_has_its_own_tasks_and_notes(tmp_path: Path, monkeypatch) -> None:
    text = card(tmp_path / "run", 1, monkeypatch)
    assert row_of(text, "reverse")[2] == "0.9500 [0.8350, 0.9862]"
    assert row_of(text, "capitals")[-2].startswith("**-0.6500 ")
    notes = [line for line in text.splitlines() if line.startswith("Note: ")]
    assert notes[0].startswith("Note: this model has lost capitals: 25.0 % against 90.0 % of caps")
    assert not any("reverse: 0.0 %" in note for note in notes)
    assert any("humaneval" in note for note in notes)
    assert "Paired difference on the same 120 test items" in text and "flatters; with the choice" not in text


def test_the_verdict_is_the_first_line_below_the_scores(tmp_path: Path, monkeypatch) -> None:
    lines = card(tmp_path / "run", 0, monkeypatch).splitlines()
    first = lines[lines.index("## Scores") + 2]
    assert first == "**Verdict: do not use it as it is: it has lost reverse (0.0 % against 97.5 % of words).**"
    assert "**Verdict" not in card(tmp_path / "other", 1, monkeypatch)  # it speaks of the winner
    assert "**Verdict" not in card(tmp_path / "several", 0, monkeypatch, 0, 1)  # and there of all of them


@pytest.mark.parametrize(("number", "values"), [(0, [0.95, 0.0, 0.925]), (1, [0.75, 0.95, 0.25])])
def test_the_metadata_has_each_task_by_its_own_metric(tmp_path: Path, monkeypatch, number: int, values) -> None:
    data = ModelCard(card(tmp_path / "run", number, monkeypatch), ignore_metadata_errors=False).data
    found = [
        (one.dataset_type, one.dataset_name, one.dataset_split, one.metric_type, one.metric_value)
        for one in data.eval_results
    ]
    names = ["addition_test", "reverse", "capitals"]  # the first one's test items are those of another lm-eval task
    assert found == [(name, name, "test", "exact_match", value) for name, value in zip(names, values, strict=True)]
