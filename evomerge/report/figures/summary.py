"""What was searched and what was found, for who has a minute: two sentences, the verdict, the next step, cautions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.analysis.choice import parent_names
from evomerge.analysis.lost_skills import listed, lost, scores_text
from evomerge.analysis.next_steps import next_steps
from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.report.numbers import objective_styles, score_style
from evomerge.report.searched import methods_tried, named, search_facts, searched
from evomerge.store.status import COMPLETE, FAILED, INTERRUPTED, RUNNING
from evomerge.system.figures import p_text
from evomerge.system.text import command, cut, duration

USE, DO_NOT_USE, WEIGH = "yes", "no", "weigh"
"""What a verdict comes to; a word of the template's classes."""

_LONGEST = 600


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Say what one run searched and found; several have a table of their own (`runs`)."""
    if len(runs) != 1:
        return None
    run = runs[0]
    sentences = [f"{searched(run)}.", f"{_found(run)}."]
    status = run.status
    verdict = status.get("verdict") if status.get("choice") is not None else None
    data = {
        "leads": True,  # the template shows the sentences, below the verdict
        "state": status["state"],
        "standing": _standing(run),
        "sentences": sentences,
        "verdict": None if verdict is None else {"use": _use(verdict["use"]), "text": verdict["text"]},
        "numbers": list(_numbers(run)),
        "facts": [{"name": name, "value": value} for name, value in search_facts(run)],
        "cautions": [dict(one) for one in status["warnings"]],
        "next": [one.to_data() for one in next_steps(status, run.records, run.course)],
    }
    lead = " ".join(sentences)
    return Figure("summary", "What was searched and found", lead, template="summary.html", data=data)


def _use(use: bool | None) -> str:
    return {True: USE, False: DO_NOT_USE, None: WEIGH}[use]


def _standing(run: RunData) -> dict[str, str] | None:
    """Return what there is to say of a search that is not complete: `text`, and the `command` that goes on."""
    status = run.status
    state, path = status["state"], status["path"]
    error = cut(str(status["error"]), _LONGEST) if status["error"] else ""
    if state == COMPLETE:
        return None
    if state == RUNNING:
        left = status["seconds_left"]
        rate = f"{status['per_minute']:.1f} candidates a minute" if status["per_minute"] else ""
        more = [_budget(status), rate, "" if left is None else f"about {duration(left)} left"]
        return {"text": f"The search is running: {', '.join(one for one in more if one)}.", "command": ""}
    if state == FAILED:
        return {"text": f"The search failed: {error or 'no reason was recorded'}", "command": command("resume", path)}
    if state == INTERRUPTED:
        last = f" Its last error: {error}" if error else ""
        text = f"The search was interrupted after {_budget(status)}; it can be continued.{last}"
        return {"text": text, "command": command("resume", path)}
    return {"text": f"The search is {state}.", "command": ""}


def _budget(status: Mapping[str, Any]) -> str:
    """Return "40 of 96 candidates" for whatever limits the search."""
    done = {"candidates": status["candidates"], "items": status["items"], "seconds": status["seconds"]}
    parts = [
        f"{duration(done[key])} of {duration(limit)}" if key == "seconds" else f"{done[key]:,} of {limit:,} {key}"
        for key, limit in status["budget"].items()
        if limit is not None and key in done
    ]
    return ", ".join(parts) or f"{status['candidates']:,} candidates"


def _found(run: RunData) -> str:
    """Return the second sentence, without a full stop."""
    status, style = run.status, score_style(run)
    best, choice = status["best"], status["choice"]
    if best is None:
        failed = status["failed"]
        return f"No candidate was scored ({failed} failed)" if failed else "Nothing has been scored yet"
    split = next((one for one in (Split.TEST, Split.VALIDATION) if best.get(one) is not None), Split.SEARCH)
    score = best.get(split)
    if score is None:
        return f"{best['name']} is the best, but has no score"
    several = choice is not None and len(choice["records"]) > 1
    if choice is None:
        split = Split.SEARCH if best.get(Split.SEARCH) is not None else split
        score, who = best[split], f"So far the best is {best['name']}, with"
    elif several:
        who = f"{_ranges(run, split)}; the one with the best sum, {best['name']}, reaches"
    else:
        who = f"The best merge, {_called(run, best['name'])}, reaches"
    flatters = ", by which it was chosen, so that it flatters" if split is not Split.TEST else ""
    said = ", ".join([f"{who} {style.score(score)} on {score['n']:,} {split} items{flatters}", *_gain(run, split)])
    return "; ".join([said, *_lost(status, several)])


def _ranges(run: RunData, split: Split) -> str:
    """Return from where to where the chosen merges go in each objective."""
    choice, styles = run.status["choice"], objective_styles(run)
    parts = []
    for one in run.status["objectives"]:
        rows = [row["objectives"].get(one["name"], {}).get(split) for row in choice["records"]]
        means = sorted(row["mean"] for row in rows if row)
        if means:
            style = styles[one["name"]]
            less = " (less is better)" if one["direction"] == "minimize" else ""
            span = f"{style.mean(means[0])} to {style.mean(means[-1])} in {named([one['name']])}{less}"
            parts.append(span + _best_at(run, one, split))
    what = f"The search ended with {_a(choice['kind'])} of {len(choice['records'])} merges"
    return f"{what}: on the {split} items {', '.join(parts)}" if parts else what


def _best_at(run: RunData, objective: Mapping[str, Any], split: Split) -> str:
    """Return in brackets which parent is best at an objective, and its score there."""
    sign = -1.0 if objective["direction"] == "minimize" else 1.0
    parents = set(parent_names(run.run))
    scored = [
        (sign * score["mean"], row["name"], score["mean"])
        for row in run.status["baselines"]
        if row["name"] in parents and (score := row["objectives"].get(objective["name"], {}).get(split)) is not None
    ]
    if not scored:
        return ""
    _, name, mean = max(scored)
    return f" ({named([name])}: {objective_styles(run)[objective['name']].mean(mean)})"


def _called(run: RunData, name: str) -> str:
    """Return the name of the best merge, with what it does not say: that it is a mean, which methods were chosen."""
    best = run.best
    if best is None:
        return str(name)
    said = ["the mean of the best candidates"] if best.is_consensus else []
    if len(methods_tried(run)) > 1:
        said.append(f"by {named(list(best.recipe.methods))}")
    return f"{name} ({', '.join(said)})" if said else str(name)


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _gain(run: RunData, split: Split) -> Iterator[str]:
    """Yield how much better the best merge is than the best parent, where that is known."""
    status, style = run.status, score_style(run)
    row = next((row for row in status["baselines"] if row["name"] == status["best_parent"]), None)
    if row is None or row.get(split) is None:
        return
    mean = style.mean(row[split]["mean"])
    compared = status["comparisons"] if split is Split.TEST else ()
    one = next((one for one in compared if one["against"] == row["name"]), None)
    if one is not None:
        yield f"{style.difference(one)} over {named([row['name']])}, the best parent ({mean})"
    else:
        yield f"where {named([row['name']])}, the best parent, has {mean}"


def _lost(status: Mapping[str, Any], several: bool) -> Iterator[str]:
    skills = status["skills"]
    if not skills or several:
        return  # of several merges the verdict says it
    gone = lost(skills)
    if gone:
        words = [f"{named([one['task']])} ({scores_text(one)})" for one in gone]
        yield f"it is worse than a parent at {listed(words, 3)}"
    elif len(skills) > 1:
        yield f"no skill of a parent is seen to be lost, of {len(skills)} tasks"


def _numbers(run: RunData) -> Iterator[dict[str, str]]:
    """Yield the key numbers: `name`, `value`, `detail`."""
    status, style = run.status, score_style(run)
    best = status["best"]
    if best is not None:
        split = next((one for one in reversed(Split) if best.get(one) is not None), None)
        if split is not None:
            score = best[split]
            name = "best merge" if status["choice"] else "best so far"
            detail = f"{style.interval(score['low'], score['high'])} on {score['n']} {split} items"
            n_tasks = len(status["skills"])
            name += f", over {n_tasks} tasks" if n_tasks > 1 else ""
            yield {"name": name, "value": style.mean(score["mean"]), "detail": detail}
    chosen = (status["choice"] or {}).get("records", ())
    if len(chosen) > 1:
        yield {"name": f"merges of the {status['choice']['kind']}", "value": f"{len(chosen)}", "detail": ""}
    gain = next((one for one in status["comparisons"] if one["against"] == status["best_parent"]), None)
    if gain is not None:
        interval, p_value = style.interval(gain["low"], gain["high"]), p_text(gain["p_value"])
        yield {
            "name": "gain over the best parent",
            "value": style.change(gain["difference"]),
            "detail": f"{interval} over {named([gain['against']])}, {p_value}",
        }
    yield from _kept(status)
    said = [f"{n:,} {what}" for n, what in ((status["failed"], "failed"), (status["cache_hits"], "repeated")) if n]
    took = f"in {duration(status['seconds'])}"
    yield {"name": "candidates", "value": f"{status['candidates']:,}", "detail": ", ".join([took, *said])}


def _kept(status: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield how many skills are kept; of several merges, how many of them keep all."""
    chosen = (status["choice"] or {}).get("records", ())
    if len(chosen) > 1:
        kept = sum(not any(one["lost"] for one in row["skills"]) for row in chosen)
        yield {"name": "keep every skill", "value": f"{kept} of {len(chosen)}", "detail": "of these merges"}
        return
    skills = [one for one in status["skills"] if one["lost"] is not None]
    if len(skills) > 1:
        kept = sum(not one["lost"] for one in skills)
        yield {"name": "skills kept", "value": f"{kept} of {len(skills)}", "detail": "against each task's best parent"}
