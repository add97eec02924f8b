"""A model card: what a merge is made of, how good it is and how sure that is, and how to make it again.

The YAML block on top follows the Hub's model card metadata
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.export.hf_folder import MERGEKIT_FILE, ExportReport
from evomerge.export.licences import ParentModel, describe_parents, merged_licence
from evomerge.export.model_index import model_index
from evomerge.export.publishing import published_recipe
from evomerge.recipe import Recipe
from evomerge.recipe.layer_path import runs
from evomerge.record import Score, Split
from evomerge.system.figures import fixed, p_number
from evomerge.system.text import json_text, markdown, markdown_code
from evomerge.system.yaml_text import write_yaml

TAGS = ("merge", "evomerge", "evolutionary-model-merge", "model-merging")

_OF_THE_SEARCH = ("order", "flattering")
"""Kinds of cautions that concern who reads the search, not who uses the model."""

_HEADINGS = {
    Split.TEST: "test (never seen before the end)",
    Split.VALIDATION: "validation (chose among the finalists)",
    Split.SEARCH: "search (optimized; expect it to flatter)",
}


def model_card(
    recipe: Recipe,
    *,
    title: str,
    parents: Sequence[ParentModel] | None = None,
    scores: Mapping[str, Mapping[Split, Score]] | None = None,
    tasks: Mapping[str, str] | None = None,
    datasets: Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    commands: Sequence[str] = (),
    environment: Mapping[str, Any] | None = None,
    report: ExportReport | None = None,
    verdict: Mapping[str, Any] | None = None,
    answers: str = "",
) -> str:
    """Return the text of README.md.

    Args:
        recipe: the recipe.
        title: the model's name.
        parents: the checkpoints of which the recipe is made; None: `describe_parents(recipe)`.
        scores: model name to its scores: the merge itself first, under `title`, then the models to compare with.
        tasks: task name to metric name, of the objective that `scores` measure.
        datasets: task name to the lm-eval task whose items are the test items, where that is another one.
        facts: how the merge was found, as rows of a table: optimizer, seed, candidates, …
        commands: the command lines that make it again.
        environment: the environment of the run, as `evomerge.store.collect_environment` returns it.
        report: what is known of the folder: how it was verified, what its repeated layers cost.
        verdict: what the scores are worth, as `evomerge.analysis.verdict.with_verdict` returns it.
        answers: the section with answers of the merge, as `evomerge.export.card_answers.card_answers` returns it.
    """
    parents = describe_parents(recipe) if parents is None else parents
    scores, tasks = scores or {}, tasks or {}
    licence, licence_note = merged_licence(parents)
    metadata = _metadata(
        recipe, parents, licence, model_index(title, scores.get(title) or {}, tasks, verdict or {}, datasets)
    )
    parts = [
        "---\n" + write_yaml(metadata) + "---",
        f"# {markdown(title)}",
        _summary(recipe, parents, searched=bool(scores)),
        "## Use\n\n" + _usage(title),
        _layer_path(recipe, report) if recipe.path else "",
        _verified(report) if report is not None and report.verification is not None else "",
        "## Scores\n\n" + _score_table(scores, tasks, verdict or {}) + _worth(verdict or {}) if scores else "",
        _task_table(verdict or {}, title),
        _degeneration_table(verdict or {}, title),
        _objective_table(verdict or {}),
        answers,
        "## Parents\n\n" + _parent_table(parents) + f"\n\n{licence_note}",
        "## How it was found\n\n" + _table(("", ""), [(markdown(key), markdown(value)) for key, value in facts.items()])
        if facts
        else "",
        "## How to reproduce\n\n" + _reproduce(recipe, commands, environment or {}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(
    recipe: Recipe,
    parents: Sequence[ParentModel],
    licence: Mapping[str, str],
    index: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    languages = list(dict.fromkeys(language for parent in parents for language in parent.languages))
    if languages:
        metadata["language"] = languages
    metadata.update(licence)
    metadata["library_name"] = "transformers"
    metadata["pipeline_tag"] = "text-generation"
    hub_ids = list(dict.fromkeys(parent.hub_id for parent in parents if parent.hub_id))
    if hub_ids:
        metadata["base_model"] = hub_ids
        metadata["base_model_relation"] = "merge"
    methods = [method.replace("_", "-") for method in recipe.methods]
    metadata["tags"] = [*TAGS, *(method for method in methods if re.fullmatch(r"[a-z0-9-]{1,50}", method))]
    if index:
        metadata["model-index"] = index
    return metadata


def _summary(recipe: Recipe, parents: Sequence[ParentModel], *, searched: bool) -> str:
    names = [parent.label for parent in parents if parent.role == "parent"]
    how = "Its recipe was found by an evolutionary search with" if searched else "It was built with"
    if recipe.path:
        return (
            f"A stack of {len(recipe.path)} layers from {len(names)} model{'s' * (len(names) != 1)} "
            f"({', '.join(map(markdown_code, names))}). {how} evomerge. No weight was trained; it is an ordinary "
            "checkpoint of the parents' architecture, without code of its own."
        )
    methods = [markdown_code(method) for method in published_recipe(recipe).methods]
    by = f"method {methods[0]}" if len(methods) == 1 else f"methods {', '.join(methods)}, in groups of tensors"
    return (
        f"A merge of {len(names)} model{'s' * (len(names) != 1)} ({', '.join(map(markdown_code, names))}) with the "
        f"{by}. {how} evomerge. No weight was trained; it loads like any model of its architecture."
    )


def _layer_path(recipe: Recipe, report: ExportReport | None) -> str:
    rows = [
        (
            markdown(parent),
            str(start) if stop == start + 1 else f"{start} to {stop - 1}",
            "" if scale == 1 else f"{scale:.4g}",
        )
        for parent, start, stop, scale in runs(recipe.path)
    ]
    parts = [
        f"{_ends(recipe)} From input to output:",
        _table(("from", "layers", "input scale"), rows),
    ]
    if any(step.scale != 1.0 for step in recipe.path):
        parts.append("The input scales are divided into the weights that write to the residual stream.")
    if any("scale" in values for values in (recipe.parameters, *(group.parameters for group in recipe.groups))):
        parts.append("Some tensors are multiplied by the numbers that the recipe calls `scale`.")
    if report is not None and report.repeated is not None and report.repeated.layers:
        parts.append(f"Of these layers, {report.repeated}.")
    if report is not None and MERGEKIT_FILE in report.files:
        parts.append(f"`{MERGEKIT_FILE}` says the same to mergekit.")
    return "## Layers\n\n" + "\n\n".join(parts)


def _ends(recipe: Recipe) -> str:
    first = recipe.parents[0].name
    embeddings, head = markdown_code(recipe.embeddings or first), markdown_code(recipe.head or first)
    if embeddings == head:
        return f"Embeddings, final norm and head are those of {head}."
    return f"The embeddings are those of {embeddings}, final norm and head those of {head}."


def _verified(report: ExportReport) -> str:
    return (
        "## Verified\n\nThis folder, loaded with `AutoModelForCausalLM.from_pretrained`, was compared with the model "
        f"that was scored, both in float32: {report.verification}."
    )


def _usage(title: str) -> str:
    quoted = json_text(title)
    return (
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({quoted})  # this folder, or its id on the Hub\n"
        f"model = AutoModelForCausalLM.from_pretrained({quoted})\n"
        "```"
    )


_MEANS = ("Mean over items", "The tasks' means over items, added up by their weights,")
"""What scores are, with one task and with several."""


def _said(verdict: Mapping[str, Any]) -> str:
    """Return the verdict, in bold; "" where none is known, or the search chose several merges, of which it speaks."""
    choice = verdict.get("choice")
    if choice is None or len(choice["records"]) > 1 or "verdict" not in verdict:
        return ""
    return f"**Verdict: {markdown(verdict['verdict']['text'])}.**\n\n"


def _score_table(
    scores: Mapping[str, Mapping[Split, Score]], tasks: Mapping[str, str], verdict: Mapping[str, Any]
) -> str:
    splits = [split for split in _HEADINGS if any(split in row for row in scores.values())]
    rows = []
    for place, (name, row) in enumerate(scores.items()):
        shown = f"**{markdown(name)}**" if place == 0 else markdown(name)
        rows.append((shown, *(_score(row.get(split)) for split in splits)))
    measured = "; ".join(f"{markdown_code(task)} ({markdown(metric)})" for task, metric in tasks.items())
    return (
        _said(verdict)
        + (f"Objectives over {measured}. " if measured else "")
        + ("The worst task relative to its best parent (1: as good)" if _is_worst(verdict) else _MEANS[len(tasks) > 1])
        + " with its 95 % confidence interval; n is the number of items.\n\n"
        + _table(("model", *(_HEADINGS[split] for split in splits)), rows)
    )


def _is_worst(verdict: Mapping[str, Any] | None) -> bool:
    """Return whether scores are those of the worst task relative to its best parent."""
    return (verdict or {}).get("objective") == "worst"


def _task_table(verdict: Mapping[str, Any], title: str) -> str:
    """Return a table of the merge and the baselines task by task; "" where there is one task, or nothing to compare."""
    skills = verdict.get("skills") or ()
    if len(skills) < 2:
        return ""
    rows = []
    for one in skills:
        task, split = one["task"], one["split"]
        models = (verdict["best"], *verdict["baselines"])
        scores = [_short_score(row["tasks"][task][split]) for row in models]
        name = f"{markdown(task)}, {markdown(one['metric'])}" + (" (less is better)" * (one["direction"] == "minimize"))
        n = f"{one['n']}" if split == Split.TEST else f"{one['n']} ({split})"
        change = "–"
        if one["n"]:
            change = f"{_signed(one['difference'])} [{_signed(one['low'])}, {_signed(one['high'])}]"
            change = f"**{change}**" if one["lost"] else change
        p = "–" if one["p_value"] is None else p_number(one["p_value"])
        rows.append((name, n, *scores, markdown(one["best_parent"] or "–"), change, p))
    heads = ("task", "items", f"**{markdown(title)}**", *(markdown(row["name"]) for row in verdict["baselines"]))
    by = {one["best_parent_by"] for one in skills} - {None}
    named = f", which its {' or '.join(sorted(by))} score of the task named" if by else ""
    return (
        "## Tasks\n\nMean over the test items with its 95 % interval. Paired difference: this model minus the parent "
        f"that is best at the task{named}, on the same items; above 0 this model is better, also where less is better. "
        "Each interval and p-value stands for itself, with no correction for the number of tasks; where this model is "
        "worse by more than the interval, it is in bold.\n\n"
        + _table((*heads, "best parent", "difference from it", "p"), rows)
    )


def _degeneration_table(verdict: Mapping[str, Any], title: str) -> str:
    """Return a table of how answers degenerate beside the best parent's; "" where nothing does."""
    rows = []
    for one in verdict.get("degeneration") or ():
        if not one["best"] and not one["parent"]:
            continue
        change = f"{_signed(one['difference'])} [{_signed(one['low'])}, {_signed(one['high'])}]"
        change = f"**{change}**" if one["share"] and one["low"] > 0.0 else change
        means = (_number(one[key]) for key in ("best", "parent"))
        n = f"{one['n']}" if one["split"] == Split.TEST else f"{one['n']} ({one['split']})"
        what = str(one["measure"]).replace("_", " ")
        rows.append((markdown(one["task"]), what, n, *means, markdown(one["against"]), change))
    if not rows:
        return ""
    return (
        "## How answers end\n\nShares of the answers to the test items that the limit of tokens cut, that are empty, "
        "repeat themselves, or are in a script in which no parent answered; and their mean length in tokens. Paired "
        "difference: this model minus the parent that is best at the task, on the same items, with its 95 % interval; "
        "a share that is larger by more than it is in bold.\n\n"
        + _table(
            ("task", "measure", "items", f"**{markdown(title)}**", "best parent's", "best parent", "difference"), rows
        )
    )


def _short_score(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "–"
    return f"{_number(score['mean'])} [{_number(score['low'])}, {_number(score['high'])}]"


def _objective_table(verdict: Mapping[str, Any]) -> str:
    """Return a table of the chosen merges and the baselines, objective by objective; "" if there is one objective."""
    objectives, choice = verdict.get("objectives") or (), verdict.get("choice")
    if choice is None or len(objectives) < 2:
        return ""
    rows = [(f"**{markdown(row['name'])}**", row["objectives"]) for row in choice["records"]]
    rows += [(markdown(row["name"]), row["objectives"]) for row in verdict["baselines"]]
    names = [one["name"] for one in objectives]
    heads = [
        markdown(one["name"]) + (" (less is better)" if one["direction"] == "minimize" else "") for one in objectives
    ]
    cells = [(who, *(_score(_read(found[name]["test"])) for name in names)) for who, found in rows]
    return "## Objectives\n\nOn the test items:\n\n" + _table(("model", *heads), cells)


def _read(score: Mapping[str, Any] | None) -> Score | None:
    return None if score is None else Score(**score)


def _worth(verdict: Mapping[str, Any]) -> str:
    """Return the paragraphs below the scores: gains on the same items, the luck of the choice, what not to report."""
    parts = []
    compared = verdict.get("comparisons") or ()
    if compared:
        rows = [
            (
                markdown(one["against"]) + (" (best parent)" if one["against"] == verdict.get("best_parent") else ""),
                f"{_signed(one['difference'])} [{_signed(one['low'])}, {_signed(one['high'])}]",
                p_number(one["p_value"]),
            )
            for one in compared
        ]
        parts.append(
            f"Paired difference on the same {compared[0]['n']} test items: this model minus the other, with its 95 % "
            "interval and the two-sided p-value of the same question (p < 0.05 where the interval leaves 0 outside). "
            f"Each comparison stands for itself{_named_by(verdict)}.\n\n" + _table(("against", "difference", "p"), rows)
        )
    adjusted = (verdict.get("best") or {}).get("adjusted")
    if adjusted:
        low, high = _number(adjusted["low"]), _number(adjusted["high"])
        parts.append(
            f"As the best of {len(verdict['finalists']) + 1} finalists its validation score flatters; with the choice "
            f"repeated on resampled items it is {_number(adjusted['mean'])} [{low}, {high}]."
        )
    said = [one["text"] for one in verdict.get("warnings") or () if one["kind"] not in _OF_THE_SEARCH]
    parts += [f"Note: {markdown(text)}." for text in said]
    return "".join(f"\n\n{part}" for part in parts)


def _named_by(verdict: Mapping[str, Any]) -> str:
    split = verdict.get("best_parent_by")
    return "" if split is None else f"; the best parent was named by its {split} score, not by the test"


def _signed(value: float) -> str:
    return f"{value:+.4g}" if abs(value) >= 1000 else fixed(value, 4, signed=True)


def _score(score: Score | None) -> str:
    if score is None:
        return "–"
    return f"{_number(score.mean)} [{_number(score.low)}, {_number(score.high)}] (n = {score.n})"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1000 else fixed(value, 4, limits=(0.0, 1.0))


def _parent_table(parents: Sequence[ParentModel]) -> str:
    rows = []
    for parent in parents:
        model = (
            f"[{parent.hub_id}](https://huggingface.co/{parent.hub_id})"
            if parent.hub_id
            else markdown_code(parent.label)
        )
        where = "" if parent.hub_id or parent.label.startswith("zoo:") else " (local folder)"
        licence = markdown(parent.licence) if parent.licence else "unknown"
        rows.append((markdown(parent.name), parent.role, model + where, markdown(parent.revision or ""), licence))
    return _table(("name", "role", "model", "revision", "licence"), rows)


def _reproduce(recipe: Recipe, commands: Sequence[str], environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages", {})
    version = packages.get("evomerge")
    checkout = f"evomerge {version}" if version else "evomerge"
    lines = [
        environment.get("install") or f"pip install .  # in a checkout of {checkout}",
        *(commands or ("evomerge merge recipe.yaml DIR",)),
    ]
    parts = ["```sh\n" + "\n".join(lines) + "\n```"]
    versions = {"python": environment.get("python"), **packages}
    known = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    if known:
        parts.append(f"Versions: {known}.")
    shown = write_yaml(published_recipe(recipe).to_data())
    parts.append(
        f"<details><summary>The recipe</summary>\n\nSHA-256 `{recipe.content_hash}`\n\n"
        f"```yaml\n{shown}```\n\n</details>"
    )
    return "\n\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
