import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import make_items, make_recipe, make_record

from evomerge.errors import RunError
from evomerge.record import Choice, ItemScore, Result, Score, Split, State
from evomerge.store import Database


def reopened(database):
    database.close()
    return Database.open(database.path)


def test_a_record_comes_back_equal_after_reopening(database):
    record = make_record(3)
    database.add(record)
    with reopened(database) as again:
        assert again.record(3) == record
        assert list(again.records()) == [record]
        assert again.record(3).recipe.content_hash == record.recipe.content_hash
        assert again.record(3).recipe.to_data() == record.recipe.to_data()  # the labels of groups too
        assert again.record(4) is None


@pytest.mark.parametrize(
    "record",
    [
        make_record(-2, name="math", genome=None, recipe=make_recipe(0.1)),
        make_record(1, state=State.FAILED, fitness=None, scores=None, error="out of memory\nin layer 3"),
        make_record(2, state=State.INVALID, fitness=None, scores=None, error="density must be positive"),
        make_record(3, same_as=1, seconds=0.0),
        make_record(4, fitness=math.inf),
        make_record(5, fitness=-math.inf, genome=()),
        make_record(6, scores={Split.TEST: Score(0.5, 0.4, 0.6, 3), Split.SEARCH: Score(1.0, 1.0, 1.0, 1)}),
        make_record(7, fitness=3.0, genome=(np.float64(0.1), 1.0, 0.0)),
    ],
    ids=lambda record: record.name,
)
def test_every_kind_of_record_comes_back_equal(database, record):
    database.add(record)
    assert database.record(record.number) == record


def test_a_nan_fitness_comes_back_as_none_and_a_nan_score_as_nan(database):
    database.add(make_record(0, fitness=math.nan, scores={Split.SEARCH: Score(0.5, math.nan, math.nan, 1)}))
    record = database.record(0)
    assert record.fitness is None
    score = record.scores[Split.SEARCH]
    assert score.mean == 0.5
    assert math.isnan(score.low)
    assert math.isnan(score.high)


def test_floats_keep_every_bit(database):
    generator = np.random.default_rng(7)
    bits = generator.integers(0, 2**63, size=300, dtype=np.uint64)
    floats = [float(x) for x in bits.view(np.float64) if np.isfinite(x)] + [-0.0, 5e-324, 1.7976931348623157e308]
    items = [ItemScore("t", i, {"m": value}) for i, value in enumerate(floats)]
    database.add(make_record(0, genome=tuple(floats), fitness=floats[0]), scores={Split.SEARCH: items})
    with reopened(database) as again:
        assert [x.hex() for x in again.record(0).genome] == [x.hex() for x in floats]
        assert again.record(0).fitness.hex() == floats[0].hex()
        assert [s.metrics["m"].hex() for s in again.item_scores(0, Split.SEARCH)] == [x.hex() for x in floats]


def test_records_come_in_order_of_number_whatever_the_order_of_adding(database):
    order = [5, -1, 0, 700, 3, -2, 299, 256, 255, 1]
    for number in order:
        database.add(make_record(number))
    assert [record.number for record in database.records()] == sorted(n for n in order if n >= 0)
    assert [record.number for record in database.records(baselines=True)] == sorted(order)
    assert (database.count(), database.count(baselines=True)) == (8, 10)


def test_more_records_than_one_page_come_back_once_each_with_their_scores(database):
    records = [make_record(number) for number in range(600)]
    database._db.execute("PRAGMA synchronous = OFF")
    for record in records:
        database.add(record)
    assert list(database.records()) == records


def test_a_snapshot_reads_item_scores_once_and_forgets_them(database):
    items = make_items(3, "a")
    database.add(make_record(0), scores={Split.SEARCH: items})
    with database.snapshot():
        first, second = (database.item_scores(0, Split.SEARCH) for _ in range(2))
        assert first == second == items and first[0] is second[0]
        first.clear()
        assert database.item_scores(0, Split.SEARCH) == items
    assert database.item_scores(0, Split.SEARCH)[0] is not second[0]


def test_item_scores_come_back_in_order_and_tasks_may_differ_in_metrics(database):
    search = [*make_items(4, "b"), *make_items(3, "a"), ItemScore("c", 0, {"f1": 0.5}), ItemScore("c", 9, {"acc": 1.0})]
    database.add(make_record(0), scores={Split.SEARCH: search, Split.VALIDATION: make_items(2, "b", start=100)})
    assert database.item_scores(0, Split.SEARCH) == search
    assert database.item_scores(0, Split.VALIDATION) == make_items(2, "b", start=100)
    assert database.item_scores(0, Split.TEST) == []
    assert database.item_scores(99, Split.SEARCH) == []


def test_an_item_scored_twice_is_refused_before_anything_is_written(database):
    with pytest.raises(ValueError, match="item 3 of task 'arithmetic' was scored twice"):
        database.add(make_record(0), scores={Split.SEARCH: make_items(2) * 2})
    assert database.count() == 0


def test_a_candidate_that_took_over_scores_shows_those_of_the_earlier_one(database):
    database.add(make_record(0), scores={Split.SEARCH: make_items()})
    database.add(replace(make_record(0), number=1, same_as=0))
    assert database.item_scores(1, Split.SEARCH) == make_items()
    assert database.response_matrix("arithmetic", "exact_match")[0] == [0]


def test_a_recipe_is_stored_once(database):
    for number in range(3):
        database.add(make_record(number, recipe=make_recipe(0.5)))
    assert database._all("SELECT COUNT(*) FROM recipes")[0][0] == 1


def test_strategy_state_and_progress_are_those_of_the_last_commit(database):
    assert database.strategy_state() is None
    assert database.progress() == {}
    database.add(make_record(0), strategy_state=b"\x00one\xff", progress={"seconds": 0.1 + 0.2, "phase": "search"})
    database.add(make_record(1), progress={"seconds": 2.5, "pending": [[7, [0.1]]]})
    assert database.strategy_state() == b"\x00one\xff"
    assert database.progress() == {"seconds": 2.5, "phase": "search", "pending": [[7, [0.1]]]}
    database.add(make_record(2), strategy_state=bytes(3_000_000))
    database.update_progress({"phase": "test"})
    with reopened(database) as again:
        assert again.strategy_state() == bytes(3_000_000)
        assert again.progress()["phase"] == "test"


def test_scores_on_another_split_are_added_and_replaced(database):
    record = make_record(0)
    database.add(record, scores={Split.SEARCH: make_items()})
    for n in (4, 2):
        score = Score(0.7, 0.6, 0.8, n)
        database.add_scores(0, Split.TEST, score, make_items(n, start=50))
        database.update_progress({"items": n})
        assert database.record(0) == replace(record, scores={**record.scores, Split.TEST: score})
        assert database.item_scores(0, Split.TEST) == make_items(n, start=50)
        assert database.progress() == {"items": n}
    assert database.item_scores(0, Split.SEARCH) == make_items()
    with pytest.raises(RunError, match="no candidate 8"):
        database.add_scores(8, Split.TEST, Score(0, 0, 0, 1), [])


def test_a_number_is_recorded_once_and_a_refused_record_leaves_no_trace(database):
    database.add(make_record(0), strategy_state=b"first", progress={"n": 1})
    other = make_record(0, name="other", recipe=make_recipe(0.77))
    with pytest.raises(RunError, match="candidate 0 is already recorded"):
        database.add(other, strategy_state=b"second", progress={"n": 2}, scores={Split.SEARCH: make_items()})
    assert database.record(0) == make_record(0)
    assert (database.strategy_state(), database.progress()) == (b"first", {"n": 1})
    assert database.item_scores(0, Split.SEARCH) == []


def test_an_exception_in_the_middle_of_a_record_undoes_all_of_it(database, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "_put_progress", stop)
    with pytest.raises(KeyboardInterrupt):
        database.add(make_record(0), strategy_state=b"x", scores={Split.SEARCH: make_items()})
    monkeypatch.undo()
    assert (database.count(), database.strategy_state(), database.item_scores(0, Split.SEARCH)) == (0, None, [])
    database.add(make_record(0))
    assert database.count() == 1


def test_meta_and_splits_come_back(tmp_path):
    splits = {"日本語": {"search": [3, 1, 2], "test": [7]}, "b": {"search": []}}
    database = Database.create(tmp_path / "other.sqlite", meta={"first": [1]}, splits=splits)
    assert (database.splits(), database.get_meta("first")) == (splits, [1])
    database.set_meta("bounds", {"low": [0.0, 1e-300]})
    with pytest.raises(ValueError, match="database's own"):
        database.set_meta("format", 9)
    with reopened(database) as again:
        assert again.splits() == splits
        assert again.get_meta("bounds") == {"low": [0.0, 1e-300]}
        assert again.get_meta("nothing", 5) == 5


def test_the_response_matrix_is_sorted_and_nan_where_not_scored(database):
    database.add(make_record(1), scores={Split.SEARCH: [ItemScore("t", i, {"m": i / 10}) for i in (5, 1)]})
    database.add(make_record(0), scores={Split.SEARCH: [ItemScore("t", i, {"m": i / 7}) for i in (1, 2)]})
    database.add(make_record(-1), scores={Split.SEARCH: [ItemScore("t", 2, {"m": 1.0, "other": 3.0})]})
    database.add(make_record(2, state=State.FAILED, fitness=None, scores=None, error="x"))
    database.add(make_record(3), scores={Split.TEST: [ItemScore("t", 99, {"m": 1.0})]})
    numbers, items, matrix = database.response_matrix("t", "m")
    assert (numbers, items) == ([-1, 0, 1], [1, 2, 5])
    nan = math.nan
    np.testing.assert_array_equal(matrix, [[nan, 1.0, nan], [1 / 7, 2 / 7, nan], [0.1, nan, 0.5]])
    numbers, items, matrix = database.response_matrix("t", "m", baselines=False)
    assert (numbers, items) == ([0, 1], [1, 2, 5])
    numbers, items, matrix = database.response_matrix("t", "unknown")
    assert (numbers, items, matrix.shape) == ([], [], (0, 0))


def test_hundreds_of_candidates_with_thousands_of_items_take_under_two_bytes_an_answer(database):
    n_candidates, n_items = 300, 2000
    answers = np.random.default_rng(0).random((n_candidates, n_items)) < 0.6
    database._db.execute("PRAGMA synchronous = OFF")  # nothing here is about power cuts
    for number, row in enumerate(answers.tolist()):
        items = [ItemScore("t", i, {"acc": float(answer)}) for i, answer in enumerate(row)]
        database.add(make_record(number), scores={Split.SEARCH: items})
    _, _, matrix = database.response_matrix("t", "acc")
    np.testing.assert_array_equal(matrix, answers)
    assert database.path.stat().st_size < 2 * n_candidates * n_items


def test_a_reader_sees_commits_while_another_process_writes(database):
    database.add(make_record(0), scores={Split.SEARCH: make_items()})
    code = (
        "import sys, time\nfrom evomerge.store import Database\n"
        f"database = Database.open({str(database.path)!r})\n"
        "while (n := database.count()) < 60:\n"
        "    for record in database.records():\n"
        "        time.sleep(0.0005)\n"  # a slow reader must not stop the writer
        "    assert len(database.response_matrix('arithmetic', 'exact_match')[0]) >= n\n"
        "print('saw', n)\n"
    )
    reader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
    for number in range(1, 60):
        database.add(make_record(number), scores={Split.SEARCH: make_items()})
        time.sleep(0.002)
    out, _ = reader.communicate(timeout=30)
    assert (reader.returncode, out) == (0, "saw 60\n")


def test_an_unfinished_iteration_does_not_stop_the_writer(database):
    for number in range(3):
        database.add(make_record(number))
    with Database.open(database.path) as reader:
        iterator = reader.records()
        next(iterator)
        database._db.execute("PRAGMA busy_timeout = 0")
        database.add(make_record(3))
        assert [record.number for record in iterator] == [1, 2, 3]


def test_a_database_opened_for_reading_refuses_to_write(database):
    with Database.open(database.path) as reader:
        with pytest.raises(RunError, match="opened for reading only"):
            reader.add(make_record(0))
        with pytest.raises(Exception, match="readonly"):
            reader._db.execute("DELETE FROM meta")


def test_the_store_loads_neither_torch_nor_ray():
    code = "import sys, evomerge.store; print(json.dumps([m for m in ('torch', 'ray', 'cma') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_results_come_back_to_the_bit(database):
    results = [Result((0.1 + 0.2, -1e-300), 0.25, {"t, acc": 1 / 3, "layers": -2.0}), Result((1.0,)), None]
    for number, result in enumerate(results):
        database.add(replace(make_record(number), result=result))
    with Database.open(database.path) as again:
        assert [record.result for record in again.records()] == results


def test_a_choice_of_nothing_is_damage(database):
    database.set_meta("choice", {"kind": "winner", "records": []})
    with pytest.raises(RunError, match="a choice of nothing"):
        database.choice()


def test_the_choice_is_there_once_it_was_made(database):
    assert database.choice() is None
    database.set_choice(Choice("front", (4, 1, 7)))
    with Database.open(database.path) as again:
        assert again.choice() == Choice("front", (4, 1, 7))
        assert again.choice().best == 4
