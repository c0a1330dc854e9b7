"""The architecture, executable: which room may import which, and what from outside.

`finite` and `evaluate` must stay strangers, or their agreement proves nothing.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tp_compiler"

#: room -> (rooms it may import, packages from outside it may import)
RULES: dict[str, tuple[set[str], set[str]]] = {
    "diagnostics": ({"pages"}, set()),
    "_version": (set(), set()),
    "process": (set(), set()),
    "files": (set(), set()),
    "executors": ({"cluster", "diagnostics", "_version"}, set()),
    "cluster": ({"diagnostics"}, {"distributed"}),
    "tex": (set(), set()),
    "pages": (set(), set()),
    "signatures": (set(), set()),
    "shapes": (set(), set()),
    "results": (
        {"diagnostics", "pages", "replicates", "functions", "fluctuations", "_version"}, {"numpy", "pandas", "xarray"},
    ),
    "fluctuations": ({"replicates"}, {"numpy", "scipy"}),
    "replicates": (set(), {"numpy"}),
    "functions": ({"replicates"}, {"numpy"}),
    "ir": ({"diagnostics", "pages"}, set()),
    "transform": ({"ir", "diagnostics", "process"}, set()),
    "frontend": ({"diagnostics"}, {"lark"}),
    "check": ({"frontend", "ir", "transform", "diagnostics", "process"}, {"numpy"}),
    "train": ({"ir", "transform", "diagnostics"}, set()),
    "equations": ({"ir", "transform", "diagnostics", "pages"}, {"sympy"}),
    "evaluate": (
        {
            "ir", "transform", "diagnostics", "results", "replicates", "process", "shapes", "signatures", "_version",
            "executors", "files",
        },
        {"numpy", "scipy", "sympy", "threadpoolctl", "numba", "torch"},
    ),
    "finite": ({"ir", "diagnostics", "pages", "results", "shapes", "executors"}, {"numpy", "scipy"}),
    "scale": ({"ir", "transform", "diagnostics", "pages"}, set()),
    "editor": (
        {"driver", "frontend", "check", "ir", "diagnostics", "explanation", "_version"}, {"pygments", "pygls", "lsprotocol"},
    ),
    "expand": ({"frontend", "ir", "transform", "diagnostics"}, set()),
    "report": (
        {"diagnostics", "results", "frontend", "ir", "equations", "scale", "finite", "tex", "explanation", "_version"},
        {"numpy", "scipy", "pandas", "xarray", "matplotlib", "latex2mathml", "rich", "sympy", "IPython"},
    ),
    "driver": (
        {
            "diagnostics", "process", "ir", "frontend", "check", "scale", "train", "expand", "equations", "evaluate",
            "finite", "log", "pages", "results", "signatures", "executors",
        },
        set(),
    ),
    "log": (set(), set()),
    "completion": (set(), set()),
    "explanation": ({"pages"}, set()),
    "kernel_function": (
        {"driver", "check", "frontend", "diagnostics", "ir", "transform", "results", "signatures"}, {"numpy"},
    ),
    "api": (
        {
            "check", "driver", "explanation", "kernel_function", "equations", "diagnostics", "ir", "frontend", "results",
            "report", "finite", "expand", "scale", "signatures",
        },
        set(),
    ),
    "torch": ({"api", "diagnostics", "ir", "scale"}, {"numpy", "torch"}),
    "arguments": ({"_version", "diagnostics", "pages", "signatures"}, set()),
    "terminal": ({"diagnostics", "arguments"}, set()),
    "user_functions": ({"arguments", "diagnostics"}, set()),
    "cli": (
        {
            "driver", "completion", "explanation", "diagnostics", "editor", "report", "results", "arguments", "terminal", "ir",
            "finite", "pages", "process", "signatures", "torch", "user_functions", "_version",
        },
        set(),
    ),
    "__main__": ({"cli"}, set()),
    "notebook": ({"api", "arguments", "frontend", "ir", "signatures"}, {"IPython"}),
    "__init__": ({"api", "diagnostics", "notebook", "_version"}, set()),
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "tp_compiler":
                found |= {f"tp_compiler.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def _files() -> list[tuple[str, Path]]:
    return [(p.relative_to(PACKAGE).parts[0].removesuffix(".py"), p) for p in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize(("room", "path"), _files(), ids=lambda x: str(x)[-40:])
def test_imports_stay_inside_the_rules(room: str, path: Path) -> None:
    assert room in RULES, f"the room {room} has no rule: add it here with its reason in docs/design.md"
    rooms, outside = RULES[room]
    for name in _imports(path):
        top, *rest = name.split(".")
        if top == "tp_compiler":
            other = rest[0] if rest else "__init__"
            assert other == room or other in rooms, f"{room} imports {other}"
        elif top not in sys.stdlib_module_names:
            assert top in outside, f"{room} imports {top}"


def test_no_room_is_too_large() -> None:
    sizes = {folder: len([*folder.glob("*.py")]) - 1 for folder in [p for p in PACKAGE.rglob("*") if p.is_dir()]}
    assert [str(folder) for folder, size in sizes.items() if size > 30] == []


#: sub-room of evaluate/ -> the sub-rooms it may import; files beside them choose among the methods, or serve all.
SUBROOMS: dict[str, set[str]] = {
    "gaussian": set(),
    "exact": {"gaussian"},
    "linear": set(),
    "sampling": set(),
}
#: Files at the top of evaluate/ that put methods together; every other one serves them, and imports none.
ABOVE = {"auto.py", "limit.py", "draws.py", "clt_laws.py", "fluctuations.py"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "evaluate").rglob("*.py")), ids=lambda p: str(p)[-40:])
def test_methods_of_evaluation_do_not_import_one_another(path: Path) -> None:
    own = path.relative_to(PACKAGE / "evaluate").parts[0]
    met = {n.split(".")[2] for n in _imports(path) if n.startswith("tp_compiler.evaluate.")} & set(SUBROOMS)
    if own in SUBROOMS:
        assert met <= SUBROOMS[own] | {own}
    elif own not in ABOVE:
        assert met <= {"gaussian"}


def test_no_files_import_one_another() -> None:
    """Every import counts, be it inside a function or for types alone: Kosaraju's components of more than one file."""
    files = {_module(path): path for _, path in _files()}
    graph = {
        module: {f for n in _named(path) for f in (n, n.rpartition(".")[0]) if f in files}
        for module, path in files.items()
    }
    components = [c for c in _components(graph) if len(c) > 1]
    assert components == []


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _named(path: Path) -> set[str]:
    """Modules and names that a file imports from the package, without its name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tp_compiler"):
            found |= {f"{node.module}.{alias.name}".removeprefix("tp_compiler.") for alias in node.names}
    return found


def _components(graph: dict[str, set[str]]) -> list[set[str]]:
    order: list[str] = []
    seen: set[str] = set()
    for root in graph:
        todo = [(root, False)]
        while todo:
            module, done = todo.pop()
            if done:
                order.append(module)
            elif module not in seen:
                seen.add(module)
                todo.append((module, True))
                todo += [(m, False) for m in graph[module] - seen]
    into: dict[str, set[str]] = {module: set() for module in graph}
    for module, names in graph.items():
        for name in names:
            into[name].add(module)
    found, placed = [], set()
    for root in reversed(order):
        component, todo2 = set(), [root]
        while todo2:
            module = todo2.pop()
            if module not in placed:
                placed.add(module)
                component.add(module)
                todo2 += into[module]
        found.append(component)
    return found


def test_numpy_enters_the_checker_through_data_only() -> None:
    users = [p.name for room, p in _files() if room == "check" and "numpy" in _imports(p)]
    assert users == ["data.py"]


#: Writes loops from the names of instructions and the numbers of registers; no text of a program is in them.
GENERATES = "fused.py"


def test_nothing_is_evaluated_as_python() -> None:
    for _, path in _files():
        if path.name == GENERATES:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{path.name} calls {node.func.id}"
