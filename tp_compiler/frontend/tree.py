"""Grammar rules to abstract syntax: one method per rule, called by the parser at every reduction."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from lark import Token, Transformer

from tp_compiler.diagnostics import Source, Span, error
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.tokens import MAX_NESTING, span_of


def _ident(token: Token) -> str:
    return token.value if token.isascii() else unicodedata.normalize("NFC", token.value)


def _ends_in_number(x: ast.Expr) -> bool:
    while isinstance(x, ast.Neg | ast.Power):
        x = x.operand if isinstance(x, ast.Neg) else x.operands[-1]
    return isinstance(x, ast.Number)


def _starts_with_number(x: ast.Expr) -> bool:
    while isinstance(x, ast.Power | ast.Transpose | ast.CopyMark):
        x = x.operands[0] if isinstance(x, ast.Power) else x.base
    return isinstance(x, ast.Number)


#: The text that is parsed here: lark has one transformer for all threads.
_SOURCE: ContextVar[Source] = ContextVar("source")


@contextmanager
def reading(source: Source) -> Iterator[None]:
    """Trees built inside have spans in this source."""
    before = _SOURCE.set(source)
    try:
        yield
    finally:
        _SOURCE.reset(before)


class TreeBuilder(Transformer[Token, Any]):
    """The transformer, used inside `reading`; children are tokens and finished trees, in source order."""

    @property
    def source(self) -> Source:
        return _SOURCE.get()

    def _span(self, children: list[Any]) -> Span:
        present = [c for c in children if c is not None]
        first, last = present[0], present[-1]
        start = first.start_pos if isinstance(first, Token) else first.span.start
        end = last.end_pos if isinstance(last, Token) else last.span.end
        return Span(self.source, start or 0, end or 0)

    def start(self, c: list[Any]) -> Any:
        return c[0]

    # expressions
    def number(self, c: list[Any]) -> ast.Expr:
        return ast.Number(span_of(self.source, c[0]), str(c[0]))

    def name(self, c: list[Any]) -> ast.Name:
        span = self._span(c)
        primes = 0
        rest = c[1:]
        if rest and isinstance(rest[0], Token) and rest[0].type == "PRIMES":
            primes = len(rest[0])
            rest = rest[1:]
        indices = tuple(x for x in rest if not isinstance(x, Token)) if rest else None
        return ast.Name(span, _ident(c[0]), indices, primes)

    def paren(self, c: list[Any]) -> ast.Expr:
        return ast.Paren(self._span(c), c[1])

    def arg(self, c: list[Any]) -> ast.Arg:
        if len(c) == 1 or c[-1] is None:
            return ast.Arg(c[0].span, c[0])
        return ast.Arg(self._span(c), c[2], self._plain(c[0], "a keyword argument"))

    def _plain(self, name: Any, what: str) -> str:
        if isinstance(name, ast.Name) and name.indices is None and not name.primes:
            return name.ident
        raise error("NX022", f"{what} must be a plain name", name.span, "write it without brackets or primes")

    def call(self, c: list[Any]) -> ast.Expr:
        args = tuple(x for x in c if isinstance(x, ast.Arg))
        extra: tuple[ast.Expr, ...] = ()
        for k, x in enumerate(c):
            if isinstance(x, Token) and x.type == "SEMICOLON":
                extra = tuple(y for y in c[k:] if isinstance(y, ast.Expr))
        return ast.Call(self._span(c), c[0], args, extra)

    def ket(self, c: list[Any]) -> ast.Expr:
        return ast.Ket(self._span(c), c[1])

    def bra(self, c: list[Any]) -> ast.Expr:
        return ast.Bra(self._span(c), c[1])

    def mean(self, c: list[Any]) -> ast.Expr:
        return ast.Mean(self._span(c), c[1])

    def braket(self, c: list[Any]) -> ast.Expr:
        return ast.Braket(self._span(c), c[1], c[3])

    def sandwich(self, c: list[Any]) -> ast.Expr:
        return ast.Sandwich(self._span(c), c[1], c[3], c[5])

    def clt(self, c: list[Any]) -> ast.Expr:
        return ast.Clt(self._span(c), c[1])

    def _bounded(self, span: Span, x: ast.Expr) -> Span:
        """`span`, unless x is a tower of marks or exponents: brackets are counted by the layout, these are not."""
        for _ in range(MAX_NESTING):
            if isinstance(x, ast.Transpose | ast.CopyMark):
                x = x.base
            elif isinstance(x, ast.Neg):
                x = x.operand
            elif isinstance(x, ast.Power):
                x = x.operands[-1]
            else:
                return span
        raise error(
            "NX013", f"expressions are nested more than {MAX_NESTING} levels deep", span, "give names to inner parts"
        )

    def transpose(self, c: list[Any]) -> ast.Expr:
        return ast.Transpose(self._bounded(self._span(c), c[0]), c[0])

    def copy_mark(self, c: list[Any]) -> ast.Expr:
        span, digits = self._bounded(self._span(c), c[0]), c[1].value[1:].strip()
        if len(digits) > 9:
            raise error("NX022", "the number of this copy is too large", span, "number copies 1, 2, ...")
        return ast.CopyMark(span, c[0], int(digits))

    def power(self, c: list[Any]) -> ast.Expr:
        self._bounded(self._span(c), c[2])
        tail = c[2].operands if isinstance(c[2], ast.Power) else (c[2],)
        if len(tail) > MAX_NESTING:
            raise error(
                "NX013", f"more than {MAX_NESTING} exponents are stacked", self._span(c), "give names to inner parts"
            )
        return ast.Power(self._span(c), (c[0], *tail))

    def neg(self, c: list[Any]) -> ast.Expr:
        operand: ast.Expr = c[1]
        if str(c[0]) == "+":
            return operand
        return operand.operand if isinstance(operand, ast.Neg) else ast.Neg(self._span(c), operand)

    def product(self, c: list[Any]) -> ast.Expr:
        factors, operators = [c[0]], []
        pending = ""
        for x in c[1:]:
            if isinstance(x, Token):
                pending = str(x)
                continue
            if not pending and _starts_with_number(x) and _ends_in_number(factors[-1]):
                raise error("NX023", "two numbers side by side", factors[-1].span.to(x.span), "write `*` between them")
            factors.append(x)
            operators.append(pending)
            pending = ""
        return ast.Product(self._span(c), tuple(factors), tuple(operators))

    def sum(self, c: list[Any]) -> ast.Expr:
        signs = ["+", *(str(op) for op in c[1::2])]
        return ast.Sum(self._span(c), tuple(c[::2]), tuple(signs))

    def list_(self, c: list[Any]) -> ast.Expr:
        return ast.ListLiteral(self._span(c), tuple(x for x in c if isinstance(x, ast.Expr)))

    # statements
    def version(self, c: list[Any]) -> ast.Statement:
        if str(c[1]) != "1":
            raise error("NX024", f"unknown language version {c[1]}", span_of(self.source, c[1]), "write `nexort 1`")
        return ast.Version(self._span(c), 1)

    def axis(self, c: list[Any]) -> ast.Statement:
        names = tuple(x for x in c[:-2] if isinstance(x, ast.Name))
        return ast.AxisDecl(self._span(c), names, c[-1])

    def width(self, c: list[Any]) -> ast.Statement:
        return ast.WidthDecl(self._span(c), self._plain(c[1], "a width class"), c[3])

    def data(self, c: list[Any]) -> ast.Statement:
        span = self._span(c)
        if len(c) == 2:
            return ast.DataDecl(span, c[1], None)
        how = c[2].type
        if how in ("EQUAL", "FROM"):
            return ast.DataDecl(span, c[1], c[3])
        return ast.DataDecl(span, c[1], ast.Drawn(c[3].span, c[3], c[5]))

    def law(self, c: list[Any]) -> ast.Law:
        return ast.Law(self._span(c), _ident(c[0]), tuple(x for x in c if isinstance(x, ast.Expr)))

    def rows(self, c: list[Any]) -> ast.FromFile:
        return ast.FromFile(self._span(c), str(c[0])[1:-1], str(c[2])[1:-1] if c[1] is not None else None)

    def scalar(self, c: list[Any]) -> ast.Statement:
        return ast.ScalarDecl(self._span(c), c[1], c[3], c[4] is not None)

    def ket_decl(self, c: list[Any]) -> ast.Statement:
        target = self._target(c[1])
        assert isinstance(target, ast.Ket) and isinstance(target.label, ast.Name)
        width = self._plain(c[3], "a width class") if c[3] is not None else None
        law = ast.FromArray(c[5].span, c[5]) if c[4].type == "FROM" and isinstance(c[5], ast.Expr) else c[5]
        return ast.KetDecl(self._span(c), target.label, width, law, c[6] is not None)

    def matrix(self, c: list[Any]) -> ast.Statement:
        rows, cols = (self._plain(c[k], "a width class") if c[k] is not None else None for k in (3, 5))
        return ast.MatrixDecl(self._span(c), c[1], rows, cols, c[7], c[8] is not None)

    def _target(self, x: Any) -> ast.Name | ast.Ket:
        if isinstance(x, ast.Name) and not x.primes:
            return x
        if isinstance(x, ast.Ket) and isinstance(x.label, ast.Name) and not x.label.primes:
            return x
        raise error("NX025", "this cannot be bound", x.span, "bind a name, `c[i]`, or a named ket, `|x[i]>`")

    def bind(self, c: list[Any]) -> ast.Statement:
        equal = next(k for k, x in enumerate(c) if isinstance(x, Token) and x.type == "EQUAL")
        targets = tuple(self._target(x) for x in c[:equal] if not isinstance(x, Token))
        values = tuple(x for x in c[equal:] if not isinstance(x, Token))
        return ast.Bind(self._span(c), targets, values)

    def block(self, c: list[Any]) -> tuple[Token, tuple[ast.Statement | ast.ParametrizationRow, ...], Token]:
        return c[0], tuple(x for x in c if isinstance(x, ast.Statement | ast.ParametrizationRow)), c[-1]

    def _with_block(self, c: list[Any]) -> tuple[Span, tuple[Any, ...]]:
        *head, (_, body, close) = c
        return self._span([*head, close]), body

    def for_loop(self, c: list[Any]) -> ast.Statement:
        span, body = self._with_block(c)
        low, high = (c[3], c[5]) if str(c[2]) == "in" else (None, c[1])
        return ast.For(span, self._plain(c[1], "a loop variable"), low, high, body)

    def param(self, c: list[Any]) -> ast.Param:
        span = self._span(c)
        if isinstance(c[0], ast.Ket):
            target = self._target(c[0])
            assert isinstance(target, ast.Ket) and isinstance(target.label, ast.Name)
            return ast.Param(span, target.label, "ket")
        if isinstance(c[0], Token):
            if str(c[0]) != "op":
                raise error("NX026", f"`{c[0]}` is not a kind of parameter", span, "write `x[d]`, `|x>` or `op W`")
            return ast.Param(span, c[1], "operator")
        return ast.Param(span, c[0], "scalar", c[2] if len(c) > 2 and c[2] is not None else None)

    def _head(self, c: list[Any]) -> tuple[str, tuple[ast.Param, ...]]:
        return self._plain(c[1], "a definition"), tuple(x for x in c if isinstance(x, ast.Param))

    def def_(self, c: list[Any]) -> ast.Statement:
        span, body = self._with_block(c)
        brackets = c[1].indices or ()
        indices = tuple(e for e in brackets if isinstance(e, ast.Name) and e.indices is None and not e.primes)
        if len({e.ident for e in indices}) < len(brackets):
            raise error(
                "NX022", "the brackets of a `def` name distinct indices", c[1].span, "write `def f[s,t](|x[s]>)`"
            )
        head = [*c[:1], replace(c[1], indices=None), *c[2:]]
        return ast.Def(span, *self._head(head), body, indices)

    def return_(self, c: list[Any]) -> ast.Statement:
        return ast.Return(self._span(c), tuple(x for x in c if isinstance(x, ast.Expr)))

    def fn(self, c: list[Any]) -> ast.Statement:
        names = tuple(self._plain(x, "a parameter of fn") for x in c[3:-2] if isinstance(x, ast.Name))
        return ast.Fn(self._span(c), self._plain(c[1], "a function"), names, c[-1])

    def output(self, c: list[Any]) -> ast.Statement:
        span = self._span(c)
        if c[3] is not None:
            target = self._target(c[1])
            if isinstance(target, ast.Ket):
                raise error("NX027", "outputs must be scalars", target.span, "output a bracket, such as `<x|x>`")
            return ast.Output(span, target, c[3])
        if isinstance(c[1], ast.Name) and not c[1].primes:
            return ast.Output(span, c[1], None)
        return ast.Output(span, None, c[1])

    def import_(self, c: list[Any]) -> ast.Statement:
        quoted = c[1].type == "STRING"
        return ast.Import(self._span(c), str(c[1])[1:-1] if quoted else str(c[1]), quoted)

    def optimizer(self, c: list[Any]) -> ast.Statement:
        span, body = self._with_block(c)
        words = [x for x in c[-3:-1] if isinstance(x, Token) and x.type == "NAME"]
        if words and (str(words[0]) != "on" or str(words[-1]) not in ("operators", "layers")):
            raise error(
                "NX028",
                "this is not a kind of optimizer",
                span_of(self.source, words[0]),
                "write `on operators` or `on layers`",
            )
        return ast.Optimizer(span, *self._head(c), str(words[-1]) if words else "", body)

    def state(self, c: list[Any]) -> ast.Statement:
        return ast.State(self._span(c), self._plain(c[1], "a state"), c[3], c[4] is not None)

    def assign(self, c: list[Any]) -> ast.Statement:
        return ast.Assign(self._span(c), _ident(c[0]), c[2])

    def init(self, c: list[Any]) -> ast.Statement:
        span, body = self._with_block(c)
        return ast.Init(span, body)

    def train(self, c: list[Any]) -> ast.Statement:
        span, body = self._with_block(c)
        if str(c[1]) not in ("steps", "time"):
            raise error(
                "NX029", f"`train` has no setting `{c[1]}`", span_of(self.source, c[1]), "write `train steps = 10`"
            )
        return ast.Train(span, str(c[1]), c[3], body)

    def minimize(self, c: list[Any]) -> ast.Statement:
        return ast.Minimize(self._span(c), c[1], c[3])

    def update(self, c: list[Any]) -> ast.Statement:
        targets = tuple(self._target(x) for x in c[1:-2] if not isinstance(x, Token))
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and targets[0].ident == "all":
            targets = ()
        if not isinstance(c[-1], ast.Call):
            raise error(
                "NX030", "expected an optimizer after `with`", c[-1].span, "write, for example, `Adam(lr = 0.1)`"
            )
        return ast.Update(self._span(c), targets, c[-1])

    def parametrization(self, c: list[Any]) -> ast.Statement:
        if isinstance(c[1], Token):
            return ast.Parametrization(self._span(c), str(c[1]), ())
        span, rows = self._with_block(c)
        return ast.Parametrization(span, None, rows)

    def exponent_value(self, c: list[Any]) -> ast.Arg:
        return ast.Arg(self._span(c), c[2], _ident(c[0]))

    def parametrization_row(self, c: list[Any]) -> ast.ParametrizationRow:
        return ast.ParametrizationRow(self._span(c), self._target(c[0]), tuple(x for x in c if isinstance(x, ast.Arg)))


#: Rules that are named by words of Python.
_WORDS = {
    "def": TreeBuilder.def_,
    "return": TreeBuilder.return_,
    "import": TreeBuilder.import_,
    "list": TreeBuilder.list_,
}
for _word, _rule in _WORDS.items():
    setattr(TreeBuilder, _word, _rule)
