"""The graphs of a module at two widths, walked side by side; what differs between them is a power of n."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tp_compiler.torch.calls import Call, Folded, given
from tp_compiler.torch.dimensions import Dimension, Leaf, Sizes
from tp_compiler.torch.laws import Fill, Fills
from tp_compiler.torch.operations import OPERATIONS
from tp_compiler.torch.refusals import Untraceable, at, refusal
from tp_compiler.torch.steps import Step, View, Weight, seen

Factory = Callable[[int], nn.Module]


@dataclass(eq=False)
class Built:
    """A module at one width, in double precision, with the laws of its parameters."""

    module: nn.Module
    laws: dict[str, Fill]


@dataclass(eq=False)
class Walked:
    """What a module computes."""

    outputs: dict[str, View]
    weights: dict[str, Weight]  # by the name of the parameter; shared ones have several names
    laws: dict[str, tuple[Fill, Fill]]
    steps: list[Step]  # in the order of the module
    results: dict[str, View]  # what each module returns, by its path


def made(factory: Factory, width: int, code: str = "NX708") -> nn.Module:
    """A module with values, or a refusal with this code."""
    try:
        module = factory(width)
    except Exception as problem:  # whatever goes wrong inside the user's factory
        raise refusal(
            code,
            f"the factory failed at width {width}: {type(problem).__name__}: {problem}",
            "give a function of the width alone, and widths that it can build, such as multiples of the number of heads",
        ) from problem
    if not isinstance(module, nn.Module):
        raise refusal(
            code,
            f"the factory returned {type(module).__name__}, not a module",
            "return an `nn.Module` from an integer",
        )
    for name, p in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(p) or p.is_meta:
            raise refusal(
                code,
                f"`{name}` has no values: it is lazy, or on the device `meta`",
                "write its sizes down (`nn.Linear` for `nn.LazyLinear`), and make it on the CPU",
            )
    return module


def build(factory: Factory, width: int, training: bool) -> Built:
    with torch.random.fork_rng(devices=[]), Fills() as fills:
        torch.manual_seed(0)
        module = made(factory, width)
    held = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
    laws = {name: fills.law(p) for name, p in held if p.is_floating_point() and p.numel()}
    return Built(module.double().train(training), laws)


def arguments(inputs: Any) -> tuple[Any, ...]:
    """The arguments of `forward`; a lone tensor is the only one."""
    return (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)


def export(built: Built, inputs: Sequence[Any], width: int) -> torch.export.ExportedProgram:
    args = tuple(doubled(x) for x in inputs)
    try:
        with warnings.catch_warnings(), double_precision(), _silent():
            warnings.simplefilter("ignore")
            found = torch.export.export(built.module, args).run_decompositions({})
            return found if all(map(_is_known, found.graph.nodes)) else found.run_decompositions(_decompositions())
    except Exception as problem:  # whatever goes wrong inside the user's module or the exporter
        _demand_runs(built.module, args, width)
        raise refusal(
            "NX702",
            f"torch.export cannot export the module at width {width}: {_first_line(problem)}",
            "avoid control flow that depends on values; `torch.export.export(module, inputs)` shows where",
        ) from None


def _demand_runs(module: nn.Module, args: tuple[Any, ...], width: int) -> None:
    """Refuses inputs on which the module itself fails, in the words of PyTorch."""
    try:
        with torch.no_grad(), double_precision():
            module(*args)
    except Exception as problem:
        raise refusal(
            "NX708",
            f"the module at width {width} fails on the inputs: {type(problem).__name__}: {_first_line(problem)}",
            "give one tensor for each argument of `forward`, of the shapes and types that it takes",
        ) from problem


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)


@contextmanager
def _silent() -> Iterator[None]:
    """Without the log of the exporter, which prints tracebacks and graphs of what is then refused."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _is_known(node: Any) -> bool:
    return node.op != "call_function" or _name(node.target) in OPERATIONS


def _decompositions() -> Any:
    """How PyTorch writes operations by others, for those that have no rule."""
    table = torch.export.default_decompositions()
    for operation in [op for op in table if _name(op) in OPERATIONS]:
        table.pop(operation)
    return table


@contextmanager
def double_precision() -> Iterator[None]:
    """What a module makes as it runs is as exact as its parameters."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def doubled(x: Any) -> Any:
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


class Walk:
    """Turns both graphs into steps, node by node."""

    def __init__(self, built: tuple[Built, Built], programs: Sequence[torch.export.ExportedProgram], widths: Sizes):
        self.built = built
        self.programs = programs
        self.widths = widths
        self.results: dict[Any, Any] = {}
        self.weights: dict[str, Weight] = {}
        self.steps: dict[Step, None] = {}  # in the order of the module, operands first
        self.returned: dict[str, View] = {}
        self._shared: dict[int, Weight] = {}

    def run(self, inputs: Sequence[Any], names: Sequence[str] | None) -> Walked:
        nodes = [list(p.graph.nodes) for p in self.programs]
        if [str(n.target) for n in nodes[0]] != [str(n.target) for n in nodes[1]]:
            raise refusal(
                "NX701",
                f"the module does other operations at n = {self.widths[1]} than at n = {self.widths[0]}",
                "the number of layers and operations must not depend on the width",
            )
        specs = {s.arg.name: s for s in self.programs[0].graph_signature.input_specs}
        fed = iter(_flat(inputs))
        for one, other in zip(*nodes, strict=True):
            if one.op == "placeholder":
                self.results[one] = self._placeholder(one, specs[one.name], fed)
            elif one.op == "call_function":
                self._call(one, other)
                self._return(one)
            elif one.op == "get_attr":
                raise refusal(
                    "NX702", f"`{one.name}` is a graph of its own: control flow", "write it without `torch.cond`"
                )
        outputs = self._outputs(nodes[0][-1], names)
        return Walked(outputs, self.weights, self._laws(), list(self.steps), self.returned)

    def _return(self, node: Any) -> None:
        """What the modules that an operation belongs to return, as far as is known now."""
        made = self.results[node]
        view = made[0] if isinstance(made, list) and made else made
        if isinstance(view, View):
            self.returned |= dict.fromkeys(_paths(node), view)

    def _placeholder(self, node: Any, spec: Any, fed: Iterator[Any]) -> Any:
        if spec.kind.name == "PARAMETER":
            return seen(self._weight(spec.target))
        if spec.kind.name == "USER_INPUT":
            x = doubled(next(fed))
            return Folded((x, x), node.name)
        if spec.kind.name in ("BUFFER", "CONSTANT_TENSOR"):
            one, other = (
                (p.constants if spec.target in p.constants else p.state_dict)[spec.target] for p in self.programs
            )
            if spec.target in self.built[0].laws and _is_table(one, other):
                return seen(self._made(spec.target, one, other, table=True))
            return Folded((one, other), spec.target.replace(".", "_"))
        raise refusal("NX702", f"an input of kind {spec.kind.name}", "pass tensors only")

    def _weight(self, name: str) -> Weight:
        """A parameter of the module; one that it uses under several names is one."""
        one, other = (b.module.get_parameter(name) for b in self.built)
        first = next(n for n, p in self.built[0].module.named_parameters() if p is one)
        self.weights[name] = self._made(first, one, other)
        return self.weights[name]

    def _made(self, name: str, one: torch.Tensor, other: torch.Tensor, table: bool = False) -> Weight:
        if id(one) not in self._shared:
            slots = [Dimension(s) for s in zip(one.shape, other.shape, strict=True)]
            groups = [[] if d.sizes == (1, 1) else [Leaf(k, d)] for k, d in enumerate(slots)]
            frozen = table or not one.requires_grad
            self._shared[id(one)] = Weight(slots, groups, name, (one.detach(), other.detach()), frozen, table=table)
        return self._shared[id(one)]

    def _laws(self) -> dict[str, tuple[Fill, Fill]]:
        return {w.name: (self.built[0].laws[w.name], self.built[1].laws[w.name]) for w in self._shared.values()}

    def _call(self, one: Any, other: Any) -> None:
        path, name = _path(one), _name(one.target)
        if name == "getitem":
            self.results[one] = self._item(one)
            return
        with at(path, name):
            arguments = self._arguments(one, other)
            if all(map(_is_folded, arguments.values())):
                self.results[one] = self._folded(one, other, path)
            elif name in OPERATIONS:
                call = Call(name, arguments, _shapes(one, other), self.widths)
                self.results[one] = made = _applied(call)
                for view in reversed(made if isinstance(made, list) else [made]):
                    self._place(view.step, path, name)
            else:
                raise refusal(
                    "NX703",
                    f"in `{path or 'the module'}`, `{one.target}` has no counterpart in the language",
                    "replace it by other operations; docs/torch.md lists what is known",
                )

    def _place(self, step: Step, path: str, label: str) -> None:
        """Lists a new step after those that it needs, all with the module and the operation that made them."""
        if step in self.steps:
            return
        for view in step.operands:
            self._place(view.step, path, label)
        step.path, step.label = path, label
        self.steps[step] = None

    def _item(self, node: Any) -> Any:
        found, k = self.results[node.args[0]], node.args[1]
        if isinstance(found, Folded):
            return Folded((found.values[0][k], found.values[1][k]), found.name)
        if k >= len(found):
            return _UNKNOWN  # such as running statistics, which no output needs
        return found[k]

    def _arguments(self, one: Any, other: Any) -> dict[str, Any]:
        """The arguments by name: views, folded values, lists of them, or pairs of plain values."""
        schema = one.target._schema.arguments
        found: dict[str, Any] = {}
        for k, declared in enumerate(schema):
            sides = [n.args[k] if k < len(n.args) else n.kwargs.get(declared.name, _MISSING) for n in (one, other)]
            if sides[0] is not _MISSING:
                found[declared.name] = self._argument(*sides)
        return found

    def _argument(self, one: Any, other: Any) -> Any:
        if isinstance(one, torch.fx.Node):
            if self.results[one] is _UNKNOWN:
                raise Untraceable("NX703", f"it needs `{one.name}`, which is not traced", "use the first result only")
            return self.results[one]
        if isinstance(one, (list, tuple)) and any(isinstance(item, torch.fx.Node) for item in one):
            return [self._argument(a, b) for a, b in zip(one, other, strict=True)]
        return (one, other)

    def _folded(self, one: Any, other: Any, path: str) -> Any:
        if torch.Tag.nondeterministic_seeded in one.target.tags:
            raise refusal(
                "NX707",
                f"in `{path or 'the module'}`, `{one.target}` draws random numbers",
                "trace with training=False, or set p = 0" if "dropout" in str(one.target) else "pass them as an input",
            )
        values = []
        for side, node in enumerate((one, other)):
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self._value(side, one, other))
            values.append(node.target(*args, **kwargs))
        return Folded((values[0], values[1]), one.name)

    def _value(self, side: int, one: Any, other: Any) -> Callable[[Any], Any]:
        partner = dict(zip(other.all_input_nodes, one.all_input_nodes, strict=True)) if side else {}
        return lambda node: self.results[partner.get(node, node)].values[side]

    def _outputs(self, node: Any, names: Sequence[str] | None) -> dict[str, View]:
        specs = self.programs[0].graph_signature.output_specs
        wanted = [a for a, s in zip(node.args[0], specs, strict=True) if s.kind.name == "USER_OUTPUT"]
        keys = names or (["out"] if len(wanted) == 1 else [f"out{k}" for k in range(len(wanted))])
        found = {}
        for key, item in zip(keys, wanted, strict=True):
            result = self.results[item] if isinstance(item, torch.fx.Node) else None
            if isinstance(result, View):
                found[key] = result
            elif isinstance(result, Folded):
                found[key] = given(result, self.widths)
        return found


def _applied(call: Call) -> Any:
    """What an operation's rule makes of it; arguments that the rule does not know are refused."""
    try:
        return OPERATIONS[call.name](call)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        raise Untraceable(
            "NX703",
            f"its arguments are not understood ({problem})",
            "write it by other operations; docs/torch.md lists them",
        ) from problem


_MISSING = object()
_UNKNOWN = object()


def _is_folded(argument: Any) -> bool:
    if isinstance(argument, list):
        return all(map(_is_folded, argument))
    return not isinstance(argument, View)


def _is_table(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Has a buffer entries along the width that are not all alike?"""
    return one.shape != other.shape and not all(bool((t == t.flatten()[0]).all()) for t in (one, other))


def _flat(inputs: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(tuple(inputs))


def _path(node: Any) -> str:
    return next(reversed(_paths(node)), "")


def _paths(node: Any) -> list[str]:
    """The modules that an operation belongs to, from the whole to the innermost."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return [re.sub(r"\._modules\.|\['?|'?\]", ".", path).strip(".") for path, _ in stack]


def _name(target: Any) -> str:
    return target.__name__.partition(".")[0].strip("_")


def _shapes(one: Any, other: Any) -> list[Sizes]:
    values = [n.meta.get("val") for n in (one, other)]
    if not all(isinstance(v, torch.Tensor) for v in values):
        return []
    return [(int(a), int(b)) for a, b in zip(values[0].shape, values[1].shape, strict=True)]


def output_names(program: torch.export.ExportedProgram) -> list[str] | None:
    """The keys of a dictionary that the module returns."""
    spec = program.module_call_graph[0].signature.out_spec
    if issubclass(spec.type or object, dict) and spec.num_leaves == spec.num_children:
        return [str(key) for key in spec.context] if isinstance(spec.context, list) else None
    return None
