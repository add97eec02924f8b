"""What is said of answers that degenerate, on records made for the purpose."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evomerge.analysis.cautions import SAID
from evomerge.analysis.comparison import mcnemar, tango
from evomerge.analysis.degeneration import Degeneration, cut_prompts_of_baselines
from evomerge.analysis.skills import Skills
from evomerge.analysis.verdict import OBJECTIVE, candidate_verdict, objective_of, with_verdict
from evomerge.cli.degeneration_table import MOST, degeneration_table
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.scripts import NO_SCRIPT, number_of
from evomerge.evaluation.task import FOREIGN_SCRIPT, SCRIPT, Constraint, TaskSpec
from evomerge.export.model_card import model_card
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Caution, Choice, ItemScore, Record, Score, Split, State
from evomerge.store import RunDir
from evomerge.store.status import run_status

N = 40
SPEC = TaskSpec("gsm8k", "exact_match", filter="none", direction="maximize")
PARENTS = {"math": "org/math", "code": "org/code"}
PLACES = {Split.SEARCH: 0, Split.VALIDATION: 1000, Split.TEST: 2000}


def add(
    run: RunDir,
    number: int,
    name: str,
    *,
    right: int,
    scripts: Sequence[str | None] = (),
    splits: Sequence[Split] = tuple(Split),
    specs: Sequence[TaskSpec] = (SPEC,),
    **counts: int,
) -> None:
    """Add a model whose first so many of 40 answers, on each split, are right and have each measure."""
    measures = ("cut_answers", "empty_answers", "repetitive_answers", "cut_prompts")
    scores: dict[Split, list[ItemScore]] = {}
    for split in splits:
        for spec in specs:
            for i in range(N):
                own = {measure: float(i < counts.get(measure, 0)) for measure in measures}
                script = scripts[i % len(scripts)] if scripts else "LATIN"
                note = {SCRIPT: NO_SCRIPT if script is None else number_of(script)}
                metrics = {"exact_match": float(i < right), "generated_tokens": 10.0 + i, **own, **note}
                scores.setdefault(split, []).append(ItemScore(spec.name, PLACES[split] + i, metrics))
    objectives = Objectives(specs)
    recipe = Recipe("linear", (Parent("p", ModelSource("org/p")),), parameters={"weight": number + 99.0})
    record = Record(
        number,
        name,
        State.COMPLETE,
        recipe,
        fitness=right / N,
        scores={split: objectives.score(items) for split, items in scores.items()},
        result=objectives.result(scores[Split.SEARCH]),
    )
    run.database.add(record, scores=scores)


def new_run(folder: Path, specs: Sequence[TaskSpec] = (SPEC,)) -> RunDir:
    run = RunDir.create(folder, config={"name": "x", "models": {"parents": PARENTS}})
    run.database.set_meta(OBJECTIVE, [spec.to_data() for spec in specs])
    run.database.set_meta("state", "complete")
    return run


def finished(folder: Path, specs: Sequence[TaskSpec] = (SPEC,), **winner: Any) -> dict[str, Any]:
    """Return the status of a run whose parents are fine, but for one answer of math that loops."""
    with new_run(folder, specs) as run:
        add(run, -1, "math", right=20, repetitive_answers=1, specs=specs)
        add(run, -2, "code", right=8, repetitive_answers=39, scripts=["LATIN", None], specs=specs)
        add(run, -3, "average", right=15, scripts=["CHINESE"], specs=specs)
        add(run, 0, "candidate 0", **{"right": 30, "specs": specs, **winner})
        run.database.set_choice(Choice("winner", (0,)))
        return with_verdict(run, run_status(run))


def row(status: dict[str, Any], measure: str) -> dict[str, Any]:
    return next(one for one in status["degeneration"] if one["measure"] == measure)


def said(status: dict[str, Any], kind: str) -> list[str]:
    return [one["text"] for one in status["warnings"] if one["kind"] == kind]


def test_a_merge_that_loops_is_warned_of_by_name_although_another_parent_loops_more(tmp_path: Path) -> None:
    status = finished(tmp_path / "run", repetitive_answers=16)
    low, high = tango(15, 0, N)
    assert row(status, "repetitive_answers") == {
        "task": "gsm8k",
        "measure": "repetitive_answers",
        "best": 0.4,
        "parent": 0.025,
        "against": "math",
        "difference": 0.375,
        "low": low,
        "high": high,
        "p_value": mcnemar(15, 0),
        "n": N,
        "split": "test",
        "share": True,
    }
    assert said(status, "degenerate") == [
        "the best merge's answers to gsm8k loop: 40.0 % repeat themselves, 2.5 % of math's "
        f"(+37.5 points [{100 * low:.1f}, {100 * high:.1f}] on 40 test items)"
    ]
    assert status["warnings"][0]["kind"] == "degenerate"
    assert status["choice"]["records"][0]["degeneration"] == status["degeneration"]
    assert status["verdict"]["use"] is False
    assert status["verdict"]["text"] == f"do not use it as it is: {said(status, 'degenerate')[0]}"


def test_of_many_tasks_some_answers_are_called_degenerate_by_chance_which_does_not_decide(tmp_path: Path) -> None:
    # Seven answers more that loop: p = 0.008, which is beyond chance for three measures of one task, not for 60 of 20.
    many = tuple(replace(SPEC, name=f"gsm8k_{i}" if i else "gsm8k") for i in range(20))
    for specs, use in (((SPEC,), False), (many, None)):
        status = finished(tmp_path / str(len(specs)), specs=specs, right=40, repetitive_answers=8)
        assert row(status, "repetitive_answers")["p_value"] == mcnemar(7, 0)
        assert said(status, "degenerate")
        assert status["verdict"]["use"] is use


def test_answers_that_may_be_degenerate_are_to_be_looked_at(tmp_path: Path) -> None:
    verdict = finished(tmp_path / "run", right=40, repetitive_answers=6)["verdict"]
    assert verdict["use"] is None
    assert verdict["text"].startswith("look at its answers to gsm8k first, which may be degenerate; on the whole it ")


def test_what_the_parents_did_before_the_search_is_no_verdict_on_the_merge(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        add(run, -1, "math", right=20)
        add(run, -2, "code", right=8)
        add(run, 0, "candidate 0", right=40)
        run.database.set_choice(Choice("winner", (0,)))
        run.database.set_meta(SAID, [Caution("degenerate", "probe answers to gsm8k are empty").to_data()])
        status = with_verdict(run, run_status(run))
    assert said(status, "degenerate") == ["probe answers to gsm8k are empty"]
    assert status["verdict"]["use"] is True


@pytest.mark.parametrize(
    ("loops", "use", "text"),
    [
        ((0, 16, 0), None, " keep every skill of the parents; 1 gives degenerate answers"),
        (
            (20, 16, 0),
            None,
            "front: candidate 2 (better at gsm8k: 80.0 % against 50.0 % of math) keeps every skill of ",
        ),
        ((20, 16, 0), None, "; 2 give degenerate answers"),
        ((20, 16, 9), False, "each of the 3 merges of the front gives degenerate answers"),
        ((0, 0, 5), None, "none of them is seen"),
    ],
)
def test_a_front_says_how_many_of_its_merges_answer_as_their_parents_do(
    tmp_path: Path, loops: tuple[int, int, int], use: bool | None, text: str
) -> None:
    with new_run(tmp_path / "run") as run:
        add(run, -1, "math", right=20)
        add(run, -2, "code", right=8)
        for i, n in enumerate(loops):
            add(run, i, f"candidate {i}", right=30 + i, repetitive_answers=n)
        run.database.set_choice(Choice("front", (2, 1, 0)))
        verdict = with_verdict(run, run_status(run))["verdict"]
    assert verdict["use"] is use and text in verdict["text"]


@pytest.mark.parametrize(
    ("winner", "kind", "text"),
    [
        ({"empty_answers": 20}, "degenerate", "gsm8k are empty: 50.0 % say nothing, 0.0 % of math's (+50.0 points ["),
        (
            {"scripts": ["CYRILLIC", "LATIN"]},
            "degenerate",
            "gsm8k are in another script: 50.0 % are in a script in which no parent answered, 0.0 % of math's (+50.0",
        ),
        (
            {"cut_answers": 20},
            "cut_answers",
            "gsm8k do not end: 50.0 % were cut by the limit of tokens, 0.0 % of math's (+50.0 points [",
        ),
    ],
)
def test_other_ways_to_fail_are_named(tmp_path: Path, winner: dict[str, Any], kind: str, text: str) -> None:
    status = finished(tmp_path / "run", **winner)
    kinds = [one["kind"] for one in status["warnings"] if one["kind"] in ("degenerate", "cut_answers")]
    assert kinds == [kind]
    assert said(status, kind)[0].startswith(f"the best merge's answers to {text}")


def test_what_is_within_the_interval_is_no_warning(tmp_path: Path) -> None:
    status = finished(tmp_path / "run", repetitive_answers=3, empty_answers=1, cut_answers=2)
    assert row(status, "repetitive_answers")["low"] <= 0 < row(status, "repetitive_answers")["difference"]
    assert not said(status, "degenerate") and not said(status, "cut_answers")
    assert not [one for one in status["degeneration"] if one["measure"] == "generated_tokens" and one["share"]]


def test_the_average_says_nothing_of_scripts_and_answers_without_letters_are_never_foreign(tmp_path: Path) -> None:
    status = finished(tmp_path / "run", scripts=["CHINESE", None])
    assert row(status, "foreign_script")["best"] == 0.5
    measures = {one["name"]: one["tasks"]["gsm8k"]["measures"]["foreign_script"] for one in status["baselines"]}
    assert measures == {"math": 0.0, "code": 0.0, "average": 1.0}
    assert status["best"]["tasks"]["gsm8k"]["measures"]["foreign_script"] == 0.5


def test_scores_of_answers_that_the_limit_cuts_for_all_are_called_that(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        add(run, -1, "math", right=20, cut_answers=5)
        add(run, -2, "code", right=8)
        add(run, 0, "candidate 0", right=30, cut_answers=6)
        run.database.set_choice(Choice("winner", (0,)))
        status = with_verdict(run, run_status(run))
    (text,) = said(status, "cut_answers")
    assert text.startswith("the limit of tokens cut 15.0 % of the best merge's answers to gsm8k and 12.5 % of math's (")
    assert "max_gen_toks" in text


def with_parent(folder: Path, *, right: int, **parent: int) -> dict[str, Any]:
    """Return the status of a run with a best parent that is fine and another one with 40 answers as given."""
    with new_run(folder) as run:
        add(run, -1, "math", right=20)
        add(run, -2, "code", right=right, **parent)
        add(run, 0, "candidate 0", right=36)
        run.database.set_choice(Choice("winner", (0,)))
        probed = Caution("parent_answers", "probe answers were cut: 8 of 8 of code to gsm8k at 9 tokens")
        run.database.set_meta(SAID, [probed.to_data()])
        return with_verdict(run, run_status(run))


def test_a_parent_whose_answers_are_all_cut_may_be_better_than_its_score_says(tmp_path: Path) -> None:
    status = with_parent(tmp_path / "run", right=0, cut_answers=N)
    expected = {"task": "gsm8k", "parent": "code", "measure": "cut_answers", "mean": 1.0, "n": N, "split": "test"}
    assert status["parent_answers"] == [expected]
    (text,) = said(status, "parent_answers")  # in place of what the probe said
    assert text.startswith("100.0 % of code's answers to gsm8k were cut by the limit of tokens (40 test items), so it")
    assert status["verdict"]["use"] is True
    assert status["verdict"]["text"].endswith("; but read the note on a parent's answers")


@pytest.mark.parametrize(
    ("parent", "doubt"),
    [
        ({"right": 0, "cut_answers": 20}, False),  # the other 20 are wrong
        ({"right": 40, "cut_answers": 20}, True),  # the other 20 are right
        ({"right": 0, "cut_answers": 38}, False),  # two wrong ones: at most 66 %, 90 % has the merge
        ({"right": 40, "cut_answers": 19}, False),  # less than half of them
        ({"right": 0, "empty_answers": 40}, True),
    ],
)
def test_answers_that_ended_say_whether_the_cut_ones_may_hide_a_better_parent(
    tmp_path: Path, parent: dict[str, int], doubt: bool
) -> None:
    status = with_parent(tmp_path / "run", **parent)
    assert bool(status["parent_answers"]) is doubt
    assert bool(said(status, "parent_answers")) is doubt
    if not parent["right"]:
        assert status["verdict"]["use"] is True  # a parent that says nothing does not speak against the merge


def test_where_the_merge_is_cut_as_well_that_is_said_once(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        add(run, -1, "math", right=0, cut_answers=N)
        add(run, -2, "code", right=0, cut_answers=N)
        add(run, 0, "candidate 0", right=36, cut_answers=N)
        run.database.set_choice(Choice("winner", (0,)))
        status = with_verdict(run, run_status(run))
    assert len(said(status, "cut_answers")) == 1 and not said(status, "parent_answers")


def test_tokens_have_one_digit_after_the_point(tmp_path: Path) -> None:
    line = next(one for one in shown(finished(tmp_path / "run"), 150).splitlines() if " tokens " in one)
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells[2:6] == ["29.5", "29.5", "29.5", "29.5"] and cells[7] == "+0.0 [-6.8, 6.8]"


def test_prompts_that_were_cut_are_counted_by_model(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        add(run, -1, "math", right=20, cut_prompts=7)
        add(run, -2, "code", right=8, cut_prompts=0)
        add(run, 0, "candidate 0", right=30, cut_prompts=7)
        run.database.set_choice(Choice("winner", (0,)))
        status = with_verdict(run, run_status(run))
        (early,) = cut_prompts_of_baselines(run.database)
    assert status["cut_prompts"] == [
        {"task": "gsm8k", "split": "test", "models": ["math"], "best": True, "cut": 7, "n": N}
    ]
    (text,) = said(status, "cut_answers")
    assert text.startswith(
        "7 of 40 test prompts of gsm8k were too long for math, the best merge, and lost their beginn"
    )
    assert (
        early.startswith("7 of 40 search prompts of gsm8k were too long for math, and lost") and "num_fewshot" in text
    )


def test_without_test_items_the_validation_items_say_it(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        for number, name, more in ((-1, "math", {}), (-2, "code", {}), (0, "candidate 0", {"empty_answers": 30})):
            add(run, number, name, right=20, splits=(Split.SEARCH, Split.VALIDATION), **more)
        run.database.set_choice(Choice("winner", (0,)))
        status = with_verdict(run, run_status(run))
        other = candidate_verdict(run, run_status(run), run.database.record(0), who="candidate 0")  # type: ignore[arg-type]
    assert row(status, "empty_answers")["split"] == "validation"
    assert "on 40 validation items" in said(status, "degenerate")[0]
    assert said(other, "degenerate")[0].startswith("candidate 0's answers to gsm8k are empty: 75.0 %")


def test_merges_of_a_front_are_named_each(tmp_path: Path) -> None:
    with new_run(tmp_path / "run") as run:
        add(run, -1, "math", right=20)
        add(run, -2, "code", right=8)
        for number, loops in enumerate((0, 16, 30)):
            add(run, number, f"candidate {number}", right=30, repetitive_answers=loops)
        run.database.set_choice(Choice("front", (0, 1, 2)))
        status = with_verdict(run, run_status(run))
    assert said(status, "degenerate") == [
        "answers to gsm8k loop with 2 of the 3 merges of the front: candidate 1 (40.0 %, 0.0 % of math's), "
        "candidate 2 (75.0 %, 0.0 % of math's) repeat themselves"
    ]


def test_of_many_tasks_the_worst_have_a_sentence_and_the_others_are_named(tmp_path: Path) -> None:
    specs = [TaskSpec(f"t{i}", "exact_match", filter="none", direction="maximize") for i in range(9)]
    status = finished(tmp_path / "run", specs, repetitive_answers=16)
    texts = said(status, "degenerate")
    assert len(texts) == 6
    assert texts[-1] == "and likewise in 4 more cases, of t5, t6, t7, t8"


def shown(status: dict[str, Any], width: int) -> str:
    table = degeneration_table(status, width)
    assert table is not None
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_table_shows_what_is_not_zero_beside_the_parents(tmp_path: Path) -> None:
    status = finished(tmp_path / "run", repetitive_answers=16)
    text = shown(status, 150)
    assert "answers to 40 test items each" in text
    (line,) = [one for one in text.splitlines() if "repetitive" in one]
    cells = [cell.strip() for cell in line.strip("│ ").split("│")]
    assert cells[:8] == ["gsm8k", "repetitive", "40.0 % more", "2.5 %", "97.5 %", "0.0 %", "math", cells[7]]
    assert cells[7].startswith("+37.5 [")
    assert " tokens " in text and "empty" not in text and "foreign" not in text
    assert "code" not in shown(status, 90)
    assert degeneration_table({**status, "degeneration": []}) is None


def test_a_long_table_keeps_what_is_worst(tmp_path: Path) -> None:
    specs = [TaskSpec(f"t{i}", "exact_match", filter="none", direction="maximize") for i in range(15)]
    status = finished(tmp_path / "run", specs, repetitive_answers=16)
    text = shown(status, 150)
    assert f"{MOST} of 30" in text
    assert sum("repetitive" in line for line in text.splitlines()) == 15


def test_the_card_shows_it_beside_the_best_parents(tmp_path: Path) -> None:
    status = finished(tmp_path / "run", repetitive_answers=16)
    recipe = Recipe("linear", (Parent("p", ModelSource("org/p")),), parameters={"weight": 1.0})
    card = model_card(recipe, title="merged", verdict=status)
    low, high = tango(15, 0, N)
    assert "## How answers end" in card
    assert (
        f"| gsm8k | repetitive answers | 40 | 0.4000 | 0.0250 | math | **+0.3750 [+{low:.4f}, +{high:.4f}]** |" in card
    )
    assert "empty answers" not in card
    assert "How answers end" not in model_card(recipe, title="merged", verdict={**status, "degeneration": []})


def test_foreign_scripts_can_be_a_limit(tmp_path: Path) -> None:
    limit = TaskSpec("gsm8k", "foreign_script", weight=0.0, direction="minimize", constraint=Constraint(max=0.1))
    objectives = Objectives([SPEC, limit], parents=("math", "code"))
    assert objectives.compares and objectives.references == ("math", "code")

    def answers(*scripts: str) -> list[ItemScore]:
        return [
            ItemScore("gsm8k", i, {"exact_match": 1.0, SCRIPT: number_of(script)}) for i, script in enumerate(scripts)
        ]

    objectives.note_baseline("math", Split.SEARCH, answers("LATIN", "LATIN", "LATIN", "LATIN"))
    objectives.note_baseline("code", Split.SEARCH, answers("LATIN", "THAI", "LATIN", "LATIN"))
    objectives.note_baseline("average", Split.SEARCH, answers("GREEK", "GREEK", "GREEK", "GREEK"))
    result = objectives.result(answers("LATIN", "THAI", "GREEK", "GREEK"))
    assert result.measures["gsm8k, foreign_script (limit)"] == 0.5
    assert result.violation == pytest.approx(4.0)
    assert objectives.result(answers("LATIN", "THAI", "LATIN", "LATIN")).violation == 0.0


def test_foreign_scripts_over_candidates(tmp_path: Path) -> None:
    latin, kana = number_of("LATIN"), number_of("JAPANESE")
    scripts = {-1: [latin, latin, latin], 0: [latin, kana, 0.0], 1: [kana, kana, latin]}
    with RunDir.create(tmp_path / "run", config={"models": {"parents": {"p": "org/p"}}}) as run:
        run.database.set_meta(OBJECTIVE, [TaskSpec("t", "acc", direction="maximize").to_data()])
        for number, own in scripts.items():
            recipe = Recipe("linear", (Parent("p", ModelSource("org/p")),), parameters={"weight": number + 9.0})
            items = [ItemScore("t", i, {"acc": 1.0, SCRIPT: script}) for i, script in enumerate(own)]
            record = Record(number, "p" if number < 0 else f"candidate {number}", State.COMPLETE, recipe)
            scores = {Split.SEARCH: Score(1.0, 0.5, 1.0, 3)}
            run.database.add(replace(record, scores=scores), scores={Split.SEARCH: items})
        objectives = objective_of(run)
        assert objectives is not None
        numbers, means = Degeneration(Skills(run, objectives)).over_candidates("t", FOREIGN_SCRIPT)
        assert numbers == [0, 1] and means == pytest.approx([1 / 3, 2 / 3])
        assert Degeneration(Skills(run, objectives)).over_candidates("t", "cut_answers")[0] == []
