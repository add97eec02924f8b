"""A merge that is continued from a saved state has the bytes of one that was made at once."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make, near, recipe

from evomerge.api import merge
from evomerge.cli.main import main
from evomerge.errors import CheckpointError, ExportError, RecipeError
from evomerge.recipe import Group, ModelSource, Parent, Recipe

ORDER = {"a": 0.2, "b": 0.7, "c": 0.4}  # a, c, b


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("continual")
    base = make(folder / "base", 0, dtype="bfloat16", tie_word_embeddings=True)
    return {"base": base, **{name: near(folder / name, base, seed) for seed, name in enumerate("abc", start=1)}}


def one(folders: dict[str, Path], names: str, **parameters: Any) -> Recipe:
    parents = {name: folders[name] for name in names}
    given = {"alpha": 0.6, "order": {name: ORDER[name] for name in names}, **parameters}
    return recipe("opcm", folders["base"], parents, parameters=given)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "parameters", [{}, {"variant": "paper", "weight": {"a": 0.3, "b": 1.1, "c": -0.7}, "norm": 1.2}]
)
def test_step_by_step_is_all_at_once_and_earlier_models_may_be_gone(
    folders: dict[str, Path], parameters: dict[str, Any], tmp_path: Path
) -> None:
    here = {name: shutil.copytree(folder, tmp_path / name) for name, folder in folders.items()}

    def some(names: str) -> Recipe:
        given = dict(parameters)
        if "weight" in given:
            given["weight"] = {name: given["weight"][name] for name in names}
        return one(here, names, **given)

    whole = merge(some("abc"), tmp_path / "whole", save_state=tmp_path / "whole-state")
    plain = merge(some("abc"), tmp_path / "plain")
    assert bytes_of(whole) == bytes_of(plain)
    merge(some("a"), tmp_path / "1", save_state=tmp_path / "1-state")
    shutil.rmtree(here["a"])
    merge(some("ac"), tmp_path / "2", save_state=tmp_path / "2-state", continue_from=tmp_path / "1-state")
    shutil.rmtree(here["c"])
    made = merge(some("abc"), tmp_path / "3", save_state=tmp_path / "3-state", continue_from=tmp_path / "2-state")
    assert bytes_of(made) == bytes_of(whole)
    assert bytes_of(tmp_path / "3-state") == bytes_of(tmp_path / "whole-state")
    assert set(bytes_of(made)) >= {"config.json", "model.safetensors", "recipe.yaml", "tokenizer.json"}


def test_two_new_models_at_once_and_a_lender_among_the_old_ones(folders: dict[str, Path], tmp_path: Path) -> None:
    lent = replace(one(folders, "abc"), tokenizer="a", generation_config="a")
    merge(one(folders, "a"), tmp_path / "first", save_state=tmp_path / "state")
    made = merge(lent, tmp_path / "made", continue_from=tmp_path / "state")
    assert bytes_of(made) == bytes_of(merge(lent, tmp_path / "whole"))


@pytest.fixture(scope="module")
def state(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    merge(one(folders, "ac"), folder / "model", save_state=folder / "state")
    return folder / "state"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.5}, "alpha is 0.5 in the recipe, but 0.6 in the state"),
        ({"variant": "official"}, "variant is official in the recipe, but fusion_bench in the state"),
        (
            {"order": {"a": 0.5, "b": 0.2, "c": 0.7}},
            "has merged a, c in this order, but the recipe begins with b, a; give later models larger `order` keys",
        ),
        ({"weight": {"a": 1.0, "b": 1.0, "c": 0.5}}, "weight of c is 0.5 in the recipe, but 1.0 in the state"),
        ({"weight": {"a": 0.0, "b": 1.0, "c": 1.0}}, "has merged a, which the recipe names with weight 0"),
        ({"weight": {"a": 1.0, "b": 0.0, "c": 1.0}}, "has merged all models of the recipe already"),
    ],
)
def test_another_merge_is_refused(
    change: dict[str, Any], message: str, folders: dict[str, Path], state: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        merge(one(folders, "abc", **change), tmp_path / "out", continue_from=state, save_state=tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_all_that_does_not_agree_is_said_at_once(folders: dict[str, Path], state: Path, tmp_path: Path) -> None:
    here = {**folders, "base": near(tmp_path / "base", folders["base"], 9), "c": folders["a"]}
    with pytest.raises(RecipeError) as caught:
        merge(one(here, "bc", alpha=0.1), tmp_path / "out", continue_from=state)
    for text in ("4 mistakes", "alpha is 0.1", "base is another model", "merged a, which the recipe names not at all",
                 "c is another model than the one of this name"):  # fmt: skip
        assert text in str(caught.value)


def test_only_whole_merges_by_opcm_have_a_state(folders: dict[str, Path], tmp_path: Path) -> None:
    save = {"save_state": tmp_path / "state"}
    with pytest.raises(RecipeError, match="the method linear has none"):
        merge(recipe("linear", None, {"a": folders["a"]}), tmp_path / "out", **save)
    grouped = replace(one(folders, "ab"), groups=(Group({"weight": 0.5}, roles=("norm",), method="linear"),))
    with pytest.raises(RecipeError, match="groups of an opcm recipe"):
        merge(grouped, tmp_path / "out", **save)
    with pytest.raises(RecipeError, match="every weight is 0"):
        merge(one(folders, "ab", weight=0.0), tmp_path / "out", **save)
    with pytest.raises(ExportError, match="folders of their own"):
        merge(one(folders, "ab"), tmp_path / "out", save_state=tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ExportError, match="full"):
        merge(one(folders, "ab"), tmp_path / "out", save_state=tmp_path / "full")
    assert not (tmp_path / "out").exists()


def test_a_damaged_state_is_named(folders: dict[str, Path], state: Path, tmp_path: Path) -> None:
    def attempt(folder: Path) -> None:
        merge(one(folders, "abc"), tmp_path / "out", continue_from=folder)

    with pytest.raises(RecipeError, match="cannot read the state of a merge"):
        attempt(tmp_path / "nowhere")
    broken = shutil.copytree(state, tmp_path / "broken")
    data = json.loads((broken / "state.json").read_text())
    for wrong in ("[]", "{", json.dumps({**data, "merged": []}), json.dumps({**data, "merged": [{"name": "a"}]})):
        (broken / "state.json").write_text(wrong)
        with pytest.raises(RecipeError, match="is no state of a merge"):
            attempt(broken)
    (broken / "state.json").write_text(json.dumps({**data, "format": 2}))
    with pytest.raises(RecipeError, match="in format 2, but this version continues opcm in format 1"):
        attempt(broken)
    (broken / "state.json").write_text(json.dumps(data))
    content = (broken / "directions.safetensors").read_bytes()
    (broken / "directions.safetensors").write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match=r"directions\.safetensors"):
        attempt(broken)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_kill_leaves_no_folder_that_looks_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    kill = f"""
import os, signal
from pathlib import Path
from evomerge.api import merge
from evomerge.merge.disk import continual
real = continual.write_files
def write(files, on_piece):
    real(files, on_piece)
    os.kill(os.getpid(), signal.SIGKILL)
continual.write_files = write
merge(Path({str(tmp_path / "recipe.yaml")!r}), {str(tmp_path / "out")!r}, save_state={str(tmp_path / "state")!r})
"""
    (tmp_path / "recipe.yaml").write_text(one(folders, "ab").to_yaml())
    killed = subprocess.run([sys.executable, "-c", kill], cwd=Path(__file__).parents[2], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (tmp_path / "out" / "model.safetensors").is_file()  # the model was whole before its state was begun
    assert not (tmp_path / "state").exists()
    assert any(path.name.endswith(".partial") for path in tmp_path.iterdir())
    shutil.rmtree(tmp_path / "out")
    merge(tmp_path / "recipe.yaml", tmp_path / "out", save_state=tmp_path / "state")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "state", "recipe.yaml"}


def test_the_command_saves_and_continues(folders: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    for names in ("ac", "abc"):
        (tmp_path / f"{names}.yaml").write_text(one(folders, names).to_yaml())
    state = str(tmp_path / "state")
    assert main(["merge", str(tmp_path / "ac.yaml"), str(tmp_path / "first"), "--save-state", state]) == 0
    made = str(tmp_path / "made")
    assert main(["merge", str(tmp_path / "abc.yaml"), made, "--continue-from", state]) == 0
    assert bytes_of(Path(made)) == bytes_of(merge(one(folders, "abc"), tmp_path / "whole"))
    assert f"the state of the merge is in {state}" in capsys.readouterr().out


def test_a_parent_that_is_a_recipe_is_known_by_its_hash(folders: dict[str, Path], tmp_path: Path) -> None:
    inner = recipe("linear", None, {"a": folders["a"], "b": folders["b"]})
    first = recipe("opcm", folders["base"], {"inner": inner})
    merge(first, tmp_path / "first", save_state=tmp_path / "state")
    both = replace(first, parents=(*first.parents, Parent("c", ModelSource(str(folders["c"])))))
    made = merge(both, tmp_path / "made", continue_from=tmp_path / "state")
    assert bytes_of(made) == bytes_of(merge(both, tmp_path / "whole"))
    other = replace(both, parents=(Parent("inner", replace(inner, seed=1)), both.parents[1]))
    with pytest.raises(RecipeError, match="inner is another model"):
        merge(other, tmp_path / "other", continue_from=tmp_path / "state")
