"""What people see of skills: a line at the end, a table that fits, and marks that need no colour."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text
from skill_runs import add_model, everywhere, new_run, right, three_skills

from evomerge import api
from evomerge.analysis.verdict import with_verdict
from evomerge.cli.console import make_console, print_hanging
from evomerge.cli.main import main
from evomerge.cli.running import _next, show_result
from evomerge.cli.sweep_display import show_sweep
from evomerge.cli.tables import answers_command, result_tables, verdict_line
from evomerge.evaluation.task import Constraint, TaskSpec
from evomerge.record import Choice, Split
from evomerge.store.run_dir import RunDir
from evomerge.store.status import run_status


def status_of(run: RunDir) -> dict[str, Any]:
    status = with_verdict(run, run_status(run))
    run.close()
    return status


def printed(status: dict[str, Any], width: int, place: int = 1) -> list[str]:
    """Return the lines of one of the tables, on a terminal of a width."""
    console = make_console()
    console.file, console.width = io.StringIO(), width
    console.print(list(result_tables(status, width))[place])
    return console.file.getvalue().rstrip("\n").split("\n")


@pytest.fixture
def status(tmp_path: Path) -> dict[str, Any]:
    return status_of(three_skills(tmp_path / "run"))


@pytest.mark.parametrize(
    ("width", "has", "lacks"),
    [
        (200, ["97.5 % [87.1, 99.6]", "words", "average"], []),
        (120, [" 97.5 % ", "words", "average"], ["[87.1"]),
        (80, ["97.5 % words", "average"], [" caps    ┃", "[87.1"]),
        (66, ["97.5 % words"], ["average"]),
    ],
)
def test_three_tasks_fit_any_width_in_single_lines(
    status: dict[str, Any], width: int, has: Sequence[str], lacks: Sequence[str]
) -> None:
    lines = printed(status, width)
    assert max(map(len, lines)) <= width and len(lines) == 8  # title, head, three tasks
    text = "\n".join(lines)
    assert all(word in text for word in has) and not any(word in text for word in lacks)
    (row,) = [line for line in lines if "reverse" in line]
    assert " lost " in row and "-97.5 [-99.6, -80.2]" in row  # without any colour
    assert "lost" not in text.replace(row, "")


def test_the_verdict_stands_below_the_notes_of_which_the_lost_skill_is_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three_skills(tmp_path / "run").close()
    assert main(["status", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("verdict: do not use it as it is: it has lost reverse (0.0 % against 97.5 % of words)")
    assert place >= len(lines) - 2 and sum(line.startswith("verdict:") for line in lines) == 1
    assert place > max(i for i, line in enumerate(lines) if line.startswith("note: "))
    notes = [line for line in lines if line.startswith("note: ")]
    assert notes[0].startswith("note: the best merge has lost reverse: 0.0 % against 97.5 % of words (-97.5 points")


def test_a_search_ends_with_the_verdict_and_the_next_command(
    status: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class Run:
        def status(self) -> dict[str, Any]:
            return status

        def warnings(self) -> list[str]:
            return [one["text"] for one in status["warnings"]]

    assert show_result(Run()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("verdict: do not use it as it is: it has lost reverse")
    assert sum(line.startswith("verdict:") for line in lines) == 1
    assert lines[-1].startswith("next: search again with `floor: 95%` for reverse (docs/fitness.md), or export it all")


def test_a_lost_skill_leads_to_its_answers_and_a_limit_that_nobody_keeps_to_a_larger_budget(
    status: dict[str, Any],
) -> None:
    status = {**status, "path": "runs/1", "budget": {"candidates": 12, "items": None}, "candidates": 12}
    assert answers_command(status) == "evomerge answers runs/1 --task reverse --lost"
    assert answers_command({**status, "skills": []}) == "evomerge answers runs/1"
    further = "search further, with a larger budget: evomerge resume runs/1 budget.candidates=24, or export it all the"
    assert _next(status).startswith("search again with `floor: 95%` for reverse")
    best = {**status["best"], "broken_limits": {"validation": ["reverse, acc is 0.5, below its floor of 0.9"]}}
    assert _next({**status, "best": best}).startswith(further)
    assert _next({**status, "objective": "worst"}).startswith(further)
    floors = [{**one, "floor": True} for one in status["skills"]]
    assert _next({**status, "skills": floors}) == "evomerge export runs/1 --out my-merge"  # so much may be lost


def test_a_finalist_that_only_a_limit_kept_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs = (
        TaskSpec("add", "exact_match", filter="none", direction="maximize"),
        TaskSpec(
            "reverse", "exact_match", filter="none", weight=0.0, direction="maximize", constraint=Constraint(min=0.5)
        ),
    )
    run = new_run(tmp_path / "run", specs, ("adder", "words"))
    models = {"adder": (20, 30), "words": (2, 39), "candidate 0": (25, 30), "candidate 1": (39, 4)}
    for number, (name, (add, reverse)) in zip((-1, -2, 0, 1), models.items(), strict=True):
        add_model(run, number, name, everywhere(add=add, reverse=reverse), specs)
    run.database.set_choice(Choice("winner", (0,)))
    run.close()
    out = api.Run(tmp_path / "run").status()["excluded"]
    assert (out["id"], out["validation"]["mean"]) == (1, 0.975) and "reverse" in out["broken_limits"][0]
    assert main(["status", str(tmp_path / "run")]) == 0
    said = "candidate 1 is ahead of it on the validation items (97.5 % [87.1, 99.6]), but breaks a limit there: reverse"
    assert sum(line.startswith(said) for line in capsys.readouterr().out.splitlines()) == 1
    with RunDir.open(tmp_path / "run", write=True) as again:  # one that breaks it, too, was kept out by nothing
        again.database.set_choice(Choice("winner", (1,)))
    assert api.Run(tmp_path / "run").status()["excluded"] is None


def test_notes_hang_below_their_first_line_on_a_terminal() -> None:
    console = Console(width=30, file=io.StringIO(), force_terminal=True, color_system=None)
    print_hanging(console, Text("note: "), Text("one two three four five six seven \x1b eight"))
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "note: one two three four five",
        "      six seven \\x1b eight",
    ]


@pytest.mark.parametrize(("use", "style"), [(True, "green"), (False, "red"), (None, "yellow")])
def test_the_verdict_has_a_colour_too(use: bool | None, style: str) -> None:
    line = verdict_line({"choice": {"kind": "winner"}, "verdict": {"use": use, "text": "words"}})
    assert line is not None and line.plain == "words" and style in str(line.style)
    assert verdict_line({"choice": None, "verdict": {"use": None, "text": "no merge is chosen yet"}}) is None


def test_of_many_tasks_those_with_the_largest_losses_are_shown(tmp_path: Path) -> None:
    names = [f"subject_{i:02}" for i in range(57)]
    specs = tuple(TaskSpec(name, "acc", filter="none", direction="maximize") for name in names)
    run = new_run(tmp_path / "run", specs, ("a", "b"))

    def answers(n_right: list[int]) -> dict[str, dict[Split, list[float]]]:
        return {name: dict.fromkeys(Split, right(n, 20)) for name, n in zip(names, n_right, strict=True)}

    add_model(run, -1, "a", answers([15] * 57), specs)
    add_model(run, -2, "b", answers([5] * 57), specs)
    add_model(run, 0, "candidate 0", answers([18] * 54 + [2, 3, 4]), specs)
    run.database.set_choice(Choice("winner", (0,)))
    lines = printed(status_of(run), 100)
    assert lines[0].strip().startswith("task by task, 20 test items each; 12 of 57, the largest losses first")
    assert [line.split()[1] for line in lines[4:7]] == names[-3:] and len(lines) == 17


def test_names_stand_as_they_are(tmp_path: Path) -> None:
    odd = ("[/INST]", "日本語 [red]")
    specs = tuple(TaskSpec(name, "acc", filter="none", direction="maximize") for name in odd)
    run = new_run(tmp_path / "run", specs, ("[bold]p", "x\x1b[31m"))
    for number, name, n in ((-1, "[bold]p", 30), (-2, "x\x1b[31m", 20), (0, "candidate 0", 5)):
        add_model(run, number, name, {task: dict.fromkeys(Split, right(n)) for task in odd}, specs)
    run.database.set_choice(Choice("winner", (0,)))
    status = status_of(run)
    text = "\n".join(printed(status, 300))
    assert all(name in text for name in (*odd, "[bold]p", "x\\x1b[31m")) and "\x1b" not in text
    console = Console(file=io.StringIO(), width=300)
    console.print(verdict_line(status))
    assert "[/INST] (12.5 % against 75.0 % of [bold]p)" in console.file.getvalue()


def test_a_front_names_what_each_merge_has_lost(tmp_path: Path) -> None:
    specs = tuple(
        TaskSpec(name, "acc", filter="none", direction="maximize", objective=name) for name in ("add", "reverse")
    )
    run = new_run(tmp_path / "run", specs, ("adder", "words"))
    add_model(run, -1, "adder", everywhere(add=30, reverse=2), specs)
    add_model(run, -2, "words", everywhere(add=2, reverse=30), specs)
    add_model(run, 0, "candidate 0", everywhere(add=38, reverse=3), specs)
    add_model(run, 1, "candidate 1", everywhere(add=31, reverse=31), specs)
    run.database.set_choice(Choice("front", (1, 0)))
    lines = printed(status_of(run), 200, place=2)
    assert any("lost skills" in line for line in lines)
    (row,) = [line for line in lines if "candidate 0" in line]
    assert row.split("│")[-2].strip() == "reverse"


def test_a_sweep_names_what_each_winner_has_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three_skills(tmp_path / "0").close()
    three_skills(tmp_path / "1", everywhere(add=38, reverse=40, capitals=37)).close()
    summary = api.sweep_summary([((f"seed={i}",), tmp_path / str(i)) for i in (0, 1, 2)])
    assert [one["lost"] for one in summary["searches"]] == [["reverse"], [], []]
    show_sweep(summary)
    rows = [line.split("│")[-3].strip() for line in capsys.readouterr().out.splitlines() if "seed=" in line]
    assert rows == ["reverse", "", "–"]
