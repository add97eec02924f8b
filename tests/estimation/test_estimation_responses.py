import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from evomerge.errors import EstimationError
from evomerge.estimation import Responses, read_responses, read_samples

R = np.array([[1.0, 0.0, np.nan], [0.0, 1.0, 1.0]])
SMALL = Responses(("m/a", "m/b"), ("t/0", "t/1", "t/2"), R)


def same(left: Responses, right: Responses) -> bool:
    return left.models == right.models and left.items == right.items and np.array_equal(left.R, right.R, equal_nan=True)


def test_rows_and_columns_follow_names() -> None:
    part = SMALL.of_models(["m/b", "m/a"]).of_items(["t/2", "t/0"])
    assert np.array_equal(part.R, [[1, 0], [np.nan, 1]], equal_nan=True)


def test_accuracy_is_over_what_was_asked() -> None:
    assert SMALL.accuracy().tolist() == [0.5, 2 / 3]
    assert np.isnan(Responses(("m",), ("i",), np.array([[np.nan]])).accuracy()[0])


def test_joined_matrices_are_aligned_by_item_name() -> None:
    other = Responses(("m/c",), ("t/2", "t/1", "t/0"), np.array([[0.0, 0.5, 1.0]]))
    assert SMALL.joined(other).R[2].tolist() == [1.0, 0.5, 0.0]


def test_different_items_cannot_be_joined() -> None:
    with pytest.raises(EstimationError, match=r"'u/9' only in the second"):
        SMALL.joined(Responses(("m/c",), ("u/9",), np.array([[1.0]])))


def test_unknown_names_are_counted_and_shown() -> None:
    with pytest.raises(EstimationError, match=r"1 of 2 item names .* 't/9'"):
        SMALL.of_items(["t/0", "t/9"])
    with pytest.raises(EstimationError, match=r"model names .*'nobody'"):
        SMALL.of_models(["nobody"])


@pytest.mark.parametrize("value", [-0.1, 1.1, np.inf])
def test_a_score_outside_its_range_is_refused_with_its_place(value: float) -> None:
    with pytest.raises(EstimationError, match=r"scores in \[0, 1\].*model 'm' on item 'j'"):
        _ = Responses(("m",), ("i", "j"), np.array([[1.0, value]])).scores


def test_names_may_come_once() -> None:
    with pytest.raises(EstimationError, match="each model may come once; 'm'"):
        Responses(("m", "m"), ("i",), np.zeros((2, 1)))
    with pytest.raises(EstimationError, match="each item may come once; 'i'"):
        _ = Responses(("m",), ("i", "i"), np.zeros((1, 2))).scores
    with pytest.raises(EstimationError, match="each item may come once; 'i'"):
        Responses(("m",), ("i", "i"), np.zeros((1, 2))).of_items(["i"])


def test_a_shape_that_does_not_fit_its_names_is_refused() -> None:
    with pytest.raises(EstimationError, match=r"shape \(2, 3\)"):
        Responses(("m",), ("i",), R)


def test_responses_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SMALL.R[0, 0] = 0.0


@pytest.mark.parametrize("scores", [R, np.array([[0.25, np.nan, 1.0], [0.0, 0.5, 1.0]])])
def test_npz_round_trip(tmp_path: Path, scores: np.ndarray) -> None:
    written = Responses(SMALL.models, SMALL.items, scores)
    written.save(tmp_path / "r.npz")
    assert same(read_responses(tmp_path / "r.npz"), written)


@pytest.mark.parametrize("name", ["r.npz", "r.csv"])
def test_what_no_estimator_can_use_is_refused_where_it_is_read(tmp_path: Path, name: str) -> None:
    Responses(("m",), ("i",), np.array([[57.0]]), metric=("generated_tokens",)).save(tmp_path / "r.npz")
    (tmp_path / "r.csv").write_text("model,i\nm,57\n")
    with pytest.raises(EstimationError, match=r"scores in \[0, 1\].* the first 57 for model 'm'"):
        read_responses(tmp_path / name)


def test_what_is_known_of_models_and_items_goes_with_them() -> None:
    made = Responses(("a", "b"), ("i", "j"), np.eye(2), ("acc", "em"), ("hash a", "hash b"), ("search", "test"))
    part = made.of_models(["b"]).of_items(["j", "i"])
    assert (part.metric, part.recipes, part.split) == (("em", "acc"), ("hash b",), ("test", "search"))
    assert part.joined(made.of_models(["a"])).recipes == ("hash b", "hash a")
    with pytest.raises(EstimationError, match="2 models need 2 entries of `recipes`; got 1"):
        Responses(("a", "b"), ("i",), np.zeros((2, 1)), recipes=("hash",))


def test_names_saved_as_objects_are_read_without_running_code(tmp_path: Path) -> None:
    names = np.array(SMALL.models, dtype=object), np.array(SMALL.items, dtype=object)
    np.savez(tmp_path / "r.npz", R=np.where(np.isnan(R), -1, R).astype(np.int8), models=names[0], items=names[1])
    assert same(read_responses(tmp_path / "r.npz"), SMALL)


def test_an_object_array_that_holds_anything_else_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Path("x")], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "r.npz", "w") as archive:
        archive.writestr("models.npy", buffer.getvalue())
        for name, array in (("R", np.zeros((1, 1))), ("items", np.array(["i"]))):
            plain = io.BytesIO()
            np.save(plain, array)
            archive.writestr(f"{name}.npy", plain.getvalue())
    with pytest.raises(EstimationError, match="pickled pathlib"):
        read_responses(tmp_path / "r.npz")


def test_an_npz_without_responses_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", R=R)
    with pytest.raises(EstimationError, match="needs the arrays R, models and items"):
        read_responses(tmp_path / "r.npz")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(EstimationError, match="not a readable npz"):
        read_responses(tmp_path / "bad.npz")


# --- the matrix of a run: any metric, with recipes and splits --------------------------------------------------------


def run_matrix(values: list[list[float]]) -> Responses:
    n_models, n_items = np.shape(values)
    return Responses(
        tuple(f"m{i}" for i in range(n_models)),
        tuple(f"タスク/{i}" for i in range(n_items)),
        np.array(values, dtype=float),
        ("acc",) * n_items,
        tuple(f"hash{i}" for i in range(n_models)),
        ("search",) * n_items,
    )


@pytest.mark.parametrize("values", [[[0, 1, np.nan], [1, 1, 0]], [[0.25, -1.0, np.nan], [1e-9, 2.0, 0.0]]])
def test_a_matrix_comes_back_as_it_was(tmp_path: Path, values: list[list[float]]) -> None:
    made = run_matrix(values)
    found = Responses.load(made.save(tmp_path / "r.npz"))
    np.testing.assert_array_equal(found.R, made.R)
    texts = ("models", "items", "metric", "recipes", "split")
    assert [getattr(found, key) for key in texts] == [getattr(made, key) for key in texts]


def test_right_and_wrong_are_small_whole_numbers_with_minus_one_for_unknown(tmp_path: Path) -> None:
    with np.load(run_matrix([[0, 1, np.nan]]).save(tmp_path / "r.npz")) as file:
        assert file["R"].dtype == np.int8 and file["R"].tolist() == [[0, 1, -1]]
        assert list(file["items"]) == ["タスク/0", "タスク/1", "タスク/2"] and list(file["models"]) == ["m0"]
    with np.load(run_matrix([[0.5, np.nan]]).save(tmp_path / "f.npz")) as file:
        assert file["R"].dtype == np.float64 and np.isnan(file["R"][0, 1])


def test_a_file_of_others_needs_only_the_matrix_and_its_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", R=np.array([[1, -1]], np.int8), models=np.array(["a"]), items=np.array([3, 4]))
    found = Responses.load(tmp_path / "other.npz")
    assert (found.models, found.items, found.metric, found.recipes) == (("a",), ("3", "4"), ("", ""), ("",))
    assert found.R[0, 0] == 1 and np.isnan(found.R[0, 1])


def test_a_row_is_added_at_the_end_or_replaced_in_place() -> None:
    made = run_matrix([[0, 1], [1, 1]])
    more = made.with_row("new", "h", np.array([0.0, 0.0]))
    assert more.models == ("m0", "m1", "new") and more.recipes[-1] == "h"
    again = more.with_row("m0", "other", np.array([1.0, np.nan]))
    assert again.models == more.models and again.recipes == ("other", "hash1", "h")
    np.testing.assert_array_equal(again.R, [[1, np.nan], [1, 1], [0, 0]])
    np.testing.assert_array_equal(again.row("m0"), [1, np.nan])
    assert again.row("nobody") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.npz").write_bytes(content)
    with pytest.raises(EstimationError, match="is no response matrix"):
        Responses.load(tmp_path / "r.npz")
    np.savez(tmp_path / "keys.npz", R=np.zeros((1, 1)))
    with pytest.raises(EstimationError, match="is no response matrix"):
        Responses.load(tmp_path / "keys.npz")
    with pytest.raises(EstimationError, match="cannot read"):
        Responses.load(tmp_path / "nowhere.npz")


# --- other kinds of files ------------------------------------------------------------------------------------------


def test_long_and_wide_csv_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("item,model,score\nt/0,m/a,1\nt/1,m/a,0\nt/0,m/b,0\nt/1,m/b,1\nt/2,m/b,1\n")
    (tmp_path / "wide.csv").write_text("model,t/0,t/1,t/2\nm/a,1,0,\nm/b,0,1,1\n")
    assert same(read_responses(tmp_path / "long.csv"), SMALL)
    assert same(read_responses(tmp_path / "wide.csv"), SMALL)


def test_parquet_is_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"model": ["m/a", "m/b"], "t/0": [1.0, 0.0], "t/1": [0.0, 1.0], "t/2": [None, 1.0]})
    parquet.write_table(table, tmp_path / "r.parquet")
    assert same(read_responses(tmp_path / "r.parquet"), SMALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("model,item,score\nm,i,1\nm,i,0\n", "two scores"),
        ("model,item,score\nm,i,yes\n", "must be a number"),
        ("name,i\nm,1\n", "first column 'model'"),
        ("model,i\nm\n", "line 2: expected 2 cells"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(EstimationError, match=message):
        read_responses(tmp_path / "r.csv")


def write_log(folder: Path, scores: list[float], **more: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl"
    lines = [{"doc_id": i, "exact_match": score, "metrics": ["exact_match"], **more} for i, score in enumerate(scores)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_sample_logs_of_lm_eval_are_read_by_folder(tmp_path: Path) -> None:
    write_log(tmp_path / "org__one", [1.0, 0.0])
    write_log(tmp_path / "org__two", [0.0])
    found = read_responses(tmp_path)
    assert found.models == ("org__one", "org__two")
    assert found.items == ("gsm8k/0", "gsm8k/1")
    assert np.array_equal(found.R, [[1, 0], [0, np.nan]], equal_nan=True)


def test_only_the_first_filter_of_a_sample_log_counts(tmp_path: Path) -> None:
    path = write_log(tmp_path, [1.0, 0.0], filter="strict-match")
    first = path.read_text()
    second = first.replace("strict-match", "flexible-extract").replace('"exact_match": 0.0', '"exact_match": 1.0')
    path.write_text(first + second)
    assert read_samples([path], models=["x"]).R.tolist() == [[1.0, 0.0]]


def test_a_sample_log_with_several_metrics_needs_one_named(tmp_path: Path) -> None:
    path = write_log(tmp_path, [1.0], metrics=["exact_match", "acc"], acc=0.0)
    with pytest.raises(EstimationError, match="name the metric"):
        read_samples([path])
    assert read_samples([path], metric="acc").R.tolist() == [[0.0]]
    with pytest.raises(EstimationError, match="no number under the metric 'f1'"):
        read_samples([path], metric="f1")


def test_what_is_no_sample_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("[1]\n")
    with pytest.raises(EstimationError, match="line 1: not a sample"):
        read_responses(tmp_path / "x.jsonl")
    with pytest.raises(EstimationError, match="no responses at"):
        read_responses(tmp_path / "missing.npz")
    with pytest.raises(EstimationError, match=r"ends in '\.txt'"):
        (tmp_path / "r.txt").write_text("")
        read_responses(tmp_path / "r.txt")
