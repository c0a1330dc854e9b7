"""Checks that a program is well formed; run after every stage that makes a program.

A failure is a bug of the compiler, not of the user, hence `AssertionError`.
"""

from __future__ import annotations

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.primitives import PRIMITIVES
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index
from tp_compiler.ir.walk import dependencies, reachable


def verify(program: Program) -> None:
    """Checks every instruction reachable from the outputs."""
    for output in program.outputs:
        assert output.node.type.is_scalar, f"output {output.name} is not a scalar"
        left = [i for i in output.node.type.indices if i not in output.indices]
        assert not left, f"output {output.name} leaves the index {left[0].name} free"
    for node in reachable(o.node for o in program.outputs):
        for arg in dependencies(node):
            assert arg.serial < node.serial, "instructions refer to earlier ones"
        slots = [s for s, _ in node.type.slots]
        assert slots == sorted(set(slots)), "slots are distinct and ascending"
        assert len(set(node.type.indices)) == len(node.type.indices), "indices are distinct"
        _verify(node)


def _verify(node: ir.Node) -> None:
    kinds = [a.type for a in node.args]
    match node:
        case ir.Map(fn=fn):
            arity = PRIMITIVES[fn].arity
            assert arity is None or arity == len(kinds), f"{fn} takes {arity} arguments"
            widths: dict[int, object] = {}
            for kind in kinds:
                for slot, width in kind.slots:
                    assert widths.setdefault(slot, width) == width, "one slot has one width class"
        case ir.MatMul(matrix=matrix, member=member, transposed=transposed):
            source = matrix.rows if transposed else matrix.cols
            assert kinds[0].is_ket and kinds[0].width == source, "a matrix acts on kets of its width"
            assert len(member) == len(matrix.indices), "one member per index of the family"
            named = [m for m in member if isinstance(m, Index)]
            assert len(named) == len(set(named)), "a diagonal of a family of matrices is a Reindex"
        case ir.Copy(slot=slot):
            assert kinds[0].is_ket and slot > 0, "copies are of kets"
        case ir.Clt():
            assert kinds[0].is_ket and kinds[1].is_ket and kinds[0].width == kinds[1].width
        case ir.Reindex(selectors=selectors):
            assert len(selectors) == len(kinds[0].indices), "one selector per index"
            for selector, index in zip(selectors, kinds[0].indices, strict=True):
                if isinstance(selector, int):
                    assert 1 <= selector <= index.size, "positions lie in the axis"
                if isinstance(selector, Index):
                    assert selector.size == index.size, "a renamed index keeps its axis"
        case ir.Linalg(rows=rows, cols=cols):
            assert {rows, cols} <= set(kinds[0].indices), "the matrix carries its two indices"
        case ir.Reduce(index=index):
            assert index in kinds[0].indices, "the reduced index is there"
