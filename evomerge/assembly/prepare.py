"""From a configuration to the objects of a search. All that can be wrong with it is checked before weights are read."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.assembly.ancestry import ancestry_cautions, search_kinship
from evomerge.assembly.comparing import Clock
from evomerge.assembly.hub_models import bring_models
from evomerge.assembly.hub_pins import Note, Pins, find_pins, pin_config
from evomerge.assembly.inputs import checkpoints
from evomerge.assembly.memory_plan import (
    memory_problems,
)
from evomerge.assembly.model_settings import ModelSettings, read_settings
from evomerge.assembly.scorable import unscorable
from evomerge.assembly.spaces import (
    baselines,
    check_stages,
    check_strategies,
    left_out,
    make_stages,
    recipe_terms,
)
from evomerge.assembly.warm_up import Expected, Settled, settle
from evomerge.assembly.workers import (
    device_problems_of,
    find_devices,
    include_paths,
    make_harness,
    make_live_models,
    running_dtype,
    set_threads,
)
from evomerge.config.reader import read
from evomerge.config.schema import SearchConfig
from evomerge.errors import ConfigError
from evomerge.evaluation import unsafe_code
from evomerge.evaluation.catalog import check as check_tasks
from evomerge.evaluation.catalog import public_sources
from evomerge.evaluation.engines.registry import engine_problems
from evomerge.evaluation.harness import LmHarness
from evomerge.evaluation.objective import Objectives
from evomerge.evaluation.task import idle_weights, reference_problems
from evomerge.fitness.items import ItemTable, Term
from evomerge.fitness.race import Race
from evomerge.fitness.scoring import Scoring
from evomerge.genome.space import Space
from evomerge.loggers.registry import logger_problems
from evomerge.merge.kinship import Kinship
from evomerge.merge.live.models import LiveModels
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Recipe
from evomerge.record import Caution, Split
from evomerge.search.stage import Stage
from evomerge.system.references import resolved

log = logging.getLogger(__name__)


@dataclass
class Prepared:
    """A checked configuration and what was opened to check it; no weights have been read.

    Attributes:
        config: the configuration.
        spaces: the space of each stage; of later stages as if the best merge were the start of the first.
        sources: the parents, opened and known to fit together.
        baselines: name to recipe: each parent alone, and their plain average.
        harness: tasks with their datasets and splits.
        objectives: turns item scores into results.
        data: the mapping from which the configuration was read, with the values of its references.
        notes: what the models say differently besides their weights and whose word the merge gets, and what of the
            configuration has no effect, one sentence each.
        kinship: how the models are related, by samples of their weights; None: there is only one.
        pins: the commits of models of the Hub that `data` names otherwise; `config` has them.
    """

    config: SearchConfig
    spaces: Sequence[Space]
    sources: Sources
    baselines: Mapping[str, Recipe]
    harness: LmHarness
    objectives: Objectives
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    kinship: Kinship | None = None
    pins: Pins = field(default_factory=dict)

    @property
    def splits(self) -> list[Split]:
        """The splits that have items."""
        return [split for split in Split if any(self.harness.split_items(split).values())]

    def scoring(self, *, races: bool = True) -> Scoring:
        """Return the scoring, which asks candidates and estimates what their answers are worth.

        Args:
            races: whether candidates race where the configuration says so; else each is decided by itself.
        """
        terms = [
            Term(name, spec.name, weight)
            for name, spec, weight in zip(
                self.objectives.term_names, self.objectives.specs, self.objectives.weights, strict=True
            )
        ]
        fitness = self.config.fitness
        race = None
        if fitness.race is not None and races:
            block = fitness.race.block or max(1, (fitness.items or 1) // 3)
            race = Race(fitness.race.rule, block=block, level=fitness.race.level, most=fitness.race.most)
        scoring = Scoring(
            self.objectives,
            ItemTable(self.harness.split_items(Split.SEARCH), terms),
            items=fitness.items,
            choose=fitness.choose,
            fresh=fitness.fresh,
            estimator=fitness.estimator,
            race=race,
            seed=self.config.seed,
        )
        if fitness.responses is not None:
            scoring.observe_others(other_answers(fitness.responses, terms, self.harness.split_items(Split.SEARCH)))
        return scoring

    def n_items(self, split: Split) -> int:
        """Return how many items a split has, over all tasks."""
        return sum(map(len, self.harness.split_items(split).values()))

    @property
    def parent_names(self) -> list[str]:
        """The names of the parents, by which they stand among the baselines."""
        return [parent.name for parent in self.config.models.parents]

    def typical_recipes(self, n: int) -> list[Recipe]:
        """Return merges such as the first stage proposes: at random points of its space, the same ones each time."""
        space, draw = self.spaces[0], np.random.default_rng(self.config.seed)
        return [space.decode(space.genome(draw.random(space.n_dims))) for _ in range(n)]

    @property
    def items_per_candidate(self) -> int:
        """How many search items one candidate costs; in a race, at most and on average."""
        return self.scoring().items_per_candidate

    @property
    def public_tasks(self) -> list[str]:
        """The public benchmarks whose own evaluation items are the search items."""
        evaluation = self.config.evaluation
        return public_sources(evaluation.tasks, include_paths(evaluation.include_path))

    @property
    def code_tasks(self) -> list[str] | None:
        """The tasks that say that they run code which the models write; None: no task may."""
        return self.harness.code_tasks if self.config.evaluation.allow_unsafe_code else None

    @property
    def cautions(self) -> list[Caution]:
        """What the user should know before anything is run."""
        code = [] if self.code_tasks is None else [Caution("unsafe_code", unsafe_code.warning(self.code_tasks))]
        ancestry = [] if self.kinship is None else ancestry_cautions(self.kinship)
        return [*ancestry, *code, *(Caution("settings", text) for text in (*self.sources.warnings, *self.notes))]

    @property
    def left_out(self) -> list[str]:
        """What is said of genes that could change nothing, one sentence for each kind of space."""
        said = [left_out(self.config, space) for space in self.spaces]
        return list(dict.fromkeys(text for text in said if text is not None))

    @property
    def genes(self) -> list[dict[str, Any]]:
        """The genes of all stages, as `evomerge.store.traces.GENES` has them."""
        stages = zip(self.config.stages, self.spaces, strict=True)
        return [
            {**gene, "stage": stage.name, "stage_number": number}
            for number, (stage, space) in enumerate(stages)
            for gene in space.describe()
        ]

    def stages(self) -> list[Stage]:
        """Return the stages of the search, in order."""
        weights = [objective.weight for objective in self.objectives.objectives]
        return make_stages(self.config, self.sources, weights)

    def live_models(self) -> LiveModels:
        """Load the models into which candidates are written; this reads weights for the first time."""
        set_threads(self.config.execution.threads)
        return make_live_models(self.config, self.sources)

    def settle(self, live: LiveModels, before: Settled | None = None, *, clock: Clock = time.perf_counter) -> Settled:
        """Set the threads of candidates that run in this process, measured where nobody gave them; see `warm_up`."""
        evaluation = self.config.evaluation
        return settle(
            live,
            self.harness,
            self.config.execution,
            next(iter(self.baselines.values())),
            items=self.items_per_candidate,
            batch_size=evaluation.batch_size,
            engine=evaluation.engine,
            before=before,
            expected=Expected(self._n_candidates, self.config.budget.seconds),
            clock=clock,
        )

    @property
    def _n_candidates(self) -> float | None:
        """How many models a run scores, baselines included, as far as its budget says."""
        budget = self.config.budget
        by_items = None if budget.items is None else budget.items / max(1, self.items_per_candidate)
        limits = [limit for limit in (budget.candidates, by_items) if limit is not None]
        return min(limits) + len(self.baselines) if limits else None


def prepare(
    data: Mapping[str, Any],
    *,
    recorded_splits: Mapping[str, Any] | None = None,
    known: Mapping[str, ModelSource] | None = None,
    note: Note | None = None,
) -> Prepared:
    """Read a configuration, check it against its models and tasks, and draw the splits.

    Args:
        data: the composed configuration, a nested mapping.
        recorded_splits: the splits of a run that is continued; None: draw them.
        known: the models of a run, by name, at the commits that it used.
        note: called with a sentence about what takes a while.

    Raises:
        CheckpointError: if a model of the Hub cannot be downloaded, or the disk is too small for it.
        ConfigError: with every mistake that shows in the mapping, model headers and task files; if there is none, with
            every mistake that shows in the datasets.
    """
    config, problems = read(data)
    if config is None:
        raise ConfigError(problems)
    pins = find_pins(checkpoints(config), note, known)
    config = pin_config(config, pins)
    sources = Sources(cache=config.execution.cache, tell=False, keep=True, pins=pins)  # `Prepared.cautions` has them
    model_problems, spaces = check_stages(config, sources, values=False)
    problems += model_problems
    include = include_paths(config.evaluation.include_path)
    # Mistakes of the specs themselves were noted when the mapping was read.
    code = config.evaluation.allow_unsafe_code
    of_tasks = check_tasks(config.evaluation.tasks, include, allow_unsafe_code=code)
    problems += [one for one in of_tasks if one not in problems]
    settings: ModelSettings | None = None
    if not model_problems:
        settings = read_settings(config, sources, spaces)
        problems += [one for one in settings.problems if one not in problems]
        problems += unscorable(config.evaluation.engine, settings.configs)
        problems += reference_problems(config.evaluation.tasks, baselines(config, sources))
    # Workers elsewhere check their machines when they start.
    is_here = config.execution.name == "local"
    device_problems = device_problems_of(config.execution) if is_here else []
    problems += device_problems
    if is_here and not model_problems and not device_problems:
        devices = find_devices(config.execution)
        problems += memory_problems(config, sources, devices, running_dtype(config.execution.dtype, devices[0]))
    problems += engine_problems(config.evaluation.engine)
    problems += [one for one in logger_problems(config.loggers, libraries=True) if one not in problems]
    if recorded_splits is None:  # the optimizer of a continued run has worked already
        problems += check_strategies(config, spaces)
    if problems or settings is None:
        raise ConfigError(problems)
    if not sources.arriving:  # until here, headers were enough
        spaces = _by_values(config, sources, continued=recorded_splits is not None)
    harness = make_harness(config, recorded_splits=recorded_splits)
    parents = [parent.name for parent in config.models.parents]
    terms, combination = recipe_terms(config, sources), config.evaluation.objective
    objectives = Objectives(harness.specs, terms, parents=parents, combination=combination)
    problems, notes = settings.with_prompts(harness)
    if problems:
        raise ConfigError(problems)
    if sources.arriving:  # for all but this, headers were enough
        bring_models(sources, note)
        spaces = _by_values(config, sources, continued=recorded_splits is not None)
    named, plain = baselines(config, sources), resolved(data)[0]
    kinship = search_kinship(config.models.parents, config.models.base, sources)
    idle = idle_weights(harness.specs, combination)
    said = [*([] if idle is None else [idle]), *settings.notes, *notes]
    prepared = Prepared(config, spaces, sources, named, harness, objectives, plain, said, kinship, pins)
    pool = prepared.n_items(Split.SEARCH)
    if config.fitness.items is not None and config.fitness.items > pool:
        raise ConfigError(
            f"fitness.items is {config.fitness.items}, but there are {pool} search items (evaluation.split.search); "
            "lower it, or leave it out for all of them"
        )
    # Making the scoring also reads fitness.responses and finds the estimator.
    needed, allowed = prepared.items_per_candidate, config.budget.items
    if allowed is not None and allowed < needed:
        raise ConfigError(
            f"budget.items is {allowed}, but one candidate takes {needed} items; raise it or lower "
            "fitness.items or evaluation.split.search"
        )
    return prepared


def _by_values(config: SearchConfig, sources: Sources, *, continued: bool) -> list[Space]:
    """Return the spaces of the stages, without the genes that could change nothing, which only values tell.

    Raises:
        ConfigError: with every mistake that shows then.
    """
    problems, spaces = check_stages(config, sources)
    if not continued:  # the optimizer of a continued run has worked already
        problems += check_strategies(config, spaces)
    if problems:
        raise ConfigError(problems)
    return spaces


def other_answers(
    path: str, terms: Sequence[Term], items: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[np.float64]]:
    """Read other models' answers to the search items, whose names are "task/index".

    Args:
        path: a file with a response matrix.
        terms: the terms of the objectives.
        items: task name to item indices.

    Returns:
        Term name to `(n_models, n_task_items)`, NaN where not answered. Only the first term of a task is there, since a
        response matrix holds one number for each item.

    Raises:
        ConfigError: if the file cannot be read, or has none of the items.
    """
    from evomerge.errors import EstimationError
    from evomerge.estimation import read_responses

    try:
        responses = read_responses(path)
    except EstimationError as error:
        raise ConfigError(f"fitness.responses: {error}") from error
    place = {name: column for column, name in enumerate(responses.items)}
    rows: dict[str, NDArray[np.float64]] = {}
    tasks: set[str] = set()
    for term in terms:
        if term.task in tasks:
            continue
        tasks.add(term.task)
        names = [f"{term.task}/{item}" for item in items[term.task]]
        found = np.full((len(responses.models), len(names)), np.nan)
        known = [k for k, name in enumerate(names) if name in place]
        found[:, known] = responses.R[:, [place[names[k]] for k in known]]
        rows[term.name] = found[~np.isnan(found).all(axis=1)]
    if not any(len(one) for one in rows.values()):
        named = next((f"{task}/{item}" for task in items for item in items[task]), "")
        raise ConfigError(
            f"fitness.responses: {path} has no answers to the search items: they are named like {named!r}, its own "
            f"like {responses.items[0]!r}"
        )
    return rows


def prepare_spaces(config: SearchConfig) -> list[Space]:
    """Check models, method and genes only, and return the space of each stage.

    Raises:
        ConfigError: with every mistake.
    """
    problems, spaces = check_stages(config, Sources())
    if problems:
        raise ConfigError(problems)
    return spaces
