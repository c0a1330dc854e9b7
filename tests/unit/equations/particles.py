"""The equations of a training loop, read literally on random samples: a road of its own to the numbers of training.

A ket is an array over samples, its copy the same array along a second dimension. Hats are drawn, conditional on the
earlier hats of their matrix, with the covariances that the equations state; the coefficients E[∂|x>/∂Ĝ] of dots are
what Stein's lemma makes of them, <Y|Y>⁺<Ĝ|x>. Shares no code with tp_compiler/evaluate.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp

from tests.unit.equations.numbers import FUNCTIONS
from tp_compiler.equations import System, terms
from tp_compiler.equations.functions import name_of
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.walk import reachable


class Particles:
    """Runs a system from t = 0 to the last step on `samples` draws."""

    def __init__(self, program: Program, system: System, samples: int, seed: int):
        roots = [o.node for o in program.outputs]
        roots += list(program.loop.following.values()) if program.loop else []
        nodes = reachable(roots)
        self.data = {n.name: np.asarray(n.values) for n in nodes if isinstance(n, ir.Array)}
        self.sizes = {i.name: i.size for n in nodes for i in n.type.indices}
        self.system, self.samples, self.draws = system, samples, np.random.default_rng(seed)
        self.values: dict[tuple[Any, ...], Any] = {}
        self.hats: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
        assert system.clock is not None
        self.clock = system.clock
        for e in (e for e in system if e.time is None and self._is_static(e)):
            self._members(e, {})
        for t in range(self.clock.steps + 1):
            self._step({self.clock.time: t})
        for e in (e for e in system if e.time is None and not self._is_static(e)):
            self._members(e, {})

    def _is_static(self, e: Any) -> bool:
        moving = {(type(m.symbol), m.name) for m in self.system if m.time is not None}
        return not any((type(n), n.label) in moving for n in e.expression.atoms(terms.Named))

    def _step(self, env: dict[Any, int]) -> None:
        t = env[self.clock.time]
        states = [e for e in self.system if e.kind in ("state", "weight")]
        for e in states:
            if e.kind == "state" and t == 0:
                self._start(e, env)
            if e.kind == "weight" and t > 0:
                self._weight(e, t)
        for e in self.system:
            if e.time is not None and e.kind not in ("state", "weight", "operator", "bracket", "coefficient"):
                try:
                    self._members(e, env)
                except (IndexError, KeyError):  # data for the updates have no entry behind the last one
                    assert t == self.clock.steps
        if t < self.clock.steps:
            for e in (e for e in states if e.kind == "state"):
                for at in self._places(e, env):
                    later = {**at, self.clock.time: t + 1}
                    self.values[self._key(e.symbol, later)] = self.value(e.expression, at)

    def _start(self, e: Any, env: dict[Any, int]) -> None:
        for at in self._places(e, env):
            if e.start is not None:
                start = self.value(e.start, at)
            else:  # an initial ket of that name
                initial = next(i for i in self.system if i.name.startswith(f"{e.name}[0"))
                start = self.values[terms.Ket, initial.name, *(at[i] for i in e.symbol.indices[1:])]
            self.values[self._key(e.symbol, at)] = np.broadcast_to(start, self._shape(e.symbol))

    def _weight(self, e: Any, t: int) -> None:
        """a_{t,s} for all s < t."""
        for s in range(t):
            for at in self._places(e, {self.clock.time: t, self.clock.earlier: s}):
                before = {**at, self.clock.time: t - 1}
                source, place = (e.start, at) if s == t - 1 else (e.expression, before)
                self.values[self._key(e.symbol, at)] = self.value(source, place)

    # -- equations ----------------------------------------------------------------------------------------------
    def _places(self, e: Any, env: dict[Any, int]) -> list[dict[Any, int]]:
        free = [i for i in e.symbol.indices if i not in env]
        ranges = [self._range(i) for i in free]
        return [{**env, **dict(zip(free, at, strict=True))} for at in itertools.product(*ranges)]

    def _range(self, index: Any) -> range:
        if index == self.clock.time:
            return range(self.clock.steps + 1)
        return range(1, self.sizes[index.name.rstrip("′")] + 1)

    def _key(self, symbol: Any, env: dict[Any, int]) -> tuple[Any, ...]:
        return type(symbol), symbol.label, *(int(self.value(i, env)) for i in symbol.indices)

    def _shape(self, symbol: Any) -> tuple[int, ...]:
        n = self.samples
        return (n, n) if isinstance(symbol, terms.Entry) else (n, 1) if isinstance(symbol, terms.Ket) else ()

    def _members(self, e: Any, env: dict[Any, int]) -> None:
        for at in self._places(e, env):
            self.values[self._key(e.symbol, at)] = np.broadcast_to(self._equation(e, at), self._shape(e.symbol))

    def _equation(self, e: Any, env: dict[Any, int]) -> Any:
        if e.kind == "initial":
            spread = np.sqrt(self.value(e.covariance, {**env, **{p: env[i] for i, p in e.primed.items()}}))
            return self.value(e.mean, env) + spread * self.draws.standard_normal((self.samples, 1))
        if e.kind != "product":
            return self.value(e.expression, env)
        hat = self._hat(e, env)
        learned = 0 if e.learned is None else self.value(e.learned, env)
        return self.value(e.keep, env) * (hat + self._dot(e, env)) + learned

    def _matrix(self, hat: Any, env: dict[Any, int]) -> tuple[Any, ...]:
        return hat.matrix, hat.transposed, *(self.value(m, env) for m in hat.member)

    def _hat(self, e: Any, env: dict[Any, int]) -> Any:
        x, scale = self.value(e.hat.argument, env), float(self.value(e.hat.scale, env))
        earlier = self.hats.setdefault(self._matrix(e.hat.symbol, env), [])
        gram = np.array([[np.mean(a * b) for b, _ in earlier] for a, _ in earlier]).reshape(len(earlier), len(earlier))
        cross = np.array([np.mean(x * y) for y, _ in earlier])
        weights = np.linalg.pinv(gram, rcond=1e-9) @ cross if earlier else cross
        rest = max(np.mean(x * x) - weights @ cross, 0.0)
        rest = 0.0 if rest < 1e-9 * np.mean(x * x) else rest
        hat = np.sqrt(scale * rest) * self.draws.standard_normal((self.samples, 1))
        hat = hat + sum(w * g for w, (_, g) in zip(weights, earlier, strict=True))
        earlier.append((x, hat))
        self.values[self._hat_key(e.hat.symbol, env)] = hat
        return hat

    def _hat_key(self, hat: Any, env: dict[Any, int]) -> tuple[Any, ...]:
        return "hat", *self._matrix(hat, env), *self._key(hat.argument, env)

    def _dot(self, e: Any, env: dict[Any, int]) -> Any:
        """ρ^±1 |Y><Y|Y>⁺<Ĝ|x> over all |y> that the equation sums over."""
        kets, hats = [], []
        for t in e.dot:
            steps = range(self.value(t.steps[1], env) + 1) if t.steps else [0]
            ranges = [range(1, n + 1) for _, n in t.over]
            for s, *at in itertools.product(steps, *ranges):
                here = {**env, **dict(zip((i for i, _ in t.over), at, strict=True))}
                here |= {t.steps[0]: s} if t.steps else {}
                if t.derivative is not None:
                    hat = t.derivative.body.args[1]
                else:
                    stein = next(iter(self.system[t.symbol.label].expression.atoms(terms.Stein)))
                    mine = terms.reindex(stein.args[0], {b: a for a, b in self._renaming(stein, t.ket).items()})
                    position = list(stein.args[1]).index(mine)
                    hat = terms.reindex(stein.args[2][position], self._renaming(stein, t.ket))
                kets.append(self.value(t.ket, here))
                hats.append(self.values[self._hat_key(hat, here)])
        if not kets:
            return 0.0
        y, x = np.hstack(kets), self.value(e.hat.argument, env)
        right = np.array([np.mean(g * x) for g in hats])
        matrix = next(m for m in self.system.matrices if m.name == e.hat.symbol.matrix)
        ratio = float(matrix.ratio) if e.hat.symbol.transposed else 1 / float(matrix.ratio)
        return ratio * (y @ (np.linalg.pinv(y.T @ y / self.samples, rcond=1e-9) @ right))[:, None]

    def _renaming(self, stein: Any, ket: Any) -> dict[Any, Any]:
        """From the indices that Y runs over to those of the one ket."""
        family = next(k for k in stein.args[1] if k.label == ket.label and k.func is ket.func)
        return {a: b for a, b in zip(family.indices, ket.indices, strict=True) if a != b}

    # -- expressions --------------------------------------------------------------------------------------------
    def value(self, e: Any, env: dict[Any, int]) -> Any:
        e = sp.sympify(e)
        if e.is_Integer:
            return int(e)
        if e.is_number:
            return float(e)
        if isinstance(e, sp.Symbol):
            return env[e]
        if isinstance(e, terms.Data):
            places = (int(self.value(i, env)) - (i != self.clock.time) for i in e.indices)
            return self.data[e.label][tuple(places)]
        if isinstance(e, terms.Named):
            return self._along(e, self.values[self._key(e, env)])
        if isinstance(e, terms.Expectation):
            body = np.asarray(self.value(e.body, env))
            body = np.broadcast_to(body, np.broadcast_shapes(body.shape, (1, 1)))
            mean = np.mean(body, axis=tuple(sorted(e.copies)), keepdims=True)
            return float(mean[0, 0]) if mean.size == 1 else mean
        if isinstance(e, sp.Sum):
            index, low, high = e.limits[0]
            inner = e.function if len(e.limits) == 1 else sp.Sum(e.function, *e.limits[1:])
            low, high = self.value(low, env), self.value(high, env)
            return sum((self.value(inner, {**env, index: k}) for k in range(low, high + 1)), 0.0)
        args = [self.value(a, env) for a in e.args]
        if isinstance(e, sp.Add):
            return sum(args)
        if isinstance(e, sp.Mul):
            product = args[0]
            for a in args[1:]:
                product = product * a
            return product
        if isinstance(e, sp.Pow):
            return np.asarray(args[0], dtype=float) ** args[1]
        if isinstance(e, sp.KroneckerDelta):
            return float(args[0] == args[1])
        if name_of(e) == "where":
            return np.where(args[0] > 0, args[1], args[2])
        return FUNCTIONS[str(name_of(e))](*args)

    def _along(self, e: Any, stored: Any) -> Any:
        """The row along the first dimension, its copy along the second."""
        if isinstance(e, terms.Ket) and e.copy_number:
            return stored.T
        return stored.T if isinstance(e, terms.Entry) and e.neurons == (1, 0) else stored

    def output(self, name: str) -> Any:
        e = self.system[name]
        ranges = [self._range(i) for i in e.symbol.indices]
        found = [float(np.mean(self.values[type(e.symbol), e.name, *at])) for at in itertools.product(*ranges)]
        return np.array(found).reshape([len(r) for r in ranges])
