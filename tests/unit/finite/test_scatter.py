"""Gradients of members that were read: added to those members, as the sum over a one-hot array would be."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.finite import schedule
from tp_compiler.finite.scatter import scatter
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.walk import reachable

READ = """
axis v : 6
axis b : 3
axis c : 2
data at[step,b,c] = [[[1, 2], [2, 2], [5, 1]], [[3, 3], [3, 3], [3, 3]], [[6, 1], [2, 4], [1, 6]]]
data y[step,b] = [[1, -1, 0.5], [0.2, 0.4, 0.6], [0, 1, 2]]
data z[b] = [0.5, 1, 2]
ket |e[v]> ~ N(0, 1)
ket |o> ~ N(0, 1)
scalar s[v] = 1
train steps = 2 {
    f[b] = sum[c](s[at[step,b,c]] * <o|e[at[step,b,c]]>)
    minimize sum[b](z[b] * (f[b] - y[step,b])^2) + sum[b](<e[at[step,b,1]]|e[at[step,b,1]]>)
    update all with SGD(lr = 0.1)
}
output after[v] = <o|e[v]>
output scale[v] = s[v]
"""


def test_a_scatter_is_the_sum_over_one_hot(monkeypatch: pytest.MonkeyPatch) -> None:
    program = tpc.compile(READ)
    assert program.loop is not None
    found = [n for n in reachable(program.loop.following.values()) if scatter(n) is not None]
    assert len(found) >= 2 and any(n.type.slots for n in found) and any(not n.type.slots for n in found)
    quick = tpc.simulate(program, width=7, seeds=2, dtype="float64")
    monkeypatch.setattr(schedule, "scatter", lambda node: None)
    plain = tpc.simulate(tpc.compile(READ), width=7, seeds=2, dtype="float64")
    for name in ("after", "scale"):
        np.testing.assert_allclose(quick[name], plain[name], rtol=1e-12, atol=1e-13)


def test_what_is_left_alone() -> None:
    """A sum with another factor over v, and no δ."""
    program = tpc.compile("""
axis v : 3
axis b : 2
data w[v,b] = [[1, 2], [3, 4], [5, 6]]
ket |x[b]> ~ N(0, 1)
output first[v] = sum[b](w[v,b] * <x[b]|x[b]>)
""")
    nodes = reachable(o.node for o in program.outputs)
    assert all(scatter(n) is None for n in nodes if isinstance(n, ir.Contract))
