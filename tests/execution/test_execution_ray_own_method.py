"""A merge method in a file of the user's on Ray's workers."""

from pathlib import Path

import pytest
from documented import write_example

from evomerge import api
from evomerge.cli.compose import compose

SMALL = [
    "experiment=zoo_ja_math", "budget.candidates=5", "evaluation.split={search:6,validation:6,test:6}",
    "evaluation.finalists=2", "execution.threads=1",
]  # fmt: skip


@pytest.mark.slow
def test_a_method_in_a_users_file_is_found_by_rays_workers(ray_cluster, tmp_path: Path) -> None:
    method = f"{write_example('methods.md', 'my_merge.py', tmp_path)}:METHOD"
    words = [*SMALL, f"method.name={method}"]
    there = ["execution=ray", "execution.workers=1", f"execution.address={ray_cluster.address}"]
    far = api.search(compose([*words, *there]), run_dir=tmp_path / "far").path
    near = api.search(compose(words), run_dir=tmp_path / "near").path
    assert {record.recipe.method for record in api.records(far)} == {method}
    assert [record.fitness for record in api.records(far)] == [record.fitness for record in api.records(near)]
