"""The scripts under benchmarks/: what each must offer. Their timings are never tests."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def options(script: Path) -> set[str]:
    """The names that a script gives to `add_argument`."""
    return {
        argument.value
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


SCRIPTS = sorted(
    path
    for path in [*FOLDER.glob("*.py"), *FOLDER.glob("*/*.py")]
    if "ArgumentParser" in path.read_text(encoding="utf-8")
)


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) > 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_offers_a_quick_run_and_json_and_is_in_the_table_of_figures(script: Path) -> None:
    assert {"--quick", "--json"} <= options(script)
    assert f"`{script.relative_to(FOLDER)}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_steps_with_and_without_refilling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    generation = importlib.import_module("generation")
    lengths = [3, 9, 2, 2, 5]  # tokens; the first of each comes from reading the prompt
    assert generation.steps_in_batches(lengths, 2) == 8 + 1 + 4
    assert generation.steps_refilled(lengths, 2) == 8  # 2 + 1 + 1 + 4 beside 8
    assert generation.steps_in_batches(lengths, 5) == generation.steps_refilled(lengths, 5) == 8
    assert generation.steps_in_batches(lengths, 1) == generation.steps_refilled(lengths, 1) == 16
