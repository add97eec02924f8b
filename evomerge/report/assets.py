"""What a page needs beside its words: the style sheet, the scripts, and the library that draws charts.

The report holds all of it; the dashboard serves it. All files of `static/` count, those of the page first.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from evomerge.report.style import DARK, LIGHT, css_variables, vega_config
from evomerge.system.cache_file import read_cached, write_cached
from evomerge.system.text import json_text

STATIC = Path(__file__).parent / "static"


@cache
def style_sheet() -> str:
    """Return the whole style sheet: the variables of both themes, and what stands in `static/`."""
    return css_variables() + _together("css")


@cache
def page_script() -> str:
    """Return the script of the page: themes, charts, tooltips, and what figures have of their own in `static/`."""
    configs = json_text({theme: vega_config(theme) for theme in (LIGHT, DARK)})
    return f"const EVOMERGE_THEMES = {configs};\n" + _together("js")


@cache
def chart_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script without a network (0.9 MB).

    It takes seconds to put together, so it is kept in the cache folder for the version that made it.
    """
    import vl_convert  # loaded here, for it takes a while and most pages find the script in the cache

    stamp = f"vl-convert {version('vl-convert-python')}"
    found = read_cached("charts.json", stamp)
    if not isinstance(found, str):
        found = str(
            vl_convert.javascript_bundle(
                "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;"
            )
        )
        write_cached("charts.json", stamp, found)
    # Nothing in it ends a script today; in a string, where alone it could stand, this means the same.
    return re.sub("</(?=script)", r"<\\/", found, flags=re.IGNORECASE)


def _together(kind: str) -> str:
    files = sorted(STATIC.glob(f"*.{kind}"), key=lambda path: (path.stem != "page", path.stem))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)
