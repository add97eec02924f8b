"""Who watches a run sees what is new, once, in any order of writing, and disturbs nobody."""

import os
import subprocess
import sys
from pathlib import Path

from evomerge.recipe import ModelSource, Parent, Recipe
from evomerge.record import Record, Result, Score, Split, State
from evomerge.store import RunDir
from evomerge.store.following import Following
from evomerge.store.lock import holder_of
from evomerge.store.run_dir import LOCK
from evomerge.store.traces import Trace


def record(number: int, **more: object) -> Record:
    recipe = Recipe("linear", (Parent("a", ModelSource("a")),), parameters={"weight": number + 0.5})
    made = Record(number, f"candidate {number}", State.COMPLETE, recipe, (0.5,), 0.25, None, 1.0, "cpu")
    return Record(**{**{name: getattr(made, name) for name in made.__dataclass_fields__}, **more})


def test_records_come_once_and_also_those_with_smaller_numbers_that_came_late(tmp_path: Path) -> None:
    score = Score(float("nan"), 0.0, 1.0, 4)
    with RunDir.create(tmp_path / "run", config={}) as run, RunDir.open(run.path, mend=False) as other:
        following = Following(other.database)
        assert following.changed() and not following.changed() and following.new() == []
        run.database.add(record(1, result=Result((0.5, -3.0), 0.25), scores={Split.SEARCH: score}))
        assert following.changed() and not following.changed()
        (one,) = following.new()
        assert (one.number, one.name, one.fitness) == (1, "candidate 1", 0.25)
        assert one.result == Result((0.5, -3.0), 0.25) and one.score is not None and one.score.mean != one.score.mean
        run.database.add(record(0, state=State.FAILED, fitness=None, error="no"))
        run.database.add(record(2, same_as=1))
        assert [(one.number, one.failed, one.same_as) for one in following.new()] == [(0, True, None), (2, False, 1)]
        assert following.new() == []
        run.database.add_scores(1, Split.TEST, Score(0.5, 0.4, 0.6, 8), [])
        assert following.scores(Split.TEST) == {1: Score(0.5, 0.4, 0.6, 8)} and following.scores(Split.VALIDATION) == {}
        for number in range(3):
            run.database.traces.put(number, Trace(seconds=float(number)))
        assert [one.seconds for one in following.latest_traces(2)] == [1.0, 2.0]


def test_the_lock_tells_who_holds_it_and_who_ended_without_a_word(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    assert holder_of(lock).held is False and holder_of(lock).pid is None
    code = (
        f"import os, sys\nfrom pathlib import Path\nfrom evomerge.store.lock import WriterLock\n"
        f"WriterLock(Path({str(lock)!r}))\nprint(os.getpid(), flush=True)\nsys.stdin.read()\nos._exit(0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    found = holder_of(lock)
    assert found.held and found.pid == pid and found.here
    process.kill()
    process.communicate()
    found = holder_of(lock)
    assert found.held is False and found.pid == pid and found.here  # its name stays, its lock does not
