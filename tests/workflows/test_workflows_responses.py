from pathlib import Path

import numpy as np

from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Record, Score, Split, State
from evomerge.store import RunDir
from evomerge.workflows.responses import run_responses


def test_a_runs_matrix_has_baselines_first_each_item_once_and_no_copies(tmp_path: Path) -> None:
    config = {"evaluation": {"tasks": [{"name": "t", "metric": "em", "filter": "strict", "test": "u"}]}}
    splits = {str(s): {"task": "u" if s is Split.TEST else "t", "n_docs": 9, "items": [0]} for s in Split}

    def items(start: int, *values: float) -> list[ItemScore]:
        return [ItemScore("t", start + i, {"em,strict": v, "em,loose": 9.0}) for i, v in enumerate(values)]

    with RunDir.create(tmp_path / "run", config=config, splits={"t": splits}) as run:
        for number, name in ((0, "candidate 0"), (-1, "a"), (-2, "average"), (1, "candidate 1"), (2, "copy")):
            recipe = Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": number + 5.0})
            record = Record(number, name, State.COMPLETE, recipe, same_as=0 if number == 2 else None)
            scores = {} if number == 2 else {Split.SEARCH: items(3, 1.0, float(number == 0))}
            run.database.add(record, scores=scores)
        run.database.add_scores(0, Split.TEST, Score(0, 0, 1, 1), items(3, 0.0))
        found = run_responses(run)
        hashes = tuple(run.database.record(number).recipe.content_hash for number in (-1, -2, 0, 1))
    assert found.models == ("a", "average", "candidate 0", "candidate 1")
    assert found.items == ("t/3", "t/4", "u/3")
    assert (found.split, set(found.metric)) == (("search", "search", "test"), {"em,strict"})
    assert found.recipes == hashes
    np.testing.assert_array_equal(found.R, [[1, 0, np.nan], [1, 0, np.nan], [1, 1, 0], [1, 0, np.nan]])


def test_a_run_without_scores_has_an_empty_matrix(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={"evaluation": {"tasks": [{"name": "t", "metric": "em"}]}}) as run:
        assert run_responses(run).R.shape == (0, 0)
