"""The powers of n that muP wants of a module: of its optimizer's settings, initial values, gradients, activations and updates.

From the traced program and `tpc.scale` where there is a trace; else from the shapes of the parameters at several widths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache

from tp_compiler.scale.growth import NOTHING
from tp_compiler.scale.numbers import HALF
from tp_compiler.scale.optimizers import OPTIMIZERS, EntrywiseOptimizer, ParameterKind
from tp_compiler.scale.points import maximal_update
from tp_compiler.scale.raw import raw
from tp_compiler.torch.record import Traced
from tp_compiler.torch.returned import LOGITS, Returned

ZERO = Fraction(0)
#: lr, eps, weight_decay, init_std as powers of n.
Figures = Mapping[str, Fraction]


@dataclass(frozen=True)
class ExpectedParameter:
    """A tensor w of PyTorch. `gradient`: of its entries in the first step; `figures`: by the name of the optimizer."""

    kind: ParameterKind
    gradient: Fraction | None
    figures: Callable[[str], Figures]
    tied: bool = False

    def update(self, optimizer: str) -> Fraction | None:
        """The change of an entry of w by a step; None for optimizers that do not act entry by entry."""
        if not isinstance(OPTIMIZERS.get(optimizer), EntrywiseOptimizer):
            return None
        return -Fraction(self.kind.reads_features) - _multiplier(self.kind, self.figures(optimizer)["init_std"])

    def least_update(self, optimizer: str) -> Fraction | None:
        """The change while gradients are those of the first step, some of which are smaller: of steps in proportion to them."""
        rule, usual = OPTIMIZERS.get(optimizer), self.update(optimizer)
        if usual is None or self.gradient is None or not isinstance(rule, EntrywiseOptimizer):
            return None
        return min(usual, self.figures(optimizer)["lr"] + self.gradient) if rule.degree == 1 else usual


@dataclass(frozen=True)
class ExpectedResult:
    """What a module returns, as powers of n. `exact`: derived from the program; else larger powers alone are wrong.

    `mixed`: numbers, of which some may be n^(-1/2) times as large at initialisation, as the logits of a tied readout for tokens
    that are not in the context. Their root mean square is between the two powers at finite width.
    """

    start: Fraction
    update: Fraction
    exact: bool = True
    mixed: bool = False


@dataclass(frozen=True)
class ExpectedPowers:
    parameters: Mapping[str, ExpectedParameter]
    results: Mapping[str, ExpectedResult]
    roots: tuple[str, ...] = ()  # modules whose logits are divided by √n
    traced: bool = False
    declared: Mapping[str, str] = field(default_factory=dict)  # the names of parameters in the traced program

    def of(self, module: str) -> ExpectedResult:
        return self.results.get(module) or ExpectedResult(ZERO, ZERO, False)


def _multiplier(kind: ParameterKind, std: Fraction) -> Fraction:
    """The power m in W = n^m w, where initial entries of w are n^std, and those of W as muP has them."""
    return {ParameterKind.HIDDEN: -HALF, ParameterKind.OUTPUT: Fraction(-1)}.get(kind, ZERO) - std


def derived(traced: Traced, prefix: str = "", size: Fraction = ZERO) -> ExpectedPowers:
    """From the traced program.

    prefix   is taken off the names of modules and parameters
    size     what the program divides its output by, as a power of n, and the module should
    """
    scale = cache(traced.scale)

    def of(name: str) -> Callable[[str], Figures]:
        return lambda optimizer: scale(optimizer).units[name].wide.exponents if optimizer in OPTIMIZERS else {}

    scaling = scale("Adam")
    rows = list(scaling.main.rows.values())
    _, entries = scaling.analysis.updates(rows, first=True)
    found = {row.parameter.declared.name: (row, entries[k]) for k, row in enumerate(rows)}
    parameters = {}
    for name, tensor in scaling.tensors.items():
        if tensor.declared not in found:
            continue
        row, entry = found[tensor.declared]
        kind = row.raw.kind
        multiplier = _multiplier(kind, scaling.units[name].wide.exponents["init_std"])
        usual = multiplier - kind.writes_features
        gradient = None if entry == NOTHING else usual + min(Fraction(entry) - row.gradient(ZERO).entry, ZERO)
        parameters[name.removeprefix(prefix)] = ExpectedParameter(kind, gradient, of(name), row.output is not None)
    sizes = scaling.analysis.sizes(rows)
    results = {}
    for path, made in traced.returned.items():
        named = [m for m in (f"|{m}>" if made.ket else m for m in made.names) if m in sizes]
        start, moves = (sizes[named[0]].start, sizes[named[0]].moves) if named else _usual(made)
        if NOTHING not in (start, moves):
            excess = max(Fraction(moves), ZERO)  # of a bracket over √n that no readout makes up for: logits over √d
            power = made.power - excess - (size if not made.ket and made.power == size else ZERO)
            results[_without(path, prefix)] = ExpectedResult(
                power + Fraction(start), power + Fraction(moves), bool(named), not made.ket
            )
    roots = [_without(path, prefix) for path, made in traced.returned.items() if path.endswith(LOGITS) and made.clt]
    written = prefix.replace(".", "_")
    declared = {
        name.removeprefix(prefix): p.name.removeprefix(written) + _member(p.member)
        for name, p in traced.parameters.items()
    }
    return ExpectedPowers(parameters, results, tuple(roots), True, declared)


def _member(places: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, places))}]" if places else ""


def _usual(made: Returned) -> tuple[Fraction, Fraction]:
    """Of what has no name in the program: at least this, for a number made of inner products of features."""
    return (ZERO, ZERO) if made.ket else (-HALF, ZERO)


def _without(path: str, prefix: str) -> str:
    """The path of a module inside the module that was called."""
    return path.removeprefix(prefix) if path.startswith(prefix) else path.removeprefix(prefix.rstrip("."))


Shape = tuple[int, ...]


def guessed(shapes: Mapping[str, Sequence[Shape]], owners: Mapping[str, str]) -> ExpectedPowers:
    """From the shapes at two widths, without multipliers: which dimensions of a parameter grow."""
    parameters = {}
    for name, (one, other) in shapes.items():
        grows = [a != b for a, b in zip(one, other, strict=True)]
        # Linear and convolution layers: outputs first. Embeddings: tokens first, which look up rows of neurons.
        if sum(grows) > 1:
            kind = ParameterKind.HIDDEN
        elif not any(grows):
            kind = ParameterKind.SCALAR
        elif len(grows) > 1 and grows[1] and not owners[name].endswith("Embedding"):
            kind = ParameterKind.OUTPUT
        else:
            kind = ParameterKind.INPUT
        parameters[name] = ExpectedParameter(kind, None, _plain(kind))
    return ExpectedPowers(parameters, {})


def _plain(kind: ParameterKind) -> Callable[[str], Figures]:
    return lambda name: raw(maximal_update(), kind, name).figures if name in OPTIMIZERS else {}
