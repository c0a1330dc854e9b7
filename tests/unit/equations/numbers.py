"""A third road to the numbers: the emitted equations, read literally, on a Gauss-Hermite grid.

Every initial ket and every hat is a coordinate of the grid; hats get the covariance that the equations state. Shares
no code with tp_compiler/evaluate.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp
from scipy import special

import tp_compiler as tpc
from tp_compiler.equations import terms
from tp_compiler.equations.functions import name_of
from tp_compiler.equations.system import System
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.walk import reachable

FUNCTIONS: dict[str, Any] = {
    "tanh": np.tanh,
    "erf": special.erf,
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "relu": lambda x: np.maximum(x, 0),
    "step": lambda x: (x > 0) * 1.0,
    "sign": np.sign,
    "abs": np.abs,
    "min": np.minimum,
}


def compiled(text: str) -> Program:
    """The program, with the source's names where the frontend does not give them."""
    program = tpc.compile(text)
    if program.names:
        return program
    names: dict[ir.Node, tuple[str, tuple[Any, ...]]] = {}
    nodes = reachable(o.node for o in program.outputs)
    for m in re.finditer(r"^\|(\w+)(?:\[[^\]]*\])?> = (.*?)\s*(?:#.*)?$", text, re.M):
        found = [n for n in nodes if n.span.start == m.start(2) and n.span.end == m.end(2)]
        if found:
            names[found[-1]] = (m.group(1), found[-1].type.indices)
    return replace(program, names=names)


class Grid:
    """Evaluates a system, with as many Gauss-Hermite nodes in each coordinate as `budget` points in all allow."""

    def __init__(self, program: Program, system: System, budget: float = 4e5):
        self.data = {
            n.name: np.asarray(n.values) for n in reachable(o.node for o in program.outputs) if isinstance(n, ir.Array)
        }
        self.sizes = {i.name: i.size for n in reachable(o.node for o in program.outputs) for i in n.type.indices}
        self.system = system
        self.values: dict[tuple[Any, ...], Any] = {}
        self.hats: list[tuple[Any, dict[Any, int], Any]] = []
        count = sum(len(self._members(e)) for e in system if e.kind in ("initial", "product"))
        points = min(60, int(budget ** (1 / count) + 1e-9))
        x, w = np.polynomial.hermite_e.hermegauss(points)
        self.axes = list(np.stack(np.meshgrid(*[x] * count, indexing="ij")).reshape(count, -1))
        self.weights = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * count, indexing="ij")).reshape(count, -1), axis=0)
        for e in system:
            for env in self._members(e):
                key = (type(e.symbol), e.name, *(self.value(i, env) for i in e.symbol.indices))
                self.values[key] = self._equation(e, env)

    def _members(self, e: Any) -> list[dict[Any, int]]:
        ranges = [range(1, self.sizes[i.name.rstrip("′")] + 1) for i in e.symbol.indices]
        return [dict(zip(e.symbol.indices, at, strict=True)) for at in itertools.product(*ranges)]

    def _equation(self, e: Any, env: dict[Any, int]) -> Any:
        if e.kind == "initial":
            here = {**env, **{p: env[i] for i, p in e.primed.items()}}
            return self.value(e.mean, env) + np.sqrt(self.value(e.covariance, here)) * self.axes.pop()
        if e.kind != "product":
            return self.value(e.expression, env)
        return self._hat(e, env) + self.value(e.dot_expression(), env)

    def _hat(self, e: Any, env: dict[Any, int]) -> Any:
        """Conditional on the earlier hats of the same matrix, by the covariances of the equations."""
        x = self.value(e.hat.argument, env)
        scale = float(self.value(e.hat.scale, env))
        matrix = (e.hat.symbol.matrix, e.hat.symbol.transposed, *e.hat.symbol.member)
        earlier = [(y, g) for m, y, g in self.hats if m == matrix]
        gram = np.array([[scale * self.mean(a * b) for b, _ in earlier] for a, _ in earlier]).reshape(
            len(earlier), len(earlier)
        )
        cross = np.array([scale * self.mean(x * y) for y, _ in earlier])
        weights = np.linalg.pinv(gram) @ cross if earlier else cross
        rest = max(scale * self.mean(x * x) - weights @ cross, 0.0)
        hat = sum((w * g for w, (_, g) in zip(weights, earlier, strict=True)), np.sqrt(rest) * self.axes.pop())
        self.hats.append((matrix, x, hat))
        self.values[("hat", *matrix[:2], str(x.tobytes()[:64]))] = hat
        return hat

    def mean(self, x: Any) -> Any:
        return np.sum(self.weights * x)

    def value(self, e: Any, env: dict[Any, int]) -> Any:
        e = sp.sympify(e)
        if e.is_number:
            return float(e)
        if isinstance(e, sp.Symbol):
            return env[e]
        if isinstance(e, terms.Data):
            return self.data[e.label][tuple(int(self.value(i, env)) - 1 for i in e.indices)]
        if isinstance(e, terms.Named):
            assert not isinstance(e, terms.Ket) or not e.copy_number
            return self.values[(type(e), e.label, *(self.value(i, env) for i in e.indices))]
        if isinstance(e, terms.Hat):
            x = self.value(e.argument, env)
            return self.values[("hat", e.matrix, e.transposed, str(x.tobytes()[:64]))]
        if isinstance(e, terms.Stein):
            return self._stein(e, env)
        if isinstance(e, terms.Expectation):
            return self.mean(self.value(e.body, env) * np.ones_like(self.weights))
        if isinstance(e, sp.Sum):
            index, low, high = e.limits[0]
            inner = e.function if len(e.limits) == 1 else sp.Sum(e.function, *e.limits[1:])
            return sum(self.value(inner, {**env, index: k}) for k in range(int(low), int(high) + 1))
        args = [self.value(a, env) for a in e.args]
        if isinstance(e, sp.Add):
            return sum(args)
        if isinstance(e, sp.Mul):
            return np.prod(np.broadcast_arrays(*args), axis=0)
        if isinstance(e, sp.Pow):
            return args[0] ** args[1]
        if isinstance(e, sp.KroneckerDelta):
            return float(args[0] == args[1])
        if isinstance(e, terms.AtMost):
            return float(args[0] <= args[1])
        return FUNCTIONS[str(name_of(e))](*args)

    def _stein(self, e: Any, env: dict[Any, int]) -> float:
        """One entry of <Y|Y>⁺<Ĝ|x>."""
        y, kets, hats, x, over, steps = e.args
        assert not steps
        ranges = [range(1, self.sizes[i.name.rstrip("′")] + 1) for i in over]
        places = [{**env, **dict(zip(over, at, strict=True))} for at in itertools.product(*ranges)]
        rows = [self.value(k, at) for k in kets for at in places]
        x, wanted = self.value(x, env), self.value(y, env)
        right = np.array([self.mean(self.value(h, at) * x) for h in hats for at in places])
        gram = np.array([[self.mean(a * b) for b in rows] for a in rows])
        position = next(k for k, row in enumerate(rows) if np.array_equal(row, wanted))
        return float((np.linalg.pinv(gram) @ right)[position])

    def output(self, name: str) -> Any:
        e = self.system[name]
        shape = [self.sizes[i.name] for i in e.symbol.indices]
        found = [self.values[(type(e.symbol), e.name, *env.values())] for env in self._members(e)]
        return np.array(found, dtype=float).reshape(shape)
