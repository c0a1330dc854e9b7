"""`parametrization ntk`: training in the neural tangent limit, as a program (TP IVb, Thm 2.4.7 and 2.9.19; limit.md 5).

At width n an output is f = vᵀx/√n, its gradient kets are those of <v|x>, and every update of a parameter is n^-1/2 of
what the optimizer returns. So features stay at their initial kets, and an output moves by its linear part,

    f_t(ξ) = f_0(ξ) + Σ_p <<∇_p f(ξ), Δp_t>>,        Δp_t the sum of what the optimizer has returned for p,

where the gradient that the optimizer sees is Σ_b χ_b ∇_p f(ξ_b), χ_b = ∂loss/∂f_b. For a linear optimizer Δp_t is
Σ_b a_b ∇_p f(ξ_b), and the optimizer runs on the coefficients a: that is the tangent kernel. Any other optimizer runs on
natural entries, and a matrix's term is <dh|Q(...)|x>, an average over two independent neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tp_compiler.diagnostics import Span
from tp_compiler.frontend.expressions import error
from tp_compiler.frontend.optimizers import Parameter
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.gradient import Gradient, Leaf, entries, is_zero
from tp_compiler.ir.lower import Trained
from tp_compiler.ir.tangent import bracket_width, gradients, inner_products
from tp_compiler.ir.types import Type
from tp_compiler.ir.walk import reachable, rewrite

Change = Callable[[ir.Node], ir.Node]
#: Runs an optimizer for one parameter, its arguments changed: (update, part along W_0, following values of the states).
Stepped = tuple[ir.Node, ir.Node | None, dict[ir.State, ir.Node]]
Step = Callable[[Parameter, Change], Stepped]


@dataclass(eq=False)
class Group:
    """Parameters that share one `update` line: their initial leaves, and how the optimizer runs."""

    name: str
    leaves: list[Leaf]
    step: Step
    coefficients: dict[ir.Clt, ir.State] = field(default_factory=dict)  # of a linear optimizer
    kets: dict[ir.Node, ir.State] = field(default_factory=dict)  # Δp of any other
    matrices: dict[ir.MatrixSymbol, Trained] = field(default_factory=dict)


class TangentLimit:
    """The loop and the outputs of a program in the neural tangent limit."""

    def __init__(
        self, build: Builder, loss: ir.Node, starts: Mapping[Leaf, Leaf], groups: list[Group], clip: ir.Node | None,
        span: Span,
    ):  # fmt: skip
        self.build, self.span = build, span
        self.starts = starts  # current value -> initial value of every trained parameter
        self.groups = groups
        self.following: dict[ir.State, ir.Node] = {}
        self._frozen: dict[ir.Node, ir.Node] = {}
        self._moving: dict[ir.Node, ir.Node] = {}
        self._values: dict[ir.Clt, ir.Node] = {}
        brackets = [n for n in reachable([loss]) if isinstance(n, ir.Clt)]
        self.outputs = list(dict.fromkeys(self._bracket(n) for n in brackets))
        if not self.outputs:
            raise error(
                "NX173", "in the neural tangent limit the outputs are `clt` brackets, and this loss has none", span,
                "write `clt <v|x>` in the network",
            )  # fmt: skip
        for group in groups:
            self._prepare(group)
        moved = self(loss)
        self._follow(moved, clip)

    # -- what nodes become --------------------------------------------------------------------------------------
    def __call__(self, node: ir.Node) -> ir.Node:
        """A node of the loop, or behind it, in the limit: features frozen, outputs moving."""
        return rewrite(self.build, node, self._moved, self.span, self._moving)

    @property
    def done(self) -> Mapping[ir.Node, ir.Node]:
        """What nodes have become so far."""
        return self._moving

    def _moved(self, node: ir.Node) -> ir.Node | None:
        return self._moved_bracket(self._bracket(node)) if isinstance(node, ir.Clt) else self._start(node, self)

    def _moved_bracket(self, clt: ir.Clt) -> ir.Node:
        if clt not in self._values:
            self._values[clt] = self.build.add(clt, self._change(clt), self.span)
        return self._values[clt]

    def frozen(self, node: ir.Node) -> ir.Node:
        """A node at its initial value."""
        return rewrite(self.build, node, lambda n: self._start(n, self.frozen), self.span, self._frozen)

    def _start(self, node: ir.Node, inner: Callable[[ir.Node], ir.Node]) -> ir.Node | None:
        if isinstance(node, ir.Carry):
            start = self.starts.get(node)
            return start if isinstance(start, ir.Node) else node
        if isinstance(node, ir.MatMul) and node.matrix.start is not None:
            return self.build.matmul(node.matrix.start, node.member, node.transposed, inner(node.args[0]), self.span)
        return None if node.args else node

    def _bracket(self, node: ir.Node) -> ir.Clt:
        found = self.frozen(node)
        assert isinstance(found, ir.Clt)
        return found

    # -- states -------------------------------------------------------------------------------------------------
    def _prepare(self, group: Group) -> None:
        """States that hold what a group's parameters have gathered."""
        if self._is_linear(group):
            for k, clt in enumerate(self.outputs):
                kind = Type(clt.type.indices, (), True)
                zero = self.build.constant(0, self.span)
                group.coefficients[clt] = ir.State(f"{group.name}.a{k}", kind, zero, self.span)
            return
        for leaf in group.leaves:
            zero = self.build.constant(0, self.span)
            if isinstance(leaf, ir.MatrixSymbol):
                kind = Type(leaf.indices, ((0, leaf.rows), (self.build.slot(), leaf.cols)), True)
                group.matrices[leaf] = Trained(ir.State(leaf.name, kind, zero, self.span))
            else:
                kind = replace(leaf.type, random=True)
                group.kets[leaf] = ir.State(_name(leaf), kind, zero, self.span)

    def _is_linear(self, group: Group) -> bool:
        """Does the optimizer only add up multiples of gradients (SGD, momentum)? Then p must not enter either."""
        probe = ir.Array(type=Type((), (), True), name="g", values=0.0, span=self.span)
        weight = ir.Array(type=Type((), (), True), name="p", values=0.0, span=self.span)
        update, _, following = group.step(Parameter(group.name, Type((), (), True), weight, probe), lambda n: n)
        states = {n for f in (update, *following.values()) for n in reachable([f]) if isinstance(n, ir.Carry)}
        return all(_linear(f, {probe, *states}, {weight}) for f in (update, *following.values()))

    # -- how an output moves ------------------------------------------------------------------------------------
    def _change(self, output: ir.Clt) -> ir.Node:
        """Σ_p <<∇_p f, Δp>>"""
        terms = [t for group in self.groups for t in self._changes(group, output) if not is_zero(t)]
        return self.build.map("add", terms, self.span) if terms else self.build.constant(0, self.span)

    def _changes(self, group: Group, output: ir.Clt) -> list[ir.Node]:
        build, span = self.build, self.span
        if group.coefficients:
            terms = []
            for clt, state in group.coefficients.items():
                names = {i: build.fresh(i) for i in clt.type.indices}
                kernel = self._kernel(output, build.rename(clt, {**names}, span), group.leaves)
                gathered = build.rename(build.carry(state, span), {**names}, span)
                terms.append(build.contract((kernel, gathered), tuple(names.values()), (), span))
            return terms
        slope = Gradient(build, output, group.leaves, span)
        terms = []
        for leaf, state in group.kets.items():
            if slope.depends(leaf):
                own = tuple(build.fresh(i) for i in leaf.type.indices)
                learned = build.rename(build.carry(state, span), dict(zip(leaf.type.indices, own, strict=True)), span)
                slots = (0,) if leaf.type.is_ket else ()
                terms.append(build.contract((slope.by(leaf, own), learned), own, slots, span))
        for matrix, trained in group.matrices.items():
            for outer in slope.outer(matrix):
                image = build.apply(trained.update, outer.member, False, outer.right, span)
                bracket = build.contract((outer.left, image), (), (0,), span)
                terms.append(build.contract((bracket,), (*outer.over, *outer.free), (), span))
        return terms

    def _kernel(self, f: ir.Node, g: ir.Node, leaves: list[Leaf]) -> ir.Node:
        first, second = gradients(self.build, f, g, leaves, self.span)
        return inner_products(self.build, first, second, leaves, self.span, bracket_width(f, self.span))

    # -- the updates --------------------------------------------------------------------------------------------
    def _follow(self, loss: ir.Node, clip: ir.Node | None) -> None:
        build, span = self.build, self.span
        values = {clt: self._moved_bracket(clt) for clt in self.outputs}
        slope = Gradient(build, loss, list(values.values()), span)
        chi = {clt: slope.by(value, clt.type.indices) for clt, value in values.items()}
        if clip is not None:
            scale = self._clipping(chi, clip)
            chi = {clt: build.mul(scale, x, span) for clt, x in chi.items()}
        for group in self.groups:
            if group.coefficients:
                for clt, state in group.coefficients.items():
                    self._advance(group, state, Parameter(state.name, state.type, build.constant(0, span), chi[clt]))
            else:
                self._follow_entries(group, chi)

    def _advance(self, group: Group, state: ir.State, parameter: Parameter) -> None:
        update, _, following = group.step(parameter, self)  # what decays W_0 moves no output: <∇f|W_0> vanishes
        self.following.update(following)
        self.following[state] = self.build.add(self.build.carry(state, self.span), update, self.span)

    def _follow_entries(self, group: Group, chi: Mapping[ir.Clt, ir.Node]) -> None:
        """Any optimizer: its body on the natural entries of Σ_b χ_b ∇f_b."""
        build, span = self.build, self.span
        slopes = {clt: Gradient(build, clt, group.leaves, span) for clt in self.outputs}
        for leaf, state in group.kets.items():
            own = leaf.type.indices
            parts = []
            for clt, slope in slopes.items():
                wanted = tuple(build.fresh(i) for i in own)
                product = build.contract((chi[clt], slope.by(leaf, wanted)), clt.type.indices, (), span)
                parts.append(build.rename(product, dict(zip(wanted, own, strict=True)), span))
            gradient = build.map("add", parts, span)
            self._advance(group, state, Parameter(state.name, state.type, leaf, gradient))
        for matrix, trained in group.matrices.items():
            state = trained.update
            parts = [entries(build, slope, matrix, state.slot, span, (chi[clt], clt.type.indices))
                     for clt, slope in slopes.items()]  # fmt: skip
            entry = ir.Array(type=replace(state.type), name=f"{matrix.name}_0", values=None, span=span)
            self._advance(group, state, Parameter(matrix.name, state.type, entry, build.map("add", parts, span), entry))

    def _clipping(self, chi: Mapping[ir.Clt, ir.Node], clip: ir.Node) -> ir.Node:
        """min(1, c / |gradient|), |gradient|² = Σ χ χ' Θ."""
        build, span = self.build, self.span
        leaves = [leaf for group in self.groups for leaf in group.leaves]
        terms = []
        for a, x in chi.items():
            for b, y in chi.items():
                names = {i: build.fresh(i) for i in b.type.indices}
                kernel = self._kernel(a, build.rename(b, {**names}, span), leaves)
                over = (*a.type.indices, *names.values())
                terms.append(build.contract((kernel, x, build.rename(y, {**names}, span)), over, (), span))
        norm = build.add(build.map("sqrt", (build.map("add", terms, span),), span), build.constant(1e-6, span), span)
        return build.map("min", (build.constant(1, span), build.map("div", (clip, norm), span)), span)


def _name(leaf: ir.Node) -> str:
    return f"|{leaf.symbol.name}>" if isinstance(leaf, ir.InitialKet) else "scalar"


#: The degree of what is no polynomial.
_NONLINEAR = 1000


def _linear(root: ir.Node, moving: set[ir.Node], absent: set[ir.Node]) -> bool:
    """Is root a combination of the `moving` nodes with coefficients free of them, and free of the `absent` ones?"""
    degree: dict[ir.Node, int] = {}
    for node in reachable([root]):
        degrees = [degree.get(a, 0) for a in node.args]
        if is_zero(node):
            degree[node] = 0
        elif node in moving or node in absent:
            degree[node] = 1 if node in moving else _NONLINEAR
        elif isinstance(node, ir.Map) and node.fn == "add":
            counted = [d for d, a in zip(degrees, node.args, strict=True) if not is_zero(a)]
            degree[node] = max(counted, default=0) if len(set(counted)) < 2 else _NONLINEAR
        elif isinstance(node, ir.Map) and (node.fn == "mul" or (node.fn == "div" and degrees[1] == 0)):
            degree[node] = sum(degrees)
        else:
            degree[node] = _NONLINEAR if any(degrees) else 0
    return degree[root] == 1 or is_zero(root)


__all__ = ["Change", "Group", "Step", "Stepped", "TangentLimit"]
