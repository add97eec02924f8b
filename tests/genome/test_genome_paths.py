"""One suite that every space of layer paths passes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from path_cases import CASES, Case

from evomerge.genome import JointSpace, Space
from evomerge.recipe import Recipe, Step


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def points(n_dims: int, n: int = 60) -> Iterator[np.ndarray]:
    """Corners, and points of many kinds: uniform, and with few or many of the genes up."""
    rng = np.random.default_rng(0)
    yield from (np.zeros(n_dims), np.ones(n_dims), np.full(n_dims, 0.5))
    for _ in range(n):
        yield np.clip(rng.normal(rng.uniform(0, 1), rng.choice([0.05, 0.3]), n_dims), 0, 1)


def is_merge_alone(space: Space, recipe: Recipe) -> bool:
    return isinstance(space, JointSpace) and recipe.method != "passthrough"


def test_the_start_is_in_the_cube_and_decodes_to_exactly_the_first_parent(case: Case) -> None:
    space: Space = case.make()
    start = space.start
    assert start.shape == (space.n_dims,)
    assert np.all((start >= 0.0) & (start <= 1.0))
    recipe = space.decode(space.genome(start))
    if isinstance(space, JointSpace):
        assert recipe.method == "mix"
        return
    name, depth = next(iter(case.depths.items()))
    assert recipe.path == tuple(Step(name, layer) for layer in range(depth))
    assert [parent.name for parent in recipe.parents] == list(
        dict.fromkeys([name, *filter(None, [case.arguments.get("tokenizer")])])
    )


def test_every_path_has_the_ends_of_the_first_parent_and_keeps_the_limits(case: Case) -> None:
    space = case.make()
    first, depth = next(iter(case.depths.items()))
    low, high = case.limits
    lengths = set()
    for x in points(space.n_dims):
        recipe = space.decode(space.genome(x))
        if is_merge_alone(space, recipe):
            continue
        path = recipe.path
        assert (path[0].parent, path[0].layer, path[0].scale) == (first, 0, 1.0)
        assert (path[-1].parent, path[-1].layer) == (first, depth - 1)
        assert low <= len(path) <= high
        assert all(0 <= step.layer < case.depths[step.parent] for step in path)
        scale_low, scale_high = case.arguments.get("scale_low", 0.5), case.arguments.get("scale_high", 2.0)
        assert all(scale_low <= step.scale <= scale_high for step in path)
        used = {step.parent for step in path}
        assert {parent.name for parent in recipe.parents} - {first, recipe.tokenizer} <= used <= set(case.depths)
        assert recipe.parents[0].name == first
        lengths.add(len(path))
    assert len(lengths) > 1 or high - low <= 1 or sum(case.depths.values()) <= 2


def test_decoding_is_deterministic_and_recipes_survive_yaml(case: Case) -> None:
    space, again = case.make(), case.make()
    for x in points(space.n_dims, 15):
        genome = space.genome(x)
        assert genome == again.genome(x)
        recipe = space.decode(genome)
        assert recipe.content_hash == again.decode(list(genome)).content_hash
        assert Recipe.from_yaml(recipe.to_yaml()) == recipe
        assert Recipe.from_yaml(recipe.to_yaml()).content_hash == recipe.content_hash


def test_equal_paths_have_equal_hashes_and_other_paths_have_others(case: Case) -> None:
    space = case.make()
    found: dict[object, str] = {}
    for x in points(space.n_dims, 120):
        recipe = space.decode(space.genome(x))
        key = (recipe.path, recipe.parents[0])
        assert found.setdefault(key, recipe.content_hash) == recipe.content_hash
    assert len(set(found.values())) == len(found) > 1


def test_names_are_unique_and_the_description_has_a_row_for_each_gene(case: Case) -> None:
    space = case.make()
    rows = space.describe()
    assert [row["name"] for row in rows] == [gene.name for gene in space.genes]
    assert len({row["name"] for row in rows}) == len(rows) == space.n_dims
    for row, gene, kind in zip(rows, space.genes, space.kinds, strict=True):
        assert row["low"] <= row["start"] <= row["high"]
        assert row["low"] < row["high"]
        assert row["doc"] or isinstance(space, JointSpace)
        assert kind == {"float": 0, "integer": gene.n_values, "choice": -len(row["choices"])}[row["kind"]]


def test_a_point_or_a_genome_that_does_not_fit_is_refused(case: Case) -> None:
    space = case.make()
    with pytest.raises(ValueError, match=f"expected a point with {space.n_dims} coordinates"):
        space.genome([0.5] * (space.n_dims + 1))
    with pytest.raises(ValueError, match="unit cube"):
        space.genome([1.5] * space.n_dims)
    genome = space.genome(space.start)
    with pytest.raises(ValueError, match=f"expected a genome with {space.n_dims} values"):
        space.decode(genome[1:])
    with pytest.raises(ValueError, match=f"gene {space.genes[-1].name} must lie in"):
        space.decode((*genome[:-1], 1e9))


def test_a_path_is_the_same_in_another_process_whatever_its_threads() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from path_cases import CASES
for case in CASES:
    space = case.make()
    print(space.decode(space.genome(np.random.default_rng(3).random(space.n_dims))).content_hash)
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].split()) == len(CASES)
