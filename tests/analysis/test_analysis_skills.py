"""Skills one by one: who is best at a task, what a merge has lost, and how much of that can be told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from skill_runs import SPECS, N, add_model, everywhere, new_run, right, three_skills

from evomerge.analysis.advice import advice
from evomerge.analysis.comparison import mcnemar, tango
from evomerge.analysis.skills import own_entries
from evomerge.analysis.verdict import candidate_verdict, with_verdict
from evomerge.evaluation.floor import Floor
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.scripts import number_of
from evomerge.evaluation.task import SCRIPT, Constraint, TaskSpec
from evomerge.record import Choice, Split
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status


def found(run: RunDir) -> dict[str, Any]:
    status = with_verdict(run, run_status(run))
    run.close()
    return status


def by_task(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["task"]: one for one in status["skills"]}


def kinds(status: dict[str, Any]) -> list[str]:
    return [one["kind"] for one in status["warnings"]]


def test_a_sum_that_gains_while_a_skill_is_lost_is_warned_of_first(tmp_path: Path) -> None:
    status = found(three_skills(tmp_path / "run"))
    gain = next(one for one in status["comparisons"] if one["against"] == status["best_parent"])
    assert gain["low"] > 0.3  # the weighted sum alone looks splendid
    assert kinds(status)[0] == "lost_skill"
    assert status["warnings"][0]["text"] == (
        "the best merge has lost reverse: 0.0 % against 97.5 % of words (-97.5 points [-99.6, -80.2] on 40 test items)"
    )
    assert [one["task"] for one in status["skills"] if one["lost"]] == ["reverse"]
    assert status["verdict"] == {
        "use": False,
        "text": "do not use it as it is: it has lost reverse (0.0 % against 97.5 % of words)",
    }


def test_scores_and_differences_are_the_known_ones(tmp_path: Path) -> None:
    status = found(three_skills(tmp_path / "run"))
    lost = by_task(status)["reverse"]
    # Wilson: of 0 of 40, z² / (40 + z²); of 39 of 40, by the formula with z = 1.959964.
    ours = status["best"]["tasks"]["reverse"]["test"]
    assert (ours["mean"], ours["low"], ours["n"]) == (0.0, 0.0, N)
    assert ours["high"] == pytest.approx(3.841459 / 43.841459, abs=1e-6)
    theirs = next(row for row in status["baselines"] if row["name"] == "words")["tasks"]["reverse"]["test"]
    assert (theirs["mean"], theirs["low"], theirs["high"]) == pytest.approx((0.975, 0.871187, 0.995573), abs=1e-6)
    # Only the parent is right on 39 items, only the merge on none.
    assert (lost["low"], lost["high"]) == tango(0, 39, N)
    assert lost["p_value"] == mcnemar(0, 39) == pytest.approx(math.erfc(math.sqrt(39 / 2)))
    assert (lost["difference"], lost["mean"], lost["parent_mean"], lost["kept"]) == (-0.975, 0.0, 0.975, 0.0)
    assert (lost["metric"], lost["direction"], lost["split"], lost["n"]) == ("exact_match", "maximize", "test", N)
    # 38 right against 20: only the merge is right on 18.
    gained = by_task(status)["add"]
    assert (gained["low"], gained["high"]) == tango(18, 0, N) and gained["lost"] is False


def test_every_model_of_a_status_has_its_tasks(tmp_path: Path) -> None:
    status = found(three_skills(tmp_path / "run"))
    rows = [status["best"], *status["baselines"], *status["choice"]["records"]]
    assert all(list(row["tasks"]) == ["add", "reverse", "capitals"] for row in rows)
    assert [row["parent"] for row in status["baselines"]] == [True, True, True, False]
    assert status["choice"]["records"][0]["skills"] == status["skills"]


def test_the_best_parent_is_named_by_the_validation_items_and_compared_on_the_test_items(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    flattered = everywhere(add=20, reverse=20, capitals=20)
    flattered["add"] = {Split.SEARCH: right(40), Split.VALIDATION: right(10), Split.TEST: right(40)}
    add_model(run, -1, "adder", flattered)
    add_model(run, -2, "words", everywhere(add=20, reverse=20, capitals=20))
    add_model(run, 0, "candidate 0", everywhere(add=30, reverse=30, capitals=30))
    run.database.set_choice(Choice("winner", (0,)))
    one = by_task(found(run))["add"]
    assert (one["best_parent"], one["best_parent_by"], one["split"], one["parent_mean"]) == (
        "words",
        "validation",
        "test",
        0.5,
    )


def test_without_validation_items_the_search_items_name_the_best_parent(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    for number, name, n in ((-1, "adder", 10), (-2, "words", 20), (0, "candidate 0", 30)):
        answers = everywhere(add=n, reverse=n, capitals=n)
        add_model(run, number, name, {t: {s: v for s, v in a.items() if s != "validation"} for t, a in answers.items()})
    run.database.set_choice(Choice("winner", (0,)))
    one = by_task(found(run))["add"]
    assert (one["best_parent"], one["best_parent_by"], one["difference"]) == ("words", "search", 0.25)


def test_a_task_without_test_items_is_compared_on_the_validation_items(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    for number, name, n in ((-1, "adder", 30), (0, "candidate 0", 10)):
        answers = everywhere(add=n, reverse=n, capitals=n)
        add_model(run, number, name, {t: {s: v for s, v in a.items() if s != "test"} for t, a in answers.items()})
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    one = by_task(status)["add"]
    assert (one["split"], one["n"], one["lost"]) == ("validation", N, True)
    assert status["best"]["tasks"]["add"]["test"] is None
    assert "on 40 validation items" in status["warnings"][0]["text"]
    assert status["verdict"]["use"] is False


def test_less_of_a_metric_to_minimize_is_a_gain(tmp_path: Path) -> None:
    specs = (
        TaskSpec("t", "acc", filter="none", direction="maximize"),
        TaskSpec("short", "generated_tokens", filter="none", direction="minimize", weight=0.1),
    )
    run = new_run(tmp_path / "run", specs, ("a", "b"))

    def tokens(mean: float) -> dict[str, dict[Split, list[float]]]:
        return {"short": dict.fromkeys(Split, [mean - 1.0, mean + 1.0] * 10), "t": dict.fromkeys(Split, right(20))}

    add_model(run, -1, "a", tokens(10.0), specs)
    add_model(run, -2, "b", tokens(12.0), specs)
    add_model(run, 0, "candidate 0", tokens(15.0), specs)
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    one = by_task(status)["short"]
    assert (one["best_parent"], one["mean"], one["parent_mean"]) == ("a", 15.0, 10.0)
    assert (one["difference"], one["share"], one["kept"], one["lost"]) == (-5.0, False, None, True)
    assert status["warnings"][0]["text"].startswith("the best merge is worse at short: 15 against 10 of a (-5 [-")
    assert "less is better, on 20 test items" in status["warnings"][0]["text"]


def test_items_that_are_not_judged_or_not_asked_count_for_nobody(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    parent, merge = everywhere(add=20, reverse=20, capitals=20), everywhere(add=20, reverse=20, capitals=20)
    parent["add"] = dict.fromkeys(Split, [1.0] * 30)  # ten items fewer
    merge["add"] = dict.fromkeys(Split, [None] * 10 + [1.0] * 5 + [0.0] * 15 + [1.0] * 10)
    merge["reverse"] = {**merge["reverse"], Split.TEST: [None] * 39 + [1.0]}
    add_model(run, -1, "adder", parent)
    add_model(run, 0, "candidate 0", merge)
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    one = by_task(status)["add"]
    assert (one["n"], one["mean"], one["parent_mean"]) == (20, 0.25, 1.0)
    assert (one["low"], one["high"]) == tango(0, 15, 20)
    assert status["best"]["tasks"]["add"]["test"]["n"] == 30
    assert by_task(status)["reverse"]["n"] == 1


def test_a_parent_without_answers_leaves_a_skill_unknown(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    answers = everywhere(add=30, reverse=30, capitals=30)
    add_model(run, -1, "adder", {t: {s: v for s, v in a.items() if s != "test"} for t, a in answers.items()})
    add_model(run, 0, "candidate 0", answers)
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    one = by_task(status)["add"]
    assert (one["best_parent"], one["n"], one["difference"], one["lost"]) == ("adder", 0, None, None)
    assert status["verdict"] == {
        "use": None,
        "text": "it is not compared with adder (the best parent), which has no test score",
    }


def test_what_cannot_be_told_from_the_items_is_one_sentence_and_no_loss(tmp_path: Path) -> None:
    few = {"add": [1.0] * 30 + [0.0] * 10, "reverse": right(36), "capitals": right(40)}
    winner = {task: dict.fromkeys(Split, values) for task, values in few.items()}
    winner["reverse"][Split.TEST] = [0.0] * 6 + [1.0] * 34  # behind on five items, ahead on none that matter
    status = found(three_skills(tmp_path / "run", winner))
    assert [one["lost"] for one in status["skills"]] == [False, False, False] or "lost_skill" in kinds(status)
    texts = [one["text"] for one in status["warnings"] if "too few test items to exclude" in one["text"]]
    assert len(texts) == 1 and "10 points of a skill are lost: reverse (-12.5 points" in texts[0]


def test_a_merge_that_keeps_all_skills_and_gains_is_to_be_used(tmp_path: Path) -> None:
    status = found(three_skills(tmp_path / "run", everywhere(add=38, reverse=40, capitals=37)))
    assert "lost_skill" not in kinds(status)
    assert status["verdict"]["use"] is True
    assert (
        status["verdict"]["text"].startswith("use it: +")
        and "no skill of a parent is lost" in status["verdict"]["text"]
    )


def test_what_a_floor_allows_to_be_lost_is_told_and_does_not_speak_against_the_merge(tmp_path: Path) -> None:
    floored = [SPECS[0], *(replace(spec, floor=Floor(absolute=0.5)) for spec in SPECS[1:])]
    run = new_run(tmp_path / "run", floored)
    add_model(run, -1, "adder", everywhere(add=20, reverse=0, capitals=20), floored)
    add_model(run, -2, "words", everywhere(add=0, reverse=39, capitals=20), floored)
    add_model(run, 0, "candidate 0", everywhere(add=40, reverse=28, capitals=30), floored)
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    assert [one["floor"] for one in status["skills"]] == [False, True, True]
    assert status["skills"][1]["lost"] and kinds(status)[0] == "lost_skill"
    assert status["verdict"]["use"] is None
    text = "look at reverse first, where it is behind a parent within your floor (70.0 % against 97.5 % of words); on "
    assert status["verdict"]["text"].startswith(text)


def test_a_gain_within_the_noise_is_neither_for_nor_against(tmp_path: Path) -> None:
    status = found(three_skills(tmp_path / "run", everywhere(add=3, reverse=39, capitals=4)))
    # Level with words in all but one item; capitals of caps are lost, which is what counts.
    assert status["verdict"]["use"] is False and "capitals (10.0 % against 90.0 % of caps)" in status["verdict"]["text"]
    run = new_run(tmp_path / "level", parents=("words",))
    add_model(run, -2, "words", everywhere(add=20, reverse=39, capitals=20))
    add_model(run, 0, "candidate 0", everywhere(add=21, reverse=39, capitals=20))
    run.database.set_choice(Choice("winner", (0,)))
    verdict = found(run)["verdict"]
    assert verdict["use"] is None
    assert verdict["text"].startswith("no gain over words (the best parent) that the 120 test items could show: +")


def test_a_front_says_which_of_its_merges_lost_what(tmp_path: Path) -> None:
    specs = tuple(
        TaskSpec(one.name, one.metric, filter="none", direction="maximize", objective=one.name) for one in SPECS
    )
    run = new_run(tmp_path / "run", specs)
    add_model(run, -1, "adder", everywhere(add=20, reverse=2, capitals=4), specs)
    add_model(run, -2, "words", everywhere(add=2, reverse=39, capitals=4), specs)
    add_model(run, -3, "caps", everywhere(add=4, reverse=0, capitals=36), specs)
    add_model(run, 0, "candidate 0", everywhere(add=38, reverse=0, capitals=37), specs)
    add_model(run, 1, "candidate 1", everywhere(add=25, reverse=38, capitals=36), specs)
    add_model(run, 2, "candidate 2", everywhere(add=30, reverse=25, capitals=38), specs)
    run.database.set_choice(Choice("front", (1, 0, 2)))
    other, status = run.database.record(0), with_verdict(run, run_status(run))
    rows = {row["name"]: [one["task"] for one in row["skills"] if one["lost"]] for row in status["choice"]["records"]}
    assert rows == {"candidate 1": [], "candidate 0": ["reverse"], "candidate 2": ["reverse"]}
    (said,) = [one["text"] for one in status["warnings"] if one["kind"] == "lost_skill"]
    assert said == (
        "2 of the 3 merges of the front have lost reverse: candidate 0 (0.0 % against 97.5 % of words), candidate 2 "
        "(62.5 % against 97.5 % of words)"
    )
    assert status["verdict"] == {
        "use": None,
        "text": "choose among the 3 merges of the front: candidate 1 keeps every skill of the parents, though the "
        "items of reverse are too few to be sure; 2 have lost a skill of a parent or are worse at it: reverse (2)",
    }
    assert other is not None
    own = candidate_verdict(run, run_status(run), other, who="this model")
    assert [one["text"] for one in own["warnings"] if one["kind"] == "lost_skill"] == [
        "this model has lost reverse: 0.0 % against 97.5 % of words (-97.5 points [-99.6, -80.2] on 40 test items)"
    ]
    run.close()


@pytest.mark.parametrize(
    ("merges", "use", "text"),
    [
        (
            [(38, 40, 37), (38, 34, 37), (38, 0, 37), (38, 0, 4)],
            None,
            "choose among the 4 merges of the front: candidate 0 (better at add: 95.0 % against 50.0 % of adder) keeps "
            "every skill of the parents; candidate 1 is behind a parent at reverse, which may be chance; 2 have lost a "
            "skill of a parent or are worse at it: reverse (2), capitals (1)",
        ),
        (
            [(38, 34, 37), (2, 39, 36)],
            None,
            "choose among the 2 merges of the front: candidate 0 is behind a parent at reverse, which may be chance; 1 "
            "has lost a skill of a parent or is worse at it: add",
        ),
        (
            [(38, 0, 37), (2, 0, 36)],
            False,
            "each of the 2 merges of the front has lost a skill of a parent or is worse at it: reverse (2), add (1)",
        ),
        (
            [(38, 40, 37), (30, 40, 38)],
            None,
            "choose among the 2 merges of the front: none of them is seen to have lost a skill of a parent",
        ),
    ],
)
def test_the_verdict_of_a_front_names_the_merges_that_keep_every_skill(
    tmp_path: Path, merges: list[tuple[int, int, int]], use: bool | None, text: str
) -> None:
    run = new_run(tmp_path / "run")
    add_model(run, -1, "adder", everywhere(add=20, reverse=2, capitals=4))
    add_model(run, -2, "words", everywhere(add=2, reverse=39, capitals=4))
    add_model(run, -3, "caps", everywhere(add=4, reverse=0, capitals=36))
    for number, (add, reverse, capitals) in enumerate(merges):
        add_model(run, number, f"candidate {number}", everywhere(add=add, reverse=reverse, capitals=capitals))
    run.database.set_choice(Choice("front", tuple(range(len(merges)))))
    assert found(run)["verdict"] == {"use": use, "text": text}


@pytest.mark.parametrize("lost", [2, 30])
def test_many_tasks_stay_readable(tmp_path: Path, lost: int) -> None:
    names = [f"subject_{i:02}" for i in range(57)]
    specs = tuple(TaskSpec(name, "acc", filter="none", direction="maximize") for name in names)
    run = new_run(tmp_path / "run", specs, ("a", "b"))

    def answers(*n_right: int) -> dict[str, dict[Split, list[float]]]:
        return {name: dict.fromkeys(Split, right(n, 20)) for name, n in zip(names, n_right, strict=True)}

    add_model(run, -1, "a", answers(*[15] * 57), specs)
    add_model(run, -2, "b", answers(*[5] * 57), specs)
    add_model(run, 0, "candidate 0", answers(*[3] * lost, *[18] * (57 - lost)), specs)
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    said = [one["text"] for one in status["warnings"] if one["kind"] == "lost_skill"]
    assert "of 57 tasks, 1.4 are called worse by chance" in said[-1]
    assert sum("has lost subject_" in text for text in said) == min(lost, 5)
    if lost == 30:
        assert said[-1].startswith("and 25 more: subject_05, subject_06") and "and 17 more" in said[-1]
        assert len(said) == 6 and len(said[-1]) < 300
    assert status["verdict"]["use"] is False and len(status["verdict"]["text"]) < 300


def test_one_loss_among_many_tasks_may_be_chance_and_does_not_decide(tmp_path: Path) -> None:
    names = [f"subject_{i:02}" for i in range(30)]
    specs = tuple(TaskSpec(name, "acc", filter="none", direction="maximize") for name in names)
    run = new_run(tmp_path / "run", specs, ("a",))
    base = {name: dict.fromkeys(Split, right(20)) for name in names}
    add_model(run, -1, "a", base, specs)
    # Behind on six items of one task: p = 0.014, while one of 30 such p-values is below 0.033 by chance alone.
    merge = {**{name: dict.fromkeys(Split, right(34)) for name in names}, names[3]: dict.fromkeys(Split, right(14))}
    add_model(run, 0, "candidate 0", merge, specs)
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    assert by_task(status)[names[3]]["p_value"] == pytest.approx(mcnemar(0, 6))
    assert kinds(status)[0] == "lost_skill"
    assert status["verdict"]["use"] is None and "look at subject_03 first" in status["verdict"]["text"]


def test_an_objective_that_is_one_skill_is_not_called_lost_and_behind_at_once(tmp_path: Path) -> None:
    specs = SPECS[:1]
    run = new_run(tmp_path / "run", specs, ("adder",))
    add_model(run, -1, "adder", everywhere(add=35), specs)
    add_model(run, -2, "average", everywhere(add=30), specs)
    add_model(run, 0, "candidate 0", everywhere(add=20), specs)
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    texts = [one["text"] for one in status["warnings"]]
    assert sum("adder" in text and "on the validation" not in text for text in texts) == 1
    assert any(text.startswith("the best merge is worse than average") for text in texts)
    assert status["verdict"]["text"].count("adder") == 1


def test_the_metric_of_a_task_is_its_first_with_a_weight_and_tokens_are_no_skill() -> None:
    def spec(metric: str, weight: float = 1.0, constraint: Constraint | None = None) -> TaskSpec:
        direction: Any = "minimize" if metric == "generated_tokens" else "maximize"
        return TaskSpec("t", metric, filter="none", direction=direction, weight=weight, constraint=constraint)

    limit = Constraint(min=0.5)
    entry = {
        "first": [spec("acc"), spec("f")],
        "weighed": [spec("acc", 0.0), spec("f")],
        "no tokens": [spec("generated_tokens"), spec("acc")],
        "only tokens": [spec("generated_tokens"), spec("acc", 0.0, limit)],
    }
    assert {name: own_entries(Objectives(one))["t"].metric for name, one in entry.items()} == {
        "first": "acc",
        "weighed": "f",
        "no tokens": "acc",
        "only tokens": "generated_tokens",
    }


def test_what_else_the_items_have_is_a_measure(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", SPECS[:1], ("adder",))
    more = {"add": {"empty_answers": 0.25, "generated_tokens": 12.0, "exact_match,loose": 0.5}}
    add_model(run, -1, "adder", everywhere(add=20), SPECS[:1], more)
    status = found(run)
    assert status["baselines"][0]["tasks"]["add"]["measures"] == more["add"]
    assert status["skills"] == [] and status["verdict"] == {"use": None, "text": "no merge is chosen yet"}


def test_of_equal_parents_the_first_is_the_best(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", SPECS[:1])
    add_model(run, -1, "adder", everywhere(add=20), SPECS[:1])
    add_model(run, -2, "words", everywhere(add=20), SPECS[:1])
    add_model(run, 0, "candidate 0", everywhere(add=20), SPECS[:1])
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    assert (status["skills"][0]["best_parent"], status["best_parent"]) == ("adder", "adder")


def test_answers_in_another_script_than_the_parents_are_a_measure(tmp_path: Path) -> None:
    latin, cyrillic = number_of("LATIN"), number_of("CYRILLIC")
    run = new_run(tmp_path / "run", SPECS[:1], ("adder",))
    add_model(run, -1, "adder", everywhere(add=20), SPECS[:1], {"add": {SCRIPT: latin}})
    add_model(run, 0, "candidate 0", everywhere(add=20), SPECS[:1], {"add": {SCRIPT: cyrillic}})
    run.database.set_choice(Choice("winner", (0,)))
    status = found(run)
    assert status["best"]["tasks"]["add"]["measures"] == {"foreign_script": 1.0}
    assert status["baselines"][0]["tasks"]["add"]["measures"] == {"foreign_script": 0.0}


def test_a_gain_that_is_in_doubt_says_which_note_to_read(tmp_path: Path) -> None:
    status = found(three_skills(tmp_path / "run", everywhere(add=38, reverse=40, capitals=37)))
    status["warnings"] = [
        {"kind": kind, "text": ""} for kind in ("cut_answers", "cut_answers", "noise", "public_items")
    ]
    verdict = advice(status)
    assert verdict["use"] is True
    assert verdict["text"].endswith("; but read the note on cut answers and the public test set")
