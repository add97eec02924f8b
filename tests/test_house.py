"""The package is a one-way street: each part imports only from the parts listed for it."""

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "evomerge"
ROOT = {"__init__.py", "__main__.py", "api.py", "errors.py", "record.py"}
BASE = {"errors", "system"}  # every part may import these two
MAY_IMPORT = {
    "errors": set(),
    "system": set(),
    "recipe": set(),
    "record": {"recipe"},
    "genome": {"recipe"},
    "interop": {"recipe", "merge"},  # of merge only the files: how many layers a model has
    "optimizers": {"record"},
    "strategies": {"recipe", "record", "genome", "optimizers"},
    "estimation": set(),
    "zoo": set(),
    "fitness": {"record", "estimation"},
    "merge": {"recipe", "zoo"},  # of zoo only the place of its models
    "evaluation": {"record"},
    "execution": {"recipe", "record", "merge", "evaluation"},
    "store": {"recipe", "record"},
    "search": {"recipe", "record", "strategies", "execution", "fitness", "store"},
    "analysis": {"record", "store", "evaluation"},
    "export": {"recipe", "record", "merge", "store", "interop", "analysis"},
    "report": {"recipe", "record", "store", "analysis", "evaluation"},
    "dashboard": {"record", "report", "store"},
    "loggers": {"record"},  # records of runs for other people's pages
    # Plain data (recipes, the budget, what a task is) and the registries of names.
    "config": {"recipe", "search", "evaluation", "estimation", "loggers", "merge", "optimizers", "strategies"},
    "api": {"workflows"},
    "cli": {"api", "config", "zoo"},  # config: its declaration, to be explained; zoo: its own command
}
# The top: may import every part but each other, save those that stand before them.
TOP = ("assembly", "workflows", "api", "cli", "__main__")
# Inside of a part: what each of its folders and modules may import at run time of the others.
INSIDE = {
    "merge": {
        "kernels": set(),
        "quantiles": {"kernels"},
        "cache": set(),
        "files": {"kernels"},
        "adapters": {"files", "kernels"},
        "paths": {"files", "tokens"},
        "methods": {"kernels", "quantiles"},
        "counterparts": {"files", "tokens"},
        "family": {"adapters", "cache", "counterparts", "files", "tokens"},
        "equality": {"family", "files"},
        "tokens": {"adapters", "cache", "files"},
        "plan": {"files", "methods", "tokens"},
        "apply": {"adapters", "kernels", "methods", "plan"},
        "vocabulary": {"files", "methods", "plan"},
        "samples": {"files"},
        "kinship": {"files", "samples"},
        "sources": {
            "adapters",
            "apply",
            "cache",
            "equality",
            "family",
            "files",
            "paths",
            "plan",
            "tokens",
            "vocabulary",
        },
        "live": {
            "adapters",
            "apply",
            "cache",
            "counterparts",
            "family",
            "files",
            "methods",
            "paths",
            "plan",
            "sources",
        },
        "disk": {"adapters", "apply", "cache", "files", "kernels", "methods", "paths", "plan", "sources", "vocabulary"},
    },
    "evaluation": {
        "intervals": set(),
        "quiet": set(),
        "chat": set(),
        "floor": set(),
        "task_data": set(),
        "task": {"floor"},
        "best_parent": {"task"},
        "engines": set(),  # engines know no tasks
        "subset": {"task"},
        "index": {"quiet"},
        "unsafe_code": {"index"},
        "totals": {"intervals"},
        "metrics": {"index", "task"},
        "scripts": {"task"},
        "worst": {"floor", "intervals"},
        "item_values": {"task"},
        "collapse": {"task"},
        "objective": {
            *("best_parent", "collapse", "floor", "intervals", "item_values", "scripts", "task", "worst"),
        },
        "measures": {"engines", "scripts", "task"},
        "terms": {"measures", "metrics", "task"},
        "images": set(),
        "contents": {"images"},
        "samples": set(),
        "answers": {"images", "samples"},
        "catalog": {"images", "index", "metrics", "task", "terms", "unsafe_code"},
        "trial": {"engines", "metrics"},
        "prepared_task": {
            *(
                "answers",
                "catalog",
                "contents",
                "engines",
                "images",
                "index",
                "measures",
                "metrics",
                "quiet",
                "task",
                "task_data",
                "terms",
                "totals",
            ),
            "trial",
            "unsafe_code",
        },
        "harness": {
            "answers",
            "catalog",
            "chat",
            "contents",
            "engines",
            "measures",
            "prepared_task",
            "trial",
            "quiet",
            "subset",
            "task",
            "terms",
        },
    },
    "execution": {"base": set(), "pool": {"base"}, "worker": {"base"}, "local": {"base"}},
}
LIGHT = (
    "evomerge",
    "evomerge.estimation",
    "evomerge.genome",
    "evomerge.optimizers",
    "evomerge.strategies",
    "evomerge.store",
    "evomerge.report.page",
    "evomerge.workflows.report",
    "evomerge.dashboard.server",
    "evomerge.loggers.child",
    "evomerge.loggers.delivery",
    "evomerge.search.session",
    "evomerge.merge.disk.folder",
    "evomerge.config.reader",
    "evomerge.config.json_schema",
    "evomerge.cli.explain",
    "evomerge.cli.main",
)


@functools.cache
def tree(path: Path) -> ast.Module:
    """What a file says; several tests read the same ones."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_names(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the full path, not a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its full name; a package by its folder's."""
    files = PACKAGE.rglob("*.py")
    return {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
            for path in files}  # fmt: skip


@functools.cache
def run_time_imports(path: Path) -> frozenset[str]:
    """What a module imports when it or one of its functions runs: without what stands under TYPE_CHECKING."""
    known, found = modules(), set()
    waiting: list[ast.AST] = [tree(path)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the full path, not a relative import"
        if isinstance(node, ast.Import):
            whole = "evomerge" in {alias.name for alias in node.names}
            assert not whole, f"{path}: import what is needed, not the whole package, whose parts nobody sees here"
            found |= {alias.name for alias in node.names} & known.keys()
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known.keys()
            found |= {node.module} if names - known.keys() else set()
    return frozenset(found)


@pytest.mark.parametrize("line", ["from . import plan", "from ..merge import plan", "import evomerge"])
def test_an_import_that_hides_what_it_imports_is_no_way_round_the_table(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(f"def function():\n    {line}\n")
    with pytest.raises(AssertionError, match=r"module\.py"):
        run_time_imports(tmp_path / "module.py")


def circles(imports: Mapping[str, Set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(imports[name]):
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[-len(component) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(imports):
        if name not in index:
            visit(name)
    return found


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    imports = {name: run_time_imports(path) - {name} for name, path in modules().items()}
    assert imports["evomerge.merge.sources"] >= {"evomerge.merge.plan", "evomerge.merge.apply"}
    assert not circles(imports)


@pytest.mark.parametrize(("part", "room"), [(part, room) for part, rooms in INSIDE.items() for room in rooms])
def test_a_room_imports_only_what_it_may(part: str, room: str) -> None:
    inside = f"evomerge.{part}."
    rooms = {name.removeprefix(inside).split(".")[0] for name in modules() if name.startswith(inside)}
    assert rooms == INSIDE[part].keys(), "every folder and module of the part has its row"
    used: set[str] = set()
    for name, path in modules().items():
        if name == inside + room or name.startswith(f"{inside}{room}."):
            used |= {each.removeprefix(inside).split(".")[0] for each in run_time_imports(path) if inside in each}
    assert used - {room} <= INSIDE[part][room]


def used_parts(path: Path) -> set[str]:
    """The parts that a module imports at run time; imports inside functions count."""
    return {name.split(".")[1] for name in run_time_imports(path) if name.startswith("evomerge.")}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_part_imports_only_what_it_may(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[:2] == ("zoo", "tasks"):
        assert not used_parts(path) - {"zoo"}  # run by lm-eval from its path
        return
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        assert not used_parts(path)
    elif part in TOP and part not in MAY_IMPORT:
        assert not used_parts(path) & set(TOP[TOP.index(part) + 1 :])
    else:
        assert used_parts(path) - {part} <= MAY_IMPORT[part] | BASE  # KeyError: a new part needs its place above


def test_the_root_holds_errors_record_and_api_alone() -> None:
    assert {path.name for path in PACKAGE.glob("*.py")} == ROOT


@pytest.mark.parametrize(
    "folder",
    ["assembly", "export", *(f"merge/{one}" for one in ("files", "adapters", "tokens", "paths", "live", "disk"))],
)
def test_the_listing_of_the_house_names_every_file(folder: str) -> None:
    page = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8").partition("## The house")[2]
    row = re.search(rf"^ {{6,8}}{folder.rpartition('/')[2]}/ +(.*(?:\n {{19}}\S.*)*)", page, re.M)
    assert row is not None
    found = {path.name for path in (PACKAGE / folder).glob("*.py")} - {"__init__.py"}
    assert set(re.findall(r"\w+\.py", row[1])) == found


def public(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Public functions, classes and constants of a module, and the public methods of its public classes."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((one.id, node) for one in targets if isinstance(one, ast.Name) and not one.id.startswith("_"))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"))
            yield from ((one.name, one) for one in methods)


def test_no_page_holds_what_a_merge_of_texts_left_behind() -> None:
    """Conflict markers; Python and YAML with them fail by themselves."""
    pages = [
        *PACKAGE.parent.glob("*.md"),
        *(path for part in ("docs", "experiments", "benchmarks") for path in (PACKAGE.parent / part).rglob("*.md")),
    ]
    assert pages
    assert [str(path) for path in pages if re.search(r"^(<{7}|>{7}) ", path.read_text(encoding="utf-8"), re.M)] == []


def test_names_of_public_classes_are_unique() -> None:
    where: dict[str, list[str]] = {}
    for module, path in modules().items():
        for name, node in public(path):
            if isinstance(node, ast.ClassDef):
                where.setdefault(name, []).append(module)
    assert {name: found for name, found in where.items() if len(found) > 1} == {}


def test_no_public_name_is_used_by_tests_alone() -> None:
    """What is documented is used by others; what stands in a string like "module:Name" is found by a registry."""
    used: Counter[str] = Counter()
    for folder in ("evomerge", "benchmarks", "experiments"):
        for path in (PACKAGE.parent / folder).rglob("*.py"):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    used[node.id] += 1
                elif isinstance(node, ast.Attribute):
                    used[node.attr] += 1
                elif isinstance(node, ast.keyword) and node.arg:
                    used[node.arg] += 1
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
                    used[node.value.rpartition(":")[2]] += 1
    documented = " ".join(
        path.read_text(encoding="utf-8") for path in (*PACKAGE.parent.glob("docs/*.md"), PACKAGE.parent / "README.md")
    )
    unused = [
        f"{module}.{name}"
        for module, path in modules().items()
        if ".zoo.tasks" not in module and module != "evomerge.api"
        for name, _ in public(path)
        if not used[name] and not name.startswith("__") and not re.search(rf"\b{name}\b", documented)
    ]
    assert not unused, unused


def test_search_sees_only_the_contract_of_an_executor() -> None:
    names = {name for path in (PACKAGE / "search").glob("*.py") for name in imported_names(path)}
    used = {name for name in names if name.startswith("evomerge.execution")}
    assert used
    assert all(name.startswith("evomerge.execution.base.") for name in used)


def test_config_sees_only_plain_data_and_the_registries_of_names() -> None:
    names = {name for path in (PACKAGE / "config").glob("*.py") for name in imported_names(path)}
    plain = ("config", "errors", "recipe", "search.budget", "system.registry", "system.references")
    plain += ("evaluation.chat", "evaluation.floor", "evaluation.task")
    registries = {
        "evaluation.engines.registry.ENGINES",
        "estimation.run_estimators.RUN_ESTIMATORS",
        "merge.methods.registry.METHODS",
        "loggers.registry.logger_problems",
        "optimizers.registry.OPTIMIZERS",
        "strategies.registry.STRATEGIES",
    }
    inner = {name.removeprefix("evomerge.") for name in names if name.startswith("evomerge.")}
    assert {name for name in inner if not name.startswith(tuple(f"{part}." for part in plain))} == registries


IMPORT_ALL = """
import importlib, sys
heavy = {"torch", "ray", "transformers", "lm_eval", "hydra", "matplotlib"}
for module in sys.argv[1:]:
    importlib.import_module(module)
    if found := heavy & sys.modules.keys():
        sys.exit(f"{module} loads {sorted(found)}")
"""


def test_light_parts_load_neither_torch_nor_ray() -> None:
    """One process imports all, which takes much less time: what none of them has loaded, no single one loads."""
    words = [sys.executable, "-c", IMPORT_ALL, *LIGHT]
    done = subprocess.run(words, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heavy = subprocess.run([*words[:3], "evomerge.cli.compose"], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert "evomerge.cli.compose loads ['hydra']" in heavy.stderr, "or this test sees nothing"


def test_nobody_touches_the_global_random_state() -> None:
    forbidden = ("manual_seed(", "random.seed(", "np.random.rand", "set_rng_state", "set_seed(")
    allowed = (".manual_seed(",)  # of an own torch.Generator: checked below
    for path in PACKAGE.rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            code = line.split("#")[0]
            for name in forbidden:
                if name not in code or "``" in code or "`" in code:
                    continue
                own_generator = name == "manual_seed(" and "torch.manual_seed(" not in code
                own_generator = own_generator and any(mark in code for mark in allowed)
                assert own_generator, f"{path}:{number} uses {name}: draw from an own generator instead"
