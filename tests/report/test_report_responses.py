"""The response matrix and how hard items are, of runs whose answers are known."""

import numpy as np
from charts import check_chart
from made_runs import ADD, PERPLEXITY

from evomerge.record import Split
from evomerge.report.data import RunData
from evomerge.report.figures import difficulty, responses


def cells_of(figure) -> dict[tuple[str, str], dict[str, float]]:
    """Return the cells by the names of their candidates and items, as a tooltip shows them, by proposal."""
    data = figure.chart["datasets"]
    columns = {one["c"]: one["items"] for one in data["columns"]}
    lines = {one["l"]: one["candidates"] for one in data["lines"] if one["order"] == responses.PROPOSAL}
    return {(lines[one["l"]], columns[one["c"]]): one["v"] for one in data["cells"] if one["l"] in lines}


def test_each_cell_is_the_answer_of_a_candidate_to_an_item(open_made) -> None:
    run: RunData = open_made(specs=(ADD,))
    figure = responses.draw([run])
    assert figure is not None
    cells = cells_of(figure)
    numbers, items, values = run.task_responses("add")
    expected = {
        (str(number), str(item)): values[i, j]
        for i, number in enumerate(numbers)
        for j, item in enumerate(items)
        if number >= 0
    }
    assert cells == expected
    shares = [
        np.mean([v for (_, i), v in cells.items() if i == one["items"]]) for one in figure.chart["datasets"]["columns"]
    ]
    assert shares == sorted(shares, reverse=True)


def test_large_matrices_are_put_together(open_made) -> None:
    run = open_made(
        specs=(ADD,), candidates=32, items={Split.SEARCH: 160, Split.VALIDATION: 0, Split.TEST: 0}, choice=None
    )
    figure = responses.draw([run])
    data = figure.chart["datasets"]
    by_proposal = [one for one in data["lines"] if one["order"] == responses.PROPOSAL]
    assert 1500 < len(by_proposal) * len(data["columns"]) <= responses.CELLS
    assert "mean of a block" in figure.note
    check_chart(figure)
    _, _, values = run.task_responses("add")
    whole = values[[n >= 0 for n in run.task_responses("add")[0]]].mean()
    sizes = {one["c"]: one["n"] for one in data["columns"]}, {one["l"]: one["n"] for one in by_proposal}
    cells = [one for one in data["cells"] if one["l"] in sizes[1]]
    total = sum(one["v"] * sizes[0][one["c"]] * sizes[1][one["l"]] for one in cells)
    assert abs(total / (160 * sum(sizes[1].values())) - whole) < 2e-3


def test_how_many_items_decide_nothing_is_said(open_made) -> None:
    run = open_made(specs=(ADD,))
    figure = difficulty.draw([run])
    numbers, _, values = run.task_responses("add")
    own = values[[number >= 0 for number in numbers]]
    never, always = int((own == 0).all(axis=0).sum()), int((own == 1).all(axis=0).sum())
    assert f"{never} of 20 search items no candidate has right, {always} all have right" in figure.lead
    row = next(row for row in figure.table.rows if row[1] == "search")
    assert list(row[2:4]) == [len(own), 20] and list(row[5:]) == [never, always, 20 - never - always]
    assert figure.chart["datasets"]["rows"][0]["y"] == 100 * own.mean(axis=0).max()


def test_metrics_in_a_unit_have_a_matrix_but_no_right_answers(open_made) -> None:
    run = open_made(specs=(PERPLEXITY,))
    assert responses.draw([run]) is not None and difficulty.draw([run]) is None


def test_every_kind_of_run_has_them_or_none(any_run: RunData) -> None:
    has = any(n >= 0 for task in any_run.entries for n in any_run.task_responses(task)[0])
    matrix, curve = responses.draw([any_run]), difficulty.draw([any_run])
    assert (matrix is not None) == has and (curve is None or has)
    for figure in (matrix, curve):
        if figure is not None:
            check_chart(figure)


def test_several_runs_are_overlaid(open_made) -> None:
    runs = [open_made(seed=0, label="a"), open_made(seed=1, label="b")]
    assert responses.draw(runs) is None
    figure = difficulty.draw(runs)
    assert " in seed 0, " in figure.lead and figure.table.columns[0] == "run"
