"""Kept answers of merges and baselines, joined item by item."""

from pathlib import Path

from made_runs import TWO_OBJECTIVES, made_run

from evomerge.analysis.answers import model_named
from evomerge.analysis.side_by_side import name_of, side_by_side
from evomerge.record import Split
from evomerge.store.run_dir import RunDir


def test_every_split_has_the_answers_that_are_kept_there(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", specs=TWO_OBJECTIVES, choice="front", answers=True)
    with RunDir.open(path) as run:
        choice = run.database.choice()
        assert choice is not None
        merges = [one for number in choice.records if (one := run.database.record(number)) is not None]
        baselines = run.database.baselines()
        items = side_by_side(run, merges, baselines)
        kept = set(run.database.answers.kept())
        for split, n in ((Split.TEST, 80), (Split.VALIDATION, 40), (Split.SEARCH, 40)):
            own = [item for item in items if item.split == split]
            assert len(own) == n and len({(item.task, item.item) for item in own}) == n
            names = [name_of(one) for one in (*merges, *baselines) if (one.number, split) in kept]
            assert all(list(item.answers) == names for item in own)
        assert [item.split for item in items[:80]] == [Split.TEST] * 80
        for record in (*merges, *baselines):
            assert model_named(run, name_of(record)).number == record.number


def test_without_merges_the_baselines_are_looked_at(tmp_path: Path) -> None:
    with RunDir.open(made_run(tmp_path / "run", candidates=0, choice=None, answers=True)) as run:
        items = side_by_side(run, [], run.database.baselines())
        assert list(items[0].answers) == ["parent:math", "parent:words", "parent:code", "parent:average"]
        assert side_by_side(run, [], []) == []
