"""A program as a listing of instructions, one a line (`tpc show --stage ir`)."""

from __future__ import annotations

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import reachable


def show(program: Program) -> str:
    """`%3 : ket[i,d] over n = map tanh %2`, in program order, and what each output reads."""
    nodes = reachable(o.node for o in program.outputs)
    number = {node: k for k, node in enumerate(nodes)}
    lines = [f"%{number[n]} : {_type(n.type)} = {_instruction(n, number)}" for n in nodes]
    lines += [f"output {_named(o.name, o.indices)} = %{number[o.node]}" for o in program.outputs]
    return "\n".join(lines) + "\n"


def _named(name: str, indices: tuple[Index, ...]) -> str:
    return f"{name}[{','.join(i.name for i in indices)}]" if indices else name


def _type(kind: Type) -> str:
    sort = "scalar" if kind.is_scalar else "ket" if kind.is_ket else f"entry{[s for s, _ in kind.slots]}"
    sort = f"random {sort}" if kind.random else sort
    return _named(sort, kind.indices) + (f" over {kind.width.name}" if kind.is_ket else "")


def _instruction(node: ir.Node, number: dict[ir.Node, int]) -> str:
    args = " ".join(f"%{number[a]}" for a in node.args)
    match node:
        case ir.Constant(value=value):
            return f"constant {value:g}"
        case ir.Array(name=name):
            return f"data {name}"
        case ir.Position(index=index):
            return f"position {index.name}"
        case ir.InitialKet(symbol=symbol):
            return f"initial |{symbol.name}> mean, {'covariance' if symbol.pair else 'variance'} {args}"
        case ir.MatMul(matrix=matrix, member=member, transposed=transposed):
            which = f"[{','.join(m.name if isinstance(m, Index) else str(m) for m in member)}]" if member else ""
            return f"matmul {matrix.name}{which}{'^T' if transposed else ''} {args}"
        case ir.Map(fn=fn):
            return f"map {fn} {args}"
        case ir.Contract(over=over, slots=slots):
            parts = [f"sum[{','.join(i.name for i in over)}]"] if over else []
            parts += [f"mean{list(slots)}"] if slots else []
            return f"contract {' '.join(parts)} {args}"
        case ir.Reduce(op=op, index=index):
            return f"reduce {op}[{index.name}] {args}"
        case ir.Reindex(selectors=selectors):
            shown = ",".join(
                s.name if isinstance(s, Index) else str(s) if isinstance(s, int) else "gather" for s in selectors
            )
            return f"reindex [{shown}] {args}"
        case ir.Shift(index=index, by=by):
            return f"shift[{index.name}] by {by} {args}"
        case ir.Stack(index=index):
            return f"stack[{index.name}] {args}"
        case ir.Copy(slot=slot):
            return f"copy @{slot} {args}"
        case ir.Linalg(op=op, rows=rows, cols=cols):
            return f"{op}[{rows.name},{cols.name}] {args}"
        case ir.Unavailable(construct=construct):
            return f"unavailable ({construct}) {args}"
    return f"{type(node).__name__.lower()} {args}"
