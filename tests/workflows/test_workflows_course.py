"""What a search of models notes of its own course: times of parts, genes, kinship; also where it is continued."""

from pathlib import Path

import pytest

from evomerge import api
from evomerge.report.data import RunData
from evomerge.store.run_dir import RunDir
from tests.tiny_search import composed

PASSES = {"prefill"}
"""A task whose items are answered by likelihood has no decoding."""

WORKER = {"merge", "engine", "scoring"} | PASSES


@pytest.fixture(scope="module")
def run(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.search(composed(tiny_file), run_dir=tmp_path_factory.mktemp("course") / "run").path


def test_each_model_says_what_its_time_went_into(run: Path) -> None:
    with RunData.open(run) as data:
        records = [*data.baselines, *data.records]
        assert data.traces.keys() == {record.number for record in records}
        for record in records:
            parts = data.traces[record.number].parts
            assert parts.keys() >= WORKER | {"database"}
            assert 0.0 < sum(parts[name] for name in WORKER) <= record.seconds + 1e-5
        assert all("optimizer" in data.traces[record.number].parts for record in data.records)


def test_genes_are_those_that_the_command_prints(run: Path, tiny_file: Path) -> None:
    with RunData.open(run) as data:
        assert [dict(gene) for gene in data.genes] == [
            {**gene, "stage_number": 0} for gene in api.space(composed(tiny_file))
        ]
        assert len(data.genes) == len(data.records[0].genome or ())


def test_kinship_is_that_of_the_parents(run: Path) -> None:
    with RunData.open(run) as data:
        found = data.kinship
    assert found is not None and found.keys() == {"base", "parents", "models", "pairs"}
    assert (found["base"], found["parents"]) == ("base", ["a", "b"])
    assert [sorted(one) for one in found["models"]] == [["likelier_base", "name", "reason", "verdict"]] * 2
    assert {one["verdict"] for one in found["models"]} == {"foreign"}  # the weights are random
    assert [(one["a"], one["b"]) for one in found["pairs"]] == [("a", "b"), ("a", "base"), ("b", "base")]
    of_parents, *of_base = found["pairs"]
    assert of_parents["cosine"] == pytest.approx(0.5, abs=0.05)  # of a − c and b − c, all independent
    assert of_parents["verdict"] == "foreign" and of_parents["distance"] == pytest.approx(2**0.5, rel=0.05)
    assert [one["cosine"] for one in of_base] == [None, None]


def test_a_run_of_an_earlier_version_is_read_and_continued(tiny_file: Path, tmp_path: Path) -> None:
    path = api.search(composed(tiny_file, "budget.candidates=3"), run_dir=tmp_path / "run").path
    with RunDir.open(path, write=True) as old:
        for table in ("traces", "course"):
            old.database._db.execute(f"DROP TABLE {table}")
        old.database._db.execute("DELETE FROM meta WHERE key IN ('genes', 'kinship')")
    with RunData.open(path) as data:
        assert (data.traces, data.course, data.genes, data.kinship) == ({}, (), (), None)
    api.resume(path, budget={"candidates": 5})
    with RunData.open(path) as data:
        assert set(data.traces) == {3, 4} and len(data.records) == 5
        assert data.genes and data.kinship is not None and data.course[-1]["candidates"] == 3
