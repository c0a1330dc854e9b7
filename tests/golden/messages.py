"""Every message of the package, read off its sources: code, message and remedy of each diagnostic, and the reasons that
messages quote. Placeholders of f-strings are `{}`, so that the list changes only when words do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

CODE = re.compile(r"NX\d{3}")

#: Calls that take a reason, or the message of a diagnostic made elsewhere, and what it explains.
REASONS = {
    "NotExact": "no exact value",
    "Late": "no exact value",
    "NoDegree": "no degree",
    "refuse": "no limit",
    "_refused": "refused",
    "_refusal": "refused",
    "unfit": "unusable checkpoint",
    "wrong": "invalid option",
}
#: A name with more texts than these is a table; its texts are not listed.
MOST = 12
UNKNOWN = "{}"


class Function:
    """The texts that expressions in one function can have, through the names assigned in it."""

    def __init__(self, node: ast.FunctionDef, shared: dict[str, list[ast.expr]]):
        self.shared = shared
        self.calls = [n for s in node.body for n in ast.walk(s) if isinstance(n, ast.Call)]
        self.assigned = [pair for s in node.body for pair in _assigned(s)]
        self.reports = sorted(c.lineno for c in self.calls if any(map(_is_code, c.args)) or _name(c) in REASONS)

    def values(self, name: str, line: int) -> list[ast.expr]:
        """What a name may mean at a line: what was assigned to it since the last message, else anything before."""
        before = [v for target, v in self.assigned if target == name and v.lineno <= line]
        since = max((r for r in self.reports if r < line), default=0)
        return [v for v in before if v.lineno > since] or before or self.shared.get(name, [])

    def texts(self, node: ast.expr, line: int, depth: int = 0) -> list[str]:
        def all_of(nodes: list[ast.expr]) -> list[str]:
            return [text for n in nodes for text in self.texts(n, line, depth + 1)]

        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.JoinedStr(values=parts):
                return ["".join(str(p.value) if isinstance(p, ast.Constant) else UNKNOWN for p in parts)]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return ["".join(pair) for pair in product(all_of([left]), all_of([right]))]
            case ast.IfExp(body=yes, orelse=no):
                return all_of([yes, no])
            case ast.BoolOp(values=parts) | ast.Dict(values=parts) if len(parts) <= MOST:
                return all_of(parts)
            case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, *default]):
                return all_of([table, *default])
            case ast.Name(id=name) if depth < 4 and 0 < len(self.values(name, line)) <= MOST:
                return all_of(self.values(name, line))
        return [UNKNOWN]


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(statement):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        (target,), value = node.targets, node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))
        yield from ((t.id, v) for t, v in pairs if isinstance(t, ast.Name))


def messages(folder: Path) -> list[str]:
    """Lines `NX000: message` and `    = remedy`, sorted; then the reasons."""
    found: set[tuple[str, str, tuple[str, ...]]] = set()
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        shared: dict[str, list[ast.expr]] = {}
        for name, value in (pair for s in tree.body if isinstance(s, ast.Assign) for pair in _assigned(s)):
            shared.setdefault(name, []).append(value)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                function = Function(node, shared)
                found.update(entry for call in function.calls for entry in _entries(function, call))
    lines = []
    for code, text, remedies in sorted(found):
        lines += [f"{code}: {text}", *(f"    = {remedy}" for remedy in dict.fromkeys(remedies))]
    return lines


def _entries(function: Function, call: ast.Call) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(code, message, remedies) of a call that makes a diagnostic, or that takes a reason."""
    args, line, name = call.args, call.lineno, _name(call)
    if name in ("Diagnostic", "error", "_error", "undefined") and len(args) > 2:
        codes = [c if CODE.fullmatch(c) else "NX???" for c in function.texts(args[0], line)]
    elif name in REASONS and args:
        codes, args = [REASONS[name]], [args[0], *args]
    else:
        return
    remedies = tuple(t for a in args[2:] for t in function.texts(a, line) if " " in t)
    for code, text in product(codes, function.texts(args[1], line)):
        if " " in text:
            yield code, text, tuple(r for r in remedies if r != text)


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_code(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value) is not None
