"""Signatures say what they take: `Any` is the exception, and a name that stands for it counts as `Any`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tp_compiler"
MOST = 0.05  # of the arguments and results of a room

Aliases = dict[str, ast.expr]


@cache
def _tree(module: str) -> ast.Module | None:
    path = PACKAGE.parent / (module.replace(".", "/") + ".py")
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None


@cache
def _names(module: str) -> dict[str, tuple[str, str]]:
    """What each name that is imported stands for: (module, name in it); the name is "" for a module itself."""
    found = {}
    tree = _tree(module)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = (node.module, alias.name) if _tree(inner) is None else (inner, "")
    return found


@cache
def _aliases(module: str) -> Aliases:
    found: Aliases = {}
    tree = _tree(module)
    for node in tree.body if isinstance(tree, ast.Module) else ():  # variables of functions are not aliases
        if isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


@cache
def _is_loose(module: str, name: str) -> bool:
    """Whether a name of a module is `Any`, or an alias made of it."""
    if name == "Any":
        return True
    if name in _names(module):
        return _is_loose(*_names(module)[name])
    value = _aliases(module).get(name)
    return value is not None and not isinstance(value, ast.Call) and _says_any(value, module)


def _says_any(annotation: ast.expr, module: str) -> bool:
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and _is_loose(module, node.id):
            return True
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            home, name = _names(module).get(node.value.id, ("", "?"))
            if not name and _is_loose(home, node.attr):
                return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _says_any_quoted(node.value, module):
            return True
    return False


def _says_any_quoted(text: str, module: str) -> bool:
    try:
        return _says_any(ast.parse(text, mode="eval").body, module)
    except SyntaxError:
        return False  # the shape of an array


def _slots(function: ast.FunctionDef) -> Iterator[ast.expr | None]:
    a = function.args
    for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg):
        if argument is not None and argument.arg not in ("self", "cls"):
            yield argument.annotation
    yield function.returns


def _counted(source: ast.Module, module: str) -> list[bool]:
    """For every argument and result, whether it is `Any`, in whole or in part."""
    functions = [node for node in ast.walk(source) if isinstance(node, ast.FunctionDef)]
    return [slot is not None and _says_any(slot, module) for f in functions for slot in _slots(f)]


@pytest.mark.parametrize("room", ["evaluate", "finite"])
def test_signatures_seldom_say_any(room: str) -> None:
    every: dict[str, list[bool]] = {}
    for path in sorted((PACKAGE / room).rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        tree = _tree(module)
        assert tree is not None
        every[module] = _counted(tree, module)
    loose, total = sum(map(sum, every.values())), sum(map(len, every.values()))
    worst = sorted(((sum(found), module) for module, found in every.items() if any(found)), reverse=True)
    assert loose <= MOST * total, f"{loose} of {total} slots say Any: {worst[:10]}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(x: Any) -> int: ...", [True, False]),
        ("def f(self, x: list[Any], *y: int) -> None: ...", [True, False, False]),
        ("X = Any\ndef f(x: X) -> Y: ...\nY = dict[str, X]", [True, True]),
        ("def f(x: 'list[Any]') -> Float[Array, 'samples k']: ...", [True, False]),
        ("from tp_compiler.evaluate import kernels\ndef f(x: kernels.Kernel) -> int: ...", [True, False]),
        ("from tp_compiler.evaluate.kernels import Kernel as K\ndef f(x: K) -> int: ...", [True, False]),
        ("class A:\n    def f(self, x): ...", [False, False]),
    ],
)
def test_the_count_sees_through_names(text: str, expected: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ast.parse(text)
    known = _tree.__wrapped__
    monkeypatch.setitem(globals(), "_tree", lambda module: tree if module == text else known(module))
    assert _counted(tree, text) == expected
