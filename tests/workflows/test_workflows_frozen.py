"""A search over parents with frozen layers: fewer genes, said at the start, and the same when it is continued."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_search import composed, write_tiny

from evomerge import api
from evomerge.cli.main import main


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny search, of children of its base that left embeddings and layer 0 as they were."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("frozen")
    file = write_tiny(folder)
    base = load_file(folder / "models" / "base" / "model.safetensors")
    for seed, name in enumerate("ab"):
        draw = torch.Generator().manual_seed(seed)
        tensors = {}
        for key, tensor in base.items():
            moves = "layers.1." in key or "lm_head" in key
            tensors[key] = tensor + 0.05 * torch.randn(tensor.shape, generator=draw) if moves else tensor
        save_file(tensors, folder / "models" / name / "model.safetensors", metadata={"format": "pt"})
    return file


LEFT_OUT = (
    "4 of 8 genes are left out, since they could change nothing: every parent equals the base in embeddings, layers0"
)


def test_genes_that_change_nothing_are_no_part_of_a_search(frozen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", str(frozen), "--json"]) == 0
    out = capsys.readouterr()
    assert {gene["name"] for gene in json.loads(out.out)} == {
        f"weight.{parent}.{place}" for parent in "ab" for place in ("layers1", "head")
    }
    assert LEFT_OUT in out.err


def test_a_continued_search_leaves_out_the_same_genes(frozen: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    whole = api.search(composed(frozen), run_dir=tmp_path / "whole", note=notes.append)
    assert LEFT_OUT in notes
    assert LEFT_OUT in (tmp_path / "whole" / "run.log").read_text()
    api.search(composed(frozen, "budget.candidates=2"), run_dir=tmp_path / "two", note=None)
    again: list[str] = []
    continued = api.resume(tmp_path / "two", budget={"candidates": 6}, note=again.append)
    assert LEFT_OUT in again
    one, other = ([(each.genome, each.recipe.content_hash, each.fitness) for each in run.records()]
                  for run in (whole, continued))  # fmt: skip
    assert one == other
    assert len(one[0][0]) == 4
    assert not [each for each in whole.status()["warnings"] if each["kind"] == "ancestry"]


def test_the_winner_is_built_from_its_recipe_alone(frozen: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run = api.search(composed(frozen, "budget.candidates=2"), run_dir=tmp_path / "run", note=None)
    best = run.best()
    assert best is not None
    made = load_file(api.merge(best, tmp_path / "merged") / "model.safetensors")
    base = load_file(frozen.parent / "models" / "base" / "model.safetensors")
    frozen_names = [key for key in base if "layers.0." in key or "embed" in key]
    assert frozen_names
    assert all(made[key].equal(base[key]) for key in frozen_names)
    assert not made["lm_head.weight"].equal(base["lm_head.weight"])
