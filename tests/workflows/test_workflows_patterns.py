"""A search whose parents are the checkpoints of a training run, by one pattern."""

from pathlib import Path

import pytest

from evomerge import api
from evomerge.config.canonical import canonical
from evomerge.config.reader import from_data, read, with_found_parents
from evomerge.store.run_dir import RunDir
from tests.tiny_search import composed, tiny_model, write_tiny


def test_a_pattern_stands_for_parents_of_their_own(tmp_path: Path) -> None:
    for step in (90, 100, 200):
        (tmp_path / "run" / f"checkpoint-{step}").mkdir(parents=True)
    data = {"models": {"parents": {"one": "${oc.env:HOME}", "sft": {"pattern": f"{tmp_path}/run/checkpoint-*"}}}}
    found = with_found_parents(data)["models"]["parents"]
    assert list(found) == ["one", "sft-90", "sft-100", "sft-200"]
    assert found["one"] == "${oc.env:HOME}"  # references stay what they are
    assert canonical(data)["models.parents.sft-100"] == f"{tmp_path}/run/checkpoint-100"
    data = {"models": {"parents": {"sft": str(tmp_path / "run" / "step-*")}}}
    assert with_found_parents(data) == data
    _, problems = read(data)
    assert any("models.parents" in one and "no model matches" in one and "checkpoint-100" in one for one in problems)


@pytest.mark.slow
def test_a_run_records_the_parents_that_a_pattern_named(tmp_path: Path) -> None:
    file = write_tiny(tmp_path)
    for step in (90, 100, 200):
        tiny_model(tmp_path / "run" / f"checkpoint-{step}", step)
    before = f"{{a: {tmp_path}/models/a, b: {tmp_path}/models/b}}"
    pattern = f"{{sft: {{pattern: {tmp_path}/run/checkpoint-*, last: 2}}}}"
    file.write_text(file.read_text().replace(before, pattern))
    api.search(composed(file), run_dir=tmp_path / "out")
    tiny_model(tmp_path / "run" / "checkpoint-300", 300)  # the training goes on
    with RunDir.open(tmp_path / "out") as run:
        parents = from_data(run.config).models.parents
        names = {record.name for record in run.database.baselines()}
    assert [parent.name for parent in parents] == ["sft-100", "sft-200"]
    assert {"sft-100", "sft-200"} <= names and "sft-300" not in names
    api.resume(tmp_path / "out", budget={"candidates": 8})  # with the parents that it began with
