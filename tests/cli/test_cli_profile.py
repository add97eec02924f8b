"""`evomerge profile` as a user types it."""

import contextlib
import json
from pathlib import Path

import pytest

from evomerge import api
from evomerge.cli.compose import compose
from evomerge.cli.main import main
from evomerge.errors import ConfigError
from evomerge.merge.live.models import LiveModels
from evomerge.recipe import PASSTHROUGH, Group, ModelSource, Parent, Recipe, Step
from evomerge.system.stopwatch import Stopwatch
from evomerge.workflows.profile import PARTS, memory_bandwidth

SMALL = ["evaluation.split={search:6,validation:6,test:6}", "execution.threads=1"]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, where anything that is left shows."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_profile_divides_the_whole_time(empty: Path, capsys) -> None:
    assert main(["profile", "experiment=zoo_ja_math", *SMALL, "--candidates", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {
        *("name", "device", "dtype", "threads", "engine", "cache", "cache_bytes", "items", "memory_bandwidth"),
        "stages",
        "plan",
    }
    assert (found["name"], found["device"], found["engine"], found["items"]) == ("zoo_ja_math", "cpu", "hf", 6)
    (stage,) = found["stages"]
    assert (stage["name"], stage["space"], stage["candidates"], stage["failed"]) == ("search", "parameter", 2, 0)
    for seconds in (stage["seconds"], stage["warm_up"], *stage["each"]):
        assert set(seconds) == {*PARTS, "total"}
        assert all(value >= 0 for value in seconds.values())
        assert sum(seconds[part] for part in PARTS) == pytest.approx(seconds["total"])
    worked = set(PARTS) - {"rest"}
    assert all(stage["seconds"][part] > 0 for part in worked)  # each part was found and timed
    assert len(stage["each"]) == 2
    assert stage["seconds"]["total"] == pytest.approx(sum(one["total"] for one in stage["each"]) / 2)
    assert sum(stage["share"].values()) == pytest.approx(1)
    assert list(empty.iterdir()) == []


def test_what_compares_with_baselines_is_profiled_too(empty: Path) -> None:
    tasks = "[{name: zoo_ja_math, metric: negative_flips, reference: japanese, of: acc}]"
    found = api.profile(compose(["experiment=zoo_ja_math", *SMALL, f"evaluation.tasks={tasks}"]), candidates=1)
    assert (found["stages"][0]["candidates"], found["stages"][0]["failed"]) == (1, 0)


@pytest.mark.parametrize("race", [[], ["fitness.race={rule: halving, block: 2}"]])
def test_candidates_that_answer_some_items_only_are_profiled_too(empty: Path, race: list[str]) -> None:
    found = api.profile(compose(["experiment=zoo_ja_math", *SMALL, "fitness.items=4", *race]), candidates=1)
    (stage,) = found["stages"]
    assert (found["items"], stage["candidates"], stage["failed"]) == (4, 1, 0)
    assert stage["prefill"]["passes"] > 0  # its own, also where a race would decide all of a generation at once


def test_bytes_and_tokens_are_those_of_the_candidates(empty: Path) -> None:
    found = api.profile(compose(["experiment=zoo_ja_math", *SMALL, "execution.dtype=float32"]), candidates=1)
    (stage,) = found["stages"]
    merge = stage["merge"]
    assert merge["tensors_written"] == merge["tensors"] > 0
    # task arithmetic: two parents and the base in float16 are read, float32 is written
    n_parameters = merge["bytes"] / (3 * 2 + 4)
    assert n_parameters == _n_parameters()
    assert merge["bytes_per_second"] == pytest.approx(merge["bytes"] / stage["seconds"]["merge"])
    assert merge["share_of_memory_bandwidth"] == pytest.approx(merge["bytes_per_second"] / found["memory_bandwidth"])
    for kind in ("prefill", "decode"):
        assert stage[kind]["tokens"] >= stage[kind]["passes"] >= 1
        assert stage[kind]["tokens_per_second"] == pytest.approx(stage[kind]["tokens"] / stage["seconds"][kind])


def _n_parameters() -> int:
    from evomerge.merge.sources import Sources
    from evomerge.recipe import ModelSource

    infos = Sources().open(ModelSource("zoo:base")).tensors.infos.values()
    return sum(info.n_bytes // info.dtype.itemsize for info in infos)


def test_each_stage_is_profiled_and_paths_move_no_weights(empty: Path) -> None:
    told: list[tuple[int, int]] = []
    found = api.profile(
        compose(["experiment=zoo_ps_then_dfs", *SMALL]), candidates=2, progress=lambda *done: told.append(done)
    )
    weights, layers = found["stages"]
    assert [(stage["name"], stage["space"]) for stage in found["stages"]] == [
        ("weights", "parameter"),
        ("layers", "dataflow"),
    ]
    assert weights["merge"]["tensors_written"] == weights["merge"]["tensors"]
    assert layers["merge"]["tensors_written"] == 0 and layers["merge"]["bytes"] == 0
    assert layers["merge"]["bytes_per_second"] is None
    assert layers["seconds"]["prefill"] > 0
    assert told == [(i, 6) for i in range(1, 7)]


def test_an_engine_whose_passes_are_not_seen_is_timed_as_a_whole(empty: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(Stopwatch, "passes", lambda self, model: contextlib.nullcontext())
    words = ["zoo_ja_math", *SMALL, "--candidates", "1"]
    assert main(["profile", *words, "--json"]) == 0
    (stage,) = json.loads(capsys.readouterr().out)["stages"]
    assert stage["share_outside_passes"] is None and stage["prefill"]["tokens_per_second"] is None
    assert stage["share"]["engine"] > 0.1
    assert main(["profile", *words]) == 0
    out = capsys.readouterr().out
    assert ", 1 thread, engine" in out and "plan: " in out and "ends about" not in out  # no search runs
    assert "engine, passes and all" in out and "outside of forward passes" not in out


def test_a_joint_search_writes_the_merge_and_leaves_the_parents(empty: Path, capsys) -> None:
    assert main(["profile", "zoo_joint", *SMALL, "--candidates", "1"]) == 0
    out = capsys.readouterr().out
    assert "search (joint)" in out
    for word in ("decode genome", "merge", "prefill", "decode", "scoring", "database", "rest", "tensors", "a minute"):
        assert word in out


def test_a_recipe_that_comes_again_is_not_evaluated_again(empty: Path) -> None:
    # So few paths that some come again.
    few = ["segments=1", "scales=none", "repeats=1", "max_layers=3"]
    few = [f"space.path.{word}" for word in few]
    data = compose(["experiment=zoo_dataflow", *SMALL, "optimizer=random", *few])
    (stage,) = api.profile(data, candidates=6)["stages"]
    assert stage["evaluated"] == stage["evaluated_recipes"] == 7
    assert stage["cache_hits"] > 0
    assert stage["proposals"] == stage["evaluated"] + stage["cache_hits"]


def test_only_what_a_recipe_changes_is_counted_as_rewritten() -> None:
    """The counts of the profile, where they are taken: a merge, the same one, another MLP, paths over it."""
    parents = tuple(Parent(name, ModelSource(f"zoo:{name}")) for name in ("math", "japanese"))

    def of(mlp: float) -> Recipe:
        groups = (Group({"weight": mlp}, roles=("mlp",)),)
        base = Parent("base", ModelSource("zoo:base"))
        return Recipe("task_arithmetic", parents, base=base, parameters={"weight": 0.5}, groups=groups)

    live = LiveModels()
    tasks = live.sources.plan(of(0.1)).tasks
    n_tensors, n_mlp = len(tasks), sum("mlp" in task.name for task in tasks)
    n_bytes = sum(4 * task.tensor.info.n_bytes for task in tasks)  # base and two parents in, one out, all in float16
    found = []
    for recipe in (of(0.1), of(0.1), of(0.2)):
        live.write(recipe)
        found.append((live.written.tensors, live.written.of))
    assert found == [(n_tensors, n_tensors), (0, n_tensors), (n_mlp, n_tensors)]
    live.write(of(0.2))
    assert live.written.n_bytes == 0
    again = LiveModels()
    again.write(of(0.2))
    assert again.written.n_bytes == n_bytes

    members = (Parent("merged", of(0.1)), parents[0])
    for layer, expected in ((0, 2 * n_tensors), (1, 0)):
        path = (Step("merged", layer), Step("math", layer))
        live.write(Recipe(PASSTHROUGH, members, path=path))
        assert (live.written.tensors, live.written.of) == (expected, 2 * n_tensors)
    live.write(Recipe(PASSTHROUGH, (Parent("merged", of(0.2)), parents[0]), path=path))
    assert (live.written.tensors, live.written.of) == (n_mlp, 2 * n_tensors)


@pytest.mark.parametrize("candidates", [0, -1, True, 1.5])
def test_a_wrong_number_of_candidates_is_refused(candidates, empty: Path) -> None:
    with pytest.raises(ConfigError, match="takes at least 1 candidate, but came"):
        api.profile(compose(["experiment=zoo_ja_math", *SMALL]), candidates=candidates)


def test_a_configuration_with_mistakes_is_refused_as_in_a_search(empty: Path, capsys) -> None:
    assert main(["profile", "experiment=zoo_ja_math", "method.name=tise"]) == 2
    assert "did you mean 'ties'" in capsys.readouterr().err
    assert list(empty.iterdir()) == []


def test_the_speed_of_the_memory_is_measured() -> None:
    assert 1e8 < memory_bandwidth("cpu") < 1e13  # bytes a second
