"""Whether every optimizer of nevergrad gets through a search, and what outstanding asks cost it.

    python benchmarks/nevergrad_names.py [--quick] [--json]       all names of nevergrad's registry; quick: one in ten
    python benchmarks/nevergrad_names.py NGOpt DE --dims 10 --budget 300

Each name runs in a process of its own with 1, 2 and 10 outstanding asks, told first come first served, on a sphere
whose peak lies off the start; every run goes a tenth beyond its budget. A fourth run has one dimension and one failed
candidate in seven. After each, a second optimizer loads the state and must propose the same next point. The first line
of a name that cannot be used says why; the summary at the end counts them.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import time
from collections import Counter
from typing import Any

# The libraries' own threads do not live on in a forked process, which would wait for them forever.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import numpy as np

from evomerge.optimizers.nevergrad_adapter import Nevergrad
from evomerge.optimizers.nevergrad_library import refused, registry
from evomerge.record import Result

RUNS = ("one", "two", "ten", "one dimension")


def search(name: str, dims: int, budget: int, outstanding: int, *, fail: bool) -> dict[str, Any]:
    """Run one search and return the best loss, the seconds, and what went wrong (None: nothing)."""
    peak = np.random.RandomState(3).random_sample(dims)
    optimizer = Nevergrad(dims, [0.5] * dims, 0, algorithm=name, budget=budget)
    best, waiting, began = float("inf"), [], time.monotonic()
    within = None
    for i in range(budget + budget // 10):
        if i == budget:
            within = optimizer.failure
        waiting.append(optimizer.ask())
        if len(waiting) < outstanding:
            continue
        point = waiting.pop(0)
        loss = float(np.sum((point.x - peak) ** 2))
        failed = fail and point.number % 7 == 3
        best = best if failed else min(best, loss)
        optimizer.tell(point.number, None if failed else Result((-loss,)))
    seconds = time.monotonic() - began
    twin = Nevergrad(dims, [0.5] * dims, 0, algorithm=name, budget=budget)
    twin.load_state(optimizer.dump_state())
    same = np.array_equal(twin.ask().x, optimizer.ask().x)
    return {
        "best": best,
        "seconds": round(seconds, 2),
        "sequential": optimizer.sequential,
        "problem": within or (None if same else "another point after loading"),
    }


def one(name: str, run: str, dims: int, budget: int) -> dict[str, Any]:
    try:
        if run == "one dimension":
            return search(name, 1, budget, 2, fail=True)
        return search(name, dims, budget, {"one": 1, "two": 2, "ten": 10}[run], fail=False)
    except Exception as error:  # of nevergrad: anything
        return {"problem": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def apart(name: str, run: str, dims: int, budget: int, limit: float) -> dict[str, Any]:
    """Run in a forked process, which has the libraries already, for at most so many seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(one(name, run, dims, budget)).encode())
        os._exit(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], limit)
    data = os.read(read, 1 << 16) if ready else b""
    os.close(read)
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not ready:
        return {"problem": f"more than {limit:.0f} s"}
    return json.loads(data) if data else {"problem": "the process died"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--dims", type=int, default=10)
    parser.add_argument("--budget", type=int, default=300)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one run")
    parser.add_argument("--quick", action="store_true", help="only one name in ten")
    parser.add_argument("--json", action="store_true", help="one object a name")
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=list(RUNS))
    arguments = parser.parse_args()
    names = arguments.names or sorted(registry())[:: 10 if arguments.quick else 1]
    counts: Counter[str] = Counter()
    ratios: dict[str, list[float]] = {"two": [], "ten": []}
    for name in names:
        if name in refused():
            counts["refused"] += 1
            continue
        found: dict[str, dict[str, Any]] = {}
        for run in arguments.runs:
            found[run] = apart(name, run, arguments.dims, arguments.budget, arguments.limit)
            if found[run]["problem"]:
                break
        problem = next((f"{run}: {one['problem']}" for run, one in found.items() if one["problem"]), None)
        counts["problem" if problem else "good"] += 1
        for run in ratios:
            if {"one", run} <= found.keys() and not problem:
                ratios[run].append(float(np.log10(max(found[run]["best"], 1e-12) / max(found["one"]["best"], 1e-12))))
        shown = "  ".join(f"{one['best']:.1e} {one['seconds']:.1f}s" for one in found.values() if "best" in one)
        if arguments.json:
            print(json.dumps({"name": name, **found}), flush=True)
        else:
            print(f"{name:45} {shown}  {problem or ''}", flush=True)
    if arguments.json:
        return
    print(dict(counts))
    for run, logs in ratios.items():
        if logs:
            quarters = ", ".join(f"{10**q:.2g}" for q in np.quantile(logs, [0.25, 0.5, 0.75, 0.95]))
            print(f"loss with {run} outstanding / with one (quartiles and 95 %, of {len(logs)}): {quarters}")


if __name__ == "__main__":
    main()
