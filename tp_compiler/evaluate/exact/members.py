"""Entries of families as instructions without indices: what one entry of an output is computed from, member by member.

Each instruction is followed to the members that an entry reads; sums over indices become sums of members. A function of data and
initial kets alone remains a family, of which members are read; a matrix of numbers is stacked, and read again. What has no such
form is a `NotExact`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np

from tp_compiler.diagnostics import ProgramError
from tp_compiler.evaluate.instructions import RULES
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.types import Index

Positions: TypeAlias = Mapping[Index, int]  # 1-based
Making: TypeAlias = Generator[tuple[ir.Node, Positions], ir.Node, ir.Node]  # asks for members, and returns one

MOST_MEMBERS = 20_000  # instructions; some seconds of work


class MemberByMember:
    """The members of nodes, each made once."""

    def __init__(self, build: Builder) -> None:
        self.build = build
        self._made: dict[tuple[ir.Node, tuple[int, ...]], ir.Node] = {}
        self._fixed: dict[ir.Node, bool] = {}

    def entry(self, node: ir.Node, at: Positions) -> ir.Node:
        """The member of a node at some positions. Raises NotExact."""
        try:
            return self._run(node, at)
        except ProgramError as error:  # a constant that folds to no number, or too many instructions
            reason = error.diagnostics[0].message if error.diagnostics else "a program of too many members"
            raise NotExact(reason) from None

    def _run(self, node: ir.Node, at: Positions) -> ir.Node:
        todo = [(self._key(node, at), self._member(node, at))]
        answer: ir.Node | None = None
        while todo:
            key, making = todo[-1]
            try:
                asked, where = next(making) if answer is None else making.send(answer)
            except StopIteration as done:
                todo.pop()
                answer = self._made[key] = done.value
                if len(self._made) > MOST_MEMBERS:
                    raise NotExact(f"a program of more than {MOST_MEMBERS} members") from None
                continue
            known = self._key(asked, where)
            answer = self._made.get(known)
            if answer is None:
                todo.append((known, self._member(asked, where)))
        assert answer is not None
        return answer

    def _key(self, node: ir.Node, at: Positions) -> tuple[ir.Node, tuple[int, ...]]:
        return node, tuple(at[i] for i in node.type.indices)

    def _member(self, node: ir.Node, at: Positions) -> Making:
        if node.type.random:
            raise NotExact("a number that is random in the limit (`clt`)")
        if any(slot for slot, _ in node.type.slots):
            raise NotExact("an average over pairs of neurons (`E[1]`)")
        rule = self.rules.get(type(node))
        if rule is None:
            raise NotExact(REASONS.get(type(node), f"the instruction {type(node).__name__}"))
        return self._family(node, at) if self.is_fixed(node) else rule(self, node, at)

    def is_fixed(self, node: ir.Node) -> bool:
        """Whether a node is a function of data and initial kets alone: no width changes what it is."""
        todo = [node]
        while todo:
            missing = [a for a in todo[-1].args if a not in self._fixed]
            if missing:
                todo += missing
                continue
            top = todo.pop()
            averaged = isinstance(top, ir.Contract) and bool(top.slots)
            own = type(top) in self.rules and not isinstance(top, ir.MatMul) and not averaged
            self._fixed[top] = own and not top.type.random and all(self._fixed[a] for a in top.args)
        return self._fixed[node]

    def _family(self, node: ir.Node, at: Positions) -> Making:
        if isinstance(node, ir.Array | ir.Position | ir.Constant):
            return (yield from self.rules[type(node)](self, node, at))
        return self.build.reindex(node, tuple(at[i] for i in node.type.indices), (), node.span)
        yield  # a generator, as the others

    # -- one rule an instruction ---------------------------------------------------------------------------------
    def _constant(self, node: ir.Constant, at: Positions) -> Making:
        return self.build.constant(node.value, node.span)
        yield

    def _array(self, node: ir.Array, at: Positions) -> Making:
        value = np.asarray(node.values)[tuple(at[i] - 1 for i in node.type.indices)]
        return self.build.constant(float(value), node.span)
        yield

    def _position(self, node: ir.Position, at: Positions) -> Making:
        return self.build.constant(at[node.index], node.span)
        yield

    def _initialket(self, node: ir.InitialKet, at: Positions) -> Making:
        raise NotExact(f"the law of |{node.symbol.name}> depends on averages")
        yield

    def _passed_on(self, node: ir.InitialScalar | ir.Stop, at: Positions) -> Making:
        return (yield node.args[0], at)

    def _matmul(self, node: ir.MatMul, at: Positions) -> Making:
        if not self.is_fixed(node.matrix.variance):
            raise NotExact(f"the variance of {node.matrix.name} depends on averages")
        x = yield node.args[0], at
        member = tuple(at[m] if isinstance(m, Index) else m for m in node.member)
        x = self.build.as_ket(x, node.matrix.rows if node.transposed else node.matrix.cols, node.span)
        return self.build.matmul(node.matrix, member, node.transposed, x, node.span)

    def _map(self, node: ir.Map, at: Positions) -> Making:
        args = []
        for a in node.args:
            args.append((yield a, at))
        return self.build.map(node.fn, args, node.span)

    def _contract(self, node: ir.Contract, at: Positions) -> Making:
        terms = []
        for where in itertools.product(*(range(1, i.size + 1) for i in node.over)):
            here = {**at, **dict(zip(node.over, where, strict=True))}
            factors = []
            for a in node.args:
                factors.append((yield a, here))
            terms.append(self.build.contract(factors, (), node.slots, node.span))
        return self.build.map("add", terms, node.span)

    def _reduce(self, node: ir.Reduce, at: Positions) -> Making:
        members = []
        for k in range(1, node.index.size + 1):
            members.append((yield node.args[0], {**at, node.index: k}))
        if node.op == "prod":
            return self.build.map("mul", members, node.span)
        if node.op == "logsumexp":
            exponentials = [self.build.map("exp", (x,), node.span) for x in members]
            return self.build.map("log", (self.build.map("add", exponentials, node.span),), node.span)
        found = members[0]
        for x in members[1:]:
            found = self.build.map(node.op, (found, x), node.span)
        return found

    def _reindex(self, node: ir.Reindex, at: Positions) -> Making:
        x, *_ = node.args
        where = {}
        for index, selector in zip(x.type.indices, node.selectors, strict=True):
            if isinstance(selector, ir.Gather):
                table = yield node.args[selector.arg], at
                if not isinstance(table, ir.Constant):
                    raise NotExact("positions that are computed")
                where[index] = int(table.value)
                if not 1 <= where[index] <= index.size:
                    raise NotExact("a position outside of its axis")
            else:
                where[index] = at[selector] if isinstance(selector, Index) else selector
        return (yield x, where)

    def _along(self, node: ir.Along, at: Positions) -> Making:
        label = Index(f"{node.index.name}~", node.index.axis)
        unit = np.eye(node.index.size)  # the image of each member
        image = RULES[type(node)](node, [(unit, (label, node.index))], (label, node.index))
        terms = []
        for k in np.flatnonzero(image[:, at[node.index] - 1]):
            terms.append((yield node.args[0], {**at, node.index: int(k) + 1}))
        if terms:
            return self.build.map("add", terms, node.span)
        first = yield node.args[0], {**at, node.index: 1}
        return self.build.mul(self.build.constant(0.0, node.span), first, node.span)

    def _stack(self, node: ir.Stack, at: Positions) -> Making:
        return (yield node.args[at[node.index] - 1], at)

    def _linalg(self, node: ir.Linalg, at: Positions) -> Making:
        matrix, *others = node.args
        lines = []
        for r in range(1, node.rows.size + 1):
            line = []
            for c in range(1, node.cols.size + 1):
                line.append((yield matrix, {**at, node.rows: r, node.cols: c}))
            lines.append(self.build.stack(tuple(line), node.cols, node.span))
        args = [self.build.stack(tuple(lines), node.rows, node.span)]
        for other in others:
            along = node.cols in other.type.indices
            entries = []
            for c in range(1, node.cols.size + 1) if along else (1,):
                entries.append((yield other, {**at, node.cols: c}))
            args.append(self.build.stack(tuple(entries), node.cols, node.span) if along else entries[0])
        made = self.build.linalg(node.op, node.rows, node.cols, tuple(args), node.fn, node.span)
        return self.build.reindex(made, tuple(at[i] for i in made.type.indices), (), node.span)

    rules: ClassVar[dict[type[ir.Node], Callable[[MemberByMember, Any, Positions], Making]]] = {
        ir.Constant: _constant,
        ir.Array: _array,
        ir.Position: _position,
        ir.InitialKet: _initialket,
        ir.InitialScalar: _passed_on,
        ir.Stop: _passed_on,
        ir.MatMul: _matmul,
        ir.Map: _map,
        ir.Contract: _contract,
        ir.Reduce: _reduce,
        ir.Reindex: _reindex,
        **dict.fromkeys(ir.ALONG, _along),
        ir.Stack: _stack,
        ir.Linalg: _linalg,
    }


#: Why there are no members of other instructions.
REASONS: dict[type[ir.Node], str] = {
    ir.Join: "operators of low rank",
    ir.Spectral: "operators of low rank",
    ir.Clt: "a number that is random in the limit (`clt`)",
    ir.Clock: "training",
    ir.Carry: "training",
    ir.Apply: "training",
    ir.Trace: "training",
}
