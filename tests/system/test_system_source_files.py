"""The files that something of a user's stands on are found wherever its code names them."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evomerge.system import source_files as module
from evomerge.system.registry import load_file
from evomerge.system.source_files import source_files


def made(folder: Path, files: dict[str, str]) -> set[str]:
    """Write files and return those on which `own.py` stands, besides itself."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return set(source_files([load_file(folder / "own.py")])) - {"own.py"}


def function(*lines: str) -> str:
    return "from pathlib import Path\nHERE = Path(__file__).parent\ndef f():\n" + "".join(
        f"    {one}\n" for one in lines
    )


NAMED = {
    "an import in a function": (function("import near"), {"near.py": ""}),
    "one in a branch of it": (function("if 1:", "  from near import A as B"), {"near.py": "A = 1"}),
    "a package": (function("from pack.inner import A"), {"pack/__init__.py": "", "pack/inner.py": "A = 1"}),
    "a module of a package": (function("from pack import inner"), {"pack/__init__.py": "", "pack/inner.py": ""}),
    "a folder without __init__": (function("import pack.inner"), {"pack/inner.py": ""}),
    "by a text": (function("import importlib", "importlib.import_module('near')"), {"near.py": ""}),
    "what an import imports": (
        function("import near"),
        {"near.py": "def g():\n    from pack import b", "pack/__init__.py": "from . import a", "pack/a.py": "",
         "pack/b.py": "from .c import X", "pack/c.py": "X = 1"},
    ),
    "a folder that is put into the path": (
        function("import sys", "sys.path.append(str(HERE / 'lib'))", "import near"), {"lib/near.py": ""}
    ),
    "in the folder above": (function("import near"), {"../near.py": ""}),
    "data": ("def f():\n    return open('gold.json')", {"gold.json": ""}),
    "data in a folder": (function("open(HERE / 'data/gold.csv')"), {"data/gold.csv": ""}),
    "data in a folder, part by part": (function("open(HERE / 'data' / 'v1' / 'gold')"), {"data/v1/gold": ""}),
    "data, in an f-string": (function("open(f'{HERE}/gold.txt', 'rb')"), {"gold.txt": ""}),
    "data, after a plus": (function("open(str(HERE) + '/data/gold.txt')"), {"data/gold.txt": ""}),
    "data in the folder above": (function("open(HERE.parent / 'gold.txt')"), {"../gold.txt": ""}),
    "data of what is imported": (function("from pack import a"), {"pack/a.py": "open('a.json')", "pack/a.json": ""}),
    "data as a default": ("def f(place='gold.txt'):\n    return place", {"gold.txt": ""}),
}  # fmt: skip


@pytest.mark.parametrize("what", NAMED)
def test_what_code_names_belongs_to_it(what: str, tmp_path: Path) -> None:
    own, files = NAMED[what]
    assert made(tmp_path / "top" / "mine", {"own.py": own, "other.py": "", "data/other.json": "", **files}) == set(
        files
    )


def test_a_function_is_the_same_before_and_after_its_call(tmp_path: Path) -> None:
    text = function("import sys", "sys.path.insert(0, str(HERE / 'lib'))", "from near_and_late import G", "return G")
    found = made(
        tmp_path, {"own.py": text, "lib/near_and_late.py": "from far_and_late import G", "far_and_late.py": "G = 2"}
    )
    own = load_file(tmp_path / "own.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        try:
            assert own.f() == 2
            assert set(source_files([own.f])) - {"own.py"} == found
        finally:
            for name in ("near_and_late", "far_and_late"):
                sys.modules.pop(name, None)


def test_files_of_equal_places_have_equal_names_wherever_they_stand(tmp_path: Path) -> None:
    files = {
        "own.py": function("from near import A", "open(HERE.parent / 'gold.txt')"),
        "near.py": "",
        "../gold.txt": "",
    }
    assert made(tmp_path / "a" / "x", files) == made(tmp_path / "b" / "c" / "x", files) == {"near.py", "../gold.txt"}


def test_a_module_of_a_package_may_import_from_all_of_it(tmp_path: Path) -> None:
    files = {
        "pack/__init__.py": "", "pack/deep/__init__.py": "", "pack/deep/inner/__init__.py": "",
        "pack/deep/inner/own.py": "def f():\n    from ...side import A\n    from pack.other import B",
        "pack/side.py": "A = 1", "pack/other.py": "B = 1", "pack/third.py": "",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = set(source_files([load_file(tmp_path / "pack/deep/inner/own.py")]))
    assert {"own.py", "../../side.py", "../../other.py"} <= found
    assert "../../third.py" not in found


WRITTEN: dict[str, str] = {
    "open": "open(HERE / 'answers.txt', 'a')",
    "open, by a keyword": "open(HERE / 'answers.txt', mode='w', encoding='utf-8')",
    "a method": "(HERE / 'answers.txt').open('w')",
    "a text": "(HERE / 'answers.txt').write_text('')",
    "a name": "OUT = HERE / 'answers.txt'; OUT.write_text(open('answers.txt').read())",
    "numpy": "np.savetxt('answers.txt', [1])",
    "a log": "logging.FileHandler('answers.txt')",
}


@pytest.mark.parametrize("what", WRITTEN)
def test_files_that_code_writes_are_no_part_of_it(what: str, tmp_path: Path) -> None:
    assert made(tmp_path, {"own.py": function(WRITTEN[what]), "answers.txt": "", "own.log": ""}) == set()


UNLIKE: dict[str, Callable[[Path], str]] = {
    "a log": lambda folder: "open('own.log')",
    "a device": lambda folder: "open('/dev/null'); open('/proc/self/stat')",
    "odd texts": lambda folder: repr(["", " ", ".", "\0", "a" * 5000, "b" * 900, "/", "//", "\ud800", "x\ny"]),
    "a module of Python": lambda folder: "import json",
    "an installed library": lambda folder: f"import yaml; open({yaml_file()!r})",
    "no Python": lambda folder: "pass",
}


def yaml_file() -> str:
    import yaml

    return str(yaml.__file__)


@pytest.mark.parametrize("what", UNLIKE)
def test_what_is_no_part_of_code(what: str, tmp_path: Path) -> None:
    files = {"own.py": function(UNLIKE[what](tmp_path)), "own.log": "", "json.py": ""}
    assert made(tmp_path, files) == set()


def test_large_files_are_no_data_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"own.py": function("open('gold.json')"), "gold.json": "[1, 2]"}
    assert made(tmp_path, files) == {"gold.json"}
    monkeypatch.setattr(module, "LARGEST_DATA", 5)
    assert made(tmp_path, files) == set()


def test_data_of_the_current_folder_and_of_any_other_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, far = tmp_path / "here", tmp_path / "far" / "gold.txt"
    for path in (here / "own_gold.json", far):
        path.parent.mkdir(parents=True)
        path.write_text("")
    monkeypatch.chdir(here)
    found = made(tmp_path / "a" / "b" / "c", {"own.py": function(f"open('own_gold.json'); open({str(far)!r})")})
    assert found == {"own_gold.json of the current folder", str(far)}


def test_a_helper_that_is_no_python_of_this_version_counts_by_itself(tmp_path: Path) -> None:
    assert made(tmp_path, {"own.py": function("import near"), "near.py": "print 'a'"}) == {"near.py"}
