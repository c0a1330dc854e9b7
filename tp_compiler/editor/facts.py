"""What the checker found a name to be, as a line of text: sort, axes, width class; of a product with a matrix, hat and dot."""

from __future__ import annotations

from collections.abc import Iterator

from tp_compiler.check import values as v
from tp_compiler.check.names import Binding, Seen
from tp_compiler.diagnostics import Span
from tp_compiler.editor.uses import words_in
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Member, meet
from tp_compiler.ir.operators import widths
from tp_compiler.ir.types import Index

#: A matrix, whether it is transposed, and which member of the family it is.
Product = tuple[ir.MatrixSymbol, bool, Member]


class NameFacts:
    """The facts of one program. Which products a ket depends on is found once for all of them."""

    def __init__(self, seen: Seen):
        self.seen = seen
        self._products: dict[ir.Node, frozenset[Product]] = {}

    def of(self, source: str) -> dict[int, str]:
        """Place of a name in this source -> what it is there. Of names that are bound, what they are at the end."""
        found: dict[int, str] = {}
        for name, binding in self._bindings():
            if binding.span is not None and binding.span.source.name == source:
                found[place_of(name, binding.span)] = self.describe(binding)
        found |= {at: self.describe(b) for (name, at), b in self.seen.readings.items() if name == source}
        return {at: text for at, text in found.items() if text}

    def _bindings(self) -> Iterator[tuple[str, Binding]]:
        if self.seen.scope is not None:
            yield from self.seen.scope.kets.items()
            yield from self.seen.scope.others.items()

    def describe(self, binding: Binding) -> str:
        value = next((m for m in binding.members.values()), binding.value)
        if isinstance(value, v.Ket):
            return self._ket(value, binding.indices)
        if isinstance(value, v.Scalar):
            return _scalar(value, binding.indices)
        if isinstance(value, v.Operator):
            rows, cols = widths(value)
            shape = f", {rows.name} × {cols.name}" if rows is not None and cols is not None else ""
            return f"operator{_over(binding.indices)}{shape}"
        if isinstance(value, v.IndexName):
            return f"index of the axis `{value.index.axis.name}`: 1, ..., {value.index.size}"
        if isinstance(value, v.WidthName):
            return f"width class: {value.width.name}/n → {value.width.ratio:g}"
        return ""

    def _ket(self, value: v.Ket, indices: tuple[Index, ...]) -> str:
        type_ = value.node.type
        if not type_.slots:
            return f"constant ket{_over(indices)}"
        width = f", width {type_.width.name}" if type_.is_ket else ""
        random = "; depends on a random `clt` scalar" if type_.random else ""
        parts = "".join(f"  \n{line}" for line in dict.fromkeys(map(self._hat_and_dot, _products_in(value.node))))
        return f"ket{_over(indices)}{width}{random}{parts}"

    # -- hats and dots ------------------------------------------------------------------------------------------
    def _hat_and_dot(self, product: ir.MatMul) -> str:
        """W|x> is a Gaussian hat and, where |x> depends on products with W^T, a dot (TP IVb, Def 2.6.5)."""
        symbol = product.matrix
        name, back = (f"{symbol.name}{'^T' * t}" for t in (product.transposed, not product.transposed))
        factor = f"{symbol.variance.value:g} " if isinstance(symbol.variance, ir.Constant) else "σ² "
        if symbol.rows != symbol.cols and product.transposed:
            factor += f"{symbol.rows.name}/{symbol.cols.name} "
        hat = f"hat of `{name}`: Gaussian, Cov = {factor.removeprefix('1 ')}⟨x|x′⟩"
        mine = _member(product)
        if any(
            s is symbol and t is not product.transposed and meet(mine, m) for s, t, m in self.products(product.args[0])
        ):
            return f"{hat}; dot along the kets that `{back}` acts on before"
        return f"{hat}; no dot"

    def products(self, node: ir.Node) -> frozenset[Product]:
        """The matrices, with their orientations, that a ket is a function of, through kets alone."""
        todo = [node]
        while todo:
            n = todo[-1]
            below = [a for a in n.args if not a.type.is_scalar]
            missing = [a for a in below if a not in self._products]
            if missing:
                todo += missing
                continue
            todo.pop()
            own = [(n.matrix, n.transposed, _member(n))] if isinstance(n, ir.MatMul) else []
            self._products[n] = frozenset(own).union(*(self._products[a] for a in below))
        return self._products[node]


def place_of(name: str, span: Span) -> int:
    """Where a name stands in what binds it: that of |x>, `op A` and `width m = 2` is not the first character."""
    places = words_in(span.source.text, span.start, span.end)
    return next((start for word, start, _ in places if word == name), span.start)


def _member(product: ir.MatMul) -> Member:
    return tuple(m if isinstance(m, int) else None for m in product.member)


def _products_in(node: ir.Node) -> Iterator[ir.MatMul]:
    """The products with matrices that a ket is, or is a sum of."""
    todo = [node]
    while todo:
        n = todo.pop()
        if isinstance(n, ir.MatMul):
            if n.matrix.start is None:  # a trained matrix moves
                yield n
        elif n.linear == "entries" or (isinstance(n, ir.Map) and n.fn in ("add", "mul")):
            kets = [a for a in n.args if not a.type.is_scalar]
            if len(kets) == 1 or not (isinstance(n, ir.Map) and n.fn == "mul"):
                todo += reversed(kets)


def _scalar(value: v.Scalar, indices: tuple[Index, ...]) -> str:
    node = value.node
    if isinstance(node, ir.Constant):
        return f"scalar = {node.value:.12g}"
    what = (
        "data" if isinstance(node, ir.Array) else "trainable scalar" if isinstance(node, ir.InitialScalar) else "scalar"
    )
    if isinstance(node, ir.Array) and node.integer:
        what = "integer data"
    random = "; random in the limit" if node.type.random else ""
    return f"{what}{_over(indices)}{random}"


def _over(indices: tuple[Index, ...]) -> str:
    shown = [f"{i.axis.name if '#' in i.name else i.name} ({i.size})" for i in indices if i.axis.name != "?"]
    return f" over {', '.join(shown)}" if shown else ""
