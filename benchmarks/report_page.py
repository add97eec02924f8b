"""How heavy the page of a large run is, how long it takes to make, and how soon headless Chromium shows it.

    python benchmarks/report_page.py            # 1,000 candidates, 500 search items, answers of 300 words
    python benchmarks/report_page.py --quick    # 100 candidates, 40 search items
    python benchmarks/report_page.py RUN …      # of runs of yours

The page may weigh at most 6 MB and should be open, with its first chart, within 3 s. What it is compared with is a page
with the library of charts and nothing else, opened in the same browser.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "browser")]

from made_runs import big_run  # noqa: E402
from one_browser import Browser, start_browser  # noqa: E402

from evomerge.report.figures import SECTIONS, figures_of  # noqa: E402
from evomerge.report.page import render_page, sections_of  # noqa: E402
from evomerge.report.runs import open_runs  # noqa: E402

FIRST_CHART = """
addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => { window.firstChart ??= performance.now(); })
    .observe(document.body, {subtree: true, attributeFilter: ["data-drawn"]});
});
"""


def seconds(browser: Browser, page: Path, rounds: int) -> dict[str, float]:
    """Return medians of the time until `load`, and until the first chart is there."""
    loads, charts = [], []
    for _ in range(rounds):
        browser.open(page)
        has_charts = browser.js("document.querySelector('.chart') !== null")
        if has_charts:
            charts.append(browser.wait("window.firstChart", seconds=60) / 1000)
        loads.append(browser.wait("performance.getEntriesByType('navigation')[0].loadEventEnd", seconds=60) / 1000)
    return {"load": statistics.median(loads), **({"first chart": statistics.median(charts)} if charts else {})}


def measure(folders: list[Path], rounds: int, keep: Path) -> dict[str, Any]:
    """Make the page of some runs and open it; return sizes in MB and seconds."""
    began = time.process_time()
    runs, problems = open_runs(folders)
    if problems:
        sys.exit("\n".join(problems))
    opened = time.process_time()
    each: dict[str, float] = {}
    for name in (name for modules in SECTIONS.values() for name in modules):
        start = time.process_time()
        list(figures_of(runs, (name,), strict=True))
        each[name] = time.process_time() - start
    drawn = time.process_time()
    empty = keep / "empty.html"
    empty.write_text(render_page(runs, []), encoding="utf-8")  # brings the library of charts from its cache
    sections = sections_of(runs, strict=True)
    start = time.process_time()
    page = keep / "page.html"
    page.write_text(render_page(runs, sections, strict=True), encoding="utf-8")
    rendered = time.process_time() - start
    with start_browser(keep) as browser:
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FIRST_CHART})
        without, whole = seconds(browser, empty, rounds), seconds(browser, page, rounds)
    for run in runs:
        run.close()
    return {
        "page, MB": page.stat().st_size / 1e6,
        "page without figures, MB": empty.stat().st_size / 1e6,
        "open the runs, s of a core": opened - began,
        "draw the figures, s of a core": drawn - opened,
        "put the page together, s of a core": rendered,
        "until load, s": whole["load"],
        "until load, as a ratio to the page without figures": whole["load"] / without["load"],
        "until the first chart, s": whole.get("first chart", float("nan")),
        "slowest figures, s of a core": dict(sorted(each.items(), key=lambda one: -one[1])[:5]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="run folders; none: a large run is made up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small run, two rounds")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = arguments.runs
        if not folders:
            size = {"candidates": 100, "items": 20, "words": 30} if arguments.quick else {}
            folders = [big_run(Path(name) / "run", **size)]
        figures = measure(folders, 2 if arguments.quick else arguments.rounds, Path(name))
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    for what, value in figures.items():
        shown = f"{value:.3g}" if isinstance(value, float) else ", ".join(f"{k} {v:.2f}" for k, v in value.items())
        print(f"{what:<52} {shown}")


if __name__ == "__main__":
    main()
