"""Reassembles products that the builder has split.

The builder splits products inside sums and means, so that a gradient Σ ξ φ'(h) dx no longer contains |dh> = φ'(|h>) |dx>
itself. If all factors of a named product occur in another product, they are replaced by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tp_compiler.ir import nodes as ir


class Folding:
    """`args(node)`: the factors of a product, with named products in place of their factors."""

    def __init__(self, named: Iterable[ir.Node]):
        self._by_factor: dict[ir.Node, list[ir.Node]] = {}
        for product in named:
            if isinstance(product, ir.Map) and product.fn == "mul" and not product.type.is_scalar:
                for factor in dict.fromkeys(a for a in product.args if not a.type.is_scalar):
                    self._by_factor.setdefault(factor, []).append(product)

    def args(self, node: ir.Node) -> tuple[ir.Node, ...]:
        if not (isinstance(node, ir.Contract) or (isinstance(node, ir.Map) and node.fn == "mul")):
            return node.args
        factors = node.args
        while True:
            found = self._largest(node, factors)
            if found is None:
                return factors
            rest = Counter(factors) - Counter(found.args)
            factors = (found, *rest.elements())

    def _largest(self, node: ir.Node, factors: tuple[ir.Node, ...]) -> ir.Node | None:
        there = Counter(factors)
        candidates = {p for f in there for p in self._by_factor.get(f, ()) if p is not node and p not in there}
        inside = [p for p in candidates if Counter(p.args) <= there]
        return max(inside, key=lambda p: (len(p.args), p.serial), default=None)
