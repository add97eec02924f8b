"""What is found before the baselines of a new search: whether the parents' answers are cut, and how long it will take.

It costs a few answers of each parent and of three merges, at most a twentieth of what the search will ask, and changes
no record. A search so short that its baselines are there at once has none.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from evomerge.analysis.probed_answers import probed_cautions
from evomerge.assembly.prepare import Prepared
from evomerge.execution.base import Executor, StopSignal
from evomerge.record import Caution, Split
from evomerge.search.plan import Cost, Plan, plan
from evomerge.search.probe import RECIPES, probe, probe_items
from evomerge.store.database import Database

log = logging.getLogger("evomerge")


MUCH, LONG = 1.25, 60.0
"""By which factor the baselines must show that a plan was wrong, and how many seconds a search must have left, for
another plan to be said."""


@dataclass(frozen=True)
class ProbeFindings:
    """What a probe found.

    Attributes:
        cautions: what is to be borne in mind about the answers; None: the search is too short for a probe.
        cost: what a candidate costs; None: not known.
    """

    cautions: Sequence[Caution] | None = None
    cost: Cost | None = None


def probe_parents(prepared: Prepared, executor: Executor, stop: StopSignal) -> ProbeFindings:
    """Ask the parents a few items, if the search is long enough for that.

    Args:
        prepared: the configuration.
        executor: runs the jobs.
        stop: by which the user can stop.

    Raises:
        CheckpointError: if a parent cannot be built.
        ExecutionError: if the device failed.
        Interrupted: if the stop signal came first.
    """
    config = prepared.config
    parents = {name: recipe for name, recipe in prepared.baselines.items() if name in prepared.parent_names}
    items = probe_items(
        prepared.harness.split_items(Split.SEARCH),
        per_candidate=prepared.items_per_candidate,
        budget=config.budget,
        parents=len(parents),
        validation=prepared.n_items(Split.VALIDATION),
        batch_size=config.evaluation.batch_size,
    )
    if items is None:
        return ProbeFindings()
    log.info("probing the parents with %d items each", sum(map(len, items.values())))
    recipes = prepared.typical_recipes(RECIPES)
    found = probe(executor, parents, recipes, items, batch_size=config.evaluation.batch_size, stop=stop)
    return ProbeFindings(list(probed_cautions(found.scores)), found.cost)


def corrected_plan(prepared: Prepared, database: Database, probed: Cost | None, *, workers: int) -> Plan | None:
    """Return the plan that follows from what the baselines took, where it differs much from the one that was said.

    Args:
        prepared: the configuration.
        database: of the run, in which the baselines are.
        probed: what the probe found that a candidate costs; None: no plan was said.
        workers: how many candidates run at a time.
    """
    took = [record.seconds for record in database.baselines() if record.result]
    asked = prepared.n_items(Split.SEARCH)
    if not took:
        return None
    build = 0.0 if probed is None else probed.build
    each = max(median(took), 1e-9)  # of all search items, with a copy of a parent in place of a merge
    if probed is not None and 1 / MUCH <= each / max(probed.seconds(asked) - build, 1e-9) <= MUCH:
        return None
    cost = Cost(build, 0.0, each / asked, prepared.config.evaluation.batch_size)
    found = replace(plan_of(prepared, cost, workers=workers), baselines_seconds=0.0)
    return None if found.seconds is None or found.seconds < LONG else found


def plan_of(prepared: Prepared, cost: Cost, *, workers: int = 1) -> Plan:
    """Return how long the search of a configuration will take.

    Args:
        prepared: the configuration.
        cost: what a candidate costs.
        workers: how many candidates run at a time.
    """
    items = prepared.items_per_candidate
    return plan(
        cost,
        prepared.config.budget,
        items=items,
        search=prepared.n_items(Split.SEARCH),
        validation=prepared.n_items(Split.VALIDATION),
        test=prepared.n_items(Split.TEST),
        baselines=len(prepared.baselines),
        finalists=prepared.config.evaluation.finalists,
        workers=workers,
        merge_share=cost.build / cost.seconds(items) if cost.build else None,
    )
