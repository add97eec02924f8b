"""Files of the kinds that people share: they are merged as they are, load, answer, and go to our form and back."""

from pathlib import Path

import pytest
import torch
from tiny_models import make, near, same_bytes, tensors_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge import api
from evomerge.cli.main import main
from evomerge.interop import load_recipe
from evomerge.merge.disk.folder import merge_to_disk

FILES = sorted((Path(__file__).parent / "mergekit").glob("*.yaml"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models by the names that the files give them."""
    folder = tmp_path_factory.mktemp("models")
    base = make(folder / "base", 0, num_hidden_layers=4)
    for seed, name in enumerate(("math", "code", "chat"), 1):
        near(folder / name, base, seed)
    near(folder / "japanese", base, 4, tokens="abcあい")
    make(folder / "deep", 5, num_hidden_layers=6)
    for i in range(1, 21):
        (folder / f"m{i}").symlink_to(folder / ("math", "code", "chat", "base")[i % 4])
    return folder


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(models)
    return models


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_merged_as_it_is_and_goes_there_and_back(file: Path, tmp_path: Path) -> None:
    out = api.merge(file, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(out)
    tokens = AutoTokenizer.from_pretrained(out)("a b", return_tensors="pt").input_ids
    assert model.generate(tokens, max_new_tokens=3, do_sample=False, eos_token_id=None).shape[1] > tokens.shape[1]
    ours, theirs = tmp_path / "ours.yaml", tmp_path / "theirs.yaml"
    assert main(["convert", str(file), str(ours)]) == 0
    assert load_recipe(ours) == load_recipe(file)
    assert main(["convert", str(ours), str(theirs)]) == 0
    assert "merge_method:" in theirs.read_text()
    again = merge_to_disk(load_recipe(theirs), tmp_path / "again")
    made = tensors_of(out)
    assert same_bytes(made, tensors_of(again))
    assert all(tensor.isfinite().all() for tensor in made.values())


def test_the_folder_says_what_the_result_is_made_of(here: Path) -> None:
    recipe = load_recipe(FILES[0].parent / "slerp.yaml")
    assert recipe.method == "slerp" and recipe.dtype == "bfloat16"
    assert [parent.name for parent in recipe.parents] == ["math", "code"]
    t = [recipe.parameters_of("attention", i, f"model.layers.{i}.self_attn.q_proj.weight")["t"] for i in range(4)]
    assert t == pytest.approx([0.0, 0.5 - 0.2 / 3, 0.3 + 0.4 * 2 / 3, 1.0])
    assert recipe.parameters_of("head", None, "lm_head.weight")["t"] == 0.5


def test_a_stack_has_its_last_models_norm_and_head(here: Path, tmp_path: Path) -> None:
    made = tensors_of(api.merge(FILES[0].parent / "frankenmerge.yaml", tmp_path / "out"))
    first, last = tensors_of(here / "math"), tensors_of(here / "deep")
    assert torch.equal(made["model.embed_tokens.weight"], first["model.embed_tokens.weight"])
    assert torch.equal(made["lm_head.weight"], last["lm_head.weight"])
    assert torch.equal(made["model.norm.weight"], last["model.norm.weight"])
    assert torch.equal(made["model.layers.9.mlp.up_proj.weight"], last["model.layers.5.mlp.up_proj.weight"])


def test_convert_replaces_nothing_unasked_and_writes_nothing_where_something_cannot_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = FILES[0].parent / "soup.yaml", tmp_path / "out.yaml"
    out.write_text("mine")
    assert main(["convert", str(file), str(out)]) == 2
    assert "is there already" in capsys.readouterr().err and out.read_text() == "mine"
    assert main(["convert", str(file), str(out), "--force"]) == 0
    assert out.read_text().startswith("method: linear\n")
    capsys.readouterr()
    assert main(["convert", str(out), "-"]) == 0
    assert capsys.readouterr().out.startswith("# mergekit-yaml FILE DIR\nmodels:\n")
    said = tmp_path / "said.yaml"
    said.write_text("method: ties\nbase: base\nparents: {math: math}\nparameters: {election: count, scope: model}\n")
    assert main(["convert", str(said), str(tmp_path / "new.yaml")]) == 2
    err = capsys.readouterr().err
    assert "no word for election: count" in err and "no word for scope: model" in err
    assert not (tmp_path / "new.yaml").exists()
