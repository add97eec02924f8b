"""What a run's result is worth, from its database alone: paired comparisons, the luck of the choice, and warnings.

Nothing is scored here. Comparisons use the per-item scores of the test split, on which nothing was chosen. The best
parent is the one with the best validation score, so that naming it does not choose on the test items either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from evomerge.analysis.advice import advice
from evomerge.analysis.cautions import SAID, cautions
from evomerge.analysis.choice import note_baselines, parent_names, with_choice
from evomerge.analysis.comparison import Difference, compare, compare_worst
from evomerge.analysis.degeneration import Degeneration, with_degeneration
from evomerge.analysis.limits import broken_limits
from evomerge.analysis.not_chosen import Ahead
from evomerge.analysis.parent_answers import parent_answers
from evomerge.analysis.repeats import repeated_items
from evomerge.analysis.replay import Replay
from evomerge.analysis.skills import Skills, with_skills
from evomerge.analysis.winners_curse import adjusted_for_selection, adjusted_worst
from evomerge.errors import EvaluationError
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import SUM, WORST, specs_from_data
from evomerge.record import Choice, Finalist, Record, Score, Split
from evomerge.store.run_dir import RunDir

OBJECTIVE, COMBINATION, PUBLIC_TASKS, CODE_TASKS = "objective", "combination", "public_tasks", "code_tasks"
"""Keys in the database: the specs of the objectives, whether their sum or the worst of them counts, the public
benchmarks from which the search items come, and the tasks that run code which the models write (None: no task may)."""

Values = Mapping[str, Mapping[int, float]]
"""Task to item to the item's value of the objective's metric."""


def with_verdict(run: RunDir, status: Mapping[str, Any], *, who: str | None = None) -> dict[str, Any]:
    """Return a run's status with what its scores are worth.

    Args:
        run: the run.
        status: as `run_status` returns it.
        who: what the best merge is called in the warnings, which are about it alone then; None: they call it that, and
            speak of every merge of a front.

    Returns:
        The status (see `evomerge.store.status.run_status`), with

        - `best.adjusted`: `{"mean", "low", "high"}` of the winner's validation score, adjusted for having been chosen
          as the best of the finalists, never above that score; None where there was no such choice, or it cannot be
          repeated (a task with one validation item, say)
        - `best.broken_limits`: split to a sentence for each limit (a constraint, a floor) that the winner breaks there
        - `best_parent`: the name of the parent with the best validation score (search score, where there are no
          validation items); None before parents are scored. `best_parent_by`: "validation" or "search"
        - `comparisons`: winner against each baseline on the test items, each `{"against", "difference", "low", "high",
          "p_value", "n", "share", "worst"}`, `share` telling whether the scores are shown in per cent, `worst` whether
          they are the worst task relative to its best parent; empty before the test
        - `finalists`: winner against each other finalist on the validation items, each `{"id", "difference", …}`
        - `passed_over`: where the consensus won, the best finalist that was ahead of it on the validation items (by no
          more than a standard error): `{"id", "name", "validation"}`; else None
        - `excluded`: the best finalist that is ahead of the winner on the validation items, but breaks a limit there:
          `{"id", "name", "validation", "broken_limits"}`; None where there is none
        - `beats_parent`: whether the winner is ahead of the best parent on the validation items; None where there is no
          winner yet, or one of them has no score there, or a front or archive was chosen
        - `repeated_items`: see `evomerge.analysis.repeats`
        - `objective`: "sum", or "worst" where scores are the worst task relative to its best parent (1: as good)
        - `public_tasks`: the public benchmarks whose own evaluation items are the search items
        - `code_tasks`: the tasks that say that they run code which the models write; None: no task may
        - `warnings`: what to bear in mind, the gravest first, each `{"kind", "text"}` (see `evomerge.record.Caution`)
        - `verdict`: whether to use the best merge, in one sentence (see `evomerge.analysis.advice`)
        - `objectives`, `choice`, and `objectives` of each baseline: see `evomerge.analysis.choice`
        - `degeneration`, `parent_answers` and `cut_prompts`: see `evomerge.analysis.degeneration`
        - `skills`, and `tasks` of the best merge, each baseline and each chosen record: see `evomerge.analysis.skills`
    """
    found = _with_warnings(run, _with_worth(run, status, _skills_of(run)), who)
    return {**found, "verdict": advice(found)}


def candidate_verdict(run: RunDir, status: Mapping[str, Any], record: Record, *, who: str) -> dict[str, Any]:
    """Return what the scores of any one record are worth, as `with_verdict` does for the winner.

    What belongs to the choice of the winner is left out: no score is adjusted, nothing is said of finalists, and there
    is no `verdict`. `choice` and `objectives` are those of the run where the record is among the chosen, else empty.

    Args:
        run: the run.
        status: as `run_status` returns it.
        record: a candidate, or a baseline, which is compared with nothing.
        who: what it is called in the warnings.
    """
    scores = {str(split): score.to_data() for split, score in (record.scores or {}).items()}
    row = {"id": record.number, "name": record.name, "recipe_hash": record.recipe.content_hash}
    row |= {str(split): scores.get(str(split)) for split in Split}
    unscored = [one for one in status["unscored"] if one["id"] < 0 or one["id"] == record.number]
    skills = _skills_of(run)
    found = _with_worth(run, {**status, "best": None, "unscored": unscored}, skills)
    found["best"] = row
    if record.number not in [one["id"] for one in (found["choice"] or {"records": ()})["records"]]:
        found |= {"choice": None, "objectives": []}
    if skills is not None:
        objective = skills.objectives
        row |= {"tasks": skills.tasks(record), "broken_limits": broken_limits(run, objective, record.number)}
        found["skills"] = [] if record.is_baseline else skills.compared(record)
        if not record.is_baseline:
            measured = Degeneration(skills)
            found["degeneration"], found["parent_answers"] = measured.rows(record), parent_answers(measured, [record])
            found["comparisons"] = _comparisons(run, objective, row)
    return _with_warnings(run, found, who)


def _with_warnings(run: RunDir, found: Mapping[str, Any], who: str | None) -> dict[str, Any]:
    warnings = cautions({**found, "said": run.database.get_meta(SAID, []), "who": who})
    return {**found, "warnings": [one.to_data() for one in warnings]}


def _skills_of(run: RunDir) -> Skills | None:
    objectives = objective_of(run)
    return None if objectives is None else Skills(run, objectives)


def _with_worth(run: RunDir, status: Mapping[str, Any], skills: Skills | None) -> dict[str, Any]:
    objective = None if skills is None else skills.objectives
    found = {**status, "objectives": [], "choice": None, "skills": [], "degeneration": [], "parent_answers": []}
    found["cut_prompts"] = []
    if skills is not None:
        found = with_skills(run, skills, with_choice(run, skills.objectives, found))
        found = with_degeneration(run, skills, found)
    found["best_parent"], found["best_parent_by"] = best_parent(run, status)
    found["comparisons"], found["finalists"], found["passed_over"] = [], [], None
    found["excluded"], found["beats_parent"] = None, _beats_parent(found)
    found["objective"] = run.database.get_meta(COMBINATION, SUM)
    found["public_tasks"] = list(run.database.get_meta(PUBLIC_TASKS, []))
    found["repeated_items"] = repeated_items(run.inputs)
    found["code_tasks"] = run.database.get_meta(CODE_TASKS)
    if found.get("best") is None:
        return found
    found["best"] = {**found["best"], "adjusted": None, "broken_limits": {}}
    choice = run.database.choice()
    if objective is None or choice is None:
        return found
    winner = choice.best
    found["best"]["broken_limits"] = broken_limits(run, objective, winner)
    records = list(run.database.records(baselines=True))
    found["comparisons"] = _comparisons(run, objective, status["best"])
    finalists = _finalists(run, objective, winner, records)
    found["finalists"] = [
        {"id": record.number, **compared(objective, finalists[0][1], values, Split.VALIDATION).to_data()}
        for record, values in finalists[1:]
    ]
    if choice.kind == "winner" and finalists and finalists[0][0].number == winner:
        ahead = Ahead(run, objective, finalists[0][0], [record for record, _ in finalists])
        found["passed_over"], found["excluded"] = ahead.passed_over(), ahead.excluded()
    adjusted = _adjusted(run, objective, choice, finalists)
    if adjusted is not None:
        found["best"]["adjusted"] = {"mean": adjusted.mean, "low": adjusted.low, "high": adjusted.high}
    return found


def objective_of(run: RunDir) -> Objectives | None:
    """Return the objectives that the run recorded; None: it ended before it recorded them."""
    data = run.database.get_meta(OBJECTIVE)
    combination = str(run.database.get_meta(COMBINATION, SUM))
    return (
        None if data is None else Objectives(specs_from_data(data), parents=parent_names(run), combination=combination)
    )


def values_of(run: RunDir, objective: Objectives, number: int, split: Split) -> dict[str, dict[int, float]]:
    """Return, by task and item, what each item that a candidate answered adds to the objective."""
    if objective.compares:
        note_baselines(run, objective, split)
    return objective.task_values(run.database.item_scores(number, split), split)


def best_parent(run: RunDir, status: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the name of the parent that was best before the test, and the split that says so; or None twice."""
    parents = parent_names(run)
    for split in (Split.VALIDATION, Split.SEARCH):
        scored = [row for row in status["baselines"] if row["name"] in parents and row[split] is not None]
        if scored:
            return str(max(scored, key=lambda row: row[split]["mean"])["name"]), str(split)
    return None, None


def _beats_parent(found: Mapping[str, Any]) -> bool | None:
    parent = next((row for row in found["baselines"] if row["name"] == found["best_parent"]), None)
    best, choice = found.get("best"), found.get("choice")
    if parent is None or best is None or choice is None or choice["kind"] != "winner":
        return None
    one, other = best["validation"], parent["validation"]
    return None if one is None or other is None else bool(one["mean"] > other["mean"])


def _comparisons(run: RunDir, objective: Objectives, best: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "against": record.name,
            **difference.to_data(),
            "share": _shares(best, record, objective),
            "worst": objective.combination == WORST,
        }
        for record, difference in _against_baselines(run, objective, best["id"])
    ]


def _against_baselines(run: RunDir, objective: Objectives, winner: int) -> Iterator[tuple[Record, Difference]]:
    own = _usable(run, objective, winner, Split.TEST)
    for record in run.database.baselines():
        other = _usable(run, objective, record.number, Split.TEST)
        if own is not None and other is not None and _comparable(objective, own, other):
            yield record, compared(objective, own, other, Split.TEST)


def compared_on_common(run: RunDir, objective: Objectives, number: int, other: int, split: Split) -> Difference | None:
    """Return the paired difference of two records on the items of a split that both answered; None: there are none.

    A candidate of a search that asks each one a few items is compared on those.
    """
    try:
        one, two = (values_of(run, objective, each, split) for each in (number, other))
        common = {task: one[task].keys() & two[task].keys() for task in one}
        rows = [{task: {item: own[task][item] for item in common[task]} for task in own} for own in (one, two)]
        return compared(objective, rows[0], rows[1], split)
    except (EvaluationError, ValueError, KeyError):  # no item of a task with a weight, or of other objectives
        return None


def _shares(best: Mapping[str, Any], record: Record, objective: Objectives) -> bool:
    """Return whether two scores on the test items are shown in per cent; beyond ±1 they are counts or have a unit.

    A ratio to the best parent is no share of right answers.
    """
    if objective.combination == WORST:
        return False
    means = (best["test"]["mean"] if best.get("test") else 0.0, (record.scores or {})[Split.TEST].mean)
    return all(-1.0 <= mean <= 1.0 for mean in means)


def _finalists(run: RunDir, objective: Objectives, winner: int, records: list[Record]) -> list[tuple[Record, Values]]:
    """Return the candidates that answered the winner's validation items, the winner first, then by fitness and age."""
    own = _usable(run, objective, winner, Split.VALIDATION)
    if own is None:
        return []
    found: list[tuple[Record, Values]] = []
    for record in records:
        if record.is_baseline or record.same_as is not None or Split.VALIDATION not in (record.scores or {}):
            continue
        values = _usable(run, objective, record.number, Split.VALIDATION)
        if values is not None and _comparable(objective, own, values):
            found.append((record, values))
    return sorted(found, key=lambda one: (one[0].number != winner, -(one[0].fitness or 0.0), one[0].number))


def _adjusted(
    run: RunDir, objective: Objectives, choice: Choice, finalists: list[tuple[Record, Values]]
) -> Score | None:
    """Return the score of the rule that chose, on items that did not choose; None if it cannot be repeated."""
    if len(finalists) < 2:
        return None
    recorded = {one.number: one for one in run.database.finalists() or ()}
    known = [
        (record, values, recorded.get(record.number) or Finalist(record.number, record.fitness or 0.0))
        for record, values in finalists
        if not recorded or record.number in recorded
    ]
    if objective.compares:
        note_baselines(run, objective, Split.VALIDATION)
    items = [run.database.item_scores(record.number, Split.VALIDATION) for record, _, _ in known]
    baselines = [run.database.item_scores(record.number, Split.VALIDATION) for record in run.database.baselines()]
    rule = Replay(
        objective,
        choice.kind,
        [finalist for _, _, finalist in known],
        [record.is_consensus for record, _, _ in known],
        items,
        baselines,
    )
    winner = next((i for i, (record, _, _) in enumerate(known) if record.number == choice.best), None)
    if len(known) < 2 or winner is None or min(rule.sizes.values()) < 2:
        return None
    if int(rule({task: np.ones((1, n)) for task, n in rule.sizes.items()})[0]) != winner:
        return None  # chosen by what the run does not tell: by an older version, or by hand
    if objective.combination == WORST:
        ratios = [objective.ratios_of(own, Split.VALIDATION) for _, own, _ in known]
        if any(len(one.values) != rule.sizes[one.task] for row in ratios for one in row):
            return None  # not every item is judged for all of them
        return adjusted_worst(ratios, rule, winner, sizes=rule.sizes)
    values = {
        task: np.array([[own[task][item] for item in sorted(own[task])] for _, own, _ in known]) for task in rule.sizes
    }
    if any(np.isnan(values[task]).any(axis=0).all() for task, weight in _weights(objective).items() if weight != 0.0):
        return None  # no item is judged for all of them
    return adjusted_for_selection(values, _weights(objective), rule=rule, winner=winner)


def _usable(run: RunDir, objective: Objectives, number: int, split: Split) -> Values | None:
    """Return a candidate's values on a split, or None if a task with a weight has none."""
    try:
        values = values_of(run, objective, number, split)
    except EvaluationError:
        return None  # recorded under another objective
    counting = [task for task, weight in _weights(objective).items() if weight != 0.0]
    return values if all(values[task] for task in counting) else None


def _comparable(objective: Objectives, one: Values, other: Values) -> bool:
    """Return whether two models answered the same items, and some of each task with a weight are judged for both."""
    return all(one[task].keys() == other[task].keys() for task in one) and all(
        any(not math.isnan(value) and not math.isnan(other[task][item]) for item, value in one[task].items())
        for task, weight in _weights(objective).items()
        if weight != 0.0
    )


def compared(objective: Objectives, one: Values, other: Values, split: Split) -> Difference:
    """Return the paired difference of two models' values (see `values_of`) on the same items."""
    if objective.combination == WORST:
        return compare_worst(objective.ratios_of(one, split), objective.ratios_of(other, split))
    rows = [{task: [values[task][item] for item in sorted(values[task])] for task in values} for values in (one, other)]
    return compare(rows[0], rows[1], _weights(objective))


def _weights(objective: Objectives) -> dict[str, float]:
    return objective.task_weights
