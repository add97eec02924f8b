"""A folder that does not compute what its recipe does is found out, before and after it appears."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge import api
from evomerge.cli.main import main
from evomerge.errors import ExportError
from evomerge.export import ExportReport, export_recipe, model_card
from evomerge.export.verification import Verification
from evomerge.export.verify import default_tolerance, verify
from evomerge.merge.paths import plan as path_plan
from evomerge.recipe import ModelSource, Parent, Recipe, Step

QUICK = {"n_random": 3, "length": 8, "new_tokens": 4}


def path_recipe(parents: dict[str, Path], *scales: float, **fields: Any) -> Recipe:
    layers = [("math", 0), ("japanese", 1), ("japanese", 1), ("math", 1)]
    path = tuple(Step(*layer, scale) for layer, scale in zip(layers, scales, strict=True))
    named = tuple(Parent(name, ModelSource(str(parents[name]))) for name in ("math", "japanese"))
    return Recipe("passthrough", named, path=path, **fields)


def with_epsilon(parents: dict[str, Path], root: Path, epsilon: float) -> dict[str, Path]:
    """Copies of the parents whose norms have another epsilon."""
    copies = {name: shutil.copytree(folder, root / name) for name, folder in parents.items()}
    for folder in copies.values():
        data = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**data, "rms_norm_eps": epsilon}))
    return copies


@pytest.fixture(scope="module")
def parents(parents: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hidden states of these models are small (0.1), so the usual epsilon would show in the comparison."""
    return with_epsilon(parents, tmp_path_factory.mktemp("fine"), 1e-9)


@pytest.fixture(scope="module")
def saved(parents: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    one = path_recipe(parents, 1, 0.5, 1, 1.5)
    return one, export_recipe(one, tmp_path_factory.mktemp("saved") / "model", verify=False)


def change(folder: Path, name: str, factor: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = tensors[name] * factor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_faithful_folder_passes_with_its_numbers(saved: tuple[Recipe, Path]) -> None:
    found = verify(*saved, prompts=["word3 word5 word7", "word1"], **QUICK)
    assert found.passed and found.folded and found.dtype == "float32" and not found.problems
    assert 0 <= found.logit_difference < 1e-4 == found.tolerance
    assert (found.equal_tokens, found.n_prompts, found.n_tokens) == (1.0, 5, 20)
    assert found.to_data()["passed"] is True and json.dumps(found.to_data())


def test_a_merge_has_the_same_bytes_so_nothing_differs(recipe: Recipe, tmp_path: Path) -> None:
    found = verify(recipe, export_recipe(recipe, tmp_path / "model", verify=False), **QUICK)
    assert found.passed and found.logit_difference == 0 and not found.folded


@pytest.mark.parametrize("name", ["model.layers.2.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight"])
def test_one_changed_tensor_fails(saved: tuple[Recipe, Path], tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(saved[1], tmp_path / "changed")
    change(folder, name, 1.2)
    found = verify(saved[0], folder, **QUICK)
    assert not found.passed and found.logit_difference > 1e-4
    assert found.problems == (f"the folder does not hold what the recipe gives for {name}",)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_tensor_that_is_wrong_by_little_fails_in_a_merge_and_in_a_rounded_path(
    parents: dict[str, Path], recipe: Recipe, tmp_path: Path, dtype: str
) -> None:
    """The allowance for rounding in bfloat16 is 0.125, which a wrong tensor of one layer may stay below."""
    for i, one in enumerate((replace(recipe, dtype=dtype), path_recipe(parents, 1, 0.7, 1.3, 1.1, dtype=dtype))):
        folder = export_recipe(one, tmp_path / str(i), verify=False)
        change(folder, "model.layers.1.mlp.down_proj.weight", 1.01)
        found = verify(one, folder, **QUICK)
        assert not found.passed and found.problems == (
            "the folder does not hold what the recipe gives for model.layers.1.mlp.down_proj.weight",
        )


def test_swapped_layers_fail_in_half_precision(parents: dict[str, Path], tmp_path: Path) -> None:
    one = path_recipe(parents, 1, 0.9, 1.1, 1, dtype="bfloat16")
    folder = export_recipe(one, tmp_path / "model", verify=False)
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.startswith("model.layers.1.")]:
        other = name.replace("layers.1.", "layers.3.")
        tensors[name], tensors[other] = tensors[other], tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "does not hold what the recipe gives" in verify(one, folder, **QUICK).problems[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_folder_that_was_cast_to_half_precision_passes_and_a_wrong_one_does_not(
    recipe: Recipe, tmp_path: Path, dtype: torch.dtype
) -> None:
    from transformers import AutoModelForCausalLM

    whole = export_recipe(recipe, tmp_path / "whole", verify=False)
    folder = shutil.copytree(whole, tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(whole, dtype=dtype).save_pretrained(folder)
    found = verify(recipe, folder, **QUICK)
    assert found.passed and found.logit_difference > 0 and not found.folded
    assert found.tolerance == default_tolerance(dtype, rounded=True)
    change(folder, "model.layers.0.self_attn.q_proj.weight", 1.02)
    assert "q_proj" in verify(recipe, folder, **QUICK).problems[0]


def test_tied_embeddings_are_compared_once(parents: dict[str, Path], tmp_path: Path) -> None:
    tied = {}
    for name, folder in parents.items():
        tied[name] = shutil.copytree(folder, tmp_path / name)
        data = json.loads((folder / "config.json").read_text())
        (tied[name] / "config.json").write_text(json.dumps({**data, "tie_word_embeddings": True}))
        tensors = load_file(folder / "model.safetensors")
        del tensors["lm_head.weight"]
        save_file(tensors, tied[name] / "model.safetensors", metadata={"format": "pt"})
    for i, one in enumerate((path_recipe(tied, 1, 1, 1, 1), path_recipe(tied, 1, 0.5, 1, 1.5))):
        folder = export_recipe(one, tmp_path / f"model {i}", verify=False)
        assert verify(one, folder, **QUICK).passed
        change(folder, "model.embed_tokens.weight", 1.3)
        assert "embed_tokens" in verify(one, folder, **QUICK).problems[0]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_another_attention_is_no_difference(saved: tuple[Recipe, Path], tmp_path: Path, attention: str) -> None:
    folder = shutil.copytree(saved[1], tmp_path / "other")
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, "attn_implementation": attention}))
    found = verify(saved[0], folder, **QUICK)
    assert found.passed and found.logit_difference < 1e-5


def test_where_the_epsilon_alone_differs_a_right_folder_passes_and_a_wrong_one_does_not(
    parents: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hidden states of size 0.1 and the usual epsilon: the difference is above 1e-4, and no token differs."""
    usual = with_epsilon(parents, tmp_path / "parents", 1e-6)
    one = path_recipe(usual, 0.5, 0.7, 1, 1)
    folder = export_recipe(one, tmp_path / "model")
    found = verify(one, folder, **QUICK)
    assert found.passed and found.epsilon_only and found.equal_tokens == 1
    assert found.tolerance < found.logit_difference < 2**-8 and found.without_epsilon < 1e-5
    assert "without the norms' epsilon" in str(found)
    assert not verify(one, folder, tolerance=1e-4, **QUICK).passed  # asked for no matter why
    (tmp_path / "recipe.yaml").write_text(one.to_yaml())
    assert main(["verify", str(tmp_path / "recipe.yaml"), str(folder), "--random", "2", "--length", "8"]) == 0
    assert "all that differs is the epsilon of the norms" in capsys.readouterr().out
    change(folder, "model.layers.3.mlp.up_proj.weight", 1.001)
    assert not verify(one, folder, **QUICK).passed


def test_another_recipe_fails(saved: tuple[Recipe, Path], parents: dict[str, Path]) -> None:
    assert not verify(path_recipe(parents, 1, 0.9, 1, 1.5), saved[1], **QUICK).passed
    swapped = replace(saved[0], path=saved[0].path[::-1])
    assert not verify(swapped, saved[1], **QUICK).passed


def test_another_tokenizer_fails_though_the_logits_agree(saved: tuple[Recipe, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved[1], tmp_path / "other")
    data = json.loads((folder / "tokenizer.json").read_text())
    words = data["model"]["vocab"]
    words["word3"], words["word4"] = words["word4"], words["word3"]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    found = verify(saved[0], folder, prompts=["word3"], **QUICK)
    assert found.logit_difference <= found.tolerance and not found.passed
    assert "another vocabulary" in found.problems[0] and "texts differently" in found.problems[1]


def test_lost_tensors_and_broken_folders_are_named(saved: tuple[Recipe, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved[1], tmp_path / "lost")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = verify(saved[0], folder, **QUICK)
    assert not found.passed and "lacks model.layers.1.mlp.up_proj.weight" in found.problems[0]
    (folder / "config.json").write_text("{}")
    with pytest.raises(ExportError, match="cannot load"):
        verify(saved[0], folder, **QUICK)
    with pytest.raises(ExportError, match="cannot be verified"):
        verify(saved[0], tmp_path / "nothing", **QUICK)


def test_nan_does_not_pass(saved: tuple[Recipe, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved[1], tmp_path / "nan")
    change(folder, "model.norm.weight", float("nan"))
    found = verify(saved[0], folder, **QUICK)
    assert not found.passed and found.to_data()["logit_difference"] is None


def test_random_prompts_come_from_the_seed_alone(saved: tuple[Recipe, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(saved[1], tmp_path / "changed")
    change(folder, "lm_head.weight", 1.01)
    state = torch.random.get_rng_state()
    one, again, other = (verify(saved[0], folder, seed=seed, **QUICK).logit_difference for seed in (0, 0, 1))
    assert one == again != other
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_held_to_its_rounding_only_where_weights_were_divided(
    parents: dict[str, Path], tmp_path: Path, dtype: str
) -> None:
    plain = path_recipe(parents, 1, 1, 1, 1, dtype=dtype)
    found = verify(plain, export_recipe(plain, tmp_path / "plain", verify=False), **QUICK)
    assert found.passed and found.logit_difference == 0 and found.tolerance == 1e-4
    scaled = path_recipe(parents, 1, 0.7, 1.3, 1.1, dtype=dtype)
    found = verify(scaled, export_recipe(scaled, tmp_path / "scaled", verify=False), **QUICK)
    assert found.passed and found.logit_difference > 0
    assert found.tolerance == default_tolerance(getattr(torch, dtype), rounded=True) > 1e-4


def test_export_verifies_and_says_so(parents: dict[str, Path], tmp_path: Path) -> None:
    reports: list[ExportReport] = []
    one = path_recipe(parents, 1, 0.5, 2.0, 1)  # the second visit is divided by 1 again, so it differs from the first
    out = export_recipe(
        one,
        tmp_path / "model",
        card=lambda known: model_card(one, title="stack", report=known),
        report=reports.append,
    )
    (report,) = reports
    assert report.verification is not None and report.verification.passed
    assert report.repeated is not None and report.repeated.layers == 1 and report.repeated.duplicate_bytes > 0
    card = (out / "README.md").read_text()
    assert (
        "## Verified" in card
        and f"logits differ by at most {report.verification.tolerance:.2g} of the largest one" in card
    )
    assert "A stack of 4 layers from 2 models" in card and "| japanese | 1 | 0.5 |" in card
    assert "safetensors cannot store one tensor under two names" in card
    assert not (out / "mergekit.yaml").exists()


def test_a_path_without_scales_is_written_for_mergekit_too(parents: dict[str, Path], tmp_path: Path) -> None:
    one = path_recipe(parents, 1, 1, 1, 1)
    out = export_recipe(one, tmp_path / "model", card=lambda known: model_card(one, title="stack", report=known))
    assert "merge_method: passthrough" in (out / "mergekit.yaml").read_text()
    assert "mergekit.yaml" in (out / "README.md").read_text()


def test_a_path_that_unties_its_ends_is_not_written_for_mergekit(parents: dict[str, Path], tmp_path: Path) -> None:
    """mergekit writes no head for tied models, so that the stack would have the first model's embedding as its head."""
    tied = {name: tie(shutil.copytree(folder, tmp_path / name)) for name, folder in parents.items()}
    first, last = list(tied)[:2]
    path = (Step(first, 0), Step(last, 1))
    sources = tuple(Parent(name, ModelSource(str(tied[name]))) for name in (first, last))
    mixed = Recipe("passthrough", sources, path=path, head=last)
    out = export_recipe(mixed, tmp_path / "mixed")
    assert not (out / "mergekit.yaml").exists()
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
    one = replace(mixed, path=(*path, Step(first, 1)), head=None)
    assert (export_recipe(one, tmp_path / "one") / "mergekit.yaml").exists()


def tie(folder: Path) -> Path:
    """Let the head of a checkpoint be its embedding."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_an_export_that_fails_its_verification_leaves_nothing(
    parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = path_recipe(parents, 1, 0.5, 1, 1.5)
    monkeypatch.setattr(path_plan, "_divisors", lambda path: tuple(1.0 for _ in path))
    with pytest.raises(
        ExportError, match=r"does not compute what the recipe does: .*difference 0\.\d+ \(allowed 0.0001"
    ):
        export_recipe(one, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert export_recipe(one, tmp_path / "model", verify=False).is_dir()


def test_an_epsilon_that_shows_is_named_and_can_be_allowed(parents: dict[str, Path], tmp_path: Path) -> None:
    coarse = with_epsilon(parents, tmp_path / "parents", 1e-4)
    one = path_recipe(coarse, 0.5, 0.5, 1, 1)
    with pytest.raises(ExportError, match=r"exactly but for the norms' epsilon.*--tolerance"):
        export_recipe(one, tmp_path / "model")
    assert export_recipe(one, tmp_path / "model", tolerance=0.5).is_dir()


def test_the_command_compares_prints_and_fails_by_its_status(
    saved: tuple[Recipe, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompts.txt").write_text("word3 word5\n\nword7\n")
    quick = ["--random", "2", "--length", "8", "--tokens", "4", "--prompts", str(tmp_path / "prompts.txt")]
    recipe = tmp_path / "recipe.yaml"  # the folder's own does not say where its parents are
    recipe.write_text(saved[0].to_yaml())
    words = ["verify", str(recipe), str(saved[1]), *quick]
    assert main([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] and data["n_prompts"] == 4 and data["equal_tokens"] == 1
    assert main([*words, "--tolerance", "0"]) == (0 if data["logit_difference"] == 0 else 1)
    assert "equal greedy tokens" in capsys.readouterr().out
    folder = shutil.copytree(saved[1], tmp_path / "changed")
    change(folder, "lm_head.weight", 1.5)
    assert main(["verify", str(recipe), str(folder), *quick]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert main(["verify", str(recipe), str(tmp_path / "none")]) == 2
    assert api.verify(saved[0], saved[1], **QUICK).passed


def test_a_difference_that_is_not_a_number_is_told_as_it_is() -> None:
    one = Verification(float("nan"), 1e-4, 0.5, 1, 2, "float32", False, ("the folder lacks x",))
    assert "50.0% of 2 greedy tokens" in str(one) and str(one).endswith("the folder lacks x")
