"""Examples of the documentation as files, so that what is shown there is what runs here."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def write_example(page: str, name: str, folder: Path) -> Path:
    """Write the Python example of a page that begins with `# NAME` into a folder of the caller's."""
    text = (DOCS / page).read_text(encoding="utf-8")
    (code,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", text, re.DOTALL)
    path = folder / name
    path.write_text(code, encoding="utf-8")
    return path
