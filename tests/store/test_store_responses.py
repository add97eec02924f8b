from pathlib import Path

import numpy as np
import pytest

from evomerge.errors import RunError
from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import ItemScore, Record, Score, Split, State
from evomerge.store import RunDir
from evomerge.store.responses import Responses, run_responses


def matrix(values: list[list[float]]) -> Responses:
    n_models, n_items = np.shape(values)
    return Responses(
        tuple(f"m{i}" for i in range(n_models)),
        tuple(f"タスク/{i}" for i in range(n_items)),
        ("acc",) * n_items,
        np.array(values, dtype=float),
        tuple(f"hash{i}" for i in range(n_models)),
        ("search",) * n_items,
    )


@pytest.mark.parametrize("values", [[[0, 1, np.nan], [1, 1, 0]], [[0.25, -1.0, np.nan], [1e-9, 2.0, 0.0]]])
def test_a_matrix_comes_back_as_it_was(tmp_path: Path, values: list[list[float]]) -> None:
    made = matrix(values)
    found = Responses.load(made.save(tmp_path / "r.npz"))
    np.testing.assert_array_equal(found.values, made.values)
    texts = ("models", "items", "metric", "recipes", "split")
    assert [getattr(found, key) for key in texts] == [getattr(made, key) for key in texts]


def test_right_and_wrong_are_small_whole_numbers_with_minus_one_for_unknown(tmp_path: Path) -> None:
    with np.load(matrix([[0, 1, np.nan]]).save(tmp_path / "r.npz")) as file:
        assert file["R"].dtype == np.int8 and file["R"].tolist() == [[0, 1, -1]]
        assert list(file["items"]) == ["タスク/0", "タスク/1", "タスク/2"] and list(file["models"]) == ["m0"]
    with np.load(matrix([[0.5, np.nan]]).save(tmp_path / "f.npz")) as file:
        assert file["R"].dtype == np.float64 and np.isnan(file["R"][0, 1])


def test_a_file_of_others_needs_only_the_matrix_and_its_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", R=np.array([[1, -1]], np.int8), models=np.array(["a"]), items=np.array([3, 4]))
    found = Responses.load(tmp_path / "other.npz")
    assert (found.models, found.items, found.metric, found.recipes) == (("a",), ("3", "4"), ("", ""), ("",))
    assert found.values[0, 0] == 1 and np.isnan(found.values[0, 1])


def test_a_row_is_added_at_the_end_or_replaced_in_place() -> None:
    made = matrix([[0, 1], [1, 1]])
    more = made.with_row("new", "h", np.array([0.0, 0.0]))
    assert more.models == ("m0", "m1", "new") and more.recipes[-1] == "h"
    again = more.with_row("m0", "other", np.array([1.0, np.nan]))
    assert again.models == more.models and again.recipes == ("other", "hash1", "h")
    np.testing.assert_array_equal(again.values, [[1, np.nan], [1, 1], [0, 0]])
    np.testing.assert_array_equal(again.row("m0"), [1, np.nan])
    assert again.row("nobody") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(RunError, match="is no response matrix"):
        Responses.load(tmp_path / "r.npz")
    np.savez(tmp_path / "keys.npz", R=np.zeros((1, 1)))
    with pytest.raises(RunError, match="is no response matrix"):
        Responses.load(tmp_path / "keys.npz")
    with pytest.raises(RunError, match="cannot read"):
        Responses.load(tmp_path / "nowhere.npz")


def test_a_runs_matrix_has_baselines_first_each_item_once_and_no_copies(tmp_path: Path) -> None:
    config = {"evaluation": {"tasks": [{"name": "t", "metric": "em", "filter": "strict", "test": "u"}]}}
    splits = {str(s): {"task": "u" if s is Split.TEST else "t", "n_docs": 9, "items": [0]} for s in Split}

    def items(start: int, *values: float) -> list[ItemScore]:
        return [ItemScore("t", start + i, {"em,strict": v, "em,loose": 9.0}) for i, v in enumerate(values)]

    with RunDir.create(tmp_path / "run", config=config) as run:
        run.database.set_splits({"t": splits})
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
    np.testing.assert_array_equal(found.values, [[1, 0, np.nan], [1, 0, np.nan], [1, 1, 0], [1, 0, np.nan]])


def test_a_run_without_scores_has_an_empty_matrix(tmp_path: Path) -> None:
    with RunDir.create(tmp_path / "run", config={"evaluation": {"tasks": [{"name": "t", "metric": "em"}]}}) as run:
        assert run_responses(run).values.shape == (0, 0)
