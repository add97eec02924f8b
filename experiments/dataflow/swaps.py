"""How good is each of the 64 paths that take layer k from one parent or the other, for k = 0 … 5?

    .venv/bin/python experiments/dataflow/swaps.py          # both parents as the first: 128 paths, some three minutes

The simplest part of the data-flow space, looked at exhaustively: no repeats, no scales, every layer at the depth where
it was trained. Scored on the 100 search items of `experiment=zoo_dataflow`, seed 0. Writes swaps.json here.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from evomerge.assembly.executors import make_executor
from evomerge.assembly.prepare import prepare
from evomerge.cli.compose import compose
from evomerge.execution.base import StopSignal
from evomerge.recipe import PASSTHROUGH, Recipe, Step
from evomerge.record import Job, Split

HERE = Path(__file__).parent
N_LAYERS = 6


def main() -> None:
    prepared = prepare(compose(["zoo_dataflow"]))
    executor = make_executor(prepared, StopSignal())
    parents = prepared.config.models.parents
    rows = []
    for first in (parents, parents[::-1]):
        for sources in itertools.product(parents, repeat=N_LAYERS):
            path = tuple(Step(parent.name, layer) for layer, parent in enumerate(sources))
            executor.submit(Job(0, Recipe(PASSTHROUGH, first, dtype="float32", path=path), Split.SEARCH))
            outcome = executor.collect()
            accuracy = prepared.objectives.result(outcome.scores).objectives[0]
            rows.append({"first": first[0].name, "layers": [parent.name for parent in sources], "accuracy": accuracy})
    (HERE / "swaps.json").write_text(json.dumps(rows) + "\n")
    for row in sorted(rows, key=lambda row: -row["accuracy"])[:10]:
        print(f"{100 * row['accuracy']:5.1f} %  embeddings, head: {row['first']:<9} layers: {' '.join(row['layers'])}")


if __name__ == "__main__":
    main()
