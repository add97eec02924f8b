"""The genes of runs: tables with what candidates had, and the figures that are made of them."""

import math

import numpy as np
import pytest
from charts import check_chart, fields
from made_runs import HOSTILE

from evomerge.recipe import Group, ModelSource, Parent, Recipe
from evomerge.record import Record, State
from evomerge.report.figures import gene_course, importance, parallel_coordinates
from evomerge.report.genes import GeneInfo, even_sample, gene_tables, without_prefix
from evomerge.store.traces import Trace

FIGURES = (gene_course, parallel_coordinates, importance)


@pytest.mark.parametrize("module", FIGURES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_figures_of_genes_draw_any_run_or_have_nothing_to_show(any_run, module) -> None:
    figure = module.draw([any_run])
    if not any_run.genes or not any_run.records:
        assert figure is None
    elif figure is not None:
        assert figure.lead and "nan" not in figure.lead
        if figure.chart is not None:
            check_chart(figure)
            assert not any(HOSTILE[:8] in field for field in fields(figure.chart))


def test_the_figures_of_genes_of_many_candidates_stay_small(open_made) -> None:
    run = open_made(candidates=500, layers=20, finalists=2)
    for module in FIGURES:
        figure = module.draw([run])
        assert figure is not None, module.__name__
        check_chart(figure)


def gene(name: str = "weight.math", **more) -> dict:
    return {"name": name, "low": 0.0, "high": 1.6, "start": 0.7, **more}


def record(number: int, genome: tuple[float, ...], fitness: float | None = 0.5, recipe: Recipe | None = None) -> Record:
    plain = Recipe("linear", (Parent("math", ModelSource("org/math")),))
    state = State.FAILED if fitness is None else State.COMPLETE
    return Record(number, f"candidate {number}", state, recipe or plain, genome, fitness=fitness)


def test_each_stage_has_the_candidates_whose_trace_says_so() -> None:
    genes = [gene("a", stage_number=0), gene("b", stage_number=1), gene("c", stage_number=1)]
    records = [record(0, (0.1,)), record(1, (0.2, 0.3)), record(2, (0.4, 0.5)), record(3, (1.0, 1.0, 1.0))]
    tables = gene_tables(genes, records, {0: Trace(stage=0), 1: Trace(stage=1)}, ("weights", "layers"))
    assert [(table.name, [one.number for one in table.records]) for table in tables] == [
        ("weights", [0]),
        ("layers", [1, 2]),  # the second by its length, and the last one fits none
    ]
    assert tables[1].values.tolist() == [[0.2, 0.3], [0.4, 0.5]]


def test_genes_that_recipes_do_not_hold_sleep() -> None:
    def merged(method: str, **parameters) -> Recipe:
        parents = tuple(Parent(name, ModelSource(f"org/{name}")) for name in ("math", "code"))
        return Recipe(
            "linear",
            parents,
            base=Parent("base", ModelSource("org/base")),
            groups=(Group(parameters, (0, 2), name="layers0-1", method=method),),
        )

    genes = [
        gene("method.layers0-1", low=0.0, high=1.0, start=0.0, kind="choice", choices=["linear", "ties"]),
        gene("linear.weight.math.layers0-1", when="method is linear"),
        gene("ties.density.math.layers0-1", when="method is ties"),
        gene("ties.lambda", when="method is ties"),
        gene("own.name", start=0.3, when="own is other"),
    ]
    weights = {"math": 0.7, "code": 0.1}
    linear = merged("linear", weight=weights)
    ties = merged("ties", weight=weights, density=weights, **{"lambda": 0.7})
    records = [record(0, (0, 0.7, 0.7, 0.7, 0.3), recipe=linear), record(1, (1, 0.7, 0.7, 0.7, 0.4), recipe=ties)]
    (table,) = gene_tables(genes, records, {})
    assert np.isnan(table.values).tolist() == [[False, False, True, True, True], [False, True, False, False, False]]


@pytest.mark.parametrize(
    ("data", "value", "word", "place"),
    [
        (gene(), 0.8, "0.8", 0.5),
        (gene(low=0.01, high=1.0, log=True), 0.1, "0.1", 0.5),
        (gene(low=1.0, high=4.0, kind="integer"), 4.0, "4", 0.875),
        (gene(low=0.0, high=1.0, kind="choice", choices=["linear", "ties"]), 1.0, "ties", 0.75),
        (gene(low=0.5, high=0.5), 0.5, "0.5", 0.5),
        (gene(), math.nan, "asleep", math.nan),
    ],
)
def test_values_have_words_and_places_in_their_range(data: dict, value: float, word: str, place: float) -> None:
    info = GeneInfo.from_data(data)
    assert info.word(value) == word
    assert float(info.unit(np.array([value]))[0]) == pytest.approx(place, nan_ok=True)


def test_only_ends_of_ranges_that_can_be_wider_are_edges() -> None:
    assert GeneInfo.from_data(gene()).edge(1.59) == "high"
    assert GeneInfo.from_data(gene()).edge(0.0) == "low"
    assert GeneInfo.from_data(gene()).edge(0.1) == ""
    assert GeneInfo.from_data(gene(kind="choice", choices=["a", "b"], high=1.0)).edge(1.0) == ""
    assert GeneInfo.from_data(gene("segment1.length", kind="integer", high=6.0)).edge(6.0) == ""
    assert GeneInfo.from_data(gene("include.pass1.math.layer3", low=-1.0)).edge(-1.0) == ""


def test_genes_of_the_best_at_the_edge_are_told_first(open_made, monkeypatch) -> None:
    run = open_made()
    table = run.best_genes
    at = table.row(run.best)
    table.values[at, 2], table.values[at, 4] = 1.6, 0.001
    figure = gene_course.draw([run])
    assert figure.lead.startswith(
        "2 of 9 genes of the best merge lie at the edge of their range: weight.code.layers0-1 at its upper end (1.6), "
        "weight.words.layers2-3 at its lower end (0.001)."
    )
    assert {row[0] for row in figure.table.rows[:2]} == {"weight.code.layers0-1", "weight.words.layers2-3"}
    assert figure.table.marked == {0, 1}


def test_without_a_gene_at_the_edge_the_ranges_are_said_to_be_wide_enough(open_made) -> None:
    run = open_made()
    run.best_genes.values[run.best_genes.row(run.best)] = 0.5
    assert gene_course.draw([run]).lead.startswith("None of the 9 genes of the best merge lies at the edge")


def test_the_gene_that_decides_is_named_as_the_one_that_matters(open_made) -> None:
    run = open_made(candidates=120, twins={}, failed=(), consensus=False)
    table = run.best_genes
    draw = np.random.default_rng(0)
    table.values[:] = draw.uniform(0.0, 1.6, table.values.shape)
    table.fitness[:] = table.values[:, 3]
    figure = importance.draw([run])
    assert figure.lead.startswith(
        "1 of 9 genes stands out from chance among 120 candidates, first of all weight.math.l"
    )
    assert figure.table.rows[0][0] == table.genes[3].name and figure.table.rows[0][3] == "yes"
    assert table.by_importance[0] == 3
    assert max(row["share"] for row in figure.chart["datasets"]["rows"]) > 0.9


def test_too_few_candidates_are_said_to_be_too_few(open_made) -> None:
    figure = importance.draw([open_made()])
    assert figure.chart is None
    assert "cannot be told from so few candidates (15)" in figure.lead  # the twin tells nothing


def test_runs_of_one_configuration_are_pooled_and_others_stand_beside(open_made) -> None:
    many = {"candidates": 60, "finalists": 1}
    runs = [
        open_made(seed=0, **many),
        open_made(seed=1, **many),
        open_made(config={"optimizer": {"name": "random"}}, **many),
    ]
    figure = importance.draw(runs)
    check_chart(figure)
    assert figure.table.columns[0] == "runs"
    counts = {row[0]: row[-1] for row in figure.table.rows}
    assert sorted(counts.values()) == [59, 118]
    assert gene_course.draw(runs) is None and parallel_coordinates.draw(runs) is None


def test_lines_are_the_best_and_an_even_sample(open_made) -> None:
    run = open_made(candidates=400, finalists=1)
    shown = even_sample(run.best_genes, 100)
    assert len(shown) == 100 == len(set(shown)) and shown == sorted(shown)
    fitness = [run.records[i].fitness or -1.0 for i in shown]
    assert sorted(fitness)[-20:] == sorted(one.fitness or -1.0 for one in run.records)[-20:]
    assert shown[0] < 10 and shown[-1] > 390
    assert "an even sample" in parallel_coordinates.draw([run]).note


def test_names_lose_what_all_of_them_begin_with() -> None:
    assert without_prefix(["weight.math.head", "weight.ja.head"]) == ["math.head", "ja.head"]
    assert without_prefix(["t.layers0", "weight.ja"]) == ["t.layers0", "weight.ja"]
    assert without_prefix(["weight.math", "weight.math.head"]) == ["math", "math.head"]
    assert without_prefix(["alone.one"]) == ["alone.one"]


def test_of_a_choice_it_is_told_how_common_its_most_common_word_is(open_made, monkeypatch) -> None:
    run = open_made(candidates=80, twins={}, failed=(), consensus=False)
    genes = [gene("method", low=0.0, high=1.0, start=0.0, kind="choice", choices=["linear", "ties"], stage=0)]
    records = [record(i, (float(i % 4 == 0),), 0.9 if i % 4 == 0 else 0.1) for i in range(80)]
    run.gene_tables = gene_tables(genes, records, {})
    figure = importance.draw([run])
    assert "there it is typically ties (100 %), among all linear (75 %)" in figure.lead
    check_chart(figure)
