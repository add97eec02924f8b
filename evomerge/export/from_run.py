"""The winner of a run as a model folder, with what the run's database says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.analysis.measured import measured_items
from evomerge.analysis.verdict import candidate_verdict, with_verdict
from evomerge.errors import ExportError
from evomerge.export.card_answers import card_answers
from evomerge.export.card_items import ITEMS_FILE, items_text
from evomerge.export.hf_folder import ExportReport, export_recipe
from evomerge.export.hub import HubFile
from evomerge.export.licences import describe_parents
from evomerge.export.model_card import model_card
from evomerge.export.outline import outline_recipe
from evomerge.export.publication import Publication
from evomerge.export.publishing import CUT_NOTE, refuse_secrets_in_data, without_folders
from evomerge.export.questions import run_questions
from evomerge.export.search_facts import search_facts, section
from evomerge.record import Record, Score, Split, best_scored
from evomerge.store.run_dir import CONFIG, RunDir
from evomerge.store.status import run_status
from evomerge.system.files import free_folder
from evomerge.system.text import command
from evomerge.system.yaml_text import write_yaml

if TYPE_CHECKING:
    from evomerge.merge.sources import Sources

CONFIG_FILE = "evomerge.yaml"
"""The name of the run's composed configuration in the folder."""

_WHO = "this model"
"""What the exported merge is called in its card."""

_OF_THE_PLACE = ("address", "runtime_env")
"""Keys of `execution` that name machines, folders and environments of one place."""


def export_run(
    run: RunDir,
    out: str | Path,
    *,
    number: int | None = None,
    config: Mapping[str, Any] | None = None,
    title: str | None = None,
    shard_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    verify: bool = True,
    tolerance: float | None = None,
    report: Callable[[ExportReport], None] | None = None,
    answers: bool = True,
    force: bool = False,
    sources: Sources | None = None,
    published: Publication | None = None,
) -> Path:
    """Write the best candidate of a run (or any other one) as a model folder with a card, and return the folder.

    Args:
        run: the run.
        out: the folder; it must not exist, or be empty.
        number: the number of the candidate; None: the winner.
        config: the run's configuration for publication, which says the same as the run's own; None: that.
        title: the model's name in the card; None: the name of the folder.
        shard_size: as in `export_recipe`; so are `progress`, `verify`, `tolerance` and `report`.
        answers: whether the card shows a few answers, with the items that they answer.
        force: as in `export_recipe`; so are the `sources`.
        published: where the merge stands on the Hub, if it does; its id there is the title.

    Raises:
        ExportError: if there is no such candidate, the configuration holds what looks like a secret, or the folder
            cannot be written, fails its verification, or answers worse than its parents.
    """
    out = free_folder(out, ExportError)  # before the parents' cards are read, which may need the network
    config = run.config if config is None else config
    refuse_secrets_in_data(config, run.path / CONFIG)
    record = chosen_record(run, number)
    return export_recipe(
        record.recipe,
        out,
        card=_card_maker(run, record, config, title or out.resolve().name, answers, published),
        extra_files=_extra_files(run, config),
        shard_size=shard_size,
        progress=progress,
        verify=verify,
        tolerance=tolerance,
        report=report,
        questions=run_questions(run, record),
        force=force,
        sources=sources,
    )


def outline_run(
    run: RunDir,
    folder: Path,
    *,
    number: int | None = None,
    config: Mapping[str, Any] | None = None,
    answers: bool = True,
    published: Publication | None = None,
) -> list[HubFile]:
    """Write what `export_run` would into an empty folder, but for the weights, and return all of its files.

    Raises:
        ExportError: as `export_run`, as far as it shows before weights are read.
    """
    config = run.config if config is None else config
    refuse_secrets_in_data(config, run.path / CONFIG)
    record = chosen_record(run, number)
    card = _card_maker(run, record, config, folder.name, answers, published)
    return outline_recipe(record.recipe, folder, card=card, extra_files=_extra_files(run, config))


def _card_maker(
    run: RunDir, record: Record, config: Mapping[str, Any], title: str, answers: bool, published: Publication | None
) -> Callable[[ExportReport], str]:
    options: dict[str, Any] = {"config": config, "answers": answers, "published": published}
    title = title if published is None else published.repo_id
    return lambda known: run_card(run, record, title=title, report=known, **options)


def _extra_files(run: RunDir, config: Mapping[str, Any]) -> dict[str, str]:
    return {CONFIG_FILE: _config_text(config), ITEMS_FILE: items_text(measured_items(run))}


def chosen_record(run: RunDir, number: int | None = None) -> Record:
    """Return a record by its number; None: the winner or, before there is one, the best on the search items so far.

    Raises:
        ExportError: if there is no such record.
    """
    if number is None:
        choice = run.database.choice()
        number = None if choice is None else choice.best
    if number is not None:
        record = run.database.record(number)
        if record is None:
            raise ExportError(f"the run {run.path} has no candidate {number}; `evomerge records {run.path}` lists them")
        return record
    best = best_scored(run.database.records())
    if best is None:
        raise ExportError(
            f"the run {run.path} has no scored candidate yet; continue it with `{command('resume', run.path)}`"
        )
    return best


def run_card(
    run: RunDir,
    record: Record,
    *,
    config: Mapping[str, Any],
    title: str,
    report: ExportReport | None = None,
    answers: bool = True,
    published: Publication | None = None,
) -> str:
    """Return the model card of a candidate, compared with the run's parents and plain average.

    Args:
        run: the run.
        record: the candidate.
        config: the run's configuration.
        title: the model's name.
        report: what is known of its folder.
        answers: as in `export_run`.
        published: as in `export_run`.
    """
    baselines, measured = run.database.baselines(), measured_items(run)
    scores: dict[str, Mapping[Split, Score]] = {title: record.scores or {}}
    for baseline in baselines:
        name = baseline.name if baseline.name not in scores else f"{baseline.name} (baseline)"
        scores[name] = baseline.scores or {}
    return model_card(
        record.recipe,
        title=title,
        parents=describe_parents(record.recipe),
        scores=scores,
        tasks=without_folders(_tasks(config)),
        measured=measured,
        facts=without_folders(search_facts(run, config, record)),
        commands=(
            "evomerge merge recipe.yaml DIR  # builds these weights again",
            f"evomerge search {CONFIG_FILE} run.dir=outputs/again  # the search that found them",
        ),
        environment=run.environment,
        report=report,
        verdict=without_folders(_verdict(run, record)),
        answers=card_answers(run, record) if answers else "",
        published=published,
    )


def _verdict(run: RunDir, record: Record) -> Mapping[str, Any]:
    """Return what a candidate's scores are worth: with what belongs to the choice for the winner, without it else."""
    status, choice = run_status(run), run.database.choice()
    if choice is not None and record.number == choice.best:
        return with_verdict(run, status, who=_WHO)
    return candidate_verdict(run, status, record, who=_WHO)


def _config_text(config: Mapping[str, Any]) -> str:
    """Return the configuration for publication: with local paths cut, and without what says where it ran.

    The run's own config.yaml has the whole of it.
    """
    kept = {key: value for key, value in config.items() if key != "execution"}
    execution = config.get("execution")
    if isinstance(execution, Mapping):
        kept["execution"] = {key: value for key, value in execution.items() if key not in _OF_THE_PLACE}
    shown = without_folders({key: kept[key] for key in config if key in kept})
    note = "" if shown == config else CUT_NOTE
    # `evomerge search FILE` composes a file over the defaults, all of which this one overrides.
    return "defaults: [search, _self_]\n" + note + write_yaml(shown)


def _tasks(config: Mapping[str, Any]) -> dict[str, str]:
    tasks = section(config, "evaluation").get("tasks") or ()
    metrics: dict[str, list[str]] = {}
    for task in tasks:
        if isinstance(task, Mapping):
            metrics.setdefault(str(task["name"]), []).append(str(task.get("metric", "score")))
    return {name: ", ".join(found) for name, found in metrics.items()}
