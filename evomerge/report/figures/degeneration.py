"""How often answers are cut, empty, loop, or in another script: of the best merge beside parents and average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from evomerge.analysis.degeneration import LESS, Degeneration, worse_text
from evomerge.record import Record, Score, Split
from evomerge.report.chart import specification
from evomerge.report.data import RunData
from evomerge.report.figure import Figure, Table
from evomerge.report.numbers import ScoreStyle, seen
from evomerge.report.style import BEST, model_names
from evomerge.system.text import visible

MOST = 12
"""So many rows are drawn, of more those that the best merge has most often."""

SAID = 3
"""So many sentences of the lead are about measures."""

TOKENS = "generated_tokens"
_SHARE, _NUMBER = ScoreStyle(share=True), ScoreStyle(share=False)

Rows = dict[tuple[str, str], dict[str, Score]]
"""Task and measure to model to its mean."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Draw the measures of one run's models, with their intervals."""
    if len(runs) != 1 or (skills := runs[0].skills) is None or not (runs[0].baselines or runs[0].best):
        return None
    run = runs[0]
    models: dict[str, Record] = {} if run.best is None else {BEST: run.best}
    models |= {record.name: record for record in run.baselines}
    split = next((one for one in reversed(Split) if one in (next(iter(models.values())).scores or {})), Split.SEARCH)
    measured = Degeneration(skills)
    found: Rows = {}
    for name, record in models.items():
        for task, own in measured.scores(record, split).items():
            for measure, score in own.items():
                found.setdefault((task, measure), {})[name] = score
    if not found:
        return None
    happens = {key: own for key, own in found.items() if any(one.mean for one in own.values())}
    shares = {key: own for key, own in happens.items() if key[1] != TOKENS}
    drawn = sorted(shares, key=lambda key: -max(one.high for one in shares[key].values()))[:MOST]
    several = len({task for task, _ in found}) > 1
    return Figure(
        "degeneration",
        "Do answers degenerate?",
        _lead(run, happens, split),
        chart=_chart(run, {key: shares[key] for key in drawn}, several) if drawn else None,
        table=_table(run, happens, models, split),
        note=_note(run, bool(drawn), len(shares) - len(drawn)),
    )


def words(measure: str) -> str:
    """Return what a measure is called: "cut answers"."""
    return measure.replace("_", " ").removeprefix("generated ")


def _chart(run: RunData, shares: Rows, several: bool) -> dict[str, Any]:
    names = [name for name in model_names(run) if any(name in own for own in shares.values())]
    label = {key: f"{words(key[1])}, {visible(key[0], most=40)}" if several else words(key[1]) for key in shares}
    rows = [
        {
            "what": label[key],
            "model": name,
            "mean": seen(100 * own[name].mean),
            "low": seen(100 * own[name].low),
            "high": seen(100 * own[name].high),
            "n": own[name].n,
        }
        for key, own in shares.items()
        for name in names
        if name in own
    ]
    base = alt.Chart(alt.NamedData("rows")).encode(
        y=alt.Y("what:N", sort=list(label.values()), title=None, axis=alt.Axis(labelLimit=220)),
        yOffset=alt.YOffset("model:N", sort=names),
        color=alt.Color("model:N", sort=names, scale=alt.Scale(domain=names), title=None),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("what:N", title="answers"),
            alt.Tooltip("mean:Q", title="%", format=".1f"),
            alt.Tooltip("low:Q", title="from", format=".1f"),
            alt.Tooltip("high:Q", title="to", format=".1f"),
            alt.Tooltip("n:Q", title="items"),
        ],
    )
    chart = alt.layer(
        base.mark_rule(opacity=0.7).encode(
            x=alt.X("low:Q", title="% of the answers, with 95 % intervals"), x2="high:Q"
        ),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=alt.X("mean:Q", scale=alt.Scale(domainMin=0))),
    )
    height = min(360, max(110, len(shares) * (len(names) * 13 + 10)))
    return specification(chart.properties(width="container", height=height), rows=rows)


def _lead(run: RunData, happens: Rows, split: Split) -> str:
    rows = list(run.status["degeneration"])
    worse = [one for one in rows if one["share"] and one["low"] > 0.0 and one["measure"] in LESS]
    texts = [worse_text({**one, "task": visible(one["task"], most=60)}, f"the {BEST}") for one in worse[:SAID]]
    if len(worse) > SAID:
        texts.append(f"and likewise in {len(worse) - SAID} more cases")
    if not texts and rows:
        texts = [
            f"the {BEST}'s answers are no more often cut, empty, looping or in a foreign script than the best parent's"
        ]
    elif not texts:
        often = sum(1 for task, measure in happens if measure != TOKENS)
        texts = [
            f"{often} kinds of bad answers occur on the {split} items" if often else "no answer is bad in these ways"
        ]
    for one in [one for one in rows if one["measure"] == TOKENS][:SAID]:
        texts.append(
            f"{_number(one['best'])} tokens an answer to {visible(one['task'], most=60)}, {_number(one['parent'])} of "
            f"{visible(one['against'], most=60)} ({one['difference']:+.1f} [{one['low']:.1f}, {one['high']:.1f}])"
        )
    return ". ".join(f"{text[0].upper()}{text[1:]}" for text in texts) + "."


def _number(value: float) -> str:
    return f"{value:.1f}"


def _note(run: RunData, drawn: bool, left: int) -> str:
    parts = [] if drawn else ["No model's answer is cut, empty, loops or is in a foreign script, so nothing is drawn."]
    if left > 0:
        parts.append(f"{left} more rows stand in the table.")
    for one in run.status["parent_answers"]:
        parts.append(
            f"{words(one['measure'])}: {100 * one['mean']:.1f} % of those of {visible(one['parent'], most=60)} to "
            f"{visible(one['task'], most=60)}, so it may be better than its score says."
        )
    for one in run.status["cut_prompts"]:
        who = [*one["models"], *([f"the {BEST}"] if one["best"] else [])]
        named = ", ".join(visible(name, most=60) for name in who)
        parts.append(
            f"{one['cut']} of {one['n']} prompts of {visible(one['task'], most=60)} were too long for {named}."
        )
    return " ".join([*parts, "Intervals of differences are paired, and stand each for itself."])


def _table(run: RunData, happens: Rows, models: Mapping[str, Record], split: Split) -> Table | None:
    if not happens:
        return None
    compared = {(one["task"], one["measure"]): one for one in run.status["degeneration"]}
    names = [name for name in models if any(name in own for own in happens.values())]
    rows: list[list[Any]] = []
    marked = set()
    for key, own in happens.items():
        one = compared.get(key)
        if one is not None and one["share"] and one["low"] > 0.0:
            marked.add(len(rows))
        rows.append([key[0], words(key[1]), *_cells(own, names, key[1]), _more(one)])
    return Table(["task", "answers", *names, "more than the best parent"], rows, frozenset(marked))


def _cells(own: Mapping[str, Score], names: Sequence[str], measure: str) -> Iterator[str | None]:
    style = _NUMBER if measure == TOKENS else _SHARE
    for name in names:
        yield style.score(own[name]) if name in own else None


def _more(one: Mapping[str, Any] | None) -> str | None:
    return None if one is None else (_SHARE if one["share"] else _NUMBER).difference(one)
