"""The checkpoints of one training run, averaged in place of a learning-rate decay."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evomerge.errors import CheckpointError
from evomerge.interop import load_recipe
from evomerge.merge.disk.folder import merge_to_disk
from evomerge.merge.files.locate import locate
from evomerge.merge.files.model import open_checkpoint
from evomerge.recipe import ModelSource
from tests.merge.tiny_models import make, near, tensors_of

SINGLE = "model.safetensors"
RECIPE = """method: linear
parents:
  sft: {pattern: run/checkpoint-*, last: 3}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training run as transformers' Trainer leaves it: states of optimizer and trainer beside the weights."""
    monkeypatch.chdir(tmp_path)
    first = make(tmp_path / "run" / "checkpoint-500", 1, dtype="bfloat16")
    for i, step in enumerate((1000, 1500, 2000)):
        near(tmp_path / "run" / f"checkpoint-{step}", first, i + 2)
    for folder in (tmp_path / "run").iterdir():
        torch.save({"state": {0: {"exp_avg": torch.zeros(2)}}}, folder / "optimizer.pt")
        torch.save([1, 2], folder / "training_args.bin")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": int(folder.name.split("-")[1])}))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "run"


def test_the_newest_checkpoints_are_averaged_with_equal_weights(run: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert [parent.name for parent in recipe.parents] == ["sft-1000", "sft-1500", "sft-2000"]
    out = merge_to_disk(recipe, tmp_path / "out")
    each = [load_file(run / f"checkpoint-{step}" / SINGLE) for step in (1000, 1500, 2000)]
    for name, tensor in tensors_of(out).items():
        exact = sum(one[name].double() for one in each) / 3
        half_a_step = exact.abs() * 2.0**-8 * 1.01 + 1e-7  # a third is rounded to float32, which may move a tie
        assert tensor.dtype == torch.bfloat16 and bool(((tensor.double() - exact).abs() <= half_a_step).all()), name
    assert not {"optimizer.pt", "trainer_state.json", "training_args.bin"} & {path.name for path in out.iterdir()}
    assert "pattern" not in (out / "recipe.yaml").read_text()


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ([], "checkpoint-1500 has neither model.safetensors nor"),
        (["model-00001-of-00002.safetensors"], "checkpoint-1500 has neither .* it has model-00001-of-00002"),
        (["global_step1500", "zero_pp_rank_0_mp_rank_00_optim_states.pt"], "checkpoint-1500 holds no .*zero_to_fp32"),
        (["__0_0.distcp"], "checkpoint-1500 holds no .*accelerate merge-weights"),
        (["pytorch_model_fsdp_0"], "checkpoint-1500 holds no model's weights, but pytorch_model_fsdp_0"),
    ],
)
def test_a_checkpoint_that_was_never_finished_is_refused_by_name(
    run: Path, tmp_path: Path, left: list[str], message: str
) -> None:
    (run / "checkpoint-1500" / SINGLE).unlink()
    for name in left:
        (run / "checkpoint-1500" / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=message):
        merge_to_disk(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_was_cut_short_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    file = run / "checkpoint-2000" / SINGLE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"checkpoint-2000/model\.safetensors is cut short"):
        merge_to_disk(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "out")


def test_a_link_in_the_cache_of_the_hub_leads_to_its_blob(run: Path, tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "0f3a"
    blob.parent.mkdir()
    file = run / "checkpoint-500" / SINGLE
    wanted = load_file(file)
    file.rename(blob)
    file.symlink_to("../../blobs/0f3a")
    opened = open_checkpoint(ModelSource(str(run / "checkpoint-500")))
    assert locate(ModelSource(str(run / "checkpoint-500"))) == run / "checkpoint-500"
    assert all(torch.equal(opened.load(name), wanted[name]) for name in wanted)
