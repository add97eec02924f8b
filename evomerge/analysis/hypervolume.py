"""How the hypervolume of a search grew, and from which point it is measured.

The hypervolume (Zitzler and Thiele 1999, see `front.py`) depends on a reference point, so searches are comparable only
from the same one. It is taken from what every search of the same tasks has, the parents and the average, rather than
from the candidates, which differ (Ishibuchi et al., Evolutionary Computation 26:411, 2018, on why it matters).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from evomerge.analysis.front_so_far import FrontSoFar
from evomerge.record import Result


def reference_point(
    baselines: Sequence[Result], candidates: Sequence[Result], limits: Sequence[float | None]
) -> tuple[float, ...]:
    """Return from where the hypervolume of some searches is measured, `(n_objectives,)`, larger is better.

    In each objective it is the worst that is possible, where that is known, else the worst baseline's value; without
    baselines the worst candidate's.

    Args:
        baselines: the results of the parents and averages of all searches.
        candidates: those of their candidates.
        limits: the worst possible value of each objective (0 for a share of right answers); None: there is no such.
    """
    results = list(baselines) or list(candidates)
    return tuple(
        limit if limit is not None else min((one.objectives[place] for one in results), default=0.0)
        for place, limit in enumerate(limits)
    )


def hypervolume_course(results: Sequence[Result | None], reference: Sequence[float]) -> Iterator[float]:
    """Yield the hypervolume of all results so far, one number for each.

    Args:
        results: in the order in which they came; None: a candidate that failed.
        reference: as for `hypervolume`, of one moment or all.
    """
    kept, least = FrontSoFar(), tuple(reference)
    for result in results:
        if result is not None and result.violation == 0.0 and (np.asarray(result.objectives) > least).all():
            kept.add(result)
        yield kept.hypervolume(least) or 0.0
