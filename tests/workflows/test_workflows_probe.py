"""Before the baselines it is said whose answers are cut or empty, and how long the search takes; no record changes."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from evomerge import api
from evomerge.analysis.cautions import SAID, cautions
from evomerge.analysis.probed_answers import probed_cautions
from evomerge.errors import CheckpointError
from evomerge.record import ItemScore
from evomerge.workflows import probe as probing
from evomerge.workflows.probe import ProbeFindings
from tests.tiny_search import composed, write_tiny

LONG = ("budget.candidates=60", "evaluation.split={search:12,validation:4,test:4}")


def answers(task: str, **metrics: list[float]) -> list[ItemScore]:
    n = len(next(iter(metrics.values())))
    return [ItemScore(task, i, {name: values[i] for name, values in metrics.items()}) for i in range(n)]


def generating(folder: Path) -> Path:
    """The tiny search with a task whose answers are cut: the models never say what ends them."""
    file = write_tiny(folder)
    text = (folder / "tasks" / "tiny.yaml").read_text()
    choice = 'output_type: multiple_choice\ndoc_to_text: "{{q}} ="\ndoc_to_choice: "{{c}}"\ndoc_to_target: "{{a}}"\n'
    assert choice in text
    text = text.replace(
        choice,
        'output_type: generate_until\ndoc_to_text: "{{q}} ="\ndoc_to_target: "{{c[a]}}"\n'
        'generation_kwargs: {until: ["@@@"], max_gen_toks: 6}\n',
    ).replace("{metric: acc}", "{metric: exact_match, aggregation: mean, higher_is_better: true}")
    (folder / "tasks" / "tiny.yaml").write_text(text)
    file.write_text(file.read_text().replace("metric: acc", "metric: exact_match"))
    return file


def test_answers_that_are_mostly_cut_are_told_with_the_length_and_the_remedy() -> None:
    scores = {
        "thinker": answers("gsm8k", cut_answers=[1.0] * 8, generated_tokens=[256.0] * 8, empty_answers=[0.0] * 8),
        "math": answers("gsm8k", cut_answers=[1.0] * 3 + [0.0] * 5, generated_tokens=[256.0] * 8),
    }
    (caution,) = probed_cautions(scores)
    assert caution.kind == "parent_answers"
    assert caution.text.startswith("probe answers were cut: 8 of 8 of thinker to gsm8k at 256 tokens. Where the ")
    assert "max_gen_toks" in caution.text and "enable_thinking: false" in caution.text


def test_empty_answers_are_told_and_answers_of_another_kind_are_not() -> None:
    scores = {"mute": answers("gsm8k", cut_answers=[0.0] * 4, empty_answers=[1.0, 1.0, 0.0, 1.0])}
    (caution,) = probed_cautions(scores, what="answers")
    assert caution.kind == "parent_answers"
    assert caution.text.startswith("answers are empty: 3 of 4 of mute to gsm8k. ")
    assert not list(probed_cautions({"a": answers("arc", acc=[0.0] * 4)}))
    assert not list(probed_cautions({}))


def test_a_search_says_before_the_baselines_that_answers_are_cut_and_when_it_ends(tmp_path: Path) -> None:
    notes: list[str] = []
    run = api.search(composed(generating(tmp_path), *LONG), run_dir=tmp_path / "run", note=notes.append)
    log = (run.path / "run.log").read_text()
    cut = next(note for note in notes if note.startswith("warning: probe answers were cut: "))
    assert "of a" in cut and " to tiny at 6 tokens" in cut
    plan = next(note for note in notes if note.startswith("plan: a candidate takes about "))
    assert "so 60 take about" in plan and "ends about" in plan
    assert log.index("probe answers were cut") < log.index("baselines: 3 candidates")
    with sqlite3.connect(run.path / "run.sqlite") as database:
        (text,) = database.execute("SELECT value FROM meta WHERE key = ?", (SAID,)).fetchone()
    said = cautions({**run.status(), "degeneration": [], "said": json.loads(text)})
    assert any("probe answers" in one.text for one in said)  # what a search that goes on shows
    notes.clear()
    api.resume(run.path, budget={"candidates": 62}, note=notes.append)
    assert not any("probe answers" in note or note.startswith("plan:") for note in notes)
    texts = [one["text"] for one in run.status()["warnings"]]
    assert not any("probe answers" in text for text in texts)  # the answers to all items say it better
    assert any(text.startswith("the limit of tokens cut 100.0 % of the best merge's answers") for text in texts)


def test_a_search_too_short_for_a_probe_says_it_after_the_baselines(tmp_path: Path) -> None:
    notes: list[str] = []
    api.search(composed(generating(tmp_path), "budget.candidates=2"), run_dir=tmp_path / "run", note=notes.append)
    assert any("answers were cut: 6 of 6 of a" in note and " to tiny at 6 tokens" in note for note in notes)
    assert not any("probe" in note or note.startswith("plan:") for note in notes)


def rows(path: Path) -> list[Any]:
    with sqlite3.connect(path / "run.sqlite") as database:
        scores = database.execute("SELECT * FROM item_scores ORDER BY candidate, split, id").fetchall()
    found = [json.dumps(record.to_data()) for record in api.records(path, baselines=True)]
    return [found, [row[1:] for row in scores]]


def test_records_are_the_same_with_and_without_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = composed(generating(tmp_path), *LONG)
    probed: list[int] = []
    probe = probing.probe
    monkeypatch.setattr(probing, "probe", lambda *rest, **more: probed.append(1) or probe(*rest, **more))
    api.search(data, run_dir=tmp_path / "with")
    monkeypatch.setattr("evomerge.workflows.search.probe_parents", lambda *_: ProbeFindings())
    api.search(data, run_dir=tmp_path / "without")
    assert probed == [1]
    assert rows(tmp_path / "with") == rows(tmp_path / "without")


def test_a_parent_with_broken_weights_ends_the_search_at_once_with_the_error_of_a_baseline(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = write_tiny(tmp_path)
    path = tmp_path / "models" / "b" / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if weights[name].dim() == 2)
    weights[name][0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    notes: list[str] = []
    with pytest.raises(CheckpointError, match="baseline 'b' cannot be built: "):
        api.search(composed(file, *LONG), run_dir=tmp_path / "run", note=notes.append)
    assert not api.records(tmp_path / "run", baselines=True)


def test_a_profile_says_how_long_the_search_would_take(tmp_path: Path) -> None:
    found = api.profile(composed(write_tiny(tmp_path), *LONG), candidates=1)
    plan, seconds = found["plan"], found["stages"][0]["seconds"]
    assert plan["candidates"] == 60
    assert plan["candidate_seconds"] == pytest.approx(seconds["total"])
    assert plan["search_seconds"] == pytest.approx(60 * seconds["total"])
    assert plan["merge_share"] == pytest.approx(seconds["merge"] / seconds["total"])
    assert plan["text"].startswith("plan: a candidate takes about ")
