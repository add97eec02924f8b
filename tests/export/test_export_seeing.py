"""Exports of vision-language merges: compared with the live model by an image too, and described as what they are."""

import json
from pathlib import Path

import pytest
from seeing_models import answer, picture, reading, seeing

from evomerge.export.hf_folder import ExportReport, export_recipe
from evomerge.export.model_card import model_card
from evomerge.export.verify import needs_code, verify
from evomerge.merge.sources import Sources
from evomerge.recipe import ModelSource, Parent, Recipe, TokenizerBuild


def test_an_export_is_compared_by_an_image_and_says_how_it_is_loaded(tmp_path: Path) -> None:
    members = {
        "seeing": seeing(tmp_path / "seeing", "llava", 0, rows=3),
        "text": reading(tmp_path / "text", "llava", 1, same_tokens=False),
        "base": reading(tmp_path / "base", "llava", 2, same_tokens=False),
    }
    *parents, base = (Parent(name, ModelSource(str(folder))) for name, folder in members.items())
    recipe = Recipe("ties", tuple(parents), base, tokenizer=TokenizerBuild(), parameters={"density": 0.7})
    out = tmp_path / "out"
    told: list[ExportReport] = []
    export_recipe(
        recipe, out, card=lambda known: model_card(recipe, title="merged", report=known), report=told.append, force=True
    )
    (report,) = told
    assert report.verification is not None and report.verification.passed, str(report.verification)
    assert report.verification.n_prompts == 9 and not report.verification.unseen  # one of them an image
    card = (out / "README.md").read_text()
    assert "pipeline_tag: image-text-to-text" in card and "AutoModelForImageTextToText.from_pretrained" in card
    assert answer(out, picture(3))

    config = json.loads((out / "processor_config.json").read_text())
    config["image_processor"]["image_mean"] = [0.1, 0.1, 0.1]
    (out / "processor_config.json").write_text(json.dumps(config))
    found = verify(recipe, out, n_random=1)
    assert not found.passed and "its processor reads images differently" in found.problems
    (out / "processor_config.json").unlink()
    found = verify(recipe, out, n_random=1)
    assert any("it cannot be shown an image" in problem for problem in found.problems)


@pytest.mark.parametrize("named", ["seeing", None])
def test_whose_code_an_export_needs_is_the_vision_parts(named: str | None, tmp_path: Path) -> None:
    text = ModelSource(str(reading(tmp_path / "text", "llava", 1)))
    sees = ModelSource(str(seeing(tmp_path / "seeing", "llava", 0)), trust_remote_code=True)
    inner = Recipe("linear", (Parent("text", text), Parent("seeing", sees)), Parent("base", text), vision=named)
    assert inner.donor.name == (named or "base")
    outer = Recipe("linear", (Parent("inner", inner), Parent("text", text)))
    plain = Recipe("linear", (Parent("text", text), Parent("again", text)))
    assert [needs_code(one, Sources()) for one in (inner, outer, plain)] == [True, True, False]
