"""Width exponents back onto a module: parameter groups for torch.optim, initial values, natural figures and raw ones."""

from __future__ import annotations

import inspect
import itertools
import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from torch import nn

from tp_compiler.diagnostics import suggest
from tp_compiler.ir.model import Network, Trainable
from tp_compiler.scale.constants import ratios
from tp_compiler.scale.figures import Row
from tp_compiler.scale.given_alignments import Given
from tp_compiler.scale.libraries import COMPANIONS, hyperparameters, lacking, starred, torch_name
from tp_compiler.scale.numbers import HALF, power
from tp_compiler.scale.optimizers import ParameterKind
from tp_compiler.scale.raw import Raw
from tp_compiler.scale.result import Scaling
from tp_compiler.scale.units import Units, units
from tp_compiler.scale.verdict import Regime
from tp_compiler.torch.declarations import law_at
from tp_compiler.torch.dimensions import Sizes
from tp_compiler.torch.laws import Fill
from tp_compiler.torch.names import unwrapped
from tp_compiler.torch.refusals import Untraceable, refusal

#: Which parameters: a pattern of torch's names, several, or a predicate of name and parameter.
Selection = str | Iterable[str] | Callable[[str, torch.Tensor], bool]
_ACCUMULATOR = "initial_accumulator_value"


@dataclass(frozen=True)
class TracedTensor:
    """A parameter of the traced module: its entries are n^power times what the program declares as `declared`."""

    declared: str
    power: Fraction
    shape: tuple[Sizes, ...]  # at both widths
    laws: tuple[Fill, Fill]
    start: Fill | None  # in natural units; None: the values
    values: torch.Tensor  # at the first width
    member: tuple[int, ...] = ()  # positions from 1 in the first indices of a family

    def drawn(self, widths: Sizes) -> Fraction | None:
        """The power of n of an entry, as the module draws it; None if it starts at 0 in the limit, or has no width."""
        one, other = (law.std or abs(law.mean) for law in self.laws)
        if self.start is None or not self.start.std + abs(self.start.mean) or not one * other:
            return None
        found = math.log(other / one) / math.log(widths[1] / widths[0])
        return Fraction(round(4 * found), 4)

    @property
    def kept(self) -> torch.Tensor:
        """The values, without dimensions that grow: all entries along them are alike."""
        found = self.values
        for k, (one, other) in enumerate(self.shape):
            found = found.narrow(k, 0, 1) if one != other else found
        return found

    @property
    def size(self) -> Fraction:
        """The power of n of an entry, if nothing trains it."""
        return self.power - HALF * (sum(one != other for one, other in self.shape) == 2)


def _holds(declared: Trainable, tensor: TracedTensor) -> bool:
    """Is a tensor this parameter, or one of these members of a family?"""
    places = zip(declared.member, tensor.member, strict=False)
    return declared.name == tensor.declared and all(p is None or p == q for p, q in places)


class TorchScaling(Scaling):
    """The width exponents of a traced module: `tpc.scale` of its program, and the same by torch's names.

    `scaling["blocks.0.fc.weight"]["lr"]` is the exponent of the learning rate of that tensor, as the module is written: with its
    own multipliers, and initial values of its own size.
    """

    def __init__(
        self,
        network: Network,
        optimizer: str | None,
        tensors: Mapping[str, TracedTensor],
        widths: Sizes,
        unused: Iterable[str] = (),
        alignment: Given | None = None,
    ):
        self.tensors, self.widths = dict(tensors), widths
        super().__init__(network, optimizer, alignment)
        self.unused = frozenset(unused)  #: parameters that the outputs of the traced module do not need

    @cached_property
    def implemented(self) -> Mapping[str, tuple[Row, Units]]:
        """Rows and units by torch's names; of what nothing trains, readouts alone."""
        found = {name: self._row(tensor) for name, tensor in self.tensors.items()}
        return {name: (row, self._units(row, self.tensors[name])) for name, row in found.items() if row is not None}

    def _row(self, tensor: TracedTensor) -> Row | None:
        """The row of a tensor; members of a family may have rows of their own."""
        return next((row for row in self.main.rows.values() if _holds(row.parameter.declared, tensor)), None)

    def _names(self) -> list[list[str]]:
        """Those of the program, and of the tensors."""
        found = zip(super()._names(), self.reading.parameters, strict=True)
        return [
            [*own, *(name for name, tensor in self.tensors.items() if _holds(p.declared, tensor))] for own, p in found
        ]

    @cached_property
    def units(self) -> dict[str, Units]:
        """Exponents and constants by torch's names."""
        return {name: own for name, (_, own) in self.implemented.items()}

    def __getitem__(self, name: str) -> Raw:
        """Powers of n by torch's name, in the module's own parametrization; by the program's name, those of the raw network."""
        if name not in self.units:
            return super().__getitem__(name)
        row, own = self.implemented[name]
        return Raw(row.raw.kind, row.optimizer.name, dict(own.wide.exponents), {})

    def _units(self, row: Row, tensor: TracedTensor) -> Units:
        multiplier, factor = -tensor.power, 1.0
        if row.raw.kind == ParameterKind.OUTPUT:
            each = HALF if row.parameter.clt else Fraction(1)
            multiplier, factor = multiplier - each, math.exp(-ratios(row)[0] * each)
        return units(row, self.reading.clt, multiplier, factor, self._rows_over_columns(tensor))

    def _rows_over_columns(self, tensor: TracedTensor) -> tuple[float, int] | None:
        if len(tensor.shape) != 2:
            return None
        rows, columns = ((a / self.widths[0], 1) if a != b else (float(a), 0) for a, b in tensor.shape)
        return rows[0] / columns[0], rows[1] - columns[1]

    @cached_property
    def notes(self) -> list[str]:
        """What no figure can mend; and what is drawn at another size than muP's, which `init_` can."""
        drawn: dict[tuple[Fraction, Fraction], dict[str, None]] = {}
        for name, own in self.units.items():
            size, wanted = self.tensors[name].drawn(self.widths), own.exponents["init_std"]
            if size is not None and size != wanted:
                drawn.setdefault((size, wanted), {})[starred(name)] = None
        return [
            *self._blemishes,
            *(
                f"initial values of size {power(size)}, where muP has {power(wanted)} (`init_` draws them): {', '.join(names)}"
                for (size, wanted), names in drawn.items()
            ),
        ]

    @cached_property
    def _blemishes(self) -> list[str]:
        """Why no groups make this module one that learns features at every width."""
        found = []
        if self.verdict.regime != Regime.FEATURE_LEARNING:
            found.append(f"the module is {self.verdict.regime.value}: {self.verdict.reason}")
        tied = {
            row.parameter.shown: name
            for name, (row, _) in self.implemented.items()
            if row.parameter.tied and row.parameter.clt
        }
        for name in tied.values():
            found.append(f"outputs that `{name}` reads move by n^(1/2): multiply them by n^(-1/2) more, as muP does")
        found.extend(dict.fromkeys(x for row, _ in self.implemented.values() if row.trained for x in lacking(row)))
        if self.unused:
            found.append(f"the traced outputs do not depend on {_listed(sorted(self.unused))}, which no group has")
        return found

    def as_json(self) -> dict[str, Any]:
        """That of `tpc scale --json`, with exponents and constants by torch's names under `torch`."""
        tensors = {
            name: {
                "parameter": self.tensors[name].declared,
                "exponents": {figure: str(value) for figure, value in own.wide.exponents.items()},
                "constants": dict(own.wide.constants),
            }
            for name, own in self.units.items()
        }
        return super().as_json() | {"torch": tensors}

    # -- figures ------------------------------------------------------------------------------------------------
    def raw(self, figure: str, name: str, natural: float, width: float) -> float:
        """The figure (`lr`, `eps`, `weight_decay`, ..) of a tensor at a width: natural · constant · width^exponent."""
        return self._known(name, figure).raw(figure, natural, width)

    def natural(self, figure: str, name: str, raw: float, width: float) -> float:
        """The figure of the program, from that of a tensor of torch at a width."""
        return self._known(name, figure).natural(figure, raw, width)

    def _known(self, name: str, figure: str) -> Units:
        if name not in self.units:
            raise refusal("NX712", f"no parameter `{name}` is trained", f"the parameters are {_listed(self.units)}")
        row, _ = self.implemented[name]
        figures = {**self.units[name].exponents, **self.units[name].constants, **_defaults(row), **hyperparameters(row)}
        if figure not in figures:
            raise refusal(
                "NX713",
                f"`{name}` has no figure `{figure}`",
                suggest(figure, figures) or f"the figures are {_listed(figures)}",
            )
        return self.units[name]

    # -- onto a model -------------------------------------------------------------------------------------------
    def param_groups(
        self,
        model: nn.Module,
        base_width: int | None,
        *,
        width: int | None = None,
        only: Selection | None = None,
        no_decay: Selection = (),
        **figures: Any,
    ) -> list[dict[str, Any]]:
        """Groups for torch.optim: a figure is given · (width / base_width)^exponent, so that at `base_width` it is the given one.

        base_width   the width at which the figures were tuned; None: they are those of the program, in natural units
        width        the model's width; by default it is inferred from its shapes
        only         the parameters wanted: patterns of names (`"blocks.*"`), or a predicate of name and parameter
        no_decay     those with weight decay 0, in the same way
        figures      lr, eps, weight_decay, betas, ..: numbers, or a dictionary from patterns of names to numbers, of which the
                     longest that matches is used

        What is not given is the program's, else the default of torch.optim, and scales too. A group has the parameters whose
        figures are equal at all widths; frozen parameters are in none.
        """
        for blemish in self._blemishes:
            warnings.warn(blemish, stacklevel=2)
        _demand_positive(base_width)
        held, width = self._matched(model, width)
        wanted = set(held) if only is None else _chosen(only, held)
        without = _chosen(no_decay, held)
        groups: dict[Any, dict[str, Any]] = {}
        for name, parameter in held.items():
            trained = name in self.implemented and self.implemented[name][0].trained
            if not (trained and parameter.requires_grad and name in wanted):
                continue
            given = self._given(name, figures, held, base_width)
            if name in without:
                given["weight_decay"] = _Given(0.0, base_width)
            own = self.units[name]
            group = groups.setdefault(
                tuple((figure, *setting.alike(figure, own)) for figure, setting in given.items()),
                {"params": [], "names": [], **{f: setting.at(width, f, own, given) for f, setting in given.items()}},
            )
            group["params"].append(parameter)
            group["names"].append(name)
        if any(group.get(_ACCUMULATOR) for group in groups.values()):
            told = f'fill optimizer.state[p]["sum"] of each p in group["params"] with group["{_ACCUMULATOR}"]'
            warnings.warn(f"torch.optim.Adagrad does not read `{_ACCUMULATOR}` of groups: {told}", stacklevel=2)
        return self._named(groups.values())

    def _given(
        self, name: str, figures: Mapping[str, Any], held: Mapping[str, Any], base: int | None
    ) -> dict[str, _Given]:
        """The hyperparameters of one tensor: torch's defaults, the program's, and those of the call."""
        row, _ = self.implemented[name]
        own = self.units[name]
        found = {k: _Given(v, base) for k, v in _defaults(row).items() if _scales(k, v, own)}
        found |= {k: _Given(v, None) for k, v in hyperparameters(row).items()}
        for figure, value in figures.items():
            chosen = _by_name(name, figure, value, held) if isinstance(value, Mapping) else value
            if chosen is not None:
                _demand_size(figure, chosen)
                found[figure] = _Given(chosen, base)
        if "adjust_lr_fn" in found and found["adjust_lr_fn"].value != "original":
            way = found["adjust_lr_fn"].value
            remedy = 'leave it out: groups take "original" into account, the default'
            raise refusal(
                "NX713", f"learning rates with adjust_lr_fn = {way!r} change with the shape once more", remedy
            )
        return found

    def _named(self, groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each group with a name of its own: the kinds of its parameters."""
        taken: set[str] = set()
        found = []
        for group in groups:
            kinds = dict.fromkeys(self.implemented[name][0].raw.kind.value for name in group["names"])
            plain = ", ".join(kinds)
            name = next(n for k in itertools.count(1) if (n := plain if k == 1 else f"{plain} {k}") not in taken)
            taken.add(name)
            found.append({"name": name, **group})
        return found

    def init_(
        self,
        model: nn.Module,
        base_width: int | None,
        *,
        width: int | None = None,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Draws the initial values again, in place, as muP wants them at the model's width.

        base_width   where the module's own laws hold: deviations are those at this width, times (width / base_width)^exponent;
                     None: the laws of the program, in natural units
        """
        _demand_positive(base_width)
        held, width = self._matched(model, width)
        with torch.no_grad():
            for name, parameter in held.items():
                law = self._natural_law(name, width) if base_width is None else self._law(name, width, base_width)
                if law is None:
                    parameter.copy_(self.tensors[name].kept.expand(parameter.shape))
                else:
                    law.draw(parameter, generator)
        return model

    def _natural_law(self, name: str, width: int) -> Fill | None:
        start = self.tensors[name].start
        return None if start is None else start.scaled(self._drawn(name).factor("init_std", width))

    def _law(self, name: str, width: int, base: int) -> Fill:
        """The module's law at the base width, scaled to a width."""
        try:
            found = law_at(self.tensors[name].laws, self.widths, base)
        except Untraceable as problem:
            remedy = f"give a base width that was traced: {self.widths[0]} or {self.widths[1]}"
            raise refusal("NX713", f"`{name}` at width {base}: {problem.message}", remedy) from None
        return found.scaled((width / base) ** float(self._drawn(name).exponents["init_std"]))

    def _drawn(self, name: str) -> Units:
        """How large initial values are, also of parameters that nothing trains."""
        tensor = self.tensors[name]
        if name in self.units:
            return self.units[name]
        columns = tensor.shape[1][0] / self.widths[0] if tensor.size != tensor.power else 1.0
        return Units({"init_std": tensor.size}, {"init_std": columns**-0.5})

    # -- which tensors ------------------------------------------------------------------------------------------
    def _matched(self, model: nn.Module, width: int | None) -> tuple[dict[str, nn.Parameter], int]:
        """The parameters of a model by the names of the traced module, shared ones once; and its width."""
        all_names = {unwrapped(k, self.tensors): p for k, p in model.named_parameters(remove_duplicate=False)}
        unknown = [k for k in all_names if k not in self.tensors and k not in self.unused]
        missing = [k for k in self.tensors if k not in all_names]
        if unknown or missing:
            what = (
                f"has a parameter `{unknown[0]}` that was not traced" if unknown else f"has no parameter `{missing[0]}`"
            )
            raise refusal("NX711", f"the model {what}", "give a module of the traced factory, at any width")
        held: dict[str, nn.Parameter] = {}
        owners: dict[tuple[str, tuple[int, ...]], str] = {}
        for name, parameter in all_names.items():
            if name not in self.tensors:
                continue
            first = owners.setdefault((self.tensors[name].declared, self.tensors[name].member), name)
            other = next((k for k, p in held.items() if p is parameter), name)
            if (all_names[first] is not parameter) or other not in (name, first):
                pair = f"`{name}` and `{first if first != name else other}`"
                one = "one parameter in the traced module, and two" if first != name else "two, and one"
                raise refusal("NX711", f"{pair} are {one} in the model", "give a module of the traced factory")
            held.setdefault(first, parameter)
        width = self._width(held) if width is None else width
        for name, parameter in held.items():
            wanted = [one if one == other else one * width // self.widths[0] for one, other in self.tensors[name].shape]
            if list(parameter.shape) != wanted:
                message = (
                    f"`{name}` has shape {list(parameter.shape)}, but {wanted} at width {width} in the traced module"
                )
                raise refusal("NX711", message, "give a module of the traced factory, or its width: `width=`")
        return held, width

    def _width(self, held: Mapping[str, torch.Tensor]) -> int:
        """n, from a dimension that grows."""
        for name, parameter in held.items():
            for size, (one, other) in zip(parameter.shape, self.tensors[name].shape, strict=False):
                if one != other and size * self.widths[0] % one == 0:
                    return int(size * self.widths[0] // one)
        raise refusal("NX711", "the model's width cannot be inferred from its shapes", "give it: `width=`")


@dataclass(frozen=True)
class _Given:
    """A hyperparameter: its value, and the width at which it holds (None: natural units)."""

    value: Any
    base: int | None

    def at(self, width: int, figure: str, own: Units, given: Mapping[str, _Given]) -> Any:
        """The value at a width."""
        if isinstance(self.value, tuple) and figure == "eps":
            return tuple(None if v is None else self._at(width, f"eps{k}", own, v) for k, v in enumerate(self.value, 1))
        if figure in COMPANIONS:
            of, power = COMPANIONS[figure]
            factor = self._factor(width, of, own) ** power
            return tuple(v * factor for v in self.value) if isinstance(self.value, tuple) else self.value * factor
        if figure == "weight_decay" and self.value and figure not in own.exponents:
            return self._coupled(width, own, given)
        return self._at(width, figure, own, self.value)

    def _at(self, width: int, figure: str, own: Units, value: Any) -> Any:
        if figure not in own.exponents:
            return value
        factor = self._factor(width, figure, own)
        return value * factor if factor >= 1 else value / (1 / factor)  # 0.03 / 1.5 is 0.02

    def _factor(self, width: int, figure: str, own: Units) -> float:
        return own.factor(figure, width) if self.base is None else own.between(figure, width, self.base)

    def _coupled(self, width: int, own: Units, given: Mapping[str, _Given]) -> Any:
        """Weight decay of an optimizer that adds it to the gradient, unless it is told not to."""
        decoupled = given.get("decoupled_weight_decay")
        if decoupled is None or not decoupled.value:
            raise refusal(
                "NX713",
                "weight decay that is added to the gradient of such an optimizer has no power of the width",
                "use `AdamW`, or `decoupled_weight_decay=True` where the optimizer has it",
            )
        return self.value / self._factor(width, "lr", own)

    def alike(self, figure: str, own: Units) -> tuple[Any, ...]:
        """Equal for tensors that have the same value at every width."""
        of = COMPANIONS.get(figure, (figure, 1))[0]
        of = "lr" if figure == "weight_decay" and figure not in own.exponents else of
        names = [name for name in own.exponents if name.startswith(of)]
        exponents = tuple(own.exponents[name] for name in names)
        if self.base is not None:
            tall = own.tall if own.tall and own.tall[1] else None  # a constant one cancels
            return repr(self.value), exponents, tall
        return repr(self.value), exponents, tuple(round(own.constants.get(name, 1.0), 12) for name in names), own.tall


def _demand_positive(base_width: int | None) -> None:
    if base_width is not None and not base_width > 0:
        raise refusal("NX713", f"base_width is {base_width}", "give the width at which the figures were tuned")


def _defaults(row: Row) -> dict[str, Any]:
    """The defaults of torch.optim."""
    kind = getattr(torch.optim, torch_name(row.optimizer.name), None)
    found = inspect.signature(kind).parameters.values() if inspect.isclass(kind) else ()
    return {p.name: p.default for p in found if p.default is not inspect.Parameter.empty}


def _scales(argument: str, default: Any, own: Units) -> bool:
    """Whether a default of torch.optim depends on the width; Adafactor's eps has two entries."""
    if argument in COMPANIONS:
        return bool(default)
    return argument in own.exponents or (argument == "eps" and "eps1" in own.exponents)


def _demand_size(figure: str, value: Any) -> None:
    """Refuses a rate, eps or weight decay that torch.optim refuses: it does not look at those of groups."""
    if figure not in ("lr", "eps", "weight_decay"):
        return
    # Adafactor has two eps, of which the first may be None.
    sizes = [x for x in value if x is not None] if isinstance(value, tuple) else [value]
    for x in sizes:
        if not isinstance(x, numbers.Real | torch.Tensor) or not 0 <= float(x) < math.inf:
            raise refusal("NX713", f"{figure} is {value!r}", "give a finite number of at least 0")


def _chosen(selection: Selection, held: Mapping[str, torch.Tensor]) -> set[str]:
    """The names that a selection means."""
    if callable(selection):
        return {name for name, parameter in held.items() if selection(name, parameter)}
    patterns = [selection] if isinstance(selection, str) else list(selection)
    for pattern in patterns:
        _demand_match(pattern, held)
    return {name for name in held if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _by_name(name: str, figure: str, values: Mapping[str, Any], held: Mapping[str, Any]) -> Any:
    """The value of the longest pattern that matches a name; None if none does."""
    for pattern in values:
        _demand_match(pattern, held)
    return max(((len(p), v) for p, v in values.items() if fnmatchcase(name, p)), default=(0, None), key=lambda x: x[0])[
        1
    ]


def _demand_match(pattern: str, held: Mapping[str, Any]) -> None:
    if not any(fnmatchcase(name, pattern) for name in held):
        raise refusal("NX712", f"no parameter matches `{pattern}`", f"the parameters are {_listed(held)}")


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(f"`{name}`" for name in found[:8]) + (", .." if len(found) > 8 else "")
