"""Takes the pictures of docs/images/: the report of the demo, wide and narrow, light and dark.

    python scripts/screenshots.py             # runs the demo's search first (two minutes)
    python scripts/screenshots.py RUN         # of a run that is there
    python scripts/screenshots.py RUN --all FOLDER      # the whole page in pieces, to be looked at

It needs what the browser tests need (`scripts/browser.sh`) and, for the zoo's Japanese, a font that has it.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "browser")]

from one_browser import Browser, start_browser  # noqa: E402

from evomerge import api  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SHAPES = {1280: 1400, 390: 844}
"""Width of the window to the height of the picture of the page's beginning."""

FIGURES: tuple[str, ...] = ("coefficients", "answers")
"""Figures that have a picture of their own, at the greater width."""

PLACE = Path("outputs/demo/run")
"""What the demo's run is called in the pictures."""

MOST_BYTES = 300_000
LONGEST = 1800
"""Pixels of a piece of the whole page."""


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="RUN", nargs="*", help="run folders; none: the demo's search is run first")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="pictures of the whole page, in this folder instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = folder / "report.html"
        images = IMAGES if arguments.all is None else arguments.all.absolute()
        runs = [beside(Path(run), folder) for run in arguments.runs] or [demo(folder / PLACE)]
        os.chdir(folder)  # so that no path of this machine is in the pictures
        print(*api.report(runs, out=page, note=print).problems, sep="\n")
        with start_browser(folder) as browser:
            images.mkdir(parents=True, exist_ok=True)
            save((pictures if arguments.all is None else pieces)(browser, page), images)


def demo(place: Path) -> Path:
    """Run the search of `make demo`, and return its folder as somebody names it who stands beside it."""
    from evomerge.cli.compose import compose

    api.search(compose(["experiment=zoo_ja_math", "seed=0"]), run_dir=place, note=print)
    return PLACE


def beside(run: Path, folder: Path) -> Path:
    """Copy a run into a folder, and return where it is, seen from there."""
    place = PLACE.with_name(run.name)
    shutil.copytree(run, folder / place)
    return place


def pictures(browser: Browser, page: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the beginning of the page in each shape and theme, and some figures."""
    for width, height in SHAPES.items():
        for theme in ("light", "dark"):
            ready(browser, page, width, theme)
            yield f"report-{width}-{theme}", picture(browser, 0, 0, width, height)
            for key in FIGURES if width == max(SHAPES) else ():
                (figure,) = browser.all(f"[id='{key}'].figure") or [None]
                if figure is None:
                    print(f"the page has no figure {key}")
                    continue
                box = browser.js("arguments[0].getBoundingClientRect().toJSON()", figure)
                at = box["y"] + browser.js("scrollY")
                room = 16
                size = (box["width"] + 2 * room, min(box["height"] + 2 * room, 900))
                yield f"figure-{key}-{theme}", picture(browser, box["x"] - room, at - room, *size)


def pieces(browser: Browser, page: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the whole page in pieces, in each shape and theme."""
    for width in SHAPES:
        for theme in ("light", "dark"):
            ready(browser, page, width, theme)
            height = browser.js("document.documentElement.scrollHeight")
            wrong = browser.errors() or "no errors"
            print(f"{width} {theme}: {height} pixels high, {browser.overflow()} too wide; {wrong}")
            for number, top in enumerate(range(0, height, LONGEST)):
                shown = picture(browser, 0, top, width, min(LONGEST, height - top))
                yield f"{width}-{theme}-{number:02d}", shown


def ready(browser: Browser, page: Path, width: int, theme: str) -> None:
    """Open the page, with all charts drawn."""
    browser.open(page, width=width, theme=theme)
    browser.draw_all()
    browser.driver.execute_script("document.activeElement.blur(); scrollTo({top: 0, behavior: 'instant'})")
    time.sleep(1.0)


def picture(browser: Browser, x: float, y: float, width: float, height: float) -> bytes:
    """Return a part of the page as a PNG; with few colours where it would be too large with all."""
    clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
    taken = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    image = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    for one in (image, image.quantize(256, dither=Image.Dither.NONE)):
        small = io.BytesIO()
        one.save(small, "PNG", optimize=True)
        if small.tell() <= MOST_BYTES:
            break
    return small.getvalue()


def save(named: Iterator[tuple[str, bytes]], folder: Path) -> None:
    """Write pictures; one that is too large for a repository ends the script."""
    for name, data in named:
        if len(data) > MOST_BYTES:
            sys.exit(f"{name} has {len(data):,} bytes, more than {MOST_BYTES:,}")
        (folder / f"{name}.png").write_bytes(data)
        print(f"{folder / name}.png, {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
