"""Fronts: the results that no other one dominates, and their hypervolume.

The hypervolume is the volume, between a reference point and the results, that at least one result dominates (Zitzler
and Thiele, IEEE Transactions on Evolutionary Computation 3:257, 1999). It grows with every result that is better in
some trade-off, so one number says how good a whole front is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from evomerge.record import Record, Result


def front(records: Iterable[Record]) -> list[Record]:
    """Return the scored records that no other one dominates, the best in the first objective first.

    Records with equal results all stay.
    """
    scored = [(record, record.result) for record in records if record.result is not None]
    least = min((result.violation for _, result in scored), default=0.0)
    # A smaller violation dominates a larger one, and between equal ones the objectives alone decide.
    level = [(record, result) for record, result in scored if result.violation == least]
    if not level:
        return []
    import moocore

    objectives = np.array([result.objectives for _, result in level])
    best = moocore.is_nondominated(objectives, maximise=True, keep_weakly=True)
    kept = [one for one, stays in zip(level, best, strict=True) if stays]
    return [record for record, result in sorted(kept, key=lambda one: (-one[1].objectives[0], one[0].number))]


def hypervolume(results: Sequence[Result | None], reference: Sequence[float]) -> float:
    """Return the hypervolume of the feasible results.

    Args:
        results: the results, whose objectives are better the larger they are; None: the candidate failed.
        reference: `(n_objectives,)`; only results that are better in every objective count.
    """
    feasible = [result.objectives for result in results if result is not None and result.violation == 0.0]
    if not feasible:
        return 0.0
    import moocore

    return float(moocore.hypervolume(np.array(feasible), ref=np.asarray(reference, dtype=np.float64), maximise=True))
