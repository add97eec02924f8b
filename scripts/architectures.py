"""Write docs/architectures.md: every text family of transformers, tried with a tiny random pair of models.

python scripts/architectures.py            # takes some minutes
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architectures.md"

_INTRODUCTION = """# Architectures

Which model families can be merged, made by `python scripts/architectures.py` with transformers {version}. No family is
named in the code: layers and roles are found from the module tree, and each row is what came out when two tiny random
models of that type were merged (linear, slerp, TIES), in memory and on disk, saved, loaded by transformers without a
missing or unexpected tensor, and compared with a mean made by hand: every tensor, the logits, a few generated tokens.

- **layers**: *stacks* are lists of layers that follow each other, numbered on (encoder layers come before decoder
  layers); *kinds* are kinds of layers that the configuration tells apart (a hybrid, windows, dense and sparse layers);
  *mixers* are parts of layers that are neither attention nor MLP (state-space, convolutions: role `other`); *experts*:
  a mixture, whether its experts are stacked in one tensor or stored one by one; *tied*: the head is the embedding.
- **layer paths**: whether layers can stand in another order and come again. Else the first reason why not; a path in a
  recipe that keeps what is asked for may still work, and is checked for itself: in memory, where `evaluate` runs it,
  it must compute what its folder does; a folder is written if the class can hold the layers in that order, with a
  warning if one computes something else at its new place.
- **scored by**: the engine of a search. What writes no text can be merged by a recipe, not searched.
"""


def page(rows: Sequence[tuple[str, str]]) -> str:
    """Return the text of the page.

    Args:
        rows: the mapping and the row of each model type.
    """
    import transformers
    from family_checks import MAPPINGS

    parts = [_INTRODUCTION.format(version=transformers.__version__)]
    for mapping, title in MAPPINGS.items():
        mine = [row for where, row in rows if where == mapping]
        parts.append(f"## {title[0].upper()}{title[1:]}: {len(mine)} types\n")
        parts.append("| model type | layers | merges | layer paths | scored by |\n|---|---|---|---|---|")
        parts.append("\n".join(mine) + "\n")
    return "\n".join(parts)


def tried(one: tuple[str, str]) -> tuple[str, str]:
    """Return a mapping and the row of a model type there."""
    import torch
    import transformers
    from family_checks import Row, row_of

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    mapping, model_type = one
    try:
        return mapping, str(row_of(model_type, mapping))
    except Exception as error:  # what a class does that cannot be built or run here
        first = " ".join(str(error).split()).replace("|", "/")[:100]
        return mapping, str(Row(model_type, "", f"no: {type(error).__name__}: {first}", "", ""))


def every() -> Iterator[tuple[str, str]]:
    """Yield the mapping and the name of each model type."""
    from family_checks import MAPPINGS, model_types

    for mapping in MAPPINGS:
        yield from ((mapping, one) for one in model_types(mapping))


def main() -> None:
    """Try all families and write the page."""
    wanted = list(every())
    rows = []
    with ProcessPoolExecutor(2) as pool:
        for i, (mapping, row) in enumerate(pool.map(tried, wanted), 1):
            rows.append((mapping, row))
            print(f"{i}/{len(wanted)} {row}", flush=True)
    PAGE.write_text(page(rows), encoding="utf-8")


sys.path[:0] = [str(ROOT / "tests" / "merge")]
if __name__ == "__main__":
    main()
