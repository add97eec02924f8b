"""What was merged and how: the models with their places, the method with its parameters, and the recipe itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.recipe import ModelSource, Recipe, TokenizerBuild, Value
from evomerge.record import Record
from evomerge.report.data import RunData
from evomerge.report.figure import Figure
from evomerge.report.groups import labels_of
from evomerge.report.path_text import describe_source, path_summary, path_text
from evomerge.system.text import value_word, with_and

MOST_LINES = 2000
"""Of a recipe that the page holds; a longer one is left to the command that writes it."""

MOST_RUNS = 20

MODELS = "models"
"""The column of a table where several recipes are of different ones."""

_LONGEST = 300
"""Characters of a value."""


def draw(runs: Sequence[RunData]) -> Figure | None:
    """Show the recipe of the best candidate, of several runs that of each."""
    labels = labels_of(runs) if len(runs) > 1 else ("",)
    found = [(label, run, run.best) for label, run in zip(labels, runs, strict=True) if run.best is not None]
    if not found:
        return None
    shown = found[:MOST_RUNS]
    left_out = len(found) - len(shown)
    lead = _lead(*found[0][1:]) if len(found) == 1 else _leads([best.recipe for _, _, best in found])
    note = "What a parameter means is told by: `evomerge methods NAME`."
    return Figure(
        "recipe",
        "The recipe",
        lead,
        template="recipe.html",
        data=_data([_recipe(label, run, best) for label, run, best in shown]),
        note=note + (f" Shown are the recipes of {MOST_RUNS} of {len(found)} runs." if left_out else ""),
    )


def _data(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the template shows: what all recipes say once, and what differs as a row of a table for each."""
    facts = [{fact["name"]: fact["value"] for fact in one["facts"]} for one in recipes]
    names = list(dict.fromkeys(name for own in facts for name in own))
    differing = [name for name in names if len({own.get(name) for own in facts}) > 1]
    alike = all(one["models"] == recipes[0]["models"] for one in recipes)
    return {
        "recipes": recipes,
        "facts": [{"name": name, "value": facts[0][name]} for name in names if name not in differing],
        "models": recipes[0]["models"] if alike else [],
        "columns": [*differing, *([] if alike else [MODELS])] if len(recipes) > 1 else [],
        "rows": [
            [own.get(name, "–") for name in differing] + ([] if alike else [_in_one(one["models"])])
            for one, own in zip(recipes, facts, strict=True)
        ],
    }


def _in_one(models: Sequence[Mapping[str, str]]) -> str:
    """Return the models of a recipe in a cell: "math (org/math), base (org/base)"."""
    return ", ".join(f"{one['name']} ({one['place']})" for one in models)


def _lead(run: RunData, best: Record) -> str:
    recipe = best.recipe
    so_far = "" if run.chosen else " so far"
    if recipe.path:
        return f"The best merge{so_far} ({best.name}) is a layer path: {path_summary(recipe)}."
    names = [parent.name for parent in recipe.parents]
    base = " on a base" if recipe.base is not None else ""
    groups = len(recipe.groups)
    parts = f", with numbers of their own for {groups} groups of tensors" if groups > 1 else ""
    methods = with_and(list(recipe.methods))
    return f"The best merge{so_far} ({best.name}) mixes {with_and(names)}{base} by {methods}{parts}."


def _leads(recipes: Sequence[Recipe]) -> str:
    kinds = Counter(
        f"a layer path of {with_and(_lending(recipe))}" if recipe.path else
        f"{with_and(list(recipe.methods))} of {with_and([parent.name for parent in recipe.parents])}"
        for recipe in recipes
    )  # fmt: skip
    words = "; ".join(f"{kind} ({n} runs)" if n > 1 else kind for kind, n in kinds.most_common(5))
    return f"The best merges of {len(recipes)} runs: {words}."


def _lending(recipe: Recipe) -> list[str]:
    used = {step.parent for step in recipe.path}
    return [parent.name for parent in recipe.parents if parent.name in used]


def _recipe(label: str, run: RunData, best: Record) -> dict[str, Any]:
    text = best.recipe.to_yaml()
    lines = text.count("\n")
    if lines > MOST_LINES:
        kept = "\n".join(text.splitlines()[:MOST_LINES])
        text = f"{kept}\n# … {lines - MOST_LINES} more lines; all of it is in {run.path.name}/best.yaml\n"
    return {
        "label": label,
        "facts": [{"name": name, "value": value} for name, value in _facts(best)],
        "models": list(_models(best.recipe)),
        "yaml": text,
        "lines": lines,
    }


def _facts(best: Record) -> Iterator[tuple[str, str]]:
    recipe = best.recipe
    yield "candidate", best.name
    yield "method" if len(recipe.methods) == 1 else "methods", ", ".join(recipe.methods)
    if recipe.path:
        yield "path", path_text(recipe.path)
        ends = [("embeddings", recipe.embeddings), ("final norm and head", recipe.head)]
        yield from ((what, f"of {lender or recipe.parents[0].name}") for what, lender in ends)
    if recipe.parameters:
        yield "for every tensor", _values(recipe.parameters)
    if recipe.groups:
        named = list(dict.fromkeys(name for group in recipe.groups for name in group.parameters))
        own = f": {', '.join(named)}" if named else ""
        yield "groups of tensors", f"{len(recipe.groups)}{own}"
    yield "dtype", recipe.dtype or "that of the first model"
    yield "tokenizer", _tokenizer(recipe)
    for name, value in (
        ("chat template", recipe.chat_template),
        ("generation config", recipe.generation_config),
        ("vision part", recipe.vision),
    ):
        if value is not None:
            yield name, value if len(value) <= _LONGEST else "its own; see the recipe"
    yield "seed of random masks", str(recipe.seed)
    yield "hash", recipe.content_hash[:12]


def _values(values: Mapping[str, Value]) -> str:
    words = [
        f"{name} {', '.join(f'{parent} {number:.4g}' for parent, number in value.items())}"
        if isinstance(value, Mapping)
        else f"{name} {f'{value:.4g}' if isinstance(value, float) else value_word(value)}"
        for name, value in values.items()
    ]
    return "; ".join(words)


def _tokenizer(recipe: Recipe) -> str:
    if isinstance(recipe.tokenizer, TokenizerBuild):
        return f"built: {recipe.tokenizer.source}"
    return f"of {recipe.tokenizer or recipe.donor.name}"


def _models(recipe: Recipe, above: str = "") -> Iterator[dict[str, str]]:
    """Yield the parents and the base, those of parents that are recipes below these."""
    for member in recipe.members:
        part = "base" if member is recipe.base else "parent"
        name = f"{above}{member.name}"
        source = member.source
        if isinstance(source, ModelSource):
            place = describe_source(ModelSource(source.path)) + (f" ({source.file})" if source.file else "")
            if source.adapter is not None:
                place += f" with the adapter {describe_source(ModelSource(source.adapter))}"
            yield {"name": name, "place": place, "revision": (source.revision or "")[:12], "part": part}
        else:
            yield {"name": name, "place": describe_source(source), "revision": "", "part": part}
            yield from _models(source, f"{name} › ")
