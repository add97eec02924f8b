"""What is found before the baselines of a new search: whether the parents' answers are cut, and how long it will take.

It costs a few answers of each parent and of three merges, at most a twentieth of what the search will ask, and changes
no record. A search so short that its baselines are there at once has none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from evomerge.analysis.probed_answers import probed_cautions
from evomerge.assembly.prepare import Prepared
from evomerge.execution.base import Executor, StopSignal
from evomerge.record import Caution, Split
from evomerge.search.plan import Cost, Plan, plan
from evomerge.search.probe import RECIPES, probe, probe_items

log = logging.getLogger("evomerge")


def probe_parents(
    prepared: Prepared, executor: Executor, stop: StopSignal, say: Callable[[str], None]
) -> list[Caution] | None:
    """Ask the parents a few items, and say how long the search will take.

    Args:
        prepared: the configuration.
        executor: runs the jobs.
        stop: by which the user can stop.
        say: called with the plan, a sentence.

    Returns:
        What is to be borne in mind about the answers; None: the search is too short for a probe.

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
        return None
    log.info("probing the parents with %d items each", sum(map(len, items.values())))
    recipes = prepared.typical_recipes(RECIPES)
    found = probe(executor, parents, recipes, items, batch_size=config.evaluation.batch_size, stop=stop)
    if found.cost is not None:
        say(plan_of(prepared, found.cost, workers=executor.capacity).sentence(datetime.now()))
    return list(probed_cautions(found.scores))


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
