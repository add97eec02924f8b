"""Tables and lines of a result, for people: scores with intervals, the choice, workers, and what they are worth."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from evomerge.api import Score
from evomerge.cli.console import WIDEST, named
from evomerge.cli.degeneration_table import degeneration_table
from evomerge.cli.skill_table import LOST, skill_table
from evomerge.system.figures import gain, p_text, percentage
from evomerge.system.text import command, visible

VERDICT, NOTE = Text("verdict: ", "bold"), Text("note: ")
"""What stands before the line that says whether to use the best merge, and before what to bear in mind."""

_NAMED = 5
"""So many lost skills are named in a cell."""


def percent(score: Mapping[str, Any] | Score | None, *, worst: bool = False) -> str:
    """Return a score as "51.2 % [46.1, 56.3]", a dash without a score; numbers beyond ±1 (tokens) as they are.

    Args:
        score: the score.
        worst: whether it is that of the worst task relative to its best parent, "0.932 [0.881, 0.975]".
    """
    if score is None:
        return "–"
    data = score.to_data() if isinstance(score, Score) else score
    if worst:
        return f"{data['mean']:.3f} [{data['low']:.3f}, {data['high']:.3f}]"
    if not -1.0 <= data["mean"] <= 1.0:
        return plain(data)
    return f"{percentage(data['mean']):>5} % [{percentage(data['low'])}, {percentage(data['high'])}]"


def plain(data: Mapping[str, Any]) -> str:
    """Return a score as "10.60 [10.16, 11.04]", for a count or a number with a unit."""
    return f"{data['mean']:7.4g} [{data['low']:.4g}, {data['high']:.4g}]"


def is_worst(status: Mapping[str, Any]) -> bool:
    """Return whether the scores of a search are those of the worst task relative to its best parent."""
    return status.get("objective") == "worst"


def result_table(status: Mapping[str, Any]) -> Table:
    """Lay out parents, average and best merge, with the scores of each on validation and test items.

    While some have none of these yet, because the search goes on or was stopped, with those on the search items too.
    """
    best = status.get("best")
    rows = [*status["baselines"], *([] if best is None else [best])]
    splits = ["validation", "test"]
    if not all(any(row[split] for split in splits) for row in rows):
        splits.insert(0, "search")
    n = next((s["n"] for s in ((best or {}).get("test"), *(b["test"] for b in status["baselines"])) if s), None)
    worst = is_worst(status)
    what = "worst task relative to its best parent (1: as good)" if worst else "score"
    table = Table(title=named(f"{status['name']}: {what} and 95 % interval" + (f", {n} test items" if n else "")))
    table.add_column("model")
    for split in splits:
        table.add_column(split, justify="right")
    for row in status["baselines"]:
        table.add_row(named(row["name"]), *(percent(row[split], worst=worst) for split in splits))
    if best is not None:
        name = named(f"best merge ({best['name']})", "bold green")
        table.add_row(name, *(percent(best[split], worst=worst) for split in splits), end_section=True)
    return table


def result_tables(status: Mapping[str, Any], width: int = WIDEST) -> Iterator[Table]:
    """Yield the tables of what a search found.

    They are: the scores; those of each task; how answers degenerate; and, with several objectives, the choice.

    Args:
        status: as `evomerge.api.status` returns it.
        width: of the output, in columns.
    """
    if status["baselines"] or status.get("best") is not None:
        yield result_table(status)
    if len(status.get("skills", ())) > 1:
        yield skill_table(status, width)
    degenerate = degeneration_table(status, width)
    if degenerate is not None:
        yield degenerate
    if status.get("choice") is not None and len(status["objectives"]) > 1:
        yield choice_table(status)


def choice_table(status: Mapping[str, Any]) -> Table:
    """Lay out what was chosen beside the baselines, objective by objective."""
    choice, objectives = status["choice"], status["objectives"]
    split = (
        "test" if any(one["test"] for row in choice["records"] for one in row["objectives"].values()) else "validation"
    )
    n = len(choice["records"])
    front = f"front of {n} merge{'s' * (n != 1)}: none is better in every objective"
    what = front if choice["kind"] == "front" else choice["kind"]
    losing = any(one["lost"] for row in choice["records"] for one in row.get("skills", ()))
    table = Table(title=f"{what}; {split} score and 95 % interval")
    table.add_column("model")
    for one in objectives:
        head = one["name"] + (" (less is better)" if one["direction"] == "minimize" else "")
        table.add_column(named(head), justify="right")
    if losing:
        table.add_column("lost skills")
    for row in status["baselines"]:
        table.add_row(named(row["name"]), *(percent(row["objectives"][one["name"]][split]) for one in objectives))
    table.add_section()
    for row in choice["records"]:
        scores = (percent(row["objectives"][one["name"]][split]) for one in objectives)
        lost = [one["task"] for one in row.get("skills", ()) if one["lost"]]
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        shown = [named(", ".join(lost[:_NAMED]) + more, LOST)] if losing else []
        table.add_row(named(row["name"], "bold green"), *scores, *shown)
    return table


def worker_table(status: Mapping[str, Any]) -> Table:
    """Lay out what each worker was doing when the run was last written."""
    workers = status["workers"]
    ago = max(0.0, time.time() - workers["at"])
    busy = "" if workers["utilisation"] is None else f", busy {100 * workers['utilisation']:.0f} % of the time"
    shared = f", candidates shared {workers['shared']} times" if workers.get("shared") else ""
    table = Table(
        title=f"{len(workers['workers'])} workers {ago:.0f} s ago{busy}; {workers['lost']} replaced or lost{shared}"
    )
    for name in ("worker", "node", "device", "state", "candidate", "done"):
        table.add_column(name, justify="right" if name in ("worker", "candidate", "done") else "left")
    for one in workers["workers"]:
        row = (one["id"], one["node"], one["device"], one["state"], one["candidate"], one["done"])
        table.add_row(*("–" if value is None else str(value) for value in row))
    return table


def verdict_line(status: Mapping[str, Any]) -> Text | None:
    """Return the line that says whether to use the best merge; None before there is one."""
    verdict = status.get("verdict")
    if verdict is None or status.get("choice") is None:
        return None
    style = {True: "bold green", False: "bold red", None: "bold yellow"}[verdict["use"]]
    return named(verdict["text"], style)


def answers_command(status: Mapping[str, Any]) -> str:
    """Return the command that shows what was answered; where a skill is lost, where it was lost."""
    lost = [str(one["task"]) for one in status.get("skills", ()) if one["lost"]]
    return command("answers", status["path"], *(("--task", lost[0], "--lost") if lost else ()))


def verdict_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines that say what the winner's scores are worth: the gain on the same items, the score without luck."""
    compared = status.get("comparisons", ())
    worst = is_worst(status)
    if compared:
        yield f"gain on the same {compared[0]['n']} test items (paired, 95 % interval):"
    for one in compared:
        name = one["against"] + (", the best parent" if one["against"] == status["best_parent"] else "")
        yield f"  {gain(one)} over {name}, {p_text(one['p_value'])} (two-sided)"
    over = status.get("passed_over")
    if over:
        yield (
            f"the consensus was chosen over {over['name']} ({percent(over['validation'], worst=worst).strip()} on the "
            "validation items), which is ahead of it by no more than a standard error"
        )
    out = status.get("excluded")
    if out:
        yield (
            f"{visible(out['name'])} is ahead of it on the validation items "
            f"({percent(out['validation'], worst=worst).strip()}), but breaks a limit there: "
            f"{visible(out['broken_limits'][0])}"
        )
    adjusted = (status.get("best") or {}).get("adjusted")
    if adjusted:
        yield (
            f"validation score without the luck of the best of {len(status['finalists']) + 1}: "
            f"{percent(adjusted, worst=worst).strip()}"
        )
