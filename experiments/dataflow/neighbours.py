"""Is there anything to find near the best merge? Every path that is one edit away from it.

    .venv/bin/python experiments/dataflow/neighbours.py         # after run.py; three seeds, some ten minutes

For the winner of each PS run in results.json: leave one inner layer out, pass one layer twice, take one layer from a
parent instead, put one layer of a parent in front of the layer of the same depth, or scale the input of one layer by
0.8 or 1.25. Scored on the 200 validation items of the seed; the merge itself was picked on them among eight finalists,
which flatters it a little. Writes neighbours.json here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.execution.base import StopSignal
from evomerge.recipe import PASSTHROUGH, ModelSource, Parent, Recipe, Step
from evomerge.record import Job, Split

HERE = Path(__file__).parent
LENDERS = ("japanese", "math")


def edits(whole: tuple[Step, ...]) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Yield the kind of each edit and its path; first and last layer stay where they are."""
    for i, step in enumerate(whole):
        inner = 0 < i < len(whole) - 1
        if inner:
            yield "leave a layer out", whole[:i] + whole[i + 1 :]
            yield from (
                ("take a parent's layer", (*whole[:i], Step(name, i), *whole[i + 1 :])) for name in LENDERS
            )  # fmt: skip
        yield "pass a layer twice", (*whole[: i + 1], step, *whole[i + 1 :])
        if i:
            yield from (("add a parent's layer", (*whole[:i], Step(name, i), *whole[i:])) for name in LENDERS)
            for scale in (0.8, 1.25):
                yield "scale an input", (*whole[:i], replace(step, scale=scale), *whole[i + 1 :])


def main() -> None:
    results = json.loads((HERE / "results.json").read_text())
    parents = tuple(Parent(name, ModelSource(f"zoo:{name}")) for name in LENDERS)
    rows = []
    for result in (one for one in results if one["arm"] == "PS"):
        prepared = prepare(compose(["zoo_ps_then_dfs", f"seed={result['seed']}"]))
        executor = make_executor(prepared, StopSignal())
        merged = Parent("merged", Recipe.from_data(result["recipe"]))
        whole = tuple(Step("merged", layer) for layer in range(6))
        for kind, path in [("the merge", whole), *edits(whole)]:
            recipe = Recipe(PASSTHROUGH, (merged, *parents), dtype="float32", path=path)
            executor.submit(Job(0, recipe, Split.VALIDATION))
            accuracy = prepared.objectives.result(executor.collect().scores).objectives[0]
            rows.append({"seed": result["seed"], "edit": kind, "path": recipe.to_data()["path"], "accuracy": accuracy})
    (HERE / "neighbours.json").write_text(json.dumps(rows) + "\n")
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        base = own[0]["accuracy"]
        print(f"seed {seed}: the merge {100 * base:.1f} %")
        for kind in dict.fromkeys(row["edit"] for row in own[1:]):
            found = sorted(row["accuracy"] for row in own if row["edit"] == kind)
            better = sum(accuracy > base for accuracy in found)
            middle = found[len(found) // 2]
            spread = f"best {100 * found[-1]:.1f}, median {100 * middle:.1f}"
            print(f"  {kind:<22} {len(found):3} paths: {spread}, better than the merge {better}")


if __name__ == "__main__":
    main()
