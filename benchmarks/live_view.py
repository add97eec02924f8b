"""What the live view costs a search: processor seconds of its thread, and of searches with and without it, in turns."""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from evomerge import api
from evomerge.cli.compose import compose
from evomerge.cli.display import Display
from evomerge.cli.live import screen


class _Counted(screen.Screen):
    """A screen that counts its drawings and the processor time of its thread."""

    seconds = 0.0
    drawings = 0

    def _once(self) -> None:
        began = time.thread_time()
        super()._once()
        _Counted.seconds += time.thread_time() - began
        _Counted.drawings += 1


def search(folder: Path, candidates: int, *, shown: bool) -> tuple[float, float]:
    """Return processor and wall seconds of a search of the zoo."""
    words = ["experiment=zoo_two_skills", f"budget.candidates={candidates}", "execution.threads=1"]
    config = compose(words)
    console = Console(file=io.StringIO(), force_terminal=shown, width=80, height=24)
    began, cpu = time.monotonic(), time.process_time()
    with Display(console, quiet=not shown) as display:
        api.search(config, run_dir=folder, listener=display, note=display.note)
    return time.process_time() - cpu, time.monotonic() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one pair of 12 candidates")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    candidates, pairs = (12, 1) if arguments.quick else (arguments.candidates, arguments.pairs)
    import evomerge.cli.display as display

    display.Screen = _Counted  # type: ignore[misc]
    ratios: list[float] = []
    wall = 0.0
    with tempfile.TemporaryDirectory() as folder:
        search(Path(folder) / "warm", 4, shown=False)
        for pair in range(pairs):
            seconds = {}
            for shown in (True, False) if pair % 2 else (False, True):
                cpu, took = search(Path(folder) / f"{pair}-{shown}", candidates, shown=shown)
                seconds[shown] = cpu
                wall += took if shown else 0.0
            ratios.append(seconds[True] / seconds[False])
    found: dict[str, Any] = {
        "candidates": candidates,
        "pairs": pairs,
        "thread_seconds": _Counted.seconds,
        "drawings": _Counted.drawings,
        "wall_seconds": wall,
        "share_of_a_core": _Counted.seconds / wall,
        "cpu_ratio_median": statistics.median(ratios),
        "threads_left": threading.active_count(),
    }
    if arguments.json:
        print(json.dumps(found))
        return
    each = 1000 * found["thread_seconds"] / found["drawings"]
    print(
        f"{found['drawings']} drawings in {wall:.1f} s: {each:.1f} ms each, "
        f"{100 * found['share_of_a_core']:.2f} % of a core; processor time with the view over without it, "
        f"median of {pairs} pairs: {found['cpu_ratio_median']:.3f}"
    )


if __name__ == "__main__":
    main()
