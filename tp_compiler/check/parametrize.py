"""The parametrization of a program: a name, or rows of exponents (TP IVb Def 2.2.1).

`mup` is natural units; `ntk` is a separate limit. Anything else is classified once the program is read (scale/regime.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

from tp_compiler.check import values as v
from tp_compiler.check.core import Context, Core
from tp_compiler.check.name_lookup import NameLookup
from tp_compiler.check.names import Scope
from tp_compiler.diagnostics import Span, error, suggest
from tp_compiler.frontend import syntax as ast
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Exponents, Member
from tp_compiler.ir.types import Index

PARAMETRIZATIONS = ("mup", "ntk", "standard")


class ParametrizationReading:
    """The parametrization in the program: a name, and the rows of a block."""

    def __init__(self, core: Core, lookup: NameLookup):
        self.core, self.lookup = core, lookup
        self.name = "mup"
        self.exponents: list[Exponents] = []  # the rows, once their targets are known
        self.rows: list[tuple[ast.ParametrizationRow, dict[str, float], Scope]] = []  # targets may be declared below

    def declare(self, s: ast.Parametrization, scope: Scope) -> None:
        if s.name is not None and s.name not in PARAMETRIZATIONS:
            remedy = suggest(s.name, PARAMETRIZATIONS) or f"use one of: {', '.join(PARAMETRIZATIONS)}"
            raise error("NX161", f"there is no parametrization `{s.name}`", s.span, remedy)
        for row in s.rows:
            with self.core.collecting():
                if not isinstance(row, ast.ParametrizationRow):
                    message = "this statement is not allowed in a `parametrization` block"
                    raise error("NX120", message, row.span, "write rows, such as `|u> : a = 1/2, b = 0`")
                self._row(row, scope)
        self.name = s.name or "block"

    def _row(self, row: ast.ParametrizationRow, scope: Scope) -> None:
        values: dict[str, float] = {}
        self.rows.append((row, values, scope))
        first: dict[str, Span] = {}
        for exponent in row.exponents:
            name = exponent.keyword
            if name not in ("a", "b", "c", "d"):
                raise error("NX162", f"there is no exponent `{name}`", exponent.span, "write `a`, `b`, `c` or `d`")
            if name in first:
                raise error("NX163", f"`{name}` is given twice", exponent.span, "write each exponent once")
            first[name] = exponent.span
            node = self.core.scalar(exponent.value, Context(scope), "an exponent")
            if isinstance(node, ir.Constant):
                values[name] = node.value

    def finish(self) -> None:
        """Checks that rely on the whole program: every parametrization row names a parameter, and no two the same."""
        for row, values, scope in self.rows:
            with self.core.collecting():
                self._place(row, values, scope)

    def _place(self, row: ast.ParametrizationRow, values: dict[str, float], scope: Scope) -> None:
        ket, at = isinstance(row.target, ast.Ket), row.target.span
        name = row.target.label if isinstance(row.target, ast.Ket) else row.target
        assert isinstance(name, ast.Name)
        table = scope.kets if ket else scope.others
        binding = table.get(name.ident)
        if binding is None and (ket or name.ident != "output"):
            raise error("NX156", f"there is no parameter `{at.text}`", at, suggest(name.ident, table))
        if binding is not None and isinstance(binding.value, v.Broken):
            return
        picks = picked(self.lookup, name, row.target, binding.indices if binding is not None else (), scope)
        new = Exponents(name.ident, ket, picks, values, at)
        for old in self.exponents:
            if old.holds(name.ident, ket, picks) and old.places == new.places:
                line, _ = at.source.position(old.span.start)
                message = f"`{at.text}` already has exponents, in the row `{old.span.text}` on line {line}"
                raise error("NX163", message, at, "write all its exponents in one row")
        self.exponents.append(new)

    def apart(self, name: str, ket: bool, own: tuple[Index, ...], picks: Member) -> Iterator[Member]:
        """The members of a part of a family; one by one along the indices at which some row names a position."""
        rows = [row.member for row in self.exponents if (row.name, row.ket) == (name, ket)]
        places: list[Iterable[int | None]] = [
            range(1, index.size + 1) if pick is None and any(row[k] is not None for row in rows) else (pick,)
            for k, (index, pick) in enumerate(zip(own, picks, strict=True))
        ]
        return product(*places)


def picked(lookup: NameLookup, name: ast.Name, target: ast.Tree, own: tuple[Index, ...], scope: Scope) -> Member:
    """The member that `update A[2]`, or a row `A[2] : ..`, names; None for every index that runs."""
    if name.indices is None:
        return (None,) * len(own)
    if len(name.indices) != len(own):
        remedy = f"write `{'|' * isinstance(target, ast.Ket)}{name.ident}{'>' * isinstance(target, ast.Ket)}`"
        raise error("NX220", f"`{name.ident}` has {len(own)} indices", name.span, remedy)
    picks: list[int | None] = []
    for e, index in zip(name.indices, own, strict=True):
        selector = lookup.selector(e, index, name, Context(scope))
        if isinstance(selector, ir.Node):
            raise error("NX223", "a parameter cannot be selected by data", e.span, "write a position")
        picks.append(selector if isinstance(selector, int) else None)
    return tuple(picks)
