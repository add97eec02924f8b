"""docs/architectures.md says what holds of each model type: a few rows always, all of them in the slow tests."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import transformers
from any_family import families
from family_checks import MAPPINGS, row_of

SCRIPT: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "architectures.py"))
QUICK = [
    ("CAUSAL_LM", one)
    for one in ("gpt2", "mamba2", "mixtral", "gpt_oss", "qwen3_next", "jamba", "zamba", "gemma4_text", "hrm_text")
] + [("SEQ_TO_SEQ_CAUSAL_LM", "t5"), ("MASKED_LM", "gte"), ("MASKED_LM", "xlm"), ("MASKED_LM", "albert")]


def rows() -> list[str]:
    """The rows of the page, if it was made with the transformers that is installed."""
    page: str = SCRIPT["PAGE"].read_text(encoding="utf-8")
    if f"with transformers {transformers.__version__}." not in page:
        pytest.skip("the page was made with another release of transformers")
    return page.splitlines()


@pytest.mark.parametrize(("mapping", "model_type"), QUICK, ids=[one for _, one in QUICK])
def test_the_row_of_a_family_is_what_comes_out(mapping: str, model_type: str) -> None:
    assert str(row_of(model_type, mapping)) in rows(), "run: python scripts/architectures.py"


def test_no_family_is_left_out_and_none_fails_to_merge() -> None:
    text = "\n".join(rows())
    for mapping, model_type in SCRIPT["every"]():
        assert f"| `{model_type}` |" in text, (mapping, model_type)
    assert {mapping for mapping, _ in SCRIPT["every"]()} == set(MAPPINGS)
    assert set(families("CAUSAL_LM")) > {"llama"}
    assert "AssertionError" not in text
    assert "CheckpointError" not in text


@pytest.mark.slow
def test_every_row_of_the_page_is_what_comes_out() -> None:
    """Some minutes: two seconds a row, since no model has more than `MOST` parameters."""
    assert SCRIPT["page"]([SCRIPT["tried"](one) for one in SCRIPT["every"]()]).splitlines() == rows()
