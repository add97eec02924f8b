"""The figures of the merge: the recipe, and what it says for each layer and parent."""

from dataclasses import replace

import pytest
from charts import check_chart, fields
from made_runs import HOSTILE

from evomerge.recipe import Group, ModelSource, Parent, Recipe, Step
from evomerge.report.coefficients import ALL, Coefficient, coefficients, merged_part, n_layers
from evomerge.report.figures import coefficients as coefficients_figure
from evomerge.report.figures import recipe as recipe_figure
from evomerge.report.page import render_figure

BASE = Parent("base", ModelSource("org/base"))
MATH, CODE = Parent("math", ModelSource("org/math", "0123456789abcdef")), Parent("code", ModelSource("/home/me/code"))


def merged(groups: tuple[Group, ...] = (), method: str = "task_arithmetic", **parameters) -> Recipe:
    return Recipe(method, (MATH, CODE), base=BASE, parameters=parameters, groups=groups)


def found(recipe: Recipe, layers: int | None) -> dict[tuple[str, str, str, str], Coefficient]:
    return {one.key: one for one in coefficients(recipe, layers)}


@pytest.mark.parametrize("module", [recipe_figure, coefficients_figure], ids=["recipe", "coefficients"])
def test_the_figures_of_the_merge_draw_any_run_or_have_nothing_to_show(any_run, module) -> None:
    figure = module.draw([any_run])
    if any_run.best is None:
        assert figure is None
    elif figure is not None:
        assert "nan" not in figure.lead
        html = render_figure(figure, strict=True)
        assert HOSTILE[:8] not in html
        if figure.chart is not None:
            check_chart(figure)
            assert not any(HOSTILE[:8] in field for field in fields(figure.chart))


def test_each_place_has_what_the_first_matching_group_says() -> None:
    recipe = merged(
        (
            Group({"weight": {"math": 0.1, "code": 0.2}}, (0, 1), ("attention",), name="first"),
            Group({"weight": {"math": 0.3, "code": 0.4}}, (0, 2)),
            Group({"weight": {"math": 0.5, "code": 0.6}}, None, ("embedding",)),
        ),
        weight=0.9,
        **{"lambda": 1.0},
    )
    values = found(recipe, 3)
    assert values["weight", "math", "attention", "0"].value == 0.1
    assert values["weight", "math", "attention", "0"].group == "first"
    assert values["weight", "code", "mlp, norm, other", "0"].value == 0.4
    assert values["weight", "code", "attention", "1"].value == 0.4
    assert values["weight", "", "attention", "2"].value == 0.9  # no group: the recipe's own, for all parents
    assert values["weight", "math", "", "embeddings"].value == 0.5
    assert values["weight", "", "", "head"].value == values["weight", "", "", "final norm"].value == 0.9
    assert values["lambda", "", "mlp, norm, other", "1"].value == 1.0


def test_what_the_picture_shows_is_what_merging_resolves() -> None:
    recipe = merged(
        (
            Group({"density": 0.3}, (1, 3), ("mlp",)),
            Group({"t": 0.2}, (0, 2), method="slerp"),
            Group({"weight": {"math": 1.0, "code": 0.0}}, None, ("norm",)),
        ),
        method="ties",
        weight=0.5,
        density=0.8,
    )
    for one in coefficients(recipe, 4):
        if one.place.isdigit():
            for role in one.part.split(", ") if one.part else ("attention", "mlp", "norm", "other"):
                value = recipe.parameters_of(role, int(one.place))[one.parameter]
                assert one.value == (value[one.parent] if one.parent else value)
                assert one.method == recipe.method_of(recipe.group_of(role, int(one.place)))


def test_groups_by_parts_of_names_are_a_part_of_their_own() -> None:
    recipe = merged((Group({"weight": 0.2}, (0, 1), tensors=("q_proj",)),), weight=0.7)
    values = found(recipe, 2)
    assert values["weight", "", "q_proj", "0"].value == 0.2
    assert ("weight", "", "q_proj", "1") not in values
    assert values["weight", "", "", "0"].value == 0.7


def test_the_number_of_layers_is_that_of_groups_or_of_genes() -> None:
    assert n_layers(merged((Group({}, (0, 4)), Group({}, (4, 6))))) == 6
    assert n_layers(merged(), ["weight.math.layers0-3.mlp", "weight.math.layers4"]) == 5
    assert n_layers(merged(), ["weight.math"]) is None
    assert {one.place for one in coefficients(merged(weight=0.5), None)} == {ALL, "embeddings", "final norm", "head"}


def test_merges_of_merges_are_flattened_and_a_path_shows_its_merged_parent() -> None:
    inner = merged(weight=0.5, **{"lambda": 1.0})
    outer = Recipe("task_arithmetic", (Parent("both", inner), CODE), base=BASE, parameters={"weight": 0.5})
    flat, words = merged_part(outer)
    assert words == "with merges of merges as one"
    assert {one.parent for one in coefficients(flat, 1)} >= {"math", "code"}
    path = Recipe("passthrough", (CODE, Parent("both", inner)), path=(Step("code", 0), Step("both", 1)))
    assert merged_part(path) == (inner, "of both, a parent of the path")
    assert merged_part(Recipe("passthrough", (CODE, MATH), path=(Step("code", 0),))) == (None, "")


def test_the_lead_says_who_gives_most_and_what_is_the_same_everywhere(open_made) -> None:
    figure = coefficients_figure.draw([open_made()])
    assert figure.lead.startswith("Merged by task_arithmetic. Mean weight over the layers, ")
    assert "The same everywhere: lambda: 1." in figure.note
    rows = figure.chart["datasets"]["rows"]
    assert {row["parent"] for row in rows} == {"math", "words", "code"}
    assert [row["place"] for row in rows if row["parent"] == "math"] == [str(i) for i in range(6)]
    assert all(row["what"] == "weight" for row in rows)


def test_several_methods_are_named_above_their_layers(open_made, monkeypatch) -> None:
    run = open_made()
    recipe = merged((Group({"t": 0.2}, (0, 2), method="slerp"), Group({}, (2, 3))), weight=0.7)
    monkeypatch.setattr(type(run), "best_recipe", property(lambda self: recipe))
    run.genes = ()
    figure = coefficients_figure.draw([run])
    check_chart(figure)
    assert figure.lead.startswith("Merged by slerp in layers 0–1, task_arithmetic in layer 2 and embeddings and")
    spans = [(row["method"], row["where"], row["place"]) for row in figure.chart["datasets"]["methods"]]
    assert spans == [
        ("task_arithmetic", "embeddings", "embeddings"),
        ("slerp", "layers 0–1", "0"),
        ("task_arithmetic", "layer 2 and final norm and head", "2"),
    ]


def test_seeds_of_one_configuration_are_averaged(open_made) -> None:
    runs = [open_made(seed=seed) for seed in (0, 1, 2)]
    figure = coefficients_figure.draw(runs)
    check_chart(figure)
    cell = next(row for row in figure.chart["datasets"]["rows"] if row["parent"] == "math" and row["place"] == "0")
    values = [run.best_recipe.parameters_of("mlp", 0)["weight"]["math"] for run in runs]
    assert cell["v"] == pytest.approx(sum(values) / 3, rel=1e-3)
    assert "±" in cell["value"] and "Means over seeds" in figure.note
    others = coefficients_figure.draw([*runs, open_made(config={"optimizer": {"name": "random"}})])
    assert {row["runs"] for row in others.chart["datasets"]["rows"]} == {"optimizer=cma", "optimizer=random"}
    assert others.table.columns[0] == "runs"


def test_the_recipe_names_models_without_the_folders_of_one_machine(open_made, monkeypatch) -> None:
    run = open_made()
    inner = merged(weight=0.5)
    outer = Recipe("linear", (Parent("both", inner), CODE), parameters={"normalize": True}, dtype="bfloat16")
    run.best = replace(run.best, recipe=outer)
    figure = recipe_figure.draw([run])
    (one,) = figure.data["recipes"]
    assert [(model["name"], model["place"], model["revision"], model["part"]) for model in one["models"]] == [
        ("both", "merged: task_arithmetic of math, code", "", "parent"),
        ("both › math", "org/math", "0123456789ab", "parent"),
        ("both › code", "code", "", "parent"),
        ("both › base", "org/base", "", "base"),
        ("code", "code", "", "parent"),
    ]
    facts = {fact["name"]: fact["value"] for fact in one["facts"]}
    assert facts["dtype"] == "bfloat16" and facts["for every tensor"] == "normalize true"
    assert one["yaml"] == outer.to_yaml()
    html = render_figure(figure, strict=True)
    assert "<details" in html and "<evomerge-copy label=" in html and "both › math" in html


def test_a_path_is_told_in_words_and_several_runs_by_their_kinds(open_made) -> None:
    path = open_made(dataflow=True)
    figure = recipe_figure.draw([path])
    assert " is a layer path: " in figure.lead
    facts = {fact["name"]: fact["value"] for fact in figure.data["recipes"][0]["facts"]}
    assert facts["embeddings"] == "of math" and "->" in facts["path"]
    both = recipe_figure.draw([path, open_made(), open_made(seed=1)])
    assert "task_arithmetic of math, words and code (2 runs)" in both.lead
    assert len({one["label"] for one in both.data["recipes"]}) == 3


def test_a_very_long_recipe_is_cut_with_a_word_where_all_of_it_is(open_made, monkeypatch) -> None:
    monkeypatch.setattr(recipe_figure, "MOST_LINES", 5)
    (one,) = recipe_figure.draw([open_made()]).data["recipes"]
    assert one["yaml"].count("\n") == 6 and "more lines; all of it is in run0/best.yaml" in one["yaml"]
