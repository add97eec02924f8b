"""What ships: it loads with plain transformers, and scores what the README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge import zoo
from evomerge.zoo.figures import average, interval, table, task_scores

FOLDER = Path(zoo.__file__).parent
SCORES = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models():
    loaded = {name: AutoModelForCausalLM.from_pretrained(zoo.zoo_path(name)) for name in zoo.MODELS}
    loaded["average"] = average([loaded[name] for name in zoo.MODELS[1:]])
    return loaded


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(zoo.zoo_path("base"))


# What says most, to keep it short; `python -m evomerge.zoo.figures` measures everything again.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("math", ("zoo_en_math", "zoo_ja_math_test")),
        ("japanese", ("zoo_ja_setup", "zoo_ja_reading", "zoo_ja_math_test")),
        ("average", ("zoo_ja_math_test",)),
    ],
)
def test_a_model_scores_what_the_readme_says(models, tokenizer, name, tasks):
    found = task_scores(models[name], tokenizer, tasks)
    for task in tasks:
        assert found[task]["items"] == SCORES[task]["items"]
        for measure, share in SCORES[task][name].items():
            # One item in a hundred may flip: the last bits of a sum depend on the machine.
            assert found[task][measure] == pytest.approx(share, abs=0.01), (task, measure)


def test_the_readme_shows_the_scores_of_the_file():
    assert table(SCORES) in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", zoo.MODELS)
def test_a_shipped_folder_is_complete_small_and_in_half_precision(name):
    folder = zoo.zoo_path(name)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert (folder / "model.safetensors").stat().st_size < 2_300_000
    assert "license: apache-2.0" in (folder / "README.md").read_text(encoding="utf-8")
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        names = weights.keys()  # not a dictionary: cannot be iterated itself
        assert {weights.get_slice(name).get_dtype() for name in names} == {"F16"}


def test_all_data_of_the_package_stays_below_eight_megabytes():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 8_000_000


def test_models_load_in_single_precision_and_share_one_tokenizer(models):
    assert {model.dtype for model in models.values()} == {torch.float32}
    assert len({(zoo.zoo_path(name) / "tokenizer.json").read_bytes() for name in zoo.MODELS}) == 1


def test_the_math_expert_solves_an_english_problem_by_plain_generate(models, tokenizer):
    prompt = tokenizer("Tom has 8 eggs. Then Tom buys 6 eggs. How many eggs does Tom have now?\n", return_tensors="pt")
    out = models["math"].generate(**prompt)
    text = tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text == "The answer is 8+6=14."


def test_importing_the_zoo_loads_neither_torch_nor_transformers():
    code = "import evomerge.zoo, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match="no model 'big'; it has base, math, japanese"):
        zoo.zoo_path("big")


def test_the_interval_of_a_share_is_wilsons():
    # statsmodels.stats.proportion.proportion_confint(30, 600, method="wilson")
    assert interval(0.05, 600) == pytest.approx((0.03525, 0.07046), abs=2e-4)
