"""The program of a walked module, as NEXORT text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tp_compiler.torch.arithmetic import ATOM, PRODUCT, wrap
from tp_compiler.torch.calls import HIDDEN
from tp_compiler.torch.declarations import Declaration, declare
from tp_compiler.torch.dimensions import Dimension, Group, Leaf, Sizes, leaves, ratio
from tp_compiler.torch.folding import FoldedText, Merged
from tp_compiler.torch.laws import Fill, number
from tp_compiler.torch.lines import DeclaredEntry, StatementLine, body_of, family, ranged
from tp_compiler.torch.names import TextNames
from tp_compiler.torch.powers import Again, Scales
from tp_compiler.torch.refusals import Untraceable, at, refusal
from tp_compiler.torch.returned import Results, Returned
from tp_compiler.torch.steps import (
    Across,
    Constants,
    Contraction,
    Figure,
    Lookup,
    Pieces,
    Pointwise,
    Reduction,
    Step,
    View,
    Weight,
    Windows,
    own_leaves,
)
from tp_compiler.torch.walk import Walked

Text = tuple[str, int]
Bound = Mapping[Leaf, str]


@dataclass(eq=False)
class ModuleText:
    """The parts of a program, and what each parameter became."""

    header: list[str]
    declarations: list[str]
    body: list[str]
    outputs: dict[str, str]  # name with brackets -> expression
    declared: dict[Weight, Declaration]
    names: dict[Weight, str]
    families: dict[Weight, list[str]]
    members: dict[Weight, tuple[int, ...]]  # positions from 1 in the first indices: parameters of repeated blocks
    notes: list[str]
    laws: dict[str, tuple[Fill, Fill]]
    returned: dict[str, Returned]  # by the path of a module
    dimensions: dict[str, list[list[str]]]  # name with brackets -> the indices of each dimension of torch's tensor
    namer: TextNames
    random: list[Step]  # whose brackets are at the scale of the central limit theorem

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the axes by their indices."""
        return {name: d.sizes[0] for d, names in self.namer.axes.items() for name in names}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the outputs as torch has them, by name with brackets."""
        sizes = self.sizes
        return {
            full: tuple(math.prod(sizes[i] for i in names) for names in dims) for full, dims in self.dimensions.items()
        }

    @property
    def text(self) -> str:
        ends = [f"output {name}" + (f" = {value}" if value else "") for name, value in self.outputs.items()]
        return "\n".join([*self.header, "", *self.declarations, "", *self.body, "", *ends, ""])


def write(walked: Walked, widths: Sizes, base: int) -> ModuleText:
    """Starts again as long as powers of n are being settled."""
    while True:
        try:
            return TextWriter(walked, widths, base).run()
        except Again:
            continue


class TextWriter:
    def __init__(self, walked: Walked, widths: Sizes, base: int):
        self.walked, self.widths, self.base = walked, widths, base
        self.names = TextNames(widths)
        self.declared: dict[Weight, Declaration] = {}
        self.named: dict[Step, str] = {}
        self.families: dict[Weight, list[str]] = {}
        self.entries: list[DeclaredEntry] = []
        self.lines: list[StatementLine] = []
        self.powers = Scales(lambda weight: self.declared[weight].power)
        self.live = _live(walked)
        self.uses = _uses(walked, self.live)
        self._parts: dict[tuple[Step, int], str] = {}
        self._heights: dict[Step, int] = {}  # how many steps are written inside one another; 0 for a statement
        single = {s.name.removesuffix(".weight") for s in self.live if isinstance(s, Weight | Constants)} | set(
            walked.outputs
        )
        self.names.keep(single)

    # ------------------------------------------------------------------------------------------------- the program

    def run(self) -> ModuleText:
        outputs = {name: self.names.unique(name) for name in self.walked.outputs}
        for step in self.live:
            if isinstance(step, Weight):
                self._declare(step)
        for step in self.live:
            self.powers.see(step)
        for name, view in self.walked.outputs.items():
            self.powers.output(name, view)
        for step in self.live:
            if isinstance(step, Weight | Constants) or self._is_inline(step):
                continue
            with at(step.path, step.label):
                self._statement(step)
        for name, view in self.walked.outputs.items():
            with at(view.step.path, view.step.label):
                full, value = self._output(outputs[name], view)
                self.lines.append(StatementLine("", f"{full} = {value}", is_output=True))
        try:
            folded = FoldedText(self.lines, self.entries, self.names)
        except Merged:
            raise Again from None
        return self._put_together(folded)

    def _put_together(self, folded: FoldedText) -> ModuleText:
        ends = [line.text.partition(" = ") for line in folded.lines if line.is_output]
        names, families, members = {}, {}, {}
        for weight in self.declared:
            names[weight], members[weight] = folded.place(self.named[weight])
            families[weight] = list(folded.entries[names[weight]].indices)
        notes = _gathered(note for made in self.declared.values() for note in made.notes)
        return ModuleText(
            self._header(), [line for entry in folded.entries.values() for line in entry.lines],
            body_of([line for line in folded.lines if not line.is_output]),
            {full: value for full, _, value in ends}, self.declared, names, families, members, notes, self.walked.laws,
            self._returned(folded),
            {full: _divided(full, v) for (full, _, _), v in zip(ends, self.walked.outputs.values(), strict=True)},
            self.names, [s for s in self.live if isinstance(s, Contraction) and s.random],
        )  # fmt: skip

    def _returned(self, folded: FoldedText) -> dict[str, Returned]:
        names = {
            step: folded.place(name)[0] if isinstance(step, Weight) else folded.called(name)
            for step, name in self.named.items()
        }
        outputs = [re.split(r"\W", line.text, maxsplit=1)[0] for line in folded.lines if line.is_output]
        ends = dict(zip(outputs, self.walked.outputs.values(), strict=True))
        return Results(self.walked.results, ends, self.live, names, self.powers.of).returned()

    def _header(self) -> list[str]:
        axes = [f"axis {', '.join(names)} : {d.sizes[0]}" for d, names in self.names.axes.items()]
        classes = [f"width {name} = {size}" for size, name in self.names.classes.items()]
        return ["import layers", "", *axes, *classes]

    def _declare(self, weight: Weight) -> None:
        uses = [v.factors for step in self.live for v in step.operands if v.step is weight]
        uses += [v.factors for v in self.walked.outputs.values() if v.step is weight]
        with at(weight.name.rpartition(".")[0], weight.name.rpartition(".")[2]):
            made = declare(weight, self.walked.laws[weight.name], self.widths, self.base, uses)
            self.declared[weight] = made
            name = self.named[weight] = self.names.of_weight(weight.name)
            used: set[str] = set()
            indices = self.families[weight] = [self.names.index(p, used) for p in made.families]
            classes = [self.names.width(p) for p in made.widths]
        of = "" if set(classes) <= {"n"} else f" : {' x '.join(classes)}"
        law = f" {'~' if '(' in made.law else '='} {made.law}" if made.law else ""
        law += " frozen" if weight.frozen else ""
        entry = DeclaredEntry(
            made.kind, name, tuple(indices), of + law, self._shape(weight), origins=(weight.name,), power=made.power
        )
        if weight.table and made.kind == "ket" and not made.law:
            entry.law = f"{of} from {self._rows(name, weight, made, indices)} frozen"
        elif not made.law:
            values = weight.values[0].double().numpy() if made.values is None else made.values
            entry.values = values.reshape([p.dimension.sizes[0] for p in made.families])
            entry.given = self.names.unique(f"{name}_initial") if indices else ""
        self.entries.append(entry)

    def _rows(self, name: str, weight: Weight, made: Declaration, indices: Sequence[str]) -> str:
        """Declares the values of a table, of which every neuron draws a row."""
        assert made.values is not None
        count = len(made.values)
        row = self.names.index(Leaf(None, Dimension((count, count))), set(indices))
        data = self.names.unique(f"{name}_table")
        self.entries.append(DeclaredEntry("data", data, (row, *indices), "", values=made.values))
        return f"{data}[{','.join([row, *indices])}]"

    def _shape(self, step: Step) -> tuple[Any, ...]:
        """The axes of a step and the widths of its neurons."""
        found = [p.dimension for p in own_leaves(step)]
        return (
            tuple(d for d in found if not d.is_width),
            tuple(ratio(d, self.widths) for d in found if d.is_width),
        )

    def _data(self, name: str, step: Constants, values: np.ndarray) -> str:
        """Declares numbers over the axes of a step."""
        used: set[str] = set()
        own = own_leaves(step)
        indices = [self.names.index(p, used) for p in own]
        name = self.names.unique(name)
        shaped = values.reshape([p.dimension.sizes[0] for p in own])
        self.entries.append(DeclaredEntry("data", name, tuple(indices), "", self._shape(step), shaped))
        return name

    def _output(self, name: str, view: View) -> tuple[str, str]:
        if any(p.dimension.is_width for group in view.groups for p in leaves(group)):
            raise refusal(
                "NX708",
                f"output `{name}` has a dimension that grows with the width",
                "return numbers: readouts, or means",
            )
        used: set[str] = set()
        names = [[self.names.index(p, used) for p in leaves(g)] for g in view.groups]
        bound = {p: n for g, ns in zip(view.groups, names, strict=True) for p, n in zip(leaves(g), ns, strict=True)}
        indices = [n for ns in names for n in ns]
        value, _ = self._operand(view, bound, used)
        return name + family(indices), value

    # --------------------------------------------------------------------------------------------------- statements

    def _is_inline(self, step: Step) -> bool:
        """Is the step written where it is used?"""
        if isinstance(step, Lookup):
            embedded = isinstance(step.operand.step, Weight) and _is_ket(step)
            return not (embedded and len(self.uses.get(step, [])) > 1)
        if step not in self._heights:
            inner = [
                self._heights[v.step] for v in step.operands if self._is_inline(v.step) and v.step in self._heights
            ]
            self._heights[step] = (1 + max(inner, default=0)) if self._may_be_inline(step) else 0
            if self._heights[step] > 2:
                self._heights[step] = 0
        return self._heights[step] > 0

    def _may_be_inline(self, step: Step) -> bool:
        users = self.uses.get(step, [])
        if len(users) != 1:
            return False
        (user,) = users
        if user is None:
            return isinstance(step, Pointwise | Contraction | Reduction)
        if user.path != step.path or not (isinstance(step, Pointwise | Contraction) or _is_call(step)):
            return False
        if isinstance(user, Contraction):
            return user.left.is_matrix or user.right.is_matrix
        return isinstance(user, Pointwise) or (isinstance(user, Across) and user.function == "softmax")

    def _statement(self, step: Step) -> None:
        if _widths(step) > 1:
            raise Untraceable(
                "NX704", "a tensor with two dimensions that grow with the width", "sum one of them, or keep it finite"
            )
        ket = _is_ket(step)
        name = self.named[step] = self.names.of_step(step.path, step.role or step.label)
        used: set[str] = set()
        names = {p: self.names.index(p, used) for p in own_leaves(step) if not p.dimension.is_width}
        if isinstance(step, Pieces):
            self._pieces(step, name, names, used, ket)
            return
        value, _ = self._formula(step, names, used)
        self._bind(step, name, f"{self._reference(name, list(names.values()), ket)} = {value}")

    def _bind(self, step: Step, name: str, text: str) -> None:
        self.lines.append(StatementLine(step.path, text, name, self._shape(step)))

    def _reference(self, name: str, indices: Sequence[str], ket: bool) -> str:
        full = name + family(indices)
        return f"|{full}>" if ket else full

    def _pieces(self, step: Pieces, name: str, names: dict[Leaf, str], used: set[str], ket: bool) -> None:
        along = leaves(step.groups[step.dim])
        if len(along) > 1:
            raise Untraceable(
                "NX704", "a dimension is put together and then split otherwise", "split it as it was put together"
            )
        done = 0
        for piece in step.pieces:
            length = piece.shape[step.dim][0]
            loop = names[along[0]] if along else ""
            at_own = loop if not done else f"{loop} - {done}"
            bound: dict[Leaf, str] = {}
            for k, (ours, theirs) in enumerate(zip(step.groups, piece.groups, strict=True)):
                texts = [at_own] if k == step.dim else [names.get(p, "") for p in leaves(ours)]
                if leaves(theirs):
                    if len(leaves(theirs)) != len(texts):
                        raise Untraceable(
                            "NX704", "a split dimension is put together with others", "put them together whole"
                        )
                    bound.update(zip(leaves(theirs), texts, strict=True))
            value, _ = self._operand(piece, bound, set(used))
            line = f"{self._reference(name, list(names.values()), ket)} = {value}"
            self._bind(step, name, f"for {loop} in {done + 1}..{done + length} {{ {line} }}" if along else line)
            done += length

    # --------------------------------------------------------------------------------------------------- expressions

    def _operand(self, view: View, bound: Bound, used: set[str], factors: bool = True) -> Text:
        """A tensor in an expression: `bound` names its dimensions."""
        at_place = dict(bound)
        for place, position in view.fixed:
            at_place.update(_positions(place, position))
        text = self._value(view.step, at_place, used)
        coefficient = _product(view.factors) if factors else 1.0
        if coefficient != 1.0 and isinstance(view.step, Constants) and not view.step.slots:
            return _number(coefficient * float(view.step.values))
        return _scaled(coefficient, text)

    def _value(self, step: Step, bound: Bound, used: set[str]) -> Text:
        if isinstance(step, Constants):
            return self._given(step, bound)
        own = own_leaves(step)
        if isinstance(step, Weight) or not self._is_inline(step):
            indices = [bound[p] for p in own if not p.dimension.is_width]
            return self._reference(self.named[step], indices, _is_ket(step)), ATOM
        return self._formula(step, {p: bound[p] for p in own if not p.dimension.is_width}, used)

    def _given(self, step: Constants, bound: Bound) -> Text:
        own = own_leaves(step)
        if step.values is None:
            return bound[own[0]], ATOM
        if not step.slots:
            return _number(float(step.values))
        if step not in self.named:
            self.named[step] = self._data(step.name, step, np.maximum(np.asarray(step.values, float), HIDDEN))
        return self._reference(self.named[step], [bound[p] for p in own], False), ATOM

    def _formula(self, step: Step, names: Bound, used: set[str]) -> Text:
        match step:
            case Pointwise():
                return self._pointwise(step, names, used)
            case Contraction():
                return self._contraction(step, names, used)
            case Reduction():
                return self._reduction(step, names, used)
            case Across():
                return self._across(step, names, used)
            case Lookup():
                return self._lookup(step, names, used)
            case Windows():
                return self._windows(step, names, used)
        raise AssertionError(step)

    def _match(self, ours: Group, theirs: Group, names: Bound) -> dict[Leaf, str]:
        """Names of an operand's dimension, from those of the step's own."""
        if not leaves(theirs):
            return {}
        return {b: names.get(a, "") for a, b in zip(leaves(ours), leaves(theirs), strict=True)}

    def _pointwise(self, step: Pointwise, names: Bound, used: set[str]) -> Text:
        terms: list[Text] = []
        for term in step.arguments:
            if isinstance(term, Figure):
                terms.append(_number(max(term.value, HIDDEN)))
                continue
            bound: dict[Leaf, str] = {}
            offset = len(step.groups) - len(term.groups)
            for k, group in enumerate(term.groups):
                bound |= self._match(step.groups[offset + k], group, names)
            terms.append(self._operand(term, bound, used))
        return step.write(*terms)

    def _contraction(self, step: Contraction, names: Bound, used: set[str]) -> Text:
        one, other, result = step.labels
        sides = ((step.left, one), (step.right, other))
        bounds: list[dict[Leaf, str]] = [{}, {}]
        sums: list[str] = []
        factor = Fraction(1)
        bracket: list[bool] | None = None
        for label in dict.fromkeys(one + other):
            groups = [leaves(v.groups[s.index(label)]) if label in s else [] for v, s in sides]
            if label in result:
                for bound, group in zip(bounds, groups, strict=True):
                    bound |= self._match(step.groups[result.index(label)], group, names)
                continue
            for k, place in enumerate(next((g for g in groups if g), [])):
                carried = [bool(g) and g[k].slot is not None for g in groups]
                if place.dimension.is_width:
                    bracket = carried
                    factor *= ratio(place.dimension, self.widths)
                elif not any(carried):
                    factor *= place.dimension.sizes[0]
                else:
                    index = self.names.index(place, used)
                    sums.append(index)
                    for bound, group in zip(bounds, groups, strict=True):
                        if group:
                            bound[group[k]] = index
        coefficient = _product((step.scale, *step.left.factors, *step.right.factors))
        terms = [self._operand(v, b, used, factors=False) for (v, _), b in zip(sides, bounds, strict=True)]
        if step.left.is_matrix or step.right.is_matrix:
            text = self._applied(step, terms, bracket)
            factor = Fraction(1)
        else:
            text = _multiplied(terms, bracket, [_is_ket(v.step) for v, _ in sides], step.random)
            if step.random:
                coefficient *= float(factor) ** 0.5
                factor = Fraction(1)
        if sums:
            text = f"sum[{','.join(sums)}]({text[0]})", ATOM
        return _scaled(coefficient * float(factor), text)

    def _applied(self, step: Contraction, terms: list[Text], bracket: list[bool] | None) -> Text:
        """W |x>, or W^T |x> if the sum runs over the rows."""
        (matrix, labels), term, x = (
            ((step.left, step.labels[0]), terms[0], terms[1])
            if step.left.is_matrix
            else ((step.right, step.labels[1]), terms[1], terms[0])
        )
        rows, columns = [p for p in own_leaves(matrix.step) if p.dimension.is_width]
        summed = [
            (p.slot, p.way) for k, c in enumerate(labels) if c not in step.labels[2] for p in leaves(matrix.groups[k])
        ]
        if bracket is None or not all(bracket):
            raise Untraceable("NX706", "a weight matrix that is not applied to a vector", "apply it as W @ x")
        over_rows, over_columns = ((p.slot, p.way) in summed for p in (rows, columns))
        if over_rows == over_columns:
            raise Untraceable("NX706", "a weight matrix summed over both its sides", "apply it as W @ x")
        name = term[0] + ("^T" if over_rows else "")
        return f"{name} {wrap(*x, ATOM)}", PRODUCT

    def _reduction(self, step: Reduction, names: Bound, used: set[str]) -> Text:
        bound: dict[Leaf, str] = {}
        sums: list[str] = []
        factor, neurons = Fraction(1), False
        for k, group in enumerate(step.operand.groups):
            if k not in step.over:
                bound |= self._match(step.groups[k], group, names)
                continue
            for place in leaves(group):
                width = place.dimension.is_width
                if width and step.function not in ("mean", "sum"):
                    raise Untraceable(
                        "NX703", f"{step.function} over a dimension that grows with the width", "use mean"
                    )
                if step.function == "sum" and (width or place.slot is None):
                    factor *= ratio(place.dimension, self.widths) if width else place.dimension.sizes[0]
                if place.slot is None:
                    continue
                neurons = neurons or width
                if not width:
                    bound[place] = self.names.index(place, used)
                    sums.append(bound[place])
        text = self._operand(step.operand, bound, used)
        if neurons:
            text = f"<{_label(text)}>", ATOM
        if sums:
            text = f"{step.function}[{','.join(sums)}]({text[0]})", ATOM
        return text if factor == 1 else (f"{number(float(factor))} * {wrap(*text, ATOM)}", PRODUCT)

    def _across(self, step: Across, names: Bound, used: set[str]) -> Text:
        places = [p for k in step.over for p in leaves(step.groups[k])]
        bound: dict[Leaf, str] = {}
        for ours, theirs in zip(step.groups, step.operand.groups, strict=True):
            bound |= self._match(ours, theirs, names)
        if step.function in ("layernorm", "rmsnorm"):
            return self._normalised(step, names, bound, places, used)
        if any(p.dimension.is_width for p in places):
            raise Untraceable(
                "NX703", f"{step.function} over a dimension that grows with the width", "use it over finite dimensions"
            )
        text, _ = self._operand(step.operand, bound, used)
        if not places:
            return ("1", ATOM) if step.function == "softmax" else (text, PRODUCT)
        if any(p.slot is None for p in places):
            raise Untraceable("NX703", f"{step.function} of repeated entries", "apply it before repeating")
        return f"{step.function}[{','.join(names[p] for p in places)}]({text})", ATOM

    def _normalised(
        self, step: Across, names: Bound, bound: dict[Leaf, str], places: list[Leaf], used: set[str]
    ) -> Text:
        """Over the neurons by the library's layer; else over axes, and over the neurons if they are among the dimensions."""
        x, _ = self._operand(step.operand, bound, used)
        eps = f"{step.eps!r}"
        if _is_call(step):
            return f"{step.function}({x}, {eps})", ATOM
        ket, own = _is_ket(step), own_leaves(step)
        inner = {p: self.names.index(p, used) for p in places if not p.dimension.is_width}
        ours = _partners(step)
        moved = {p: inner.get(ours[p], text) for p, text in bound.items()}
        over, neurons = list(inner.values()), any(p.dimension.is_width for p in places)
        name = x
        if step.function == "layernorm":
            other, _ = self._operand(step.operand, moved, used)
            mean = f"<{_label((other, ATOM))}>" if neurons else other
            mean = f"mean[{','.join(over)}]({mean})" if over else mean
            fresh = self.names.unique(f"{self.named[step]}_centred")
            name = self._reference(fresh, [names[p] for p in own if p in names], ket)
            self._bind(step, fresh, f"{name} = {x} - {mean}")
            other = self._reference(fresh, [inner.get(p, names.get(p, "")) for p in own if p in names], ket)
        else:
            other, _ = self._operand(step.operand, moved, used)
        square = f"<{_label((other, ATOM))}|{_label((other, ATOM))}>" if neurons else f"square({other})"
        square = f"mean[{','.join(over)}]({square})" if over else square
        return f"{name} / sqrt({square} + {eps})", PRODUCT

    def _lookup(self, step: Lookup, names: Bound, used: set[str]) -> Text:
        bound: dict[Leaf, str] = {}
        count = len(step.positions.groups)
        for k, group in enumerate(step.operand.groups):
            if k != step.dim:
                bound |= self._match(step.groups[k if k < step.dim else k - 1 + count], group, names)
        at_place: dict[Leaf, str] = {}
        for k, group in enumerate(step.positions.groups):
            at_place |= self._match(step.groups[step.dim + k], group, names)
        along = leaves(step.operand.groups[step.dim])
        rest = np.asarray(step.positions.values, int)
        for k in reversed(range(len(along))):
            size = along[k].dimension.sizes[0]
            bound[along[k]] = self._positions_text(step, k, rest % size, at_place)
            rest = rest // size
        return self._operand(step.operand, bound, used)

    def _positions_text(self, step: Lookup, part: int, values: np.ndarray, bound: Bound) -> str:
        if not step.positions.slots:
            return str(int(values) + 1)
        source, key = step.positions, (step.positions, part)
        own = own_leaves(source)
        if key not in self._parts:
            self._parts[key] = self._data(source.name, source, values + 1)
        return self._reference(self._parts[key], [bound[p] for p in own], False)

    def _windows(self, step: Windows, names: Bound, used: set[str]) -> Text:
        bound: dict[Leaf, str] = {}
        for k, group in enumerate(step.operand.groups):
            if k != step.dim:
                bound |= self._match(step.groups[k if k < step.dim else k + 1], group, names)
        (source,) = leaves(step.operand.groups[step.dim])
        inner = bound[source] = self.names.index(source, used)
        (target,), (window,) = (leaves(step.groups[step.dim + k]) for k in (0, 1))
        text, _ = self._operand(step.operand, bound, used)
        options = f", stride = {step.stride}, padding = {step.padding}"
        return f"unfold[{names[target]},{inner},{names[window]}]({text}{options})", ATOM


def _divided(full: str, view: View) -> list[list[str]]:
    """The indices of an output, for each dimension of its tensor."""
    indices = iter(full.rpartition("[")[2].rstrip("]").split(","))
    return [[next(indices) for _ in leaves(group)] for group in view.groups]


def _widths(step: Step) -> int:
    return sum(p.dimension.is_width for p in own_leaves(step))


def _is_call(step: Step) -> bool:
    """Is it normalised over the neurons alone: a layer of the library?"""
    if not isinstance(step, Across) or step.function not in ("layernorm", "rmsnorm"):
        return False
    return [p.dimension.is_width for k in step.over for p in leaves(step.groups[k])] == [True]


def _is_ket(step: Step) -> bool:
    return _widths(step) == 1


def _gathered(notes: Iterable[str]) -> list[str]:
    """Notes `name: text`, with one line for each of the parameters of which the same is said."""
    found: dict[str, list[str]] = {}
    for note in notes:
        name, _, text = note.partition(": ")
        found.setdefault(text, []).append(name)
    return [f"{'each of ' * (len(names) > 1)}{ranged(names)}: {text}" for text, names in found.items()]


def _partners(step: Across) -> dict[Leaf, Leaf]:
    """The step's own dimension for each of the operand's."""
    return {
        b: a
        for ours, theirs in zip(step.groups, step.operand.groups, strict=True)
        if leaves(theirs)
        for a, b in zip(leaves(ours), leaves(theirs), strict=True)
    }


def _multiplied(terms: list[Text], bracket: list[bool] | None, kets: list[bool], random: bool) -> Text:
    """A product, or a bracket over neurons."""
    if bracket is None:
        first, second = (terms[1], terms[0]) if kets[0] and not kets[1] else (terms[0], terms[1])
        return f"{wrap(*first, PRODUCT)} * {wrap(*second, PRODUCT)}", PRODUCT
    if all(bracket):
        text = f"<{_label(terms[0])}|{_label(terms[1])}>"
        return (f"clt {text}", PRODUCT) if random else (text, ATOM)
    if not any(bracket):
        return f"{wrap(*terms[0], PRODUCT)} * {wrap(*terms[1], PRODUCT)}", PRODUCT
    k = bracket.index(True)
    return f"{wrap(*terms[1 - k], PRODUCT)} * <{_label(terms[k])}>", PRODUCT


def _scaled(coefficient: float, text: Text) -> Text:
    if abs(coefficient - 1) < 1e-15:
        return text
    return f"{wrap(*_number(coefficient), ATOM)} * {wrap(*text, ATOM)}", PRODUCT


def _label(text: Text) -> str:
    """A ket inside a bracket."""
    bare = re.fullmatch(r"\|([^|<>]*)>", text[0])
    return bare[1] if bare else f"({text[0]})"


def _number(value: float) -> Text:
    text = number(value)
    return text, ATOM if value >= 0 and "/" not in text else (PRODUCT if value >= 0 else 0)


def _product(factors: Iterable[Figure]) -> float:
    found = 1.0
    for factor in factors:
        found *= factor.value
    return found


def _positions(place: Leaf, position: int) -> dict[Leaf, str]:
    """Where a fixed position of a dimension is in the parts that the dimension was refined into."""
    found = {}
    for leaf in reversed(place.leaves()):
        position, k = divmod(position, leaf.dimension.sizes[0])
        found[leaf] = str(k + 1)
    return found


def _live(walked: Walked) -> list[Step]:
    """Steps that the outputs depend on, operands first: what no operation made, then the others in the module's order."""
    found: dict[Step, None] = {}
    todo = [v.step for v in reversed(walked.outputs.values())]
    while todo:
        step = todo.pop()
        if step not in found:
            found[step] = None
            todo += [v.step for v in step.operands] + ([step.positions] if isinstance(step, Lookup) else [])
    order = {step: k for k, step in enumerate(walked.steps)}
    return sorted(found, key=lambda s: order.get(s, -1))


def _uses(walked: Walked, live: Iterable[Step]) -> dict[Step, list[Step | None]]:
    found: dict[Step, list[Step | None]] = {}
    for step in live:
        for view in step.operands:
            found.setdefault(view.step, []).append(step)
    for view in walked.outputs.values():
        found.setdefault(view.step, []).append(None)
    return found
