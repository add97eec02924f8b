"""A model card: what a merge is made of, how good it is and how sure that is, and how to make it again.

The YAML block on top follows the Hub's model card metadata
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evomerge.analysis.measured import Measured
from evomerge.export.card_items import dataset_ids, items_section
from evomerge.export.card_scores import degeneration_table, objective_table, score_table, table, task_table, worth_text
from evomerge.export.hf_folder import MERGEKIT_FILE, ExportReport
from evomerge.export.licences import ParentModel, describe_parents, merged_licence
from evomerge.export.model_index import model_index
from evomerge.export.publication import Publication
from evomerge.export.publishing import published_recipe
from evomerge.recipe import Recipe
from evomerge.recipe.layer_path import runs
from evomerge.record import Score, Split
from evomerge.system.text import json_text, markdown, markdown_code
from evomerge.system.yaml_text import write_yaml

TAGS = ("merge", "evomerge", "evolutionary-model-merge", "model-merging")

_GENERATES = "text-generation"

_KINDS = {
    "AutoModelForCausalLM": _GENERATES,
    "AutoModelForImageTextToText": "image-text-to-text",
    "AutoModelForMultimodalLM": "any-to-any",
    "AutoModelForSeq2SeqLM": "text2text-generation",
    "AutoModelForSpeechSeq2Seq": "automatic-speech-recognition",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModel": "feature-extraction",
}
"""What the Hub calls that which a model of an Auto class does (https://huggingface.co/tasks)."""

_OF_IMAGES = ("AutoModelForImageTextToText", "AutoModelForMultimodalLM")


def model_card(
    recipe: Recipe,
    *,
    title: str,
    parents: Sequence[ParentModel] | None = None,
    scores: Mapping[str, Mapping[Split, Score]] | None = None,
    tasks: Mapping[str, str] | None = None,
    measured: Mapping[str, Mapping[Split, Measured]] | None = None,
    facts: Mapping[str, Any] | None = None,
    commands: Sequence[str] = (),
    environment: Mapping[str, Any] | None = None,
    report: ExportReport | None = None,
    verdict: Mapping[str, Any] | None = None,
    answers: str = "",
    published: Publication | None = None,
) -> str:
    """Return the text of README.md.

    Args:
        recipe: the recipe.
        title: the model's name.
        parents: the checkpoints of which the recipe is made; None: `describe_parents(recipe)`.
        scores: model name to its scores: the merge itself first, under `title`, then the models to compare with.
        tasks: task name to metric name, of the objective that `scores` measure.
        measured: the items of each task and split, as `evomerge.analysis.measured.measured_items` returns them.
        facts: how the merge was found, as rows of a table: optimizer, seed, candidates, …
        commands: the command lines that make it again.
        environment: the environment of the run, as `evomerge.store.collect_environment` returns it.
        report: what is known of the folder: how it was verified, what its repeated layers cost.
        verdict: what the scores are worth, as `evomerge.analysis.verdict.with_verdict` returns it.
        answers: the section with answers of the merge, as `evomerge.export.card_answers.card_answers` returns it.
        published: where it stands on the Hub, and what stands beside it.
    """
    parents = describe_parents(recipe) if parents is None else parents
    scores, tasks, measured = scores or {}, tasks or {}, measured or {}
    licence, licence_note = merged_licence(parents)
    auto_class = report.auto_class if report is not None else "AutoModelForCausalLM"
    kind = _KINDS.get(auto_class, _GENERATES)
    metadata = _metadata(
        recipe,
        parents,
        licence=licence,
        pipeline=kind,
        datasets=dataset_ids(measured, Split.SEARCH),
        mergekit=report is not None and MERGEKIT_FILE in report.files,
        index=model_index(title, scores.get(title) or {}, tasks, verdict or {}, measured, kind),
    )
    parts = [
        "---\n" + write_yaml(metadata) + "---",
        f"# {markdown(title)}",
        _summary(recipe, parents, searched=bool(scores)),
        "## Use\n\n" + _usage(title, auto_class, None if published is None else published.branch),
        "" if published is None else published.related,
        _layer_path(recipe, report) if recipe.path else "",
        _verified(report) if report is not None else "",
        "## Scores\n\n" + score_table(scores, tasks, verdict or {}) + worth_text(verdict or {}) if scores else "",
        task_table(verdict or {}, title),
        degeneration_table(verdict or {}, title),
        objective_table(verdict or {}, title),
        items_section(measured),
        answers,
        "## Parents\n\n" + _parent_table(parents) + f"\n\n{licence_note}",
        "## How it was found\n\n"
        + table(("setting", "value"), [(markdown(key), markdown(value)) for key, value in facts.items()])
        if facts
        else "",
        "## How to reproduce\n\n" + _reproduce(recipe, parents, commands, environment or {}),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(
    recipe: Recipe,
    parents: Sequence[ParentModel],
    *,
    licence: Mapping[str, Any],
    pipeline: str,
    datasets: Sequence[str],
    mergekit: bool,
    index: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    languages = list(dict.fromkeys(language for parent in parents for language in parent.languages))
    if languages:
        metadata["language"] = languages
    metadata.update(licence)
    metadata["library_name"] = "transformers"
    metadata["pipeline_tag"] = pipeline
    hub_ids = list(dict.fromkeys(parent.hub_id for parent in parents if parent.hub_id))
    if hub_ids:
        metadata["base_model"] = hub_ids
        metadata["base_model_relation"] = "merge"
    # What the parents were trained on, and what the search chose by: both had a say in the weights.
    known = list(dict.fromkeys([*(name for parent in parents for name in parent.datasets), *datasets]))
    if known:
        metadata["datasets"] = known
    methods = [method.replace("_", "-") for method in recipe.methods]
    named = (method for method in methods if re.fullmatch(r"[a-z0-9-]{1,50}", method))
    metadata["tags"] = list(dict.fromkeys([*TAGS, *(["mergekit"] * mergekit), *named]))
    if index:
        metadata["model-index"] = index
    return metadata


def _summary(recipe: Recipe, parents: Sequence[ParentModel], *, searched: bool) -> str:
    names = list(_named(parents))
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


def _named(parents: Sequence[ParentModel]) -> Iterator[str]:
    """Yield what each parent is called: its model, or its model + its adapter."""
    models = [parent for parent in parents if parent.role in ("parent", "below")]
    bases = {parent.name for parent in parents if parent.role == "base"}
    for model in models:
        if model.name in bases:
            continue
        adapters = [one.label for one in parents if one.role == "adapter" and one.name == model.name]
        yield " + ".join([model.label, *adapters])
    below = {model.name for model in models}
    yield from (one.label for one in parents if one.role == "adapter" and one.name not in {*below, *bases})


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
        table(("from", "layers", "input scale"), rows),
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
    parts = []
    if report.verification is not None:
        parts.append(
            f"This folder, loaded with `{report.auto_class}.from_pretrained`, was compared with the model that "
            f"was scored, both in float32: {report.verification.stated}."
        )
    found = report.answering
    if found is not None and found.passed:
        kind = "prompts of its tasks" if found.own_tasks else "a few prompts"
        parts.append(f"Before it appeared, it answered {kind}, not worse (cut, empty, repeating) than its parents.")
    elif found is not None:
        why = ", ".join(one.what for one in found.worse) or "could not be had"
        parts.append(f"It was written by force: before it appeared, its answers to a few prompts {why}.")
    return "\n\n".join(["## Verified", *parts]) if parts else ""


def _usage(title: str, auto_class: str, branch: str | None) -> str:
    quoted = json_text(title) + ("" if branch is None else f", revision={json_text(branch)}")
    reader = "AutoProcessor" if auto_class in _OF_IMAGES else "AutoTokenizer"
    return (
        "```python\n"
        f"from transformers import {', '.join(sorted([auto_class, reader]))}\n\n"
        f"{'processor' if auto_class in _OF_IMAGES else 'tokenizer'} = {reader}.from_pretrained({quoted})"
        "  # this folder, or its id on the Hub\n"
        f"model = {auto_class}.from_pretrained({quoted})\n"
        "```"
    )


def _parent_table(parents: Sequence[ParentModel]) -> str:
    rows = []
    for parent in parents:
        model = (
            f"[{markdown(parent.hub_id)}](https://huggingface.co/{parent.hub_id})"
            if parent.hub_id
            else markdown_code(parent.label)
        )
        if parent.file:
            model += f", file {markdown_code(parent.file)}"
        where = "" if parent.hub_id or parent.label.startswith("zoo:") else " (local)"
        licence = markdown(parent.licence) if parent.licence else "unknown"
        role = "model below the adapter" if parent.role == "below" else parent.role
        revision = markdown_code(parent.revision) if parent.revision else ""
        rows.append((markdown(parent.name), role, model + where, revision, licence))
    return table(("name", "role", "model", "revision", "licence"), rows)


def _reproduce(
    recipe: Recipe, parents: Sequence[ParentModel], commands: Sequence[str], environment: Mapping[str, Any]
) -> str:
    packages = environment.get("packages", {})
    version = packages.get("evomerge")
    checkout = f"evomerge {version}" if version else "evomerge"
    lines = [
        environment.get("install") or f"pip install .  # in a checkout of {checkout}",
        *(commands or ("evomerge merge recipe.yaml DIR",)),
    ]
    parts = ["```sh\n" + "\n".join(lines) + "\n```"]
    if any(parent.hub_id is None and not parent.label.startswith("zoo:") for parent in parents):
        parts.append("Local models stand there by the last part of their path: put in where yours are.")
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
