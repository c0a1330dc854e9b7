"""Random index programs: families of kets, matrices and numbers read at names, positions, diagonals and gathers.

Sums, means, softmax mixes, `delta`, positions, loops, definitions, gradients, tangent kernels and second derivatives.
A program is written without names for its indices, and rendered under any: `names` is a seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

#: Two axes, and the names that there are for the indices of each.
NAMES = {"a": ("i", "j", "k", "l", "i1", "j1"), "b": ("s", "t", "r", "q", "s1", "t1")}
SIZES = {"a": 2, "b": 3}
#: A place for the name of an index: axis and number. Numbers count the indices of the axis in scope.
SLOT = re.compile(r"`([ab])(\d)`")

SMOOTH = ("tanh", "erf", "sin", "cos", "sigmoid", "gelu")
KINKED = ("relu", "abs", "leaky_relu")


@dataclass(frozen=True)
class Symbol:
    """The values a statement can read: |name[..]>, name[..], over axes."""

    name: str
    axes: tuple[str, ...]
    ket: bool


@dataclass(frozen=True)
class IndexProgram:
    """`lines` with places for names. `symmetric`: outputs that are kernels, over a group of indices twice. `slopes`: an
    output, the scalar parameter that it was differentiated by, and the output of the derivative."""

    lines: tuple[str, ...]
    symmetric: tuple[str, ...]
    slopes: tuple[tuple[str, str, str], ...]

    def text(self, names: int | None = None) -> str:
        """The program; every statement chooses the names of its indices by itself. None: the first names there are."""
        rng = None if names is None else random.Random(names)
        return "\n".join(_named(line, rng) for line in self.lines) + "\n"


def _named(line: str, rng: random.Random | None) -> str:
    chosen = {axis: list(pool) for axis, pool in NAMES.items()}
    if rng is not None:
        for pool in chosen.values():
            rng.shuffle(pool)
    return SLOT.sub(lambda found: chosen[found[1]][int(found[2])], line)


def index_program(seed: int, steps: int = 4, outputs: int = 3, more: bool = False) -> IndexProgram:
    """A random program of about that many statements and outputs; `more` adds outer products, shifts, maxima and running sums."""
    return _Writer(seed, more).program(steps, outputs)


def training_program(seed: int, steps: int = 3) -> IndexProgram:
    """A random network, trained for two steps."""
    return _Writer(seed).training(steps)


Scope = tuple[str, ...]  # the places of the indices in scope: "`a0`", "`b0`", ...


class _Writer:
    def __init__(self, seed: int, more: bool = False):
        self.rng = random.Random(seed)
        self.more = more
        self.smooth = self.rng.random() < 0.6
        self.lines: list[str] = []
        self.symbols: list[Symbol] = []
        self.gradients: list[Callable[[], None]] = []
        self.symmetric: list[str] = []
        self.slopes: list[tuple[str, str, str]] = []
        self.count = 0

    # -- the program ----------------------------------------------------------------------------------------------
    def program(self, steps: int, outputs: int) -> IndexProgram:
        self._declare()
        for _ in range(steps):
            self.rng.choice((self._ket, self._ket, self._ket, self._scalar, self._mix, self._loop, self._call))()
        for _ in range(outputs):
            self.rng.choice((self._bracket, self._kernel, self._gradient, self._tangent, self._number))()
        return IndexProgram(tuple(self.lines), tuple(self.symmetric), tuple(self.slopes))

    def training(self, steps: int) -> IndexProgram:
        self._declare()
        self.lines.append("train steps = 2 {")
        for _ in range(steps):
            self.rng.choice((self._ket, self._ket, self._scalar, self._mix))()
        f = self._function()
        own = self._scope_from((), f.axes)
        error = f"({f.name}{_list(own)} - 1)^2"
        optimizer = self.rng.choice(("SGD(lr = 0.1)", "SGD(lr = 0.1, momentum = 0.5)", "Adam(lr = 0.05, eps = 0.1)"))
        self.lines.append(f"loss = mean[{own[0]}]({error})" if own else f"loss = {error}")
        self.lines += ["minimize loss", f"update all with {optimizer}", "}", "output loss[step]"]
        self.lines.append(f"output {f.name}{_list(('step', *own))}")
        for _ in range(2):
            self._bracket()
        return IndexProgram(tuple(self.lines), (), ())

    def _declare(self) -> None:
        for axis, names in NAMES.items():
            self.lines.append(f"axis {', '.join(names)} : {SIZES[axis]}")
        self._data("c", ("a", "a"))
        self._data("m", ("b", "a"))
        self._data("d", ("b", "b"))
        self._data("e", ("b",))
        self.lines += [f"data g[`a0`] = {[self.rng.randint(1, 3) for _ in range(2)]}"]
        self.lines += [f"data h[`b0`] = {[self.rng.randint(1, 2) for _ in range(3)]}"]
        self.lines += ["scalar w = 0.7", "scalar v[`a0`] = 0.5 + `a0` / 4"]
        self.lines += ["matrix W ~ N(0, 1)", "matrix A[`a0`] ~ N(0, `a0` / 2)", "matrix B[`b0`,`b1`] ~ N(0, 1)"]
        self.symbols += [Symbol("w", (), False), Symbol("v", ("a",), False)]
        for name, axes in (("x", ("a",)), ("y", ("b",)), ("z", ()), ("u", ("b", "a"))):
            own = self._own(axes)
            self.lines.append(f"ket |{name}{own}> ~ N({self.rng.choice(('0', '0', '0.3'))}, 1)")
            self.symbols.append(Symbol(name, axes, True))
        self.lines.append("ket |o[`b0`]> ~ N(0, exp(-abs(`b0` - `b1`)))")
        self.symbols.append(Symbol("o", ("b",), True))

    def _data(self, name: str, axes: tuple[str, ...]) -> None:
        def entries(sizes: list[int]) -> object:
            if not sizes:
                return round(self.rng.uniform(-1, 1), 2)
            return [entries(sizes[1:]) for _ in range(sizes[0])]

        self.lines.append(f"data {name}{self._own(axes)} = {entries([SIZES[a] for a in axes])}")
        self.symbols.append(Symbol(name, axes, False))

    # -- names ----------------------------------------------------------------------------------------------------
    def _name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def _scope(self, most: int = 2) -> Scope:
        """Indices of the left of a statement."""
        scope: Scope = ()
        for _ in range(self.rng.randint(0, most)):
            scope = self._inner(scope)
        return scope

    def _inner(self, scope: Scope, axis: str = "") -> Scope:
        """One more index."""
        axis = axis or self.rng.choice("ab")
        return (*scope, f"`{axis}{sum(p[1] == axis for p in scope)}`")

    def _own(self, axes: tuple[str, ...]) -> str:
        scope: Scope = ()
        for axis in axes:
            scope = self._inner(scope, axis)
        return _list(scope)

    def _place(self, axis: str, scope: Scope, gathers: bool = True) -> str:
        """Where an index of a family is read: at a name, sometimes at a position or where data point."""
        names = [p for p in scope if p[1] == axis]
        others = [p for p in scope if p[1] != axis]
        kind = self.rng.random()
        if names and kind < 0.8:
            return self.rng.choice(names)
        if gathers and others and kind < 0.92:
            return f"{'h' if axis == 'a' else 'g'}[{self.rng.choice(others)}]"
        return str(self.rng.randint(1, SIZES[axis]))

    def _read(self, symbol: Symbol, scope: Scope) -> str:
        return symbol.name + _list(tuple(self._place(a, scope) for a in symbol.axes))

    def _matrix(self, scope: Scope, gathers: bool = True) -> str:
        name, axes = self.rng.choice((("W", ""), ("W", ""), ("A", "a"), ("B", "bb")))
        return name + _list(tuple(self._place(a, scope, gathers) for a in axes))

    def _turn(self) -> str:
        return self.rng.choice(("", "", "^T"))

    def _step(self) -> int:
        return self.rng.choice((1, -1))

    def _direction(self) -> str:
        return self.rng.choice(("", ", reverse = 1"))

    # -- expressions ----------------------------------------------------------------------------------------------
    def _fn(self) -> str:
        return self.rng.choice(SMOOTH if self.smooth else SMOOTH + KINKED)

    def ket(self, scope: Scope, depth: int) -> str:
        """A ket over the indices in scope."""
        if depth <= 0:
            return f"|{self._read(self.rng.choice([s for s in self.symbols if s.ket][-6:]), scope)}>"
        inner = self._inner(scope)
        index = inner[-1]
        rules = (
            lambda: self.ket(scope, 0),
            lambda: f"({self.ket(scope, depth - 1)} - {self.ket(scope, depth - 1)}) / 2",
            lambda: f"{self.scalar(scope, depth - 1)} * ({self.ket(scope, depth - 1)})",
            lambda: f"sum[{index}]({self.scalar(inner, depth - 1)} * {self.ket(inner, depth - 1)}) / {_size(index)}",
            lambda: f"mean[{index}]({self.ket(inner, depth - 1)})",
            lambda: f"sum[{index}](softmax[{index}]({self.scalar(inner, 1)}) * {self.ket(inner, depth - 1)})",
            lambda: f"{self._fn()}({self.ket(scope, depth - 1)})",
            lambda: f"{self._matrix(scope)}{self._turn()} ({self.ket(scope, depth - 1)})",
            lambda: f"tanh({self.ket(scope, 0)}) * erf({self.ket(scope, 0)})",
            lambda: f"{self.ket(scope, 0)} * <{self._label(scope)}|{self._label(scope)}> / 2",
            lambda: f"sum[{index}](delta[{index},{self._place(index[1], scope)}] * {self.ket(inner, depth - 1)})",
            lambda: f"E[1](tanh({self.ket(scope, 0)} - ({self.ket(scope, 0)})@1))",
            lambda: f"{self._operator(scope)} ({self.ket(scope, depth - 1)})",
            lambda: (
                f"sum[{index}]({self.scalar(inner, 0)} * shift[{index}]({index} * {self.ket(inner, depth - 1)}, {self._step()}))"
            ),
            lambda: f"sum[{index}]({self.ket(inner, depth - 1)} * max[{index}]({self.scalar(inner, 1)})) / 4",
            lambda: (
                f"sum[{index}]({self.scalar(inner, 0)} * cumsum[{index}]({index} * {self.ket(inner, depth - 1)}{self._direction()})) / 9"
            ),
            lambda: (
                f"sum[{index}]({self.scalar(inner, 0)} * unfold[{index},{index},{index}]({index} * {self.ket(inner, depth - 1)},"
                f" {self.rng.choice((1, 2))}, {self.rng.choice((0, 1, 2))})) / 4"
            ),
            lambda: (
                f"sum[{index}](shift[{index}]({index} * {self.ket(inner, depth - 1)}, {self._step()} - {index})) / 4"
            ),
        )
        weights = (1, 2, 2, 4, 2, 3, 3, 4, 1, 2, 2, 0.2, *(x * self.more for x in (3, 2, 1, 2, 2, 1)))
        chosen = self.rng.choices(rules, weights)[0]
        return chosen()

    def _operator(self, scope: Scope) -> str:
        """A sum of outer products, sometimes the square of one, or a nonlinear one."""
        inner = self._inner(scope)
        sum_ = f"sum[{inner[-1]}](|{self._label(inner)}><{self._label(inner)}|)"
        return self.rng.choice((f"({sum_})", f"({sum_})^2", f"({sum_} + {self._matrix(scope)})^T", f"tanh({sum_})"))

    def _label(self, scope: Scope) -> str:
        """What stands inside a bracket."""
        name = self._read(self.rng.choice([s for s in self.symbols if s.ket][-7:]), scope)
        return self.rng.choice((name, name, f"{self._fn()}({name})"))

    def scalar(self, scope: Scope, depth: int) -> str:
        inner = self._inner(scope)
        index = inner[-1]
        numbers = [s for s in self.symbols if not s.ket]
        read = self._read(self.rng.choice(numbers), scope)
        if depth <= 0:
            return read
        place = self.rng.choice(scope) if scope else "1"
        rules = (
            lambda: read,
            lambda: f"<{self._label(scope)}|{self._label(scope)}>",
            lambda: f"<{self._label(scope)}>",
            lambda: f"sum[{index}]({self.scalar(inner, depth - 1)} * {self.scalar(inner, depth - 1)})",
            lambda: f"mean[{index}](<{self._label(inner)}|{self._label(inner)}> * {self.scalar(inner, depth - 1)})",
            lambda: f"({place} / 4 - {self.scalar(scope, depth - 1)})",
            lambda: f"delta[{place},{self._place(place[1], scope) if scope else 1}]",
            lambda: f"tanh({self.scalar(scope, depth - 1)})",
            lambda: f"logsumexp[{index}]({self.scalar(inner, depth - 1)})",
        )
        return self.rng.choices(rules, (2, 4, 1, 3, 3, 1, 1, 2, 1))[0]()

    # -- statements -----------------------------------------------------------------------------------------------
    def _bind(self, name: str, scope: Scope, text: str, ket: bool) -> None:
        left = f"|{name}{_list(scope)}>" if ket else f"{name}{_list(scope)}"
        self.lines.append(f"{left} = {text}")
        self.symbols.append(Symbol(name, tuple(p[1] for p in scope), ket))

    def _ket(self) -> None:
        scope = self._scope()
        self._bind(self._name("k"), scope, self.ket(scope, self.rng.randint(1, 3)), True)

    def _scalar(self) -> None:
        scope = self._scope()
        self._bind(self._name("n"), scope, self.scalar(scope, 2), False)

    def _mix(self) -> None:
        """Attention: weights and what they mix."""
        axis = self.rng.choice("ab")
        scope = self._inner(self._scope(1), axis)
        inner = self._inner(scope, axis)
        here, there = scope[-1], inner[-1]
        ket = self.rng.choice([s for s in self.symbols if s.ket and axis in s.axes])
        weights, mixed = self._name("n"), self._name("k")
        text = f"softmax[{there}]({self.scalar(inner, 1)} + <{self._read(ket, (here,))}|{self._read(ket, (there,))}>)"
        self._bind(weights, inner, text, False)
        self._bind(mixed, scope, f"sum[{there}]({weights}{_list(inner)} * {self.ket(inner, 1)})", True)

    def _loop(self) -> None:
        """A recursion in a loop variable, or along an axis."""
        name = self._name("k")
        scope = self._scope(1)
        axis = self.rng.choice("ab")
        inner = self._inner(scope, axis)
        step = inner[-1]
        own = Symbol(name, tuple(p[1] for p in scope), True)
        if self.rng.random() < 0.5:
            self._bind(name, scope, self.ket(scope, 1), True)
            here = f"|{self._read(own, scope)}>"
            body = f"{self._fn()}({here} / {step} + {self.ket(inner, 1)})"
            self.lines.append(f"for {step} in 1..2 {{ |{name}{_list(scope)}> = {body} }}")
            return
        self.lines.append(f"|{name}{_list((*scope, '1'))}> = {self.ket(scope, 1)}")
        before = f"|{name}{_list((*scope, f'{step}-1'))}>"
        body = f"{self._matrix(inner)}{self._turn()} {self._fn()}({before}) + {self.ket(inner, 1)}"
        self.lines.append(f"for {step} in 2..{_size(step)} {{ |{name}{_list(inner)}> = {body} }}")
        self.symbols.append(Symbol(name, tuple(p[1] for p in inner), True))

    def _call(self) -> None:
        """A definition with its own indices, called on a family."""
        name, bound = self._name("f"), self.rng.choice("ab")
        scope = self._scope()
        argument = self.rng.choice([s for s in self.symbols if s.ket])
        inner = self._inner((), bound)
        index = inner[0]
        body = f"sum[{index}]({self.scalar(inner, 1)} * {self._fn()}(|p> + {self.ket(inner, 0)})) / {_size(index)}"
        if self.rng.random() < 0.5:
            body = f"much * |p> + {body}"
        self.lines.append(f"def {name}(|p>, much) {{ return {body} }}")
        call = f"{name}(|{self._read(argument, scope)}>, {self.scalar(scope, 0)})"
        self._bind(self._name("k"), scope, call, True)

    # -- outputs --------------------------------------------------------------------------------------------------
    def _output(self, scope: Scope, text: str) -> str:
        name = self._name("out")
        self.lines.append(f"output {name}{_list(scope)} = {text}")
        return name

    def _bracket(self) -> None:
        scope = self._scope(3)
        last = self._read(self._last(), scope)
        self._output(scope, f"<{last}|{self._label(scope)}>" if self.rng.random() < 0.7 else f"<{self._fn()}({last})>")

    def _number(self) -> None:
        scope = self._scope(2)
        self._output(scope, self.scalar(scope, 2))

    def _kernel(self) -> None:
        ket = self.rng.choice([s for s in self.symbols if s.ket][-4:])
        both, left, right = self._twice(ket.axes)
        fn = self.rng.choice(("{}", "{}", f"{self._fn()}({{}})"))
        text = f"<{fn.format(ket.name + _list(left))}|{fn.format(ket.name + _list(right))}>"
        self.symmetric.append(self._output(both, text))

    def _twice(self, axes: tuple[str, ...]) -> tuple[Scope, Scope, Scope]:
        """Indices for a family, and for the same family next to it."""
        scope: Scope = ()
        for axis in (*axes, *axes):
            scope = self._inner(scope, axis)
        return scope, scope[: len(axes)], scope[len(axes) :]

    def _function(self) -> Symbol:
        """A number (family) to differentiate."""
        scope = self._scope(1)
        name = self._name("f")
        ket = self._read(self._last(), scope)
        text = f"<{ket}|{self._label(scope)}> + {self.scalar(scope, 1)} * w"
        self._bind(name, scope, text, False)
        return self.symbols[-1]

    def _gradient(self) -> None:
        f = self._function()
        here = self._own_scope(f.axes)
        reading = f.name + _list(here)
        kind = self.rng.choice(("ket", "ket", "matrix", "scalar", "second", "vjp"))
        if kind == "scalar":
            whole = self._output(here, reading)
            self.slopes.append((whole, "w", self._output(here, f"grad({reading}, w)")))
            return
        ket = self.rng.choice([s for s in self.symbols if s.ket and s.name in "xyzuo"])
        scope = self._scope_from(here, ket.axes)
        own = scope[len(here) :]
        leaf = ket.name + _list(own)
        gradient = f"grad({reading}, |{leaf}>)"
        if kind == "ket":
            self._output(scope, f"<{gradient}|{self._label(scope)}>")
        elif kind == "matrix":
            member = self._matrix(here, gathers=False)
            self._output(here, f"<{self._label(here)}|grad({reading}, {member})|{self._label(here)}>")
        elif kind == "vjp":
            direction = self.ket(here, 0)
            self._output(here, f"<vjp(|{self._read(self._last(), here)}>, |z>, {direction})|{self._label(here)}>")
        elif not f.axes:
            self._output(own, f"<grad(<{gradient}|{gradient}>, |z>)|z>" if not own else f"<{gradient}|z>")
        else:
            total = f"mean[{here[0]}](<{gradient}|{gradient}>)"
            self._output(own, f"<grad({total}, |z>)|z>")

    def _own_scope(self, axes: tuple[str, ...]) -> Scope:
        return self._scope_from((), axes)

    def _scope_from(self, scope: Scope, axes: tuple[str, ...]) -> Scope:
        for axis in axes:
            scope = self._inner(scope, axis)
        return scope

    def _last(self) -> Symbol:
        return [s for s in self.symbols if s.ket][-1]

    def _tangent(self) -> None:
        f = self._function()
        both, left, right = self._twice(f.axes)
        self.symmetric.append(self._output(both, f"ntk({f.name}{_list(left)}, {f.name}{_list(right)})"))


def _list(places: tuple[str, ...]) -> str:
    return f"[{','.join(places)}]" if places else ""


def _size(place: str) -> int:
    return SIZES[place[1]]
