"""Every export generates before it appears: merges that fail in the known ways are refused, others are not."""

import sys
from pathlib import Path

import pytest

from evomerge import api
from evomerge.analysis.short_answers import LEVEL, LOOKS, ShortAnswer, bad_answers, sign_test, worse_than_parents
from evomerge.errors import ExportError
from evomerge.export import export_recipe
from evomerge.export.questions import LONGEST, NEUTRAL, Question
from evomerge.recipe import ModelSource, Parent, Recipe

sys.path.append(str(Path(__file__).parents[1] / "end_to_end"))
from rigged_models import rigged_model
from test_degenerate_answers import MERGES, searched, write_search


def asked(limit: int) -> list[Question]:
    return [Question(f"{i} + {i}:", until=("\n",), max_new_tokens=limit) for i in range(LOOKS[-1])]


def test_chance_alone_refuses_no_merge_and_eight_clear_cases_do():
    from scipy.stats import binomtest

    for b, c in [(8, 0), (7, 0), (6, 0), (9, 1), (20, 9), (0, 3)]:
        own, other = [True] * b + [False] * c, [False] * b + [True] * c
        assert sign_test(own, other) == pytest.approx(binomtest(b, b + c, alternative="greater").pvalue)
    assert sign_test([True] * 7, [False] * 7) <= LEVEL < sign_test([True] * 6, [False] * 6)
    loops, good = ShortAnswer("so it is that we all go home, " * 4, cut=True), ShortAnswer("Paris.", cut=False)
    bad = {name: bad_answers([one] * 8) for name, one in (("own", loops), ("good", good))}
    found = worse_than_parents(bad["own"], {"a": bad["good"], "b": bad["good"]})
    assert [one.measure for one in found] == ["repetitive_answers", "cut_answers"]
    assert str(found[0]) == "100.0 % of its answers to 8 prompts repeat themselves, 0.0 % of a's, 0.0 % of b's"
    assert worse_than_parents(bad["own"], {"a": bad["good"], "b": bad["own"]}) == []
    assert worse_than_parents(bad["own"], {}) == []
    assert len({one.text for one in NEUTRAL}) == len(NEUTRAL) > LOOKS[0]
    assert LONGEST >= 64


@pytest.mark.parametrize(
    ("failure", "said"),
    [("loops", "repeat themselves, 0.0 % of a's, 0.0 % of b's"), ("says nothing", "are empty"), ("never stops", "cut")],
)
def test_answers_that_degenerate_are_a_refusal_that_leaves_nothing(failure, said, tmp_path):
    more, first, limit, *_ = MERGES[failure]
    write_search(tmp_path, more, first, limit)
    recipe = Recipe(
        "task_arithmetic",
        tuple(Parent(name, ModelSource(str(tmp_path / name))) for name in "ab"),
        Parent("base", ModelSource(str(tmp_path / "base"))),
    )
    with pytest.raises(ExportError, match=rf"answers worse than its parents: 100.0 % of its answers to 8 .*{said}"):
        export_recipe(recipe, tmp_path / "out", questions=asked(limit))
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]
    reports = []
    out = export_recipe(recipe, tmp_path / "out", questions=asked(limit), force=True, report=reports.append)
    assert (out / "config.json").is_file() and not reports[0].answering.passed
    reports.clear()
    export_recipe(recipe, tmp_path / "unasked", questions=asked(limit), force=True, verify=False, report=reports.append)
    assert reports[0].answering is None and reports[0].verification is None


def test_a_merge_of_models_that_loop_themselves_is_no_worse(tmp_path):
    loop = {"?": {"k": 1.0}, ":": {"k": 1.0}, "k": {"k": 1.0}}
    for name in "ab":
        rigged_model(tmp_path / name, loop)
    recipe = Recipe("linear", tuple(Parent(name, ModelSource(str(tmp_path / name))) for name in "ab"))
    reports = []
    export_recipe(recipe, tmp_path / "out", report=reports.append)
    found = reports[0].answering
    assert found.passed and found.n == LOOKS[0] and not found.own_tasks and found.parents == {}
    assert found.shares["repetitive_answers"] == found.shares["cut_answers"] == 1.0
    assert "of its answers to 8 prompts, 0.0 % are empty, 100.0 % repeat themselves" in str(found)


def test_a_run_is_asked_its_own_tasks_and_compared_with_what_its_parents_answered(tmp_path, monkeypatch):
    from evomerge.merge.live.models import LiveModels

    more, first, limit, *_ = MERGES["loops"]
    searched(write_search(tmp_path, more, first, limit), tmp_path / "run")
    with pytest.raises(ExportError, match=r"100\.0 % of its answers to 8 prompts repeat themselves, 0\.0 % of a's"):
        api.export(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()

    def no_parents(self, recipe):
        assert recipe.method != "passthrough", "the run knows what its parents answered"
        return written(self, recipe)

    written = LiveModels.write
    monkeypatch.setattr(LiveModels, "write", no_parents)
    reports = []
    out = api.export(tmp_path / "run", tmp_path / "out", force=True, report=reports.append)
    found = reports[0].answering
    assert found.own_tasks and [one.measure for one in found.worse] == ["repetitive_answers", "cut_answers"]
    assert found.parents == {name: dict.fromkeys(found.shares, 0.0) for name in "ab"}
    assert (
        "written by force: before it appeared, its answers to a few prompts repeat them"
        in (out / "README.md").read_text()
    )
