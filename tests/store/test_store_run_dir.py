import json
import sys
from pathlib import Path
from types import MappingProxyType

import pytest
from store_samples import make_recipe, make_record

from evomerge.errors import RecipeError, RunError
from evomerge.store import RunDir, changed_versions, collect_environment
from evomerge.store.environment import install_command

CONFIG = {"seed": 3, "tasks": [{"name": "算数", "weight": 0.1}], "name": None, "path": "a: b"}


def test_a_run_comes_back_with_its_config_environment_and_records(tmp_path):
    with RunDir.create(tmp_path / "outputs" / "study" / "now", config=CONFIG, environment={"git": "abc"}) as run:
        run.database.add(make_record(0))
        run.log_path.write_text("started\n")
    with RunDir.open(run.path) as again:
        assert again.config == CONFIG
        assert again.environment == {**collect_environment(), "git": "abc"}
        assert list(again.database.records()) == [make_record(0)]
        assert again.log_path == run.path / "run.log"
    with RunDir.open(str(run.path), write=True) as again:
        again.database.add(make_record(1))
        assert again.database.count() == 2


def test_a_config_of_any_mappings_and_paths_is_written_as_plain_yaml(tmp_path):
    with RunDir.create(tmp_path / "run", config=MappingProxyType({"a": (1, {"b": Path("x/y")})})) as run:
        assert run.config == {"a": [1, {"b": "x/y"}]}


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, None),  # from an index, which need not be the public one
        ({"url": "file:///home/me/evomerge", "dir_info": {"editable": True}}, None),
        (
            {"url": "https://example.org/evomerge.git", "vcs_info": {"vcs": "git", "commit_id": "abc1"}},
            "pip install git+https://example.org/evomerge.git@abc1",
        ),
        ({"url": "https://me:secret@example.org/evomerge.git", "vcs_info": {"commit_id": "abc1"}}, None),
        ({"url": "ssh://git@example.org/evomerge.git", "vcs_info": {"commit_id": "abc1"}}, None),
        ({"url": "https://example.org/evomerge.whl?token=1", "archive_info": {}}, "pip install https://example.org/evomerge.whl"),
        (["no", "mapping"], None),
    ],
)  # fmt: skip
def test_what_installs_this_version_elsewhere_is_told_only_where_it_works(monkeypatch, origin, command):
    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return None if origin is None else json.dumps(origin)

    monkeypatch.setattr("evomerge.store.environment.metadata.distribution", lambda name: Installed())
    assert install_command() == command


def test_the_environment_names_versions_without_importing_the_packages():
    environment = collect_environment()
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["packages"]["torch"]
    assert environment["cpu_count"] >= 1
    assert json.loads(json.dumps(environment)) == environment


def test_changed_versions_are_listed():
    before = collect_environment()
    assert changed_versions(before) == []
    before["packages"] = {**before["packages"], "torch": "1.0.0"}
    now = collect_environment()["packages"]["torch"]
    assert changed_versions(before) == [f"torch 1.0.0 -> {now}"]
    assert changed_versions({}) == [f"python None -> {collect_environment()['python']}"]


def test_a_folder_that_holds_a_run_is_refused_with_the_way_to_continue(tmp_path):
    RunDir.create(tmp_path / "run", config=CONFIG).close()
    with pytest.raises(RunError, match=r"already holds a run: `evomerge resume .*run` continues it"):
        RunDir.create(tmp_path / "run", config={"seed": 4})
    with RunDir.open(tmp_path / "run") as run:
        assert run.config == CONFIG


def test_a_folder_with_another_programs_config_is_not_overwritten(tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    with pytest.raises(RunError, match=r"files that are not of a run \(config\.yaml\); choose a folder that is new"):
        RunDir.create(tmp_path, config=CONFIG)
    assert (tmp_path / "config.yaml").read_text() == "mine: 1\n"


def test_what_is_not_a_run_is_refused_and_the_run_inside_is_named(tmp_path):
    with pytest.raises(RunError, match=r"there is no folder .*nowhere"):
        RunDir.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"is not a run: a run is a folder with config\.yaml and run\.sqlite"):
        RunDir.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="is not a run"):
        RunDir.open(tmp_path / "file", write=True)
    with pytest.raises(RunError, match="not a folder is in the way"):
        RunDir.create(tmp_path / "file", config=CONFIG)
    for name in ("2026-01-02", "2026-03-04"):
        RunDir.create(tmp_path / "study" / name, config=CONFIG).close()
    with pytest.raises(RunError, match=r"Did you mean the latest run in it, .*2026-03-04\?"):
        RunDir.open(tmp_path / "study")
    with pytest.raises(RunError, match=r"Did you mean the latest run in it, .*2026-03-04\?"):
        RunDir.open(tmp_path)
    with pytest.raises(RunError, match=r"there is no folder .*stduy; did you mean .*/study\?"):
        RunDir.open(tmp_path / "stduy")
    assert not (tmp_path / "run.lock").exists()


def test_two_writers_in_one_process_are_refused_too(tmp_path):
    with (
        RunDir.create(tmp_path / "run", config=CONFIG),
        pytest.raises(RunError, match="Two processes cannot write one run"),
    ):
        RunDir.open(tmp_path / "run", write=True)
    with RunDir.open(tmp_path / "run", write=True) as run:
        run.close()
        run.close()
        RunDir.open(tmp_path / "run", write=True).close()


def test_the_best_recipe_is_replaced_whole(tmp_path, monkeypatch):
    with RunDir.create(tmp_path / "run", config=CONFIG) as run:
        assert run.best() is None
        assert run.write_best(make_recipe(0.1)) == run.best_path
        run.write_best(make_recipe(0.2))
        assert run.best() == make_recipe(0.2)

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", full)
            with pytest.raises(RunError, match=r"best\.yaml: the disk is full .*kept.*evomerge resume"):
                run.write_best(make_recipe(0.3))
        assert run.best() == make_recipe(0.2)
        assert not list(run.path.glob(".*partial"))
    with RunDir.open(run.path) as reader, pytest.raises(RunError, match="opened for reading only"):
        reader.write_best(make_recipe(0.4))


def test_damaged_text_files_are_named(tmp_path):
    RunDir.create(tmp_path / "run", config=CONFIG).close()
    with RunDir.open(tmp_path / "run") as run:
        (run.path / "config.yaml").write_text("a: [1")
        with pytest.raises(RunError, match=r"cannot read .*config\.yaml"):
            _ = run.edited_config
        (run.path / "config.yaml").write_text("- 1")
        with pytest.raises(RunError, match="must hold a mapping, but holds list"):
            _ = run.edited_config
        (run.path / "environment.json").write_text("{")
        with pytest.raises(RunError, match=r"cannot read .*environment\.json"):
            _ = run.environment
        (run.path / "environment.json").unlink()
        assert run.environment == {}
        (run.path / "best.yaml").write_text("method: 1")
        with pytest.raises(RecipeError, match=r"best\.yaml"):
            run.best()
