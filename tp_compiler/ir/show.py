"""A program as a listing of instructions, one per line (`tpc show --stage ir`)."""

from __future__ import annotations

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import reachable


def show(program: Program) -> str:
    """`%3 : ket[i,d] over n = map tanh %2`, in program order, and what each output reads."""
    nodes = reachable(o.node for o in program.outputs)
    number = {node: k for k, node in enumerate(nodes)}
    lines = listing(nodes)
    lines += [f"output {_named(o.name, o.indices)} = %{number[o.node]}" for o in program.outputs]
    return "\n".join(lines) + "\n"


def listing(nodes: list[ir.Node]) -> list[str]:
    """A line for each node of a list that is closed under arguments."""
    number = {node: k for k, node in enumerate(nodes)}
    return [f"%{number[n]} : {_type(n.type)} = {_instruction(n, number)}" for n in nodes]


def _named(name: str, indices: tuple[Index, ...]) -> str:
    return f"{name}[{','.join(i.name for i in indices)}]" if indices else name


def _type(kind: Type) -> str:
    sort = "scalar" if kind.is_scalar else "ket" if kind.is_ket else f"entry{[s for s, _ in kind.slots]}"
    sort = f"random {sort}" if kind.random else sort
    return _named(sort, kind.indices) + (f" over {kind.width.name}" if kind.is_ket else "")


def _instruction(node: ir.Node, number: dict[ir.Node, int]) -> str:
    """`reduce max[t] %2`, `matmul W[1] transposed %3`, `shift[i] by 1 %0`: names, labels, other fields, arguments."""
    words: list[str] = [type(node).__name__.lower()]
    labels: list[str] = []
    rest: list[str] = []
    for name in node.attributes():
        value = getattr(node, name)
        match value:
            case bool():
                rest += [name] if value else []
            case int() | tuple() if name.startswith("slot") or isinstance(value, int):
                rest += [f"{name} {_label(value)}"] if value != () else []
            case Index() | tuple():
                labels += map(_label, value if isinstance(value, tuple) else (value,))
            case float():
                words.append(f"{value:g}")
            case str() | ir.KetSymbol() | ir.MatrixSymbol() | ir.ScalarSymbol() | ir.State():
                words += [value] if isinstance(value, str) else [value.name]
        if isinstance(value, ir.KetSymbol) and value.law != "normal":
            words.append(value.law)
    head = " ".join(w for w in words if w) + (f"[{','.join(labels)}]" if labels else "")
    return " ".join([head, *rest, *(f"%{number[a]}" for a in node.args)])


def _label(x: object) -> str:
    """An index, a position, positions from data, or several of them."""
    if isinstance(x, tuple):
        return f"({','.join(map(_label, x))})"
    return x.name if isinstance(x, Index) else "gather" if isinstance(x, ir.Gather) else str(x)
