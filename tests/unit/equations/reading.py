"""A third road to the numbers: the equations of a system, read as a reader of the page would, on particles.

Only what a `System` says is used, no program. A ket is an array over particles (scrambled Sobol points; random ones where
those give out), its k-th copy the same array along axis k. Hats are drawn, conditional on the earlier hats of their
matrix, with the covariances that the equations state. A dot is the stated sum of kets: with the coefficient as it is
written out (`literal=False`), or with E[∂|x>/∂Ŵᵀ|y>] taken literally, as the derivative of |x> in that hat through
everything that is stated (`literal=True`). Training is unrolled step by step.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import sympy as sp
from scipy import special
from scipy.stats import qmc

from tests.unit.equations import matrices
from tests.unit.equations.tape import Var, applied, derivatives, detached, power, valued
from tp_compiler.equations import terms
from tp_compiler.equations.system import System

#: Coordinates from one Sobol sequence; later ones are pseudo-random.
_COORDINATES = 256
#: Below this part of its variance, a hat is a combination of earlier ones.
_DEPENDENT = 1e-9


class Reading:
    """The values of all equations on `samples` particles; `output(name)` is that of an output."""

    def __init__(self, system: System, samples: int = 1024, seed: int = 0, literal: bool = False):
        self.system, self.samples, self.literal = system, samples, literal
        self.rng = np.random.default_rng(seed)
        points = qmc.Sobol(_COORDINATES, seed=self.rng).random(samples)
        self.points = list(special.ndtri(np.clip(points, 1e-15, 1 - 1e-15)).T)
        self.dimensions = 1 + max((_copies(e) for e in system), default=0)
        self.values: dict[tuple[Any, ...], Any] = {}
        self.hats: dict[tuple[Any, ...], list[tuple[Any, Any]]] = {}
        self.leaf: dict[tuple[Any, ...], Var] = {}
        self.clts: list[tuple[Any, dict[Any, int], float]] = []
        self.slopes: dict[int, tuple[Any, dict[int, float]]] = {}
        self.results: dict[Any, Any] = {}
        self.clock = system.clock
        moving = {(type(e.symbol), e.name) for e in system if e.time is not None}
        self.static = [e for e in system if e.time is None and not self._reads(e, moving)]
        later = [e for e in system if e.time is None and self._reads(e, moving)]
        self._all(self.static, {})
        if self.clock is not None:
            for t in range(self.clock.steps + 1):
                self._step({self.clock.time: t})
        self._all(later, {})

    def _reads(self, e: Any, moving: set[tuple[type, str]]) -> bool:
        found = (e.expression if e.kind != "bracket" else e.meaning).atoms(terms.Named)
        return any((type(n), n.label) in moving for n in found)

    # -- the walk ------------------------------------------------------------------------------------------------
    def _all(self, equations: list[Any], env: dict[Any, int]) -> None:
        for e in equations:
            if e.kind not in ("state", "weight", "operator", "bracket"):
                self._members(e, env)

    def _step(self, env: dict[Any, int]) -> None:
        assert self.clock is not None
        t = env[self.clock.time]
        looped = [e for e in self.system if e.time is not None]
        for e in looped:
            if e.kind == "state" and t == 0:
                self._start(e, env)
            if e.kind == "weight" and t > 0:
                self._weight(e, t)
        skipped = ("state", "weight", "bracket")
        todo = [e for e in looped if e.kind not in skipped and not e.expression.has(terms.Outer)]
        states = [e for e in looped if e.kind == "state"]
        if t == self.clock.steps:
            for e in todo:
                try:
                    self._members(e, env)
                except (IndexError, KeyError):  # what the updates alone read is not there after the last one
                    continue
            return
        # What optimizers state of the next states may be read by other statements of the step.
        for e in [*todo, *states]:
            try:
                self._advance(e, env)
            except KeyError:
                self._late(e, [*todo, *states], env)

    def _advance(self, e: Any, env: dict[Any, int]) -> None:
        assert self.clock is not None
        if e.kind != "state":
            self._members(e, env)
            return
        for at in self._places(e, env):
            self.values[self._key(e.symbol, {**at, self.clock.time: at[self.clock.time] + 1})] = self._shaped(
                e.symbol, self.value(e.expression, at)
            )

    def _late(self, e: Any, equations: list[Any], env: dict[Any, int]) -> None:
        """A statement that reads a later one: the later ones first."""
        assert self.clock is not None
        for _ in range(len(equations)):
            try:
                self._advance(e, env)
                return
            except KeyError as missing:
                kind, label, *_ = missing.args[0]
                wanted = next(o for o in equations if type(o.symbol) is kind and o.name == label)
                self._late(wanted, equations, env)
        raise AssertionError(f"{e.name} reads itself")

    def _start(self, e: Any, env: dict[Any, int]) -> None:
        for at in self._places(e, env):
            if e.start is not None:
                start = self.value(e.start, at)
            else:  # the initial ket of that name
                initial = next(i for i in self.system if i.name.startswith(f"{e.name}[0"))
                start = self.values[terms.Ket, initial.name, *(at[i] for i in e.symbol.indices[1:])]
            self.values[self._key(e.symbol, at)] = self._shaped(e.symbol, start)

    def _weight(self, e: Any, t: int) -> None:
        """a_{t,s} for all s < t."""
        assert self.clock is not None
        for s in range(t):
            for at in self._places(e, {self.clock.time: t, self.clock.earlier: s}):
                before = {**at, self.clock.time: t - 1}
                source, place = (e.start, at) if s == t - 1 else (e.expression, before)
                self.values[self._key(e.symbol, at)] = self.value(source, place)

    def _places(self, e: Any, env: dict[Any, int]) -> list[dict[Any, int]]:
        free = [i for i in dict.fromkeys(e.symbol.indices) if i not in env]
        ranges = [self.range(i) for i in free]
        return [{**env, **dict(zip(free, at, strict=True))} for at in itertools.product(*ranges)]

    def range(self, index: Any) -> range:
        """The range of an index, whatever its primes and tildes."""
        while index not in self.system.sizes:
            index = terms.like(index, index.name[:-1])
        size = self.system.sizes[index]
        if self.clock is not None and not index.is_positive:
            return range(size)
        return range(1, size + 1)

    def _key(self, symbol: Any, env: dict[Any, int]) -> tuple[Any, ...]:
        return type(symbol), symbol.label, *(int(self.value(i, env)) for i in symbol.indices)

    def _members(self, e: Any, env: dict[Any, int]) -> None:
        for at in self._places(e, env):
            key = self._key(e.symbol, at)
            if key not in self.values:
                self.values[key] = self._shaped(e.symbol, self._equation(e, at))

    def _shaped(self, symbol: Any, x: Any) -> Any:
        """A ket has all its particles, whatever its value is made of."""
        if isinstance(symbol, terms.Scalar):
            return float(np.ravel(valued(x))[0])
        shape = [1] * self.dimensions
        shape[0] = self.samples
        if isinstance(symbol, terms.Entry):
            shape[1] = self.samples
        return x + Var(np.zeros(shape)) if not isinstance(x, Var) or x.shape != tuple(shape) else x

    def _equation(self, e: Any, env: dict[Any, int]) -> Any:
        if e.kind == "initial":
            return self._initial(e, env)
        if e.kind == "clt":
            return self._clt(e, env)
        if e.kind == "product":
            hat = self._hat(e, env)
            learned = 0.0 if e.learned is None else self.value(e.learned, env)
            return self.value(e.keep, env) * (hat + self._dot(e, env)) + learned
        if e.kind == "coefficient" and self.literal and e.meaning is not None:
            return self.value(e.meaning, env)
        return self.value(e.expression, env)

    # -- randomness ----------------------------------------------------------------------------------------------
    def _normal(self) -> Any:
        found = self.points.pop(0) if self.points else self.rng.standard_normal(self.samples)
        return np.reshape(found, (self.samples, *[1] * (self.dimensions - 1)))

    def _initial(self, e: Any, env: dict[Any, int]) -> Any:
        """Jointly with the members that are there already, by the stated covariance."""
        own = e.symbol.indices
        earlier = [
            (dict(zip(own, key[2:], strict=True)), value)
            for key, value in self.values.items()
            if key[:2] == (terms.Ket, e.name)
        ]

        def cov(a: dict[Any, int], b: dict[Any, int]) -> float:
            return float(self.value(e.covariance, {**a, **{p: b[i] for i, p in e.primed.items()}}))

        centred = [v.value - float(self.value(e.mean, at)) for at, v in earlier]
        gram = [[cov(a, b) for b, _ in earlier] for a, _ in earlier]
        cross = [cov(env, b) for b, _ in earlier]
        return Var(float(self.value(e.mean, env)) + self._drawn(gram, cross, cov(env, env), centred))

    def _drawn(self, gram: Any, cross: Any, variance: float, given: list[Any]) -> Any:
        """A Gaussian of a variance, given others with their covariances."""
        count = len(given)
        gram, cross = np.reshape(gram, (count, count)), np.asarray(cross, dtype=float)
        weights = np.linalg.pinv(gram, rcond=_DEPENDENT) @ cross if count else cross
        rest = variance - weights @ cross if count else variance
        noise = np.sqrt(rest) * self._normal() if rest > _DEPENDENT * variance else 0.0
        return noise + sum(w * g for w, g in zip(weights, given, strict=True))

    def _hat(self, e: Any, env: dict[Any, int]) -> Var:
        hat = e.hat.symbol
        if self._hat_key(hat, env) in self.leaf:  # a product that is stated twice is one random variable
            return self.leaf[self._hat_key(hat, env)]
        matrix = (hat.matrix, hat.transposed, *(int(self.value(m, env)) for m in hat.member))
        x, scale = valued(self.value(hat.argument, env)), float(self.value(e.hat.scale, env))
        earlier = self.hats.setdefault(matrix, [])
        gram = [[scale * np.mean(a * b) for b, _ in earlier] for a, _ in earlier]
        cross = [scale * np.mean(x * y) for y, _ in earlier]
        drawn = self._drawn(gram, cross, scale * float(np.mean(x * x)), [g for _, g in earlier])
        found = Var(drawn + np.zeros((self.samples, *[1] * (self.dimensions - 1))))
        earlier.append((x, found.value))
        self.leaf[self._hat_key(hat, env)] = found
        return found

    def _hat_key(self, hat: Any, env: dict[Any, int]) -> tuple[Any, ...]:
        member = (int(self.value(m, env)) for m in hat.member)
        return hat.matrix, hat.transposed, *member, "of", *self._key(hat.argument, env)

    def _clt(self, e: Any, env: dict[Any, int]) -> float:
        """Jointly Gaussian scalars, with the covariances E[v x v′ x′] of their bodies."""
        body = valued(self.value(e.expression, env)) * np.ones((self.samples, *[1] * (self.dimensions - 1)))
        stated = float(self.value(e.covariance, {**env, **{p: env[i] for i, p in e.primed.items()}}))
        gram = [[float(np.mean(a * b)) for b, _, _ in self.clts] for a, _, _ in self.clts]
        cross = [float(np.mean(body * b)) for b, _, _ in self.clts]
        count = len(self.clts)
        gram = np.reshape(gram, (count, count))
        weights = np.linalg.pinv(gram, rcond=1e-7) @ cross if count else np.zeros(0)
        rest = max(stated - float(weights @ np.asarray(cross)) if count else stated, 0.0)
        found = float(weights @ [v for _, _, v in self.clts] if count else 0.0) + np.sqrt(rest) * self.rng.normal()
        self.clts.append((body, env, found))
        return found

    # -- dots ----------------------------------------------------------------------------------------------------
    def _dot(self, e: Any, env: dict[Any, int]) -> Any:
        """The stated sum of kets."""
        total: Any = 0.0
        for t in e.dot:
            steps = range(int(self.value(t.steps[1], env)) + 1) if t.steps else [0]
            ranges = [range(1, n + 1) for _, n in t.over]
            for s, *at in itertools.product(steps, *ranges):
                here = {**env, **dict(zip((i for i, _ in t.over), at, strict=True))}
                here |= {t.steps[0]: s} if t.steps else {}
                if t.derivative is not None and (self.literal or t.symbol is None):
                    coefficient = self.value(t.scale * t.derivative, here)
                else:
                    coefficient = self.value(t.coefficient if t.symbol is None else t.symbol, here)
                total = total + coefficient * self.value(t.ket, here)
        return total

    def _slope(self, x: Any, hat: Any, env: dict[Any, int]) -> float:
        """E[∂|x>/∂Ŵ|y>], through everything that |x> is stated to be."""
        ket, key = self.value(x, env), self._hat_key(hat, env)
        if key not in self.leaf:
            return 0.0  # a product with 0, or one outside an axis
        if id(ket) not in self.slopes:
            self.slopes[id(ket)] = ket, derivatives(ket)
        return self.slopes[id(ket)][1].get(id(self.leaf[key]), 0.0)

    def _stein(self, e: Any, env: dict[Any, int]) -> float:
        """One entry of <Y|Y>⁺<Ĝ|x>, over the stated families and steps."""
        y, kets, hats, x, over, steps = e.args
        indices = [*over, *(s for s, _ in steps)]
        ranges = [self.range(i) for i in over] + [range(int(self.value(last, env)) + 1) for _, last in steps]
        places = [{**env, **dict(zip(indices, at, strict=True))} for at in itertools.product(*ranges)]
        wanted, rows, right = self._key(y, env), [], []
        x = valued(self.value(x, env))
        position = -1
        seen = set()
        for k, h in zip(kets, hats, strict=True):
            for at in places:
                key = self._key(k, at)
                if key in seen or self._hat_key(h, at) not in self.leaf:
                    continue
                seen.add(key)
                position = len(rows) if key == wanted else position
                rows.append(np.ravel(valued(self.values[key])))
                right.append(float(np.mean(self.leaf[self._hat_key(h, at)].value * x)))
        if position < 0:
            return 0.0  # of a step that the sum does not reach
        y_matrix = np.array(rows)
        gram = y_matrix @ y_matrix.T / self.samples
        return float((np.linalg.pinv(gram, rcond=_DEPENDENT) @ right)[position])

    # -- expressions ---------------------------------------------------------------------------------------------
    def value(self, e: Any, env: dict[Any, int]) -> Any:
        e = sp.sympify(e)
        if e.is_Integer:
            return int(e)
        if e.is_number and not e.has(terms.Expectation):
            return float(e)
        if isinstance(e, sp.Symbol):
            return env[e]
        if isinstance(e, terms.Data):
            return self._data(e, env)
        if isinstance(e, terms.Named):
            return self._named(e, env)
        if isinstance(e, terms.Hat):
            return self.leaf[self._hat_key(e, env)]
        if isinstance(e, terms.Stein):
            return self._stein(e, env)
        if isinstance(e, terms.Expectation):
            return self._expectation(e, env)
        if isinstance(e, sp.Sum):
            index, low, high = e.limits[0]
            inner = e.function if len(e.limits) == 1 else sp.Sum(e.function, *e.limits[1:])
            low, high = int(self.value(low, env)), int(self.value(high, env))
            return sum((self.value(inner, {**env, index: k}) for k in range(low, high + 1)), 0.0)
        if isinstance(e, terms.Reduce | terms.Softmax):
            return self._over_family(e, env)
        if isinstance(e, terms.Stacked):
            return self.value(e.args[int(self.value(e.args[0], env))], env)
        if isinstance(e, terms.Joined):
            return self._joined(e, env)
        if isinstance(e, terms.Linalg):
            return matrices.entry(e, env, self.value, self.range, self.results)
        args = [self.value(a, env) for a in e.args]
        if isinstance(e, sp.Add):
            return sum(args, 0.0)
        if isinstance(e, sp.Mul):
            product = args[0]
            for a in args[1:]:
                product = product * a
            return product
        if isinstance(e, sp.Pow):
            return power(*args)
        if isinstance(e, sp.KroneckerDelta):
            return float(args[0] == args[1])
        if isinstance(e, terms.AtMost):
            return float(args[0] <= args[1])
        return applied(str(e.func), *args)

    def _data(self, e: Any, env: dict[Any, int]) -> float:
        array = np.asarray(self.system.data[e.label])
        places = []
        for i, size in zip(e.indices, array.shape, strict=True):
            looped = self.clock is not None and bool({self.clock.time, self.clock.earlier} & i.free_symbols)
            place = int(self.value(i, env)) - (0 if looped and not i.has(terms.Data) else 1)
            if looped and place >= size:
                raise IndexError(e)
            if not 0 <= place < size:
                return 0.0
            places.append(place)
        value = array[tuple(places)]
        return int(value) if np.issubdtype(array.dtype, np.integer) else float(value)

    def _named(self, e: Any, env: dict[Any, int]) -> Any:
        key = self._key(e, env)
        if key not in self.values:
            if self._is_outside(e, env):
                return 0.0
            raise KeyError(key)
        stored = self.values[key]
        if isinstance(e, terms.Ket) and e.copy_number:
            return np.moveaxis(detached(stored), 0, e.copy_number)
        if isinstance(e, terms.Entry):
            return self._entry(stored, *e.neurons)
        return stored

    def _entry(self, stored: Any, row: int, column: int) -> Any:
        """Δ over (row, column), which it has as axes (0, 1): its derivative is that in the row's kets."""
        if (row, column) == (0, 1) or (row == 0 and self.dimensions == 2):
            return stored
        if row == 0:
            return Var(np.moveaxis(stored.value, 1, column), ())
        return np.moveaxis(detached(stored), (0, 1), (row, column))

    def _is_outside(self, e: Any, env: dict[Any, int]) -> bool:
        """Does an index leave its axis? What is read there is 0."""
        equation = next(q for q in self.system if q.symbol.func is e.func and q.name == e.label)
        return any(
            i.is_positive and int(self.value(place, env)) not in self.range(i)
            for i, place in zip(equation.symbol.indices, e.indices, strict=True)
            if not place.is_Integer
        )

    def _expectation(self, e: Any, env: dict[Any, int]) -> Any:
        if isinstance(e.body, terms.Partial):
            return self._slope(*e.body.args, env)
        body = self.value(e.body, env)
        if 0 in e.copies:
            return float(np.mean(valued(body)))
        for copy in e.copies:
            if isinstance(body, Var):
                body = body.mean(copy)
            elif np.ndim(body) > copy:
                body = np.mean(body, axis=copy, keepdims=True)
        return body

    def _over_family(self, e: Any, env: dict[Any, int]) -> Any:
        """max, min, prod, logsumexp and softmax of a finite family."""
        soft = isinstance(e, terms.Softmax)
        op, body, index = ("softmax", e.args[0], e.args[1]) if soft else (e.args[0].name, *e.args[1:])
        members = {k: self.value(body, {**env, index: k}) for k in self.range(index)}
        if op in ("softmax", "logsumexp"):
            top = np.max([np.broadcast_to(valued(m), np.shape(valued(m))) for m in members.values()], axis=0)
            shifted = {k: applied("exp", m + -1.0 * top) for k, m in members.items()}
            total = sum(shifted.values(), 0.0)
            if soft:
                return shifted[int(self.value(e.args[2], env))] * power(total, -1)
            return applied("log", total) + top
        found, *rest = members.values()
        for m in rest:
            found = found * m if op == "prod" else applied(op, found, m)
        return found

    def _joined(self, e: Any, env: dict[Any, int]) -> Any:
        at, *blocks = e.args
        position = int(self.value(at, env)) - 1
        for block in blocks:
            sizes = [size for _, size in block.limits]
            count = int(np.prod(sizes))
            if position < count:
                place = np.unravel_index(position, sizes) if sizes else ()
                return self.value(
                    block.body, {**env, **{i: int(k) + 1 for (i, _), k in zip(block.limits, place, strict=True)}}
                )
            position -= count
        raise IndexError(e)

    # -- answers -------------------------------------------------------------------------------------------------
    def output(self, name: str) -> Any:
        e = self.system[name]
        ranges = [self.range(i) for i in e.symbol.indices]
        found = [self.values[type(e.symbol), e.name, *at] for at in itertools.product(*ranges)]
        return np.array(found, dtype=float).reshape([len(r) for r in ranges])


def _copies(e: Any) -> int:
    """The highest number of a copy in an equation."""
    parts = [e.expression, *(x for x in (e.learned, e.start) if x is not None)]
    kets = [k for p in parts for k in p.atoms(terms.Ket)]
    entries = [max(n.neurons) for p in (*parts, e.symbol) for n in p.atoms(terms.Entry)]
    return max([0, *(k.copy_number for k in kets), *entries])
