"""`parametrization ntk`: training in the neural tangent limit, as a program (TP IVb, Thm 2.4.7 and 2.9.19).

At width n an output is f = vᵀx/√n, its gradient kets are those of <v|x>, and every update of a parameter is n^-1/2 of
what the optimizer returns. So features keep their initial values, and an output moves by its linear part,

    f_t(ξ) = f_0(ξ) + Σ_p <<∇_p f(ξ), Δp_t>>,        Δp_t the sum of what the optimizer has returned for p,

where the gradient that the optimizer sees is Σ_b χ_b ∇_p f(ξ_b), χ_b = ∂loss/∂f_b. For a linear optimizer Δp_t is
Σ_b a_b ∇_p f(ξ_b), and the optimizer runs on the coefficients a: that is the tangent kernel. Any other optimizer runs
on natural entries, and a matrix's term is <dh|Q(...)|x>, an average over two independent neurons.

Minibatches and weight decay make the outputs at initialisation a family over the steps (step_families.py): f_0 at the
inputs of every step, and f^init_t, the output of the network whose weights have decayed to κ_t times the initial ones,
is then one Gaussian vector (Thm 2.10.3, with f^init_{t+1} in place of its f_0). Gradients of the decayed network by
p_t = κ_t p_0 are those by p_0 over κ_t.

A trained number that is added to the outputs, as an output bias, is not an average over neurons: its updates are not scaled
(TP IVb, 2.9.11: c = d = 0 for scalars). One inside the features would move them by order one, and has no such limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tp_compiler.diagnostics import Span, error
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder, is_zero
from tp_compiler.ir.types import Index, Type
from tp_compiler.ir.walk import reachable, rewrite
from tp_compiler.train.clipping import clipped
from tp_compiler.train.decay import OptimizerForm, classified, factors
from tp_compiler.train.on_entries import Parameter, Stepped
from tp_compiler.train.step_families import Now, StepIndex, reads, renamed
from tp_compiler.transform.gradient import Gradient, Leaf, entries
from tp_compiler.transform.lower import Trained
from tp_compiler.transform.tangent import bracket_width, gradients, inner_products

Change = Callable[[ir.Node], ir.Node]
#: Runs an optimizer for one parameter, its arguments changed: (update, part along W_0, following values of the states).
Step = Callable[[Parameter, Change], Stepped]


@dataclass(eq=False)
class Group:
    """Parameters that share one `update` line: their initial leaves, and their optimizer.

    `seen`: whether the limit sees their updates; if not, they only decay and count in the norm for clipping.
    `numbers`: trained numbers in outputs in addition to brackets, with their values in the loop.
    """

    name: str
    leaves: list[Leaf]
    step: Step
    span: Span
    seen: bool = True
    numbers: list[ir.Carry] = field(default_factory=list)
    optimizer: OptimizerForm = field(init=False)
    kept: list[ir.Node] | None = None  # κ_0, κ_1, ...: the factors of the initial values under weight decay
    coefficients: dict[ir.Clt, ir.State] = field(default_factory=dict)  # of a linear optimizer
    kets: dict[ir.Node, ir.State] = field(default_factory=dict)  # Δp of any other
    matrices: dict[ir.MatrixSymbol, Trained] = field(default_factory=dict)


class TangentLimit:
    """The loop and the outputs of a program in the neural tangent limit."""

    def __init__(
        self, build: Builder, loss: ir.Node, starts: Mapping[Leaf, Leaf], groups: list[Group], clip: ir.Node | None,
        clock: Index, head: Span, span: Span, centred: bool = False,
    ):  # fmt: skip
        self.build, self.span = build, span
        self.starts = starts  # current value -> initial value of every trained parameter that is at its start here
        self.groups = groups
        self.centred = centred  # the outputs at initialisation are 0 in the limit
        self.steps = StepIndex(build, clock.size - 1, head)
        self.following: dict[ir.State, ir.Node] = {}
        self.done: dict[ir.Node, ir.Node] = {}
        self._brackets: dict[ir.Clt, ir.Clt] = {}
        self._values: dict[ir.Clt, ir.Node] = {}
        self._numbers: dict[ir.Node, ir.Node] = {}  # trained numbers -> their values here: random, as f_0 is
        for group in groups:
            group.optimizer = classified(build, lambda p, g=group: g.step(p, _same), group.span)  # type: ignore[misc]
            group.kept = factors(
                build, group.optimizer, lambda p, g=group: g.step(p, _same), clock.size - 1, group.span  # type: ignore[misc]
            )  # fmt: skip
        self._group = {leaf: group for group in groups for leaf in group.leaves}
        self._decaying = {now for now, start in starts.items() if start in self._group and self._group[start].kept}
        brackets = [n for n in reachable([loss]) if isinstance(n, ir.Clt)]
        self.outputs = list(dict.fromkeys(self._bracket(n) for n in brackets))
        if not self.outputs:
            raise error(
                "NX173", "the neural tangent limit needs outputs that are `clt` brackets, but this loss has none", span,
                "write `clt <v|x>` in the network",
            )  # fmt: skip
        for group in groups:
            if group.seen:
                self._prepare(group)
            self._number(group)
        moved = self(loss)
        self._follow(moved, clip)

    # -- what nodes become --------------------------------------------------------------------------------------
    def __call__(self, node: ir.Node) -> ir.Node:
        """A node of the loop, or after it, in the limit: features frozen (except for decay), outputs moving."""
        return rewrite(
            self.build, node, self._moved, self.span, self.done, self._multiplied(self._last, self.steps.now)
        )

    def _moved(self, node: ir.Node) -> ir.Node | None:
        if isinstance(node, ir.Clt):
            return self._moved_bracket(self._bracket(node))
        return self._start(node, self._last, self.steps.now)

    def _moved_bracket(self, clt: ir.Clt) -> ir.Node:
        if clt not in self._values:
            change = self._change(clt)
            self._values[clt] = change if self.centred else self.build.add(self.steps.now(clt), change, self.span)
        return self._values[clt]

    @property
    def _last(self) -> Index:
        """The index over the steps and what follows the last."""
        return self.steps.indices[self.steps.steps + 1]

    def _start(self, node: ir.Node, index: Index, place: Change) -> ir.Node | None:
        """A current parameter, as the initial one times its decay."""
        if isinstance(node, ir.Carry):
            start = self.starts.get(node)
            return (
                self._shrunk(start, start, index, place)
                if isinstance(start, ir.Node)
                else self._numbers.get(node, node)
            )
        return None if node.args else node

    def _multiplied(self, index: Index, place: Change) -> Callable[[ir.Node, tuple[ir.Node, ...]], ir.Node | None]:
        """A product with a current matrix, as that with the initial one times its decay."""

        def made(node: ir.Node, args: tuple[ir.Node, ...]) -> ir.Node | None:
            if not isinstance(node, ir.MatMul) or node.matrix.start is None:
                return None
            start = node.matrix.start
            found = self.build.matmul(start, node.member, node.transposed, args[0], self.span)
            return self._shrunk(found, start, index, place)

        return made

    def _shrunk(self, node: ir.Node, leaf: Leaf, index: Index, place: Change) -> ir.Node:
        kept = self._kept(self._group[leaf], index) if leaf in self._group else None
        return node if kept is None else self.build.mul(place(kept), node, self.span)

    def _kept(self, group: Group, index: Index) -> ir.Node | None:
        """κ over the steps."""
        return self.build.stack(tuple(group.kept[: index.size]), index, self.span) if group.kept else None

    def _bracket(self, node: ir.Clt) -> ir.Clt:
        """A bracket at initialisation; a family over the steps if minibatches or decay change it."""
        if node not in self._brackets:
            index = self.steps.reach(node)
            multiplied = self._multiplied(index, _same)
            found = rewrite(self.build, node, lambda n: self._start(n, index, _same), self.span, {}, multiplied)
            found = self.steps.spread(found, index) if reads(node, self._decaying) else found
            assert isinstance(found, ir.Clt)
            self._brackets[node] = found
        return self._brackets[node]

    # -- states -------------------------------------------------------------------------------------------------
    def _prepare(self, group: Group) -> None:
        """States that accumulate the updates of a group's parameters."""
        zero = self.build.constant(0, self.span)
        if group.optimizer.linear:
            for k, clt in enumerate(self.outputs):
                kind = Type(clt.type.indices, (), True)
                group.coefficients[clt] = ir.State(f"{group.name}.a{k}", kind, zero, self.span)
            return
        for leaf in group.leaves:
            if isinstance(leaf, ir.MatrixSymbol):
                kind = Type(leaf.indices, ((0, leaf.rows), (self.build.slot(), leaf.cols)), True)
                group.matrices[leaf] = Trained(ir.State(leaf.name, kind, zero, self.span))
            else:
                kind = replace(leaf.type, random=True)
                group.kets[leaf] = ir.State(_name(leaf), kind, zero, self.span)

    def _number(self, group: Group) -> None:
        for number in group.numbers:
            state = replace(number.state, type=replace(number.type, random=True))
            self._numbers[number] = self.build.carry(state, self.span)

    # -- how an output moves ------------------------------------------------------------------------------------
    def _change(self, output: ir.Clt) -> ir.Node:
        """Σ_p <<∇_p f, Δp>> at this step."""
        seen = [group for group in self.groups if group.seen]
        terms = [t for group in seen for t in self._changes(group, output) if not is_zero(t)]
        return self.build.map("add", terms, self.span) if terms else self.build.constant(0, self.span)

    def _changes(self, group: Group, output: ir.Clt) -> list[ir.Node]:
        build, span = self.build, self.span
        if group.coefficients:
            terms = []
            for clt, state in group.coefficients.items():
                other, names = renamed(build, clt, span)
                kernel = self.steps.now(self._kernel(output, other, group))
                gathered = build.rename(build.carry(state, span), {**names}, span)
                terms.append(build.contract((kernel, gathered), tuple(names.values()), (), span))
            return terms
        slope = self._slope(output, group)
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

    def _slope(self, clt: ir.Clt, group: Group) -> Now:
        """The gradients of an output by a group's parameters at this step."""
        return Now(self.steps, Gradient(self.build, clt, group.leaves, self.span), self._weight(clt, group))

    def _weight(self, family: ir.Node, group: Group) -> ir.Node:
        """1/κ over the hidden index of a family over the steps (possibly renamed)."""
        one = self.build.constant(1, self.span)
        own = next((i for i in family.type.indices if i.axis.name == "step#"), None)
        kept = self._kept(group, own) if own is not None else None
        return one if kept is None else self.build.map("div", (one, kept), self.span)

    def _kernel(self, f: ir.Node, g: ir.Node, group: Group) -> ir.Node:
        """Σ_p <<∇_p f, ∇_p g>> over a group's parameters."""
        build, span = self.build, self.span
        first, second = gradients(build, f, g, group.leaves, span)
        found = inner_products(build, first, second, group.leaves, span, bracket_width(f, span))
        return build.map("mul", (self._weight(f, group), self._weight(g, group), found), span)

    # -- the updates --------------------------------------------------------------------------------------------
    def _follow(self, loss: ir.Node, clip: ir.Node | None) -> None:
        build, span = self.build, self.span
        values = {clt: self._moved_bracket(clt) for clt in self.outputs}
        slope = Gradient(build, loss, list(values.values()), span)
        chi = {clt: slope.by(value, value.type.indices) for clt, value in values.items()}
        by_numbers = Gradient(build, loss, list(self._numbers.values()), span)
        scale = None
        if clip is not None:
            squares = [by_numbers.by(x, x.type.indices) for x in self._numbers.values()]
            scale = self._clipping(chi, clip, [build.contract((x, x), x.type.indices, (), span) for x in squares])
            chi = {clt: build.mul(scale, x, span) for clt, x in chi.items()}
        for group in self.groups:
            for number in group.numbers:
                value = self._numbers[number]
                assert isinstance(value, ir.Carry)
                pull = by_numbers.by(value, value.type.indices)
                pull = pull if scale is None else build.mul(scale, pull, span)
                pull = pull if group.seen else build.constant(0, span)
                self._advance(group, value.state, Parameter(value.state.name, value.type, value, pull))
            if not group.seen:
                continue
            if group.coefficients:
                for clt, state in group.coefficients.items():
                    index = self.steps.index(clt)
                    slot = build.mul(self.steps.here(index), chi[clt], span) if index is not None else chi[clt]
                    current = build.carry(state, span)
                    self._advance(group, state, Parameter(state.name, state.type, current, slot))
            else:
                self._follow_entries(group, chi)

    def _advance(self, group: Group, state: ir.State, parameter: Parameter) -> None:
        update, _, following = group.step(parameter, self)  # the decay of W_0 itself is in κ
        self.following.update(following)
        self.following[state] = self.build.add(self.build.carry(state, self.span), update, self.span)

    def _follow_entries(self, group: Group, chi: Mapping[ir.Clt, ir.Node]) -> None:
        """Any optimizer: its body on the natural entries of Σ_b χ_b ∇f_b."""
        build, span = self.build, self.span
        within = group.optimizer.decay == "within"
        slopes = {clt: self._slope(clt, group) for clt in self.outputs}
        for leaf, state in group.kets.items():
            own = leaf.type.indices
            parts = []
            for clt, slope in slopes.items():
                wanted = tuple(build.fresh(i) for i in own)
                product = build.contract((chi[clt], slope.by(leaf, wanted)), self._batch(clt), (), span)
                parts.append(build.rename(product, dict(zip(wanted, own, strict=True)), span))
            current = leaf if within else build.carry(state, span)
            self._advance(group, state, Parameter(state.name, state.type, current, build.map("add", parts, span)))
        for matrix, trained in group.matrices.items():
            state = trained.update
            parts = [entries(build, slope, matrix, state.slot, span, (chi[clt], self._batch(clt)))
                     for clt, slope in slopes.items()]  # fmt: skip
            entry = ir.Array(type=replace(state.type), name=f"{matrix.name}_0", values=None, span=span)
            current = entry if within else build.carry(state, span)
            gradient = build.map("add", parts, span)
            self._advance(
                group, state, Parameter(matrix.name, state.type, current, gradient, entry if within else None)
            )

    def _batch(self, clt: ir.Clt) -> tuple[Index, ...]:
        """The indices of an output at one step."""
        return tuple(i for i in clt.type.indices if i != self.steps.index(clt))

    def _clipping(self, chi: Mapping[ir.Clt, ir.Node], clip: ir.Node, squares: list[ir.Node]) -> ir.Node:
        """min(1, c / |gradient|), |gradient|² = Σ χ χ' Θ plus the squares of the gradients by numbers."""
        build, span = self.build, self.span
        terms = list(squares)
        for group in self.groups:
            for a, x in chi.items():
                for b, y in chi.items():
                    other, names = renamed(build, b, span)
                    kernel = self._now_twice(self._kernel(a, other, group), names, b)
                    mine, theirs = self._batch(a), self._batch(b)
                    y = build.rename(y, {i: names[i] for i in theirs}, span)
                    terms.append(build.contract((kernel, x, y), (*mine, *(names[i] for i in theirs)), (), span))
        return clipped(build, clip, build.map("add", terms, span), span)

    def _now_twice(self, kernel: ir.Node, names: Mapping[Index, Index], clt: ir.Clt) -> ir.Node:
        """A kernel at this step, in its second family too."""
        first = self.steps.now(kernel)
        index = self.steps.index(clt)
        if index is None:
            return first
        return self.steps.now(self.build.rename(first, {names[index]: index}, self.span))


def _same(node: ir.Node) -> ir.Node:
    return node


def _name(leaf: ir.Node) -> str:
    return f"|{leaf.symbol.name}>" if isinstance(leaf, ir.InitialKet) else "scalar"


__all__ = ["Change", "Group", "Step", "TangentLimit"]
