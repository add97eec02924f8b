"""How to do it again, go on, and use what was found: the exact commands, and what must be the same."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.report.groups import labels_of
from evomerge.store.run_dir import CONFIG
from evomerge.store.status import COMPLETE
from evomerge.system.text import command


def draw(runs: Sequence[RunData]) -> Figure | None:
    """List the commands for one run; of several, those that make them again and compare them."""
    if len(runs) > 1:
        named = enumerate(zip(runs, labels_of(runs), strict=True))
        again = [(f"search again: {label}", _again(run, f"again_{place}")) for place, (run, label) in named]
        steps = [*again, ("this page anew", command("report", *(run.path for run in runs)))]
        return Figure("reproduce", "How to do it again", _lead(runs[0]), template="reproduce.html", data=_data(steps))
    run = runs[0]
    larger = 2 * int(run.status["budget"].get("candidates") or max(1, run.status["candidates"]))
    steps = [("search again from the start", _again(run, "again"))]
    if run.status["state"] != COMPLETE:
        steps.append(("continue where it stopped", command("resume", run.path)))
    steps.append(("go on with a larger budget", command("resume", run.path, f"budget.candidates={larger}")))
    if run.best is not None:
        steps += [
            ("write the best merge as a Hugging Face folder", command("export", run.path, "--out", "merged")),
            ("compare that folder with the recipe", command("verify", run.path, "merged")),
            ("score the best merge again on the test items", command("evaluate", run.path)),
            ("score it and its parents on all items", command("evaluate", run.path, "--full")),
            ("read its answers beside the best parents'", command("answers", run.path)),
        ]
    steps += [
        ("see where the run stands", command("status", run.path)),
        ("this page anew", command("report", run.path)),
    ]
    return Figure("reproduce", "How to do it again", _lead(run), template="reproduce.html", data=_data(steps))


def _again(run: RunData, folder: str) -> str:
    return command("search", run.path / CONFIG, f"run.dir={folder}")


def _data(steps: Sequence[tuple[str, str]]) -> dict[str, object]:
    return {
        "steps": [{"what": what, "command": line} for what, line in steps],
        "same": [
            "the contents of the models (their hashes stand above) and of the items, in the same order",
            "the configuration: every key that decides results, the seed among them",
            "the versions of Python and of the packages above, and the kind of processor or GPU",
            "the number of threads (execution.threads): with another one log-probabilities differ in their last "
            "digits, but no merge, and no greedy answer as far as measured",
        ],
    }


def _lead(run: RunData) -> str:
    executor = (run.config.get("execution") or {}).get("name", "local")
    ordered = (run.config.get("execution") or {}).get("deterministic", True) is not False
    limit = (run.config.get("budget") or {}).get("seconds")
    if executor != "local" and not ordered:
        return (
            "Results were told as they came (execution.deterministic: false), so another run proposes other "
            "candidates, but each recipe gives the same bytes and the same answers."
        )
    text = "The same command with the same models, items, versions and machine gives the same candidates, bit for bit"
    if limit is not None:
        return f"{text}, up to where the limit of {limit} seconds ends it."
    return f"{text}; so does a run that was interrupted and continued."
